"""Certificates are renewed by replacing their files; what is good in them is used within seconds."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Coroutine

from router.network.certificates import Certificates, TlsFiles
from sip.flow import ListeningPoint
from sip.transport import SipEdge

log = logging.getLogger("edge911.calls")


class CertificateRenewal:
    """Reads the files of certificates again where they have changed. begin: runs a coroutine beside the calls."""

    def __init__(
        self,
        certificates: Certificates,
        edge: SipEdge,
        counts: Counter[str],
        begin: Callable[[Coroutine[object, object, None]], None],
    ) -> None:
        self._certificates = certificates
        self._edge = edge
        self._counts = counts
        self._begin = begin
        self._is_reading = False
        self.waiting: list[ListeningPoint] = []
        """TLS listening points that wait for a certificate that can be used."""

    def notice(self) -> None:
        """Certificates are renewed by replacing their files."""
        if not self._is_reading and self._certificates.files.all:
            self._is_reading = True
            self._begin(self._renew())

    async def _renew(self) -> None:
        try:
            if await asyncio.to_thread(self._certificates.has_changed):
                await self.read(self._certificates.files)
        except Exception:
            self._counts["faults"] += 1
            log.exception("fault in edge911 itself, while certificates were read; the old ones stay")
        finally:
            self._is_reading = False

    async def read(self, files: TlsFiles) -> None:
        """Read the files and use what is good in them; connections that stand are not touched."""
        if not files.all and not self._certificates.files.all:
            self._certificates.files = files
            return
        self._certificates.use(*await asyncio.to_thread(self._certificates.read_again, files))
        self.say()
        if self._certificates.server() is not None and self.waiting:
            waiting, self.waiting = self.waiting, []
            for point in waiting:
                try:
                    await self._edge.listen_stream(point, point.host)
                    log.info("serving on %r too: there is a certificate now", point)
                except OSError as error:
                    self.waiting.append(point)
                    log.error("cannot listen on %r: %s", point, error.strerror or error)

    def say(self) -> None:
        """Log what was read, and what could not be."""
        if not self._certificates.files.all:
            return
        troubles = self._certificates.material.troubles
        self._counts["certificates_read"] += 1
        for trouble in troubles:
            self._counts["certificates_refused"] += 1
            log.error("%s; what was read before stays in use, and nothing else is affected", trouble)
        if not troubles:
            log.info("certificates read")
        self._certificates.warn()
