"""The page for anybody: what it says of 911 where the trunks of one site, of some or of all are down."""

import time
from pathlib import Path
from typing import Any

import orjson
import pytest

from router.calls.call_state import FILE
from tests.support.console import CONFIG, Browser, console_world


def said(folder: Path, down: tuple[str, ...], silent: float = 0.0) -> tuple[str, str]:
    """What the page says, in English and in French, of two sites with trunks of their own."""
    trunks = {name: {"target": f"sip:192.0.2.{number}"} for number, name in enumerate("abc", start=7)}
    hq, lab = CONFIG["sites"]
    lab = {
        **lab,
        "routes": [{"name": "other", "trunk": "b"}],
        "basic": [{"name": "last", "trunk": "c", "number": "+12125550141"}],
    }
    with console_world(folder, trunks=trunks, sites=[hq, lab], routes={"outbound": ["a"]}) as world:
        state: dict[str, Any] = {
            "at": time.time() - silent,
            "serving": True,
            "database": "",
            "devices": 0,
            "trunks": {name: {"state": "down" if name in down else "up", "places": []} for name in trunks},
        }
        world.console.state_directory.mkdir(parents=True, exist_ok=True)
        (world.console.state_directory / FILE).write_bytes(orjson.dumps(state))
        english, french = (Browser(world.app, language=language).get("/status") for language in ("en", "fr"))
        assert (english.status_code, french.status_code) == (200, 200)
        for secret in ("lab", CONFIG["node"], "192.0.2.", "edge911/"):
            assert secret not in english.text, "what it is, and where, helps an attacker"
        assert "server" not in english.headers
        return english.text, french.text


@pytest.mark.parametrize(
    ("down", "english", "french"),
    [
        ((), "Calls to 911 work.</p>", "Les appels au 911 fonctionnent.</p>"),
        (("b",), "Calls to 911 work. Part of", "Les appels au 911 fonctionnent. Une partie"),
        (
            ("b", "c"),
            "At some sites calls to 911 may NOT work",
            "À certains sites, les appels au 911 pourraient NE PAS",
        ),
        (("a",), "At some sites calls to 911 may NOT work", "À certains sites, les appels au 911 pourraient NE PAS"),
        (("a", "b", "c"), "from these phones may NOT work", "depuis ces téléphones pourraient NE PAS"),
    ],
)
def test_it_never_says_that_911_works_where_a_site_has_no_way(
    tmp_path: Path, down: tuple[str, ...], english: str, french: str
) -> None:
    found = said(tmp_path, down)
    assert english in found[0]
    assert french in found[1]
    if "NOT" in english:
        assert "Calls to 911 work" not in found[0]


@pytest.mark.parametrize("silent", [8.0, 3600.0, -3600.0])
def test_a_call_process_that_says_nothing_is_noticed_soon(tmp_path: Path, silent: float) -> None:
    english, _ = said(tmp_path, (), silent)
    assert "from these phones may NOT work" in english
    assert "Calls to 911 work" not in english
