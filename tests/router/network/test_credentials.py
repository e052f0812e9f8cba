"""A trunk that asks who we are (401, 407) on an emergency route gets its answer; the caller hears nothing of it."""

import re
from pathlib import Path
from typing import Any

import pytest

from e911.record import RouteEvent, RouteOutcome
from tests.support.call_world import (
    CONFIG,
    PHONE,
    PROVIDER_A,
    PROVIDER_B,
    RELAY,
    CallWorld,
    Sent,
    cancel_of,
    invite,
    of,
    one,
    response,
)

PASSWORD = "s3cret/of/ours"
CHALLENGE = 'Digest realm="ers.example.com", nonce="n1", qop="auth", algorithm=SHA-256'


def trunks_with(*trunks: str) -> dict[str, Any]:
    changed: dict[str, Any] = dict(CONFIG["trunks"])
    for name in trunks:
        changed[name] = {**changed[name], "auth": {"username": "edge", "password": PASSWORD}}
    return changed


def world_with(folder: Path, *trunks: str) -> CallWorld:
    return CallWorld(folder, trunks=trunks_with(*trunks))


@pytest.fixture
def world(tmp_path: Path) -> CallWorld:
    return world_with(tmp_path, "ers-a")


def dial(world: CallWorld, **options: Any) -> Sent:
    return one(world.receive(invite(**options)), "INVITE", PROVIDER_A)


def challenge(world: CallWorld, sent: Sent, status: int = 401, *values: str) -> list[Sent]:
    field = "WWW-Authenticate" if status == 401 else "Proxy-Authenticate"
    lines = tuple(f"{field}: {value}" for value in values or (CHALLENGE,))
    return world.receive(response(sent.message, status, extra=lines), sent.to, sent.transport)


@pytest.mark.parametrize(("status", "field"), [(401, "authorization"), (407, "proxy-authorization")])
def test_the_same_invite_with_credentials(world: CallWorld, status: int, field: str) -> None:
    first = dial(world)
    out = challenge(world, first, status)
    assert one(out, "ACK").to == PROVIDER_A
    again = one(out, "INVITE", PROVIDER_A)
    assert not [sent for sent in out if not sent.message.is_request], "the caller hears nothing of it"
    value = again.message.get(field)
    assert 'username="edge"' in value
    assert f'uri="{again.message.start.split()[1]}"' in value
    assert PASSWORD not in again.message.raw.decode()
    plain = [line for line in again.message.raw.split(b"\r\n") if not line.lower().startswith(field.encode())]
    before = first.message.raw.split(b"\r\n")
    differing = [line for line in plain if line not in before]
    assert [line.partition(b":")[0] for line in differing] == [b"Via"], "another branch, and else what it was"
    assert again.message.get("cseq") == first.message.get("cseq")
    answered = world.receive(response(again.message, 200), PROVIDER_A)
    assert one(answered, 200)
    assert [event.outcome for event in world.events(RouteEvent)] == [
        RouteOutcome.STARTED,
        RouteOutcome.RETRIED_WITH_CREDENTIALS,
        RouteOutcome.STARTED,
        RouteOutcome.ANSWERED,
    ]


def test_a_stale_nonce_is_answered_once_more(world: CallWorld) -> None:
    second = one(challenge(world, dial(world)), "INVITE", PROVIDER_A)
    stale = CHALLENGE.replace("n1", "n2") + ", stale=true"
    third = one(challenge(world, second, 401, stale), "INVITE", PROVIDER_A)
    assert third.message.get("authorization").count("Digest") == 1
    assert 'nonce="n2"' in third.message.get("authorization")
    assert len({sent.message.branch for sent in (second, third)}) == 2
    assert one(challenge(world, third, 401, stale), "INVITE", PROVIDER_B), "that is enough"


@pytest.mark.parametrize(
    "value",
    ['Basic realm="x"', 'Digest realm="x", nonce="n", algorithm=SHA3-512', 'Digest realm="x", nonce="n", qop="new"'],
)
def test_a_challenge_that_cannot_be_answered_is_a_refusal(world: CallWorld, value: str) -> None:
    assert one(challenge(world, dial(world), 401, value), "INVITE", PROVIDER_B)


def test_refused_credentials_lead_to_the_next_route_and_say_so(world: CallWorld) -> None:
    second = one(challenge(world, dial(world)), "INVITE", PROVIDER_A)
    assert one(challenge(world, second), "INVITE", PROVIDER_B)
    (refused,) = [event for event in world.events(RouteEvent) if event.outcome is RouteOutcome.REFUSED]
    assert (refused.status, refused.reason) == (401, "credentials-refused")


def in_call(answer: Sent, method: str, *extra: str, cseq: int = 2) -> bytes:
    """A request of the phone in the call that this 200 made."""
    said = answer.message
    lines = [
        f"{method} {said.get('contact').partition('<')[2].partition('>')[0]} SIP/2.0",
        f"Via: SIP/2.0/UDP {PHONE[0]}:{PHONE[1]};branch=z9hG4bKin{method}{cseq}",
        "Max-Forwards: 70",
        *(f"Route: {value}" for value in reversed(said.all("record-route"))),
        f"From: {said.get('from')}",
        f"To: {said.get('to')}",
        f"Call-ID: {said.call_id}",
        f"CSeq: {cseq} {method}",
        *extra,
        "Content-Length: 0",
        "",
        "",
    ]
    return "\r\n".join(lines).encode()


