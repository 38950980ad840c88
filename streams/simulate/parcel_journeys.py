"""What happens to the parcels of some vehicles that arrive together, from the vehicle to the delivery.

By air: the aircraft lands, its ULDs are brought in and broken down, bags are opened, parcels are put on the sorter,
cleared by customs (imports), packed into bags by lane, loaded and dispatched; some are delivered within our sight. By
truck: the same from the dock on, with customs after sorting (exports). All of it in columns: a step is one array of
times for all the parcels that take it. What happens to containers only is in streams/simulate/packing.py.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from streams.domain import kinds
from streams.domain.hub import Site, StationKind
from streams.domain.record_columns import RecordType
from streams.simulate.compact_records import HOUR, MINUTE, NOT_SET, RECORD_DTYPE, SECOND, CompactRecords, concat, select
from streams.simulate.data_faults import lognormal
from streams.simulate.manifest import (
    CHUTE_FULL_REASONS,
    HOLD_REASONS,
    MIS_SORT_REASONS,
    NO_READ_REASONS,
    REFUSAL_REASONS,
    Manifest,
    SimulationContext,
)
from streams.simulate.names import DEVICES_PER_STATION, Ints
from streams.simulate.packing import ContainerJourneys

# The earliest customs declaration before the vehicle comes.
CUSTOMS_LEAD: Final = 3 * HOUR
# Of the parcels that leave by road: those whose delivery is reported back.
_DELIVERY_SEEN: Final = 0.45
_RETURNED: Final = 0.6  # of the refused
_BY_HAND: Final = 0.2  # scanned as they are taken out of their bag; the others are in no bag once it is empty
_NEVER_SEEN: Final = 0.5  # of those that were not in their bag

Flags = NDArray[np.bool_]


class ParcelJourneys:
    """One convoy's scans, gathered step by step."""

    def __init__(self, context: SimulationContext, manifest: Manifest) -> None:
        self.context, self.manifest, self.wave = context, manifest, manifest.wave
        self.hub, self.names, self.dirt, self.rng = context.hub, context.names, context.dirt, context.rng
        self.size = len(manifest.parcel)
        self.packing = ContainerJourneys(context, manifest)
        self.scans: list[tuple[Ints, CompactRecords]] = []

    def tell(self) -> CompactRecords:
        """Every scan that the parcels get, and every event of their containers, in no particular order."""
        chance, size, dirt, hall = self.rng, self.size, self.dirt, self.hub.hall
        is_import, is_export = self.manifest.direction == kinds.IMPORT, self.manifest.direction == kinds.EXPORT
        extra, absent = chance.random(size) < dirt.extra, chance.random(size) < dirt.absent
        came = self.packing.arrive(extra)
        # What was not in its bag turns up the next day, or never.
        never = absent & (chance.random(size) < _NEVER_SEEN)
        unpacked = np.where(absent, came.unpack_times + lognormal(chance, size, 20 * HOUR, 0.4), came.unpack_times)
        damaged = chance.random(size) < dirt.damaged
        by_hand = ~absent & (damaged | extra | (chance.random(size) < _BY_HAND))
        self._scan(by_hand, kinds.UNPACKED, unpacked, hall, StationKind.UNPACK, container=came.bag_code)
        self._scan(damaged, kinds.DAMAGED, unpacked + 5 * SECOND, hall, StationKind.UNPACK)
        inducted = unpacked + lognormal(chance, size, 18 * MINUTE, 0.6)
        weight = np.minimum(lognormal(chance, size, 350, 0.9) + 20, 30_000)
        self._scan(None, kinds.INDUCTED, inducted, hall, StationKind.INDUCT, weight=weight)
        sorted_at = self._sort(inducted)
        early = self.wave.arrival_times + chance.integers(-CUSTOMS_LEAD, HOUR, size)
        early = np.maximum(early, self.context.start_ms + chance.integers(0, HOUR, size))
        lodged = np.where(is_export, sorted_at + lognormal(chance, size, 5 * MINUTE, 0.5), early)
        released, refused = self._customs(is_import | is_export, lodged)
        ready = np.where(is_import | is_export, np.maximum(sorted_at, released), sorted_at)
        lost = chance.random(size) < dirt.lost
        goes = ~refused & ~lost & ~never
        self._deliver(self.packing.pack_outbound(goes, ready), goes)
        returned = refused & (chance.random(size) < _RETURNED)
        back = np.maximum(released, sorted_at) + lognormal(chance, size, 20 * HOUR, 0.5)
        self._scan(returned, kinds.RETURNED, back, hall, StationKind.LOAD)
        return self._lose(lost, never, unpacked, inducted)

    def _sort(self, inducted: Ints) -> Ints:
        """Over the sorter, some more than once; when it is in its chute."""
        chance, size, dirt, hall = self.rng, self.size, self.dirt, self.hub.hall
        now = inducted + lognormal(chance, size, 90 * SECOND, 0.3)
        unread = chance.random(size) < dirt.no_reads
        for _ in range(2):
            self._scan(
                unread, kinds.NO_READ, now, hall, StationKind.SORT, reason=self.context.reasons(NO_READ_REASONS, size)
            )
            around = now + 60 * SECOND + chance.integers(0, 30 * SECOND, size)
            self._scan(unread, kinds.RECIRCULATED, around, hall, StationKind.SORT)
            now = np.where(unread, around + 45 * SECOND, now)
            unread = unread & (chance.random(size) < 0.3)  # read at the second try, most of them
        full = chance.random(size) < dirt.recirculated
        self._scan(
            full, kinds.RECIRCULATED, now, hall, StationKind.SORT, reason=self.context.reasons(CHUTE_FULL_REASONS, size)
        )
        now = np.where(full, now + 4 * MINUTE, now)
        lane = self.manifest.lane
        wrong = chance.random(size) < dirt.missorted
        other = (lane + chance.integers(1, len(self.hub.lanes), size)) % len(self.hub.lanes)
        self._scan(wrong, kinds.SORTED, now, hall, StationKind.SORT, lane=other)
        found = now + lognormal(chance, size, 25 * MINUTE, 0.5)
        self._scan(
            wrong,
            kinds.RECIRCULATED,
            found,
            hall,
            StationKind.SORT,
            reason=self.context.reasons(MIS_SORT_REASONS, size),
        )
        now = np.where(wrong, found + 3 * MINUTE, now)
        self._scan(None, kinds.SORTED, now, hall, StationKind.SORT, lane=lane)
        return now

    def _customs(self, declared: Flags, lodged: Ints) -> tuple[Ints, Flags]:
        """Presented, perhaps held, released or refused; when, and who was refused."""
        chance, size, dirt, hall = self.rng, self.size, self.dirt, self.hub.hall
        self._scan(declared, kinds.CUSTOMS_PRESENTED, lodged, hall, StationKind.CUSTOMS)
        done = lodged + lognormal(chance, size, 8 * MINUTE, 1.0)
        held = declared & (chance.random(size) < dirt.held)
        why = np.where(chance.random(size) < dirt.unexplained, -1, self.context.reasons(HOLD_REASONS, size))
        self._scan(held, kinds.CUSTOMS_HELD, done, hall, StationKind.CUSTOMS, reason=why)
        hold = np.clip(lognormal(chance, size, 12 * HOUR, 0.8), 4 * HOUR, 72 * HOUR)
        done = np.where(held, done + hold, done)
        refused = held & (chance.random(size) < dirt.refused)
        reason = self.context.reasons(REFUSAL_REASONS, size)
        self._scan(refused, kinds.CUSTOMS_REFUSED, done, hall, StationKind.CUSTOMS, reason=reason)
        self._scan(declared & ~refused, kinds.CUSTOMS_RELEASED, done, hall, StationKind.CUSTOMS)
        return done, refused

    def _deliver(self, leaves: Ints, goes: Flags) -> None:
        """Some of what left by road is seen to be delivered."""
        chance, lane = self.rng, self.manifest.lane
        seen = goes & self.context.by_road[lane] & (chance.random(self.size) < _DELIVERY_SEEN)
        delivered = leaves + lognormal(chance, self.size, 8 * HOUR, 0.3) + lognormal(chance, self.size, 12 * HOUR, 0.6)
        for index, way in enumerate(self.hub.lanes):
            if way.feeder is not None:
                site = self.hub.site(way.feeder)
                self._scan(seen & (lane == index), kinds.DELIVERED, delivered, site, StationKind.DELIVERY)

    def _lose(self, lost: Flags, never: Flags, unpacked: Ints, inducted: Ints) -> CompactRecords:
        """All scans so far, but none of a lost parcel after its induction, and the word that it is lost."""
        until = np.where(lost, inducted, np.iinfo(np.int64).max)
        until = np.where(never, unpacked - 1, until)
        kept = [select(rows, rows["time"] <= until[who]) for who, rows in self.scans]
        self.scans.clear()
        self._scan(lost & ~never, kinds.LOST, inducted + 36 * HOUR, self.hub.hall, StationKind.SORT)
        rows = concat([*kept, *(rows for _, rows in self.scans), self.packing.events])
        rows["serial"] = self.context.allocate_serials(len(rows))
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
    ) -> None:
        """One scan of each of `some` parcels (None: all)."""
        who = np.arange(self.size) if some is None else np.flatnonzero(some)
        if not len(who):
            return
        rows = np.zeros(len(who), RECORD_DTYPE)
        rows["type"], rows["kind"], rows["other"] = RecordType.SCAN, kind, NOT_SET
        rows["time"] = time[who]
        rows["parcel"] = self.manifest.parcel[who]
        rows["direction"] = self.manifest.direction[who]
        rows["lane"] = -1 if lane is None else self.context.lane_string_ids[lane[who]]
        rows["reason"] = -1 if reason is None else reason[who]
        rows["weight"] = 0 if weight is None else weight[who]
        stations, bounds = self.names.stations_of_kind(site, done)
        if container is not None:
            rows["container"] = container[who]
        drawn = self.rng.random(len(who))
        rows["station"] = stations[np.minimum(np.searchsorted(bounds, drawn), len(stations) - 1)]
        rows["device"] = rows["station"] * DEVICES_PER_STATION + self.rng.integers(0, DEVICES_PER_STATION, len(who))
        self.scans.append((who, rows))
