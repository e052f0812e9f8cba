"""Host names: whoever waits is told, whatever the system's resolver or another waiter does."""

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any

import pytest

from router import lookups
from router.lookups import Resolver


def run(test: Coroutine[Any, Any, None]) -> None:
    async def within() -> None:
        async with asyncio.timeout(30):
            await test

    asyncio.run(within())


def ask(resolver: Resolver, host: str) -> "asyncio.Future[tuple[str, ...]]":
    answer: asyncio.Future[tuple[str, ...]] = asyncio.get_running_loop().create_future()
    resolver.ask(host, answer.set_result)
    return answer


@pytest.mark.parametrize("fault", [OSError(-2, "unknown"), UnicodeError("idna"), RuntimeError("a fault")])
def test_any_failure_is_told_as_no_address_and_the_name_can_be_asked_again(
    fault: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[Exception | tuple[str, ...]] = [fault, ("192.0.2.1",), fault]

    def look_up(_host: str) -> tuple[str, ...]:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(lookups, "look_up", look_up)

    async def test() -> None:
        resolver = Resolver()
        assert await ask(resolver, "peer.example.com") == ()
        assert await ask(resolver, "peer.example.com") == ("192.0.2.1",)
        assert await ask(resolver, "peer.example.com") == ("192.0.2.1",)  # an old answer beats none
        resolver.close()

    run(test())


def test_one_who_fails_with_the_answer_keeps_it_from_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookups, "look_up", lambda _host: ("192.0.2.1",))

    async def test() -> None:
        resolver = Resolver()

        def fail(_: tuple[str, ...]) -> None:
            raise RuntimeError("a fault")

        resolver.ask("peer.example.com", fail)
        assert await ask(resolver, "peer.example.com") == ("192.0.2.1",)
        resolver.close()

    run(test())


def test_names_are_kept_within_bounds_and_those_in_use_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookups, "look_up", lambda _host: ("192.0.2.1",))
    monkeypatch.setattr(lookups, "KNOWN_LIMIT", 3)

    async def test() -> None:
        resolver = Resolver()
        for number in range(10):
            await ask(resolver, f"peer{number}.example.com")
            if number:
                assert resolver.known("peer1.example.com") == ("192.0.2.1",)
        assert len(resolver._known) == 3
        resolver.close()

    run(test())


def test_names_of_peers_that_hang_do_not_hold_up_those_of_trunks(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()

    def look_up(host: str) -> tuple[str, ...]:
        if host.startswith("hung"):
            release.wait(30)
        return ("192.0.2.1",)

    monkeypatch.setattr(lookups, "look_up", look_up)

    async def test() -> None:
        peers, trunks = Resolver(), Resolver(threads=2)
        hung = [ask(peers, f"hung{number}.example.com") for number in range(50)]
        try:
            assert await ask(trunks, "ers.example.com") == ("192.0.2.1",)
            assert not any(one.done() for one in hung)
        finally:
            release.set()
        await asyncio.gather(*hung)
        peers.close()
        trunks.close()

    run(test())
