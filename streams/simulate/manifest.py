"""What is known of some vehicles before they come: their parcels, where these go, and the advices about them."""

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

# The earliest advice of a parcel before its vehicle comes.
ADVICE_LEAD: Final = 20 * HOUR
NO_READ_REASONS: Final = ("LABEL_DAMAGED", "LABEL_MISSING", "NO_CODE")
CHUTE_FULL_REASONS: Final = ("CHUTE_FULL",)
MIS_SORT_REASONS: Final = ("MIS_SORTED",)
HOLD_REASONS: Final = ("DOCUMENTS_MISSING", "VALUE_IN_DOUBT", "PHYSICAL_CHECK", "PROHIBITED_GOODS")
REFUSAL_REASONS: Final = ("PROHIBITED_GOODS", "COUNTERFEIT")
VOID_REASONS: Final = ("did_not_occur", "incorrect_data")


@dataclass(frozen=True, slots=True)
class ArrivalWave:
    """The parcels of vehicles that arrive within an hour; every array has a row a parcel, in the vehicles' order."""

    by_air: bool
    first: int  # number of the first parcel
    vehicle: Ints  # number of its vehicle
    arrival_times: Ints  # when that comes, ms

    @property
    def starts(self) -> int:
        """When the first vehicle comes."""
        return int(self.arrival_times.min())


@dataclass(frozen=True, slots=True)
class Manifest:
    """What is known of a convoy before it comes."""

    wave: ArrivalWave
    parcel: Ints
    direction: NDArray[np.int8]
    lane: NDArray[np.int64]  # index of Hub.lanes
    origin: NDArray[np.int64]  # index of a word
    advices: CompactRecords


class SimulationContext:
    """What all convoys of one simulated log share: words, lanes, chance, and `serial`, the next free record number."""

    def __init__(self, hub: Hub, words: Names, dirt: DataFaults, rng: Generator, start_ms: int) -> None:
        self.start_ms = start_ms
        self.hub, self.names, self.dirt, self.rng = hub, words, dirt, rng
        self.next_serial = 1
        # What the events of containers name, and how many containers of each sort there are so far.
        self.lists = ChildLists()
        self._containers: Counter[int] = Counter()
        self.lane_string_ids = np.array([words.words(lane.code) for lane in hub.lanes], np.int64)
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
            self._reasons[group] = np.array([words.words(word) for word in group], np.int16)

    def reasons(self, group: tuple[str, ...], size: int) -> NDArray[np.int16]:
        """A reason of a group for each of `size` records, as words."""
        return self.rng.choice(self._reasons[group], size)

    def manifest(self, wave: ArrivalWave) -> Manifest:
        """The parcels of a convoy, and the advices of nearly all of them."""
        chance, plan, size = self.rng, self.hub.plan, len(wave.vehicle)
        word = self.names.words
        number = wave.first + np.arange(size, dtype=np.int64)
        destinations = [np.array([word(code) for code in lane.destinations]) for lane in self.hub.lanes]
        if wave.by_air:
            direction = chance.choice(4, size, p=self._air_directions / self._air_directions.sum())
            road = (direction == kinds.IMPORT) | (chance.random(size) < 0.4)  # of the transit parcels
            countries = np.array([word(code) for code in plan.air_origins])
            weights = np.array(list(plan.air_origins.values()))
            weights = weights / weights.sum()
        else:
            direction = np.full(size, kinds.EXPORT)
            road = np.zeros(size, np.bool_)
            countries = np.array([word(site.country) for site in self.hub.sites])
            weights = np.full(len(countries), 1 / len(countries))
        # What comes in one vehicle comes from one country.
        _, of_vehicle = np.unique(wave.vehicle, return_inverse=True)
        origin = chance.choice(countries, int(of_vehicle[-1]) + 1, p=weights)[of_vehicle]
        lane = np.where(road, self._draw_lanes(size, road=True), self._draw_lanes(size, road=False))
        advices = np.zeros(size, RECORD_DTYPE)
        advices["type"], advices["kind"] = RecordType.ADVICE, kinds.ADVISED
        advices["device"] = advices["reason"] = -1
        advices["parcel"] = np.where(direction == kinds.EXPORT, -1 - number, number)
        lead = np.minimum(lognormal(chance, size, 8 * HOUR, 0.5), ADVICE_LEAD)
        # Whoever sends a file of advices gives them all the same instant or nearly; before the log there is no log.
        advices["time"] = np.maximum(wave.arrival_times - lead, self.start_ms + chance.integers(0, 5 * MINUTE, size))
        advices["time"] = np.minimum(advices["time"], wave.arrival_times)
        service = chance.choice(len(plan.services), size, p=_shares([service.share for service in plan.services]))
        hours = np.array([-1 if service.promise_hours is None else service.promise_hours for service in plan.services])
        promised = wave.arrival_times + (hours[service] * HOUR).astype(np.int64)
        advices["other"] = np.where(hours[service] < 0, NOT_SET, promised)
        advices["lane"] = self.lane_string_ids[lane]
        advices["service"] = np.array([word(service.code) for service in plan.services])[service]
        advices["origin"] = origin
        for index, countries in enumerate(destinations):
            there = lane == index
            advices["destination"][there] = chance.choice(countries, int(there.sum()))
        owners = np.array([word(f"own-{owner:04d}") for owner in range(1, plan.owners + 1)])
        advices["owner"] = chance.choice(owners, size)
        advices["direction"] = direction
        advices["serial"] = self.allocate_serials(size)
        told = chance.random(size) >= self.dirt.unadvised
        parcels = advices["parcel"].copy()
        return Manifest(wave, parcels, direction.astype(np.int8), lane, origin.astype(np.int64), select(advices, told))

    def numbers(self, sort: int, size: int) -> Ints:
        """Numbers for `size` new containers of a sort (names.ULD, BAG, TRUCK)."""
        first = self._containers[sort]
        self._containers[sort] += size
        return first + np.arange(size, dtype=np.int64)

    def _draw_lanes(self, size: int, *, road: bool) -> Ints:
        return self.rng.choice(len(self.hub.lanes), size, p=self._lane_chances[road])

    def allocate_serials(self, size: int) -> Ints:
        """Free numbers for `size` records."""
        first = self.next_serial
        self.next_serial += size
        return first + np.arange(size, dtype=np.int64)


def _shares(parts: list[float]) -> NDArray[np.float64]:
    shares: NDArray[np.float64] = np.array(parts, np.float64)
    shares /= shares.sum()
    return shares
