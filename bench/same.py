"""Proof that two programs did the same work: their states and milestones are equal."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import fastavro
import numpy as np
from numpy.typing import NDArray

from bench.common import Cluster, console
from streams.errors import StreamsError
from streams.pipeline.clients import read_to_end
from streams.pipeline.schemas import load_schemas
from streams.pipeline.settings import Settings
from streams.pipeline.topics import MILESTONES, STATE

_FRAME = 5
_IDENTITY = 16


@dataclass(frozen=True)
class Outcome:
    """What a program made of hub.scans."""

    # parcel_id -> framed bytes of the newest state.
    states: dict[bytes, bytes]
    # The ids of all milestones, sorted; an id is a hash of everything a milestone says.
    milestones: NDArray[np.uint64]


def outcome(cluster: Cluster) -> Outcome:
    """Read the outputs of the program that ran last."""
    settings = cluster.settings
    with console.status("reading its states and milestones"):
        states = {key: value for key, value in _records(settings, STATE) if not key.startswith(b"\0")}
        ids = b"".join(value[_FRAME : _FRAME + _IDENTITY] for _, value in _records(settings, MILESTONES))
    halves = np.frombuffer(ids, ">u8").reshape(-1, 2).astype(np.uint64)
    return Outcome(states, halves[np.lexsort((halves[:, 1], halves[:, 0]))])


def compare(one: Outcome, other: Outcome) -> dict[str, Any]:
    """How far two outcomes agree.

    Raises:
        StreamsError: they do not; the message has the first difference.
    """
    if one.states.keys() != other.states.keys():
        odd = min(one.states.keys() ^ other.states.keys())
        raise StreamsError(f"the programs do not know the same parcels: {odd.decode()} is in one of them only")
    differing = [key for key, state in one.states.items() if state != other.states[key]]
    for key in differing:
        left, right = _decoded(one.states[key]), _decoded(other.states[key])
        if left != right:
            fields = [name for name in left if left[name] != right[name]]
            told = "; ".join(f"{name}: {left[name]!r} and {right[name]!r}" for name in fields)
            raise StreamsError(f"the programs differ about {key.decode()}: {told}")
    if not np.array_equal(one.milestones, other.milestones):
        raise StreamsError(
            f"the programs do not tell the same milestones: {len(one.milestones):,} and {len(other.milestones):,}"
        )
    return {
        "parcels": len(one.states),
        "identical_bytes": len(one.states) - len(differing),
        "milestones": len(one.milestones),
    }


def _records(settings: Settings, topic: str) -> Iterator[tuple[bytes, bytes]]:
    for record in read_to_end(settings, settings.prefix + topic):
        # Both are bytes as long as no deserializer is set.
        yield cast(bytes, record.key()), cast(bytes, record.value())


def _decoded(state: bytes) -> dict[str, Any]:
    decoded: Any = fastavro.schemaless_reader(io.BytesIO(state[_FRAME:]), load_schemas().current("ParcelState"), None)
    return dict(decoded)
