"""Notices as SNMP traps (v2c and v3) or informs; what they hold is in docs/EDGE911-MIB.txt.

A trap has no answer: it counts as delivered when it was sent. An inform is answered, and tried again until it is.
"""

import asyncio
import hashlib
import os
import threading
import time
from contextlib import suppress
from typing import Any

from config.channel_urls import SnmpReceiver
from router.notices.outbox import Attempt
from router.notices.receivers.job import Job, base_kind

ROOT = "1.3.6.1.4.1.32473.911"
"""Under the number that IANA keeps for examples (RFC 5612)."""
NOTIFICATIONS = {"call": 1, "test": 2, "failed": 3, "refused": 4, "untold": 6, "escalated": 7, "alarm": 8}
FOLLOW_UP = 5
LONGEST = 900
"""Bytes of one text: with the others it fits a datagram."""
_TIMEOUT, _RETRIES = 2, 2
_loading = threading.Lock()


def load() -> Any:
    """The SNMP library, which takes a third of a second to load: before the first notice, then."""
    with _loading:
        from pysnmp.entity import engine
        from pysnmp.hlapi.v3arch import asyncio as library

        engine.tempfile = _NoTemporaryFiles
        return library


class _NoTemporaryFiles:
    """What the library has in place of `tempfile`: it would count its starts in a file that anybody may own."""

    @staticmethod
    def gettempdir() -> str:
        """Where nothing can be made."""
        return os.devnull


class SnmpAgent:
    """The SNMP engines of this process, one for each engine id, in a thread of their own.

    To a receiver of version 3 an engine is a clock (RFC 3414 section 2.2): two with one id would each be late for it.
    """

    def __init__(self, node: str) -> None:
        self.node = node
        self.library = load()
        self.loop = asyncio.new_event_loop()
        self._boots = int(time.time() // 60)
        self._engines: dict[str, Any] = {}
        self._thread = threading.Thread(target=self._run, daemon=True, name="snmp-agent")
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
        finally:
            self.loop.close()

    def engine(self, engine_id: str) -> Any:
        """The engine with this id (hexadecimal); called in its thread.

        Its count of starts is the minute of this one, which rises as well and needs no file; a receiver allows for
        150 s within one.
        """
        found = self._engines.get(engine_id)
        if found is None:
            own_id = self.library.OctetString(hexValue=engine_id)
            found = self._engines[engine_id] = self.library.SnmpEngine(own_id)
            (boots,) = found.get_mib_builder().import_symbols("__SNMP-FRAMEWORK-MIB", "snmpEngineBoots")
            boots.syntax = boots.syntax.clone(self._boots)
        return found

    def close(self) -> None:
        """End the thread."""
        with suppress(RuntimeError):
            asyncio.run_coroutine_threadsafe(self._close(), self.loop)
        self._thread.join(5)

    async def _close(self) -> None:
        for engine in self._engines.values():
            engine.close_dispatcher()
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        self.loop.call_soon(self.loop.stop)


class SnmpWay:
    """One receiver."""

    def __init__(self, agent: SnmpAgent, receiver: SnmpReceiver) -> None:
        self._agent = agent
        self._receiver = receiver
        self._library = agent.library
        self._target: Any = None

    def send(self, job: Job) -> Attempt:
        """One trap or inform."""
        where = f"{self._receiver.host}:{self._receiver.port}"
        future = asyncio.run_coroutine_threadsafe(self._send(job), self._agent.loop)
        try:
            error = future.result(_TIMEOUT * (_RETRIES + 1) + 5)
        except Exception as found:  # whatever the library makes of a name, a password or a socket
            future.cancel()
            words = f"{where}: {type(found).__name__}: {found}"
            return Attempt(delivered=False, reason="unreachable", words=words[:300])
        if error:
            is_silent = "timeout" in error.lower() or "before" in error.lower()
            reason = "timeout" if is_silent else "refused"
            return Attempt(delivered=False, reason=reason, words=f"{where}: {error}"[:300])
        what = "the receiver has answered" if self._receiver.is_inform else "a trap has no answer"
        return Attempt(delivered=True, words=f"sent to {where}; {what}")

    async def _send(self, job: Job) -> str:
        library, receiver, node = self._library, self._receiver, self._agent.node
        if self._target is None:
            self._target = await library.UdpTransportTarget.create(
                (receiver.host, receiver.port), timeout=_TIMEOUT, retries=_RETRIES
            )
        number = FOLLOW_UP if job.is_follow_up else NOTIFICATIONS.get(base_kind(job.kind), 1)
        notification = library.NotificationType(library.ObjectIdentity(f"{ROOT}.0.{number}"))
        values = (job.call, job.kind, job.site, job.contact, node, job.subject, job.body)
        notification.add_varbinds(
            *(
                (f"{ROOT}.1.{index}.0", library.OctetString(_bytes(value)))
                for index, value in enumerate(values, start=1)
            )
        )
        error, status, index, _ = await library.send_notification(
            self._agent.engine(receiver.engine_id or engine_id_of(node)),
            self._credentials(),
            self._target,
            library.ContextData(),
            "inform" if receiver.is_inform else "trap",
            notification,
            lookupMib=False,
        )
        if error:
            return str(error)
        return f"{status.prettyPrint()} at {index}" if status else ""

    def close(self) -> None:
        """The agent is for all."""

    def _credentials(self) -> Any:
        library, receiver = self._library, self._receiver
        if receiver.version == "2c":
            return library.CommunityData(receiver.community, mpModel=1)
        auth = {
            "": library.USM_AUTH_NONE,
            "md5": library.USM_AUTH_HMAC96_MD5,
            "sha": library.USM_AUTH_HMAC96_SHA,
            "sha224": library.USM_AUTH_HMAC128_SHA224,
            "sha256": library.USM_AUTH_HMAC192_SHA256,
            "sha384": library.USM_AUTH_HMAC256_SHA384,
            "sha512": library.USM_AUTH_HMAC384_SHA512,
        }
        privacy = {
            "": library.USM_PRIV_NONE,
            "des": library.USM_PRIV_CBC56_DES,
            "3des": library.USM_PRIV_CBC168_3DES,
            "aes": library.USM_PRIV_CFB128_AES,
            "aes192": library.USM_PRIV_CFB192_AES,
            "aes256": library.USM_PRIV_CFB256_AES,
        }
        return library.UsmUserData(
            receiver.user,
            receiver.auth_password or None,
            receiver.privacy_password or None,
            authProtocol=auth[receiver.auth],
            privProtocol=privacy[receiver.privacy],
        )


def engine_id_of(node: str) -> str:
    """The SNMPv3 engine id of a node, in hexadecimal (RFC 3411: enterprise 32473, octets); receivers must know it."""
    return f"80007ed905{hashlib.blake2b(node.encode(), digest_size=8).hexdigest()}"


def _bytes(text: str) -> bytes:
    return text.encode()[:LONGEST].decode("utf-8", "ignore").encode()
