"""Location references are answered here: `python -m router.reference_server`, a process that `edge911 run` keeps.

It faces providers and PSAPs, and no call depends on it: where it does not live, locations go along by value.
"""

import argparse
import asyncio
import faulthandler
import logging
import os
import signal
import socket
import ssl
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import uvicorn

from config.load import ConfigError, LoadedConfig, load_config
from config.schema import ReferenceServer
from router.parent import die_with_parent
from router.reference_app import ReferenceApp
from router.reference_connections import BoundedConnection
from router.reference_spool import ALIVE
from router.reference_table import ReferenceTable, SharedReferences
from router.signs_of_life import Heartbeat, hold_signals, release_signals
from router.telemetry import configure_logging, say

MOST_CONNECTIONS = 1000
KEEP_ALIVE_SECONDS = 10
LAST_ANSWERS_SECONDS = 3
READ_SECONDS = 0.25
"""Between two looks at what was handed over; who asks sooner has it read at once."""
FORGET_SECONDS = 60.0
CHANGED = 3
"""Exit code where what it was started with was changed: a new process begins with that."""

log = logging.getLogger("router.references")
_say = partial(say, log)


class _Server(uvicorn.Server):
    """Signals are ours to treat."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take none."""
        yield


class ReferenceProcess:
    """The server, and what it answers from."""

    def __init__(
        self, path: Path, loaded: LoadedConfig, section: ReferenceServer, state: Path, heartbeat: Heartbeat
    ) -> None:
        self._path = path
        self._loaded = loaded
        self._section = section
        self._alive = state / ALIVE
        self._heartbeat = heartbeat
        self._logs = configure_logging(loaded.config.log, process="references", node=loaded.config.node)
        self._table = ReferenceTable(state)
        self._shared = SharedReferences(loaded.database_url)
        self._app = ReferenceApp(section.path, self._table, self._shared, time.monotonic)
        self._code = 0

    async def run(self, parent: int) -> int:
        """Serve until told to end; the exit code."""
        section = self._section
        try:
            listening = _listening_socket(section)
            server = _Server(self._settings(section))
            server.config.load()
        except OSError as error:  # ssl.SSLError is one
            _say(logging.ERROR, "references-cannot-listen", listen=section.listen, problem=str(error))
            self._logs.finish()
            await asyncio.sleep(1)
            return 1
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._stop, server)
        loop.add_signal_handler(signal.SIGINT, self._stop, server)
        loop.add_signal_handler(signal.SIGHUP, self._reload, server)
        release_signals()
        self._shared.start()
        self._shared.keep(self._table.read())
        _say(logging.INFO, "references-started", listen=section.listen, url=section.url, known=len(self._table))
        beating = asyncio.create_task(self._beat(server, parent))
        await server.serve([listening])
        beating.cancel()
        with suppress(OSError):
            self._alive.unlink(missing_ok=True)
        await asyncio.to_thread(self._shared.stop)
        _say(logging.INFO, "references-ended")
        self._logs.finish()
        return self._code

    def _settings(self, section: ReferenceServer) -> uvicorn.Config:
        path = self._loaded.path
        return uvicorn.Config(
            self._app,
            http=BoundedConnection,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            limit_concurrency=MOST_CONNECTIONS,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=LAST_ANSWERS_SECONDS,
            h11_max_incomplete_event_size=16_384,
            ssl_certfile=path(section.certificate) if section.certificate else None,
            ssl_keyfile=path(section.private_key) if section.private_key else None,
            ssl_ca_certs=str(path(section.client_ca)) if section.client_ca else None,
            ssl_cert_reqs=ssl.CERT_REQUIRED if section.client_ca else ssl.CERT_NONE,
        )

    async def _beat(self, server: uvicorn.Server, parent: int) -> None:
        """Show that it lives, and read what was handed over."""
        forget_at = 0.0
        sign_at = 0.0
        while True:
            self._shared.keep(self._table.read())
            now = time.monotonic()
            if now >= sign_at:
                sign_at = now + 1.0
                self._heartbeat.beat()
                self._logs.render()
                if server.started:
                    self._show_life()
            if now >= forget_at:
                forget_at = now + FORGET_SECONDS
                self._table.forget_expired()
            if os.getppid() != parent:
                server.should_exit = server.force_exit = True
            await asyncio.sleep(READ_SECONDS)

    def _show_life(self) -> None:
        with suppress(OSError):  # calls then go by value
            self._alive.touch(mode=0o600)

    def _stop(self, server: uvicorn.Server) -> None:
        server.should_exit = True

    def _reload(self, server: uvicorn.Server) -> None:
        """SIGHUP: end for a new process, which has the new configuration and certificates."""
        try:
            loaded = load_config(self._path)
        except ConfigError as error:
            _say(logging.ERROR, "configuration-refused", problems=str(error), used="the old one")
            return
        self._code = 0 if loaded.config.locations.reference_server is None else CHANGED
        server.should_exit = True


def _listening_socket(section: ReferenceServer) -> socket.socket:
    """Raises OSError where the address cannot be had."""
    family = socket.AF_INET6 if ":" in section.host else socket.AF_INET
    found = socket.socket(family, socket.SOCK_STREAM)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((section.host, section.port))
        found.listen(512)
        found.set_inheritable(False)
    except OSError:
        found.close()
        raise
    return found


def main(arguments: list[str] | None = None) -> int:
    """Run until told to end. 0 where there is nothing to do, 1 where the configuration or the address is no good."""
    parser = argparse.ArgumentParser(prog="python -m router.reference_server", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, metavar="FILE")
    parser.add_argument("--state", type=Path, required=True, metavar="DIRECTORY", help="state directory in use")
    parser.add_argument("--parent", type=int, help="process id to die with; default: whoever started this")
    parser.add_argument("--heartbeat", type=int, metavar="FD", help="pipe on which to show that this process lives")
    options = parser.parse_args(arguments)
    hold_signals()
    faulthandler.register(signal.SIGUSR1)  # says where every thread stands, should one ever be stuck
    parent = options.parent or os.getppid()
    die_with_parent(options.parent)
    os.umask(0o077)  # what it reads and writes says where people are
    try:
        loaded = load_config(options.config)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 1
    section = loaded.config.locations.reference_server
    if section is None:
        return 0
    process = ReferenceProcess(options.config, loaded, section, options.state, Heartbeat(options.heartbeat))
    return asyncio.run(process.run(parent))


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # a thread may wait for a database that never answers
