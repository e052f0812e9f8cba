"""The notices process as `edge911 run` starts it, on a configuration and a journal of the test's own."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml

from e911.record import JournalEvent
from router.journal.writer import JournalWriter
from router.records.record import CallRecord
from router.store.engine import StoreError, open_store, reading
from router.store.records import get_call

ROOT = Path(__file__).resolve().parents[2]
WAIT_SECONDS = 120.0


def wait_until(is_true: Callable[[], bool], what: str, seconds: float = WAIT_SECONDS) -> None:
    """Wait until something is true, or fail."""
    deadline = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.02)


class NoticesRunner:
    """Contacts by name with their `send` URLs (or whole contact sections); a context manager that ends all."""

    def __init__(
        self, folder: Path, contacts: dict[str, Any], *, database: str = "sqlite:///edge911.db", node: str = "hq-1"
    ) -> None:
        self.folder = folder
        self.database = database
        self.log_file = folder / "notices.log"
        self.config_file = folder / "edge911.yaml"
        self.state = folder / "state"
        self.node = node
        self.journal = JournalWriter(self.state / "journal", node)
        self.process: subprocess.Popen[bytes] | None = None
        self._started: list[subprocess.Popen[bytes]] = []
        self.configure(contacts)

    def configure(self, contacts: dict[str, Any]) -> None:
        """Write the configuration file."""
        sections = {
            name: given if isinstance(given, dict) else {"send": [given] if isinstance(given, str) else given}
            for name, given in contacts.items()
        }
        config = {
            "node": self.node,
            "state_directory": "state",
            "listen": ["udp://127.0.0.1:5060"],
            "networks": {"inside": ["127.0.0.0/8"]},
            "locations": {"database": self.database},
            "sites": [
                {
                    "id": "hq",
                    "name": "Head office",
                    "timezone": "America/New_York",
                    "notify": list(contacts),
                    "zones": [{"id": "hq-3e", "name": "3rd floor east"}],
                }
            ],
            "contacts": sections,
        }
        self.config_file.write_text(yaml.safe_dump(config))

    def start(self) -> None:
        """Start the process."""
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "router.notices",
                    "--config",
                    str(self.config_file),
                    "--state",
                    str(self.state),
                ],
                cwd=ROOT,
                stderr=log,
            )
        self._started.append(self.process)

    @property
    def starts(self) -> int:
        """How often it was started."""
        return len(self._started)

    def start_and_wait(self) -> None:
        """Start the process and wait until it says of itself that it runs."""
        self.start()
        process = self.process
        assert process is not None
        wait_until(lambda: self.status().get("pid") == process.pid, "the notices process runs")

    def kill(self) -> None:
        """kill -9, and wait for its end."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def end(self) -> int:
        """SIGTERM; gives the exit code."""
        assert self.process is not None
        self.process.terminate()
        try:
            return self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGUSR1)  # where every thread stands, into the log
            time.sleep(0.5)
            raise

    def append(self, *events: JournalEvent) -> None:
        """What the call process does."""
        for event in events:
            assert self.journal.append(event)

    def status(self) -> dict[str, Any]:
        """notices.json, or nothing."""
        try:
            found = json.loads((self.state / "notices.json").read_bytes())
        except (OSError, ValueError):
            return {}
        assert isinstance(found, dict)
        return found

    def log(self) -> list[dict[str, Any]]:
        """The log lines so far."""
        return [json.loads(line) for line in self.log_file.read_text().splitlines() if line.startswith("{")]

    def log_names(self) -> list[str]:
        """The names of the log lines so far."""
        return [line["event"] for line in self.log()]

    def wait_for_delivered(self, *calls: str) -> None:
        """Wait until it has noted (and logged) that these calls were told to somebody."""

        def are_noted() -> bool:
            noted = {line.get("call") for line in self.log() if line["event"] == "notice-delivered"}
            return noted >= set(calls)

        wait_until(are_noted, f"{calls} are noted as delivered")

    @property
    def database_url(self) -> str:
        """The absolute URL."""
        return self.database.replace("sqlite:///", f"sqlite:///{self.folder}/")

    def record(self, call: str) -> CallRecord | None:
        """The record in the database, where there is one."""
        try:
            engine = open_store(self.database_url, create=False)
        except StoreError:
            return None
        try:
            with reading(engine) as conn:
                return get_call(conn, call)
        except StoreError:
            return None
        finally:
            engine.dispose()

    def wait_for_record(self, call: str, is_as_wanted: Callable[[CallRecord], bool] = lambda _: True) -> CallRecord:
        """The record, as soon as it is as wanted."""
        found: list[CallRecord] = []

        def look() -> bool:
            record = self.record(call)
            if record is not None and is_as_wanted(record):
                found.append(record)
            return bool(found)

        wait_until(look, f"the record of {call} as wanted")
        return found[0]

    def __enter__(self) -> "NoticesRunner":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._started:
            if process.poll() is None:
                process.kill()
                process.wait()
        self.journal.close()
        if error is not None and self.log_file.exists():
            print(self.log_file.read_text()[-6000:])
