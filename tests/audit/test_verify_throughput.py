"""The verifier of the throughput finds surplus, missing and misplaced deltas, and nothing in a correct topic."""

import json
from collections.abc import Callable

import pytest

from streams.audit.verify import VerificationReport
from streams.audit.verify_throughput import ThroughputVerifier
from streams.domain.reference.promise_clocks import ParcelRecord
from streams.simulate.expected_throughput import ExpectedThroughput
from tests.formats.avro import framed

NINE = 1_772_355_600_000
MINUTE = 60_000


def delta(
    kind: str = "SORTED", count: int = 1, minute: int = NINE, direction: str = "IMPORT", station: str = "S1"
) -> dict:
    return {"site": "LGG", "station": station, "kind": kind, "direction": direction, "minute": minute, "count": count}


def scan(number: int, kind: str = "SORTED", time: int = NINE, voids: bytes | None = None) -> ParcelRecord:
    return ParcelRecord(bytes([number] * 16), kind, time, "LGG", "S1", voids=voids)


def advice(number: int, direction: str, time: int = NINE) -> ParcelRecord:
    return ParcelRecord(bytes([number] * 16), "ADVISED", time, plan={"direction": direction})


# An import with three effective scans, two of them in one minute; a fourth is voided.
PARCEL = [
    advice(1, "IMPORT"),
    scan(2),
    scan(3, time=NINE + 59_999),
    scan(4, "LOADED", NINE + MINUTE),
    scan(5, "DISPATCHED"),
    ParcelRecord(b"v" * 16, "VOID", NINE, voids=bytes([5] * 16)),
]
RIGHT = [delta(), delta("DISPATCHED"), delta(), delta("LOADED", minute=NINE + MINUTE), delta("DISPATCHED", -1)]


def truth(*parcels: list[ParcelRecord]) -> dict:
    throughput = ExpectedThroughput()
    for parcel in parcels:
        throughput.add(parcel)
    return json.loads(json.dumps(throughput.to_dict()))


def verify(deltas: list[dict], expected: dict | None = None) -> VerificationReport:
    report = VerificationReport()
    throughput = ThroughputVerifier(report)
    throughput.add(
        (f"{each['site']}/{each['station']}".encode(), framed("ThroughputDelta", each), 0, offset)
        for offset, each in enumerate(deltas)
    )
    throughput.compare(truth(PARCEL) if expected is None else expected)
    return report


def test_a_correct_topic() -> None:
    report = verify(RIGHT)
    assert report.ok
    assert report.deltas == 5


@pytest.mark.parametrize(
    ("mutate", "found"),
    [
        (lambda right: [*right, right[0]], ["LGG/S1: SORTED IMPORT 2026-03-01T09:00Z: expected 2, found 3"]),
        (lambda right: right[1:], ["LGG/S1: SORTED IMPORT 2026-03-01T09:00Z: expected 2, found 1"]),
        (lambda right: right[:-1], ["LGG/S1: DISPATCHED IMPORT 2026-03-01T09:00Z: expected 0, found 1"]),
        (lambda right: right[:3] + right[4:], ["LGG/S1: LOADED IMPORT 2026-03-01T09:01Z: expected 1, found 0"]),
        (
            lambda right: [delta(direction="EXPORT"), *right[1:]],
            [
                "LGG/S1: SORTED IMPORT 2026-03-01T09:00Z: expected 2, found 1",
                "LGG/S1: SORTED EXPORT 2026-03-01T09:00Z: expected 0, found 1",
            ],
        ),
        (
            lambda right: [delta(station="S2"), *right[1:]],
            [
                "LGG/S1: SORTED IMPORT 2026-03-01T09:00Z: expected 2, found 1",
                "LGG/S2: SORTED IMPORT 2026-03-01T09:00Z: expected 0, found 1",
            ],
        ),
        (
            lambda right: [delta(minute=NINE + 1), *right[1:]],
            [f"0:0: delta: expected a number of scans in a minute, found 1 at {NINE + 1}"],
        ),
    ],
    ids=["one too many", "one too few", "a void that is missing", "none", "direction", "station", "no minute"],
)
def test_a_wrong_topic(mutate: Callable[[list[dict]], list[dict]], found: list[str]) -> None:
    assert [str(each) for each in verify(mutate(RIGHT)).throughput_differences] == found


def test_scans_count_in_the_direction_of_the_latest_advice() -> None:
    parcel = [scan(2), advice(9, "EXPORT", NINE + 1), advice(1, "IMPORT", NINE), scan(3, "LOADED")]
    assert verify([delta(direction="EXPORT"), delta("LOADED", direction="EXPORT")], truth(parcel)).ok


def test_without_an_advice_the_direction_is_unknown() -> None:
    assert verify([delta(direction="UNKNOWN")], truth([scan(2)])).ok


@pytest.mark.parametrize("value", [None, b"", b"\0\0\0\0\x07", b"rubbish"])
def test_a_value_that_is_no_delta(value: bytes | None) -> None:
    report = VerificationReport()
    ThroughputVerifier(report).add([(b"LGG/S1", value, 0, 0)])
    assert len(report.throughput_differences) == 1


def test_a_delta_with_a_wrong_key() -> None:
    report = VerificationReport()
    ThroughputVerifier(report).add([(b"LGG/S2", framed("ThroughputDelta", delta()), 0, 0)])
    assert [each.field for each in report.throughput_differences] == ["key"]
