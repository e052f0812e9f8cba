"""`python -m router.notices --config FILE`: the notices process, as `edge911 run` starts it."""

import gc

if __name__ == "__main__":
    gc.disable()  # what is imported stays: to look at it again and again is a fifth of a start; `begin` ends this

import logging

from router.notices.process import main
from router.process.child_process import end

if __name__ == "__main__":
    code = main()
    logging.shutdown()
    end(code)
