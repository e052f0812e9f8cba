"""What must have happened in a call of `edge911 demo`, checked on what the actors saw and on the router's record."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from e911.notice import address_lines
from router.records.psap_view import Ali, body_parts, location_part
from simulations.actor import Actor
from simulations.calls import OutgoingCall
from simulations.demo_world import RELAY_NUMBER, Extension, World
from simulations.front_desk import Mail
from simulations.psap import Psap
from sip.message import Request, Response


@dataclass(slots=True, kw_only=True)
class Check:
    """One group of expectations: what holds where all is well, and what does not."""

    name: str
    says: str
    problems: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """True where nothing is wrong."""
        return not self.problems

    def expect(self, holds: bool, problem: str) -> None:
        """Note a problem where something does not hold."""
        if not holds:
            self.problems.append(problem)


@dataclass(slots=True, kw_only=True)
class Evidence:
    """What is known of one call after its end."""

    world: World
    extension: Extension
    taker: Psap
    """Who ought to have taken it."""
    route: str
    """The name of that route."""
    phone: Actor
    call: OutgoingCall
    trunk_call: OutgoingCall | None
    caller_hangs_up: bool
    record: dict[str, Any] | None = None
    record_problem: str = ""

    @property
    def trunk_call_id(self) -> bytes:
        """The Call-ID with which the call reached the router, and left it."""
        made = self.trunk_call
        return made.request.call_id if made is not None and made.request is not None else b""

    def invites_at(self, psap: Psap) -> list[Request]:
        """This call's INVITEs at an answerer, as they were on the wire."""
        return [invite for invite in psap.invites if invite.call_id == self.trunk_call_id]

    @property
    def invite(self) -> Request | None:
        """The one at the expected taker."""
        return next(iter(self.invites_at(self.taker)), None)

    @property
    def screen(self) -> Ali | None:
        """What its call-taker saw."""
        for offered, screen in zip(self.taker.offered, self.taker.screens, strict=True):
            if offered.request is not None and offered.request.call_id == self.trunk_call_id:
                return screen
        return None

    @property
    def notices(self) -> list[Mail]:
        """The mails that tell of this call; one that a failed call adds ("did not go through") is not among them."""
        return [mail for mail in self.world.desk.mails if is_notice_of(self.extension, mail)]

    @property
    def mail(self) -> Mail | None:
        """The notice."""
        return next(iter(self.notices), None)


def is_notice_of(extension: Extension, mail: Mail) -> bool:
    """True for the notice that this phone dialled 911."""
    return mail.subject.startswith("911 dialled") and f"({extension.number})" in mail.subject


def check_provider(seen: Evidence) -> Check:
    """911 arrived at the expected provider, once, and nowhere else."""
    check = Check(name="Provider", says=f"{seen.taker.name} was dialled as sip:911@, once; nobody else was")
    _expect_taker(check, seen)
    if seen.invite is not None:
        uri = seen.invite.uri.decode("latin-1")
        check.expect(uri == f"sip:911@{seen.taker.hostport}", f"the Request-URI was {uri}")
    return check


def check_relay(seen: Evidence) -> Check:
    """The relay centre was dialled by its number, with no location and no mark of an emergency."""
    check = Check(name="Basic 911", says=f"relay dialled as {RELAY_NUMBER}, once; no E911 provider was")
    _expect_taker(check, seen)
    if seen.invite is not None:
        uri = seen.invite.uri.decode("latin-1")
        check.expect(uri == f"sip:{RELAY_NUMBER}@{seen.taker.hostport}", f"the Request-URI was {uri}")
        check.expect(not seen.invite.has("geolocation"), "it carried a Geolocation")
        check.expect(len(body_parts(seen.invite)) == 1, "something was added to the body")
    return check


def _expect_taker(check: Check, seen: Evidence) -> None:
    count = len({invite.via.branch for invite in seen.invites_at(seen.taker)})
    call_id = seen.call.request.call_id if seen.call.request is not None else b""
    was_refused = 503 in _statuses(seen.phone, call_id, b"INVITE", sent=False)
    rounds = (1, 2) if was_refused else (1,)  # where all refuse, they are asked once more
    check.expect(count in rounds, f"{seen.taker.name} got {count} INVITEs")
    for other in seen.world.answerers:
        if other is not seen.taker:
            count = len(seen.invites_at(other))
            check.expect(
                not count, f"{other.name} was called too" if count == 1 else f"{other.name}: {count} INVITEs"
            )


