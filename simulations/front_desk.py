"""The front desk: a mailbox on a real SMTP server, where the notices of 911 calls arrive.

`python -m simulations.front_desk --listen 127.0.0.1:2525` prints each mail until Ctrl-C.
"""

import argparse
import asyncio
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

from aiosmtpd.smtp import SMTP

from simulations.standalone import add_listen


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """One mail as accepted, decoded. `at` is seconds on the event loop's clock; lines of text end with LF."""

    at: float
    envelope_from: str
    envelope_to: tuple[str, ...]
    sender: str
    recipient: str
    subject: str
    date: str
    text: str


class FrontDesk:
    """Listens on one address; port 0 picks a free one. `refuses`: every recipient is refused with 550."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0, *, refuses: bool = False) -> None:
        self.host = host
        self.port = port
        self.refuses = refuses
        self.mails: list[Mail] = []
        self.refused = 0
        self.told: Callable[[Mail], None] = lambda mail: None
        """Called with each mail."""
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen. Raises OSError where the address cannot be had."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: SMTP(self, hostname="desk.example.com", ident="front desk"), self.host, self.port
        )
        self.port = int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Close the port."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def url(self, recipient: str = "desk@example.com", sender: str = "edge911@example.com") -> str:
        """The Apprise URL of a mailbox here, for `send` of a contact."""
        return f"mailto://{self.host}:{self.port}?from={sender}&to={recipient}"

    async def handle_RCPT(  # noqa: N802, aiosmtpd's name
        self, server: Any, session: Any, envelope: Any, address: str, options: list[str]
    ) -> str:
        """aiosmtpd's hook: a recipient."""
        if self.refuses:
            self.refused += 1
            return "550 5.7.1 Broken on purpose"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802, aiosmtpd's name
        """aiosmtpd's hook: one mail."""
        message = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(message, EmailMessage)
        body = message.get_body(preferencelist=("plain", "html"))
        mail = Mail(
            at=asyncio.get_running_loop().time(),
            envelope_from=str(envelope.mail_from or ""),
            envelope_to=tuple(envelope.rcpt_tos),
            sender=str(message["From"] or ""),
            recipient=str(message["To"] or ""),
            subject=str(message["Subject"] or ""),
            date=str(message["Date"] or ""),
            text="\n".join(str(body.get_content()).splitlines()) if body is not None else "",
        )
        self.mails.append(mail)
        self.told(mail)
        return "250 OK"


def mail_lines(mail: Mail) -> list[str]:
    """A mail as a reader sees it."""
    return [f"From: {mail.sender}", f"To: {mail.recipient}", f"Subject: {mail.subject}", "", *mail.text.splitlines()]


async def _serve(host: str, port: int) -> None:
    desk = FrontDesk(host, port)
    desk.told = lambda mail: print(time.strftime("\n%H:%M:%S mail\n") + "\n".join(mail_lines(mail)), flush=True)
    await desk.start()
    print(f"front desk: mail for anybody is taken at {host}:{desk.port}; Ctrl-C ends it", flush=True)
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()
    await desk.stop()


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m simulations.front_desk", description=__doc__)
    add_listen(parser, "127.0.0.1:2525")
    host, port = parser.parse_args().listen
    asyncio.run(_serve(host, port))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
