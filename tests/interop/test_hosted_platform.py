"""A phone behind its NAT registers through us, behind ours, with a Kamailio outside, and is called through us.

    phone 192.168.7.20 ─ NAT 10.77.0.9 ─ 10.77.0.5 EDGE911 172.16.0.5 ─ firewall 203.0.113.10 ─ Kamailio 203.0.113.50
                                                           └ 2001:db8:77::5 ─ a provider by IPv6

Every host has a network namespace of its own. The phone's Via and Contact name an address that nobody can reach; the
platform and the provider see 203.0.113.10 and nothing else of us.
"""

import itertools
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support import kamailio_hosts
from tests.support.baresip import Baresip
from tests.support.kamailio import Kamailio
from tests.support.netns import Host, Networks
from tests.support.ports import Endpoint
from tests.support.raw_sip import Call, Peer, answers, sdp
from tests.support.router_process import RouterProcess
from tests.support.sip_text import Message
from tests.support.sipp import Sipp, running

pytestmark = pytest.mark.peers("kamailio", "ip", "nft", "root")

LAN = Endpoint(address="10.77.0.5", port=5060)
SEEN_AS = "203.0.113.10:5060"
PLATFORM = Endpoint(address="203.0.113.50", port=5060)
PHONE = Endpoint(address="192.168.7.20", port=5060)
FRIEND = Endpoint(address="203.0.113.60", port=5060)
PROVIDER = Endpoint(address="203.0.113.31", port=5060)
PROVIDER_6 = Endpoint(address="2001:db8:77::31", port=5060)
DOMAIN = "platform.example.com"
STRANGER = Endpoint(address="198.51.100.7", port=5060)
VICTIM = Endpoint(address="198.51.100.8", port=5060)
NAT_ADDRESS = "10.77.0.9"

_numbers = itertools.count(1)


def configuration(**platform: Any) -> dict[str, Any]:
    wan = {"name": "wan", "advertise": "203.0.113.10"}
    return {
        "node": "branch-1",
        "listen": [
            {"url": f"udp://{LAN}", "name": "lan"},
            {"url": f"tcp://{LAN}", "name": "lan"},
            {"url": "udp://172.16.0.5:5060", **wan},
            {"url": "tcp://172.16.0.5:5060", **wan},
            {"url": "udp://[2001:db8:77::5]:5060", "name": "six"},
        ],
        "health": {"listen": "http://127.0.0.1:8910"},
        "networks": {"inside": ["10.77.0.0/24"], "outside": ["203.0.113.0/24"]},
        "trunks": {
            "platform": {"target": f"sip:{PLATFORM}", "listen": "wan", "probe": "off", **platform},
            "ers-a": {"target": f"sip:{PROVIDER}", "listen": "wan", "probe": "off", "large_messages": "udp"},
            "ers-b": {"target": f"sip:{PROVIDER_6}", "listen": "six", "probe": "off", "large_messages": "udp"},
        },
        "routes": {"outbound": ["platform"]},
        "emergency": {
            "default": {"site": "branch"},
            "routes": [
                {"name": "primary", "trunk": "ers-a", "timeout": "3s"},
                {"name": "backup", "trunk": "ers-b", "timeout": "3s"},
            ],
        },
        "sites": [
            {
                "id": "branch",
                "timezone": "America/New_York",
                "address": {"country": "US", "state": "NY", "city": "Albany", "street": "Lake", "house_number": "1"},
                "networks": ["10.77.0.0/24"],
                "callback": "+15185550100",
            }
        ],
    }


@dataclass(frozen=True, slots=True)
class Town:
    """The hosts."""

    router: Host
    phone: Host
    platform: Host
    friend: Host
    provider: Host
    stranger: Host


@pytest.fixture
def town() -> Iterator[Town]:
    """Made anew for each test: what a NAT remembers of one must not meet the next."""
    with Networks() as nets:
        home, lan, dmz, wan, six = (nets.network(name) for name in ("home", "lan", "dmz", "wan", "six"))
        nat = nets.host("nat", (home, "192.168.7.1/24"), (lan, f"{NAT_ADDRESS}/24"))
        nat.masquerade("eth1")
        firewall = nets.host("firewall", (dmz, "172.16.0.1/24"), (wan, "203.0.113.10/24", "198.51.100.1/24"))
        firewall.stand_in_for("eth1", "203.0.113.10", "172.16.0.5")
        router = nets.host("router", (lan, "10.77.0.5/24"), (dmz, "172.16.0.5/24"), (six, "2001:db8:77::5/64"))
        router.route("default", "172.16.0.1")
        phone = nets.host("phone", (home, "192.168.7.20/24"))
        phone.route("default", "192.168.7.1")
        platform = nets.host("platform", (wan, "203.0.113.50/24"))
        friend = nets.host("friend", (wan, "203.0.113.60/24"))
        provider = nets.host("provider", (wan, "203.0.113.31/24"), (six, "2001:db8:77::31/64"))
        stranger = nets.host("stranger", (wan, "198.51.100.7/24", "198.51.100.8/24"))
        stranger.route("203.0.113.0/24", "198.51.100.1")
        yield Town(router, phone, platform, friend, provider, stranger)


