"""What the notices process does with the database: each in a thread of its own, so that no notice waits for it."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from config.schema import Config
from router.notices.notice_settings import Settings

if TYPE_CHECKING:
    from router.notices.node_beat import NodeBeat
    from router.provisioning.provisioner import Provisioner
    from router.records.recorder import Recorder


class DatabaseThreads:
    """Recorder, signs of life of this node, provisioning, phones, validation; each None until it is started."""

    def __init__(self, settings: Settings, config: Callable[[], Config], folder: Path) -> None:
        """config: the one in use; folder: where its relative paths begin."""
        self._settings = settings
        self._config = config
        self._folder = folder
        self.recorder: Recorder | None = None
        self._provisioner: Provisioner | None = None
        self.node_beat: NodeBeat | None = None
        """Signs of life of this node in the database, and which others are silent; None while it starts."""
        self._start = threading.Thread(target=self._start_all, daemon=True, name="recorder-start")

    def start(self) -> None:
        """Start them in a thread: their libraries take a while to load, and the first notice shall not wait."""
        self._start.start()

    def _start_all(self) -> None:
        from router.records.recorder import Recorder

        settings = self._settings
        recorder = Recorder(settings.database_url, settings.config.node, settings.state_directory / "journal")
        recorder.start()
        self.recorder = recorder
        from router.notices.node_beat import NodeBeat

        node_beat = NodeBeat(settings.database_url, settings.config.node)
        node_beat.start()
        self.node_beat = node_beat
        self._start_provisioner()
        from router.locations.invitations import Invitations
        from router.locations.phone_keeper import PhoneKeeper

        invitations = Invitations(self._config)
        PhoneKeeper(self._config, settings.database_url, settings.state_directory, invitations.send).start()
        from router.locations.validator import Validator

        Validator(settings.database_url, self._config, self._path).start()

    def reconfigured(self) -> None:
        """The configuration may be another one."""
        if self.node_beat is not None:
            self._start_provisioner()

    def _start_provisioner(self) -> None:
        """Once, where anybody is to be told where devices are."""
        if self._provisioner is not None or not self._config().provisioning:
            return
        from router.provisioning.provisioner import Provisioner

        provisioner = Provisioner(
            self._settings.database_url, self._config, self._path, self._settings.state_directory
        )
        provisioner.start()
        self._provisioner = provisioner

    def _path(self, path: str) -> str:
        return str(self._folder / path)

    def wait_until_started(self, seconds: float) -> None:
        """Wait for the start, so long at the most."""
        self._start.join(seconds)

    def stop(self, seconds: float) -> None:
        """End them; the recorder gets so long to store what it has."""
        if self._provisioner is not None:
            self._provisioner.stop()
        if self.node_beat is not None:
            self.node_beat.stop()
        if self.recorder is not None:
            self.recorder.stop(seconds)
