"""Who may assert an identity, and who gets to see it (RFC 3325), and the signature over it (RFC 8224).

Proved on what leaves: ordinary calls between the four kinds of neighbours, with each Privacy; emergency calls by
profile; Identity fields that sign From, P-Asserted-Identity, or cannot be read.
"""

from base64 import urlsafe_b64encode
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from tests.support.call_world import CARRIER, CONFIG, PBX, PHONE, CallWorld, invite, one, response

ASSERTED = "P-Asserted-Identity: <sip:+12125550142@pbx.example.com>"


def trunks(**more: Any) -> dict[str, Any]:
    return {**CONFIG["trunks"], "carrier": {**CONFIG["trunks"]["carrier"], **more}}


def passport(number: str) -> str:
    claims = urlsafe_b64encode(orjson.dumps({"orig": {"tn": number}, "dest": {"tn": ["12125550177"]}, "iat": 1}))
    return (
        f"Identity: e30.{claims.decode().rstrip('=')}.c2ln;info=<https://cert.example.com/a.pem>;alg=ES256;ppt=shaken"
    )


@pytest.mark.parametrize(
    ("source", "carrier_trust", "privacy", "stays"),
    [
        # Not said: as it came, unless privacy is asked for.
        (PBX, None, "", True),
        (PBX, None, "Privacy: none", True),
        (PBX, None, "Privacy: id", False),
        (PBX, None, "Privacy: user; id", False),
        (PHONE, None, "", True),
        (PHONE, None, "Privacy: id;critical", False),
        # Outside the trust domain, and said so.
        (PBX, False, "", False),
        (PBX, False, "Privacy: id", False),
        (PBX, False, "Privacy: none", True),
        (PHONE, False, "", False),
        # Within it.
        (PBX, True, "", True),
        (PBX, True, "Privacy: id;critical", True),
        (PHONE, True, "", True),
    ],
)
def test_an_ordinary_call_to_the_carrier(
    tmp_path: Path, source: tuple[str, int], carrier_trust: bool | None, privacy: str, stays: bool
) -> None:
    world = CallWorld(tmp_path, trunks=trunks() if carrier_trust is None else trunks(trust_identity=carrier_trust))
    extra = (ASSERTED, "P-Preferred-Identity: <sip:1@x>", "Remote-Party-ID: <sip:2@x>;privacy=full")
    raw = invite("sip:2125550177@10.0.0.5", extra=(*extra, privacy) if privacy else extra, source=source)
    sent = one(world.receive(raw, source), "INVITE", CARRIER).message
    assert sent.all("p-asserted-identity") == ([ASSERTED.partition(": ")[2]] if stays else [])
    assert sent.all("p-preferred-identity") == ["<sip:1@x>"], "the rest of an ordinary call stays as it came"
    assert sent.all("remote-party-id") == ["<sip:2@x>;privacy=full"]
    assert sent.all("privacy") == ([privacy.partition(": ")[2]] if privacy else [])


@pytest.mark.parametrize("privacy", ["", "Privacy: none"])
def test_what_a_phone_outside_the_trusted_networks_asserts_goes_to_nobody(tmp_path: Path, privacy: str) -> None:
    networks = {**CONFIG["networks"], "trust_identity": ["10.0.0.10/32"]}
    world = CallWorld(tmp_path, networks=networks, trunks=trunks(trust_identity=True))
    extra = (ASSERTED, privacy) if privacy else (ASSERTED,)
    raw = invite("sip:2125550177@10.0.0.5", extra=extra, source=PHONE)
    assert not one(world.receive(raw, PHONE), "INVITE", CARRIER).message.all("p-asserted-identity")
    raw = invite("sip:2125550177@10.0.0.5", extra=extra, source=PBX)
    assert one(world.receive(raw, PBX), "INVITE", CARRIER).message.all("p-asserted-identity")


def test_a_call_from_the_carrier_to_the_pbx(tmp_path: Path) -> None:
    for trusted in (False, True):
        world = CallWorld(tmp_path, trunks=trunks(trust_identity=trusted))
        raw = invite("sip:2125550142@10.0.0.5", extra=(ASSERTED,), source=CARRIER)
        sent = one(world.receive(raw, CARRIER), "INVITE", PBX).message
        assert bool(sent.all("p-asserted-identity")) is trusted


@pytest.mark.parametrize(
    ("carrier_trust", "privacy", "stays"),
    [
        (None, "", True),
        (None, "Privacy: id", False),
        (False, "", False),
        (False, "Privacy: id", False),
        (False, "Privacy: none", True),
        (True, "Privacy: id", True),
    ],
)
@pytest.mark.parametrize("is_restarted", [False, True])
def test_who_answers_is_told_as_who_calls(
    tmp_path: Path, carrier_trust: bool | None, privacy: str, stays: bool, is_restarted: bool
) -> None:
    sections = {"trunks": trunks() if carrier_trust is None else trunks(trust_identity=carrier_trust)}
    world = CallWorld(tmp_path, **sections)
    raw = invite("sip:2125550142@10.0.0.5", source=CARRIER)
    sent = one(world.receive(raw, CARRIER), "INVITE", PBX).message
    if is_restarted:
        world.restart(**sections)
    extra = (ASSERTED, privacy) if privacy else (ASSERTED,)
    for status in (180, 200, 200):  # the last as a copy
        answer = one(world.receive(response(sent, status, extra=extra), PBX), status, CARRIER).message
        assert answer.all("p-asserted-identity") == ([ASSERTED.partition(": ")[2]] if stays else [])
        assert answer.all("privacy") == ([privacy.partition(": ")[2]] if privacy else [])


