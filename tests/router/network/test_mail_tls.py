"""Mail over TLS is verified, mail without it costs no TLS, and what one URL allows does not hold for another."""

import ssl
from pathlib import Path

import pytest
from aiosmtpd.controller import Controller

from router.notices import channels
from tests.router.notices.test_channels import _prepared, send  # noqa: F401, a fixture
from tests.support.certificates import Authority
from tests.support.ports import endpoint
from tests.support.smtp_sink import SmtpSink


class TlsSink(SmtpSink):
    """Takes mail over TLS from the first byte."""

    def __init__(self, address: str, context: ssl.SSLContext) -> None:
        super().__init__(address)
        self.close()
        self.endpoint = endpoint(address)
        self._controller = Controller(self, hostname=address, port=self.endpoint.port, ssl_context=context)
        self._controller.start()

    def url(self, recipient: str) -> str:
        return super().url(recipient).replace("mailto://", "mailtos://") + "&mode=ssl"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ca")


@pytest.fixture
def tls(authority: Authority) -> ssl.SSLContext:
    pair = authority.issue("mail", "IP:127.0.0.1")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pair.certificate, pair.key)
    return context


def test_plain_mail_loads_no_authorities(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> ssl.SSLContext:
        raise AssertionError("authorities are loaded for mail without TLS")

    monkeypatch.setattr(ssl, "create_default_context", refuse)
    with SmtpSink("127.0.0.1") as sink:
        assert send(sink.url("desk@example.com")).attempt.delivered
        assert len(sink.wait_for("desk@example.com")) == 1


def test_a_mail_server_nobody_vouches_for_gets_no_mail(tls: ssl.SSLContext) -> None:
    with TlsSink("127.0.0.1", tls) as sink:
        assert not send(sink.url("desk@example.com")).attempt.delivered
        # This one URL takes any certificate; that is no leave for the others.
        assert send(sink.url("desk@example.com") + "&verify=no").attempt.delivered
        assert not send(sink.url("security@example.com")).attempt.delivered


def test_a_mail_server_somebody_vouches_for_gets_it_and_authorities_are_loaded_once_a_thread(
    tls: ssl.SSLContext, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
    loaded: list[ssl.SSLContext] = []
    real = ssl.create_default_context

    def counted(*arguments: object, **options: object) -> ssl.SSLContext:
        context = real(*arguments, **options)  # type: ignore[arg-type]  # passed on as they came
        loaded.append(context)
        return context

    monkeypatch.setattr(ssl, "create_default_context", counted)
    with TlsSink("127.0.0.1", tls) as sink:
        ways = channels.Channels()
        for number in range(3 * channels.LANE_THREADS):
            assert send(sink.url("desk@example.com"), ways).attempt.delivered
            assert len(sink.wait_for("desk@example.com", number + 1)) == number + 1
    assert 1 <= len(loaded) <= channels.LANE_THREADS
