"""The three calls of `edge911 demo`, played from start to finish on this machine alone.

Yields what happened as data (`CallReport`); how it is shown is the business of `simulations.demo_text` and of the
command.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from router.records.psap_view import Ali
from router.trace.ladder_view import Step
from simulations.calls import OutgoingCall
from simulations.demo_checks import (
    Check,
    Evidence,
    check_failover,
    check_identity,
    check_location,
    check_notice,
    check_provider,
    check_record,
    check_relay,
    check_sdp,
    check_signalling,
    is_notice_of,
)
from simulations.demo_world import DOCK, LAB, NORA, ROUTER, Extension, World
from simulations.edge import EdgeError
from simulations.front_desk import Mail
from simulations.ladder import ladder
from simulations.psap import Psap
from sip.message import Request, Response

ANSWER_SECONDS = 5.0
END_SECONDS = 5.0
TALK_SECONDS = 0.25
MAIL_SECONDS = 10.0
RECORD_SECONDS = 10.0
RECORD_WRITTEN_SECONDS = 0.3
"""Records are written beside the calls, a tenth of a second behind them."""

_RECORD_ID = re.compile(r"^Call record: (\w+)$", re.MULTILINE)

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One of the three calls."""

    number: int
    title: str
    story: str
    extension: Extension
    taker: str
    """Attribute of World: who ought to take it."""
    route: str
    caller_hangs_up: bool = True
    dead: str = ""
    """Route whose provider is switched off before the call."""


SCENES = (
    Scene(
        number=1,
        title="911 from a registered phone",
        story="Extension 4012 is registered on floor 12. It dials 911; the PBX passes the call to the router.",
        extension=NORA,
        taker="ers_a",
        route="ers-a",
    ),
    Scene(
        number=2,
        title="911 from a phone whose location nobody knows",
        story="Extension 4301 is registered nowhere, and its site has no address yet: basic 911.",
        extension=DOCK,
        taker="relay",
        route="relay-centre",
        caller_hangs_up=False,
    ),
    Scene(
        number=3,
        title="911 while the first provider is dead",
        story="ERS A has just been switched off: its port is closed. Extension 4027 dials 911.",
        extension=LAB,
        taker="ers_b",
        route="ers-b",
        dead="ers-a",
    ),
)


@dataclass(slots=True, kw_only=True)
class CallReport:
    """What happened in one call. Times are milliseconds since the phone sent its INVITE; None: it never did."""

    scene: Scene
    seen: Evidence
    screen: Ali | None
    steps: list[Step]
    lanes: list[str]
    mail: Mail | None
    checks: list[Check]
    record_checks: list[Check]
    """Of the router's own record; empty until `read_records`."""
    arrived_ms: float | None
    rang_ms: float | None
    answered_ms: float | None
    mail_ms: float | None

    @property
    def ok(self) -> bool:
        """True where everything is as it should be."""
        return all(check.ok for check in (*self.checks, *self.record_checks))


@dataclass(slots=True)
class Stage:
    """Where the demo is, for the message of a time-out."""

    name: str = "starting"
    told: Progress = field(default=lambda text: None)

    def say(self, text: str) -> None:
        """Go on to the next stage, and tell."""
        self.name = text
        self.told(text)


@asynccontextmanager
async def running_world(folder: Path, broken: frozenset[str], stage: Stage) -> AsyncIterator[World]:
    """The actors and the router, ready for calls; everything is ended and closed at the end, whatever happens.

    Raises EdgeError or OSError where that cannot be had.
    """
    world = World(folder, broken)
    try:
        stage.say("peers: PBX, E911 providers ERS A and ERS B, relay centre, front desk")
        await world.start_actors()
        stage.say("edge911 locations import, then edge911 run: a real router on SQLite")
        await world.start_router()
        yield world
    finally:
        await world.stop()


async def play(world: World, scene: Scene, stage: Stage) -> CallReport:
    """Play one call, from dialling to its end and the mail."""
    loop = asyncio.get_running_loop()
    stage.say(f"call {scene.number} of {len(SCENES)}: {scene.title}")
    if scene.dead:
        await world.ers_a.stop()
    taker: Psap = getattr(world, scene.taker)
    phone = await world.plug_in(scene.extension)
    refused_before = world.desk.refused
    offered_before = len(taker.offered)
    start = loop.time()
    call = phone.dial("911", world.pbx.address)
    await _through(call, caller_hangs_up=scene.caller_hangs_up)
    # Behind the PBX and the router the call ends a little later than at the phone.
    trunk_call = world.pbx.trunk_call_of(call)
    for leg in (trunk_call, *taker.offered[offered_before:]):
        if leg is not None:
            await _first(END_SECONDS, leg.ended)
    await _mail(world, scene.extension, refused_before, start + MAIL_SECONDS)
    seen = Evidence(
        world=world,
        extension=scene.extension,
        taker=taker,
        route=scene.route,
        phone=phone,
        call=call,
        trunk_call=trunk_call,
        caller_hangs_up=scene.caller_hangs_up,
    )
    return _report(scene, seen, start)


