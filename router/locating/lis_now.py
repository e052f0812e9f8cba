"""What a location server would say of a call, for commands without a loop."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence

from e911.conveyed import NOTHING_CONVEYED
from e911.devices import DeviceTable
from e911.locate import NOT_ASKED, HeldAnswer
from e911.wiremap import WiremapTable
from router.emergency.rules import Rules
from router.locating.lis_calls import NO_IDENTITY, Question, question_about
from router.locating.lis_client import LisClient, ask_once
from router.network.lookups import Resolver
from router.network.sources import Side, Source, Sources
from sip.message import Request


def held_now(
    rules: Rules,
    sources: Sources,
    devices: DeviceTable,
    wiremap: WiremapTable,
    request: Request,
    source_address: str,
    name_servers: Sequence[tuple[str, int]],
    *,
    ask: bool,
) -> HeldAnswer:
    """The answer that a call beginning with this request would get; `held-not-asked` where nobody is to be asked."""
    if not rules.servers:
        return NOT_ASKED
    source = sources.classify(source_address, 5060) if source_address else Source(Side.INSIDE, False, False)
    question = question_about(rules, devices, wiremap, request, source, source_address, NOTHING_CONVEYED, time.time())
    if question.server is None:
        return NOT_ASKED
    if question.identity.is_empty:
        return NO_IDENTITY
    if not ask:
        return HeldAnswer(reason="held-not-asked", detail=f"{question.server.name}: {question.identity.text}")
    return asyncio.run(_asked(question, sources, name_servers))


async def _asked(question: Question, sources: Sources, name_servers: Sequence[tuple[str, int]]) -> HeldAnswer:
    assert question.server is not None
    resolver = Resolver(name_servers)
    client = LisClient(
        resolver.find_addresses, time.time, lambda address: sources.reaches_inside(str(address)), Counter()
    )
    try:
        return await ask_once(client, question.server, question.identity)
    finally:
        resolver.close()
