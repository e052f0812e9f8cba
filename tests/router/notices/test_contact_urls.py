"""`check` and `run` refuse a contact that could never be told."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from router.notices.contact_urls import unusable_urls, unusable_urls_apart

TEXT = """listen: [udp://127.0.0.1:5060]
networks: {inside: [10.0.0.0/8]}
contacts:
  good: {send: ["mailto://127.0.0.1:2525?from=a@example.com&to=b@example.com", "sip:100@10.0.0.1"]}
  typo: {send: ["jsn://127.0.0.1/secret-token"]}
  cut:
    send:
      - json://127.0.0.1/911
      - "mailto://"
"""


def test_urls_that_no_channel_knows_are_named_with_their_place(tmp_path: Path) -> None:
    path = tmp_path / "edge911.yaml"
    path.write_text(TEXT)
    found = unusable_urls(path)
    assert [(one.line, one.column, one.path) for one in found] == [
        (5, 17, "contacts.typo.send[0]"),
        (9, 9, "contacts.cut.send[1]"),
    ]
    assert "secret-token" not in str(found)


def test_check_names_them_beside_every_other_error(tmp_path: Path) -> None:
    path = tmp_path / "edge911.yaml"
    path.write_text(TEXT + "routes: {outbound: [nowhere]}\n")
    done = subprocess.run(
        [sys.executable, "-c", "from router.cli import main; main()", "check", "-c", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    for named in ("contacts.typo.send[0]: ", "contacts.cut.send[1]: ", "routes.outbound[0]: "):
        assert named in done.stderr
    lines = [int(line) for line in re.findall(rf"^{path}:(\d+):\d+: (?!.*warning:)", done.stderr, re.MULTILINE)]
    assert lines == sorted(lines)


def test_another_process_finds_the_same(tmp_path: Path) -> None:
    path = tmp_path / "edge911.yaml"
    path.write_text(TEXT)
    assert unusable_urls_apart(path) == [str(one) for one in unusable_urls(path)]


def test_contacts_that_cannot_be_looked_at_stop_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "missing"))
    assert unusable_urls_apart(tmp_path / "edge911.yaml") == []
    assert "contacts were not looked at" in caplog.text
