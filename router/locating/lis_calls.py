"""Which calls ask a location server, and by what they name the phone; the server's answer, or why there is none."""

import re
from typing import TYPE_CHECKING, NamedTuple

from config.schema import Lis
from e911.conveyed import NOTHING_CONVEYED, Conveyed
from e911.devices import DeviceTable
from e911.held_request import HeldIdentity
from e911.locate import NOT_ASKED, HeldAnswer, LocationDecision, LocationQuery, locate
from e911.location import LocationSource
from e911.numbers import dialable
from e911.wiremap import WiremapTable
from router.emergency.caller_identity import identify
from router.emergency.decision import location_query
from router.emergency.rules import Rules
from router.locating.hardware import hardware_address
from router.locating.held_wait import HeldWait
from router.locating.lis_client import LisClient, LisServer
from router.network.sources import Side, Source
from sip.message import Request

if TYPE_CHECKING:
    from router.calls.dispatch import CallRouter

LONGEST_URI = 300
"""Characters of an address of record that a server is asked by: questions wait, and answers are kept."""
NO_IDENTITY = HeldAnswer(reason="held-no-identity")
NOT_NEEDED = HeldAnswer(reason="held-not-needed")


class LisCalls:
    """Asks for calls and registrations. router: the transaction user."""

    def __init__(self, router: "CallRouter", client: LisClient) -> None:
        self.router = router
        self.client = client

    def begin(self, request: Request, source: Source, host: str, conveyed: Conveyed) -> HeldWait | HeldAnswer:
        """What the location server says of a caller: known now, or to be waited for. Never raises."""
        try:
            return self._begin(request, source, host, conveyed)
        except Exception:
            self.router.on_fault("asking a location server")
            return HeldAnswer(reason="held-unreachable")

    def _begin(self, request: Request, source: Source, host: str, conveyed: Conveyed) -> HeldWait | HeldAnswer:
        router = self.router
        question = self._question(request, source, host, conveyed)
        server, identity = question.server, question.identity
        if server is None:
            return NOT_ASKED
        if identity.is_empty:
            return NO_IDENTITY
        known = self.client.known(server, identity)
        if known is not None and known.reason == "held-answered":
            return known
        if self._is_decided(question.decision, conveyed):
            # Somebody before it in the order knows: nobody waits, but the answer is there for the next call.
            self.client.ask_ahead(server, identity)
            return known or NOT_NEEDED
        wait = HeldWait(router.stack, router, lambda: self.client.late(server, identity))
        wait.start(lambda told: self.client.ask(server, identity, told), server.config.timeout)
        return wait

    def on_register(self, request: Request, source: Source, host: str) -> None:
        """A phone registers: its location is asked for now, so that it is known when 911 is dialled. Never raises."""
        if source.side is not Side.INSIDE or source.is_trunk_address:
            return
        try:
            question = self._question(request, source, host, NOTHING_CONVEYED)
            if question.server is not None and not question.identity.is_empty:
                self.client.ask_ahead(question.server, question.identity)
        except Exception:
            self.router.on_fault("asking a location server for a phone that registers")

    def _question(self, request: Request, source: Source, host: str, conveyed: Conveyed) -> "Question":
        router = self.router
        return question_about(
            router.rules, router.devices, router.wiremap, request, source, host, conveyed, router.clock()
        )

    def _is_decided(self, decision: LocationDecision, conveyed: Conveyed) -> bool:
        """True where a source before the location server in the order knows, whatever else may still come."""
        sources = self.router.rules.sources
        before = sources[: sources.index(LocationSource.HELD)]
        if decision.location is None or decision.location.doubt or decision.location.source not in before:
            return False
        # A caller's own reference that is asked at this moment may turn out to be nothing.
        return decision.location.source is not LocationSource.CONVEYED or conveyed.location is not None


class Question(NamedTuple):
    """What there is to ask of whom; no server: none is configured for the caller's site."""

    server: LisServer | None
    identity: HeldIdentity
    decision: LocationDecision
    """As it is without the server's answer."""


def question_about(
    rules: Rules,
    devices: DeviceTable,
    wiremap: WiremapTable,
    request: Request,
    source: Source,
    host: str,
    conveyed: Conveyed,
    now: float,
) -> Question:
    """The question to a location server that a request from this address gives rise to. now: seconds since 1970."""
    identity, _ = identify(request, source)
    query = location_query(rules, devices, request, source, host, identity, wiremap)
    query.conveyed, query.now = conveyed, now
    decision = locate(query, devices, rules.places, rules.sources, wiremap)
    own = rules.servers.get(decision.site.id) if decision.site else None
    server = own or rules.servers.get("")
    named = held_identity(server.config, request, query, decision) if server is not None else HeldIdentity()
    return Question(server, named, decision)


def held_identity(lis: Lis, request: Request, query: LocationQuery, decision: LocationDecision) -> HeldIdentity:
    """By what the phone is named to a server: as much of what the server goes by as is known."""
    wanted = lis.identity
    ip = query.phone_address
    if not ip and not query.behind_trunk:
        ip = query.source_address
    attachment = query.attachment
    if attachment is not None and not (
        (attachment.bssid and "bssid" in wanted) or (attachment.chassis and "lldp" in wanted)
    ):
        attachment = None
    user, host = query.identity.user, query.identity.host
    address = f"{user}@{host}" if user and host else ""
    is_plain = len(address) <= LONGEST_URI and re.fullmatch(r"[!-~]+", address) is not None
    number = decision.callback if decision.callback_source == "device" else dialable(user)
    mac = ""
    if "mac" in wanted:
        mac = hardware_address(request) or (decision.device.mac if decision.device else "")
    return HeldIdentity(
        ip=ip if "ip" in wanted else "",
        mac=mac,
        uri=f"sip:{address}" if is_plain and "uri" in wanted else "",
        tel=number if "tel" in wanted else "",
        attachment=attachment,
    )
