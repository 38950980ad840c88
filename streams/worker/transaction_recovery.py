"""Recovery of a transaction whose outcome is unknown: was it committed, or must the batch be sent again?

A transaction can fail in many ways: the broker went away during the commit, the answer was lost, another producer
fenced this one. Every failure is handled in the same way. The failed producer is dropped. The consumer is polled, to
learn whether this worker still owns the partition. A new producer calls init_transactions, which ends whatever the old
one left open. Then the position record in the state topic shows whether the batch was committed.
"""

from collections.abc import Callable
from typing import Final, Literal

from streams.errors import Retry, StreamsError
from streams.formats.position import PartitionPosition
from streams.worker.partition_lease import PartitionLease

_PAUSE_SECONDS: Final = 0.2

# Words of the event `TransactionRecovered`.
RecoveryOutcome = Literal["committed", "resent", "superseded"]


class PositionConflict(StreamsError):
    """Another worker went on from the batch's start: the processor's state is out of date and must be restored."""


def recover_unknown_outcome(
    start: PartitionPosition | None,
    end: PartitionPosition,
    lease: PartitionLease,
    fence: Callable[[], None],
    read_position: Callable[[], PartitionPosition | None],
) -> tuple[RecoveryOutcome, PartitionPosition | None]:
    """Find out whether a batch was committed, after its producer was dropped.

    Args:
        start: position before the batch; None when nothing was ever committed.
        end: position that the batch writes.
        lease: the worker's, on the partition.
        fence: gets a new producer that has fenced every earlier one.
        read_position: of the partition; raises Retry when the broker does not answer.

    Returns:
        the outcome and the position that was found. "committed": the batch is in the log. "resent": it is not, and
        must be sent again. "superseded": the position is neither, so another worker wrote.

    Raises:
        PartitionLost: the lease was revoked meanwhile; the next owner of the partition finds out.
    """
    while True:
        lease.wait(_PAUSE_SECONDS)
        # 1. A zombie must not fence the rightful owner.
        lease.confirm()
        # 2. From here on the outcome cannot change.
        fence()
        # 3. The last record of every batch is its position.
        try:
            position = read_position()
        except Retry:
            continue
        found = position and position.sequence_key
        if found == end.sequence_key:
            return "committed", position
        return ("resent" if found == (start and start.sequence_key) else "superseded"), position
