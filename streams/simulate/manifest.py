"""The data about vehicles before they arrive: their parcels, the destinations of these, and their advices."""

from collections import Counter
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from streams.domain import kinds
from streams.domain.hub import Hub, LaneMode
from streams.domain.record_columns import RecordType
from streams.simulate.child_lists import ChildLists
from streams.simulate.compact_records import HOUR, MINUTE, NOT_SET, RECORD_DTYPE, CompactRecords, select
from streams.simulate.data_faults import DataFaults, lognormal
from streams.simulate.names import Ints, Names

# Time from the earliest advice of a parcel to the arrival of its vehicle.
ADVICE_LEAD: Final = 20 * HOUR
NO_READ_REASONS: Final = ("LABEL_DAMAGED", "LABEL_MISSING", "NO_CODE")
CHUTE_FULL_REASONS: Final = ("CHUTE_FULL",)
MIS_SORT_REASONS: Final = ("MIS_SORTED",)
HOLD_REASONS: Final = ("DOCUMENTS_MISSING", "VALUE_IN_DOUBT", "PHYSICAL_CHECK", "PROHIBITED_GOODS")
REFUSAL_REASONS: Final = ("PROHIBITED_GOODS", "COUNTERFEIT")
VOID_REASONS: Final = ("did_not_occur", "incorrect_data")


@dataclass(frozen=True, slots=True)
class ArrivalWave:
    """The parcels of vehicles that arrive within an hour. Every array has a row for each parcel, in vehicle order."""

    by_air: bool
    first_parcel: int  # number of the first parcel
    vehicle: Ints  # number of the parcel's vehicle
    arrival_times: Ints  # when the vehicle arrives, ms

    @property
    def first_arrival(self) -> int:
        """When the first vehicle arrives, ms since 1970."""
        return int(self.arrival_times.min())


@dataclass(frozen=True, slots=True)
class Manifest:
    """The data about a wave before it arrives."""

    wave: ArrivalWave
    parcel: Ints
    direction: NDArray[np.int8]
    lane: NDArray[np.int64]  # index of Hub.lanes
    origin: NDArray[np.int64]  # string id of a country
    advices: CompactRecords


