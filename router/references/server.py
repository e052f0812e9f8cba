"""Location references are answered here: `python -m router.references.server`, a process that `edge911 run` keeps.

It faces providers and PSAPs, and no call depends on it: where it does not live, locations go along by value.
"""

import gc

if __name__ == "__main__":
    gc.disable()  # what is imported stays: to look at it again and again is a fifth of a start; `begin` ends this

import asyncio
import logging
import os
import ssl
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import uvicorn

from config.load import ConfigError, LoadedConfig, load_config
from config.schema import ReferenceServer
from router.process.child_process import begin, end
from router.process.signs_of_life import Heartbeat
from router.process.telemetry import configure_logging, say
from router.process.web_process import CHANGED, WebServer, listening_socket
from router.references.answers import ReferenceApp
from router.references.connections import BoundedConnection
from router.references.spool import ALIVE
from router.references.table import ReferenceTable, SharedReferences

MOST_CONNECTIONS = 1000
KEEP_ALIVE_SECONDS = 10
LAST_ANSWERS_SECONDS = 3
READ_SECONDS = 0.25
"""Between two looks at what was handed over; who asks sooner has it read at once."""
FORGET_SECONDS = 60.0

log = logging.getLogger("router.references")
_say = partial(say, log)


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
            listening = listening_socket(section.host, section.port, 512)
            server = WebServer(self._settings(section))
            server.config.load()
        except OSError as error:  # ssl.SSLError is one
            _say(logging.ERROR, "references-cannot-listen", listen=section.listen, problem=str(error))
            self._logs.finish()
            await asyncio.sleep(1)
            return 1
        server.take_signals(self._reload)
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

    async def _beat(self, server: WebServer, parent: int) -> None:
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

    def _reload(self, server: WebServer) -> None:
        """SIGHUP: end for a new process, which has the new configuration and certificates."""
        try:
            loaded = load_config(self._path)
        except ConfigError as error:
            _say(logging.ERROR, "configuration-refused", problems=str(error), used="the old one")
            return
        self._code = 0 if loaded.config.locations.reference_server is None else CHANGED
        server.should_exit = True


def main(arguments: list[str] | None = None) -> int:
    """Run until told to end. 0 where there is nothing to do, 1 where the configuration or the address is no good."""
    options = begin("router.references.server", __doc__, arguments, state="must")
    assert options.state is not None
    try:
        loaded = load_config(options.config)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 1
    section = loaded.config.locations.reference_server
    if section is None:
        return 0
    process = ReferenceProcess(options.config, loaded, section, options.state, options.heartbeat)
    return asyncio.run(process.run(options.parent))


if __name__ == "__main__":
    end(main())
