"""Keys of tokens: a change loses nothing, several nodes change together, and no file is needed."""

from pathlib import Path

import pytest
import yaml

from router.dialogs.token_keys import FILE, TokenKey, derived_key, load_token_keys, prepared, read_token_keys, rotated
from router.process.key import load_key
from tests.support.call_world import CONFIG
from tests.support.commands import invoke

NODE_KEY = b"k" * 32


def states(keys: list[TokenKey]) -> list[str]:
    return [one.state for one in keys]


def test_without_a_file_the_key_comes_of_the_nodes_own(tmp_path: Path) -> None:
    keys, problem = load_token_keys(tmp_path, NODE_KEY)
    assert (keys.keys, problem) == ((derived_key(NODE_KEY),), "")
    assert list(tmp_path.iterdir()) == []


def test_a_change_keeps_two_old_keys(tmp_path: Path) -> None:
    found = read_token_keys(tmp_path, NODE_KEY)
    seen = [found[0].key]
    for day in ("2026-11-01", "2026-11-02", "2026-11-03"):
        found = rotated(found, day)
        seen.insert(0, found[0].key)
    assert states(found) == ["now", "old", "old"]
    assert [one.key for one in found] == seen[:3]


def test_several_nodes_verify_a_key_before_any_signs_with_it(tmp_path: Path) -> None:
    first = read_token_keys(tmp_path, NODE_KEY)
    ready = prepared(first, "2026-11-01")
    assert states(ready) == ["now", "next"]
    assert prepared(ready, "2026-11-02") == ready, "once is enough"
    changed = rotated(ready, "2026-11-02")
    assert [(one.state, one.key) for one in changed] == [("now", ready[1].key), ("old", first[0].key)]


@pytest.mark.parametrize(
    "text",
    ["", "old " + "ab" * 32, "now xyz", "now " + "ab" * 8, "later " + "ab" * 32, ("now " + "ab" * 32 + "\n") * 2],
)
def test_a_file_that_cannot_be_used_is_said_and_calls_go_on(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    keys, problem = load_token_keys(tmp_path, NODE_KEY)
    assert keys.keys == (derived_key(NODE_KEY),)
    assert str(tmp_path / FILE) in problem


def test_the_command_makes_what_the_router_reads(tmp_path: Path) -> None:
    config = tmp_path / "edge911.yaml"
    config.write_text(yaml.safe_dump({**CONFIG, "state_directory": "state"}))
    state = tmp_path / "state"

    def run(*arguments: str) -> str:
        done = invoke(["key", *arguments, "-c", str(config)])
        assert done.exit_code == 0, done.output
        return done.output

    assert "signs and verifies" in run("list")
    node_key, _ = load_key(state, "test")
    before = load_token_keys(state, node_key)[0]
    assert before.keys == (derived_key(node_key),)
    run("rotate", "--prepare")
    ready, problem = load_token_keys(state, node_key)
    assert (ready.signing, len(ready.keys), problem) == (before.signing, 2, "")
    run("rotate")
    after, _ = load_token_keys(state, node_key)
    assert after.keys == (ready.keys[1], ready.keys[0])
    assert (state / FILE).stat().st_mode & 0o777 == 0o600
    shown = run("list").splitlines()
    assert [line.split()[1] for line in shown] == ["now", "old"]
    assert not any(key.hex() in line for key in after.keys for line in shown), "the keys themselves are shown nowhere"
    assert sorted(path.name for path in state.iterdir()) == ["key", FILE]
