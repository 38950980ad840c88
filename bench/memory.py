"""`python -m bench memory`: memory per parcel, measured in its own process.

Every parcel has an advice, 12 scans and the clocks of the promises that are shipped; places, plans, vehicles and bags
repeat as they do in a hub. After every block of parcels a Tick looks at all of them. Two figures: the arrays of the
table with their spare room, and how much the process grew.
"""

import argparse
import ctypes
import gc
import itertools
import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from streams.domain.kinds import (
    ARRIVED,
    CUSTOMS_PRESENTED,
    CUSTOMS_RELEASED,
    DELIVERED,
    DIRECTIONS,
    DISPATCHED,
    INDUCTED,
    LOADED,
    NO_READ,
    PACKED,
    SORTED,
    UNLOADED,
    UNPACKED,
)
from streams.domain.promises import Promises
from streams.formats.schemas import load_schemas
from streams.kernel.avro.encoder import ColumnEncoder
from streams.processors.parcel_processor import ParcelProcessor

LIMIT = 800
SCANS = (
    ARRIVED,
    UNLOADED,
    UNPACKED,
    INDUCTED,
    CUSTOMS_PRESENTED,
    NO_READ,
    CUSTOMS_RELEASED,
    SORTED,
    PACKED,
    LOADED,
    DISPATCHED,
    DELIVERED,
)
# Number of parcels that share a vehicle, a bag, or an owner and lane.
_BY_CONTAINER = {ARRIVED: 400, UNLOADED: 400, PACKED: 40, LOADED: 40, DISPATCHED: 1000}
_BY_PLAN = 20
_BLOCK = 10_000
_START = 1_772_323_200_000
_MINUTE = 60_000

_Column = NDArray[np.int64]


class _Words:
    """The texts of one batch, concatenated."""

    def __init__(self) -> None:
        self._parts: list[NDArray[np.uint8]] = []
        self._at = 0

    def numbered(self, text: str, numbers: _Column) -> tuple[_Column, _Column]:
        """Position and size of `text` followed by each of `numbers`, in 14 digits."""
        digits = numbers[:, None] // 10 ** np.arange(13, -1, -1) % 10 + ord("0")
        head = np.broadcast_to(np.frombuffer(text.encode(), np.uint8), (len(numbers), len(text)))
        texts = np.hstack([head, digits.astype(np.uint8)])
        at = self._at + np.arange(len(numbers)) * texts.shape[1]
        self._parts.append(texts.ravel())
        self._at += texts.size
        return at, np.full(len(numbers), texts.shape[1])

    def buffer(self) -> NDArray[np.uint8]:
        return np.concatenate(self._parts)


