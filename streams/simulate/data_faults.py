"""What goes wrong on the way into the log, and how often.

The defaults follow published rates where there are any (read rates, mis-sorts, lateness of handhelds and of partners'
files) and are assumptions elsewhere; each can be set, and `Dirt.none()` is a hub in which nothing goes wrong.
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
    """Shares, from 0 to 1, of all scans where nothing else is said."""

    duplicates: float = 0.01  # sent once more within a minute, to the byte
    bursts: float = 0.0002  # read by a portal 3 to 30 times more within two seconds
    late: float = 0.04  # 1 minute to 4 hours late: buffered by a handheld
    very_late: float = 0.01  # 1 to 48 hours late: a partner's file
    missed: float = 0.01  # not made at all
    voids: float = 0.003  # declared wrong by a VOID, which comes before or after them
    wrong_time_zone: float = 0.001  # wrong by an hour: a device in the wrong zone
    clock_skew_seconds: float = 120.0  # each handheld's clock is wrong by up to so many seconds
    malformed: float = 0.0005  # values that cannot be read or break a rule: dead letters
    no_reads: float = 0.02  # of the parcels: the sorter could not read the label
    recirculated: float = 0.03  # of the parcels: once more around, because the chute was full
    missorted: float = 0.001  # of the parcels: into the wrong chute first
    held: float = 0.02  # of the parcels that pass customs
    unexplained: float = 0.15  # of the holds: without a reason
    refused: float = 0.3  # of the holds: end in a refusal
    damaged: float = 0.0005  # of the parcels
    lost: float = 0.0002  # of the parcels
    unadvised: float = 0.015  # of the parcels: no Advice
    extra: float = 0.001  # of the parcels: in a bag and not on its manifest
    absent: float = 0.001  # of the parcels: on the manifest of a bag and not in it
    moved: float = 0.01  # of the bags that come: moved to another ULD after these were packed

    def __post_init__(self) -> None:
        """Refuse what is not a share."""
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
        """Nothing goes wrong: no dirt at all."""
        return cls(**dict.fromkeys((field.name for field in fields(cls)), 0.0))


# Of the voids: repeats the event_id of what it declares wrong (EPCIS 2.0); comes with the right scan after it; finds
# that the scan it declares wrong is still in a handheld.
_SAME_ID: Final = 0.5
_REPLACED: Final = 0.6
_OVERTAKES: Final = 0.2


def drop_missed(rows: CompactRecords, dirt: DataFaults, rng: Generator) -> CompactRecords:
    """Leave out scans that were never made, of parcels and of containers; advices are not scans."""
    kept = (rng.random(len(rows)) >= dirt.missed) | (rows["type"] == RecordType.ADVICE) | (rows["kind"] == LOST)
    return select(rows, kept)


def add_voids(
    rows: CompactRecords, dirt: DataFaults, rng: Generator, serial: int, reasons: NDArray[np.int16]
) -> tuple[CompactRecords, CompactRecords]:
    """VOIDs for some of `rows`, and the right scans instead of them.

    serial: the first that is free. reasons: one for each of `rows`, if it is declared wrong.

    Returns the new rows, and which of `rows` (their serials) are overtaken by their VOID.
    """
    wrong = np.flatnonzero(rng.random(len(rows)) < dirt.voids)
    targets = rows.take(wrong)
    voids = targets.copy()
    of_container = targets["type"] == RecordType.CONTAINER
    voids["type"], voids["kind"] = np.where(of_container, RecordType.CONTAINER, RecordType.SCAN), VOID
    voids["other"] = targets["serial"]
    voids["time"] += lognormal(rng, len(targets), 6 * MINUTE, 1.0)
    voids["reason"] = reasons[wrong]
    voids["lane"], voids["weight"] = -1, 0
    voids["container"][~of_container], voids["parcel"][of_container] = 0, 0
    voids["serial"] = np.where(rng.random(len(targets)) < _SAME_ID, targets["serial"], serial + np.arange(len(targets)))
    # An advice is always replaced: the shipper corrects it.
    replaced = (rng.random(len(targets)) < _REPLACED) | (targets["type"] == RecordType.ADVICE)
    right = select(targets, replaced)
    right["serial"] = serial + len(targets) + np.arange(len(right))
    right["time"] += lognormal(rng, len(right), 4 * MINUTE, 0.8)
    overtaken = select(targets, rng.random(len(targets)) < _OVERTAKES)
    return concat([voids, right]), overtaken["serial"]


def set_clock_skew(
    rows: CompactRecords, handheld: NDArray[np.bool_], skews: NDArray[np.int64], dirt: DataFaults, rng: Generator
) -> None:
    """Set by how much each scan's clock was wrong. `handheld`: by station; `skews`: ms by device."""
    scans = rows["type"] != RecordType.ADVICE
    own = scans & (rows["other"] == NOT_SET) & handheld[rows["station"]] & (rows["device"] >= 0)
    rows["skew"] = np.where(own, skews[rows["device"]], 0)
    wrong = scans & (rng.random(len(rows)) < dirt.wrong_time_zone)
    hour = np.where(rng.random(len(rows)) < 0.5, HOUR, -HOUR)
    rows["skew"] += np.where(wrong, hour, 0).astype(np.int32)


