"""The output of the container processor for one batch: encoded records, and counts."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from streams.domain.reject_reasons import RejectReason
from streams.processors.processor import CommitSummary, OutputBlock
from streams.telemetry.worker_events import ContainerBatchCommitted

if TYPE_CHECKING:
    from streams.processors.container_processor import ContainerBatchStats


@dataclass(slots=True)
class ContainerOutput:
    """What one batch of one partition leads to: encoded records, and counts."""

    partition: int
    taken: int
    # In the order in which they are sent.
    blocks: list[OutputBlock]
    # Index in the batch and reason of each record that could not be used.
    refused: list[tuple[int, RejectReason]]
    seconds: dict[str, float]
    figures: "ContainerBatchStats"

    def committed_event(self, summary: CommitSummary) -> ContainerBatchCommitted:
        """The event for the commit of this batch."""
        stats = self.figures
        return ContainerBatchCommitted(
            partition=summary.partition,
            records=summary.records,
            events=stats.events,
            inferred_events=stats.inferred_events,
            duplicates=stats.duplicates,
            dead_letters=summary.dead_letters,
            inferred_records=stats.told,
            pending_fan_outs=stats.pending,
            containers=stats.containers,
            retired=stats.retired,
            seconds=summary.seconds,
            event_to_scan=summary.latency_samples,
            lag_records=summary.lag_records,
            lag_seconds=summary.lag_seconds,
            double_containments=stats.in_two,
        )
