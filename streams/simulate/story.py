"""What happens to the parcels of some vehicles that arrive together, from the vehicle to the delivery.

By air: the aircraft lands, its ULDs are brought in and broken down, bags are opened, parcels are put on the sorter,
cleared by customs (imports), packed into bags by lane, loaded and dispatched; some are delivered within our sight. By
truck: the same from the dock on, with customs after sorting (exports). All of it in columns: a step is one array of
times for all the parcels that take it.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from streams.domain import kinds
from streams.domain.hub import Site, StationKind
from streams.domain.records import RecordType
from streams.simulate import names
from streams.simulate.dirt import lognormal
from streams.simulate.manifest import CHUTE_FULL, HOLDS, MIS_SORTED, NO_READS, REFUSALS, Desk, Manifest
from streams.simulate.names import DEVICES_PER_STATION, Ints, mix
from streams.simulate.rows import HOUR, MINUTE, NONE, ROW, SECOND, Rows, chosen, joined

# The earliest customs declaration before the vehicle comes.
CUSTOMS_LEAD: Final = 3 * HOUR
_PARCELS_PER_ULD: Final = 1_500
# Of the parcels that leave by road: those whose delivery is reported back.
_DELIVERY_SEEN: Final = 0.45
_RETURNED: Final = 0.6  # of the refused

Flags = NDArray[np.bool_]


class Story:
    """One convoy's scans, gathered step by step."""

    def __init__(self, desk: Desk, manifest: Manifest) -> None:
        self.desk, self.manifest, self.convoy = desk, manifest, manifest.convoy
        self.hub, self.names, self.dirt, self.chance = desk.hub, desk.names, desk.dirt, desk.chance
        self.size = len(manifest.parcel)
        self.scans: list[tuple[Ints, Rows]] = []

    def tell(self) -> Rows:
        """Every scan that the parcels get if nothing is missed, in no particular order."""
        chance, size, dirt = self.chance, self.size, self.dirt
        is_import, is_export = self.manifest.direction == kinds.IMPORT, self.manifest.direction == kinds.EXPORT
        unpacked = self._arrive()
        if (damaged := chance.random(size) < dirt.damaged).any():
            self._scan(damaged, kinds.DAMAGED, unpacked + 5 * SECOND, self.hub.hall, StationKind.UNPACK)
        inducted = unpacked + lognormal(chance, size, 18 * MINUTE, 0.6)
        weight = np.minimum(lognormal(chance, size, 350, 0.9) + 20, 30_000)
        self._scan(None, kinds.INDUCTED, inducted, self.hub.hall, StationKind.INDUCT, weight=weight)
        sorted_at = self._sort(inducted)
        early = self.convoy.arrives + chance.integers(-CUSTOMS_LEAD, HOUR, size)
        early = np.maximum(early, self.desk.begin_ms + chance.integers(0, HOUR, size))
        lodged = np.where(is_export, sorted_at + lognormal(chance, size, 5 * MINUTE, 0.5), early)
        released, refused = self._customs(is_import | is_export, lodged)
        ready = np.where(is_import | is_export, np.maximum(sorted_at, released), sorted_at)
        self._leave(~refused, ready)
        returned = refused & (chance.random(size) < _RETURNED)
        back = np.maximum(released, sorted_at) + lognormal(chance, size, 20 * HOUR, 0.5)
        self._scan(returned, kinds.RETURNED, back, self.hub.hall, StationKind.LOAD)
        return self._lose(inducted)

    def _arrive(self) -> Ints:
        """In by its vehicle, off it, out of its bag; when it is out of the bag."""
        chance, convoy = self.chance, self.convoy
        new = np.concatenate(([True], convoy.vehicle[1:] != convoy.vehicle[:-1]))
        first = np.flatnonzero(new)
        count = np.diff(np.append(first, self.size))
        vehicle = np.cumsum(new) - 1  # index within the convoy
        rank = np.arange(self.size) - first[vehicle]
        bag_size = chance.integers(20, 81, len(first))
        bag_start = _starts(new, rank // bag_size[vehicle])
        if convoy.by_air:
            site = self.hub.air
            ulds = np.maximum(2, np.rint(count / _PARCELS_PER_ULD)).astype(np.int64)
            load = rank * ulds[vehicle] // count[vehicle]
            load_start = _starts(new, load)
            carrier = names.container(names.ULD, 0, _below(10**5, mix(convoy.vehicle, 11)) + load)
        else:
            site = self.hub.hall
            load_start = new
            carrier = names.container(names.TRUCK, 0, convoy.vehicle)
        load = np.cumsum(load_start) - 1
        loads = int(load[-1]) + 1
        arrived = (convoy.arrives[load_start] + lognormal(chance, loads, 12 * MINUTE, 0.4))[load]
        unloaded = arrived + lognormal(chance, loads, (40 if convoy.by_air else 15) * MINUTE, 0.5)[load]
        for kind, time, station in (
            (kinds.ARRIVED, arrived, StationKind.ARRIVAL),
            (kinds.UNLOADED, unloaded, StationKind.UNLOAD),
        ):
            self._scan(None, kind, time, site, station, container=carrier, inferred=True)
        bag = np.cumsum(bag_start | load_start) - 1
        bags = int(bag[-1]) + 1
        opened = unloaded + lognormal(chance, bags, 45 * MINUTE, 0.6)[bag]
        # One parcel after the other comes out of the bag.
        bag_first = np.flatnonzero(bag_start | load_start)
        unpacked: Ints = opened + (np.arange(self.size) - bag_first[bag]) * 2_500 + chance.integers(0, 2_000, self.size)
        came_in = self._bags_in(bag_first)[bag]
        self._scan(None, kinds.UNPACKED, unpacked, self.hub.hall, StationKind.UNPACK, container=came_in)
        return unpacked

    def _bags_in(self, bag_first: Ints) -> Ints:
        prefixes = np.array([self.names.bag_prefix(code, self.hub.hall.country) for code in self._countries()])
        words = np.array([self.names.words(code) for code in self._countries()])
        origin = self.manifest.origin[bag_first]
        prefix = prefixes[np.argmax(origin[:, None] == words[None, :], axis=1)]
        number = _below(10**7, mix(self.convoy.first + bag_first, 12))
        return names.container(names.BAG, prefix, number)

    def _countries(self) -> list[str]:
        return [*self.hub.plan.air_origins, *(site.country for site in self.hub.sites)]

    def _sort(self, inducted: Ints) -> Ints:
        """Over the sorter, some more than once; when it is in its chute."""
        chance, size, dirt, hall = self.chance, self.size, self.dirt, self.hub.hall
        now = inducted + lognormal(chance, size, 90 * SECOND, 0.3)
        unread = chance.random(size) < dirt.no_reads
        for _ in range(2):
            self._scan(unread, kinds.NO_READ, now, hall, StationKind.SORT, reason=self.desk.reasons(NO_READS, size))
            around = now + 60 * SECOND + chance.integers(0, 30 * SECOND, size)
            self._scan(unread, kinds.RECIRCULATED, around, hall, StationKind.SORT)
            now = np.where(unread, around + 45 * SECOND, now)
            unread = unread & (chance.random(size) < 0.3)  # read at the second try, most of them
        full = chance.random(size) < dirt.recirculated
        self._scan(full, kinds.RECIRCULATED, now, hall, StationKind.SORT, reason=self.desk.reasons(CHUTE_FULL, size))
        now = np.where(full, now + 4 * MINUTE, now)
        lane = self.manifest.lane
        wrong = chance.random(size) < dirt.mis_sorted
        other = (lane + chance.integers(1, len(self.hub.lanes), size)) % len(self.hub.lanes)
        self._scan(wrong, kinds.SORTED, now, hall, StationKind.SORT, lane=other)
        found = now + lognormal(chance, size, 25 * MINUTE, 0.5)
        self._scan(wrong, kinds.RECIRCULATED, found, hall, StationKind.SORT, reason=self.desk.reasons(MIS_SORTED, size))
        now = np.where(wrong, found + 3 * MINUTE, now)
        self._scan(None, kinds.SORTED, now, hall, StationKind.SORT, lane=lane)
        return now

    def _customs(self, declared: Flags, lodged: Ints) -> tuple[Ints, Flags]:
        """Presented, perhaps held, released or refused; when, and who was refused."""
        chance, size, dirt, hall = self.chance, self.size, self.dirt, self.hub.hall
        self._scan(declared, kinds.CUSTOMS_PRESENTED, lodged, hall, StationKind.CUSTOMS)
        done = lodged + lognormal(chance, size, 8 * MINUTE, 1.0)
        held = declared & (chance.random(size) < dirt.held)
        why = np.where(chance.random(size) < dirt.unexplained, -1, self.desk.reasons(HOLDS, size))
        self._scan(held, kinds.CUSTOMS_HELD, done, hall, StationKind.CUSTOMS, reason=why)
        hold = np.clip(lognormal(chance, size, 12 * HOUR, 0.8), 4 * HOUR, 72 * HOUR)
        done = np.where(held, done + hold, done)
        refused = held & (chance.random(size) < dirt.refused)
        reason = self.desk.reasons(REFUSALS, size)
        self._scan(refused, kinds.CUSTOMS_REFUSED, done, hall, StationKind.CUSTOMS, reason=reason)
        self._scan(declared & ~refused, kinds.CUSTOMS_RELEASED, done, hall, StationKind.CUSTOMS)
        return done, refused

    def _leave(self, goes: Flags, ready: Ints) -> None:
        """Into a bag, onto a truck or an aircraft, away; some are seen to be delivered."""
        chance, size, lane = self.chance, self.size, self.manifest.lane
        packed = ready + lognormal(chance, size, 35 * MINUTE, 0.6)
        slot = packed // (20 * MINUTE)
        open_bag = chance.integers(0, self.desk.open_bags, size)
        number = _below(10**7, mix(slot * 1_000 + lane, 13) + open_bag.astype(np.uint64))
        prefixes = np.array(
            [self.names.bag_prefix(self.hub.hall.country, lane.destinations[0]) for lane in self.hub.lanes], np.int64
        )
        bag = names.container(names.BAG, prefixes[lane], number)
        self._scan(goes, kinds.PACKED, packed, self.hub.hall, StationKind.PACK, container=bag)
        # A truck leaves each lane every hour, an aircraft every four; everything of a lane and slot is in one vehicle.
        by_road = self.desk.by_road[lane]
        every = np.where(by_road, HOUR, 4 * HOUR)
        slot = (packed + 40 * MINUTE) // every + 1
        trip = mix(slot * 1_000 + lane, 14)
        leaves = slot * every + _below(10 * MINUTE, trip)
        of_bag = mix(bag, 15)
        loaded = leaves - 5 * MINUTE - _below(25 * MINUTE, of_bag)
        for site, some in ((self.hub.hall, goes & by_road), (self.hub.air, goes & ~by_road)):
            for kind, time in ((kinds.LOADED, loaded), (kinds.DISPATCHED, leaves)):
                self._scan(some, kind, time, site, StationKind.LOAD, lane=lane, container=bag, inferred=True)
        seen = goes & by_road & (chance.random(size) < _DELIVERY_SEEN)
        delivered = leaves + lognormal(chance, size, 8 * HOUR, 0.3) + lognormal(chance, size, 12 * HOUR, 0.6)
        for index, way in enumerate(self.hub.lanes):
            if way.feeder is not None:
                site = self.hub.site(way.feeder)
                self._scan(seen & (lane == index), kinds.DELIVERED, delivered, site, StationKind.DELIVERY)

    def _lose(self, inducted: Ints) -> Rows:
        """All scans so far, but none of a lost parcel after its induction, and the word that it is lost."""
        lost = self.chance.random(self.size) < self.dirt.lost
        until = np.where(lost, inducted, np.iinfo(np.int64).max)
        kept = [chosen(rows, rows["time"] <= until[who]) for who, rows in self.scans]
        self.scans.clear()
        self._scan(lost, kinds.LOST, inducted + 36 * HOUR, self.hub.hall, StationKind.SORT)
        rows = joined([*kept, *(rows for _, rows in self.scans)])
        rows["serial"] = self.desk.serials(len(rows))
        return rows

    def _scan(
        self,
        some: Flags | None,
        kind: int,
        time: Ints,
        site: Site,
        done: StationKind,
        *,
        lane: Ints | None = None,
        reason: NDArray[np.integer] | None = None,
        container: Ints | None = None,
        weight: Ints | None = None,
        inferred: bool = False,
    ) -> None:
        """One scan of each of `some` parcels (None: all). `inferred`: from a scan of its container, at one device."""
        who = np.arange(self.size) if some is None else np.flatnonzero(some)
        if not len(who):
            return
        rows = np.zeros(len(who), ROW)
        rows["type"], rows["kind"], rows["other"] = RecordType.SCAN, kind, NONE
        rows["time"] = time[who]
        rows["parcel"] = self.manifest.parcel[who]
        rows["direction"] = self.manifest.direction[who]
        rows["lane"] = -1 if lane is None else self.desk.lane_words[lane[who]]
        rows["reason"] = -1 if reason is None else reason[who]
        rows["weight"] = 0 if weight is None else weight[who]
        stations, bounds = self.names.pick(site, done)
        if container is not None:
            rows["container"] = container[who]
        if inferred:
            # The container's own scan is the same for all that is in it: instant, station and event_id.
            scan = mix(rows["container"] ^ rows["time"] * 64 + kind, 16)
            rows["other"] = (scan >> np.uint64(2)).astype(np.int64) | np.int64(1 << 62)
            drawn = (scan >> np.uint64(11)).astype(np.float64) / float(1 << 53)
            rows["device"] = -1
        else:
            drawn = self.chance.random(len(who))
        rows["station"] = stations[np.minimum(np.searchsorted(bounds, drawn), len(stations) - 1)]
        if not inferred:
            device = self.chance.integers(0, DEVICES_PER_STATION, len(who))
            rows["device"] = rows["station"] * DEVICES_PER_STATION + device
        self.scans.append((who, rows))


def _starts(new: Flags, part: Ints) -> Flags:
    """Where a part of a vehicle's load begins."""
    return new | np.concatenate(([True], part[1:] != part[:-1]))


def _below(limit: int, drawn: NDArray[np.uint64]) -> Ints:
    """Random bits as numbers from 0 to below `limit`."""
    return (drawn % np.uint64(limit)).astype(np.int64)
