"""Compile what a worker runs, before it joins its group: `python -m streams.processors.warm_up`, part of `make setup`.

Compiled code is kept on disk (streams/domain/jit.py). With it a worker is ready in a second or two; without it the
compilation takes minutes, for which a member must not be missing in its group.
"""

import io
import time
from typing import Any

import fastavro

from streams.formats.schemas import load_schemas
from streams.kernel.compact import compact_table
from streams.processors.compilation import show_compilation
from streams.processors.container_processor import ContainerProcessor
from streams.processors.parcel_processor import ParcelProcessor

_SCAN = {"event_id": "warm", "parcel_id": "WARM", "kind": "UNLOADED", "event_time": 0, "record_time": 0}
_LOCATION = {"site": "LGG", "station": "UNL-01"}
_DAY_MS = 24 * 3_600_000
_ADVICE = {
    "event_id": "warm advice",
    "parcel_id": "WARM",
    "event_time": 0,
    "record_time": 0,
    "direction": "IMPORT",
    "service": "STANDARD",
    "origin": "CN",
    "destination": "BE",
    "promised_at": 1,
}


def warm_up() -> float:
    """Run one record of each type through every compiled function of the processors.

    Returns:
        Seconds that it took: about one when everything was on disk.
    """
    started = time.monotonic()
    parcels = ParcelProcessor(partition=0, partitions=1)
    output = parcels.run(
        [
            _record("Scan", {**_SCAN, **_LOCATION}),
            _record("Scan", {**_SCAN, **_LOCATION, "kind": "VOID", "voids": "warm"}),
            _record("Advice", _ADVICE),
            _record("Scan", {**_SCAN, **_LOCATION, "event_id": "arrival", "kind": "ARRIVED"}),
            _record("Tick", {"hub_time": _DAY_MS}),
        ]
    )
    assert output.alert_counts
    restored = ParcelProcessor(partition=0, partitions=1)
    restored.restore_states([value for _, value in output.states])
    restored.restore_tombstones([b"WARM"])
    # Everything retires in the end; the compaction removes the rest.
    assert parcels.run([_record("Tick", {"hub_time": 1_000 * _DAY_MS})]).tombstones
    compact_table(parcels.table)
    bag = {**_SCAN, **_LOCATION, "container_id": "WARM", "kind": "PACKED", "parcels": ["WARM"], "containers": ["BAG"]}
    del bag["parcel_id"]
    containers = ContainerProcessor(partition=0, partitions=1)
    packed = containers.run([_record("ContainerEvent", bag)])
    containers.restore({key: value for _, _, block in packed.blocks[:2] for key, value in block})
    containers.finish_restore(None)
    # A table that outgrows its first arrays enters all its rows again.
    parcels.table.reserve(1 << 12, 1 << 12, 1 << 12, 1 << 12)
    return time.monotonic() - started


def _record(name: str, fields: dict[str, Any]) -> bytes:
    schemas = load_schemas()
    body = io.BytesIO()
    fastavro.schemaless_writer(body, schemas.current(name), fields)
    return schemas.to_wire_format(name, body.getvalue())


if __name__ == "__main__":
    with show_compilation():
        seconds = warm_up()
    print(f"the compiled code is on disk ({seconds:.1f} s)")  # noqa: T201 - its only output
