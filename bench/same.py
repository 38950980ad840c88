"""Proof that two programs did the same work: their states, milestones and alerts of promises are equal.

Anomalies are written by this worker only. They are left out, in parcel.alerts and in the active alerts of a state.
"""

import io
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import fastavro
import numpy as np
from numpy.typing import NDArray

from bench.common import Cluster, console
from streams.errors import StreamsError
from streams.formats.schemas import load_schemas
from streams.formats.topics import ALERTS_TOPIC, MILESTONES_TOPIC, PARCEL_STATE_TOPIC
from streams.kafka.reader import read_to_end
from streams.kafka.settings import KafkaSettings

_FRAME = 5
_IDENTITY = 16


@dataclass(frozen=True)
class Outcome:
    """The outputs of a program for hub.scans."""

    # parcel_id -> framed bytes of the newest state.
    states: dict[bytes, bytes]
    # The ids of all milestones, sorted; an id is a hash of the whole milestone.
    milestones: NDArray[np.uint64]
    # (parcel_id, about, type, deadline) of the alerts of promises -> how many.
    alerts: Counter[tuple[str, str, str, Any]] = field(default_factory=Counter)
    # The ids of these alerts; an id is a hash of the whole alert.
    alert_ids: Counter[bytes] = field(default_factory=Counter)


def outcome(cluster: Cluster) -> Outcome:
    """Read the outputs of the program that ran last."""
    settings = cluster.settings
    with console.status("reading its states, milestones and alerts"):
        states = {key: value for key, value in _records(settings, PARCEL_STATE_TOPIC) if not key.startswith(b"\0")}
        ids = b"".join(value[_FRAME : _FRAME + _IDENTITY] for _, value in _records(settings, MILESTONES_TOPIC))
        promise_alerts = [
            alert for _, value in _records(settings, ALERTS_TOPIC) if _of_promise(alert := _decoded(value, "Alert"))
        ]
    halves = np.frombuffer(ids, ">u8").reshape(-1, 2).astype(np.uint64)
    alerts = Counter(
        (alert["parcel_id"], alert["condition"], alert["type"], alert["deadline"]) for alert in promise_alerts
    )
    alert_ids = Counter(alert["alert_id"] for alert in promise_alerts)
    return Outcome(states, halves[np.lexsort((halves[:, 1], halves[:, 0]))], alerts, alert_ids)


def compare(one: Outcome, other: Outcome) -> dict[str, Any]:
    """Compare two outcomes.

    Raises:
        StreamsError: they do not; the message has the first difference.
    """
    if one.states.keys() != other.states.keys():
        unshared = min(one.states.keys() ^ other.states.keys())
        raise StreamsError(f"the programs do not know the same parcels: {unshared.decode()} is in one of them only")
    differing = [key for key, state in one.states.items() if state != other.states[key]]
    for key in differing:
        left, right = (_without_anomalies(_decoded(each.states[key], "ParcelState")) for each in (one, other))
        if left != right:
            fields = [name for name in left if left[name] != right[name]]
            differences = "; ".join(f"{name}: {left[name]!r} and {right[name]!r}" for name in fields)
            raise StreamsError(f"the programs differ about {key.decode()}: {differences}")
    if not np.array_equal(one.milestones, other.milestones):
        raise StreamsError(
            f"the programs did not write the same milestones: {len(one.milestones):,} and {len(other.milestones):,}"
        )
    if one.alerts != other.alerts:
        difference = min((one.alerts - other.alerts) | (other.alerts - one.alerts), key=repr)
        raise StreamsError(
            f"the programs did not write the same alerts: {_by_type(one)} and {_by_type(other)}; the first difference "
            f"is {difference!r}, written {one.alerts[difference]} and {other.alerts[difference]} times"
        )
    return {
        "parcels": len(one.states),
        "identical_bytes": len(one.states) - len(differing),
        "milestones": len(one.milestones),
        "alerts": _by_type(one),
        "identical_alert_ids": (one.alert_ids & other.alert_ids).total(),
    }


def _by_type(outcome: Outcome) -> dict[str, int]:
    """Number of alerts by promise and type."""
    numbers: Counter[str] = Counter()
    for (_, about, type_, _), number in outcome.alerts.items():
        numbers[f"{about} {type_}"] += number
    return dict(sorted(numbers.items()))


def _of_promise(alert: dict[str, Any]) -> bool:
    """Is it about a promise? Their names are in lower case, those of anomalies in upper case."""
    return bool(alert["condition"].islower())


def _without_anomalies(state: dict[str, Any]) -> dict[str, Any]:
    standing = [alert for alert in state["active_alerts"] if _of_promise(alert)]
    return state | {"active_alerts": sorted(standing, key=lambda alert: str(alert["condition"]))}


def _records(settings: KafkaSettings, topic: str) -> Iterator[tuple[bytes, bytes]]:
    for record in read_to_end(settings, settings.prefix + topic):
        # Both are bytes as long as no deserializer is set.
        yield cast(bytes, record.key()), cast(bytes, record.value())


def _decoded(value: bytes, name: str) -> dict[str, Any]:
    decoded: Any = fastavro.schemaless_reader(io.BytesIO(value[_FRAME:]), load_schemas().current(name), None)
    return dict(decoded)
