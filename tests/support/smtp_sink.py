"""A real SMTP server that keeps what it is given; can be told to refuse for now (452)."""

import ssl
import threading
import time
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.message import EmailMessage
from types import TracebackType
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, Envelope

from tests.support.certificates import Pair
from tests.support.ports import Endpoint, endpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """One mail as delivered."""

    sender: str
    recipients: tuple[str, ...]
    message: EmailMessage

    @property
    def subject(self) -> str:
        """The subject, decoded."""
        return str(self.message["Subject"])

    @property
    def text(self) -> str:
        """The plain text, or the HTML where there is no plain text."""
        body = self.message.get_body(preferencelist=("plain", "html"))
        return str(body.get_content()) if body else ""


class SmtpSink:
    """Listens on an address of its own from the start until closed."""

    def __init__(self, address: str, *, certificate: Pair | None = None, password: str = "") -> None:
        """certificate: mail is taken by STARTTLS only, and with this password, of whomever."""
        self.endpoint: Endpoint = endpoint(address)
        self.refuse = False
        self.unknown: set[str] = set()
        """Mailboxes that there are not."""
        self.attempts = 0
        self._mails: list[Mail] = []
        self._arrived = threading.Condition()
        options: dict[str, Any] = {}
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate.certificate, certificate.key)
            options = {"tls_context": context, "require_starttls": True, "auth_required": True}
            options["authenticator"] = lambda _server, _session, _envelope, _how, given: AuthResult(
                success=given.password == password.encode(), handled=False
            )
        self._controller = Controller(self, hostname=address, port=self.endpoint.port, **options)
        self._controller.start()

    async def handle_RCPT(  # noqa: N802, aiosmtpd's name
        self, server: Any, session: Any, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """aiosmtpd's hook: one recipient."""
        if address in self.unknown:
            return "550 5.1.1 no such mailbox"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Envelope) -> str:  # noqa: N802, aiosmtpd's name
        """aiosmtpd's hook: one mail."""
        content = envelope.content
        assert isinstance(content, bytes)
        message = message_from_bytes(content, policy=policy.default)
        assert isinstance(message, EmailMessage)
        with self._arrived:
            self.attempts += 1
            if not self.refuse:
                self._mails.append(
                    Mail(
                        sender=envelope.mail_from or "",
                        recipients=tuple(envelope.rcpt_tos),
                        message=message,
                    )
                )
            self._arrived.notify_all()
        return "452 try again later" if self.refuse else "250 OK"

    def url(self, recipient: str) -> str:
        """The Apprise URL of a mailbox here."""
        return f"mailto://{self.endpoint}?from=edge911@example.com&to={recipient}"

    def mails(self, recipient: str | None = None) -> list[Mail]:
        """What was accepted, for one recipient or for all."""
        with self._arrived:
            return [mail for mail in self._mails if recipient is None or recipient in mail.recipients]

    def wait_for(self, recipient: str, count: int = 1, timeout: float = 40) -> list[Mail]:
        """The mails to a recipient, as soon as there are `count`."""
        deadline = time.monotonic() + timeout
        while len(self.mails(recipient)) < count and (left := deadline - time.monotonic()) > 0:
            with self._arrived:
                self._arrived.wait(min(left, 0.05))
        found = self.mails(recipient)
        assert len(found) >= count, f"{len(found)} of {count} mails to {recipient} within {timeout} s"
        return found

    def close(self) -> None:
        """Stop listening."""
        self._controller.stop()

    def __enter__(self) -> "SmtpSink":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
