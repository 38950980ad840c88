"""Metrics and log lines of a worker. One place makes both from an event, so that they cannot drift apart.

The level of a line says what the operator must do. ERROR: act now. WARNING: look if it comes again. INFO: nothing.
In steady running there is one INFO line a minute.
"""

import platform
import threading
from collections import Counter
from collections.abc import Collection
from datetime import UTC, datetime
from importlib import metadata
from typing import Final, assert_never

import structlog
from prometheus_client import CollectorRegistry, ProcessCollector, disable_created_metrics
from structlog.typing import FilteringBoundLogger

from streams.domain.double_containment import DoubleContainment
from streams.domain.promises import ANOMALIES
from streams.observe import metric_catalogue
from streams.observe.instruments import WeightedHistogram, counter, gauge, labelled_counter, labelled_gauge
from streams.telemetry import worker_events as events

NO_SITE = "none"
PARCEL_PROCESSOR: Final = "parcels"
CONTAINER_PROCESSOR: Final = "containers"
# Lines about double containments between two lines of steady running.
_DOUBLE_CONTAINMENT_LINES: Final = 50


class WorkerMetrics:
    """An `EventListener`: pass it to the worker and to `start_status_server`.

    Safe to call from several threads.

    >>> metrics = WorkerMetrics(sites=["LGG"])
    >>> metrics.not_ready_reason()
    'the worker has not started'
    """

    def __init__(
        self,
        registry: CollectorRegistry | None = None,
        sites: Collection[str] = (),
        promises: Collection[str] = (),
        log: FilteringBoundLogger | None = None,
    ) -> None:
        """`sites`, `promises`: label values shown by name; all others are counted under `other`."""
        # The client would add a second series to each counter, with its start time: the process has one already.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = registry = registry or CollectorRegistry()
        ProcessCollector(registry=registry)
        self._log: FilteringBoundLogger = log or structlog.get_logger()
        self._lock = threading.Lock()
        self._scans = labelled_counter(metric_catalogue.SCANS, registry, site=(*sites, NO_SITE))
        self._records = counter(metric_catalogue.RECORDS, registry)
        self._duplicates = counter(metric_catalogue.DUPLICATES, registry)
        self._dead_letters = labelled_counter(metric_catalogue.DEAD_LETTERS, registry)
        self._states = counter(metric_catalogue.STATES, registry)
        self._milestones = counter(metric_catalogue.MILESTONES, registry)
        self._alerts = labelled_counter(metric_catalogue.ALERTS, registry, condition=(*promises, *ANOMALIES))
        self._promise_clocks = labelled_gauge(metric_catalogue.PROMISE_CLOCKS, registry, promise=promises)
        self._retired_parcels = counter(metric_catalogue.RETIRED_PARCELS, registry)
        self._scan_to_state = WeightedHistogram(metric_catalogue.SCAN_TO_STATE, registry)
        self._lag_records = gauge(metric_catalogue.LAG_RECORDS, registry)
        self._lag_seconds = gauge(metric_catalogue.LAG_SECONDS, registry)
        self._batch_seconds = WeightedHistogram(metric_catalogue.BATCH_SECONDS, registry)
        self._transaction_seconds = WeightedHistogram(metric_catalogue.TRANSACTION_SECONDS, registry)
        self._phase_seconds = labelled_counter(metric_catalogue.PHASE_SECONDS, registry)
        self._container_events = labelled_counter(metric_catalogue.CONTAINER_EVENTS, registry, site=(*sites, NO_SITE))
        self._inferred_records = labelled_counter(metric_catalogue.INFERRED_RECORDS, registry)
        self._event_to_scan = WeightedHistogram(metric_catalogue.CONTAINER_EVENT_TO_SCAN, registry)
        self._containers = gauge(metric_catalogue.CONTAINERS, registry)
        self._pending_fan_outs = gauge(metric_catalogue.PENDING_FAN_OUTS, registry)
        self._container_lag_seconds = gauge(metric_catalogue.CONTAINER_LAG_SECONDS, registry)
        self._retired_containers = counter(metric_catalogue.RETIRED_CONTAINERS, registry)
        self._double_containments = labelled_counter(metric_catalogue.DOUBLE_CONTAINMENTS, registry)
        self._last_batch = gauge(metric_catalogue.LAST_BATCH, registry)
        self._in_hub_parcels = labelled_gauge(metric_catalogue.IN_HUB_PARCELS, registry)
        self._hub_time = gauge(metric_catalogue.HUB_TIME, registry)
        self._assigned_partitions = gauge(metric_catalogue.ASSIGNED_PARTITIONS, registry)
        self._rebalances = labelled_counter(metric_catalogue.REBALANCES, registry)
        self._membership_losses = labelled_counter(metric_catalogue.GROUP_MEMBERSHIP_LOSSES, registry)
        self._restore_seconds = WeightedHistogram(metric_catalogue.RESTORE_SECONDS, registry)
        self._restored_parcels = counter(metric_catalogue.RESTORED_PARCELS, registry)
        self._transaction_recoveries = labelled_counter(metric_catalogue.TRANSACTION_RECOVERIES, registry)
        self._kafka_unavailable = gauge(metric_catalogue.KAFKA_UNAVAILABLE, registry)
        self._ticks_stopped = gauge(metric_catalogue.TICKS_STOPPED, registry)
        gauge(metric_catalogue.BUILD_INFO, registry).labels(*build_versions()).set(1)

        self._is_started = self._is_stopped = self._is_kafka_unavailable = False
        # Processor -> owned partition -> is its table restored?
        self._owned: dict[str, dict[int, bool]] = {PARCEL_PROCESSOR: {}, CONTAINER_PROCESSOR: {}}
        self._owned_by_parcels = self._owned[PARCEL_PROCESSOR]
        # What each owned partition adds to the gauges; a revoked partition is subtracted again.
        self._stages_by_partition: dict[int, dict[str, int]] = {}
        self._clocks_by_partition: dict[int, dict[str, int]] = {}
        self._lag_by_partition: dict[int, int] = {}
        # Containers in the table, and pending fan-outs.
        self._containers_by_partition: dict[int, tuple[int, int]] = {}
        self._hub_time_ms = 0
        # Since the last line of steady running.
        self._recent_dead_letters: Counter[str] = Counter()
        self._recent_duplicates = 0
        self._recent_double_containments = 0

    def not_ready_reason(self) -> str | None:
        """Reason why this worker does not process its partitions now; None when it does."""
        with self._lock:
            if not self._is_started:
                return "the worker has not started"
            if self._is_stopped:
                return "the worker has stopped"
            if self._is_kafka_unavailable:
                return "no Kafka broker answers"
            restoring = sorted({p for owned in self._owned.values() for p, restored in owned.items() if not restored})
            return f"restoring {_join(restoring)}" if restoring else None

    def __call__(self, event: events.WorkerEvent) -> None:
        """Update the metrics and write the log line of an event."""
        with self._lock:
            match event:
                case events.ParcelBatchCommitted():
                    self._on_parcel_batch(event)
                case events.ContainerBatchCommitted():
                    self._on_container_batch(event)
                case events.WorkerStarted():
                    self._on_started(event)
                case events.WorkerStopped():
                    self._on_stopped(event)
                case events.PartitionsAssigned():
                    self._on_assigned(event)
                case events.PartitionsRevoked():
                    self._on_revoked(event)
                case events.GroupMembershipLost():
                    self._membership_losses[event.reason].inc()
                    self._log.warning("parcels.worker.rejoining", reason=event.reason, error=event.error)
                case events.PartitionRestored():
                    self._on_restored(event)
                case events.TransactionRecovered():
                    self._on_transaction_recovered(event)
                case events.BrokerUnavailable():
                    self._set_kafka_unavailable(unavailable=True)
                    self._log.warning("parcels.worker.kafka_unavailable", error=event.error)
                case events.BrokerRecovered():
                    self._set_kafka_unavailable(unavailable=False)
                    self._log.info("parcels.worker.kafka_available", seconds=event.seconds)
                case events.TicksStopped():
                    self._ticks_stopped.set(1)
                    self._log.warning(
                        "parcels.worker.ticks_stopped", partitions=_join(event.partitions), seconds=event.seconds
                    )
                case events.TicksResumed():
                    self._ticks_stopped.set(0)
                    self._log.info("parcels.worker.ticks_resumed", seconds=event.seconds)
                case events.WorkerProgress():
                    self._on_progress(event)
                case _:
                    assert_never(event)

    def _on_parcel_batch(self, batch: events.ParcelBatchCommitted) -> None:
        for (site, kind, direction), number in batch.scans.items():
            self._scans[site or NO_SITE, kind, direction].inc(number)
        self._records.inc(batch.records)
        self._duplicates.inc(batch.duplicates)
        self._states.inc(batch.states)
        self._milestones.inc(batch.milestones)
        for type_and_condition, number in batch.alerts.items():
            self._alerts[type_and_condition].inc(number)
        self._retired_parcels.inc(batch.retired)
        self._scan_to_state.observe(batch.scan_to_state)
        for phase, seconds in batch.seconds.items():
            self._phase_seconds[phase].inc(max(seconds, 0.0))
        self._batch_seconds.observe([(sum(batch.seconds.values()), 1)])
        self._transaction_seconds.observe([(batch.seconds.get("send", 0.0) + batch.seconds.get("commit", 0.0), 1)])
        self._last_batch.set_to_current_time()
        if batch.hub_time is not None and batch.hub_time > self._hub_time_ms:
            self._hub_time_ms = batch.hub_time
            self._hub_time.set(batch.hub_time / 1000)
        # The event of a partition's last batch may arrive after the event of its revocation.
        if batch.partition in self._owned_by_parcels:
            self._lag_by_partition[batch.partition] = batch.lag_records
            self._lag_records.labels(batch.partition).set(batch.lag_records)
            self._lag_seconds.labels(batch.partition).set(batch.lag_seconds)
            self._set_stages(batch.partition, dict(batch.parcels_by_stage))
            self._set_clocks(batch.partition, dict(batch.active_clocks))
        self._recent_duplicates += batch.duplicates
        self._count_dead_letters(batch)

    def _on_container_batch(self, batch: events.ContainerBatchCommitted) -> None:
        for (site, kind), number in batch.events.items():
            self._container_events[site or NO_SITE, kind].inc(number)
        for kind, number in batch.inferred_records.items():
            self._inferred_records[kind].inc(number)
        self._event_to_scan.observe(batch.event_to_scan)
        self._retired_containers.inc(batch.retired)
        if batch.partition in self._owned[CONTAINER_PROCESSOR]:
            self._container_lag_seconds.labels(batch.partition).set(batch.lag_seconds)
            self._set_containers(batch.partition, (batch.containers, batch.pending_fan_outs))
        for found in batch.double_containments:
            self._on_double_containment(found)
        self._count_dead_letters(batch)

    def _on_double_containment(self, found: DoubleContainment) -> None:
        self._double_containments["retracted" if found.withdrawn else "detected"].inc()
        self._recent_double_containments += 1
        if self._recent_double_containments > _DOUBLE_CONTAINMENT_LINES:
            # The line of steady running has their number.
            return
        (self._log.info if found.withdrawn else self._log.warning)(
            "parcels.worker.double_containment_retracted" if found.withdrawn else "parcels.worker.double_containment",
            container=found.container_id,
            first_parent=found.first_parent,
            first_event_id=found.first_event,
            second_parent=found.second_parent,
            second_event_id=found.second_event,
            event_time=datetime.fromtimestamp(found.event_time / 1000, UTC).isoformat(),
        )

    def _count_dead_letters(self, batch: events.ParcelBatchCommitted | events.ContainerBatchCommitted) -> None:
        for reason, number in batch.dead_letters.items():
            self._dead_letters[reason].inc(number)
            if not self._recent_dead_letters[reason]:
                # One line for each reason between two lines of steady running; those have the number.
                self._log.warning(
                    "parcels.worker.dead_letter", partition=batch.partition, reason=reason, records=number
                )
            self._recent_dead_letters[reason] += number

    def _on_started(self, event: events.WorkerStarted) -> None:
        self._is_started = True
        self._log.info(
            "parcels.worker.started",
            bootstrap=event.bootstrap,
            group=event.group,
            group_instance_id=event.group_instance_id,
        )

    def _on_stopped(self, event: events.WorkerStopped) -> None:
        self._is_stopped = True
        is_regular = event.reason in ("signal", "idle")
        (self._log.info if is_regular else self._log.error)("parcels.worker.stopped", reason=event.reason)

    def _on_assigned(self, event: events.PartitionsAssigned) -> None:
        self._rebalances["assigned"].inc()
        owned = self._owned[event.processor]
        for partition in event.partitions:
            owned[partition] = False
        self._assigned_partitions.set(len(self._owned_by_parcels))
        self._log.info(
            "parcels.worker.partitions_assigned",
            processor=event.processor,
            partitions=_join(event.partitions),
            owned=_join(sorted(owned)),
        )

    def _on_revoked(self, event: events.PartitionsRevoked) -> None:
        self._rebalances["lost" if event.lost else "revoked"].inc()
        owned = self._owned[event.processor]
        for partition in event.partitions:
            if owned.pop(partition, None) is None:
                continue
            if owned is not self._owned_by_parcels:
                self._set_containers(partition, None)
                continue
            self._set_stages(partition, {})
            self._set_clocks(partition, {})
            if self._lag_by_partition.pop(partition, None) is not None:
                # The new owner of the partition exports its lag; two series of one partition would add up.
                self._lag_records.remove(partition)
                self._lag_seconds.remove(partition)
        self._assigned_partitions.set(len(self._owned_by_parcels))
        (self._log.warning if event.lost else self._log.info)(
            "parcels.worker.partitions_lost" if event.lost else "parcels.worker.partitions_revoked",
            processor=event.processor,
            partitions=_join(event.partitions),
            owned=_join(sorted(owned)),
        )

    def _on_restored(self, event: events.PartitionRestored) -> None:
        owned = self._owned[event.processor]
        if event.partition in owned:
            owned[event.partition] = True
        if owned is self._owned_by_parcels and event.partition in owned:
            self._set_stages(event.partition, dict(event.parcels_by_stage))
        self._restore_seconds.observe([(event.seconds, 1)])
        if owned is self._owned_by_parcels:
            self._restored_parcels.inc(event.rows)
        self._log.info(
            "parcels.worker.restored",
            processor=event.processor,
            partition=event.partition,
            rows=event.rows,
            records=event.records,
            seconds=event.seconds,
            offset=event.offset,
        )

    def _on_transaction_recovered(self, event: events.TransactionRecovered) -> None:
        self._transaction_recoveries[event.outcome].inc()
        self._log.warning(
            "parcels.worker.transaction_recovered",
            processor=event.processor,
            partition=event.partition,
            outcome=event.outcome,
            error=event.error,
        )

    def _set_kafka_unavailable(self, *, unavailable: bool) -> None:
        self._is_kafka_unavailable = unavailable
        self._kafka_unavailable.set(unavailable)

    def _on_progress(self, event: events.WorkerProgress) -> None:
        self._log.info(
            "parcels.worker.running",
            partitions=_join(event.partitions),
            records=event.records,
            seconds=event.seconds,
            duplicates=self._recent_duplicates,
            dead_letters=self._recent_dead_letters.total(),
            double_containments=self._recent_double_containments,
            lag_records=sum(self._lag_by_partition.values()),
        )
        self._recent_dead_letters.clear()
        self._recent_duplicates = self._recent_double_containments = 0

    def _set_containers(self, partition: int, now: tuple[int, int] | None) -> None:
        before = self._containers_by_partition.pop(partition, None)
        if now is not None:
            self._containers_by_partition[partition] = now
        elif before is not None:
            self._container_lag_seconds.remove(partition)
        containers, pending = map(sum, zip((0, 0), *self._containers_by_partition.values(), strict=True))
        self._containers.set(containers)
        self._pending_fan_outs.set(pending)

    def _set_stages(self, partition: int, now: dict[str, int]) -> None:
        before = self._stages_by_partition.pop(partition, {})
        if now:
            self._stages_by_partition[partition] = now
        for stage in before.keys() | now.keys():
            self._in_hub_parcels[stage].inc(now.get(stage, 0) - before.get(stage, 0))

    def _set_clocks(self, partition: int, now: dict[str, int]) -> None:
        before = self._clocks_by_partition.pop(partition, {})
        if now:
            self._clocks_by_partition[partition] = now
        for promise in before.keys() | now.keys():
            self._promise_clocks[promise].inc(now.get(promise, 0) - before.get(promise, 0))


def _join(partitions: Collection[int]) -> str:
    return ",".join(map(str, partitions))


def build_versions() -> tuple[str, str, str]:
    """Versions of this package, of Python and of the Kafka client."""

    def installed(package: str) -> str:
        try:
            return metadata.version(package)
        except metadata.PackageNotFoundError:  # run from a checkout
            return "unknown"

    # The wheel of confluent-kafka bundles librdkafka of the same version; importing it here would break the layering.
    return installed("parcel-streams"), platform.python_version(), installed("confluent-kafka")
