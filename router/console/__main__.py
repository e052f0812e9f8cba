"""The console process: `python -m router.console --config FILE`, started and restarted by `edge911 run`."""

import gc

if __name__ == "__main__":
    gc.disable()  # what is imported stays: to look at it again and again is a fifth of a start; `begin` ends this

import asyncio
import logging
import os
import sys
from functools import partial
from pathlib import Path

import uvicorn
from anyio.to_thread import current_default_thread_limiter

from config.load import ConfigError, LoadedConfig, load_config
from config.schema import Console as ConsoleSection
from router.console.app import create_app, make_console
from router.console.connections import AskingConnection
from router.console.settings import Console
from router.notices.contact_urls import unusable_urls_apart
from router.process.child_process import begin, end
from router.process.signs_of_life import Heartbeat
from router.process.telemetry import DeferredLog, configure_logging, say
from router.process.web_process import CHANGED, WebServer, listening_socket
from router.records.call_messages import MessageKeeper

NICENESS = 10
"""Calls come first where the machine has too little to do both."""
THREADS = 12
"""Requests that wait for the database at the same time; more wait for these."""
MOST_CONNECTIONS = 2500
KEEP_ALIVE_SECONDS = 30
LAST_ANSWERS_SECONDS = 3

log = logging.getLogger("router.console")
_say = partial(say, log)


class ConsoleProcess:
    """The server, its log and its signs of life."""

    def __init__(self, path: Path, loaded: LoadedConfig, state: Path | None, heartbeat: Heartbeat) -> None:
        self._path = path
        self._heartbeat = heartbeat
        self._logs: DeferredLog = configure_logging(loaded.config.log, process="console", node=loaded.config.node)
        self._console: Console = make_console(loaded, state)
        self._code = 0
        self._reading: asyncio.Task[None] | None = None

    async def run(self, parent: int) -> int:
        """Serve until told to end; the exit code."""
        section = self._console.section
        current_default_thread_limiter().total_tokens = THREADS
        try:
            listening = listening_socket(section.host, section.port, 1024, v6_only=True)
            server = WebServer(self._settings(section))
            server.config.load()
        except OSError as error:
            _say(logging.ERROR, "console-cannot-listen", listen=section.listen, problem=str(error))
            self._logs.finish()
            await asyncio.sleep(1)
            return 1
        server.take_signals(self._reload)
        _say(logging.INFO, "console-started", listen=section.listen, url=section.url)
        beating = asyncio.create_task(self._beat(server, parent))
        keeper = self._message_keeper(section)
        await server.serve([listening])
        beating.cancel()
        if keeper is not None:
            await asyncio.to_thread(keeper.stop)
        self._console.store.close()
        _say(logging.INFO, "console-ended")
        self._logs.finish()
        return self._code

    def _settings(self, section: ConsoleSection) -> uvicorn.Config:
        path = self._console.loaded.path
        return uvicorn.Config(
            create_app(self._console),
            http=AskingConnection,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            limit_concurrency=MOST_CONNECTIONS,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=LAST_ANSWERS_SECONDS,
            ssl_certfile=path(section.certificate) if section.certificate else None,
            ssl_keyfile=path(section.private_key) if section.private_key else None,
        )

    def _message_keeper(self, section: ConsoleSection) -> MessageKeeper | None:
        """The thread that keeps the SIP messages of emergency calls, where they are to be kept."""
        if section.keep_messages_days <= 0:
            return None
        console = self._console
        seconds = section.keep_messages_days * 86_400.0
        keeper = MessageKeeper(console.state_directory, console.config.node, console.store.writing, seconds)
        keeper.start()
        return keeper

    async def _beat(self, server: WebServer, parent: int) -> None:
        while True:
            self._heartbeat.beat()
            self._logs.render()
            if os.getppid() != parent:
                server.should_exit = server.force_exit = True
            await asyncio.sleep(0.5)

    def _reload(self, server: WebServer) -> None:
        """SIGHUP: the new configuration, read beside what is served."""
        self._reading = asyncio.create_task(self._reread(server))

    async def _reread(self, server: WebServer) -> None:
        """Take the configuration that calls take; where `console` or the database is another one, end for a new
        process."""
        try:
            loaded = await asyncio.to_thread(load_config, self._path)
            unusable = await asyncio.to_thread(unusable_urls_apart, self._path)
        except ConfigError as error:
            unusable = [str(error)]
        if unusable:
            _say(logging.ERROR, "configuration-refused", problems="\n".join(unusable), used="the old one")
            return
        old = self._console.loaded
        if loaded.config.console != old.config.console or loaded.database_url != old.database_url:
            self._code = 0 if loaded.config.console is None else CHANGED
            server.should_exit = True
            return
        self._console.loaded = loaded
        _say(logging.INFO, "configuration-reloaded")


def main(arguments: list[str] | None = None) -> int:
    """Run until told to end. 0 where there is nothing to do, 1 where the configuration or the address is no good."""
    options = begin("router.console", __doc__, arguments, state="may")
    os.nice(NICENESS)
    try:
        loaded = load_config(options.config)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 1
    if loaded.config.console is None:
        return 0
    return asyncio.run(ConsoleProcess(options.config, loaded, options.state, options.heartbeat).run(options.parent))


if __name__ == "__main__":
    end(main())
