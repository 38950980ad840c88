"""The output of the container processor for one batch: encoded records, and counts."""

from collections import Counter
from dataclasses import dataclass, field

from streams.domain.double_containment import DoubleContainment
from streams.domain.reject_reasons import RejectReason
from streams.processors.processor import CommitSummary, OutputBlock
from streams.telemetry.worker_events import ContainerBatchCommitted


@dataclass(slots=True)
class ContainerOutput:
    """What one batch of one partition leads to: encoded records, and counts."""

    processed_count: int = 0
    # In the order in which they are sent.
    blocks: list[OutputBlock] = field(default_factory=list)
    # Index in the batch and reason of each record that could not be used.
    rejects: list[tuple[int, RejectReason]] = field(default_factory=list)
    # (site, kind) -> distinct events that came from senders.
    events: Counter[tuple[str, str]] = field(default_factory=Counter)
    # Distinct events that were inferred from an event of the parent container.
    inferred_events: int = 0
    duplicates: int = 0
    # Kind -> scans and events written for children.
    propagated: Counter[str] = field(default_factory=Counter)
    # After the batch: fan-outs that are not written completely, and containers of the partition.
    pending_fan_outs: int = 0
    containers: int = 0
    # Containers that retired.
    retired: int = 0
    # Double containments that were detected or retracted.
    double_containments: list[DoubleContainment] = field(default_factory=list)
    phase_seconds: dict[str, float] = field(default_factory=dict)

    def committed_event(self, summary: CommitSummary) -> ContainerBatchCommitted:
        """The event for the commit of this batch."""
        return ContainerBatchCommitted(
            partition=summary.partition,
            records=summary.records,
            events=self.events,
            inferred_events=self.inferred_events,
            duplicates=self.duplicates,
            dead_letters=summary.dead_letters,
            inferred_records=self.propagated,
            pending_fan_outs=self.pending_fan_outs,
            containers=self.containers,
            retired=self.retired,
            seconds=summary.phase_seconds,
            event_to_scan=summary.latency_samples,
            lag_records=summary.lag_records,
            lag_seconds=summary.lag_seconds,
            double_containments=self.double_containments,
        )
