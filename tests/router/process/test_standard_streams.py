"""A log that nobody takes stops nothing."""

import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
import yaml

from tests.support.ports import free_port
from tests.support.router_process import EDGE911, START_SECONDS

FULL = Path("/dev/full")

pytestmark = pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")


def test_what_cannot_be_written_is_lost_and_raises_nothing() -> None:
    program = (
        "import sys; from router.process.standard_streams import make_lossy; make_lossy();"
        "print('x' * 100_000, flush=True);"
        "print('y', file=sys.stderr, flush=True); sys.exit(7)"
    )
    with FULL.open("wb") as full:
        assert subprocess.run([sys.executable, "-c", program], stdout=full, stderr=full, check=False).returncode == 7
    heard = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert (len(heard.stdout), heard.stderr) == (100_001, b"y\n")


def test_a_router_whose_log_is_on_a_full_disk_serves(tmp_path: Path) -> None:
    sip, health = free_port("127.0.0.1"), free_port("127.0.0.1")
    # No inside network: `run` has warnings to write before it starts anything.
    config = {"listen": [f"udp://127.0.0.1:{sip}"], "health": {"listen": f"http://127.0.0.1:{health}"}}
    path = tmp_path / "edge911.yaml"
    path.write_text(yaml.safe_dump(config))
    with FULL.open("wb") as full:
        process = subprocess.Popen([EDGE911, "run", "-c", path], stdout=full, stderr=full, cwd=tmp_path)
    try:
        until = time.monotonic() + START_SECONDS
        while True:
            assert process.poll() is None, "it ended"
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{health}/healthz", timeout=5) as answer:
                    assert answer.status == 200
                    break
            except OSError:
                assert time.monotonic() < until
                time.sleep(0.1)
    finally:
        process.terminate()
        process.wait()
