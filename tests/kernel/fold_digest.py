"""`python -m tests.kernel.fold_digest FILE`: fold the values in FILE and print a digest of all outputs.

FILE holds the length of each value, four bytes big-endian, and the value. A length of 2^32 - 1 without a value stands
for a record whose value is null.
"""

import hashlib
import sys
from pathlib import Path

from streams.processors.parcel_processor import ParcelProcessor

NO_VALUE = 2**32 - 1
_SIZES = (1, 2, 40, 0, 7, 150)


def write(path, values):
    path.write_bytes(
        b"".join(
            NO_VALUE.to_bytes(4, "big") if value is None else len(value).to_bytes(4, "big") + value for value in values
        )
    )


def load(path):
    content, offset, values = path.read_bytes(), 0, []
    while offset < len(content):
        size = int.from_bytes(content[offset : offset + 4], "big")
        offset += 4
        values.append(None if size == NO_VALUE else content[offset : offset + size])
        offset += 0 if size == NO_VALUE else size
    return values


def digest(values):
    """Digest of all outputs, for batches of several sizes; in the middle a new processor restores the states so far."""
    processor, log, sha256 = ParcelProcessor(partition=1, partitions=2), [], hashlib.sha256()
    first = batch = 0
    while first < len(values):
        size = _SIZES[batch % len(_SIZES)]
        batch += 1
        output = processor.run(values[first : first + size])
        if first < len(values) // 2 <= first + size:
            processor = ParcelProcessor(partition=1, partitions=2)
            # In two parts, so that the second part replaces rows of the first and frees their chunks.
            for part in (log[: len(log) // 2], log[len(log) // 2 :]):
                processor.restore_states([value for _, value in part if value])
            processor.restore_hub_time(output.hub_time)
        first += size
        log += [*output.tombstones, *output.states]
        for key, value in (*output.tombstones, *output.states, *output.milestones, *output.alerts, *output.throughput):
            sha256.update(b"%d %d " % (len(key), len(value)) + key + value)
        figures = (
            [(index, int(reason)) for index, reason in output.rejects],
            sorted(output.scan_counts.items()),
            output.duplicates,
            output.parcels_by_stage,
            output.hub_time,
            sorted(output.alert_counts.items()),
            output.active_clocks,
        )
        sha256.update(repr(figures).encode())
    return sha256.hexdigest()


if __name__ == "__main__":
    print(digest(load(Path(sys.argv[1]))))
