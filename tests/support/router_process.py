"""The router as its users run it: a configuration file, `edge911 run`, its ports, its files, its commands."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.support.commands import invoke
from tests.support.ports import Endpoint, is_bound

EDGE911 = Path(sys.executable).parent / "edge911"
START_SECONDS = 90
_STANDS = ("", "answered")
"""Outcomes of records to which more may be added."""


class RouterProcess:
    """`edge911 run` on a configuration; a context manager that leaves no process behind."""

    def __init__(
        self,
        folder: Path,
        config: Mapping[str, Any],
        *,
        devices: str = "",
        probe_from: str,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """`devices` is the CSV text to import before the first start; `probe_from` an inside address."""
        self.folder, self.devices, self.probe_from = folder, devices, probe_from
        self.config = dict(config)
        self.config_file = folder / "edge911.yaml"
        self.log_file = folder / "router.log"
        listen = re.search(r"//([0-9.]+):(\d+)", str(self.config["listen"]))
        health = re.search(r"//([0-9.]+):(\d+)", str(self.config["health"]))
        assert listen
        assert health
        self.sip = Endpoint(address=listen[1], port=int(listen[2]))
        self.health = Endpoint(address=health[1], port=int(health[2]))
        self.process: subprocess.Popen[bytes] | None = None
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("EDGE911_")},
            **(environment or {}),
        }
        folder.mkdir(parents=True, exist_ok=True)
        self.write_config(self.config)

    # --- configuration and commands --------------------------------------------------------------------------------

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Replace edge911.yaml."""
        self.config = dict(config)
        self.config_file.write_text(yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True))

    def command(self, *arguments: str, timeout: float = 100, typed: str = "") -> subprocess.CompletedProcess[str]:
        """Run `edge911 ARGUMENTS -c edge911.yaml` beside the router; `typed` is its standard input."""
        return subprocess.run(
            [str(EDGE911), *arguments, "-c", str(self.config_file)],
            capture_output=True,
            text=True,
            input=typed,
            timeout=timeout,
            cwd=self.folder,
            env=self._environment,
            check=False,
        )

    def asked(self, *arguments: str) -> str:
        """What `edge911 ARGUMENTS` prints, done in this process: it saves a second of imports each time."""
        done = invoke([*arguments, "-c", str(self.config_file)], env={"COLUMNS": "200"})
        assert done.exit_code == 0, f"{arguments}: {done.output}"
        return done.stdout

    def import_devices(self, text: str) -> None:
        """`edge911 locations import`; AssertionError where it is refused."""
        file = self.folder / "devices.csv"
        file.write_text(text, encoding="utf-8")
        self.asked("locations", "import", str(file))

    def calls(self) -> list[dict[str, Any]]:
        """`edge911 calls list --json`, newest first."""
        found: list[dict[str, Any]] = json.loads(self.asked("calls", "list", "--json", "--limit", "1000"))["calls"]
        return found

    def records(self, call_id: str, timeout: float = 40, *, whole: bool = True) -> list[dict[str, Any]]:
        """`calls show` of every record with that SIP Call-ID, as soon as there is one.

        whole: as soon as it says how the call was set up, and a moment longer for the end of an answered one: what
        the call process does is written down by another.
        """
        now = time.monotonic()
        deadline, standing_until = now + timeout, 0.0
        while True:
            found = []
            with suppress(AssertionError):  # between two questions it may come from the journal into the database
                found = [self.call(one["id"]) for one in self.calls() if one["call_id"] == call_id]
            now = time.monotonic()
            if found and (not whole or all(one["finished_at"] or one["outcome"] not in _STANDS for one in found)):
                return found
            if found and all(one["outcome"] for one in found):
                standing_until = standing_until or now + 5
            if now > (standing_until or deadline):
                return found
            time.sleep(0.05)

    def call(self, record_id: str) -> dict[str, Any]:
        """`edge911 calls show ID --json`."""
        found: dict[str, Any] = json.loads(self.asked("calls", "show", record_id, "--json"))["call"]
        return found

    # --- the process ------

    def start(self) -> "RouterProcess":
        """Start it and wait until it answers OPTIONS over UDP and /readyz."""
        assert self.process is None
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [str(EDGE911), "run", "-c", str(self.config_file)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=self._environment,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._ready():
            if self.process.poll() is not None:
                raise AssertionError(f"edge911 run ended with {self.process.returncode}:\n{self.log[-6000:]}")
            if time.monotonic() > deadline:
                self.kill9()
                raise AssertionError(f"edge911 run was not ready in {START_SECONDS} s:\n{self.log[-6000:]}")
            time.sleep(0.02)
        return self

    def _ready(self) -> bool:
        return is_bound(self.sip) and self.answers_options() and self.get("/readyz")[0] == 200

    def answers_options(self, timeout: float = 0.5) -> bool:
        """True where an OPTIONS from an inside address is answered, whatever the status."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind((self.probe_from, 0))
            probe.settimeout(timeout)
            own = f"{self.probe_from}:{probe.getsockname()[1]}"
            probe.sendto(
                (
                    f"OPTIONS sip:{self.sip} SIP/2.0\r\n"
                    f"Via: SIP/2.0/UDP {own};branch=z9hG4bK{time.monotonic_ns()}\r\n"
                    f"Max-Forwards: 70\r\nFrom: <sip:ready@{own}>;tag=1\r\nTo: <sip:{self.sip}>\r\n"
                    f"Call-ID: {time.monotonic_ns()}@{own}\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
                ).encode(),
                self.sip.pair,
            )
            try:
                return probe.recv(65535).startswith(b"SIP/2.0 ")
            except OSError:
                return False

    def get(self, path: str) -> tuple[int, str]:
        """Status and text of a GET on the health listener; 0 where it cannot be reached."""
        try:
            with urllib.request.urlopen(f"http://{self.health}{path}", timeout=10) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def metrics(self) -> dict[str, float]:
        """Every sample of /metrics, as `name{label=value,...}` (labels in order of name) to value."""
        status, text = self.get("/metrics")
        assert status == 200, f"/metrics answered {status}"
        found = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
                found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
        return found

    def metric(self, name: str, **labels: str) -> float:
        """The sum of the samples of that name that carry these labels; 0 where there are none."""
        wanted = [f"{key}={value}" for key, value in labels.items()]
        total = 0.0
        for sample, value in self.metrics().items():
            bare, _, rest = sample.partition("{")
            if bare == name and all(one in rest.rstrip("}").split(",") for one in wanted):
                total += value
        return total

    @property
    def pid(self) -> int:
        """The process that was started."""
        assert self.process
        return self.process.pid

    @property
    def alive(self) -> bool:
        """True while it runs."""
        return self.process is not None and self.process.poll() is None

    @property
    def log(self) -> str:
        """Everything it and its children have written."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def processes(self) -> dict[int, str]:
        """It and all below it: process id to command line."""
        parents: dict[int, int] = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    stat = (entry / "stat").read_text()
                except OSError:
                    continue
                if stat.rpartition(")")[2].split()[0] != "Z":
                    parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
        family = {self.pid} & parents.keys()
        while more := {pid for pid, parent in parents.items() if parent in family} - family:
            family |= more
        found = {}
        for pid in family:
            try:
                found[pid] = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
            except OSError:
                continue
        return found

    def sip_pid(self) -> int:
        """The process that holds the SIP socket: the calls process."""
        octets = "".join(f"{int(octet):02X}" for octet in reversed(self.sip.address.split(".")))
        inodes = {
            line.split()[9]
            for line in Path("/proc/net/udp").read_text().splitlines()
            if line.split()[1] == f"{octets}:{self.sip.port:04X}"
        }
        for pid in self.processes():
            for descriptor in Path(f"/proc/{pid}/fd").iterdir():
                try:
                    target = os.readlink(descriptor)
                except OSError:
                    continue
                if target.removeprefix("socket:[").rstrip("]") in inodes and pid != 0:
                    return pid
        raise AssertionError(f"no process of {self.processes()} holds {self.sip}")

    def notices_pids(self) -> list[int]:
        """The processes below the router that hold no SIP socket: the notices process."""
        return [
            pid
            for pid, line in self.processes().items()
            if pid not in (self.pid, self.sip_pid()) and "resource_tracker" not in line
        ]

    def kill9(self) -> None:
        """KILL every process of the router at once."""
        for pid in [self.pid, *self.processes()]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self._reap()

    def terminate(self, timeout: float = 40) -> int:
        """TERM, and the exit code."""
        assert self.process
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill9()
            raise AssertionError(f"edge911 run did not end in {timeout} s after TERM:\n{self.log[-3000:]}") from None
        self._reap()
        return code

    def _reap(self) -> None:
        assert self.process
        self.process.wait(10)
        self.process = None

    def hup(self) -> None:
        """SIGHUP: reload the configuration."""
        os.kill(self.pid, signal.SIGHUP)

    def restart(self, *, kill: bool = True) -> None:
        """End it (by KILL, or by TERM) and start it again on the same files and ports."""
        if kill:
            self.kill9()
        else:
            self.terminate()
        self.start()

    def wait_for_log(self, text: str, timeout: float = 40) -> None:
        """Wait until the log holds `text`."""
        deadline = time.monotonic() + timeout
        while text not in self.log:
            assert time.monotonic() < deadline, f"no {text!r} in the log within {timeout} s:\n{self.log[-3000:]}"
            time.sleep(0.02)

    def __enter__(self) -> "RouterProcess":
        try:
            if self.devices:
                self.import_devices(self.devices)
            return self.start()
        except BaseException:
            if self.alive:
                self.kill9()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process is not None:
            self.kill9()
