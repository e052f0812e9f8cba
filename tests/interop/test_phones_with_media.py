"""Phones other people wrote dial 911 through the router, and both ends hear each other.

The PSAP is a phone too, behind Kamailio as the provider's border controller, as it is in the field: neither baresip
nor Linphone can read a multipart offer.
"""

import time
from collections.abc import Callable, Iterator
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
from tests.support.world import Place, Plan, World, world

TRANSPORTS = ["udp", "tcp", "tls"]
PLANS = {f"{phone}-{transport}": Plan(timeout="8s") for phone in ("baresip", "linphone") for transport in TRANSPORTS}
# Of their connections these phones do not choose the address: on loopback they come from 127.0.0.1.
NETWORKS = {"inside": ["127.0.0.0/8"], "outside": []}
PHONE_TONE, PSAP_TONE = 440.0, 1000.0
CLEAR, ABSENT = 0.8, 0.1
"""A tone of G.711 that went through unharmed is nearly all of the energy."""
TALK = 1.5
"""Seconds, until each has heard the other."""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def the_world(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[World]:
    """It has a second TLS port at the address of `localhost`: Linphone checks the name in a certificate."""
    pair = authority.issue("router", "DNS:localhost")
    files = {"edge.crt": pair.certificate.read_text(), "edge.key": pair.key.read_text()}
    tls = {"certificate": "edge.crt", "private_key": "edge.key"}
    folder = tmp_path_factory.mktemp("world")
    with world(folder, PLANS, files=files, running=False, networks=NETWORKS, tls=tls) as built:
        config, here = built.router.config, endpoint("127.0.0.1")
        built.router.write_config({**config, "listen": [*config["listen"], f"tls://{here}"]})
        with built.router:
            yield built
            assert built.router.alive, built.router.log[-4000:]


def port_at_localhost(the_world: World) -> int:
    return int(the_world.router.config["listen"][-1].rpartition(":")[2])


@contextmanager
def psap_behind_a_provider(place: Place, folder: Path, encryption: str = "") -> Iterator[tuple[Baresip, Kamailio]]:
    """A baresip that answers, and the provider that hands the place's calls to it."""
    at = place.street["provider_c"]
    desk = Baresip(folder / "psap", at=at, user="911", hertz=PSAP_TONE, answers=True, encryption=encryption)
    sbc = kamailio_hosts.provider(folder / "sbc", at=place.street["provider_a"], psap=desk.at)
    with sbc, desk:
        yield desk, sbc


def a_baresip(
    the_world: World, place: Place, folder: Path, authority: Authority, transport: str, encryption: str = ""
) -> Baresip:
    at = place.street["phone"]
    return Baresip(
        folder,
        at=at,
        user=place.device,
        hertz=PHONE_TONE,
        outbound=the_world.secure if transport == "tls" else place.router,
        transport=transport,
        encryption=encryption,
        certificate=authority.issue("phone", f"IP:{at.address}").both if transport == "tls" else None,
    )


@pytest.mark.peers("kamailio", "baresip")
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_baresip_phone_and_the_psap_hear_each_other(
    the_world: World, tmp_path: Path, authority: Authority, transport: str
) -> None:
    place = the_world[f"baresip-{transport}"]
    phone = a_baresip(the_world, place, tmp_path / "phone", authority, transport)
    with psap_behind_a_provider(place, tmp_path) as (psap, sbc), phone:
        phone.dial("911")
        phone.wait_for("CALL_ESTABLISHED")
        psap.wait_for("CALL_ESTABLISHED")
        time.sleep(TALK)
        phone.command("hangup")
        psap.wait_for("CALL_CLOSED")
        assert place.callback in sbc.wait_for(" 911 asserted=")
        assert not sbc.said("LOST")
    assert_heard(phone, psap)


@pytest.mark.peers("kamailio", "baresip")
def test_a_call_with_encrypted_media_is_put_on_hold_and_taken_up_again(
    the_world: World, tmp_path: Path, authority: Authority
) -> None:
    place = the_world["baresip-tcp"]
    phone = a_baresip(the_world, place, tmp_path / "phone", authority, "tcp", encryption="srtp-mand")
    with psap_behind_a_provider(place, tmp_path, "srtp-mand") as (psap, sbc), phone:
        phone.dial("911")
        phone.wait_for("CALL_ESTABLISHED")
        psap.wait_for("CALL_ESTABLISHED")
        for turn in ("hold", "resume"):
            time.sleep(0.5)
            before = len(sbc.said("RX ACK"))
            phone.command(turn)
            wait_until(lambda before=before: len(sbc.said("RX ACK")) > before)  # type: ignore[misc]  # a default binds
        time.sleep(TALK)
        phone.command("hangup")
        psap.wait_for("CALL_CLOSED")
        assert len(sbc.said("RX INVITE")) == 3
        assert not sbc.said("LOST")
        assert "m=audio" in psap.log
        assert "RTP/SAVP" in psap.log
    assert_heard(phone, psap)


def wait_until(happened: Callable[[], bool], timeout: float = 10) -> None:
    deadline = time.monotonic() + timeout
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def assert_heard(phone: Baresip | Linphone, psap: Baresip) -> None:
    """Each side heard the other's tone, and not its own."""
    assert best(phone.heard(), PSAP_TONE) > CLEAR, "the phone heard the PSAP"
    assert best(psap.heard(), PHONE_TONE) > CLEAR, "the PSAP heard the phone"
    assert best(phone.heard(), PHONE_TONE) < ABSENT, "and not its own echo"


@pytest.mark.long
@pytest.mark.peers("kamailio", "baresip")
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_the_psap_hangs_up_on_a_baresip_phone(
    the_world: World, tmp_path: Path, authority: Authority, transport: str
) -> None:
    place = the_world[f"baresip-{transport}"]
    phone = a_baresip(the_world, place, tmp_path / "phone", authority, transport)
    with psap_behind_a_provider(place, tmp_path) as (psap, sbc), phone:
        phone.dial("911")
        phone.wait_for("CALL_ESTABLISHED")
        psap.wait_for("CALL_ESTABLISHED")
        psap.command("hangup")
        phone.wait_for("CALL_CLOSED")
        assert not sbc.said("LOST")


def a_linphone(the_world: World, place: Place, folder: Path, authority: Authority, transport: str) -> Linphone:
    return Linphone(
        folder,
        at=endpoint("127.0.0.1"),
        user=place.device,
        hertz=PHONE_TONE,
        proxy=f"localhost:{port_at_localhost(the_world)}" if transport == "tls" else str(place.router),
        transport=transport,
        ca=authority.certificate,
    )


@pytest.mark.peers("kamailio", "baresip", "linphonec")
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_linphone_and_the_psap_hear_each_other(
    the_world: World, tmp_path: Path, authority: Authority, transport: str
) -> None:
    place = the_world[f"linphone-{transport}"]
    phone = a_linphone(the_world, place, tmp_path / "phone", authority, transport)
    with psap_behind_a_provider(place, tmp_path) as (psap, sbc), phone:
        phone.dial("911")
        psap.wait_for("CALL_ESTABLISHED")
        phone.talk()
        time.sleep(TALK)
        phone.hang_up()
        psap.wait_for("CALL_CLOSED")
        assert place.callback in sbc.wait_for(" 911 asserted=")
        assert not sbc.said("LOST")
    assert_heard(phone, psap)


@pytest.mark.long
@pytest.mark.peers("kamailio", "baresip", "linphonec")
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_the_psap_hangs_up_on_a_linphone(
    the_world: World, tmp_path: Path, authority: Authority, transport: str
) -> None:
    place = the_world[f"linphone-{transport}"]
    phone = a_linphone(the_world, place, tmp_path / "phone", authority, transport)
    with psap_behind_a_provider(place, tmp_path) as (psap, sbc), phone:
        phone.dial("911")
        psap.wait_for("CALL_ESTABLISHED")
        phone.wait_for("LinphoneCallStreamsRunning")
        psap.command("hangup")
        phone.wait_for("LinphoneCallEnd")
        assert not sbc.said("LOST")


@pytest.mark.peers("linphonec")
def test_a_linphone_does_not_talk_to_a_router_whose_certificate_it_does_not_trust(
    the_world: World, tmp_path: Path
) -> None:
    place = the_world["linphone-tls"]
    stranger = Authority(tmp_path / "stranger")
    phone = a_linphone(the_world, place, tmp_path / "phone", stranger, "tls")
    with phone:
        phone.dial("911")
        phone.wait_for("LinphoneCallError")
