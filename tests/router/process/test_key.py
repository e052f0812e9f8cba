"""The node's key: whole or not there, the same for all, and nobody else's."""

import os
from pathlib import Path

import pytest

from router.process import key
from router.process.key import load_key


def test_a_key_is_made_once_and_is_private(tmp_path: Path) -> None:
    first, problem = load_key(tmp_path / "state", "n")
    assert (len(first), problem) == (32, "")
    assert load_key(tmp_path / "state", "n") == (first, "")
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["key"]
    assert (tmp_path / "state" / "key").stat().st_mode & 0o777 == 0o600


def test_a_full_disk_leaves_no_half_written_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(key.os, "fsync", full)
    derived, problem = load_key(tmp_path, "n")
    assert "No space left" in problem
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    made, problem = load_key(tmp_path, "n")
    assert problem == ""
    assert made != derived


def test_the_key_of_a_process_that_was_first_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_link = os.link

    def link(source: Path, target: Path) -> None:
        target.write_bytes(b"k" * 32)
        real_link(source, target)

    monkeypatch.setattr(key.os, "link", link)
    assert load_key(tmp_path, "n") == (b"k" * 32, "")
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


def test_a_file_system_without_hard_links_has_a_key_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(_source: Path, _target: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(key.os, "link", link)
    made, problem = load_key(tmp_path, "n")
    assert problem == ""
    assert load_key(tmp_path, "n") == (made, "")