class History:
    """Payloads of hub.scans: an advice and the scans of each parcel, by blocks of parcels, and Ticks."""

    def __init__(self, kinds: Sequence[int] = SCANS) -> None:
        """`kinds`: kinds of the scans of each parcel, 17 minutes apart."""
        self._kinds = kinds
        schemas = load_schemas()
        self._encoders = {
            name: ColumnEncoder(schemas.current(name), schemas.id(name)) for name in ("Scan", "Advice", "Tick")
        }

    def batches(self, parcels: int) -> Iterator[list[bytes]]:
        """The batches of a block of parcels: one batch for each record of a parcel."""
        for first in range(0, parcels, _BLOCK):
            numbers = np.arange(first, min(first + _BLOCK, parcels), dtype=np.int64)
            yield self._advices(numbers)
            for place, kind in enumerate(self._kinds):
                yield self._scans(numbers, place, kind)
            yield self.ticks([self.end(int(numbers[-1]))])

    def end(self, parcel: int) -> int:
        """A time after the last scan of a parcel, ms since 1970."""
        return _START + parcel * 7 + len(self._kinds) * 17 * _MINUTE

    def ticks(self, hub_times: Sequence[int]) -> list[bytes]:
        """Ticks at these times."""
        encoder = self._encoders["Tick"]
        count = len(hub_times)
        values, lengths = np.zeros((2, count), np.int64), np.zeros((2, count), np.int32)
        values[encoder.layout.column_index("hub_time")] = hub_times
        blob, ends = encoder.encode(count, [(values, lengths)], (b"",))
        return [blob[begin:end].tobytes() for begin, end in itertools.pairwise(ends)]

    def _advices(self, parcels: _Column) -> list[bytes]:
        words = _Words()
        plan = parcels // _BY_PLAN
        return self._encoded(
            "Advice",
            words,
            {
                **self._ids(words, parcels, 0),
                "direction": plan % len(DIRECTIONS),
                "service": words.numbered("", plan % 3),
                "origin": words.numbered("", plan % 40),
                "destination": words.numbered("", plan % 30),
                "planned_lane": words.numbered("", plan % 9),
                "owner": words.numbered("OWN", plan),
                "promised_at": _START + parcels // 400 * _MINUTE,
            },
        )

    def _scans(self, parcels: _Column, place: int, kind: int) -> list[bytes]:
        words = _Words()
        columns = {
            **self._ids(words, parcels, place + 1),
            "kind": np.full(len(parcels), kind),
            "site": words.numbered("", parcels % 3),
            "station": words.numbered("", parcels % 90),
        }
        if kind in (SORTED, LOADED):
            columns["lane"] = words.numbered("", parcels // _BY_PLAN % 9)
        if kind in _BY_CONTAINER:
            columns["container_id"] = words.numbered(f"BAG{kind:02d}", parcels // _BY_CONTAINER[kind])
        return self._encoded("Scan", words, columns)

    @staticmethod
    def _ids(words: _Words, parcels: _Column, place: int) -> dict[str, _Column | tuple[_Column, _Column]]:
        return {
            "event_id": words.numbered(f"event/{place:02d}/", parcels),
            "parcel_id": words.numbered("LP", parcels),
            "event_time": _START + parcels * 7 + place * 17 * _MINUTE,
            "record_time": _START + parcels * 7 + place * 17 * _MINUTE,
        }

    def _encoded(self, name: str, words: _Words, columns: dict[str, _Column | tuple[_Column, _Column]]) -> list[bytes]:
        encoder = self._encoders[name]
        rows = len(columns["event_time"])
        fields = encoder.layout.frames[0].columns
        values = np.zeros((len(fields), rows), np.int64)
        lengths = np.zeros((len(fields), rows), np.int32)
        for place, field in enumerate(fields):
            column = columns.get(field.path)
            if isinstance(column, tuple):
                values[place], lengths[place] = column
            elif column is not None:
                values[place] = column
            elif field.path in ("lane", "reason", "container_id", "voids", "inferred_from", "weight_g"):
                lengths[place] = -1
        blob, ends = encoder.encode(rows, [(values, lengths)], (words.buffer(),))
        return [blob[begin:end] for begin, end in itertools.pairwise(ends)]


def measure(parcels: int) -> dict[str, float]:
    """Fold the histories of `parcels` parcels; returns bytes per parcel of the table and of the process."""
    history = History()
    # Load compiled code and allocate the buffers of a batch before the measurement.
    warm = ParcelProcessor(partition=0, partitions=1)
    for batch in history.batches(_BLOCK):
        warm.run(batch, outputs=False)
    del warm, batch
    before = resident_bytes()
    started = time.perf_counter()
    stage = ParcelProcessor(partition=0, partitions=1)
    folding = 0.0
    for batch in history.batches(parcels):
        said = stage.run(batch, outputs=False)
        assert not said.rejects, said.rejects[:3]
        folding += said.phase_seconds["fold"]
    seconds = time.perf_counter() - started
    del batch
    records = int(stage.table.arrays.rows["records"][: len(stage.table)].sum())
    return {
        "parcels": len(stage.table),
        "records": records,
        "table_bytes_per_parcel": round(stage.table.nbytes / len(stage.table), 1),
        "process_bytes_per_parcel": round((resident_bytes() - before) / len(stage.table), 1),
        **{
            f"{name}_bytes": round(array.nbytes / len(stage.table), 1)
            for name, array in stage.table.arrays._asdict().items()
        },
        "seconds": round(seconds, 1),
        "fold_nanoseconds_per_record": round(folding / records * 1e9),
    }


def resident_bytes() -> int:
    """Resident memory of this process in bytes, without pages that the C library keeps for later."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status has no VmRSS")


def main(arguments: list[str]) -> int:
    """Print the figures; 1 when a parcel costs more than the limit."""
    parser = argparse.ArgumentParser(prog="python -m bench memory", description=__doc__)
    parser.add_argument("--parcels", type=int, default=1_000_000, help="default: %(default)s")
    parser.add_argument("--json", action="store_true", help="figures as JSON")
    options = parser.parse_args(arguments)
    result = measure(options.parcels)
    worst = max(result["table_bytes_per_parcel"], result["process_bytes_per_parcel"])
    if options.json:
        print(json.dumps(result))
    else:
        promises = len(Promises.default().promises)
        print(f"{result['parcels']:,.0f} parcels with an advice, {len(SCANS)} scans and {promises} promises each")
        print(f"table:   {result['table_bytes_per_parcel']:7.1f} bytes a parcel, spare room included")
        print(f"process: {result['process_bytes_per_parcel']:7.1f} bytes a parcel")
        for name, value in result.items():
            if name.endswith("_bytes") and value >= 0.1:
                print(f"  {name.removesuffix('_bytes'):12} {value:7.1f}")
        print(f"limit:   {LIMIT:7.1f}" + ("" if worst <= LIMIT else ": EXCEEDED"))
    return 0 if worst <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