class Router(RouterProcess):
    """The router in its namespace."""

    def __init__(self, folder: Path, host: Host, config: dict[str, Any]) -> None:
        super().__init__(folder, config, probe_from=LAN.address)
        self.host = host

    def start(self) -> RouterProcess:
        with self.host.inside():
            return super().start()

    def get(self, path: str) -> tuple[int, str]:
        with self.host.inside():
            return super().get(path)


@contextmanager
def peer(host: Host, at: Endpoint, **options: Any) -> Iterator[Peer]:
    with host.inside():
        made = Peer(at, **options)
    with made:
        yield made


@contextmanager
def platform(town: Town, folder: Path, **options: Any) -> Iterator[Kamailio]:
    registrar = kamailio_hosts.registrar(folder, at=PLATFORM, domain=DOMAIN, tcp=True, **options)
    with town.platform.inside(), registrar:
        try:
            yield registrar
        except BaseException:
            print(f"Kamailio said:\n{registrar.log[-4000:]}")  # shown where the test fails
            raise


def register(phone: Peer, number: int, *, transport: str = "udp", extra: tuple[str, ...] = ()) -> bytes:
    suffix = ";transport=tcp" if transport == "tcp" else ""
    lines = [
        f"REGISTER sip:{DOMAIN} SIP/2.0",
        f"Via: SIP/2.0/{transport.upper()} {phone.at};branch=z9hG4bKreg{number};rport",
        "Max-Forwards: 70",
        f"From: <sip:4102@{DOMAIN}>;tag=reg",
        f"To: <sip:4102@{DOMAIN}>",
        f"Call-ID: registration@{phone.at.address}",
        f"CSeq: {number} REGISTER",
        f"Contact: <sip:4102@{phone.at}{suffix}>;expires=120",
        *extra,
        "Content-Length: 0",
        "",
        "",
    ]
    return "\r\n".join(lines).encode()


def registered(phone: Peer, number: int, *, transport: str = "udp") -> Message:
    """Register; the 200."""
    phone.send(register(phone, number, transport=transport), LAN, transport)
    found = phone.take(200, method="REGISTER").message
    assert found.get("contact").startswith(f"<sip:4102@{PHONE}"), "the phone sees the Contact it gave"
    return found


def called(friend: Peer, phone: Peer, *, transport: str = "udp", hangs_up: str = "friend") -> Message:
    """The friend calls the phone by the platform; ACK and BYE arrive. The INVITE as the phone saw it."""
    call = Call(peer=friend, router=PLATFORM, user="2125550177", uri=f"sip:4102@{DOMAIN}")
    call.dial()
    ring = phone.take("INVITE", call_id=call.call_id)
    assert ring.message.uri.startswith(f"sip:4102@{PHONE}"), "the phone's own Contact"
    assert ring.message.transport == transport
    contact = f"sip:4102@{PHONE}{';transport=tcp' if transport == 'tcp' else ''}"
    phone.respond(ring, 180, contact=contact)
    phone.respond(ring, 200, body=sdp(PHONE.address), contact=contact)
    answer = call.answered()
    phone.take("ACK", call_id=call.call_id)
    if hangs_up == "friend":
        call.send(call.in_dialog("BYE"))
        phone.respond(phone.take("BYE", call_id=call.call_id), 200)
        friend.take(200, call_id=call.call_id, method="BYE")
    else:
        routes = [value for line in ring.message.all("record-route") for value in line.split(",")]
        lines = [
            f"BYE {answer_uri(ring.message)} SIP/2.0",
            f"Via: SIP/2.0/{transport.upper()} {PHONE};branch=z9hG4bKbye{call.number};rport",
            "Max-Forwards: 70",
            *(f"Route: {value.strip()}" for value in routes),
            f"From: {answer.get('to')}",
            f"To: {answer.get('from')}",
            f"Call-ID: {call.call_id}",
            "CSeq: 9 BYE",
            "Content-Length: 0",
            "",
            "",
        ]
        phone.send("\r\n".join(lines).encode(), LAN, transport)
        friend.respond(friend.take("BYE", call_id=call.call_id), 200)
        phone.take(200, call_id=call.call_id, method="BYE")
    return ring.message


def answer_uri(message: Message) -> str:
    return message.get("contact").partition("<")[2].partition(">")[0]


