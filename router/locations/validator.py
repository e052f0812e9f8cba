"""The thread of the notices process that has addresses of devices and sites validated, if `locations.lvf` is set.

Every ten minutes it asks about what is due (router.locations.validation), one question at a time. A server that
does not answer is left alone until the next time. Nothing waits for it.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Final

from sqlalchemy import Engine

from config.schema import Config
from e911.location import CivicAddress
from e911.lost import Validation
from router.emergency.rules import places_of
from router.locations.validation import DAY, address_of, due_seconds, validate_devices, validate_places
from router.store.device_list import names_to_validate
from router.store.devices import get_devices
from router.store.engine import StoreError, open_store, reading

LOOK_SECONDS: Final = 600.0
PAGE: Final = 200
PAUSE_SECONDS: Final = 0.02
"""Between two questions: it is nobody's hurry."""

log = logging.getLogger("router.validation")


class Validator(threading.Thread):
    """settings: the configuration in use. path: where a file of it is."""

    def __init__(self, url: str, settings: Callable[[], Config], path: Callable[[str], str]) -> None:
        super().__init__(daemon=True, name="validator")
        self._url = url
        self._settings = settings
        self._path = path
        self._stopping = threading.Event()
        self._problem = ""

    def stop(self, timeout: float = 1.0) -> None:
        """End; a question on its way is asked again after the next start."""
        self._stopping.set()
        if self.is_alive():
            self.join(timeout)

    def run(self) -> None:
        """The thread."""
        while not self._stopping.is_set():
            try:
                problem, words = self.look(time.time())
            except Exception as error:  # whatever it is, it is tried again
                problem = error.reason if isinstance(error, StoreError) else type(error).__name__
                words = str(error)
            if problem and problem != self._problem:
                log.warning("validation-failed", extra={"event_fields": {"reason": problem, "detail": words[:500]}})
            self._problem = problem
            self._stopping.wait(LOOK_SECONDS)

    def look(self, now: float) -> tuple[str, str]:
        """Ask about all that is due at `now`; gives the reason and words of a server that did not answer, or ''."""
        config = self._settings()
        if config.locations.lvf is None:
            return "", ""
        engine = open_store(self._url, wait=5.0)
        try:
            return self._ask_due(engine, config, now)
        finally:
            engine.dispose()

    def _ask_due(self, engine: Engine, config: Config, now: float) -> tuple[str, str]:
        from router.locations.lvf_client import LvfClient

        section = config.locations.lvf
        assert section is not None
        places, every = places_of(config), due_seconds(config)
        told: Counter[str] = Counter()
        after = reason = words = ""
        with LvfClient(section, self._path, config.tls.ca if config.tls is not None else None) as client:

            def ask(civic: CivicAddress) -> Validation:
                self._stopping.wait(PAUSE_SECONDS)
                return client.validate(civic)

            while not self._stopping.is_set():
                with reading(engine) as conn:
                    names = names_to_validate(conn, now - every, now - min(every, DAY), after=after, limit=PAGE)
                    known = get_devices(conn, names)
                due = [device for device in known.values() if address_of(device, places, now) is not None]
                run = validate_devices(engine, due, places, ask, stopping=self._stopping)
                told.update(run.counts)
                if run.failures:  # one address that the server chokes on keeps no other from being asked about
                    reason, words = run.failures.most_common(1)[0][0], run.words
                if run.gave_up:
                    return reason, words
                if len(names) < PAGE:
                    break
                after = names[-1]
            run = validate_places(engine, places, ask, every, stopping=self._stopping)
            told.update(run.counts)
            if run.failures:
                reason, words = run.failures.most_common(1)[0][0], run.words
        if told:
            log.info("locations-validated", extra={"event_fields": dict(told)})
        return reason, words