def check_location(seen: Evidence) -> Check:
    """The registered location arrived as a PIDF-LO by value (RFC 4119, 5491, 6442)."""
    expected = seen.extension.location
    check = Check(name="Location", says="PIDF-LO with the registered address, named by Geolocation")
    invite, screen = seen.invite, seen.screen
    if invite is None or screen is None:
        check.expect(False, "no INVITE to look at")
        return check
    check.expect(location_part(invite) is not None, "no body part that Geolocation names")
    check.expect(screen.civic == expected, f"the civic address was {screen.civic}")
    check.expect(screen.point == seen.extension.point, f"the coordinates were {screen.point}")
    check.expect(screen.method == "Manual", f"the method was {screen.method or 'missing'}, not Manual")
    check.expect(bool(screen.provided_by), "provided-by is missing")
    routing = invite.first("geolocation-routing")
    check.expect(routing == b"yes", f"Geolocation-Routing was {routing!r}")
    return check


def check_identity(seen: Evidence, *, marked: bool) -> Check:
    """The callback number, shown once; and on an E911 route the identifiers and the priority of NENA i3."""
    number = seen.extension.callback
    says = f"{number} in P-Asserted-Identity"
    check = Check(name="Callback", says=says + ("; emergency ids, esnet.1" if marked else ""))
    invite, screen = seen.invite, seen.screen
    if invite is None or screen is None:
        check.expect(False, "no INVITE to look at")
        return check
    identities = invite.values("p-asserted-identity")
    check.expect(len(identities) == 1, f"{len(identities)} P-Asserted-Identity values")
    check.expect(screen.callback == number, f"the callback number was {screen.callback or 'missing'}")
    check.expect(screen.name == seen.extension.name, f"the name was {screen.name or 'missing'}")
    if marked:
        info = b", ".join(invite.values("call-info"))
        for purpose in (b"emergency-CallId", b"emergency-IncidentId"):
            check.expect(purpose in info, f"Call-Info without {purpose.decode()}")
        priority = invite.values("resource-priority")
        check.expect(priority == [b"esnet.1"], f"Resource-Priority was {priority}")
    return check


def check_sdp(seen: Evidence) -> Check:
    """The session description came as the phone sent it."""
    check = Check(name="SDP", says="byte for byte as the phone sent it")
    sent = seen.call.request.body if seen.call.request is not None else b""
    if seen.invite is None:
        check.expect(False, "no INVITE to look at")
        return check
    parts = [part.data for part in body_parts(seen.invite) if part.media_type == b"application/sdp"]
    check.expect(len(parts) == 1, f"{len(parts)} SDP parts")
    check.expect(parts[:1] == [sent], "it is not what the phone sent")
    return check


def check_signalling(seen: Evidence) -> Check:
    """100, 180, 200, ACK, some talk, BYE, 200: at both ends."""
    who = "the phone" if seen.caller_hangs_up else f"{seen.taker.name}"
    check = Check(name="Call", says=f"100, 180, 200, ACK; {who} hung up, BYE answered")
    call_id = seen.call.request.call_id if seen.call.request is not None else b""
    heard = _statuses(seen.phone, call_id, b"INVITE", sent=False)
    check.expect(100 in heard, "the phone heard no 100 Trying")
    check.expect(180 in heard, "the phone heard no ringing")
    check.expect(200 in heard, f"the call was not answered{_because(seen, heard)}")
    at_taker = seen.trunk_call_id
    check.expect(_count(seen.taker, at_taker, b"ACK") > 0, f"no ACK arrived at {seen.taker.name}")
    if seen.caller_hangs_up:
        check.expect(_count(seen.taker, at_taker, b"BYE") > 0, f"no BYE arrived at {seen.taker.name}")
        check.expect(200 in _statuses(seen.phone, call_id, b"BYE", sent=False), "the phone's BYE got no 200")
    else:
        check.expect(_count(seen.phone, call_id, b"BYE") > 0, "no BYE arrived at the phone")
        answered = 200 in _statuses(seen.taker, at_taker, b"BYE", sent=False)
        check.expect(answered, f"the BYE of {seen.taker.name} got no 200")
    for actor in (seen.phone, seen.world.pbx, seen.taker):
        check.expect(not actor.faults, f"the simulation itself failed at {actor.name}: {actor.faults[:1]}")
    return check