async def read_records(world: World, reports: Sequence[CallReport], stage: Stage) -> None:
    """`edge911 calls show` of every call, and what must be in it."""
    stage.say("edge911 calls show: what the router wrote down")
    await asyncio.sleep(RECORD_WRITTEN_SECONDS)
    deadline = asyncio.get_running_loop().time() + RECORD_SECONDS

    async def read(report: CallReport) -> None:
        seen = report.seen
        try:
            seen.record = await _record(world, seen, deadline)
        except EdgeError as error:
            seen.record_problem = str(error)
        report.record_checks = [check_record(seen)]
        if report.scene.dead:
            report.record_checks.append(check_failover(seen, dead=report.scene.dead))

    await asyncio.gather(*(read(report) for report in reports))


async def _through(call: OutgoingCall, *, caller_hangs_up: bool) -> None:
    """From ringing to the end of the call; a call that is not answered is given up."""
    answered = await _first(ANSWER_SECONDS, call.answered, call.ended)
    if answered and call.answered.is_set():
        if caller_hangs_up:
            await asyncio.sleep(TALK_SECONDS)
            await call.hang_up(seconds=END_SECONDS)
            return
        if await _first(END_SECONDS, call.ended):
            return
        await call.hang_up(seconds=END_SECONDS)
    elif not call.ended.is_set():
        call.cancel()
        await _first(END_SECONDS, call.ended)


async def _mail(world: World, extension: Extension, refused: int, deadline: float) -> None:
    """Wait for the notice, or until the desk has refused one."""
    loop = asyncio.get_running_loop()
    while not any(is_notice_of(extension, mail) for mail in world.desk.mails):
        if world.desk.refused > refused or loop.time() > deadline:
            return
        await asyncio.sleep(0.02)


async def _record(world: World, seen: Evidence, deadline: float) -> dict[str, Any] | None:
    """`edge911 calls show`, as soon as the record is whole: it is written beside the call, never before it."""
    loop = asyncio.get_running_loop()
    found = _RECORD_ID.search(seen.mail.text) if seen.mail is not None else None
    identifier = found[1] if found else await _record_id(world, seen.trunk_call_id, deadline)
    while identifier:
        record: dict[str, Any] = (await world.edge.json("calls", "show", identifier))["call"]
        is_whole = record["outcome"] not in ("", "answered") or record["finished_by"]
        told = record["notices"] and all(entry["attempts"] for entry in record["notices"])
        if (is_whole and told) or loop.time() > deadline:
            return record
    return None


async def _record_id(world: World, call_id: bytes, deadline: float) -> str:
    """The record of a SIP Call-ID, where no mail names it."""
    wanted = call_id.decode("latin-1")
    while True:
        calls = (await world.edge.json("calls", "list"))["calls"]
        found = next((str(call["id"]) for call in calls if call["call_id"] == wanted), "")
        if found or asyncio.get_running_loop().time() > deadline:
            return found


async def _first(seconds: float, *events: asyncio.Event) -> bool:
    """Wait for any of the events; False where none came in time."""
    waiting = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        done, _ = await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()
    return bool(done)


def _report(scene: Scene, seen: Evidence, start: float) -> CallReport:
    world = seen.world
    call_id = seen.call.request.call_id if seen.call.request is not None else b""
    steps = ladder(world.actors, {call_id, seen.trunk_call_id}, start, ROUTER)
    mail = seen.mail
    mail_ms = (mail.at - start) * 1000 if mail is not None else None
    if mail_ms is not None:
        told = Step(ms=round(mail_ms, 1), sender="", to="", label="front desk: the notice mail is accepted")
        steps = sorted([*steps, told], key=lambda step: step.ms)
    used = {step.sender for step in steps} | {step.to for step in steps}
    lanes = [name for name in ("phone", "PBX", ROUTER, "ERS A", "ERS B", "relay") if name in used]
    if scene.taker == "relay":
        checks = [check_relay(seen), check_identity(seen, marked=False)]
    else:
        checks = [check_provider(seen), check_location(seen), check_identity(seen, marked=True)]
    checks += [check_sdp(seen), check_signalling(seen), check_notice(seen)]
    return CallReport(
        scene=scene,
        seen=seen,
        screen=seen.screen,
        steps=steps,
        lanes=lanes,
        mail=mail,
        checks=checks,
        record_checks=[],
        arrived_ms=_when(seen.taker.log, seen.trunk_call_id, start, status=0),
        rang_ms=_when(seen.phone.log, call_id, start, status=180),
        answered_ms=_when(seen.phone.log, call_id, start, status=200),
        mail_ms=mail_ms,
    )


def _when(log: list[Any], call_id: bytes, start: float, *, status: int) -> float | None:
    """When an INVITE (status 0) or a response to it arrived, in milliseconds."""
    for seen in log:
        message = seen.message
        if seen.sent or seen.call_id != call_id or message is None or message.method != b"INVITE":
            continue
        if (status == 0 and isinstance(message, Request)) or (
            isinstance(message, Response) and message.status == status
        ):
            return float(seen.at - start) * 1000
    return None
