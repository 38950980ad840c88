"""What happens in a gateway, as metrics and as log lines: both in the same place, so that they cannot drift apart.

No line holds a payload, a parcel, a token or a nonce; a device's name stands in it only when it is one of the registry.
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
from streams.telemetry import gateway_events as told

_STEADY_SECONDS = 60.0


class GatewayMetrics:
    """A `Watcher` for a gateway; safe to call from several threads.

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
        self._answer = WeightedHistogram(catalogue.RESPONSE_SECONDS, registry)
        self._records = labelled_counter(catalogue.RECORDS, registry)
        self._denied = labelled_counter(catalogue.DENIED_REQUESTS, registry)
        self._waiting = gauge(catalogue.SPOOL_WAITING_BYTES, registry)
        self._limit = gauge(catalogue.SPOOL_LIMIT_BYTES, registry)
        self._stopped = gauge(catalogue.SPOOL_STOPPED, registry)
        self._syncs = counter(catalogue.SPOOL_SYNCS, registry)
        self._frames = counter(catalogue.SPOOL_FRAMES, registry)
        self._sync_seconds = counter(catalogue.SPOOL_SYNC_SECONDS, registry)
        self._sent = counter(catalogue.SENT_RECORDS, registry)
        self._away = gauge(catalogue.KAFKA_AWAY, registry)
        gauge(BUILD_INFO, registry).labels(*build_versions()).set(1)
        self._not_ready: str | None = "starting"
        self._before = told.GatewayState(0, 0, 0, 0, 0.0, 0)
        self._said_at = time.monotonic()
        self._since = dict.fromkeys((*told.RECORD_RESULTS, "denied"), 0)

    def exposition(self) -> bytes:
        """The metrics as Prometheus reads them."""
        return generate_latest(self.registry)

    def not_ready_reason(self) -> str | None:
        """Why records are not taken now; None when they are."""
        with self._lock:
            return self._not_ready

    def __call__(self, happening: told.GatewayEvent) -> None:
        """Count it and say it."""
        with self._lock:
            match happening:
                case told.RequestAnswered():
                    self._answered(happening)
                case told.RequestDenied():
                    self._deny(happening)
                case told.SpoolStopped():
                    self._stopped.set(1)
                    self._not_ready = happening.error
                    self._log.error("parcels.gateway.spool_stopped", reason=happening.reason, error=happening.error)
                case told.SpoolRecovered():
                    self._stopped.set(0)
                    self._not_ready = None
                    self._log.info("parcels.gateway.spool_works", seconds=happening.seconds)
                case told.KafkaUnavailable():
                    self._away.set(1)
                    self._log.warning("parcels.gateway.kafka_away", error=happening.error)
                case told.KafkaRecovered():
                    self._away.set(0)
                    self._log.info("parcels.gateway.kafka_back", seconds=happening.seconds)
                case told.GatewayState():
                    self._state(happening)
                case told.GatewayStarted():
                    self._not_ready = None
                    say = self._log.warning if happening.allows_anonymous else self._log.info
                    say("parcels.gateway.started", address=happening.address, open_to_all=happening.allows_anonymous)
                case told.GatewayStopped():
                    self._not_ready = "stopped"
                    self._log.info("parcels.gateway.stopped", waiting_bytes=happening.waiting_bytes)
                case _:
                    assert_never(happening)

    def _answered(self, happening: told.RequestAnswered) -> None:
        self._requests[happening.route, str(happening.status)].inc()
        if happening.route != "look":
            self._answer.observe([(happening.seconds, 1)])
        for result, count in (
            ("accepted", happening.accepted),
            ("duplicate", happening.duplicates),
            ("conflict", happening.conflicts),
            ("rejected", happening.rejected),
        ):
            if count:
                self._records[result].inc(count)
                self._since[result] += count

    def _deny(self, happening: told.RequestDenied) -> None:
        self._denied[happening.reason].inc()
        self._since["denied"] += 1
        self._log.warning("parcels.gateway.denied", reason=happening.reason, device=happening.device)

    def _state(self, state: told.GatewayState) -> None:
        before, self._before = self._before, state
        self._waiting.set(state.waiting_bytes)
        self._limit.set(state.limit_bytes)
        self._syncs.inc(state.group_commits - before.group_commits)
        self._frames.inc(state.frames - before.frames)
        self._sync_seconds.inc(max(state.sync_seconds - before.sync_seconds, 0.0))
        self._sent.inc(state.forwarded_records - before.forwarded_records)
        now = time.monotonic()
        if now - self._said_at >= _STEADY_SECONDS:
            self._said_at = now
            self._log.info("parcels.gateway.running", waiting_bytes=state.waiting_bytes, **self._since)
            self._since = dict.fromkeys(self._since, 0)
