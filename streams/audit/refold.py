"""Folds a log again with the worker's own processor, without a broker, in the order in which records are given."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator

from streams.domain.promises import Promises
from streams.domain.reject_reasons import RejectReason
from streams.formats.record_block import KeyValue
from streams.processors.parcel_output import ParcelOutput
from streams.processors.parcel_processor import ParcelProcessor


class Refold:
    """Folds values of hub.scans in batches, and yields the output of each batch.

    The size of the batches does not change the result.

    >>> refold = Refold(batch=2)
    >>> [output.rejects for output in refold.fold([b"rubbish", None, b""])]
    [[(0, <RejectReason.BAD_FRAMING: 2>), (1, <RejectReason.NO_VALUE: 1>)], [(0, <RejectReason.BAD_FRAMING: 2>)]]
    """

    def __init__(
        self, *, partition: int = 0, partitions: int = 1, batch: int = 20_000, promises: Promises | None = None
    ) -> None:
        """Begin without parcels.

        Args:
            partition, partitions: the partition of the log, and their number; a whole log is partition 0 of 1.
            batch: records in a batch.
            promises: the promises to evaluate; None for the default ones.
        """
        self.processor = ParcelProcessor(partition, partitions, promises)
        self._batch = batch
        self.records = 0
        self.refused: Counter[RejectReason] = Counter()
        self.duplicates = 0

    def fold(self, values: Iterable[bytes | None]) -> Iterator[ParcelOutput]:
        """Fold all values; yields the output of each batch without states, which `states` gives at the end."""
        batch_values: list[bytes | None] = []
        for value in values:
            batch_values.append(value)
            if len(batch_values) >= self._batch:
                yield self._run(batch_values)
                batch_values = []
        if batch_values:
            yield self._run(batch_values)

    def states(self) -> Iterator[KeyValue]:
        """Key and value of every parcel's state, as in parcel.state."""
        for block in self.processor.snapshot():
            yield from block

    def _run(self, values: list[bytes | None]) -> ParcelOutput:
        output = self.processor.run(values, states=False)
        self.records += len(values)
        self.duplicates += output.duplicates
        self.refused.update(reason for _, reason in output.rejects)
        return output


class RecordSetDigest:
    """One SHA-256 over any number of records, independent of their order.

    >>> first, second = RecordSetDigest(), RecordSetDigest()
    >>> for digest, records in ((first, [b"a", b"b"]), (second, [b"b", b"a"])):
    ...     for value in records:
    ...         digest.add("parcel.state", b"key", value)
    >>> first.hexdigest() == second.hexdigest()
    True
    """

    def __init__(self) -> None:
        self._record_digests: list[bytes] = []

    def add(self, topic: str, key: bytes, value: bytes) -> None:
        """Add a record; `topic` is without a prefix."""
        head = b"%s %d %d " % (topic.encode(), len(key), len(value))
        self._record_digests.append(hashlib.sha256(head + key + value).digest())

    def hexdigest(self) -> str:
        """The digest of the records added so far."""
        return hashlib.sha256(b"".join(sorted(self._record_digests))).hexdigest()
