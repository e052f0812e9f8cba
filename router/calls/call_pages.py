"""What the call process tells of itself over HTTP: /healthz, /readyz, /metrics."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from router.calls.overload import MOST
from router.network.standing import steps_down
from router.process.health import Answer, json_answer
from router.process.telemetry import CounterGroup, Gauge, GaugeGroup, Metrics, read_status
from sip.parsing import near_limits

if TYPE_CHECKING:
    from router.app import App


class CallPages:
    """The pages; app: what they tell of."""

    def __init__(self, app: "App") -> None:
        self._app = app

    def all(self) -> dict[str, Callable[[], Answer]]:
        """Each page by its path."""
        return {"/healthz": self._healthz, "/readyz": self._readyz, "/metrics": self._metrics}

    def _healthz(self) -> Answer:
        return json_answer(
            200,
            {
                "status": "ok",
                "node": self._app.loaded.config.node,
                "uptime_seconds": round(time.time() - self._app.started_at, 1),
                "database": self._app.database_health,
                "devices": len(self._app.devices),
                "journal": self._app.journal.last_error or "ok",
                "notices": read_status(self._app.loaded.state_directory / "notices.json"),
            },
        )

    def _readyz(self) -> Answer:
        if self._app.router.draining:
            return json_answer(503, {"status": "stopping"})
        return json_answer(200, {"status": "ready", "trunks": self._app.probes.states()})

    def _metrics(self) -> Answer:
        return 200, "text/plain; version=0.0.4; charset=utf-8", self._app.metrics.text()


def metrics_of(app: "App") -> Metrics:
    """All metrics of the call process."""
    router = app.router
    stack = router.stack
    return Metrics(
        [
            CounterGroup("edge911_near_limits", "messages near a limit of size", "limit", near_limits),
            CounterGroup("edge911_dropped", "messages dropped or refused, by reason", "reason", stack.drops),
            CounterGroup("edge911_events", "what happened to calls, by name", "event", router.counts),
            CounterGroup(
                "edge911_location_answers",
                "what location sources said of calls",
                "answer",
                router.location_answers,
            ),
            CounterGroup("edge911_transactions_events", "transaction layer, by name", "event", stack.counts),
            CounterGroup("edge911_transport_events", "sockets, by name", "event", app.edge.counts),
            CounterGroup("edge911_probe_events", "probes of trunks, by name", "event", app.probes.counts),
            CounterGroup("edge911_dns_events", "names looked up, by name", "event", app.dns_counts),
        ],
        [
            Gauge("edge911_server_transactions", "requests being served", lambda: len(stack.servers)),
            Gauge("edge911_client_transactions", "requests sent on", lambda: len(stack.clients)),
            Gauge("edge911_connections", "TCP and TLS connections", lambda: len(app.edge.streams.connections)),
            Gauge(
                "edge911_names_stale",
                "names whose last known servers are used because DNS says nothing of them",
                lambda: app.trunk_resolver.stale + app.resolver.stale,
            ),
            Gauge("edge911_emergency_dialogs", "emergency calls that are up", lambda: len(router.dialogs)),
            Gauge("edge911_lis_answers_kept", "answers of location servers in memory", lambda: len(app.lis)),
            Gauge("edge911_devices", "registered devices in memory", lambda: len(app.devices)),
            Gauge("edge911_wiremap_rows", "access points and switch ports in memory", lambda: len(router.wiremap)),
            Gauge(
                "edge911_validated_addresses",
                "addresses of sites that the LVF was asked about",
                lambda: len(router.validated),
            ),
            Gauge(
                "edge911_database_ok",
                "1 where devices come from the database",
                lambda: float(app.database_health == "ok"),
            ),
            Gauge("edge911_journal_failures", "events not journalled", lambda: app.journal.failures),
            Gauge("edge911_journal_waiting", "events that wait to be journalled", lambda: app.journal.waiting),
            Gauge("edge911_journal_in_memory", "1 while the disk takes none", lambda: int(app.journal.is_spare)),
            Gauge("edge911_journal_lost", "events lost for good", lambda: app.journal.lost),
            Gauge("edge911_loop_lag_seconds", "how late the event loop was", lambda: app.lag),
            Gauge("edge911_nodes", "nodes that share the database", lambda: len(router.callbacks.nodes)),
            Gauge("edge911_leases", "callback numbers remembered", lambda: len(router.callbacks.leases)),
            Gauge("edge911_blocks", "callers blocked by hand", lambda: len(app.blocks)),
            Gauge("edge911_faults", "faults of edge911 itself", lambda: app.faults),
            Gauge("edge911_start_time_seconds", "when the process started", lambda: app.started_at),
            Gauge("edge911_draining", "1 while stopping", lambda: float(router.draining)),
            Gauge("edge911_trace_listeners", "who follows messages now", lambda: app.trace.listeners),
            Gauge("edge911_trace_lost", "messages that some listener missed", lambda: app.trace.lost),
            Gauge(
                "edge911_trace_not_followed",
                "emergency calls of a storm whose messages are not kept for the console",
                lambda: app.trace.not_followed,
            ),
            Gauge("edge911_log_lines_lost", "log lines nobody could take", lambda: app.logs.lost),
            Gauge("edge911_log_lines_not_rendered", "log lines put plainly", lambda: app.logs.not_rendered),
        ],
        {
            "notices": app.loaded.state_directory / "notices.json",
            "trace_export": app.loaded.state_directory / "trace-export.json",
        },
        [
            GaugeGroup("edge911_elins_free", "ELINs that nobody has, by pool", "pool", app.router.callbacks.free),
            GaugeGroup(
                "edge911_limit_used_ratio",
                "how much of a limit is used, 1 is all",
                "limit",
                lambda: {limit.name: limit.share for limit in app.limits},
            ),
            GaugeGroup(
                "edge911_waiting_messages",
                "messages that wait for their turn in an overload",
                "kind",
                lambda: {kind: len(getattr(app.overload, kind)) for kind in MOST},
            ),
            GaugeGroup(
                "edge911_trunk_up", "1 where a probed trunk answers, 0 where it is down", "trunk", app.probes.up
            ),
            GaugeGroup(
                "edge911_trunk_place_up",
                "the same for each address of a trunk",
                "place",
                app.probes.places_up,
            ),
            GaugeGroup(
                "edge911_certificate_expires_seconds",
                "seconds until a certificate ends, ours and those that trunks showed",
                "certificate",
                app.certificates.seconds_left,
            ),
            GaugeGroup(
                "edge911_trunk_steps_down",
                "how far below verified TLS a trunk was reached last: 0, 1 unverified, 2 TCP, 3 UDP",
                "trunk",
                lambda: steps_down(app.router.trunks),
            ),
        ],
    )
