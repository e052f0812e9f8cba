"""A state directory that cannot be written costs no notice, nor does a second router on the same one."""

import os
from pathlib import Path

import pytest

from config.load import load_config
from router.process import state_directory
from router.process.state_directory import claim, substitute, usable


def test_a_directory_is_made_and_found_usable(tmp_path: Path) -> None:
    assert usable(tmp_path / "a" / "b") == ""
    assert list((tmp_path / "a" / "b" / "journal").iterdir()) == [], "the probe is gone"


def test_a_file_in_its_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    assert "directory" in usable(tmp_path / "state").lower()


def test_the_substitute_is_ours_and_the_same_each_time(tmp_path: Path) -> None:
    node = f"test-{tmp_path.name}-{hash(tmp_path) & 0xFFFF}"
    found = substitute(node)
    assert found is not None
    try:
        assert substitute(node) == found
        assert found.stat().st_mode & 0o777 == 0o700
    finally:
        (found / "journal").rmdir()
        found.rmdir()


def test_the_environment_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "edge911.yaml"
    path.write_text("listen: [udp://127.0.0.1:5060]\n")
    assert load_config(path).state_directory == tmp_path / "edge911-state"
    monkeypatch.setenv("EDGE911_STATE_DIRECTORY", str(tmp_path / "else"))
    assert load_config(path).state_directory == tmp_path / "else"


def test_one_call_process_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_directory, "CLAIM_SECONDS", 0.0)
    held = claim(tmp_path / "state")
    assert held is not None
    assert claim(tmp_path / "state") is None
    os.close(held)
    again = claim(tmp_path / "state")
    assert again is not None
    os.close(again)


def test_where_nothing_can_be_locked_calls_are_served(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    assert claim(tmp_path / "state") == -1
