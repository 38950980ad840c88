"""Metrics and log lines of a gateway. One place makes both from an event, so that they cannot drift apart.

No line holds a payload, a parcel, a token or a nonce. A device's name stands in a line only if the registry has it.
"""

import threading
import time
from typing import assert_never

import structlog
from prometheus_client import CollectorRegistry, ProcessCollector, disable_created_metrics, generate_latest
from structlog.typing import FilteringBoundLogger

from streams.observe import gateway_metric_catalogue as catalogue
from streams.observe.instruments import WeightedHistogram, counter, gauge, labelled_counter
from streams.observe.metric_catalogue import BUILD_INFO
from streams.observe.worker_metrics import build_versions
from streams.telemetry import gateway_events as events

_PROGRESS_SECONDS = 60.0


class GatewayMetrics:
    """A `GatewayEventListener`; safe to call from several threads.

    >>> metrics = GatewayMetrics()
    >>> b"parcel_gateway_denied_total" in metrics.exposition()
    True
    """

    def __init__(self, registry: CollectorRegistry | None = None, log: FilteringBoundLogger | None = None) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = registry = registry or CollectorRegistry()
        ProcessCollector(registry=registry)
        self._log: FilteringBoundLogger = log or structlog.get_logger()
        self._lock = threading.Lock()
        self._requests = labelled_counter(catalogue.REQUESTS, registry)
        self._request_duration = WeightedHistogram(catalogue.REQUEST_DURATION, registry)
        self._records = labelled_counter(catalogue.RECORDS, registry)
        self._denied = labelled_counter(catalogue.DENIED_REQUESTS, registry)
        self._spool_pending = gauge(catalogue.SPOOL_PENDING_BYTES, registry)
        self._spool_limit = gauge(catalogue.SPOOL_LIMIT_BYTES, registry)
        self._spool_unavailable = gauge(catalogue.SPOOL_UNAVAILABLE, registry)
        self._spool_syncs = counter(catalogue.SPOOL_SYNCS, registry)
        self._spool_writes = counter(catalogue.SPOOL_WRITES, registry)
        self._spool_sync_seconds = counter(catalogue.SPOOL_SYNC_SECONDS, registry)
        self._forwarded_records = counter(catalogue.FORWARDED_RECORDS, registry)
        self._kafka_unavailable = gauge(catalogue.KAFKA_UNAVAILABLE, registry)
        gauge(BUILD_INFO, registry).labels(*build_versions()).set(1)
        self._not_ready_reason: str | None = "starting"
        self._last_state = events.GatewayState(0, 0, 0, 0, 0.0, 0)
        self._last_progress = time.monotonic()
        self._recent_results = dict.fromkeys((*events.RECORD_RESULTS, "denied"), 0)

    def exposition(self) -> bytes:
        """The metrics in Prometheus' exposition format."""
        return generate_latest(self.registry)

    def not_ready_reason(self) -> str | None:
        """Reason why no records are accepted now; None when they are."""
        with self._lock:
            return self._not_ready_reason

    def __call__(self, event: events.GatewayEvent) -> None:
        """Update the metrics and write the log line of an event."""
        with self._lock:
            match event:
                case events.RequestAnswered():
                    self._on_request_answered(event)
                case events.RequestDenied():
                    self._denied[event.reason].inc()
                    self._recent_results["denied"] += 1
                    self._log.warning("parcels.gateway.denied", reason=event.reason, device=event.device)
                case events.SpoolStopped():
                    self._spool_unavailable.set(1)
                    self._not_ready_reason = event.error
                    self._log.error("parcels.gateway.spool_unavailable", reason=event.reason, error=event.error)
                case events.SpoolRecovered():
                    self._spool_unavailable.set(0)
                    self._not_ready_reason = None
                    self._log.info("parcels.gateway.spool_available", seconds=event.seconds)
                case events.KafkaUnavailable():
                    self._kafka_unavailable.set(1)
                    self._log.warning("parcels.gateway.kafka_unavailable", error=event.error)
                case events.KafkaRecovered():
                    self._kafka_unavailable.set(0)
                    self._log.info("parcels.gateway.kafka_available", seconds=event.seconds)
                case events.GatewayState():
                    self._on_state(event)
                case events.GatewayStarted():
                    self._not_ready_reason = None
                    log = self._log.warning if event.allows_anonymous else self._log.info
                    log("parcels.gateway.started", address=event.address, insecure=event.allows_anonymous)
                case events.GatewayStopped():
                    self._not_ready_reason = "stopped"
                    self._log.info("parcels.gateway.stopped", pending_bytes=event.pending_bytes)
                case _:
                    assert_never(event)

    def _on_request_answered(self, event: events.RequestAnswered) -> None:
        self._requests[event.route, str(event.status)].inc()
        if event.route != "read":
            self._request_duration.observe([(event.seconds, 1)])
        for result, count in (
            ("accepted", event.accepted),
            ("duplicate", event.duplicates),
            ("conflict", event.conflicts),
            ("rejected", event.rejected),
        ):
            if count:
                self._records[result].inc(count)
                self._recent_results[result] += count

    def _on_state(self, state: events.GatewayState) -> None:
        before, self._last_state = self._last_state, state
        self._spool_pending.set(state.pending_bytes)
        self._spool_limit.set(state.limit_bytes)
        self._spool_syncs.inc(state.group_commits - before.group_commits)
        self._spool_writes.inc(state.frames - before.frames)
        self._spool_sync_seconds.inc(max(state.sync_seconds - before.sync_seconds, 0.0))
        self._forwarded_records.inc(state.forwarded_records - before.forwarded_records)
        now = time.monotonic()
        if now - self._last_progress >= _PROGRESS_SECONDS:
            self._last_progress = now
            self._log.info("parcels.gateway.running", pending_bytes=state.pending_bytes, **self._recent_results)
            self._recent_results = dict.fromkeys(self._recent_results, 0)