@pytest.mark.long
@pytest.mark.parametrize(
    ("mode", "options"),
    [
        ("path", {"path_mode": 2}),  # Kamailio's default: refuses a Path of phones that do not say they know it
        ("path", {"path_mode": 0}),
        ("contact", {"use_path": False}),
    ],
    ids=["path-strict", "path", "contact"],
)
def test_a_phone_behind_nat_is_called_also_after_our_restart(
    town: Town, tmp_path: Path, mode: str, options: dict[str, Any]
) -> None:
    with (
        platform(town, tmp_path / "platform", **options) as registrar,
        Router(tmp_path, town.router, configuration(registrar=mode)) as router,
        peer(town.phone, PHONE) as phone,
        peer(town.friend, FRIEND) as friend,
    ):
        registered(phone, 1)
        ring = called(friend, phone)
        assert "10.77.0.5:5060" in ring.vias[0], "the phone sees our inside"
        assert SEEN_AS in ring.all("record-route")[1], "the platform sees what the firewall shows"
        called(friend, phone, hangs_up="phone")
        router.restart()
        called(friend, phone)
        registered(phone, 2)
        called(friend, phone, hangs_up="phone")
        path = re.findall(r"RX REGISTER \S+ by udp:203\.0\.113\.10:\d+ path=(\S*) contact=(\S*)", registrar.log)
        assert path, registrar.log
        seen, contact = path[-1]
        if mode == "path":
            assert re.fullmatch(rf"<sip:[\w-]+@{re.escape(SEEN_AS)};lr>", seen)
            assert PHONE.address in contact
        else:
            assert not seen.startswith("<sip:")
            assert re.match(rf"<sip:4102@{re.escape(SEEN_AS)};e9=[\w-]+>", contact)
        assert "10.77.0.5" not in registrar.log.replace("received=10.77.0.5", "")


@pytest.mark.long
@pytest.mark.peers("baresip")
@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_baresip_behind_nat_registers_and_is_called_by_udp_also_after_our_restart(
    town: Town, tmp_path: Path, transport: str
) -> None:
    with (
        platform(town, tmp_path / "platform") as registrar,
        Router(tmp_path, town.router, configuration()) as router,
        peer(town.friend, FRIEND) as friend,
        town.phone.inside(),
        Baresip(
            tmp_path / "phone",
            at=PHONE,
            user="4103",
            hertz=440,
            outbound=LAN,
            transport=transport,
            domain=DOMAIN,
            registers=True,
            answers=True,
        ) as phone,
    ):

        def call() -> Call:
            made = Call(peer=friend, router=PLATFORM, user="2125550177", uri=f"sip:4103@{DOMAIN}")
            made.dial()
            made.answered()
            phone.wait_for("CALL_ESTABLISHED")
            return made

        phone.registered()
        made = call()
        made.hang_up()
        phone.wait_for("CALL_CLOSED")
        if transport == "udp":  # a connection that ended: see below
            router.restart()
        made = call()
        phone.command("hangup")
        friend.respond(friend.take("BYE", call_id=made.call_id), 200)
        phone.wait_for("CALL_CLOSED")
        ways = registrar.said("TO sip:4103")
        assert len(ways) == 2
        assert all(f"@{SEEN_AS}" in way for way in ways), "the platform reaches it by what our firewall shows"


def test_sipp_behind_nat_registers_and_is_called_also_after_our_restart(town: Town, tmp_path: Path) -> None:
    with (
        platform(town, tmp_path / "platform") as registrar,
        Router(tmp_path, town.router, configuration()) as router,
        peer(town.friend, FRIEND) as friend,
        town.phone.inside(),
    ):
        phone = Sipp("phone_registers", at=PHONE, to=LAN, folder=tmp_path, keys={"caller": "4104"})
        with running(phone):
            phone.succeed()
        for restarts in (False, True):
            if restarts:
                router.restart()
            callee = Sipp("carrier_answers", at=PHONE, folder=tmp_path)
            with running(callee):
                call = Call(peer=friend, router=PLATFORM, user="2125550177", uri=f"sip:4104@{DOMAIN}")
                call.dial()
                call.answered()
                call.hang_up()
                callee.succeed()
            assert callee.request("INVITE").uri.startswith(f"sip:4104@{PHONE}")
        assert len(registrar.said("TO sip:4104@", f"@{SEEN_AS}")) == 2


