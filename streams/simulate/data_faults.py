"""Faults of the data on its way into the log, and their rates.

The defaults follow published rates where there are any: read rates, mis-sorts, lateness of handhelds and of partners'
files. The others are assumptions. Each rate can be set; `DataFaults.none()` is a hub without faults.
"""

from dataclasses import dataclass, fields
from typing import Final

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from streams.domain.kinds import LOST, VOID
from streams.domain.record_columns import RecordType
from streams.errors import Misconfigured
from streams.simulate.compact_records import HOUR, MINUTE, NOT_SET, SECOND, CompactRecords, concat, select
from streams.simulate.malformed_records import MALFORMED_CONTAINER_EVENT_CASES, MALFORMED_SCAN_CASES
from streams.simulate.names import DEVICES_PER_STATION


@dataclass(frozen=True, slots=True)
class DataFaults:
    """Shares from 0 to 1; of all scans, unless the comment names something else."""

    duplicates: float = 0.01  # sent again within a minute, byte for byte
    bursts: float = 0.0002  # read 3 to 30 times more by a portal, within two seconds
    late: float = 0.04  # 1 minute to 4 hours late: buffered by a handheld
    very_late: float = 0.01  # 1 to 48 hours late: a partner's file
    missed: float = 0.01  # never made
    voids: float = 0.003  # voided by a VOID, which comes before or after them
    wrong_time_zone: float = 0.001  # wrong by an hour: a device set to another time zone
    clock_skew_seconds: float = 120.0  # largest error of a handheld's clock, seconds
    malformed: float = 0.0005  # unreadable or against a rule: dead letters
    no_reads: float = 0.02  # of the parcels: the sorter cannot read the label
    recirculated: float = 0.03  # of the parcels: one more round, as the chute is full
    missorted: float = 0.001  # of the parcels: first sorted into a wrong chute
    held: float = 0.02  # of the parcels that pass customs
    unexplained: float = 0.15  # of the holds: without a reason
    refused: float = 0.3  # of the holds: they end in a refusal
    damaged: float = 0.0005  # of the parcels
    lost: float = 0.0002  # of the parcels
    unadvised: float = 0.015  # of the parcels: no Advice
    extra: float = 0.001  # of the parcels: in a bag, but not on its manifest
    absent: float = 0.001  # of the parcels: on the manifest of a bag, but not in it
    moved: float = 0.01  # of the inbound bags: moved to another ULD after packing

    def __post_init__(self) -> None:
        """Reject values out of range."""
        for field in fields(self):
            value = getattr(self, field.name)
            top = HOUR / SECOND if field.name == "clock_skew_seconds" else 1.0
            if not 0 <= value <= top:
                message = f"{field.name} is {value:g}; it must be from 0 to {top:g}"
                raise Misconfigured(message)
        if self.late + self.very_late > 1:
            message = f"late ({self.late:g}) and very_late ({self.very_late:g}) are shares of the same scans: at most 1"
            raise Misconfigured(message)

    @classmethod
    def none(cls) -> "DataFaults":
        """No faults at all."""
        return cls(**dict.fromkeys((field.name for field in fields(cls)), 0.0))


# Shares of the VOIDs: it repeats the event_id of its target (EPCIS 2.0); a corrected scan follows it; it overtakes its
# target, which is still in a handheld.
_SAME_ID: Final = 0.5
_REPLACED: Final = 0.6
_OVERTAKES: Final = 0.2


def drop_missed(rows: CompactRecords, faults: DataFaults, rng: Generator) -> CompactRecords:
    """Remove missed scans of parcels and of containers; advices are not scans."""
    is_kept = (rng.random(len(rows)) >= faults.missed) | (rows["type"] == RecordType.ADVICE) | (rows["kind"] == LOST)
    return select(rows, is_kept)


def add_voids(
    rows: CompactRecords, faults: DataFaults, rng: Generator, serial: int, reasons: NDArray[np.int16]
) -> tuple[CompactRecords, CompactRecords]:
    """Create VOIDs for some of `rows`, and corrected scans for some of those.

    serial: the first free one. reasons: a reason for each of `rows`, used if it is voided.

    Returns the new rows, and the serials of those of `rows` that are overtaken by their VOID.
    """
    chosen = np.flatnonzero(rng.random(len(rows)) < faults.voids)
    targets = rows.take(chosen)
    voids = targets.copy()
    is_container = targets["type"] == RecordType.CONTAINER
    voids["type"], voids["kind"] = np.where(is_container, RecordType.CONTAINER, RecordType.SCAN), VOID
    voids["aux"] = targets["serial"]
    voids["time"] += lognormal(rng, len(targets), 6 * MINUTE, 1.0)
    voids["reason"] = reasons[chosen]
    voids["lane"], voids["weight"] = -1, 0
    voids["container"][~is_container], voids["parcel"][is_container] = 0, 0
    voids["serial"] = np.where(rng.random(len(targets)) < _SAME_ID, targets["serial"], serial + np.arange(len(targets)))
    # A voided advice is always replaced: the shipper corrects it.
    is_replaced = (rng.random(len(targets)) < _REPLACED) | (targets["type"] == RecordType.ADVICE)
    corrections = select(targets, is_replaced)
    corrections["serial"] = serial + len(targets) + np.arange(len(corrections))
    corrections["time"] += lognormal(rng, len(corrections), 4 * MINUTE, 0.8)
    overtaken = select(targets, rng.random(len(targets)) < _OVERTAKES)
    return concat([voids, corrections]), overtaken["serial"]


