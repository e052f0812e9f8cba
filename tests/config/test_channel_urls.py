"""The URLs of contacts that are ours: what is read of them, and what is said of bad ones."""

from pathlib import Path

import pytest

from config.channel_urls import SipReceiver, SnmpReceiver, SyslogReceiver, is_ours, read_receiver
from config.load import ConfigError, load_config


@pytest.mark.parametrize(
    ("url", "ours"),
    [
        ("sip:100@10.0.0.10", True),
        ("SIPS:100@pbx.example", True),
        ("sip-call:100@10.0.0.10", True),
        ("snmp://10.0.0.9", True),
        ("syslog://10.0.0.9", True),
        ("syslog://loghost:514", True),
        ("syslog://", False),
        ("syslog://local5", False),
        ("json://10.0.0.9", False),
    ],
)
def test_ours_and_those_of_apprise(url: str, ours: bool) -> None:
    assert is_ours(url) is ours


def test_a_phone() -> None:
    found = read_receiver("sip-call:100@10.0.0.10;transport=tcp?repeat=3&ring=20s&username=a&password=b%26c")
    assert isinstance(found, SipReceiver)
    assert (found.is_call, found.uri, found.repeat, found.ring) == (True, b"sip:100@10.0.0.10;transport=tcp", 3, 20.0)
    assert (found.username, found.password, found.parsed.transport) == ("a", "b&c", "tcp")
    assert "b&c" not in repr(found)


def test_a_syslog_server() -> None:
    found = read_receiver("syslog://[2001:db8::9]?transport=tls&facility=local7&ca=ca.pem")
    assert isinstance(found, SyslogReceiver)
    assert (found.host, found.port, found.facility) == ("2001:db8::9", 6514, 23)


def test_a_trap_receiver() -> None:
    found = read_receiver("snmp://watch@10.0.0.9?version=3&auth=sha256&auth_password=12345678")
    assert isinstance(found, SnmpReceiver)
    assert (found.version, found.user, found.port, found.auth) == ("3", "watch", 162, "sha256")
    assert "12345678" not in repr(found)


@pytest.mark.parametrize(
    ("url", "remedy"),
    [
        ("sip:10.0.0.10", "write sip:100@10.0.0.10"),
        ("sip-call:911@10.0.0.10", "a notice never calls a PSAP"),
        ("sip:9911@10.0.0.10", "a notice never calls a PSAP"),
        ("sip-call:100@10.0.0.10?repat=3", "there are username, password"),
        ("sip-call:100@10.0.0.10?repeat=0", "repeat is a number from 1 to 1000"),
        ("sip-call:100@10.0.0.10?ring=1h", "ring is a time from 1s to 5m"),
        ("sip:100@10.0.0.10?username=a", "belong together"),
        ("sip:100@10.0.0.10;transport=sctp", "udp, tcp and tls"),
        ("sip:100@10.0.0.10?proxy=:5060", "write proxy=HOST:PORT"),
        ("syslog://10.0.0.9:99999", "write syslog://"),
        ("syslog://10.0.0.9?transport=sctp", "udp, tcp, tls"),
        ("syslog://10.0.0.9?facility=none", "it is one of kern"),
        ("snmp://10.0.0.9?version=1", "version is 2c or 3"),
        ("snmp://10.0.0.9?version=3", "write snmp://"),
        ("snmp://10.0.0.9?auth=sha", "add version=3"),
        ("snmp://u@10.0.0.9?version=3&auth=sha&auth_password=short", "fewer than 8 characters"),
        ("snmp://u@10.0.0.9?version=3&privacy=aes&privacy_password=12345678", "add auth and auth_password"),
        ("snmp://u@10.0.0.9?version=3&engine_id=12", "5 to 32 bytes"),
    ],
)
def test_what_is_wrong_is_said_at_its_place_with_the_remedy(tmp_path: Path, url: str, remedy: str) -> None:
    path = tmp_path / "edge911.yaml"
    path.write_text(f'listen: ["udp://127.0.0.1:5060"]\ncontacts:\n  desk:\n    send: ["json://x", "{url}"]\n')
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    (problem,) = caught.value.problems
    assert (problem.line, problem.path) == (4, "contacts.desk.send[1]")
    assert remedy in problem.message
    assert "short" not in problem.message
    assert "12345678" not in problem.message
