"""`python -m router.notices --config FILE`: the notices process, as `edge911 run` starts it."""

import logging

from router.notices.process import main
from router.process.child_process import end

if __name__ == "__main__":
    code = main()
    logging.shutdown()
    end(code)
