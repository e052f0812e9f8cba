"""A phone: it dials, hears it ring, talks and hangs up.

`python -m simulations.phone --user 4012 --via 127.0.0.1:5060 911` places one call through a router or PBX.
"""

import argparse
import asyncio

from simulations.callee import sdp
from simulations.calls import Call, OutgoingCall, UserAgent
from simulations.standalone import add_listen, host_and_port, show


class Phone(UserAgent):
    """A desk phone or softphone: `user` is its extension, `display_name` what it calls itself."""

    def __init__(
        self, name: str, host: str = "127.0.0.1", port: int = 0, *, user: str, display_name: str = ""
    ) -> None:
        super().__init__(name, host, port, user=user)
        self.display_name = display_name

    def dial(self, number: str, via: tuple[str, int]) -> OutgoingCall:
        """Dial a number through the proxy or PBX at `via` (host and port, UDP)."""
        host, port = via
        proxy = f"{host}:{port}".encode()
        name = f'"{self.display_name}" '.encode() if self.display_name else b""
        return self.call(
            b"sip:%b@%b" % (number.encode(), proxy),
            via=b"sip:" + proxy,
            caller=b"%b<sip:%b@%b>" % (name, self.user.encode(), proxy),
            body=sdp(self.host),
        )


async def _dial(options: argparse.Namespace) -> int:
    host, port = options.listen
    phone = Phone("phone", host, port, user=options.user, display_name=options.name)
    phone.listeners.append(show)
    await phone.start()
    try:
        call: Call = phone.dial(options.number, options.via)
        await asyncio.wait(
            [asyncio.ensure_future(call.answered.wait()), asyncio.ensure_future(call.ended.wait())],
            timeout=options.wait,
            return_when=asyncio.FIRST_COMPLETED,
        )
        if not call.answered.is_set():
            print(f"not answered: {call.failure or 'nobody took the call in time'}")
            return 1
        await asyncio.sleep(options.talk)
        return 0 if await call.hang_up() else 1
    finally:
        await phone.stop()


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m simulations.phone", description=__doc__)
    add_listen(parser, "127.0.0.1:0")
    parser.add_argument("number", help="what to dial: 911, 933, +12125550123")
    parser.add_argument(
        "--via", type=host_and_port, required=True, metavar="HOST:PORT", help="router or PBX, over UDP"
    )
    parser.add_argument("--user", default="4012", help="extension (default: %(default)s)")
    parser.add_argument("--name", default="", help="display name")
    parser.add_argument("--wait", type=float, default=30, metavar="SECONDS", help="for the answer (%(default)s)")
    parser.add_argument("--talk", type=float, default=2, metavar="SECONDS", help="then hang up (%(default)s)")
    return asyncio.run(_dial(parser.parse_args()))


if __name__ == "__main__":
    raise SystemExit(main())
