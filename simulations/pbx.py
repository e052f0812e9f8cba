"""A PBX: a back-to-back user agent. Every call it is offered leaves on its one trunk, as a call of its own.

`python -m simulations.pbx --listen 127.0.0.1:5080 --trunk 127.0.0.1:5060` stands between phones and a router.
"""

import argparse

from simulations.calls import Call, IncomingCall, OutgoingCall, UserAgent
from simulations.standalone import add_listen, host_and_port, serve
from sip.errors import RemoteError
from sip.headers import parse_name_addr
from sip.message import Response
from sip.uri import parse_sip_uri


class Pbx(UserAgent):
    """Passes calls to a trunk (host and port, UDP), with the caller's extension in P-Asserted-Identity (RFC 3325)."""

    def __init__(self, name: str, host: str = "127.0.0.1", port: int = 0, *, trunk: tuple[str, int]) -> None:
        super().__init__(name, host, port)
        self.trunk = trunk
        self.legs: list[tuple[IncomingCall, OutgoingCall]] = []

    def on_call(self, call: IncomingCall) -> None:
        """Make a call on the trunk of it."""
        assert call.request is not None
        trunk = b"%b:%d" % (self.trunk[0].encode(), self.trunk[1])
        try:
            caller = parse_name_addr(call.request.required("from"))
            extension = caller.sip_uri().user
            number = parse_sip_uri(call.request.uri).user
        except RemoteError as error:
            call.refuse(error.status or 400)
            return
        name = f'"{caller.display_name}" '.encode() if caller.display_name else b""
        identity = b"%b<sip:%b@%b>" % (name, extension, self.hostport.encode())
        onward = self.call(
            b"sip:%b@%b" % (number, trunk),
            via=b"sip:" + trunk,
            caller=identity,
            body=call.request.body,
            lines=[b"P-Asserted-Identity: " + identity],
            told=lambda made, what: self._on_trunk(call, made, what),
            delays_ack=True,
        )
        call.told = lambda _, what: self._on_extension(onward, what)
        self.legs.append((call, onward))

    def _on_trunk(self, call: IncomingCall, onward: Call, what: str) -> None:
        last = onward.last if isinstance(onward, OutgoingCall) else None
        if what == "ringing" and isinstance(last, Response):
            call.ring(last.status)
        elif what == "answered" and isinstance(last, Response):
            call.answer(last.body)
        elif what == "failed":
            call.refuse(last.status if last is not None and last.status >= 300 else 503)
        elif what == "bye":
            self.spawn(call.hang_up())

    def _on_extension(self, onward: OutgoingCall, what: str) -> None:
        if what == "acknowledged":
            onward.acknowledge()
        elif what == "cancelled":
            onward.cancel()
        elif what == "bye":
            self.spawn(onward.hang_up())

    def trunk_call_of(self, call: Call) -> OutgoingCall | None:
        """The trunk's side of the call that a phone made, found by the phone's Call-ID."""
        call_id = call.request.call_id if isinstance(call, OutgoingCall) and call.request is not None else b""
        for offered, onward in self.legs:
            if offered.request is not None and offered.request.call_id == call_id:
                return onward
        return None


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m simulations.pbx", description=__doc__)
    add_listen(parser, "127.0.0.1:5080")
    parser.add_argument(
        "--trunk", type=host_and_port, required=True, metavar="HOST:PORT", help="where every call goes, over UDP"
    )
    options = parser.parse_args()
    host, port = options.listen
    return serve(Pbx("pbx", host, port, trunk=options.trunk))


if __name__ == "__main__":
    raise SystemExit(main())
