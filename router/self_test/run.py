"""Placing a test call, judging it, and writing down and telling what came of it."""

import asyncio
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from sqlalchemy import Connection

from config.load import LoadedConfig
from e911.record import RouteEvent, RouteOutcome
from router.journal.event_lines import decode_event
from router.journal.segments import Cursor, LineReader
from router.network.sources import parse_address
from router.notices.confirmations import request_alarm
from router.notices.receivers.sip_agent import SipAgent
from router.process.key import load_key
from router.self_test.call import Placed, TestCall, address_towards
from router.self_test.proof import Asked
from router.self_test.schedule import trunk_of
from router.self_test.shape import shape_of
from router.self_test.words import alarm_words
from router.store.engine import open_store, writing
from router.store.errors import StoreError
from router.store.self_tests import (
    ABANDONED_SECONDS,
    FAILED,
    PASSED,
    SelfTest,
    abandoned,
    claim,
    finish,
    forget,
    latest,
)

RECORD_SECONDS = 5.0
"""So long the journal may take to say how the call went."""

_NO_REFUSALS = (RouteOutcome.STARTED, RouteOutcome.RINGING, RouteOutcome.ANSWERED, RouteOutcome.CONFIRMED)

log = logging.getLogger("router.self_test")


class NotPossibleError(Exception):
    """No test call can be placed; the message says why and what to do."""


def run_test(loaded: LoadedConfig, agent: SipAgent, test: SelfTest) -> SelfTest | None:
    """Place it; what came of it. None where another node has begun the same. The database may be away: the test is
    placed and told all the same.

    Raises NotPossibleError.
    """
    config = loaded.config
    number = test_number(loaded)
    site = next((one for one in config.sites if one.id == test.site), None)
    test = replace(test, shape=shape_of(loaded, site, test.route) if site is not None else "")
    before: SelfTest | None = None
    is_stored = False
    try:
        with _writing(loaded.database_url) as conn:
            # Those that somebody broke off (Ctrl-C, kill) would stand as under way for ever.
            now = time.time()
            forget(conn, abandoned(conn, now), now - ABANDONED_SECONDS)
            before = latest(conn).get((test.site, test.route))
            if not claim(conn, test):
                return None
        is_stored = True
    except StoreError as error:
        log.warning("self-test-not-stored", extra={"event_fields": {"reason": error.reason}})
    key, _ = load_key(loaded.state_directory, config.node)
    reader = LineReader(loaded.state_directory / "journal")
    cursor = reader.end()
    section = config.self_test
    call = TestCall(
        agent,
        key,
        Asked(site=test.site, route=test.route),
        number=number,
        target=own_target(loaded),
        media_host=(section.media_address if section else None) or media_host(loaded, test.site, test.route),
        seconds=section.listen_seconds if section else 15.0,
    )
    placed = asyncio.run_coroutine_threadsafe(call.run(), agent.loop).result()
    record, route, said = _as_recorded(reader, cursor, placed.call_id, test.route)
    done = judged(test, placed, record, route, said)
    if is_stored:
        try:
            with _writing(loaded.database_url) as conn:
                finish(conn, done, placed.sound)
        except StoreError as error:
            log.warning("self-test-not-stored", extra={"event_fields": {"reason": error.reason}})
    _tell(loaded, done, before)
    return done


@contextmanager
def _writing(url: str) -> Iterator[Connection]:
    """One transaction on a connection that is closed after it, whatever comes of it. Raises StoreError."""
    engine = open_store(url)
    try:
        with writing(engine) as conn:
            yield conn
    finally:
        engine.dispose()


def judged(test: SelfTest, placed: Placed, call: str, route: str, said: str = "") -> SelfTest:
    """The verdict: answered, by the route that was tried, and a voice was heard. said: what the provider answered,
    where the router, for want of another route, answered something else."""
    reason = placed.reason
    heard = placed.read_back
    if not reason and placed.answered_at is None:
        reason = "not-answered"
    if not reason and test.route and route != test.route:
        reason = "other-route-answered" if route else "route-unknown"
    if not reason and heard is not None and not heard.is_good:
        reason = heard.heard.value
    return replace(
        test,
        ended_at=placed.ended_at,
        verdict=FAILED if reason else PASSED,
        reason=reason,
        words=(f"{said} ({test.route}); {placed.words}" if said and reason == "refused" else placed.words)[:300],
        answered_route=route,
        heard=heard.heard.value if heard else "",
        call_id=placed.call_id,
        call=call,
        seconds=heard.seconds if heard else 0.0,
        voice_seconds=heard.voice_seconds if heard else 0.0,
    )


