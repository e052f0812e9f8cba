"""Processes beside the router: each ends with the block that started it, by its process id, whatever happens."""

import asyncio
import contextlib
import signal
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import IO

from router.process.parent import die_with_parent

PATIENCE_SECONDS = 2.0


@contextlib.asynccontextmanager
async def child(
    command: Sequence[str],
    folder: Path,
    *,
    stdin: int = DEVNULL,
    stdout: int = DEVNULL,
    stderr: int | IO[bytes] = DEVNULL,
) -> AsyncIterator[Process]:
    """A process in `folder`; at the end of the block SIGTERM, and SIGKILL after PATIENCE_SECONDS. Raises OSError."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        cwd=folder,
        start_new_session=True,  # Ctrl-C is for us; we end it ourselves
        preexec_fn=die_with_parent,
    )
    try:
        yield process
    finally:
        await end(process, signal.SIGTERM)


async def end(process: Process, number: signal.Signals) -> None:
    """Have a process end by a signal, and by SIGKILL where that takes more than PATIENCE_SECONDS."""
    if process.returncode is not None:
        return
    try:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_SECONDS):
                await process.wait()
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
    await process.wait()
