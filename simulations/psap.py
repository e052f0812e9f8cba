"""An E911 provider with its PSAP: takes 911 calls and shows each on an ALI screen, from what arrived on the wire.

`python -m simulations.psap --listen 127.0.0.1:5070` takes calls until Ctrl-C.
"""

import argparse
import time
from collections.abc import Callable
from datetime import datetime

from router.records.psap_view import Ali, ali_lines, frame, read_ali
from simulations.callee import Callee, Script
from simulations.calls import IncomingCall
from simulations.standalone import add_listen, add_script, script_of, serve


class Psap(Callee):
    """Takes calls by its script; `screens` holds what its call-taker was shown, one screen to a call."""

    def __init__(
        self, name: str, host: str = "127.0.0.1", port: int = 0, *, user: str = "911", script: Script | None = None
    ) -> None:
        super().__init__(name, host, port, user=user, script=script)
        self.screens: list[Ali] = []
        self.on_screen: Callable[[Ali], None] = lambda ali: None

    def on_call(self, call: IncomingCall) -> None:
        """Show the screen, then play the script."""
        invite = self.invites[-1]  # as it was on the wire
        assert call.server is not None
        flow = call.server.flow
        self.screens.append(
            read_ali(
                invite,
                received_at=time.time(),
                received_from=f"{flow.host}:{flow.port} ({flow.point.transport})",
                provider=self.name,
            )
        )
        self.on_screen(self.screens[-1])
        super().on_call(call)


def serve_screens(kind: type[Psap], name: str, default_listen: str, description: str | None) -> int:
    """Entry point of an actor with a screen: take calls until Ctrl-C, print what the call-taker sees of each."""
    parser = argparse.ArgumentParser(prog=f"python -m simulations.{name}", description=description)
    add_listen(parser, default_listen)
    add_script(parser)
    options = parser.parse_args()
    host, port = options.listen
    actor = kind(name, host, port, script=script_of(options))
    zone = datetime.now().astimezone().tzinfo
    actor.on_screen = lambda ali: print("\n".join(frame(f"{name} screen", ali_lines(ali, zone))), flush=True)
    return serve(actor)


if __name__ == "__main__":
    raise SystemExit(serve_screens(Psap, "psap", "127.0.0.1:5070", __doc__))
