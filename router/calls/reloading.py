"""Another configuration, or other addresses of trunks, are taken into use while calls go on."""

import asyncio
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from config.load import ConfigError, load_config
from router.network.certificates import files_of
from router.notices.confirmations import request_alarm
from router.notices.contact_urls import unusable_urls_apart

if TYPE_CHECKING:
    from router.app import App

RELOAD_RESOLVE_SECONDS = 2.0
"""So long a reload waits for the addresses of trunks that are given by name."""

PROBLEMS_TOLD = 5

log = logging.getLogger("edge911.calls")


def refused_words(node: str, file: str, problems: Sequence[str]) -> tuple[str, str]:
    """Subject and text of the alarm, in both languages: whoever it concerns may read either."""
    shown = [*problems[:PROBLEMS_TOLD], *(["…"] if len(problems) > PROBLEMS_TOLD else [])]
    return (
        f"edge911 {node}: new configuration refused / nouvelle configuration refusée",
        "The new configuration was refused when it was reloaded. Calls go on by the old one; after a restart edge911 "
        "does not start with the new one. Mend it and reload: edge911 check says the same.\n\n"
        "La nouvelle configuration a été refusée au rechargement. Les appels continuent avec l’ancienne; edge911 ne "
        "redémarrerait pas avec la nouvelle. Corrigez-la et rechargez : edge911 check dit la même chose.\n\n"
        + "\n".join([file, *shown])
        + "\n",
    )


class Reloading:
    """Makes a new Setup beside the calls, and has the process use it. app: the process."""

    def __init__(self, app: "App") -> None:
        self._app = app
        self._one_at_a_time = asyncio.Lock()
        """One Setup is made at a time."""
        self.is_readdressing = False

    async def _refuse(self, problems: Sequence[str]) -> None:
        for problem in problems:
            log.error("configuration refused, the old one stays: %s", problem)
        await self._count_refused(problems)

    async def _count_refused(self, problems: Sequence[str]) -> None:
        """Counted and told: whoever had it reloaded believes that 911 calls go by what is written there."""
        app = self._app
        app.router.counts["reloads_refused"] += 1
        subject, body = refused_words(app.loaded.config.node, str(app.path), problems)
        try:
            await asyncio.to_thread(
                request_alarm, app.loaded.state_directory, name="configuration-refused", subject=subject, body=body
            )
        except OSError as error:
            log.error("nobody is told that the configuration was refused: %s", error)

    async def reload(self) -> None:
        """Take the new configuration, or keep the old one and say what is wrong with the new."""
        app = self._app
        async with self._one_at_a_time:
            try:
                loaded = await asyncio.to_thread(load_config, app.path)
                await app.trunk_names.resolve(loaded, RELOAD_RESOLVE_SECONDS)
                addresses = app.trunk_names.addresses(loaded)
                setup = await asyncio.to_thread(app.setup, loaded, addresses, app.router.trunks)
                await app.renewal.read(files_of(loaded))
                unusable = await asyncio.to_thread(unusable_urls_apart, app.path)
            except ConfigError as error:
                await self._refuse([str(problem) for problem in error.problems])
                return
            except Exception:
                app.router.counts["faults"] += 1
                log.exception("fault in edge911 itself, while the configuration was read; the old one stays")
                await self._count_refused(["fault in edge911 itself; see its log"])
                return
            if unusable:
                await self._refuse(unusable)
                return
            old = app.loaded
            app.use(loaded, setup, addresses)
        app.router.counts["reloads"] += 1
        if (
            loaded.config.listen != old.config.listen
            or loaded.config.health != old.config.health
            or loaded.database_url != old.database_url
            or loaded.config.dns != old.config.dns
        ):
            log.warning("listen, health.listen, dns and locations.database change at the next restart only")
        app.log_warnings()
        log.info("configuration reloaded")

    def notice_addresses(self) -> None:
        """Trunks given by name may have moved."""
        if not self.is_readdressing and self.has_moved():
            self.is_readdressing = True
            self._app.begin(self._readdress())

    def has_moved(self) -> bool:
        """True where a trunk has other addresses; name servers give the same ones in any order."""
        app = self._app
        now = app.trunk_names.addresses(app.loaded)
        return {name: set(found) for name, found in now.items()} != {
            name: set(found) for name, found in app.addresses.items()
        }

    async def _readdress(self) -> None:
        app = self._app
        try:
            async with self._one_at_a_time:
                loaded, addresses = app.loaded, app.trunk_names.addresses(app.loaded)
                setup = await asyncio.to_thread(app.setup, loaded, addresses, app.router.trunks)
                app.use(loaded, setup, addresses)
        except Exception:
            app.router.counts["faults"] += 1
            log.exception("fault in edge911 itself, while trunks got new addresses; the old ones stay")
        finally:
            self.is_readdressing = False
