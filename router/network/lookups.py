"""Host names to servers (RFC 3263): kept, asked for again before they run out, and used on where DNS says nothing.

Nothing waits here: `known` gives what is known now. An answer is kept as long as its TTL says, within LEAST_TTL and
MOST_TTL, and asked for again in good time before. Where DNS does not answer, or suddenly knows nothing of a name, the
last known servers are used on for as long as that lasts (`dns-stale`, `dns-gone`): an old answer beats none.
"""

import asyncio
import logging
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from router.network.dns_client import Answer, DnsClient, LookupFailedError
from router.network.sources import parse_address
from sip.locating import NOWHERE, Located, Question, Record, Server, Where, locate

log = logging.getLogger(__name__)

LEAST_TTL = 1.0
MOST_TTL = 3600.0
"""A move is noticed within the hour, whatever DNS promises."""
REFRESH_SHARE = 0.8
"""At this share of its time an answer is asked for again."""
DEADLINE_SECONDS = 2.0
"""Whoever waits for a name is told by then, with what is known."""
EARLY_SECONDS = 0.3
"""After so long whoever waits is told what is certain by then: some firewalls swallow NAPTR, or AAAA."""
RETRY_SECONDS = (1.0, 2.0, 5.0, 10.0, 30.0)
"""From a question that failed to the same one again."""
KNOWN_LIMIT = 10_000
"""Places kept; the one not asked for longest goes first. Ten times as many answers."""
AT_ONCE = 1_000
"""Places looked up at the same time; further ones are told what is known."""
QUESTIONS_AT_ONCE = 64
"""Each occupies a socket while it waits."""
_NEVER = float("-inf")
"""When an answer is due that was loaded from a file."""
STALE = "dns-stale"
GONE = "dns-gone"

Told = Callable[[Located], None]


class Asker(Protocol):
    """Who answers questions: DnsClient, or a test."""

    async def ask(self, question: Question) -> Answer:
        """The answer. Raises LookupFailedError."""

    async def ask_system(self, question: Question) -> Answer:
        """What the system's resolver says, for A and AAAA. Raises LookupFailedError."""

    def close(self) -> None:
        """Nothing will be asked any more."""


@dataclass(slots=True)
class _Kept:
    """The last answer to a question."""

    records: tuple[Record, ...]
    due: float
    """When to ask again."""
    failures: int = 0
    """Failed questions since then."""
    is_used: bool = False
    """True once servers were found by it."""


@dataclass(slots=True)
class _Place:
    """What a place was last found to be."""

    located: Located
    due: float
    reason: str = ""
    """Why an older result than DNS has now is used: STALE, GONE; empty where it is fresh."""


