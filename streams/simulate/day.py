"""One simulated log of a hub: which vehicles come when, and everything in the order in which it enters the log.

The same scenario and the same seed give the same records to the byte. Nothing is kept longer than its time: memory
grows with the parcels of about two days, not with the length of the log.
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
from streams.simulate import data_faults as dirts
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

_BATCH: Final = 32_768  # records handed on at a time
_MAX_WAVE_PARCELS: Final = 20_000  # parcels told at a time, unless one vehicle brings more
# Stations where scans are made with handhelds, whose clocks nobody sets.
_HANDHELD: Final = frozenset(
    {StationKind.UNLOAD, StationKind.UNPACK, StationKind.PACK, StationKind.LOAD, StationKind.DELIVERY}
)
# What sees all records of some parcels at once, in no particular order and without repeats.
ParcelRecordSink = Callable[[RecordColumns], None]


@dataclass(frozen=True, slots=True)
class Scenario:
    """What to simulate; the log begins at `start_ms` and ends `after_hours` after the last of the `days`."""

    parcels: int
    seed: int = 1
    days: int = 1
    start_ms: int = 1_772_323_200_000  # 2026-03-01T00:00Z
    after_hours: float = 48.0
    tick_seconds: float = 60.0
    dirt: DataFaults = field(default_factory=DataFaults)
    hub: Hub = field(default_factory=Hub.default)
    # Instead of the events of containers, the scans of parcels that follow from them.
    expanded: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be simulated."""
        for name, low, high in (
            ("parcels", 1, 10**9),
            ("seed", 0, 2**63 - 1),
            ("days", 1, 3660),
            ("after_hours", 0, 24 * 3660),
            ("tick_seconds", 0.001, DAY / SECOND),
            # Half of the times that a record may carry on either side, so that no lateness or clock leaves the bounds.
            ("start_ms", -631_152_000_000, 4_102_444_800_000),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                message = f"{name} is {value:g}; it must be from {low:g} to {high:g}"
                raise Misconfigured(message)

    @property
    def tick_ms(self) -> int:
        """Time between ticks; the first one is at `start_ms`, the last one before `end_ms`."""
        return max(1, int(self.tick_seconds * SECOND))

    @property
    def end_ms(self) -> int:
        """Nothing enters the log after this."""
        return self.start_ms + self.days * DAY + int(self.after_hours * HOUR)

    @property
    def last_tick_ms(self) -> int:
        """The last tick: once it has come after everything that was inferred, everything is known and told."""
        return self.start_ms + (self.end_ms - 1 - self.start_ms) // self.tick_ms * self.tick_ms


@dataclass(slots=True)
class LogCounts:
    """What entered the log so far."""

    records: int = 0  # distinct scans, voids and advices of parcels
    advices: int = 0  # of these
    containers: int = 0  # distinct events of containers
    duplicates: int = 0
    ticks: int = 0
    dead_letters: Counter[str] = field(default_factory=Counter)  # of hub.scans
    container_dead_letters: Counter[str] = field(default_factory=Counter)  # of hub.containers


class Simulation:
    """A hub's log: iterate once over `batches()`."""

    def __init__(self, scenario: Scenario, sink: ParcelRecordSink | None = None) -> None:
        self.scenario, self.counts = scenario, LogCounts()
        self._witness = sink
        self._chance = np.random.Generator(np.random.PCG64(scenario.seed))
        self._names = Names(scenario.hub, scenario.seed, scenario.start_ms, scenario.end_ms + DAY)
        # What happens to records on their way into the log; of its own, so that the days are the same in either form.
        self._log_chance = np.random.Generator(np.random.PCG64([scenario.seed, 1]))
        self._broken = 0
        self._desk = SimulationContext(scenario.hub, self._names, scenario.dirt, self._chance, scenario.start_ms)
        self._emptied = self._names.words(EMPTIED)
        stations = self._names.stations
        handheld = [station.kind in _HANDHELD for _, station in stations]
        self._handheld = np.array(handheld + [False] * len(self._names.partners))
        self._skews = dirts.device_skews(len(stations), scenario.dirt, self._chance)
        self._scans_of_device = np.zeros(len(stations) * DEVICES_PER_STATION, np.int64)
        self._by_event_time, self._by_log_time = TimeOrderedBuffer(), TimeOrderedBuffer()
        self._next_tick = scenario.start_ms

    def batches(self) -> Iterator[RecordColumns]:
        """Every record of the log, in log order."""
        for rows in self._hours():
            ticked = self._with_ticks(rows)
            for first in range(0, len(ticked), _BATCH):
                part = ticked[first : first + _BATCH]
                self._count(part)
                yield self._columns(part)
        # The clock goes on to the end.
        for first in range(0, len(rest := self._ticks(self.scenario.end_ms - 1)), _BATCH):
            part = rest[first : first + _BATCH]
            self._count(part)
            yield self._columns(part)

    def _columns(self, rows: CompactRecords) -> RecordColumns:
        return self._names.columns(rows, self._desk.lists)

    def _hours(self) -> Iterator[CompactRecords]:
        """What enters the log, hour by hour, in order."""
        scenario = self.scenario
        waiting: dict[int, tuple[Manifest, CompactRecords]] = {}
        for time, number, convoy in self._schedule():
            yield from self._until(max(time, scenario.start_ms))
            if convoy is not None:
                manifest = self._desk.manifest(convoy)
                waiting[number] = manifest, self._schedule_records(manifest.advices, time)
                continue
            manifest, advices = waiting.pop(number)
            told = self._schedule_records(
                dirts.drop_missed(ParcelJourneys(self._desk, manifest).tell(), scenario.dirt, self._chance), time
            )
            if self._witness is not None:
                seen = concat([advices, told])
                self._witness(self._columns(select(seen, seen["arrival"] < scenario.end_ms)))
        yield from self._until(scenario.end_ms + 400 * DAY)

    def _schedule(self) -> list[tuple[int, int, ArrivalWave | None]]:
        """(time, number, convoy): the convoy when its advices begin, and None when its scans do."""
        events: list[tuple[int, int, ArrivalWave | None]] = []
        for number, convoy in enumerate(self._arrival_waves()):
            events.append((convoy.starts - ADVICE_LEAD, number, convoy))
            events.append((convoy.starts - CUSTOMS_LEAD, number, None))
        return sorted(events, key=lambda event: (event[0], event[1]))

    def _arrival_waves(self) -> Iterator[ArrivalWave]:
        scenario, chance, plan = self.scenario, self._chance, self.scenario.hub.plan
        first = vehicles = 0
        for day in range(scenario.days):
            parcels = scenario.parcels * (day + 1) // scenario.days - scenario.parcels * day // scenario.days
            exports = int(chance.binomial(parcels, self._desk.export_share))
            for by_air, size, by_hour in (
                (True, parcels - exports, plan.aircraft_by_hour),
                (False, exports, plan.trucks_by_hour),
            ):
                hours = np.repeat(np.arange(24), by_hour)
                comes = scenario.start_ms + day * DAY + hours * HOUR + chance.integers(0, HOUR, len(hours))
                comes.sort()
                room = np.exp(0.3 * chance.standard_normal(len(comes)))
                load = chance.multinomial(size, room / room.sum())
                vehicle = np.repeat(vehicles + np.arange(len(comes), dtype=np.int64), load)
                arrives = np.repeat(comes, load).astype(np.int64)
                vehicles += len(comes)
                for part in _split_waves(arrives, vehicle):
                    yield ArrivalWave(by_air, first + part.start, vehicle[part], arrives[part])
                first += size

    def _schedule_records(self, rows: CompactRecords, now: int) -> CompactRecords:
        """Send `rows` on their way into the log, with the VOIDs that follow them.

        Returns:
            All records of their parcels, those that are inferred among them.
        """
        desk, dirt, chance = self._desk, self.scenario.dirt, self._chance
        more, overtaken = dirts.add_voids(rows, dirt, chance, desk.next_serial, desk.reasons(VOID_REASONS, len(rows)))
        desk.next_serial += 2 * len(more)
        entered = concat([rows, more])
        dirts.set_clock_skew(entered, self._handheld, self._skews, dirt, chance)
        dirts.set_record_time(entered, overtaken, dirt, chance)
        of_container = entered["type"] == RecordType.CONTAINER
        if not of_container.any():
            self._send(entered, now)
            return entered
        own, events = select(entered, ~of_container), select(entered, of_container)
        desk.lists.keep(events["parcel"], events["arrival"])
        # What comes after the end of the log nobody knows.
        known = select(events, events["arrival"] < self.scenario.end_ms)
        if self._witness is not None or self.scenario.expanded:
            follows = infer_scans(known, desk.lists, self._names.site_of_station, self._emptied)
        else:
            follows = known[:0]
        self._send(concat([own, follows if self.scenario.expanded else events]), now)
        return concat([own, follows])

    def _send(self, rows: CompactRecords, now: int) -> None:
        # What happened long before it was told here, as a manifest says, is in nobody's way.
        self._by_event_time.put(rows, np.maximum(rows["time"], max(now, self.scenario.start_ms)))

    def _until(self, time: int) -> Iterator[CompactRecords]:
        """Everything that enters the log in the hours that end by `time`."""
        for rows in self._by_event_time.take(time):
            done = rows.take(np.argsort(rows["time"], kind="stable"))
            self._number_devices(done)
            repeats = dirts.make_duplicates(done, self.scenario.dirt, self._log_chance)
            broken = dirts.make_malformed(done, self.scenario.dirt, self._log_chance, self._broken)
            self._broken += len(broken)
            for part in (done, repeats, broken):
                self._by_log_time.put(part, _log_times(part))
        for rows in self._by_log_time.take(time):
            rows = select(rows, _log_times(rows) < self.scenario.end_ms)
            if len(rows):
                yield rows.take(np.lexsort((rows["again"], _log_times(rows))))
        self._desk.lists.forget(time)

    def _number_devices(self, rows: CompactRecords) -> None:
        """Give each scan the running number of its device; `rows` are in the order in which they happened."""
        order = np.argsort(rows["device"], kind="stable")
        order = order[np.searchsorted(rows["device"][order], 0) :]
        device = rows["device"][order]
        new = np.flatnonzero(np.concatenate(([True], device[1:] != device[:-1]))) if len(device) else order
        counts = np.diff(np.append(new, len(device)))
        rank = np.arange(len(device)) - np.repeat(new, counts)
        rows["seq"][order] = self._scans_of_device[device] + rank + 1
        self._scans_of_device[device[new]] += counts

    def _with_ticks(self, rows: CompactRecords) -> CompactRecords:
        """The same with the clock's ticks between them: a tick comes before what enters the log at its instant."""
        times = _log_times(rows)
        ticks = self._ticks(int(times[-1]))
        both = concat([ticks, rows])
        return both.take(np.argsort(np.concatenate([ticks["arrival"], times]), kind="stable"))

    def _ticks(self, until: int) -> CompactRecords:
        """The next ones."""
        step = self.scenario.tick_ms
        due = np.arange(self._next_tick, until + 1, step, dtype=np.int64)
        self._next_tick += len(due) * step
        ticks = np.zeros(len(due), RECORD_DTYPE)
        ticks["type"], ticks["time"], ticks["arrival"] = RecordType.TICK, due, due
        ticks["lane"] = ticks["reason"] = ticks["device"] = -1
        return ticks

    def _count(self, rows: CompactRecords) -> None:
        types = rows["type"]
        broken = np.isin(types, (RecordType.RAW, RecordType.RAW_CONTAINER))
        for type_, cases, letters in (
            (RecordType.RAW, MALFORMED_SCAN_CASES, self.counts.dead_letters),
            (RecordType.RAW_CONTAINER, MALFORMED_CONTAINER_EVENT_CASES, self.counts.container_dead_letters),
        ):
            for case, count in enumerate(np.bincount(rows["other"][types == type_]).tolist()):
                if count:
                    letters[RejectReason(cases[case][0]).name] += count
        ticks = int((types == RecordType.TICK).sum())
        repeats = int(((rows["again"] > 0) & ~broken).sum())
        self.counts.ticks += ticks
        self.counts.duplicates += repeats
        containers = int(((types == RecordType.CONTAINER) & (rows["again"] == 0)).sum())
        self.counts.containers += containers
        self.counts.advices += int(((types == RecordType.ADVICE) & (rows["again"] == 0)).sum())
        self.counts.records += len(rows) - ticks - repeats - containers - int(broken.sum())


def _log_times(rows: CompactRecords) -> Ints:
    times: Ints = rows["arrival"] + rows["again"]
    return times


def _split_waves(arrives: Ints, vehicle: Ints) -> Iterator[slice]:
    """Convoys: whole vehicles of the same hour, as many as keep a convoy small."""
    if not len(arrives):
        return
    new = np.flatnonzero(np.concatenate(([True], vehicle[1:] != vehicle[:-1])))
    ends = [*new[1:].tolist(), len(arrives)]
    begin, previous = 0, 0
    for start, end in zip(new.tolist(), ends, strict=True):
        if start > begin and (arrives[start] // HOUR != arrives[begin] // HOUR or end - begin > _MAX_WAVE_PARCELS):
            yield slice(begin, previous)
            begin = start
        previous = end
    yield slice(begin, len(arrives))