def _tell(loaded: LoadedConfig, done: SelfTest, before: SelfTest | None) -> None:
    """An alarm where it failed, or where it passes again or otherwise than before."""
    level = logging.INFO if done.has_passed else logging.ERROR
    fields = {"site": done.site, "route": done.route, "reason": done.reason, "heard": done.heard, "call": done.call}
    log.log(level, "self-test-passed" if done.has_passed else "self-test-failed", extra={"event_fields": fields})
    changed = before is not None and (before.verdict, before.reason) != (done.verdict, done.reason)
    if done.has_passed and not changed:
        return
    site = next((one for one in loaded.config.sites if one.id == done.site), None)
    subject, body = alarm_words(done, before, site.name if site else done.site)
    try:
        request_alarm(
            loaded.state_directory,
            # Each its own: of one name only the first of a minute is told, and that may be that it works again.
            name=f"self-test {done.id.rpartition('.')[2]} {done.site} {done.route}",
            subject=subject,
            body=body,
            contacts=list(site.notify) if site and site.notify else None,
        )
    except OSError as error:
        log.error("self-test-not-told", extra={"event_fields": {"problem": str(error)}})


def _as_recorded(reader: LineReader, cursor: Cursor, call_id: str, tried: str) -> tuple[str, str, str]:
    """Record id and answering route of the call with this SIP Call-ID, and what the route that is tried said last
    that was no success, as the journal has it."""
    call = route = said = ""
    end = time.monotonic() + RECORD_SECONDS
    while call_id and time.monotonic() < end:
        lines, cursor = reader.read_lines(cursor, 1000)
        for line in lines:
            try:
                event = decode_event(line)
            except (KeyError, TypeError, ValueError, AttributeError):
                continue
            if getattr(event, "call_id", "") == call_id and event.type == "intent":
                call = event.id
            elif isinstance(event, RouteEvent) and event.id == call and event.route == tried:
                if event.outcome not in _NO_REFUSALS:
                    said = f"{event.status} {event.reason}".strip() if event.status else event.outcome.value
            elif event.type == "ended" and event.id == call and call:
                reader.close()
                return call, str(getattr(event, "route", "")), said
        if not lines:
            time.sleep(0.05)
    reader.close()
    return call, route, said


def test_number(loaded: LoadedConfig) -> str:
    """The number that is dialled. Raises NotPossibleError where there is none."""
    numbers = loaded.config.emergency.test_numbers
    if not numbers:
        raise NotPossibleError('no test number: write emergency.test_numbers: ["933"]')
    return "933" if "933" in numbers else numbers[0]


test_number.__test__ = False  # type: ignore[attr-defined]  # no test case of pytest


def own_target(loaded: LoadedConfig) -> str:
    """HOST:PORT;transport=… of a listening point of ours. Raises NotPossibleError where there is only TLS."""
    for transport in ("udp", "tcp"):
        for listen in loaded.config.listen:
            if listen.transport == transport:
                address = parse_address(listen.host)
                host = listen.host
                if address is not None and address.is_unspecified:
                    host = "::1" if address.version == 6 else "127.0.0.1"
                return f"{f'[{host}]' if ':' in host else host}:{listen.port};transport={transport}"
    raise NotPossibleError("only TLS is listened for: add udp://127.0.0.1:5060 to listen, for test calls of our own")


def media_host(loaded: LoadedConfig, site: str, route: str) -> str:
    """Our address as the route's provider can send to it: the one that the system uses towards its trunk."""
    config = loaded.config
    found = next((one for one in config.sites if one.id == site), None)
    trunk = trunk_of(config, found, route) if found is not None else ""
    for peer in config.trunks[trunk].addresses if trunk in config.trunks else []:
        address = address_towards(peer.host) if parse_address(peer.host) is not None else ""
        if address:
            return address
    return ""
