"""The containers of one wave, and their events.

Inbound: at the origin, parcels are put into bags and bags into a ULD or a truck. The partner's manifest reports this
some hours before the vehicle arrives. Outbound: the bags of a lane are closed when they are full or have waited long
enough, and go into the next truck or ULD of their lane. An event of a ULD concerns thousands of parcels, none of which
is scanned.
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
# Parcels in one ULD: an aircraft brings about eight ULDs, within these bounds.
_LEAST_LOAD: Final = 1_500
_LARGEST_LOAD: Final = 15_000
_LOADS: Final = 8
# A bag is open for _OPEN, or for up to _LONGEST times as long if its lane has fewer parcels than _PATIENT. A bag that
# is closed _CUT_OFF before a vehicle leaves goes with it.
_OPEN: Final = HOUR
_LONGEST: Final = 6
_PATIENT: Final = 400
_CUT_OFF: Final = 40 * MINUTE
_LANE: Final = 1 << 40
# Share of the moved bags whose removal is sent before the manifest that lists them.
_TOLD_EARLY: Final = 0.5

Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class InboundParcels:
    """The bags of the parcels of a wave; a row for each parcel, in vehicle order."""

    bag_code: Ints  # container code of the parcel's bag
    unpack_times: Ints  # when the parcel was taken out of it


class ContainerJourneys:
    """Packs the parcels of one wave, and collects the events of its containers."""

    def __init__(self, context: SimulationContext, manifest: Manifest) -> None:
        self.context, self.manifest, self.wave = context, manifest, manifest.wave
        self.rng, self.hub = context.rng, context.hub
        self._events: list[CompactRecords] = []

    @property
    def events(self) -> CompactRecords:
        """All events so far."""
        return concat([np.zeros(0, RECORD_DTYPE), *self._events])

    def unpack_inbound(self, extra: Flags) -> InboundParcels:
        """Arrival, unloading and opening of the bags. `extra`: parcels that are on no manifest."""
        rng, wave = self.rng, self.wave
        size = len(wave.vehicle)
        vehicle, _, count, rank = _groups(wave.vehicle)
        loads = np.ones(len(count), np.int64)
        if wave.by_air:
            loads = np.maximum(1, np.rint(count / np.clip(count / _LOADS, _LEAST_LOAD, _LARGEST_LOAD))).astype(np.int64)
        load, load_first, load_count, rank = _groups(
            _part_index(rank, loads[vehicle], count[vehicle]) + vehicle * 1_000
        )
        bag_sizes = rng.integers(_LEAST_BAG, _LARGEST_BAG + 1, len(load_count))
        bags = -(-load_count // bag_sizes)
        bag, bag_first, bag_count, rank = _groups(_part_index(rank, bags[load], load_count[load]) + load * 1_000_000)
        manifest_load = load[bag_first]  # according to the manifest
        bag_code, load_code = self._bags_in(bag_first), self._carriers(len(load_first))
        moved = (rng.random(len(bag_first)) < self.context.faults.moved) & (len(load_first) > 1)
        actual_load = np.where(moved, (manifest_load + 1) % len(load_first), manifest_load)
        arrivals = wave.arrival_times[load_first]
        self._add_manifest_events(arrivals, bag, bag_code, extra, manifest_load, load_code, moved, actual_load)
        arrived = arrivals + lognormal(rng, len(arrivals), 12 * MINUTE, 0.4)
        unloaded = arrived + lognormal(rng, len(arrivals), (40 if wave.by_air else 15) * MINUTE, 0.5)
        broken_down = unloaded + lognormal(rng, len(arrivals), (20 if wave.by_air else 3) * MINUTE, 0.5)
        site = self.hub.air if wave.by_air else self.hub.hall
        for kind, time, station_kind in (
            (kinds.ARRIVED, arrived, StationKind.ARRIVAL),
            (kinds.UNLOADED, unloaded, StationKind.UNLOAD),
            (kinds.UNPACKED, broken_down, StationKind.UNLOAD),
        ):
            self._add_event(load_code, kind, time, site, station_kind)
        opened = broken_down[actual_load] + lognormal(rng, len(bag_code), 30 * MINUTE, 0.6)
        # The parcels are taken out of the bag one after the other.
        unpacked: Ints = opened[bag] + rank * 2_500 + rng.integers(0, 2_000, size)
        emptied = opened + bag_count * 2_500 + 5 * SECOND
        self._add_event(bag_code, kinds.UNPACKED, emptied, self.hub.hall, StationKind.UNPACK)
        return InboundParcels(bag_code[bag], unpacked)

    def _add_manifest_events(
        self, arrivals: Ints, bag: Ints, bag_code: Ints, extra: Flags, manifest_load: Ints, load_code: Ints,
        moved: Flags, actual_load: Ints,
    ) -> None:  # fmt: skip
        """Add the packings of bags and loads that partners report; `arrivals`: the time of each load."""
        rng, child_lists, by_air = self.rng, self.context.child_lists, self.wave.by_air
        if by_air:
            sent = arrivals - rng.integers(30 * MINUTE, 150 * MINUTE, len(arrivals))
            loaded = arrivals - rng.integers(5 * HOUR, 9 * HOUR, len(arrivals))
            packed = loaded[manifest_load] - rng.integers(10 * MINUTE, 5 * HOUR, len(bag_code))
        else:
            sent = arrivals - rng.integers(20 * MINUTE, 55 * MINUTE, len(arrivals))
            loaded = arrivals - rng.integers(60 * MINUTE, 150 * MINUTE, len(arrivals))
            packed = loaded[manifest_load] - rng.integers(5 * MINUTE, 3 * HOUR, len(bag_code))
        countries = np.array([self.context.names.string_id(country) for country in self.context.names.partners])
        stations = np.array(
            [self.context.names.partner_station(country) for country in self.context.names.partners], np.int16
        )
        bag_origins = self.manifest.origin[np.unique(bag, return_index=True)[1]]
        bag_stations = stations[np.argmax(bag_origins[:, None] == countries[None, :], axis=1)]
        load_stations = bag_stations[np.unique(manifest_load, return_index=True)[1]]
        is_listed = ~extra
        listed_bags, starts = np.unique(bag[is_listed], return_index=True)
        keys = child_lists.put(self.manifest.parcel[is_listed], starts)
        self._add_manifest_event(
            bag_code[listed_bags],
            kinds.PACKED,
            packed[listed_bags],
            bag_stations[listed_bags],
            sent[manifest_load[listed_bags]],
            keys,
        )
        _, starts = np.unique(manifest_load, return_index=True)
        keys = child_lists.put(bag_code, starts, containers=True)
        self._add_manifest_event(load_code, kinds.PACKED, loaded, load_stations, sent, keys)
        # Bags that were moved to another ULD at the origin. Some partners report that before the manifest itself.
        moved_bags = np.flatnonzero(moved)
        if len(moved_bags):
            keys = child_lists.put(bag_code[moved_bags], np.arange(len(moved_bags)), containers=True)
            before, after = manifest_load[moved_bags], actual_load[moved_bags]
            removed = loaded[before] + rng.integers(10 * MINUTE, HOUR, len(moved_bags))
            repacked = np.maximum(removed, loaded[after]) + rng.integers(MINUTE, 20 * MINUTE, len(moved_bags))
            is_early = rng.random(len(moved_bags)) < _TOLD_EARLY
            move_sent = sent[before] + np.where(
                is_early, -5 * MINUTE, rng.integers(MINUTE, 5 * MINUTE, len(moved_bags))
            )
            self._add_manifest_event(load_code[before], kinds.UNPACKED, removed, load_stations[before], move_sent, keys)
            move_sent = sent[after] + rng.integers(MINUTE, 5 * MINUTE, len(moved_bags))
            self._add_manifest_event(load_code[after], kinds.PACKED, repacked, load_stations[after], move_sent, keys)

    def pack_outbound(self, departing: Flags, ready_times: Ints) -> Ints:
        """Pack bags, load them and dispatch the vehicles; returns when each of the `departing` parcels leaves."""
        rng, context, lane = self.rng, self.context, self.manifest.lane
        leaving: Ints = np.full(len(ready_times), np.iinfo(np.int64).max // 2)
        parcels = np.flatnonzero(departing)
        if not len(parcels):
            return leaving
        packed = ready_times[parcels] + lognormal(rng, len(parcels), 35 * MINUTE, 0.6)
        # 1. Bags: the parcels of a lane within an hour, or several hours if they are few, in as many bags as they need.
        lane_counts = np.bincount(lane[parcels], minlength=len(self.hub.lanes))
        window = packed // (np.clip(_PATIENT // np.maximum(lane_counts, 1), 1, _LONGEST) * _OPEN)[lane[parcels]]
        order = np.lexsort((packed, window, lane[parcels]))
        parcels, packed = parcels[order], packed[order]
        window, _, count, rank = _groups(lane[parcels] * _LANE + window[order])
        bag_sizes = rng.integers(_LEAST_BAG, _LARGEST_BAG + 1, len(count))
        bags = -(-count // bag_sizes)
        bag, bag_first, bag_count, _ = _groups(_part_index(rank, bags[window], count[window]) + window * 1_000_000)
        bag_lane = lane[parcels[bag_first]]
        prefixes = np.array(
            [context.names.bag_prefix_index(self.hub.hall.country, lane.destinations[0]) for lane in self.hub.lanes],
            np.int64,
        )
        bag_code = names.container_code(
            names.BAG, prefixes[bag_lane], context.allocate_container_numbers(names.BAG, len(bag_first))
        )
        closed = packed[bag_first + bag_count - 1] + rng.integers(10 * SECOND, MINUTE, len(bag_first))
        keys = context.child_lists.put(self.manifest.parcel[parcels], bag_first)
        self._add_event(bag_code, kinds.PACKED, closed, self.hub.hall, StationKind.PACK, keys=keys)
        # 2. Departures: on each lane a truck every hour, or an aircraft every four hours.
        by_road = context.by_road[bag_lane]
        interval = np.where(by_road, HOUR, 4 * HOUR)
        slot = (closed + _CUT_OFF) // interval + 1
        order = np.lexsort((closed, slot, bag_lane))
        bag_code, bag_lane, by_road, slot, interval = (x[order] for x in (bag_code, bag_lane, by_road, slot, interval))
        by_road = np.asarray(by_road, np.bool_)
        trip, _, count, rank = _groups(bag_lane * _LANE + slot)
        vehicles = -(-(count * (_LEAST_BAG + _LARGEST_BAG) // 2) // _LARGEST_LOAD)
        load, load_first, _, _ = _groups(_part_index(rank, vehicles[trip], count[trip]) + trip * 1_000)
        lane_of, road = bag_lane[load_first], by_road[load_first]
        departs = (slot * interval)[load_first]
        leaves = departs + _below(10 * MINUTE, splitmix64(departs // MINUTE * 1_000 + lane_of, 14))
        load_code = self._carriers(len(load_first), road)
        keys = context.child_lists.put(bag_code, load_first, containers=True)
        lane_strings = context.lane_string_ids[lane_of]
        loads = len(load_first)
        stowed = departs - 30 * MINUTE + rng.integers(0, 8 * MINUTE, loads)
        self._add_event(load_code, kinds.PACKED, stowed, self.hub.hall, StationKind.LOAD, keys=keys)
        loaded = departs - 5 * MINUTE - rng.integers(0, 15 * MINUTE, loads)
        for site, mask in ((self.hub.hall, road), (self.hub.air, ~road)):
            for kind, time in ((kinds.LOADED, loaded), (kinds.DISPATCHED, leaves)):
                self._add_event(load_code[mask], kind, time[mask], site, StationKind.LOAD, lane=lane_strings[mask])
        bag_departures = np.empty(len(bag_first), np.int64)
        bag_departures[order] = leaves[load]
        leaving[parcels] = bag_departures[bag]
        return leaving

    def _bags_in(self, bag_first: Ints) -> Ints:
        countries = self.context.names.partners
        prefixes = np.array([self.context.names.bag_prefix_index(code, self.hub.hall.country) for code in countries])
        origin_strings = np.array([self.context.names.string_id(code) for code in countries])
        origin = self.manifest.origin[bag_first]
        prefix = prefixes[np.argmax(origin[:, None] == origin_strings[None, :], axis=1)]
        return names.container_code(
            names.BAG, prefix, self.context.allocate_container_numbers(names.BAG, len(bag_first))
        )

    def _carriers(self, size: int, by_road: Flags | None = None) -> Ints:
        """Codes of new trucks where `by_road`, and of new ULDs elsewhere. None: by the mode of this wave."""
        road = np.full(size, not self.wave.by_air) if by_road is None else by_road
        trucks = names.container_code(names.TRUCK, 0, self.context.allocate_container_numbers(names.TRUCK, size))
        return np.where(
            road, trucks, names.container_code(names.ULD, 0, self.context.allocate_container_numbers(names.ULD, size))
        )

    def _add_manifest_event(
        self, codes: Ints, kind: int, time: Ints, stations: NDArray[np.int16], sent: Ints, keys: Ints
    ) -> None:
        """Add an event that a partner reports: it happened at `time`, and was reported at `sent`."""
        rows = _blank(codes, kind, time, keys)
        rows["station"], rows["device"] = stations, -1
        earliest = self.context.start_ms + self.rng.integers(0, 5 * MINUTE, len(codes))
        rows["record_time"] = np.maximum(sent, earliest)
        self._events.append(rows)

    def _add_event(
        self, codes: Ints, kind: int, time: Ints, site: Site, station_kind: StationKind, *, keys: Ints | None = None,
        lane: Ints | None = None,
    ) -> None:  # fmt: skip
        """Add an event that is scanned at the hub."""
        if not len(codes):
            return
        rows = _blank(codes, kind, time, keys)
        stations, bounds = self.context.names.stations_of_kind(site, station_kind)
        drawn = np.searchsorted(bounds, self.rng.random(len(codes)))
        rows["station"] = stations[np.minimum(drawn, len(stations) - 1)]
        rows["device"] = rows["station"] * DEVICES_PER_STATION
        rows["device"] += self.rng.integers(0, DEVICES_PER_STATION, len(codes)).astype(np.int16)
        if lane is not None:
            rows["lane"] = lane
        self._events.append(rows)


def _blank(codes: Ints, kind: int, time: Ints, keys: Ints | None) -> CompactRecords:
    rows = np.zeros(len(codes), RECORD_DTYPE)
    rows["type"], rows["kind"], rows["aux"] = RecordType.CONTAINER, kind, NOT_SET
    rows["lane"] = rows["reason"] = -1
    rows["container"], rows["time"] = codes, time
    if keys is not None:
        rows["parcel"] = keys
    return rows


def _groups(numbers: Ints) -> tuple[Ints, Ints, Ints, Ints]:
    """Runs of equal numbers: the run of each row, first row and size of each run, and each row's rank in its run."""
    starts = np.concatenate(([True], numbers[1:] != numbers[:-1]))
    first = np.flatnonzero(starts)
    group = np.cumsum(starts) - 1
    return group, first, np.diff(np.append(first, len(numbers))), np.arange(len(numbers)) - first[group]


def _part_index(rank: Ints, parts: Ints, count: Ints) -> Ints:
    """Index of the part that a row belongs to, if its group of `count` rows is split into `parts` equal parts."""
    part: Ints = rank * parts // count
    return part


def _below(limit: int, bits: NDArray[np.uint64]) -> Ints:
    """Numbers from 0 to below `limit`, from random bits."""
    return (bits % np.uint64(limit)).astype(np.int64)