def up(world: CallWorld, uri: str = "") -> Sent:
    """A call that was answered at once; its 200."""
    sent = one(world.receive(invite(*([uri] if uri else []))), "INVITE")
    answer = one(world.receive(response(sent.message, 200), sent.to), 200)
    world.receive(in_call(answer, "ACK", cseq=1))
    return answer


@pytest.mark.parametrize("method", ["BYE", "INVITE", "PRACK", "UPDATE", "INFO"])
@pytest.mark.parametrize(("status", "field"), [(401, "authorization"), (407, "proxy-authorization")])
def test_a_challenge_within_the_call_is_answered_too(world: CallWorld, method: str, status: int, field: str) -> None:
    first = one(world.receive(in_call(up(world), method)), method, PROVIDER_A)
    out = challenge(world, first, status)
    again = one(out, method, PROVIDER_A)
    assert not [sent for sent in out if not sent.message.is_request], "the caller hears nothing of it"
    assert f'uri="{again.message.start.split()[1]}"' in again.message.get(field)
    assert again.message.get("cseq") == first.message.get("cseq")
    assert again.message.branch != first.message.branch
    assert one(world.receive(response(again.message, 200), PROVIDER_A), 200)


def test_within_the_call_a_second_challenge_is_the_callers(world: CallWorld) -> None:
    first = one(world.receive(in_call(up(world), "BYE")), "BYE", PROVIDER_A)
    again = one(challenge(world, first), "BYE", PROVIDER_A)
    refused = challenge(world, again)
    assert one(refused, 401)
    assert not of(refused, "BYE")


def test_whoever_has_credentials_of_his_own_is_not_spoken_for(world: CallWorld) -> None:
    own = 'Authorization: Digest username="pbx", realm="r", nonce="n", uri="sip:x", response="0"'
    first = one(world.receive(in_call(up(world), "BYE", own)), "BYE", PROVIDER_A)
    assert one(challenge(world, first), 401)


def test_within_an_ordinary_call_the_challenge_is_passed_on(tmp_path: Path) -> None:
    world = world_with(tmp_path, "carrier")
    first = one(world.receive(in_call(up(world, "sip:2125550177@10.0.0.5"), "BYE")), "BYE")
    assert one(challenge(world, first), 401)


def test_a_trunk_without_auth_is_not_answered(world: CallWorld) -> None:
    second = one(world.unreachable(dial(world)), "INVITE", PROVIDER_B)
    assert one(challenge(world, second), "INVITE", RELAY)


def test_the_caller_is_not_asked_for_what_only_we_can_know(tmp_path: Path) -> None:
    world = world_with(tmp_path, "ers-a", "ers-b", "relay")
    sent = dial(world)
    for place in (PROVIDER_A, PROVIDER_B, RELAY):
        assert sent.to == place
        again = one(challenge(world, sent), "INVITE", place)
        out = challenge(world, again)
        if place != RELAY:
            sent = one(out, "INVITE")
    assert one(out, 503)


def test_what_the_caller_can_mend_is_still_passed_on_behind_a_challenge(tmp_path: Path) -> None:
    world = world_with(tmp_path, "ers-a", "ers-b", "relay")
    sent = dial(world)
    for place in (PROVIDER_A, PROVIDER_B, RELAY):
        again = one(challenge(world, sent), "INVITE", place)
        out = world.receive(response(again.message, 488), place)
        if place != RELAY:
            sent = one(out, "INVITE")
    assert one(out, 488)


def test_credentials_and_location_are_two_matters(world: CallWorld) -> None:
    second = one(challenge(world, dial(world)), "INVITE", PROVIDER_A)
    third = one(world.receive(response(second.message, 424), PROVIDER_A), "INVITE", PROVIDER_A)
    assert not third.message.all("geolocation")
    fourth = one(challenge(world, third), "INVITE", PROVIDER_A)
    assert not fourth.message.all("geolocation")
    assert fourth.message.get("authorization")
    assert one(world.receive(response(fourth.message, 200), PROVIDER_A), 200)


def test_the_same_challenge_gets_the_same_answer_after_a_restart(world: CallWorld) -> None:
    raw = invite()
    before = one(challenge(world, one(world.receive(raw), "INVITE")), "INVITE")
    world.start(trunks=trunks_with("ers-a"))
    after = one(challenge(world, one(world.receive(raw), "INVITE")), "INVITE")
    assert after.message.raw == before.message.raw


def test_being_asked_makes_no_route_longer(world: CallWorld) -> None:
    first = dial(world)
    world.advance(1.9)
    one(challenge(world, first), "INVITE", PROVIDER_A)
    assert not of(world.advance(0.45), "INVITE", PROVIDER_B), "time for an answer"
    assert of(world.advance(0.1), "INVITE", PROVIDER_B)


def test_a_cancel_while_challenged_ends_the_call(world: CallWorld) -> None:
    raw = invite()
    first = one(world.receive(raw), "INVITE")
    again = one(challenge(world, first), "INVITE", PROVIDER_A)
    assert one(world.receive(cancel_of(raw)), 487)
    assert one(world.receive(response(again.message, 180), PROVIDER_A), "CANCEL").to == PROVIDER_A
    assert not of(world.advance(5), "INVITE", PROVIDER_B)


def test_the_password_is_shown_nowhere(world: CallWorld) -> None:
    config = world.router.rules.config
    assert PASSWORD not in repr(config)
    assert PASSWORD not in str(config.trunks["ers-a"])
    assert re.search("password", repr(config.trunks["ers-a"].auth)) is None
