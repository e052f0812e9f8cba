"""What modules of interop tests share: a router and its places, a browser."""

from collections.abc import Iterator, Mapping

import pytest

from tests.support.browser import Chromium, chromium
from tests.support.world import Plan, World, world


@pytest.fixture(scope="module")
def the_world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The world of the module's PLANS (and KEYS, sections of the configuration to replace; FILES beside it)."""
    plans: Mapping[str, Plan] = request.module.PLANS
    keys = getattr(request.module, "KEYS", {})
    with world(tmp_path_factory.mktemp("world"), plans, files=getattr(request.module, "FILES", {}), **keys) as built:
        yield built
        assert built.router.alive, f"the router ended by itself:\n{built.router.log[-4000:]}"


@pytest.fixture(scope="module")
def one_browser() -> Iterator[Chromium]:
    """A real Chromium, one for the module."""
    with chromium() as made:
        yield made


@pytest.fixture
def people(one_browser: Chromium) -> Iterator[Chromium]:
    """It, with nobody logged in."""
    yield one_browser
    one_browser.forget()
