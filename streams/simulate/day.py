"""The simulated log of a hub: the arrivals of vehicles, and all records in the order in which they enter the log.

The same scenario with the same seed gives the same records, byte for byte. Records are dropped once they are in the
log: memory grows with the parcels of about two days, not with the length of the log.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from streams.domain.hub import Hub, StationKind
from streams.domain.record_columns import RecordColumns, RecordType
from streams.domain.reference.containment import EMPTIED
from streams.domain.reject_reasons import RejectReason
from streams.errors import Misconfigured
from streams.simulate import data_faults
from streams.simulate.compact_records import (
    DAY,
    HOUR,
    RECORD_DTYPE,
    SECOND,
    CompactRecords,
    TimeOrderedBuffer,
    concat,
    select,
)
from streams.simulate.data_faults import DataFaults
from streams.simulate.inferred_scans import infer_scans
from streams.simulate.malformed_records import MALFORMED_CONTAINER_EVENT_CASES, MALFORMED_SCAN_CASES
from streams.simulate.manifest import ADVICE_LEAD, VOID_REASONS, ArrivalWave, Manifest, SimulationContext
from streams.simulate.names import DEVICES_PER_STATION, Ints, Names
from streams.simulate.parcel_journeys import CUSTOMS_LEAD, ParcelJourneys

_BATCH: Final = 32_768  # records in a batch
_MAX_WAVE_PARCELS: Final = 20_000  # parcels simulated together, unless one vehicle brings more
# Stations that scan with handhelds, whose clocks are not synchronised.
_HANDHELD: Final = frozenset(
    {StationKind.UNLOAD, StationKind.UNPACK, StationKind.PACK, StationKind.LOAD, StationKind.DELIVERY}
)
# Receives all records of some parcels at once, in no particular order and without duplicates.
ParcelRecordSink = Callable[[RecordColumns], None]


@dataclass(frozen=True, slots=True)
class Scenario:
    """Settings of a simulation. Its log begins at `start_ms` and ends `after_hours` after the last of the `days`."""

    parcels: int
    seed: int = 1
    days: int = 1
    start_ms: int = 1_772_323_200_000  # 2026-03-01T00:00Z
    after_hours: float = 48.0
    tick_seconds: float = 60.0
    faults: DataFaults = field(default_factory=DataFaults)
    hub: Hub = field(default_factory=Hub.default)
    # Write the inferred scans of parcels instead of the container events that they follow from.
    scans_only: bool = False

    def __post_init__(self) -> None:
        """Reject values that cannot be simulated."""
        for name, low, high in (
            ("parcels", 1, 10**9),
            ("seed", 0, 2**63 - 1),
            ("days", 1, 3660),
            ("after_hours", 0, 24 * 3660),
            ("tick_seconds", 0.001, DAY / SECOND),
            # Half of the range of valid event times, so that lateness and clock errors stay within that range.
            ("start_ms", -631_152_000_000, 4_102_444_800_000),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                message = f"{name} is {value:g}; it must be from {low:g} to {high:g}"
                raise Misconfigured(message)

    @property
    def tick_ms(self) -> int:
        """Time between ticks. The first tick is at `start_ms`, the last one before `end_ms`."""
        return max(1, int(self.tick_seconds * SECOND))

    @property
    def end_ms(self) -> int:
        """No record enters the log at or after this time."""
        return self.start_ms + self.days * DAY + int(self.after_hours * HOUR)

    @property
    def last_tick_ms(self) -> int:
        """Hub time of the last tick. When it follows all inferred records, all alerts are final."""
        return self.start_ms + (self.end_ms - 1 - self.start_ms) // self.tick_ms * self.tick_ms


@dataclass(slots=True)
class LogCounts:
    """Counts of the records that have entered the log."""

    records: int = 0  # distinct scans, voids and advices of parcels
    advices: int = 0  # of the records
    containers: int = 0  # distinct events of containers
    duplicates: int = 0
    ticks: int = 0
    dead_letters: Counter[str] = field(default_factory=Counter)  # of hub.scans
    container_dead_letters: Counter[str] = field(default_factory=Counter)  # of hub.containers


class Simulation:
    """A hub's log: iterate once over `batches()`."""

    def __init__(self, scenario: Scenario, sink: ParcelRecordSink | None = None) -> None:
        self.scenario, self.counts = scenario, LogCounts()
        self._sink = sink
        self._rng = np.random.Generator(np.random.PCG64(scenario.seed))
        self._names = Names(scenario.hub, scenario.seed, scenario.start_ms, scenario.end_ms + DAY)
        # Random numbers for faults on the way into the log: separate, so that both forms of a log have the same days.
        self._log_rng = np.random.Generator(np.random.PCG64([scenario.seed, 1]))
        self._malformed_count = 0
        self._context = SimulationContext(scenario.hub, self._names, scenario.faults, self._rng, scenario.start_ms)
        self._emptied_reason = self._names.string_id(EMPTIED)
        stations = self._names.stations
        is_handheld = [station.kind in _HANDHELD for _, station in stations]
        self._is_handheld = np.array(is_handheld + [False] * len(self._names.partners))
        self._device_skews = data_faults.device_skews(len(stations), scenario.faults, self._rng)
        self._scans_of_device = np.zeros(len(stations) * DEVICES_PER_STATION, np.int64)
        self._by_event_time, self._by_log_time = TimeOrderedBuffer(), TimeOrderedBuffer()
        self._next_tick = scenario.start_ms

    def batches(self) -> Iterator[RecordColumns]:
        """Every record of the log, in log order."""
        for rows in self._hours():
            records = self._with_ticks(rows)
            for first in range(0, len(records), _BATCH):
                part = records[first : first + _BATCH]
                self._count(part)
                yield self._columns(part)
        # Ticks go on to the end of the log.
        for first in range(0, len(ticks := self._ticks(self.scenario.end_ms - 1)), _BATCH):
            part = ticks[first : first + _BATCH]
            self._count(part)
            yield self._columns(part)

    def _columns(self, rows: CompactRecords) -> RecordColumns:
        return self._names.to_columns(rows, self._context.child_lists)

    def _hours(self) -> Iterator[CompactRecords]:
        """The records of the log in order, one hour at a time, without ticks."""
        scenario = self.scenario
        waiting: dict[int, tuple[Manifest, CompactRecords]] = {}
        for time, number, wave in self._schedule():
            yield from self._advance_to(max(time, scenario.start_ms))
            if wave is not None:
                manifest = self._context.make_manifest(wave)
                waiting[number] = manifest, self._schedule_records(manifest.advices, time)
                continue
            manifest, advices = waiting.pop(number)
            scans = self._schedule_records(
                data_faults.drop_missed(ParcelJourneys(self._context, manifest).generate(), scenario.faults, self._rng),
                time,
            )
            if self._sink is not None:
                records = concat([advices, scans])
                self._sink(self._columns(select(records, records["record_time"] < scenario.end_ms)))
        yield from self._advance_to(scenario.end_ms + 400 * DAY)

    def _schedule(self) -> list[tuple[int, int, ArrivalWave | None]]:
        """(time, number, wave): the wave at the time when its advices begin; None in its place when its scans begin."""
        events: list[tuple[int, int, ArrivalWave | None]] = []
        for number, wave in enumerate(self._arrival_waves()):
            events.append((wave.first_arrival - ADVICE_LEAD, number, wave))
            events.append((wave.first_arrival - CUSTOMS_LEAD, number, None))
        return sorted(events, key=lambda event: (event[0], event[1]))

    def _arrival_waves(self) -> Iterator[ArrivalWave]:
        scenario, rng, plan = self.scenario, self._rng, self.scenario.hub.plan
        first_parcel = vehicles = 0
        for day in range(scenario.days):
            parcels = scenario.parcels * (day + 1) // scenario.days - scenario.parcels * day // scenario.days
            exports = int(rng.binomial(parcels, self._context.export_share))
            for by_air, size, by_hour in (
                (True, parcels - exports, plan.aircraft_by_hour),
                (False, exports, plan.trucks_by_hour),
            ):
                hours = np.repeat(np.arange(24), by_hour)
                arrivals = scenario.start_ms + day * DAY + hours * HOUR + rng.integers(0, HOUR, len(hours))
                arrivals.sort()
                weights = np.exp(0.3 * rng.standard_normal(len(arrivals)))
                loads = rng.multinomial(size, weights / weights.sum())
                vehicle = np.repeat(vehicles + np.arange(len(arrivals), dtype=np.int64), loads)
                arrival_times = np.repeat(arrivals, loads).astype(np.int64)
                vehicles += len(arrivals)
                for part in _split_waves(arrival_times, vehicle):
                    yield ArrivalWave(by_air, first_parcel + part.start, vehicle[part], arrival_times[part])
                first_parcel += size

    def _schedule_records(self, rows: CompactRecords, now: int) -> CompactRecords:
        """Send `rows` and their VOIDs on the way into the log.

        Returns:
            All records of their parcels, including the inferred ones.
        """
        context, faults, rng = self._context, self.scenario.faults, self._rng
        additions, overtaken = data_faults.add_voids(
            rows, faults, rng, context.next_serial, context.draw_reasons(VOID_REASONS, len(rows))
        )
        context.next_serial += 2 * len(additions)
        records = concat([rows, additions])
        data_faults.set_clock_skew(records, self._is_handheld, self._device_skews, faults, rng)
        data_faults.set_record_time(records, overtaken, faults, rng)
        is_container = records["type"] == RecordType.CONTAINER
        if not is_container.any():
            self._send(records, now)
            return records
        parcel_records, events = select(records, ~is_container), select(records, is_container)
        context.child_lists.retain_until(events["parcel"], events["record_time"])
        # Events that come after the end of the log lead to nothing.
        logged = select(events, events["record_time"] < self.scenario.end_ms)
        if self._sink is not None or self.scenario.scans_only:
            inferred = infer_scans(logged, context.child_lists, self._names.site_of_station, self._emptied_reason)
        else:
            inferred = logged[:0]
        self._send(concat([parcel_records, inferred if self.scenario.scans_only else events]), now)
        return concat([parcel_records, inferred])

    def _send(self, rows: CompactRecords, now: int) -> None:
        # A manifest reports events that happened long before; they enter the buffer at the present hour.
        self._by_event_time.put(rows, np.maximum(rows["time"], max(now, self.scenario.start_ms)))

    def _advance_to(self, time: int) -> Iterator[CompactRecords]:
        """The records that enter the log in the hours that end by `time`."""
        for rows in self._by_event_time.drain(time):
            ordered = rows.take(np.argsort(rows["time"], kind="stable"))
            self._number_devices(ordered)
            duplicates = data_faults.make_duplicates(ordered, self.scenario.faults, self._log_rng)
            malformed = data_faults.make_malformed(ordered, self.scenario.faults, self._log_rng, self._malformed_count)
            self._malformed_count += len(malformed)
            for part in (ordered, duplicates, malformed):
                self._by_log_time.put(part, _log_times(part))
        for rows in self._by_log_time.drain(time):
            rows = select(rows, _log_times(rows) < self.scenario.end_ms)
            if len(rows):
                yield rows.take(np.lexsort((rows["duplicate_delay"], _log_times(rows))))
        self._context.child_lists.expire(time)

    def _number_devices(self, rows: CompactRecords) -> None:
        """Give each scan its device's sequence number; `rows` are in the order of their events."""
        order = np.argsort(rows["device"], kind="stable")
        order = order[np.searchsorted(rows["device"][order], 0) :]
        device = rows["device"][order]
        starts = np.flatnonzero(np.concatenate(([True], device[1:] != device[:-1]))) if len(device) else order
        counts = np.diff(np.append(starts, len(device)))
        rank = np.arange(len(device)) - np.repeat(starts, counts)
        rows["seq"][order] = self._scans_of_device[device] + rank + 1
        self._scans_of_device[device[starts]] += counts

    def _with_ticks(self, rows: CompactRecords) -> CompactRecords:
        """The same rows with ticks between them. A tick precedes the records that enter the log at its instant."""
        times = _log_times(rows)
        ticks = self._ticks(int(times[-1]))
        both = concat([ticks, rows])
        return both.take(np.argsort(np.concatenate([ticks["record_time"], times]), kind="stable"))

    def _ticks(self, end: int) -> CompactRecords:
        """The next ticks, up to `end`."""
        step = self.scenario.tick_ms
        times = np.arange(self._next_tick, end + 1, step, dtype=np.int64)
        self._next_tick += len(times) * step
        ticks = np.zeros(len(times), RECORD_DTYPE)
        ticks["type"], ticks["time"], ticks["record_time"] = RecordType.TICK, times, times
        ticks["lane"] = ticks["reason"] = ticks["device"] = -1
        return ticks

    def _count(self, rows: CompactRecords) -> None:
        types = rows["type"]
        malformed = np.isin(types, (RecordType.RAW, RecordType.RAW_CONTAINER))
        for type_, cases, dead_letters in (
            (RecordType.RAW, MALFORMED_SCAN_CASES, self.counts.dead_letters),
            (RecordType.RAW_CONTAINER, MALFORMED_CONTAINER_EVENT_CASES, self.counts.container_dead_letters),
        ):
            for case, count in enumerate(np.bincount(rows["aux"][types == type_]).tolist()):
                if count:
                    dead_letters[RejectReason(cases[case][0]).name] += count
        ticks = int((types == RecordType.TICK).sum())
        duplicates = int(((rows["duplicate_delay"] > 0) & ~malformed).sum())
        self.counts.ticks += ticks
        self.counts.duplicates += duplicates
        containers = int(((types == RecordType.CONTAINER) & (rows["duplicate_delay"] == 0)).sum())
        self.counts.containers += containers
        self.counts.advices += int(((types == RecordType.ADVICE) & (rows["duplicate_delay"] == 0)).sum())
        self.counts.records += len(rows) - ticks - duplicates - containers - int(malformed.sum())


def _log_times(rows: CompactRecords) -> Ints:
    times: Ints = rows["record_time"] + rows["duplicate_delay"]
    return times


def _split_waves(arrival_times: Ints, vehicle: Ints) -> Iterator[slice]:
    """Slices of the parcels: whole vehicles of the same hour, up to `_MAX_WAVE_PARCELS` parcels each."""
    if not len(arrival_times):
        return
    starts = np.flatnonzero(np.concatenate(([True], vehicle[1:] != vehicle[:-1])))
    ends = [*starts[1:].tolist(), len(arrival_times)]
    wave_start, wave_end = 0, 0
    for start, end in zip(starts.tolist(), ends, strict=True):
        if start > wave_start and (
            arrival_times[start] // HOUR != arrival_times[wave_start] // HOUR or end - wave_start > _MAX_WAVE_PARCELS
        ):
            yield slice(wave_start, wave_end)
            wave_start = start
        wave_end = end
    yield slice(wave_start, len(arrival_times))
