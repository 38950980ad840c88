"""The containers of one convoy: what was put into which, and what happened to each of them, as their events tell it.

In: at their origin parcels are put into bags, bags into a ULD or a truck; the partner's manifest tells of it some hours
before the vehicle comes. Out: bags of a lane are closed when they are full or wait no longer, and go into the next
truck or ULD of their lane. What is done to a ULD is done to thousands of parcels, of which nobody scans one.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streams.domain import kinds
from streams.domain.hub import Site, StationKind
from streams.domain.record_columns import RecordType
from streams.simulate import names
from streams.simulate.compact_records import HOUR, MINUTE, NOT_SET, RECORD_DTYPE, SECOND, CompactRecords, concat
from streams.simulate.data_faults import lognormal
from streams.simulate.manifest import Manifest, SimulationContext
from streams.simulate.names import DEVICES_PER_STATION, Ints, splitmix64

# Parcels in one bag.
_LEAST_BAG: Final = 20
_LARGEST_BAG: Final = 80
# Parcels in one ULD: an aircraft brings about eight of them, as far as these bounds let it.
_LEAST_LOAD: Final = 1_500
_LARGEST_LOAD: Final = 15_000
_LOADS: Final = 8
# A bag of a lane is open for so long, and up to so many times as long where fewer parcels than this go there; what is
# closed so long before a vehicle leaves goes with it.
_OPEN: Final = HOUR
_LONGEST: Final = 6
_PATIENT: Final = 400
_CUT_OFF: Final = 40 * MINUTE
_LANE: Final = 1 << 40
# Of the bags that are moved: the removal is told before the manifest from which it is removed.
_TOLD_EARLY: Final = 0.5

Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class InboundParcels:
    """How the parcels of a convoy came; a row a parcel, in the vehicles' order."""

    bag_code: Ints  # the code of the bag that it was in
    unpack_times: Ints  # when it was taken out of it


