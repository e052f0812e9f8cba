"""Phones other people wrote register through the router with a hosted platform (Kamailio), and are called through it.

baresip and Linphone each find the way back with what the router gave the registrar (Path, or a Contact of its own),
over the connection they opened; both ends hear each other.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support import kamailio_hosts
from tests.support.baresip import Baresip
from tests.support.certificates import Authority
from tests.support.kamailio import Kamailio
from tests.support.linphone import Linphone
from tests.support.ports import endpoint
from tests.support.sound import best
from tests.support.world import Plan, World, world

DOMAIN = "platform.example.com"
TRANSPORTS = ["udp", "tcp", "tls"]
PLANS = {"office": Plan()}
# Of their connections these phones do not choose the address: on loopback they come from 127.0.0.1.
NETWORKS = {"inside": ["127.0.0.0/8"], "outside": []}
PHONE_TONE, FRIEND_TONE = 440.0, 1000.0
CLEAR = 0.8
TALK = 1.5


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module", params=["path", "contact"])
def the_world(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, authority: Authority
) -> Iterator[World]:
    """A router whose carrier is the platform; its second TLS port is at the address of `localhost`."""
    pair = authority.issue("router", "DNS:localhost")
    files = {"edge.crt": pair.certificate.read_text(), "edge.key": pair.key.read_text()}
    tls = {"certificate": "edge.crt", "private_key": "edge.key"}
    folder = tmp_path_factory.mktemp("world")
    with world(folder, PLANS, files=files, running=False, networks=NETWORKS, tls=tls) as built:
        config = built.router.config
        config["trunks"]["carrier"]["registrar"] = request.param
        here = endpoint("127.0.0.1")
        built.router.write_config({**config, "listen": [*config["listen"], f"tls://{here}"]})
        with built.router:
            yield built
            assert built.router.alive, built.router.log[-4000:]


@contextmanager
def platform(the_world: World, folder: Path) -> Iterator[Kamailio]:
    """The registrar, at the carrier's address."""
    path = the_world.router.config["trunks"]["carrier"]["registrar"] == "path"
    at = the_world.street["carrier"]
    with kamailio_hosts.registrar(folder, at=at, domain=DOMAIN, use_path=path) as started:
        yield started


def assert_led_to_the_router(registrar: Kamailio, the_world: World) -> None:
    """What the registrar knew of the phone led through the router, not past it."""
    ways = [line for line in registrar.log.splitlines() if ": TO sip:" in line]
    assert len(ways) == 1, registrar.log
    assert f"@{the_world.router.sip}" in ways[0], ways


def a_friend(the_world: World, folder: Path) -> Baresip:
    """Somebody with a phone at the platform."""
    return Baresip(
        folder,
        at=the_world.street["stranger"],
        user="friend",
        hertz=FRIEND_TONE,
        outbound=the_world.street["carrier"],
        domain=DOMAIN,
    )


@pytest.mark.long
@pytest.mark.peers("kamailio", "baresip")
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_baresip_phone_registers_and_is_called(
    the_world: World, tmp_path: Path, authority: Authority, transport: str
) -> None:
    at = the_world["office"].street["phone"]
    phone = Baresip(
        tmp_path / "phone",
        at=at,
        user=f"b{transport}",
        hertz=PHONE_TONE,
        outbound=the_world.secure if transport == "tls" else the_world.router.sip,
        transport=transport,
        domain=DOMAIN,
        registers=True,
        answers=True,
        certificate=authority.issue("phone", f"IP:{at.address}").both if transport == "tls" else None,
    )
    with (
        platform(the_world, tmp_path / "platform") as registrar,
        phone,
        a_friend(the_world, tmp_path / "friend") as friend,
    ):
        phone.registered()
        friend.dial(f"b{transport}")
        friend.wait_for("CALL_ESTABLISHED")
        phone.wait_for("CALL_ESTABLISHED")
        time.sleep(TALK)
        friend.command("hangup")
        phone.wait_for("CALL_CLOSED")
        assert_led_to_the_router(registrar, the_world)
    assert best(phone.heard(), FRIEND_TONE) > CLEAR
    assert best(friend.heard(), PHONE_TONE) > CLEAR


@pytest.mark.long
@pytest.mark.peers("kamailio", "baresip", "linphonec")
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_linphone_registers_and_is_called(
    the_world: World, tmp_path: Path, authority: Authority, transport: str
) -> None:
    secure = the_world.router.config["listen"][-1].rpartition(":")[2]
    phone = Linphone(
        tmp_path / "phone",
        at=endpoint("127.0.0.1"),
        user=f"l{transport}",
        hertz=PHONE_TONE,
        proxy=f"localhost:{secure}" if transport == "tls" else str(the_world.router.sip),
        transport=transport,
        domain=DOMAIN,
        registers=True,
        ca=authority.certificate,
    )
    with (
        platform(the_world, tmp_path / "platform") as registrar,
        phone,
        a_friend(the_world, tmp_path / "friend") as friend,
    ):
        phone.wait_for("LinphoneRegistrationOk")
        friend.dial(f"l{transport}")
        friend.wait_for("CALL_ESTABLISHED")
        phone.talk()
        time.sleep(TALK)
        phone.hang_up()
        friend.wait_for("CALL_CLOSED")
        assert_led_to_the_router(registrar, the_world)
    assert best(phone.heard(), FRIEND_TONE) > CLEAR
    assert best(friend.heard(), PHONE_TONE) > CLEAR
