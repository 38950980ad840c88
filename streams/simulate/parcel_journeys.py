"""The journeys of the parcels of one wave, from the arrival of the vehicle to the delivery.

By air: the aircraft lands, its ULDs are brought in and broken down, bags are opened, parcels are put on the sorter,
cleared by customs (imports), packed into bags by lane, loaded and dispatched; the delivery of some is reported back. By
truck: the same from the dock on, with customs after sorting (exports). The simulation works in columns: a step is one
array of times for all parcels that take it. Events of containers alone are in streams/simulate/packing.py.
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

# Time from the earliest customs declaration to the arrival of the vehicle.
CUSTOMS_LEAD: Final = 3 * HOUR
# Share of the parcels leaving by road whose delivery is reported back.
_DELIVERY_SEEN: Final = 0.45
_RETURNED: Final = 0.6  # of the refused parcels
_BY_HAND: Final = 0.2  # scanned when taken out of their bag; the others leave it when it is emptied
_NEVER_SEEN: Final = 0.5  # of the parcels that were not in their bag

Flags = NDArray[np.bool_]


class ParcelJourneys:
    """Collects the scans of one wave, step by step."""

    def __init__(self, context: SimulationContext, manifest: Manifest) -> None:
        self.context, self.manifest, self.wave = context, manifest, manifest.wave
        self.hub, self.names, self.faults, self.rng = context.hub, context.names, context.faults, context.rng
        self.size = len(manifest.parcel)
        self.container_journeys = ContainerJourneys(context, manifest)
        self.scans: list[tuple[Ints, CompactRecords]] = []

    def generate(self) -> CompactRecords:
        """All scans of the parcels, and all events of their containers, in no particular order."""
        rng, size, faults, hall = self.rng, self.size, self.faults, self.hub.hall
        is_import, is_export = self.manifest.direction == kinds.IMPORT, self.manifest.direction == kinds.EXPORT
        extra, absent = rng.random(size) < faults.extra, rng.random(size) < faults.absent
        inbound = self.container_journeys.unpack_inbound(extra)
        # A parcel that was not in its bag turns up the next day, or never.
        never_found = absent & (rng.random(size) < _NEVER_SEEN)
        unpacked = np.where(absent, inbound.unpack_times + lognormal(rng, size, 20 * HOUR, 0.4), inbound.unpack_times)
        damaged = rng.random(size) < faults.damaged
        by_hand = ~absent & (damaged | extra | (rng.random(size) < _BY_HAND))
        self._scan(by_hand, kinds.UNPACKED, unpacked, hall, StationKind.UNPACK, container=inbound.bag_code)
        self._scan(damaged, kinds.DAMAGED, unpacked + 5 * SECOND, hall, StationKind.UNPACK)
        inducted = unpacked + lognormal(rng, size, 18 * MINUTE, 0.6)
        weight = np.minimum(lognormal(rng, size, 350, 0.9) + 20, 30_000)
        self._scan(None, kinds.INDUCTED, inducted, hall, StationKind.INDUCT, weight=weight)
        sort_times = self._sort(inducted)
        import_lodged = self.wave.arrival_times + rng.integers(-CUSTOMS_LEAD, HOUR, size)
        import_lodged = np.maximum(import_lodged, self.context.start_ms + rng.integers(0, HOUR, size))
        lodged = np.where(is_export, sort_times + lognormal(rng, size, 5 * MINUTE, 0.5), import_lodged)
        released, refused = self._customs(is_import | is_export, lodged)
        ready = np.where(is_import | is_export, np.maximum(sort_times, released), sort_times)
        lost = rng.random(size) < faults.lost
        departing = ~refused & ~lost & ~never_found
        self._deliver(self.container_journeys.pack_outbound(departing, ready), departing)
        returned = refused & (rng.random(size) < _RETURNED)
        return_times = np.maximum(released, sort_times) + lognormal(rng, size, 20 * HOUR, 0.5)
        self._scan(returned, kinds.RETURNED, return_times, hall, StationKind.LOAD)
        return self._lose(lost, never_found, unpacked, inducted)

    def _sort(self, inducted: Ints) -> Ints:
        """Pass the sorter, some parcels more than once; returns when each is in its chute."""
        rng, size, faults, hall = self.rng, self.size, self.faults, self.hub.hall
        now = inducted + lognormal(rng, size, 90 * SECOND, 0.3)
        unread = rng.random(size) < faults.no_reads
        for _ in range(2):
            self._scan(
                unread,
                kinds.NO_READ,
                now,
                hall,
                StationKind.SORT,
                reason=self.context.draw_reasons(NO_READ_REASONS, size),
            )
            around = now + 60 * SECOND + rng.integers(0, 30 * SECOND, size)
            self._scan(unread, kinds.RECIRCULATED, around, hall, StationKind.SORT)
            now = np.where(unread, around + 45 * SECOND, now)
            unread = unread & (rng.random(size) < 0.3)  # most are read at the second try
        full = rng.random(size) < faults.recirculated
        self._scan(
            full,
            kinds.RECIRCULATED,
            now,
            hall,
            StationKind.SORT,
            reason=self.context.draw_reasons(CHUTE_FULL_REASONS, size),
        )
        now = np.where(full, now + 4 * MINUTE, now)
        lane = self.manifest.lane
        wrong = rng.random(size) < faults.missorted
        wrong_lane = (lane + rng.integers(1, len(self.hub.lanes), size)) % len(self.hub.lanes)
        self._scan(wrong, kinds.SORTED, now, hall, StationKind.SORT, lane=wrong_lane)
        found_times = now + lognormal(rng, size, 25 * MINUTE, 0.5)
        self._scan(
            wrong,
            kinds.RECIRCULATED,
            found_times,
            hall,
            StationKind.SORT,
            reason=self.context.draw_reasons(MIS_SORT_REASONS, size),
        )
        now = np.where(wrong, found_times + 3 * MINUTE, now)
        self._scan(None, kinds.SORTED, now, hall, StationKind.SORT, lane=lane)
        return now

    def _customs(self, declared: Flags, lodged: Ints) -> tuple[Ints, Flags]:
        """Customs: presented, for some held, then released or refused; returns the time, and which were refused."""
        rng, size, faults, hall = self.rng, self.size, self.faults, self.hub.hall
        self._scan(declared, kinds.CUSTOMS_PRESENTED, lodged, hall, StationKind.CUSTOMS)
        decided = lodged + lognormal(rng, size, 8 * MINUTE, 1.0)
        held = declared & (rng.random(size) < faults.held)
        hold_reason = np.where(rng.random(size) < faults.unexplained, -1, self.context.draw_reasons(HOLD_REASONS, size))
        self._scan(held, kinds.CUSTOMS_HELD, decided, hall, StationKind.CUSTOMS, reason=hold_reason)
        hold = np.clip(lognormal(rng, size, 12 * HOUR, 0.8), 4 * HOUR, 72 * HOUR)
        decided = np.where(held, decided + hold, decided)
        refused = held & (rng.random(size) < faults.refused)
        reason = self.context.draw_reasons(REFUSAL_REASONS, size)
        self._scan(refused, kinds.CUSTOMS_REFUSED, decided, hall, StationKind.CUSTOMS, reason=reason)
        self._scan(declared & ~refused, kinds.CUSTOMS_RELEASED, decided, hall, StationKind.CUSTOMS)
        return decided, refused

    def _deliver(self, departures: Ints, departing: Flags) -> None:
        """The deliveries that are reported back, of some parcels that left by road."""
        rng, lane = self.rng, self.manifest.lane
        seen = departing & self.context.by_road[lane] & (rng.random(self.size) < _DELIVERY_SEEN)
        delivered = departures + lognormal(rng, self.size, 8 * HOUR, 0.3) + lognormal(rng, self.size, 12 * HOUR, 0.6)
        for index, lane_info in enumerate(self.hub.lanes):
            if lane_info.feeder is not None:
                site = self.hub.site(lane_info.feeder)
                self._scan(seen & (lane == index), kinds.DELIVERED, delivered, site, StationKind.DELIVERY)

    def _lose(self, lost: Flags, never_found: Flags, unpacked: Ints, inducted: Ints) -> CompactRecords:
        """All scans so far, except those of lost parcels after their induction; and the LOST scans of these."""
        last_scan = np.where(lost, inducted, np.iinfo(np.int64).max)
        last_scan = np.where(never_found, unpacked - 1, last_scan)
        kept = [select(rows, rows["time"] <= last_scan[parcels]) for parcels, rows in self.scans]
        self.scans.clear()
        self._scan(lost & ~never_found, kinds.LOST, inducted + 36 * HOUR, self.hub.hall, StationKind.SORT)
        rows = concat([*kept, *(rows for _, rows in self.scans), self.container_journeys.events])
        rows["serial"] = self.context.allocate_serials(len(rows))
        return rows

    def _scan(
        self,
        mask: Flags | None,
        kind: int,
        time: Ints,
        site: Site,
        station_kind: StationKind,
        *,
        lane: Ints | None = None,
        reason: NDArray[np.integer] | None = None,
        container: Ints | None = None,
        weight: Ints | None = None,
    ) -> None:
        """Add one scan of each parcel of `mask` (None: of all)."""
        parcels = np.arange(self.size) if mask is None else np.flatnonzero(mask)
        if not len(parcels):
            return
        rows = np.zeros(len(parcels), RECORD_DTYPE)
        rows["type"], rows["kind"], rows["aux"] = RecordType.SCAN, kind, NOT_SET
        rows["time"] = time[parcels]
        rows["parcel"] = self.manifest.parcel[parcels]
        rows["direction"] = self.manifest.direction[parcels]
        rows["lane"] = -1 if lane is None else self.context.lane_string_ids[lane[parcels]]
        rows["reason"] = -1 if reason is None else reason[parcels]
        rows["weight"] = 0 if weight is None else weight[parcels]
        stations, bounds = self.names.stations_of_kind(site, station_kind)
        if container is not None:
            rows["container"] = container[parcels]
        drawn = self.rng.random(len(parcels))
        rows["station"] = stations[np.minimum(np.searchsorted(bounds, drawn), len(stations) - 1)]
        rows["device"] = rows["station"] * DEVICES_PER_STATION + self.rng.integers(0, DEVICES_PER_STATION, len(parcels))
        self.scans.append((parcels, rows))