def set_clock_skew(
    rows: CompactRecords, is_handheld: NDArray[np.bool_], skews: NDArray[np.int64], faults: DataFaults, rng: Generator
) -> None:
    """Set the clock error of each scan. `is_handheld`: by station; `skews`: ms by device."""
    scans = rows["type"] != RecordType.ADVICE
    has_device = scans & (rows["aux"] == NOT_SET) & is_handheld[rows["station"]] & (rows["device"] >= 0)
    rows["skew"] = np.where(has_device, skews[rows["device"]], 0)
    wrong_zone = scans & (rng.random(len(rows)) < faults.wrong_time_zone)
    hour = np.where(rng.random(len(rows)) < 0.5, HOUR, -HOUR)
    rows["skew"] += np.where(wrong_zone, hour, 0).astype(np.int32)


def device_skews(stations: int, faults: DataFaults, rng: Generator) -> NDArray[np.int64]:
    """The clock error of each device, ms."""
    return (rng.uniform(-1, 1, stations * DEVICES_PER_STATION) * faults.clock_skew_seconds * SECOND).astype(np.int64)


def set_record_time(rows: CompactRecords, overtaken: CompactRecords, faults: DataFaults, rng: Generator) -> None:
    """Set when each record is accepted into the log: soon after its event, or after the time that is already set."""
    draws = rng.random(len(rows))
    prompt = np.minimum(lognormal(rng, len(rows), 250, 0.8), 2 * SECOND)
    late = _between(rng, len(rows), MINUTE, 4 * HOUR)
    very_late = _between(rng, len(rows), HOUR, 48 * HOUR)
    is_late = (draws < faults.late) | np.isin(rows["serial"], overtaken) & (rows["kind"] != VOID)
    is_very_late = ~is_late & (draws < faults.late + faults.very_late)
    known_since = np.where(rows["record_time"] != 0, np.maximum(rows["record_time"], rows["time"]), rows["time"])
    rows["record_time"] = known_since + np.where(is_late, late, np.where(is_very_late, very_late, prompt))


def make_duplicates(rows: CompactRecords, faults: DataFaults, rng: Generator) -> CompactRecords:
    """Exact copies of some of `rows`, which enter the log after them; inferred records are sent once."""
    rows = select(rows, rows["inference_level"] == 0)
    repeats = select(rows, rng.random(len(rows)) < faults.duplicates)
    repeats["duplicate_delay"] = 1 + np.minimum(lognormal(rng, len(repeats), 5 * SECOND, 1.2), MINUTE)
    burst_rows = np.flatnonzero(rng.random(len(rows)) < faults.bursts)
    bursts = rows.take(np.repeat(burst_rows, rng.integers(3, 31, len(burst_rows))))
    bursts["duplicate_delay"] = rng.integers(1, 2 * SECOND, len(bursts))
    return concat([repeats, bursts])


def make_malformed(rows: CompactRecords, faults: DataFaults, rng: Generator, serial: int) -> CompactRecords:
    """Unusable values, which are sent beside good ones."""
    malformed = select(rows, (rows["inference_level"] == 0) & (rng.random(len(rows)) < faults.malformed))
    is_container = malformed["type"] == RecordType.CONTAINER
    malformed["type"] = np.where(is_container, RecordType.RAW_CONTAINER, RecordType.RAW)
    malformed["aux"] = rng.integers(
        0, np.where(is_container, len(MALFORMED_CONTAINER_EVENT_CASES), len(MALFORMED_SCAN_CASES))
    )
    malformed["parcel"][is_container] = 0
    malformed["serial"] = serial + np.arange(len(malformed))
    malformed["duplicate_delay"] = 1
    return malformed


def lognormal(rng: Generator, size: int, median_ms: float, sigma: float) -> NDArray[np.int64]:
    """Durations in ms with a heavy tail, as in air cargo."""
    return (median_ms * np.exp(sigma * rng.standard_normal(size))).astype(np.int64)


def _between(rng: Generator, size: int, low: float, high: float) -> NDArray[np.int64]:
    return np.exp(rng.uniform(np.log(low), np.log(high), size)).astype(np.int64)
