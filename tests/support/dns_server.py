"""A real DNS server on loopback, whose zone and manners a test changes while it runs."""

import threading
import time
from collections import Counter
from types import TracebackType

from dnslib import QTYPE, RCODE, RR, DNSError, DNSRecord
from dnslib.server import BaseResolver, DNSHandler, DNSLogger, DNSServer

from tests.support.ports import Endpoint, street

SOA = "example.com. {ttl} IN SOA ns.example.com. admin.example.com. 1 3600 600 86400 {ttl}"


class ZoneServer(BaseResolver):
    """UDP and TCP on one endpoint; a context manager.

    `zone` is text in zone file form. `manner`: "answers", "servfail" or "silent" (also per question kind in
    `manners`). `delay`: seconds before each answer. `asked` counts questions by (name, kind).
    """

    def __init__(self, zone: str = "", *, at: Endpoint | None = None, negative_ttl: int = 1) -> None:
        self.endpoint = at or street()["dns"]
        self.manner = "answers"
        self.manners: dict[str, str] = {}
        self.delay = 0.0
        self.asked: Counter[tuple[str, str]] = Counter()
        self.negative_ttl = negative_ttl
        self._lock = threading.Lock()
        self._records: list[RR] = []
        self.zone(zone)
        self._servers: list[DNSServer] = []

    def zone(self, text: str) -> None:
        """Serve these records from now on."""
        records = RR.fromZone(text) if text.strip() else []
        with self._lock:
            self._records = list(records)

    def resolve(self, request: DNSRecord, handler: DNSHandler) -> DNSRecord:
        """dnslib asks here."""
        name, kind = str(request.q.qname).lower(), QTYPE[request.q.qtype]
        self.asked[name.rstrip("."), kind] += 1
        manner = self.manners.get(kind, self.manner)
        if self.delay:
            time.sleep(self.delay)  # in a thread of this question's own
        if manner == "silent":
            raise DNSError("says nothing")  # the handler then sends nothing
        reply = request.reply()
        if manner == "servfail":
            reply.header.rcode = RCODE.SERVFAIL
            return reply
        with self._lock:
            records = list(self._records)
        found = [one for one in records if str(one.rname).lower() == name and QTYPE[one.rtype] == kind]
        for one in found:
            reply.add_answer(one)
        if not found:
            if not any(str(one.rname).lower() == name for one in records):
                reply.header.rcode = RCODE.NXDOMAIN
            reply.add_auth(*RR.fromZone(SOA.format(ttl=self.negative_ttl)))
        return reply

    def __enter__(self) -> "ZoneServer":
        self.start()
        return self

    def start(self) -> None:
        """Listen."""
        logger = DNSLogger(logf=lambda *_: None)
        for tcp in (False, True):
            server = DNSServer(self, address=self.endpoint.address, port=self.endpoint.port, tcp=tcp, logger=logger)
            server.server.daemon_threads = True
            server.server.block_on_close = False
            server.start_thread()
            self._servers.append(server)

    def stop(self) -> None:
        """Close both sockets: questions then meet a closed port."""
        for server in self._servers:
            server.stop()
            server.server.server_close()
        self._servers.clear()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
