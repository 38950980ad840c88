"""`python -m tests.kernel.fold_digest FILE`: fold the values in FILE and print a digest of all that was said.

FILE: each value after its length, four bytes big-endian; a length of 2^32 - 1 and nothing is a record without a value.
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
    content, at, values = path.read_bytes(), 0, []
    while at < len(content):
        size = int.from_bytes(content[at : at + 4], "big")
        at += 4
        values.append(None if size == NO_VALUE else content[at : at + size])
        at += 0 if size == NO_VALUE else size
    return values


def digest(values):
    """Of all outputs: batches of several sizes, and in the middle of them a new stage from the states so far."""
    stage, log, said = ParcelProcessor(partition=1, partitions=2), [], hashlib.sha256()
    first = turn = 0
    while first < len(values):
        size = _SIZES[turn % len(_SIZES)]
        turn += 1
        made = stage.run(values[first : first + size])
        if first < len(values) // 2 <= first + size:
            stage = ParcelProcessor(partition=1, partitions=2)
            # In two goes, so that the second finds chunks to take back.
            for part in (log[: len(log) // 2], log[len(log) // 2 :]):
                stage.restore_states([value for _, value in part if value])
            stage.restore_hub_time(made.hub_time)
        first += size
        log += [*made.tombstones, *made.states]
        for key, value in (*made.tombstones, *made.states, *made.milestones, *made.alerts, *made.throughput):
            said.update(b"%d %d " % (len(key), len(value)) + key + value)
        figures = (
            [(place, int(reason)) for place, reason in made.refused],
            sorted(made.scan_counts.items()),
            made.duplicates,
            made.parcels_by_stage,
            made.hub_time,
            sorted(made.alert_counts.items()),
            made.active_clocks,
        )
        said.update(repr(figures).encode())
    return said.hexdigest()


if __name__ == "__main__":
    print(digest(load(Path(sys.argv[1]))))