class SimulationContext:
    """State that all waves of a simulated log share: strings, lanes, random numbers and the next free serial."""

    def __init__(self, hub: Hub, names: Names, faults: DataFaults, rng: Generator, start_ms: int) -> None:
        self.start_ms = start_ms
        self.hub, self.names, self.faults, self.rng = hub, names, faults, rng
        self.next_serial = 1
        # The children that container events name, and the number of containers of each type so far.
        self.child_lists = ChildLists()
        self._container_counts: Counter[int] = Counter()
        self.lane_string_ids = np.array([names.string_id(lane.code) for lane in hub.lanes], np.int64)
        self.by_road = np.array([lane.mode is LaneMode.ROAD for lane in hub.lanes])
        shares = np.array([lane.share for lane in hub.lanes])
        self._lane_chances = {
            road: np.where(self.by_road == road, shares, 0) / shares[self.by_road == road].sum()
            for road in (False, True)
        }
        directions = np.array([hub.plan.directions.get(name, 0) for name in kinds.DIRECTIONS], np.float64)
        self._air_directions = directions * [0, 1, 0, 1]
        self.export_share = float(directions[kinds.EXPORT] / directions.sum())
        self._reasons: dict[tuple[str, ...], NDArray[np.int16]] = {}
        for group in (
            NO_READ_REASONS,
            CHUTE_FULL_REASONS,
            MIS_SORT_REASONS,
            HOLD_REASONS,
            REFUSAL_REASONS,
            VOID_REASONS,
        ):
            self._reasons[group] = np.array([names.string_id(word) for word in group], np.int16)

    def draw_reasons(self, group: tuple[str, ...], size: int) -> NDArray[np.int16]:
        """Draw a reason of a group for each of `size` records; returns string ids."""
        return self.rng.choice(self._reasons[group], size)

    def make_manifest(self, wave: ArrivalWave) -> Manifest:
        """Draw the parcels of a wave, and the advices for nearly all of them."""
        rng, plan, size = self.rng, self.hub.plan, len(wave.vehicle)
        string_id = self.names.string_id
        parcel_number = wave.first_parcel + np.arange(size, dtype=np.int64)
        destinations = [np.array([string_id(code) for code in lane.destinations]) for lane in self.hub.lanes]
        if wave.by_air:
            direction = rng.choice(4, size, p=self._air_directions / self._air_directions.sum())
            by_road = (direction == kinds.IMPORT) | (rng.random(size) < 0.4)  # of the transit parcels
            countries = np.array([string_id(code) for code in plan.air_origins])
            weights = np.array(list(plan.air_origins.values()))
            weights = weights / weights.sum()
        else:
            direction = np.full(size, kinds.EXPORT)
            by_road = np.zeros(size, np.bool_)
            countries = np.array([string_id(site.country) for site in self.hub.sites])
            weights = np.full(len(countries), 1 / len(countries))
        # All parcels of a vehicle come from one country.
        _, of_vehicle = np.unique(wave.vehicle, return_inverse=True)
        origin = rng.choice(countries, int(of_vehicle[-1]) + 1, p=weights)[of_vehicle]
        lane = np.where(by_road, self._draw_lanes(size, road=True), self._draw_lanes(size, road=False))
        advices = np.zeros(size, RECORD_DTYPE)
        advices["type"], advices["kind"] = RecordType.ADVICE, kinds.ADVISED
        advices["device"] = advices["reason"] = -1
        advices["parcel"] = np.where(direction == kinds.EXPORT, -1 - parcel_number, parcel_number)
        lead = np.minimum(lognormal(rng, size, 8 * HOUR, 0.5), ADVICE_LEAD)
        # No advice is before the start of the log. Those that would be come within its first five minutes, as senders
        # give all advices of a file nearly the same time.
        advices["time"] = np.maximum(wave.arrival_times - lead, self.start_ms + rng.integers(0, 5 * MINUTE, size))
        advices["time"] = np.minimum(advices["time"], wave.arrival_times)
        service = rng.choice(len(plan.services), size, p=_shares([service.share for service in plan.services]))
        hours = np.array([-1 if service.promise_hours is None else service.promise_hours for service in plan.services])
        promised = wave.arrival_times + (hours[service] * HOUR).astype(np.int64)
        advices["aux"] = np.where(hours[service] < 0, NOT_SET, promised)
        advices["lane"] = self.lane_string_ids[lane]
        advices["service"] = np.array([string_id(service.code) for service in plan.services])[service]
        advices["origin"] = origin
        for index, countries in enumerate(destinations):
            on_lane = lane == index
            advices["destination"][on_lane] = rng.choice(countries, int(on_lane.sum()))
        owners = np.array([string_id(f"own-{owner:04d}") for owner in range(1, plan.owners + 1)])
        advices["owner"] = rng.choice(owners, size)
        advices["direction"] = direction
        advices["serial"] = self.allocate_serials(size)
        is_advised = rng.random(size) >= self.faults.unadvised
        parcels = advices["parcel"].copy()
        return Manifest(
            wave, parcels, direction.astype(np.int8), lane, origin.astype(np.int64), select(advices, is_advised)
        )

    def allocate_container_numbers(self, container_type: int, size: int) -> Ints:
        """Allocate numbers for `size` new containers of a type (names.ULD, BAG, TRUCK)."""
        first = self._container_counts[container_type]
        self._container_counts[container_type] += size
        return first + np.arange(size, dtype=np.int64)

    def _draw_lanes(self, size: int, *, road: bool) -> Ints:
        return self.rng.choice(len(self.hub.lanes), size, p=self._lane_chances[road])

    def allocate_serials(self, size: int) -> Ints:
        """Allocate serials for `size` records."""
        first = self.next_serial
        self.next_serial += size
        return first + np.arange(size, dtype=np.int64)


def _shares(parts: list[float]) -> NDArray[np.float64]:
    shares: NDArray[np.float64] = np.array(parts, np.float64)
    shares /= shares.sum()
    return shares
