"""The router under test in a simulation: `edge911 run` as a process of its own, and the other commands beside it."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from router.process.parent import die_with_parent
from simulations.actor import Actor

READY_SECONDS = 40.0
STOP_SECONDS = 5.0
COMMAND_SECONDS = 30.0
_SCRIPT = Path(sys.executable).with_name("edge911")
EDGE911 = (str(_SCRIPT),) if _SCRIPT.exists() else (sys.executable, "-c", "from router.cli import main; main()")
"""The command as its users have it, beside the Python that runs us."""


class EdgeError(Exception):
    """The router did not do what was asked; the text has its own words."""


class Edge:
    """One router on the configuration in `folder`; all it writes stays in there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config_file = folder / "edge911.yaml"
        self.log_file = folder / "edge911.log"
        self.process: asyncio.subprocess.Process | None = None

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Write edge911.yaml."""
        self.config_file.write_text(yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True), "utf-8")

    async def command(self, *arguments: str, seconds: float = COMMAND_SECONDS) -> str:
        """Run `edge911 ARGUMENTS` on the configuration; its standard output. Raises EdgeError where it fails."""
        process = await asyncio.create_subprocess_exec(
            *EDGE911,
            *arguments,
            "--config",
            str(self.config_file),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=self.folder,
            env=_environment(),
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
        try:
            async with asyncio.timeout(seconds):
                out, err = await process.communicate()
        except TimeoutError:
            raise EdgeError(f"edge911 {' '.join(arguments)}: not done in {seconds:.0f} s") from None
        finally:
            await _end(process, 0.0)
        if process.returncode:
            words = " / ".join(err.decode(errors="replace").split("\n")[:5]).strip(" /")
            raise EdgeError(f"edge911 {' '.join(arguments)}: exit code {process.returncode}: {words}")
        return out.decode()

    async def json(self, *arguments: str) -> Any:
        """The same with `--json`, read."""
        return json.loads(await self.command(*arguments, "--json"))

    async def start(self, sip: tuple[str, int], health: tuple[str, int], asking: Actor) -> None:
        """Start `edge911 run`; returns when it answers an OPTIONS of `asking` and its notices process is there.

        Raises EdgeError with the end of its log otherwise.
        """
        with self.log_file.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *EDGE911,
                "run",
                "--config",
                str(self.config_file),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=_environment(),
                start_new_session=True,  # Ctrl-C is for us; we end it ourselves
                preexec_fn=die_with_parent,
            )
        try:
            async with asyncio.timeout(READY_SECONDS):
                while not await self._is_ready(sip, health, asking):
                    if self.process.returncode is not None:
                        code = self.process.returncode
                        raise EdgeError(f"edge911 run ended with exit code {code}: {self.last_words()}")
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise EdgeError(f"edge911 run was not ready in {READY_SECONDS:.0f} s: {self.last_words()}") from None

    async def _is_ready(self, sip: tuple[str, int], health: tuple[str, int], asking: Actor) -> bool:
        page = await _get_json(*health, "/healthz")
        return bool(page.get("notices")) and await asking.options(*sip, seconds=0.5) == 200

    async def stop(self) -> None:
        """SIGTERM, then SIGKILL where it takes too long; its children end with it."""
        if self.process is not None:
            await _end(self.process, STOP_SECONDS)
            self.process = None

    def last_words(self, lines: int = 6) -> str:
        """The end of its log."""
        try:
            return "\n".join(self.log_file.read_text(errors="replace").splitlines()[-lines:]) or "(no output)"
        except OSError:
            return "(no log)"


async def _end(process: asyncio.subprocess.Process, patience: float) -> None:
    """End a process that we started, by its process id, whatever happens to us meanwhile."""
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        if patience:
            process.send_signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(patience):
                    await process.wait()
                    return
            except TimeoutError:
                pass
            finally:
                if process.returncode is None:
                    process.kill()
        else:
            process.kill()
    await process.wait()


def _environment() -> dict[str, str]:
    """Ours, without what would steer the router elsewhere."""
    return {name: value for name, value in os.environ.items() if not name.startswith("EDGE911_")}


async def _get_json(host: str, port: int, path: str) -> dict[str, Any]:
    """A page of the router's health listener; empty where it cannot be had."""
    try:
        async with asyncio.timeout(1.0):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
                answer = await reader.read(100_000)
            finally:
                writer.close()
        found = json.loads(answer.partition(b"\r\n\r\n")[2])
    except (OSError, TimeoutError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
