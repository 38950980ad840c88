"""A log folded again, record by record in the order it is given, without a broker: the worker's own fold."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator

from streams.domain.promises import Promises
from streams.domain.reject_reasons import RejectReason
from streams.formats.record_block import KeyValue
from streams.processors.parcel_output import ParcelOutput
from streams.processors.parcel_processor import ParcelProcessor


class Refold:
    """Takes values of hub.scans, folds them in batches and hands on what each batch says.

    The size of the batches changes nothing but the number of turns.

    >>> refold = Refold(batch=2)
    >>> [made.rejects for made in refold.fold([b"rubbish", None, b""])]
    [[(0, <Reason.BAD_FRAMING: 2>), (1, <Reason.NO_VALUE: 1>)], [(0, <Reason.BAD_FRAMING: 2>)]]
    """

    def __init__(
        self, *, partition: int = 0, partitions: int = 1, batch: int = 20_000, promises: Promises | None = None
    ) -> None:
        """Begin with no parcels.

        Args:
            partition, partitions: which part of how many the log is; a whole log is part 0 of 1.
            batch: records to fold at a time.
            promises: what is watched; None for the default ones.
        """
        self.stage = ParcelProcessor(partition, partitions, promises)
        self._batch = batch
        self.records = 0
        self.refused: Counter[RejectReason] = Counter()
        self.duplicates = 0

    def fold(self, values: Iterable[bytes | None]) -> Iterator[ParcelOutput]:
        """Fold all values; yields what each batch made, without states: `states` has them at the end."""
        waiting: list[bytes | None] = []
        for value in values:
            waiting.append(value)
            if len(waiting) >= self._batch:
                yield self._run(waiting)
                waiting = []
        if waiting:
            yield self._run(waiting)

    def states(self) -> Iterator[KeyValue]:
        """Key and value of every parcel's state, as parcel.state holds them."""
        for block in self.stage.snapshot():
            yield from block

    def _run(self, values: list[bytes | None]) -> ParcelOutput:
        made = self.stage.run(values, states=False)
        self.records += len(values)
        self.duplicates += made.duplicates
        self.refused.update(reason for _, reason in made.rejects)
        return made


class RecordSetDigest:
    """One SHA-256 over any number of records, whatever their order.

    >>> one, other = Digest(), Digest()
    >>> for digest, records in ((one, [b"a", b"b"]), (other, [b"b", b"a"])):
    ...     for value in records:
    ...         digest.add("parcel.state", b"key", value)
    >>> one.hexdigest() == other.hexdigest()
    True
    """

    def __init__(self) -> None:
        self._each: list[bytes] = []

    def add(self, topic: str, key: bytes, value: bytes) -> None:
        """Take in a record; `topic` is its topic without a prefix."""
        head = b"%s %d %d " % (topic.encode(), len(key), len(value))
        self._each.append(hashlib.sha256(head + key + value).digest())

    def hexdigest(self) -> str:
        """The digest of what was taken in so far."""
        return hashlib.sha256(b"".join(sorted(self._each))).hexdigest()