class Resolver:
    """Places to servers. Two Resolvers share nothing: names of one do not wait for those of the other."""

    def __init__(
        self,
        servers: Sequence[tuple[str, int]] = (),
        *,
        threads: int = 4,
        transports: Sequence[str] = ("udp", "tcp", "tls"),
        clock: Callable[[], float] = time.monotonic,
        asker: Asker | None = None,
        counts: Counter[str] | None = None,
        is_patient: bool = False,
    ) -> None:
        """servers: name servers in place of the system's. transports: those we can use, the preferred first.
        is_patient: who waits is told nothing before a look-up has ended."""
        self.transports = tuple(transports)
        self.counts: Counter[str] = Counter() if counts is None else counts
        self._asker: Asker = asker or DnsClient(servers, threads=threads)
        self._has_servers = bool(servers)
        self._clock = clock
        self._is_patient = is_patient
        self._places: OrderedDict[Where, _Place] = OrderedDict()
        self._answers: OrderedDict[Question, _Kept] = OrderedDict()
        self._asking: dict[Where, list[Told]] = {}
        self._told_early: set[Where] = set()
        """Places being looked up for the first time, of which enough is known."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Semaphore(QUESTIONS_AT_ONCE)
        self.is_of_use: Callable[[Server], bool] = lambda _: True
        """Whether there is a way to a server: on a machine without IPv4 its A record is no reason to go on early."""
        self.changes = 0
        """How often an answer was another one than before."""

    @property
    def can_ask(self) -> bool:
        """True within a running loop; without one nothing is asked."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return False
        return True

    @property
    def stale(self) -> int:
        """How many places are used on although DNS does not say so any more."""
        return sum(bool(place.reason) for place in self._places.values())

    def known(self, where: Where) -> Located:
        """The servers as far as they are known now; asks for them where they are due."""
        place = self._find(where)
        if place is None or self._clock() >= place.due:
            self.ask(where, _nobody)
            place = place or self._find(where)
        if place is not None:
            return place.located
        return self._early(where) if where in self._asking else NOWHERE

    def reason(self, where: Where) -> str:
        """Why what `known` gives is older than it should be, or an empty string."""
        place = self._places.get(where)
        return place.reason if place is not None else ""

    def was_asked(self, where: Where) -> bool:
        """True once a look-up has ended, whether or not it found anything."""
        return where in self._places

    def ask(self, where: Where, told: Told, *, again: bool = False) -> None:
        """Find the servers, then call told: within DEADLINE_SECONDS, with what is known by then, and after
        EARLY_SECONDS as soon as there is somewhere to go.

        told is never called before this returns. again: questions that failed are asked once more before their time.
        Without a running loop nothing is asked and told is not called.
        """
        if not self.can_ask:
            return
        loop = asyncio.get_running_loop()
        waiting = self._asking.get(where)
        if where in self._told_early:
            loop.call_soon(self._tell, [told], self._early(where))
            return
        if waiting is not None:
            waiting.append(told)
            return
        if len(self._asking) >= AT_ONCE:
            self.counts["refused"] += 1
            place = self._find(where)
            loop.call_soon(told, place.located if place is not None else NOWHERE)
            return
        self._asking[where] = [told]
        self._recall(where)
        task = loop.create_task(self._ask(where, again=again))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def find(self, where: Where, told: Told) -> None:
        """Like `ask`, and at once where the servers are known, refreshed or not: a request does not wait for that."""
        located = self.known(where)
        if located.groups:
            told(located)
        else:
            self.ask(where, told)

    def find_addresses(self, host: str, told: Callable[[tuple[str, ...]], None]) -> None:
        """The addresses of a host of another protocol than SIP (A and AAAA only); an address is its own."""
        address = parse_address(host)
        if address is not None:
            told((str(address),))
        else:
            any_port = 443  # with a port, only addresses are looked for
            self.find(
                Where(host.lower(), any_port),
                lambda located: told(tuple(server.address for server in located.servers)),
            )

    def preload(self, answers: Mapping[Question, tuple[Record, ...]]) -> None:
        """Answers of an earlier process: used until DNS gives newer ones, as those of this one would be."""
        for question, records in answers.items():
            self._answers.setdefault(question, _Kept(records, _NEVER))

    def answers(self) -> dict[Question, tuple[Record, ...]]:
        """Every answer with records, for `preload`; not what was loaded and never needed since."""
        return {question: kept.records for question, kept in self._answers.items() if kept.records and kept.is_used}

    def close(self) -> None:
        """Start no more look-ups; those under way are left to end by themselves."""
        self._asker.close()

    # ---- looking up ----

    async def _ask(self, where: Where, *, again: bool) -> None:
        consulted: set[Question] = set()
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                await self._look_up(where, consulted, again=again)
        except TimeoutError:
            pass  # each question that did not come back has been noted as failed
        except Exception:  # whatever it is, who waits for the answer must be told
            log.exception("fault in edge911 itself, while %s was looked up", where.host)
        finally:
            waiting = self._asking.pop(where, [])
            self._told_early.discard(where)
        self._keep(where, consulted)
        self._tell(waiting, self._places[where].located)

    def _tell(self, waiting: Sequence[Told], located: Located) -> None:
        for told in waiting:
            try:
                told(located)
            except Exception:  # the others wait for the same answer
                log.exception("fault in edge911 itself, after the servers of a name were found")

    def _tell_early(self, where: Where) -> None:
        """Whoever waits for the first look-up goes on where that is possible; the look-up does, too."""
        waiting = self._asking.get(where)
        if waiting and where not in self._places:
            located = self._early(where)
            if any(map(self.is_of_use, located.servers)):
                self._asking[where] = []
                self._told_early.add(where)
                self._tell(waiting, located)

    async def _look_up(self, where: Where, consulted: set[Question], *, again: bool) -> None:
        """Ask what is due, and with each answer what follows from it, until nothing is missing. consulted: every
        question that mattered."""
        self.counts["lookups"] += 1
        now = self._clock()
        loop = asyncio.get_running_loop()
        early = loop.time() + (DEADLINE_SECONDS if self._is_patient else EARLY_SECONDS)

        def fresh(question: Question) -> Sequence[Record] | None:
            consulted.add(question)
            kept = self._answers.get(question)
            if kept is None or now >= kept.due or (again and kept.failures and question not in asked):
                return None
            return kept.records

        asked: set[Question] = set()
        asking: dict[asyncio.Task[None], Question] = {}
        try:
            while True:
                _, missing = locate(where, fresh, self.transports)
                for question in (one for one in missing if one not in asking.values()):
                    asked.add(question)
                    asking[asyncio.create_task(self._ask_one(question))] = question
                if not asking:
                    return
                left = early - loop.time()
                done, _ = await asyncio.wait(
                    asking, timeout=left if left > 0 else None, return_when=asyncio.FIRST_COMPLETED
                )
                for task in done:
                    del asking[task]
                    task.result()  # a fault of ours is one of the look-up
                if loop.time() >= early:
                    self._tell_early(where)
        finally:
            for task, question in asking.items():
                task.cancel()
                self._keep_answer(question, None)

    async def _ask_one(self, question: Question) -> None:
        """Ask one question, and keep the answer, or that there was none."""
        kept = self._answers.get(question)
        answer: Answer | None = None
        try:
            async with self._turn:
                answer = await self._answer(question, kept is not None and bool(kept.records))
        except LookupFailedError as error:
            log.debug("no answer to %s %s: %s", question.name, question.kind, error)
        self._keep_answer(question, answer)

    async def _answer(self, question: Question, is_known: bool) -> Answer:
        """From DNS; an address that it knows nothing of, from the system, unless an old answer is there."""
        by_system = self._has_servers and question.kind in ("A", "AAAA") and not self._has_ipv4(question)
        try:
            answer = await self._asker.ask(question)
        except LookupFailedError:
            self.counts["failed"] += 1
            if by_system and not is_known:
                found = await self._asker.ask_system(question)
                if found.records:
                    return found
            raise
        if by_system and not answer.records:
            try:
                found = await self._asker.ask_system(question)
            except LookupFailedError:
                return answer
            return found if found.records else answer
        return answer

    def _has_ipv4(self, question: Question) -> bool:
        """True where the name has an IPv4 address anyway: DNS knows it, and nobody else need be asked for IPv6."""
        kept = self._answers.get(Question(question.name, "A")) if question.kind == "AAAA" else None
        return kept is not None and bool(kept.records)

    def _keep_answer(self, question: Question, answer: Answer | None) -> None:
        now = self._clock()
        kept = self._answers.get(question)
        if answer is not None:
            ttl = min(max(answer.ttl, LEAST_TTL), MOST_TTL)
            if kept is None or set(kept.records) != set(answer.records) or kept.due == _NEVER:
                self.changes += 1
            self._answers[question] = _Kept(answer.records, now + ttl * REFRESH_SHARE)
        else:
            failures = kept.failures if kept is not None else 0
            wait = RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)]
            self._answers[question] = _Kept(kept.records if kept is not None else (), now + wait, failures + 1)
        self._answers.move_to_end(question)
        while len(self._answers) > KNOWN_LIMIT * 10:
            self._answers.popitem(last=False)

    # ---- places ----

    def _recall(self, where: Where) -> None:
        """What an earlier process knew of a place stays whole until the first look-up has ended."""
        if where in self._places:
            return

        def loaded(question: Question) -> Sequence[Record]:
            kept = self._answers.get(question)
            return self._any_answer(question) if kept is not None and kept.due == _NEVER else ()

        located, _ = locate(where, loaded, self.transports)
        if located.groups:
            self._places[where] = _Place(located, _NEVER)

    def _early(self, where: Where) -> Located:
        """What the answers so far say for certain, while the first look-up goes on. The domain's own addresses count
        only where there is no SRV record (RFC 3263 section 4.2): a web server may be there."""
        has_srv = False

        def so_far(question: Question) -> Sequence[Record] | None:
            nonlocal has_srv
            if question not in self._answers:
                return None
            records = self._any_answer(question)
            has_srv = has_srv or (question.kind == "SRV" and bool(records))
            return records

        located, missing = locate(where, so_far, self.transports)
        kinds = {question.kind for question in missing}
        return NOWHERE if "SRV" in kinds or ("NAPTR" in kinds and not has_srv) else located

    def _find(self, where: Where) -> _Place | None:
        found = self._places.get(where)
        if found is not None:
            self._places.move_to_end(where)
        return found

    def _keep(self, where: Where, consulted: set[Question]) -> None:
        """What follows from the answers as they are now, and when the first of them is due again."""
        located, _ = locate(where, self._any_answer, self.transports)
        kept = [self._answers[question] for question in consulted if question in self._answers]
        failed = any(one.failures for one in kept)
        reason = STALE if any(one.failures and one.records for one in kept) else ""
        before = self._places.get(where)
        if not located.groups and before is not None and before.located.groups:
            located, reason = before.located, STALE if failed else GONE
        due = min((one.due for one in kept), default=self._clock() + RETRY_SECONDS[0])
        self._places[where] = _Place(located, due, reason)
        self._places.move_to_end(where)
        while len(self._places) > KNOWN_LIMIT:
            self._places.popitem(last=False)
        if reason:
            self.counts[reason] += 1
        self._say(where, located, reason, before)

    def _any_answer(self, question: Question) -> Sequence[Record]:
        kept = self._answers.get(question)
        if kept is None:
            return ()
        kept.is_used = True
        return kept.records

    def _say(self, where: Where, located: Located, reason: str, before: _Place | None) -> None:
        """What changed, once."""
        if reason and (before is None or before.reason != reason):
            what = "DNS does not answer" if reason == STALE else "DNS knows nothing any more"
            log.warning("%s for %s (%s): the last known servers are used", what, where.host, reason)
        elif before is not None and before.reason and not reason:
            log.info("DNS answers again for %s", where.host)
        if not located.groups and (before is None or before.located.groups):
            log.warning("no server for %s: DNS gives none", where.host)


def _nobody(_: Located) -> None:
    """Nobody waits for this look-up."""


def locate_now(servers: Sequence[tuple[str, int]], places: Iterable[Where]) -> dict[Where, Located]:
    """The servers of places for commands without a loop; takes DEADLINE_SECONDS at the most."""
    wanted = list(dict.fromkeys(places))
    if not wanted:
        return {}

    async def look_up_all() -> dict[Where, Located]:
        resolver = Resolver(servers, is_patient=True)  # a command shows all of them
        loop = asyncio.get_running_loop()
        found: dict[Where, asyncio.Future[Located]] = {where: loop.create_future() for where in wanted}
        for where, future in found.items():
            resolver.ask(where, future.set_result)
        await asyncio.wait(found.values(), timeout=DEADLINE_SECONDS + 1.0)
        resolver.close()
        return {where: future.result() if future.done() else NOWHERE for where, future in found.items()}

    return asyncio.run(look_up_all())