def test_what_a_distrusted_carrier_says_of_who_answered_goes_to_nobody(tmp_path: Path) -> None:
    world = CallWorld(tmp_path, trunks=trunks(trust_identity=False))
    sent = one(world.receive(invite("sip:2125550177@10.0.0.5", source=PBX), PBX), "INVITE", CARRIER).message
    for status in (180, 200, 200):
        answer = one(world.receive(response(sent, status, extra=(ASSERTED,)), CARRIER), status, PBX).message
        assert not answer.all("p-asserted-identity")


def test_each_trunk_in_turn_gets_what_it_may_see(tmp_path: Path) -> None:
    more = {**trunks(trust_identity=False), "ers-b": {**CONFIG["trunks"]["ers-b"], "trust_identity": True}}
    world = CallWorld(tmp_path, trunks=more, routes={"outbound": ["carrier", "ers-b"], "inbound": ["pbx"]})
    raw = invite("sip:2125550177@10.0.0.5", extra=(ASSERTED,), source=PBX)
    assert not one(world.receive(raw, PBX), "INVITE", CARRIER).message.all("p-asserted-identity")
    later = one(world.advance(4.1), "INVITE", ("203.0.113.32", 5060))
    assert later.message.all("p-asserted-identity")


@pytest.mark.parametrize(
    ("identity", "stays"),
    [
        (passport("12125550142"), False),
        (passport("4102"), True),
        (passport("13125550100"), True),
        ("Identity: ..c2ln;info=<https://cert.example.com/a.pem>", True),
        ("Identity: e30.%%%.x", True),
        ('y: "abc"', True),
    ],
)
def test_an_identity_goes_with_the_number_it_signs(tmp_path: Path, identity: str, stays: bool) -> None:
    """From says 4102; +12125550142 was in P-Asserted-Identity alone, which does not go to this carrier."""
    world = CallWorld(tmp_path, trunks=trunks(trust_identity=False))
    extra = (ASSERTED, identity)
    sent = one(world.receive(invite("sip:2125550177@10.0.0.5", extra=extra, source=PBX), PBX), "INVITE").message
    assert (identity.encode() in sent.lines) is stays
    kept = one(world.receive(invite("sip:2125550177@10.0.0.5", extra=(identity,), source=PBX), PBX), "INVITE").message
    assert identity.encode() in kept.lines, "nothing was edited here"


@pytest.mark.parametrize(("number", "stays"), [("12125550142", True), ("12125550199", False)])
def test_of_an_emergency_call_too(tmp_path: Path, number: str, stays: bool) -> None:
    """The callback number of the device is +12125550142: a signature over another asserted number is void."""
    world = CallWorld(tmp_path)
    extra = (f"P-Asserted-Identity: <sip:+{number}@pbx.example.com>", passport(number), passport("4102"))
    sent = one(world.receive(invite(extra=extra)), "INVITE").message
    assert (passport(number).encode() in sent.lines) is stays
    assert passport("4102").encode() in sent.lines, "what signs From is left alone"


@pytest.mark.parametrize(
    ("wish", "preferred", "remote"),
    [
        ({}, [], ["<sip:2@x>"]),
        ({"preferred_identity": "keep", "remote_party_id": "remove"}, ["<sip:1@x>"], []),
        (
            {"preferred_identity": "callback", "remote_party_id": "callback"},
            ['"Desk" <sip:+12125550142@edge.example.com;user=phone>'],
            ['"Desk" <sip:+12125550142@edge.example.com;user=phone>;party=calling;screen=yes;privacy=off'],
        ),
    ],
)
def test_the_profile_says_what_else_names_the_caller(
    tmp_path: Path, wish: dict[str, str], preferred: list[str], remote: list[str]
) -> None:
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "mine.yaml").write_text(yaml.safe_dump(wish or {"call_info": True}))
    routes = [{"name": "primary", "trunk": "ers-a", "profile": "mine"}]
    world = CallWorld(tmp_path, emergency={**CONFIG["emergency"], "routes": routes})
    extra = ("P-Preferred-Identity: <sip:1@x>", "Remote-Party-ID: <sip:2@x>")
    sent = one(world.receive(invite(extra=extra)), "INVITE").message
    assert sent.all("p-preferred-identity") == preferred
    assert sent.all("remote-party-id") == remote
    assert sent.all("p-asserted-identity") == ['"Desk" <sip:+12125550142@edge.example.com;user=phone>']


@pytest.mark.parametrize("privacy", ["full", "FULL", "name", "off"])
def test_a_remote_party_id_cannot_withhold_the_number_from_a_psap(tmp_path: Path, privacy: str) -> None:
    """Older gateways believe it before P-Asserted-Identity, and call the PSAP without a number."""
    world = CallWorld(tmp_path)
    value = f'"Joe" <sip:4199@x>;party=calling;screen=yes ; privacy={privacy}'
    sent = one(
        world.receive(invite(extra=(f"Remote-Party-ID: {value}", "P-Preferred-Identity: <sip:1@x>"))), "INVITE"
    )
    ways = [sent.message]
    for _ in range(2):
        sent = one(world.receive(response(sent.message, 503), sent.to), "INVITE")
        ways.append(sent.message)
    assert ways[-1].uri.startswith("sip:+12125550140@"), "the last is basic 911"
    for message in ways:
        assert message.all("remote-party-id") == ([value] if privacy == "off" else [])
        assert message.all("p-preferred-identity") == []