class ContainerJourneys:
    """Packs the parcels of one convoy and gathers the events of its containers."""

    def __init__(self, context: SimulationContext, manifest: Manifest) -> None:
        self.context, self.manifest, self.wave = context, manifest, manifest.wave
        self.rng, self.hub = context.rng, context.hub
        self._events: list[CompactRecords] = []

    @property
    def events(self) -> CompactRecords:
        """All events so far."""
        return concat([np.zeros(0, RECORD_DTYPE), *self._events])

    def arrive(self, extra: Flags) -> InboundParcels:
        """In by a vehicle, off it, out of the bags. `extra`: these parcels are on no manifest."""
        chance, convoy = self.rng, self.wave
        size = len(convoy.vehicle)
        vehicle, _, count, rank = _groups(convoy.vehicle)
        loads = np.ones(len(count), np.int64)
        if convoy.by_air:
            loads = np.maximum(1, np.rint(count / np.clip(count / _LOADS, _LEAST_LOAD, _LARGEST_LOAD))).astype(np.int64)
        load, load_first, load_count, rank = _groups(_cut(rank, loads[vehicle], count[vehicle]) + vehicle * 1_000)
        wanted = chance.integers(_LEAST_BAG, _LARGEST_BAG + 1, len(load_count))
        bags = -(-load_count // wanted)
        bag, bag_first, bag_count, rank = _groups(_cut(rank, bags[load], load_count[load]) + load * 1_000_000)
        on_load = load[bag_first]  # by the manifest
        bag_code, load_code = self._bags_in(bag_first), self._carriers(len(load_first))
        moved = (chance.random(len(bag_first)) < self.context.dirt.moved) & (len(load_first) > 1)
        came_on = np.where(moved, (on_load + 1) % len(load_first), on_load)
        comes = convoy.arrival_times[load_first]
        self._add_manifest_events(comes, bag, bag_code, extra, on_load, load_code, moved, came_on)
        arrived = comes + lognormal(chance, len(comes), 12 * MINUTE, 0.4)
        unloaded = arrived + lognormal(chance, len(comes), (40 if convoy.by_air else 15) * MINUTE, 0.5)
        broken_down = unloaded + lognormal(chance, len(comes), (20 if convoy.by_air else 3) * MINUTE, 0.5)
        site = self.hub.air if convoy.by_air else self.hub.hall
        for kind, time, done in (
            (kinds.ARRIVED, arrived, StationKind.ARRIVAL),
            (kinds.UNLOADED, unloaded, StationKind.UNLOAD),
            (kinds.UNPACKED, broken_down, StationKind.UNLOAD),
        ):
            self._tell(load_code, kind, time, site, done)
        opened = broken_down[came_on] + lognormal(chance, len(bag_code), 30 * MINUTE, 0.6)
        # One parcel after the other comes out of the bag.
        unpacked: Ints = opened[bag] + rank * 2_500 + chance.integers(0, 2_000, size)
        emptied = opened + bag_count * 2_500 + 5 * SECOND
        self._tell(bag_code, kinds.UNPACKED, emptied, self.hub.hall, StationKind.UNPACK)
        return InboundParcels(bag_code[bag], unpacked)

    def _add_manifest_events(
        self, comes: Ints, bag: Ints, bag_code: Ints, extra: Flags, on_load: Ints, load_code: Ints, moved: Flags,
        came_on: Ints,
    ) -> None:  # fmt: skip
        """What a partner says was put into what; `comes`: when each load comes."""
        chance, lists, by_air = self.rng, self.context.lists, self.wave.by_air
        if by_air:
            sent = comes - chance.integers(30 * MINUTE, 150 * MINUTE, len(comes))
            loaded = comes - chance.integers(5 * HOUR, 9 * HOUR, len(comes))
            packed = loaded[on_load] - chance.integers(10 * MINUTE, 5 * HOUR, len(bag_code))
        else:
            sent = comes - chance.integers(20 * MINUTE, 55 * MINUTE, len(comes))
            loaded = comes - chance.integers(60 * MINUTE, 150 * MINUTE, len(comes))
            packed = loaded[on_load] - chance.integers(5 * MINUTE, 3 * HOUR, len(bag_code))
        countries = np.array([self.context.names.words(country) for country in self.context.names.partners])
        partners = np.array([self.context.names.partner(country) for country in self.context.names.partners], np.int16)
        of_bag = self.manifest.origin[np.unique(bag, return_index=True)[1]]
        place = partners[np.argmax(of_bag[:, None] == countries[None, :], axis=1)]
        of_load = place[np.unique(on_load, return_index=True)[1]]
        listed = ~extra
        told, starts = np.unique(bag[listed], return_index=True)
        keys = lists.put(self.manifest.parcel[listed], starts)
        self._add_manifest_event(bag_code[told], kinds.PACKED, packed[told], place[told], sent[on_load[told]], keys)
        _, starts = np.unique(on_load, return_index=True)
        keys = lists.put(bag_code, starts, containers=True)
        self._add_manifest_event(load_code, kinds.PACKED, loaded, of_load, sent, keys)
        # Moved to another ULD before it left; some of the partners tell of that before the manifest itself.
        which = np.flatnonzero(moved)
        if len(which):
            keys = lists.put(bag_code[which], np.arange(len(which)), containers=True)
            before, after = on_load[which], came_on[which]
            out = loaded[before] + chance.integers(10 * MINUTE, HOUR, len(which))
            into = np.maximum(out, loaded[after]) + chance.integers(MINUTE, 20 * MINUTE, len(which))
            early = chance.random(len(which)) < _TOLD_EARLY
            said = sent[before] + np.where(early, -5 * MINUTE, chance.integers(MINUTE, 5 * MINUTE, len(which)))
            self._add_manifest_event(load_code[before], kinds.UNPACKED, out, of_load[before], said, keys)
            said = sent[after] + chance.integers(MINUTE, 5 * MINUTE, len(which))
            self._add_manifest_event(load_code[after], kinds.PACKED, into, of_load[after], said, keys)

    def pack_outbound(self, departing: Flags, ready: Ints) -> Ints:
        """Into a bag, onto a truck or into a ULD, away; when each parcel leaves, as far as it `goes`."""
        chance, desk, lane = self.rng, self.context, self.manifest.lane
        leaving: Ints = np.full(len(ready), np.iinfo(np.int64).max // 2)
        who = np.flatnonzero(departing)
        if not len(who):
            return leaving
        packed = ready[who] + lognormal(chance, len(who), 35 * MINUTE, 0.6)
        # 1. Bags: what goes to a lane within the hour, in as many bags as it takes; where little goes, it waits longer.
        often = np.bincount(lane[who], minlength=len(self.hub.lanes))
        window = packed // (np.clip(_PATIENT // np.maximum(often, 1), 1, _LONGEST) * _OPEN)[lane[who]]
        order = np.lexsort((packed, window, lane[who]))
        who, packed = who[order], packed[order]
        window, _, count, rank = _groups(lane[who] * _LANE + window[order])
        wanted = chance.integers(_LEAST_BAG, _LARGEST_BAG + 1, len(count))
        bags = -(-count // wanted)
        bag, bag_first, bag_count, _ = _groups(_cut(rank, bags[window], count[window]) + window * 1_000_000)
        bag_lane = lane[who[bag_first]]
        prefixes = np.array(
            [desk.names.bag_prefix_index(self.hub.hall.country, lane.destinations[0]) for lane in self.hub.lanes],
            np.int64,
        )
        bag_code = names.container_code(names.BAG, prefixes[bag_lane], desk.numbers(names.BAG, len(bag_first)))
        closed = packed[bag_first + bag_count - 1] + chance.integers(10 * SECOND, MINUTE, len(bag_first))
        keys = desk.lists.put(self.manifest.parcel[who], bag_first)
        self._tell(bag_code, kinds.PACKED, closed, self.hub.hall, StationKind.PACK, keys=keys)
        # 2. A truck leaves each lane every hour, an aircraft every four.
        by_road = desk.by_road[bag_lane]
        every = np.where(by_road, HOUR, 4 * HOUR)
        slot = (closed + _CUT_OFF) // every + 1
        order = np.lexsort((closed, slot, bag_lane))
        bag_code, bag_lane, by_road, slot, every = (x[order] for x in (bag_code, bag_lane, by_road, slot, every))
        by_road = np.asarray(by_road, np.bool_)
        trip, _, count, rank = _groups(bag_lane * _LANE + slot)
        vehicles = -(-(count * (_LEAST_BAG + _LARGEST_BAG) // 2) // _LARGEST_LOAD)
        load, load_first, _, _ = _groups(_cut(rank, vehicles[trip], count[trip]) + trip * 1_000)
        lane_of, road = bag_lane[load_first], by_road[load_first]
        departs = (slot * every)[load_first]
        leaves = departs + _below(10 * MINUTE, splitmix64(departs // MINUTE * 1_000 + lane_of, 14))
        code = self._carriers(len(load_first), road)
        keys = desk.lists.put(bag_code, load_first, containers=True)
        words = desk.lane_string_ids[lane_of]
        loads = len(load_first)
        stowed = departs - 30 * MINUTE + chance.integers(0, 8 * MINUTE, loads)
        self._tell(code, kinds.PACKED, stowed, self.hub.hall, StationKind.LOAD, keys=keys)
        aboard = departs - 5 * MINUTE - chance.integers(0, 15 * MINUTE, loads)
        for site, some in ((self.hub.hall, road), (self.hub.air, ~road)):
            for kind, time in ((kinds.LOADED, aboard), (kinds.DISPATCHED, leaves)):
                self._tell(code[some], kind, time[some], site, StationKind.LOAD, lane=words[some])
        of_bag = np.empty(len(bag_first), np.int64)
        of_bag[order] = leaves[load]
        leaving[who] = of_bag[bag]
        return leaving

    def _bags_in(self, bag_first: Ints) -> Ints:
        countries = self.context.names.partners
        prefixes = np.array([self.context.names.bag_prefix_index(code, self.hub.hall.country) for code in countries])
        words = np.array([self.context.names.words(code) for code in countries])
        origin = self.manifest.origin[bag_first]
        prefix = prefixes[np.argmax(origin[:, None] == words[None, :], axis=1)]
        return names.container_code(names.BAG, prefix, self.context.numbers(names.BAG, len(bag_first)))

    def _carriers(self, size: int, by_road: Flags | None = None) -> Ints:
        """Codes for ULDs or, `by_road`, for trucks."""
        road = np.full(size, not self.wave.by_air) if by_road is None else by_road
        trucks = names.container_code(names.TRUCK, 0, self.context.numbers(names.TRUCK, size))
        return np.where(road, trucks, names.container_code(names.ULD, 0, self.context.numbers(names.ULD, size)))

    def _add_manifest_event(
        self, codes: Ints, kind: int, time: Ints, places: NDArray[np.int16], sent: Ints, keys: Ints
    ) -> None:
        """Something that a partner says was done: `time`; it is told when it is `sent`."""
        rows = _blank(codes, kind, time, keys)
        rows["station"], rows["device"] = places, -1
        first = self.context.start_ms + self.rng.integers(0, 5 * MINUTE, len(codes))
        rows["arrival"] = np.maximum(sent, first)
        self._events.append(rows)

    def _tell(
        self, codes: Ints, kind: int, time: Ints, site: Site, done: StationKind, *, keys: Ints | None = None,
        lane: Ints | None = None,
    ) -> None:  # fmt: skip
        """Something that is seen here."""
        if not len(codes):
            return
        rows = _blank(codes, kind, time, keys)
        stations, bounds = self.context.names.stations_of_kind(site, done)
        drawn = np.searchsorted(bounds, self.rng.random(len(codes)))
        rows["station"] = stations[np.minimum(drawn, len(stations) - 1)]
        rows["device"] = rows["station"] * DEVICES_PER_STATION
        rows["device"] += self.rng.integers(0, DEVICES_PER_STATION, len(codes)).astype(np.int16)
        if lane is not None:
            rows["lane"] = lane
        self._events.append(rows)


def _blank(codes: Ints, kind: int, time: Ints, keys: Ints | None) -> CompactRecords:
    rows = np.zeros(len(codes), RECORD_DTYPE)
    rows["type"], rows["kind"], rows["other"] = RecordType.CONTAINER, kind, NOT_SET
    rows["lane"] = rows["reason"] = -1
    rows["container"], rows["time"] = codes, time
    if keys is not None:
        rows["parcel"] = keys
    return rows


def _groups(of: Ints) -> tuple[Ints, Ints, Ints, Ints]:
    """Runs of the same number: the run of each row, the first row of each run, its rows, each row's rank in its run."""
    new = np.concatenate(([True], of[1:] != of[:-1]))
    first = np.flatnonzero(new)
    group = np.cumsum(new) - 1
    return group, first, np.diff(np.append(first, len(of))), np.arange(len(of)) - first[group]


def _cut(rank: Ints, parts: Ints, count: Ints) -> Ints:
    """Which of `parts` equal parts of its group, of `count` rows, a row belongs to."""
    cut: Ints = rank * parts // count
    return cut


def _below(limit: int, drawn: NDArray[np.uint64]) -> Ints:
    """Random bits as numbers from 0 to below `limit`."""
    return (drawn % np.uint64(limit)).astype(np.int64)
