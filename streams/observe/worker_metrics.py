"""What happens in a worker, as metrics and as log lines: both in the same place, so that they cannot drift apart.

Levels of the lines, by what the operator must do: ERROR, act now; WARNING, look if it comes again; INFO, nothing.
Steady running is one INFO line a minute.
"""

import platform
import threading
from collections import Counter as Tally
from collections.abc import Collection
from datetime import UTC, datetime
from importlib import metadata
from typing import Final, assert_never

import structlog
from prometheus_client import CollectorRegistry, ProcessCollector, disable_created_metrics
from structlog.typing import FilteringBoundLogger

from streams.domain import double_containment
from streams.domain.promises import ANOMALIES
from streams.observe import metric_catalogue
from streams.observe.instruments import WeightedHistogram, counter, gauge, labelled_counter, labelled_gauge
from streams.telemetry import worker_events as told

NO_SITE = "none"
PARCEL_PROCESSOR: Final = "parcels"
CONTAINER_PROCESSOR: Final = "containers"
# Lines about containers in two at once, between two lines of steady running.
_IN_TWO_LINES: Final = 50


class WorkerMetrics:
    """A `Watcher`: give it to the worker, and to `serve`.

    Safe to call from several threads.

    >>> metrics = WorkerMetrics(sites=["LGG"])
    >>> metrics.not_ready()
    'the worker has not started'
    """

    def __init__(
        self,
        registry: CollectorRegistry | None = None,
        sites: Collection[str] = (),
        promises: Collection[str] = (),
        log: FilteringBoundLogger | None = None,
    ) -> None:
        """`sites`, `promises`: those that have a name here; whatever is of any other is counted under `other`."""
        # A second series beside each counter that says when the process started it: the process says that once.
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
        self._clocks = labelled_gauge(metric_catalogue.CLOCKS, registry, promise=promises)
        self._retired = counter(metric_catalogue.RETIRED_PARCELS, registry)
        self._scan_to_state = WeightedHistogram(metric_catalogue.SCAN_TO_STATE, registry)
        self._lag_records = gauge(metric_catalogue.LAG_RECORDS, registry)
        self._lag_seconds = gauge(metric_catalogue.LAG_SECONDS, registry)
        self._batch_seconds = WeightedHistogram(metric_catalogue.BATCH_SECONDS, registry)
        self._transaction_seconds = WeightedHistogram(metric_catalogue.TRANSACTION_SECONDS, registry)
        self._phase_seconds = labelled_counter(metric_catalogue.PHASE_SECONDS, registry)
        self._container_events = labelled_counter(metric_catalogue.CONTAINER_EVENTS, registry, site=(*sites, NO_SITE))
        self._inferred = labelled_counter(metric_catalogue.INFERRED_RECORDS, registry)
        self._event_to_scan = WeightedHistogram(metric_catalogue.EVENT_TO_SCAN, registry)
        self._containers_known = gauge(metric_catalogue.CONTAINERS, registry)
        self._fan_outs = gauge(metric_catalogue.PENDING_FAN_OUTS, registry)
        self._container_lag = gauge(metric_catalogue.CONTAINER_LAG_SECONDS, registry)
        self._containers_retired = counter(metric_catalogue.RETIRED_CONTAINERS, registry)
        self._in_two = labelled_counter(metric_catalogue.DOUBLE_CONTAINMENTS, registry)
        # Partition -> containers known, and fan-outs that are not at their end.
        self._containers_of: dict[int, tuple[int, int]] = {}
        self._last_batch = gauge(metric_catalogue.LAST_BATCH, registry)
        self._in_hub = labelled_gauge(metric_catalogue.IN_HUB_PARCELS, registry)
        self._hub_time = gauge(metric_catalogue.HUB_TIME, registry)
        self._partitions = gauge(metric_catalogue.PARTITIONS, registry)
        self._rebalances = labelled_counter(metric_catalogue.REBALANCES, registry)
        self._memberships_lost = labelled_counter(metric_catalogue.MEMBERSHIPS_LOST, registry)
        self._restore_seconds = WeightedHistogram(metric_catalogue.RESTORE_SECONDS, registry)
        self._restored_parcels = counter(metric_catalogue.RESTORED_PARCELS, registry)
        self._refences = labelled_counter(metric_catalogue.TRANSACTION_RECOVERIES, registry)
        self._broker_away = gauge(metric_catalogue.BROKER_AWAY, registry)
        self._ticks_stopped = gauge(metric_catalogue.TICKS_STOPPED, registry)
        gauge(metric_catalogue.BUILD_INFO, registry).labels(*build_versions()).set(1)

        self._started = self._stopped = self._away = False
        # Stage -> partition -> is its table restored?
        self._holds: dict[str, dict[int, bool]] = {PARCEL_PROCESSOR: {}, CONTAINER_PROCESSOR: {}}
        self._held = self._holds[PARCEL_PROCESSOR]
        self._stages_of: dict[int, dict[str, int]] = {}
        self._clocks_of: dict[int, dict[str, int]] = {}
        self._hub_ms = 0
        # Since the last line of steady running.
        self._letters_since: Tally[str] = Tally()
        self._duplicates_since = 0
        self._in_two_since = 0
        self._lag_of: dict[int, int] = {}

    def not_ready_reason(self) -> str | None:
        """Why this worker does not process its partitions now; None when it does."""
        with self._lock:
            if not self._started:
                return "the worker has not started"
            if self._stopped:
                return "the worker has stopped"
            if self._away:
                return "no Kafka broker answers"
            restoring = sorted({p for held in self._holds.values() for p, restored in held.items() if not restored})
            return f"restoring {_list(restoring)}" if restoring else None

    def __call__(self, happening: told.WorkerEvent) -> None:
        """Count it and say it."""
        with self._lock:
            match happening:
                case told.ParcelBatchCommitted():
                    self._batch(happening)
                case told.ContainerBatchCommitted():
                    self._containers(happening)
                case told.WorkerStarted():
                    self._start(happening)
                case told.WorkerStopped():
                    self._stop(happening)
                case told.PartitionsAssigned():
                    self._assigned(happening)
                case told.PartitionsRevoked():
                    self._revoked(happening)
                case told.GroupMembershipLost():
                    self._memberships_lost[happening.reason].inc()
                    self._log.warning("parcels.worker.rejoining", reason=happening.reason, error=happening.error)
                case told.PartitionRestored():
                    self._restored(happening)
                case told.TransactionRecovered():
                    self._refenced(happening)
                case told.BrokerUnavailable():
                    self._went_away(happening)
                case told.BrokerRecovered():
                    self._came_back(happening)
                case told.TicksStopped():
                    self._ticks_stopped.set(1)
                    self._log.warning(
                        "parcels.worker.ticks_stopped",
                        partitions=_list(happening.partitions),
                        seconds=happening.seconds,
                    )
                case told.TicksResumed():
                    self._ticks_stopped.set(0)
                    self._log.info("parcels.worker.ticks_back", seconds=happening.seconds)
                case told.WorkerProgress():
                    self._running(happening)
                case _:
                    assert_never(happening)

    def _batch(self, batch: told.ParcelBatchCommitted) -> None:
        for (site, kind, direction), number in batch.scans.items():
            self._scans[site or NO_SITE, kind, direction].inc(number)
        self._records.inc(batch.records)
        self._duplicates.inc(batch.duplicates)
        self._states.inc(batch.states)
        self._milestones.inc(batch.milestones)
        for what, number in batch.alerts.items():
            self._alerts[what].inc(number)
        self._retired.inc(batch.retired)
        self._scan_to_state.observe(batch.scan_to_state)
        for phase, seconds in batch.seconds.items():
            self._phase_seconds[phase].inc(max(seconds, 0.0))
        self._batch_seconds.observe([(sum(batch.seconds.values()), 1)])
        self._transaction_seconds.observe([(batch.seconds.get("send", 0.0) + batch.seconds.get("commit", 0.0), 1)])
        self._last_batch.set_to_current_time()
        if batch.hub_time is not None and batch.hub_time > self._hub_ms:
            self._hub_ms = batch.hub_time
            self._hub_time.set(batch.hub_time / 1000)
        # The last batch of a partition that has just been revoked may be told after the revocation.
        if batch.partition in self._held:
            self._lag_of[batch.partition] = batch.lag_records
            self._lag_records.labels(batch.partition).set(batch.lag_records)
            self._lag_seconds.labels(batch.partition).set(batch.lag_seconds)
            self._stages(batch.partition, dict(batch.parcels_by_stage))
            self._clocks_run(batch.partition, dict(batch.clocks))
        self._duplicates_since += batch.duplicates
        self._letters(batch)

    def _containers(self, batch: told.ContainerBatchCommitted) -> None:
        for (site, kind), number in batch.events.items():
            self._container_events[site or NO_SITE, kind].inc(number)
        for kind, number in batch.told.items():
            self._inferred[kind].inc(number)
        self._event_to_scan.observe(batch.event_to_scan)
        self._containers_retired.inc(batch.retired)
        if batch.partition in self._holds[CONTAINER_PROCESSOR]:
            self._container_lag.labels(batch.partition).set(batch.lag_seconds)
            self._know_containers(batch.partition, (batch.containers, batch.pending))
        for each in batch.in_two:
            self._one_in_two(each)
        self._letters(batch)

    def _one_in_two(self, found: double_containment.DoubleContainment) -> None:
        self._in_two["withdrawn" if found.withdrawn else "found"].inc()
        self._in_two_since += 1
        if self._in_two_since > _IN_TWO_LINES:
            # The line of steady running says how many there were.
            return
        (self._log.info if found.withdrawn else self._log.warning)(
            "parcels.worker.not_in_two" if found.withdrawn else "parcels.worker.in_two",
            container=found.container_id,
            first=found.first_parent,
            first_event=found.first_event,
            second=found.second_parent,
            second_event=found.second_event,
            at=datetime.fromtimestamp(found.event_time / 1000, UTC).isoformat(),
        )

    def _know_containers(self, partition: int, now: tuple[int, int] | None) -> None:
        before = self._containers_of.pop(partition, None)
        if now is not None:
            self._containers_of[partition] = now
        elif before is not None:
            self._container_lag.remove(partition)
        known, pending = (sum(each) for each in zip((0, 0), *self._containers_of.values(), strict=True))
        self._containers_known.set(known)
        self._fan_outs.set(pending)

    def _letters(self, batch: told.ParcelBatchCommitted | told.ContainerBatchCommitted) -> None:
        for reason, number in batch.dead_letters.items():
            self._dead_letters[reason].inc(number)
            if not self._letters_since[reason]:
                # Once a reason between two lines of steady running, however many come: those say the number.
                self._log.warning(
                    "parcels.worker.dead_letter", partition=batch.partition, reason=reason, records=number
                )
            self._letters_since[reason] += number

    def _start(self, happening: told.WorkerStarted) -> None:
        self._started = True
        self._log.info(
            "parcels.worker.started",
            bootstrap=happening.bootstrap,
            group=happening.group,
            instance=happening.instance,
        )

    def _stop(self, happening: told.WorkerStopped) -> None:
        self._stopped = True
        asked = happening.why in ("signal", "idle")
        (self._log.info if asked else self._log.error)("parcels.worker.stopped", why=happening.why)

    def _assigned(self, happening: told.PartitionsAssigned) -> None:
        self._rebalances["assigned"].inc()
        held = self._holds[happening.stage]
        for partition in happening.partitions:
            held[partition] = False
        self._partitions.set(len(self._held))
        self._log.info(
            "parcels.worker.assigned",
            stage=happening.stage,
            partitions=_list(happening.partitions),
            holds=_list(sorted(held)),
        )

    def _revoked(self, happening: told.PartitionsRevoked) -> None:
        self._rebalances["lost" if happening.lost else "revoked"].inc()
        held = self._holds[happening.stage]
        for partition in happening.partitions:
            if held.pop(partition, None) is None:
                continue
            if held is not self._held:
                self._know_containers(partition, None)
                continue
            self._stages(partition, {})
            self._clocks_run(partition, {})
            if self._lag_of.pop(partition, None) is not None:
                # Whoever holds the partition now says its lag; two answers would add up.
                self._lag_records.remove(partition)
                self._lag_seconds.remove(partition)
        self._partitions.set(len(self._held))
        (self._log.warning if happening.lost else self._log.info)(
            "parcels.worker.lost" if happening.lost else "parcels.worker.revoked",
            stage=happening.stage,
            partitions=_list(happening.partitions),
            holds=_list(sorted(held)),
        )

    def _restored(self, happening: told.PartitionRestored) -> None:
        held = self._holds[happening.stage]
        if happening.partition in held:
            held[happening.partition] = True
        if held is self._held and happening.partition in held:
            self._stages(happening.partition, dict(happening.parcels_by_stage))
        self._restore_seconds.observe([(happening.seconds, 1)])
        if held is self._held:
            self._restored_parcels.inc(happening.parcels)
        self._log.info(
            "parcels.worker.restored",
            stage=happening.stage,
            partition=happening.partition,
            rows=happening.parcels,
            records=happening.records,
            seconds=happening.seconds,
            position=happening.position,
        )

    def _refenced(self, happening: told.TransactionRecovered) -> None:
        self._refences[happening.outcome].inc()
        self._log.warning(
            "parcels.worker.refenced",
            stage=happening.stage,
            partition=happening.partition,
            outcome=happening.outcome,
            error=happening.error,
        )

    def _went_away(self, happening: told.BrokerUnavailable) -> None:
        self._away = True
        self._broker_away.set(1)
        self._log.warning("parcels.worker.broker_away", error=happening.error)

    def _came_back(self, happening: told.BrokerRecovered) -> None:
        self._away = False
        self._broker_away.set(0)
        self._log.info("parcels.worker.broker_back", seconds=happening.seconds)

    def _running(self, happening: told.WorkerProgress) -> None:
        self._log.info(
            "parcels.worker.running",
            partitions=_list(happening.partitions),
            records=happening.records,
            seconds=happening.seconds,
            duplicates=self._duplicates_since,
            dead_letters=self._letters_since.total(),
            in_two=self._in_two_since,
            lag_records=sum(self._lag_of.values()),
        )
        self._letters_since.clear()
        self._duplicates_since = self._in_two_since = 0

    def _stages(self, partition: int, now: dict[str, int]) -> None:
        before = self._stages_of.pop(partition, {})
        if now:
            self._stages_of[partition] = now
        for stage in before.keys() | now.keys():
            self._in_hub[stage].inc(now.get(stage, 0) - before.get(stage, 0))

    def _clocks_run(self, partition: int, now: dict[str, int]) -> None:
        before = self._clocks_of.pop(partition, {})
        if now:
            self._clocks_of[partition] = now
        for promise in before.keys() | now.keys():
            self._clocks[promise].inc(now.get(promise, 0) - before.get(promise, 0))


def _list(partitions: Collection[int]) -> str:
    return ",".join(map(str, partitions))


def build_versions() -> tuple[str, str, str]:
    """Of this package, of Python, of the Kafka client."""

    def installed(package: str) -> str:
        try:
            return metadata.version(package)
        except metadata.PackageNotFoundError:  # run from a checkout
            return "unknown"

    # The wheel of confluent-kafka bundles librdkafka of the same version; importing it here would tie the rooms.
    return installed("parcel-streams"), platform.python_version(), installed("confluent-kafka")