def test_a_phone_on_tcp_is_called_over_its_connection(town: Town, tmp_path: Path) -> None:
    with (
        platform(town, tmp_path / "platform") as registrar,
        Router(tmp_path, town.router, configuration()) as router,
        peer(town.friend, FRIEND) as friend,
    ):
        with peer(town.phone, PHONE, udp=False) as phone, town.phone.inside():
            registered(phone, 1, transport="tcp")
            called(friend, phone, transport="tcp")
            called(friend, phone, transport="tcp", hangs_up="phone")
        # The phone is gone, and so is its connection: the registrar is told at once.
        call = Call(peer=friend, router=PLATFORM, user="2125550177", uri=f"sip:4102@{DOMAIN}")
        call.dial()
        assert call.refused(430).start.endswith("Flow Failed")
        assert registrar.process.poll() is None
        assert router.metric("edge911_dropped_total", reason="flow-failed") == 1


def reasons_of_starts(router: RouterProcess, call_id: str) -> list[str]:
    """Of the record, as soon as it is whole."""
    deadline = time.monotonic() + 10
    while True:
        (record,) = router.records(call_id)
        if record["outcome"] or time.monotonic() > deadline:
            return [one["reason"] for one in record["routes"] if one["outcome"] == "started"]


@pytest.mark.long
def test_a_911_call_from_behind_nat_fails_over_to_ipv6_and_the_psap_hangs_up(town: Town, tmp_path: Path) -> None:
    with (
        Router(tmp_path, town.router, configuration()) as router,
        peer(town.phone, PHONE) as phone,
        peer(town.provider, PROVIDER, rule=answers(503)) as refusing,
        peer(town.provider, PROVIDER_6) as psap,
    ):
        call = Call(peer=phone, router=LAN, user="4102")
        call.dial()
        first = refusing.take("INVITE").message
        assert first.vias[0].startswith(f"SIP/2.0/UDP {SEEN_AS};")
        arrived = psap.take("INVITE")
        assert arrived.message.vias[0].startswith("SIP/2.0/UDP [2001:db8:77::5]:5060;")
        assert arrived.message.uri == f"sip:911@{PROVIDER_6}"
        psap.respond(arrived, 200, body=sdp("192.0.2.9"))
        call.answered()
        psap.take("ACK")
        assert reasons_of_starts(router, call.call_id) == ["private-media-address"] * 2
        router.restart()
        bye = in_dialog(arrived.message, "BYE", f"sip:4102@{PHONE}", PROVIDER_6)
        psap.send(bye, Endpoint(address="2001:db8:77::5", port=5060))
        phone.respond(phone.take("BYE"), 200)
        psap.take(200, method="BYE")


def in_dialog(arrived: Message, method: str, uri: str, source: Endpoint) -> bytes:
    """A request of the provider's side in the dialog of an INVITE as it arrived there."""
    lines = [
        f"{method} {uri} SIP/2.0",
        f"Via: SIP/2.0/UDP {source};branch=z9hG4bKfar{next(_numbers)};rport",
        "Max-Forwards: 70",
        *(f"Route: {value}" for value in arrived.all("record-route")),
        f"From: {arrived.get('to')};tag=to-5060",
        f"To: {arrived.get('from')}",
        f"Call-ID: {arrived.call_id}",
        f"CSeq: {70 + next(_numbers)} {method}",
        "Content-Length: 0",
        "",
        "",
    ]
    return "\r\n".join(lines).encode()


def test_a_stranger_with_the_token_is_heard_in_the_call_and_relayed_nowhere_else(town: Town, tmp_path: Path) -> None:
    firewall = Endpoint(address="203.0.113.10", port=5060)
    with (
        Router(tmp_path, town.router, configuration()),
        peer(town.phone, PHONE) as phone,
        peer(town.provider, PROVIDER) as provider,
        peer(town.stranger, STRANGER) as stranger,
        peer(town.stranger, VICTIM) as victim,
    ):
        call = Call(peer=phone, router=LAN, user="4102")
        call.dial()
        arrived = provider.take("INVITE")
        provider.respond(arrived, 200, body=sdp("192.0.2.9"))
        call.answered()
        provider.take("ACK")
        for method in ("INVITE", "REFER"):
            lines = in_dialog(arrived.message, method, f"sip:x@{VICTIM}", STRANGER).split(b"\r\n")
            lines[3], lines[4] = (
                lines[4],
                lines[3],
            )  # the Route as the caller's side has it: out, and not to the phone
            stranger.send(b"\r\n".join(lines), firewall)
            stranger.take(403, method=method)
        plain = re.sub(rb";t=[0-9a-f]+", b"", in_dialog(arrived.message, "BYE", f"sip:4102@{PHONE}", STRANGER))
        stranger.send(plain, firewall)
        stranger.take(403, method="BYE")
        stranger.send(in_dialog(arrived.message, "BYE", f"sip:4102@{PHONE}", STRANGER), firewall)
        phone.respond(phone.take("BYE"), 200)
        stranger.take(200, method="BYE")
        assert not victim.messages()