def device_skews(stations: int, dirt: DataFaults, rng: Generator) -> NDArray[np.int64]:
    """By how many ms the clock of each device is wrong."""
    return (rng.uniform(-1, 1, stations * DEVICES_PER_STATION) * dirt.clock_skew_seconds * SECOND).astype(np.int64)


def set_record_time(rows: CompactRecords, overtaken: CompactRecords, dirt: DataFaults, rng: Generator) -> None:
    """Set when each record is accepted into the log: soon after it happened, or after the time set so far."""
    drawn = rng.random(len(rows))
    prompt = np.minimum(lognormal(rng, len(rows), 250, 0.8), 2 * SECOND)
    late = _between(rng, len(rows), MINUTE, 4 * HOUR)
    very_late = _between(rng, len(rows), HOUR, 48 * HOUR)
    is_late = (drawn < dirt.late) | np.isin(rows["serial"], overtaken) & (rows["kind"] != VOID)
    is_very_late = ~is_late & (drawn < dirt.late + dirt.very_late)
    told = np.where(rows["arrival"] != 0, np.maximum(rows["arrival"], rows["time"]), rows["time"])
    rows["arrival"] = told + np.where(is_late, late, np.where(is_very_late, very_late, prompt))


def make_duplicates(rows: CompactRecords, dirt: DataFaults, rng: Generator) -> CompactRecords:
    """Exact copies of some of `rows`, which enter the log after them; what is inferred is sent once."""
    rows = select(rows, rows["via"] == 0)
    once = select(rows, rng.random(len(rows)) < dirt.duplicates)
    once["again"] = 1 + np.minimum(lognormal(rng, len(once), 5 * SECOND, 1.2), MINUTE)
    seen = np.flatnonzero(rng.random(len(rows)) < dirt.bursts)
    burst = rows.take(np.repeat(seen, rng.integers(3, 31, len(seen))))
    burst["again"] = rng.integers(1, 2 * SECOND, len(burst))
    return concat([once, burst])


def make_malformed(rows: CompactRecords, dirt: DataFaults, rng: Generator, serial: int) -> CompactRecords:
    """Values that nobody can use, sent in the place of good ones."""
    broken = select(rows, (rows["via"] == 0) & (rng.random(len(rows)) < dirt.malformed))
    of_container = broken["type"] == RecordType.CONTAINER
    broken["type"] = np.where(of_container, RecordType.RAW_CONTAINER, RecordType.RAW)
    broken["other"] = rng.integers(
        0, np.where(of_container, len(MALFORMED_CONTAINER_EVENT_CASES), len(MALFORMED_SCAN_CASES))
    )
    broken["parcel"][of_container] = 0
    broken["serial"] = serial + np.arange(len(broken))
    broken["again"] = 1
    return broken


def lognormal(rng: Generator, size: int, median_ms: float, sigma: float) -> NDArray[np.int64]:
    """Durations in ms with a heavy tail, as those of air cargo have."""
    return (median_ms * np.exp(sigma * rng.standard_normal(size))).astype(np.int64)


def _between(chance: Generator, size: int, low: float, high: float) -> NDArray[np.int64]:
    return np.exp(chance.uniform(np.log(low), np.log(high), size)).astype(np.int64)