def check_notice(seen: Evidence) -> Check:
    """One mail at the front desk that says who, when, where, and which number to ring back (47 CFR 9.16(b)(2))."""
    who, location = seen.extension, seen.extension.location
    place = "location" if location else "no location known"
    check = Check(name="Notice", says=f"one mail: who, when, {place}, callback {who.callback}")
    count = len(seen.notices)
    refused = seen.world.desk.refused
    words = "no mail arrived" + (": the desk refuses mail" if refused else "")
    check.expect(count == 1, f"{count} mails arrived" if count else words)
    mail = seen.mail
    if mail is None:
        return check
    check.expect("edge911@example.com" in mail.sender, f"From was {mail.sender}")
    check.expect("desk@example.com" in mail.recipient, f"To was {mail.recipient}")
    wanted = [who.name, who.number, who.callback, who.site_name, "America/New_York"]
    wanted += address_lines(location) if location else ["none is known"]
    if who.point is not None:
        wanted.append(f"{who.point.latitude:.6f}, {who.point.longitude:.6f}")
    missing = [text for text in wanted if text not in mail.text]
    check.expect(not missing, f"not in the text: {', '.join(missing)}")
    return check


def check_record(seen: Evidence) -> Check:
    """`edge911 calls show` knows the same."""
    by = "caller" if seen.caller_hangs_up else "provider"
    check = Check(name="Record", says=f"answered by {seen.route}, ended by the {by}, notice delivered")
    record = seen.record
    if record is None:
        check.expect(False, seen.record_problem or "no record of this call")
        return check
    check.expect(record["outcome"] == "answered", f"outcome is {record['outcome'] or 'empty'} ({record['status']})")
    check.expect(record["route"] == seen.route, f"route is {record['route'] or 'empty'}")
    check.expect(record["finished_by"] == by, f"ended by {record['finished_by'] or 'nobody'}, not the {by}")
    source = (record["location"] or {}).get("source", "none")
    expected = "registered" if seen.extension.location else "none"
    check.expect(source == expected, f"location from {source}, not {expected}")
    outcomes = [f"{entry['contact']} {entry['state']}" for entry in record["notices"]]
    check.expect(outcomes == ["front-desk delivered"], f"notices: {', '.join(outcomes) or 'none'}")
    if seen.mail is not None:
        check.expect(record["id"] in seen.mail.text, "the mail names another record")
    return check


def check_failover(seen: Evidence, *, dead: str) -> Check:
    """The dead provider was tried first, was known to be dead at once, and then the next one was tried."""
    check = Check(name="Failover", says="")
    if seen.record is None:
        check.expect(False, seen.record_problem or "no record of this call")
        return check
    steps = seen.record["routes"]
    failed = [step for step in steps if step["route"] == dead and step["outcome"] == "unreachable"]
    started = [step for step in steps if step["route"] == seen.route and step["outcome"] == "started"]
    check.expect(bool(failed), f"the record does not say that {dead} was unreachable")
    check.expect(bool(started), f"the record does not say that {seen.route} was tried")
    if failed and started:
        check.says = (
            f"{dead} found closed after {failed[0]['after'] * 1000:.1f} ms, "
            f"{seen.route} tried at {started[0]['after'] * 1000:.1f} ms"
        )
    return check


def _because(seen: Evidence, heard: Sequence[int]) -> str:
    final = [status for status in heard if status >= 300 and status != 487]
    if final:
        return f": {final[-1]}"
    return ": it only rang" if 180 in heard else f": {seen.call.failure}" if seen.call.failure else ""


def _statuses(actor: Actor, call_id: bytes, method: bytes, *, sent: bool) -> list[int]:
    return [
        seen.message.status
        for seen in actor.log
        if seen.sent is sent
        and isinstance(seen.message, Response)
        and seen.message.method == method
        and seen.call_id == call_id
    ]


def _count(actor: Actor, call_id: bytes, method: bytes) -> int:
    """How many requests of a method arrived in a call."""
    return sum(
        1
        for seen in actor.log
        if not seen.sent
        and isinstance(seen.message, Request)
        and seen.message.method == method
        and seen.call_id == call_id
    )
