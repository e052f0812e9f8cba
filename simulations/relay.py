"""A basic-911 relay centre: a third party that is dialled by an ordinary number, and asks the caller where they are.

`python -m simulations.relay --listen 127.0.0.1:5090` takes calls until Ctrl-C.
"""

from simulations.callee import Script
from simulations.psap import Psap, serve_screens


class RelayCentre(Psap):
    """Its screen shows the callback number. No location comes with a basic 911 call; one that does is shown too."""

    def __init__(
        self,
        name: str,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        user: str = "relay",
        script: Script | None = None,
    ) -> None:
        super().__init__(name, host, port, user=user, script=script)


if __name__ == "__main__":
    raise SystemExit(serve_screens(RelayCentre, "relay", "127.0.0.1:5090", __doc__))
