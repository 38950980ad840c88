"""From the simulator's numbers to the texts of the log: ids of events, parcels and containers, and the hub's words."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from streams.domain.hub import Hub, Site, Station, StationKind
from streams.domain.inferred_ids import INFERRED_ID_BYTES, write_inferred_ids
from streams.domain.kinds import VOID
from streams.domain.record_columns import Column, RecordColumns, RecordType
from streams.simulate.child_lists import ChildLists
from streams.simulate.compact_records import HOUR, NOT_SET, CompactRecords
from streams.simulate.malformed_records import malformed_container_event, malformed_scan

DEVICES_PER_STATION: Final = 4
ULD, BAG, TRUCK = 1, 2, 3
# UPU S10: weights of the eight digits.
_S10_WEIGHTS: Final = np.array([8, 6, 4, 2, 3, 5, 9, 7])
# Parcel numbers walk through all 14-digit numbers in steps of this (it has no factor in common with 10).
_STRIDE: Final = 61_803_398_893
# Ten types and ten owners of ULDs, each with a number of five digits: as many as the others have with seven.
_ULDS: Final = (b"AKE", b"AKH", b"AKN", b"AAP", b"AMJ", b"ALF", b"PMC", b"PAG", b"PLA", b"PGA")
_OWNERS: Final = (b"CV", b"3V", b"FX", b"QR", b"ET", b"5X", b"K4", b"RU", b"SQ", b"TK")
_CONTAINERS: Final = 10**7
# No two numbers of containers of a sort are the same, as this has no factor in common with 10.
_CONTAINER_STRIDE: Final = 6_180_339
# Room for a cause and a child.
_ID_ROOM: Final = 256
# An office of exchange of a country, and the place in it where parcels are packed.
_OFFICE, _PACKS = "AAAA", "OUT-01"
_EVENT_ID, _PARCEL, _CONTAINER = 32, 16, 29

_HEX = np.frombuffer("".join(f"{byte:02x}" for byte in range(256)).encode(), np.uint16)
_PAIRS = np.frombuffer("".join(f"{number:02d}" for number in range(100)).encode(), np.uint16)

Ints = NDArray[np.int64]


def splitmix64(numbers: NDArray[np.int64] | NDArray[np.uint64] | int, salt: int) -> NDArray[np.uint64]:
    """SplitMix64's finaliser: for one salt, different numbers give different results, and they look random."""
    z = np.atleast_1d(np.asarray(numbers)).astype(np.uint64) + np.uint64(salt & (1 << 64) - 1)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def container_code(sort: int, prefix: int | Ints, number: Ints) -> Ints:
    """The number of a container: what it is (ULD, BAG, TRUCK), the index of its prefix, its own number."""
    return np.int64(sort << 56) | np.asarray(prefix, np.int64) << 40 | number


class StringTable:
    """Distinct texts, one after the other in a buffer."""

    def __init__(self) -> None:
        self._index: dict[str, int] = {}

    def __call__(self, word: str) -> int:
        """The index of a word."""
        return self._index.setdefault(word, len(self._index))

    def table(self) -> tuple[NDArray[np.uint8], Ints, NDArray[np.int32]]:
        """The buffer, and each word's position and length in it."""
        encoded = [word.encode() for word in self._index]
        lengths = np.array([len(word) for word in encoded], np.int32)
        positions = np.concatenate(([0], np.cumsum(lengths)[:-1])).astype(np.int64)
        return np.frombuffer(b"".join(encoded), np.uint8), positions, lengths


class Names:
    """All the texts of one simulated log."""

    def __init__(self, hub: Hub, seed: int, first_ms: int, last_ms: int) -> None:
        self.words = StringTable()
        self.stations: list[tuple[Site, Station]] = [(site, station) for site in hub.sites for station in site.stations]
        # Behind them the places at which partners pack what they send: one a country, with their clocks in UTC.
        self.partners = list(dict.fromkeys([*hub.plan.air_origins, *(site.country for site in hub.sites)]))
        places = [(site.code, station.code) for site, station in self.stations]
        places += [(f"{country}{_OFFICE}", _PACKS) for country in self.partners]
        self.site_of_station = np.array([self.words(site) for site, _ in places], np.int64)
        self._station_words = np.array([self.words(station) for _, station in places], np.int64)
        self._device_words = np.array(
            [
                self.words(f"{site.code}/{station.code}/{device}")
                for site, station in self.stations
                for device in range(1, DEVICES_PER_STATION + 1)
            ],
            np.int64,
        )
        self._clock = self.words("simulator")
        self._salts = [int(splitmix64(seed, salt)[0]) for salt in (1, 2)]
        self._first_parcel = int(splitmix64(seed, 3)[0]) % 10**14
        self._first_container = int(splitmix64(seed, 6)[0]) % 10**7
        self._s10_letter = ord("A") + int(splitmix64(seed, 4)[0]) % 26
        self._bag_prefixes: list[bytes] = [b""]
        self._country = hub.hall.country
        self._year = datetime.fromtimestamp(first_ms / 1000, UTC).year % 10
        self._first_hour = first_ms // HOUR
        self._offsets = self._local_offsets(last_ms // HOUR)

    def stations_of_kind(self, site: Site, kind: StationKind) -> tuple[NDArray[np.int16], NDArray[np.float64]]:
        """Indexes of the stations of a kind at a site, and the upper bounds of their shares of the work."""
        found = [n for n, (where, station) in enumerate(self.stations) if where is site and station.kind is kind]
        capacity = np.array([self.stations[n][1].capacity_per_hour for n in found], np.float64)
        return np.array(found, np.int16), np.cumsum(capacity / capacity.sum())

    def partner(self, country: str) -> int:
        """Index of the place at which a partner in this country packs."""
        return len(self.stations) + self.partners.index(country)

    def bag_prefix_index(self, origin: str, destination: str) -> int:
        """Index of the beginning of an S9 receptacle id: two offices of exchange, category A, subclass CN."""
        prefix = f"{origin}{_OFFICE}{destination}{_OFFICE}ACN".encode()
        if prefix not in self._bag_prefixes:
            self._bag_prefixes.append(prefix)
        return self._bag_prefixes.index(prefix)

    def columns(self, rows: CompactRecords, lists: ChildLists) -> RecordColumns:
        """The records as columns with texts, in the order of `rows`; `lists`: what events of containers name."""
        words, word_at, word_length = self.words.table()
        buffers, base = [words], len(words)

        def add(texts: NDArray[np.uint8]) -> Ints:
            nonlocal base
            at: Ints = base + np.arange(len(texts), dtype=np.int64) * texts.shape[1]
            buffers.append(texts.reshape(-1))
            base += texts.size
            return at

        def word(indexes: NDArray[np.integer]) -> Column:
            known = np.maximum(indexes, 0)
            return word_at[known], np.where(indexes < 0, np.int32(-1), word_length[known])

        def text(at: Ints, lengths: NDArray[np.int32] | int, there: NDArray[np.bool_] | None = None) -> Column:
            size = np.broadcast_to(np.asarray(lengths, np.int32), at.shape)
            return at, size if there is None else np.where(there, size, np.int32(-1))

        def number(values: NDArray[np.integer], there: NDArray[np.bool_] | None = None) -> Column:
            lengths = np.zeros(len(rows), np.int32)
            return values.astype(np.int64), lengths if there is None else np.where(there, lengths, np.int32(-1))

        types, kind, other, via = rows["type"], rows["kind"], rows["other"], rows["via"]
        event_time = rows["time"] + rows["skew"]
        station = rows["station"]
        counts, members = self._members(rows, lists)
        codes, which = np.unique(np.concatenate([rows["container"], members[1]]), return_inverse=True)
        container_texts, container_lengths = self._containers(codes)
        container_at = add(container_texts)
        inside = which[: len(rows)]
        container = text(container_at[inside], container_lengths[inside], rows["container"] != 0)
        inner = which[len(rows) :]
        parcels = text(add(self._parcels(rows["parcel"])), self._parcel_lengths(rows["parcel"]))
        device_at, device_length = word(self._device_words[np.maximum(rows["device"], 0)])
        # A scan without a device has the empty text, not null.
        device = device_at, np.where(rows["device"] < 0, np.int32(0), device_length)
        # A VOID names another event, and so does what is inferred: they are few, or not there at all.
        event_at, event_length = add(self._event_ids(rows["serial"])), np.full(len(rows), _EVENT_ID, np.int32)
        names_other = ((types == RecordType.SCAN) | (types == RecordType.CONTAINER)) & (other != NOT_SET)
        other_at = event_at.copy()
        other_at[names_other] = add(self._event_ids(other[names_other]))
        voids = other_at, np.where(names_other & (kind == VOID), np.int32(_EVENT_ID), np.int32(-1))
        if len(inferred := np.flatnonzero(via)):
            causes = _of((other_at, np.full(len(rows), _EVENT_ID, np.int32)), inferred)
            event_at[inferred], event_length[inferred] = self._inferred(
                buffers, add, causes, _of(container, inferred), _of(parcels, inferred), via[inferred] == 2
            )
            is_void = inferred[kind[inferred] == VOID]
            voids[0][is_void], voids[1][is_void] = event_at[is_void], event_length[is_void]
        columns: dict[str, Column] = {
            "event_id": (event_at, event_length),
            "parcel_id": parcels,
            "kind": number(kind),
            "event_time": number(event_time),
            "utc_offset_minutes": number(self._offset(station, event_time)),
            "record_time": number(rows["arrival"]),
            "site": word(self.site_of_station[station]),
            "station": word(self._station_words[station]),
            "lane": word(rows["lane"]),
            "reason": word(rows["reason"]),
            # What is inferred wrong was inferred in a container; its VOID says nothing of that.
            "container_id": (container[0], np.where((via > 0) & (kind == VOID), np.int32(-1), container[1])),
            "parent_id": word(np.full(len(rows), -1)),
            "voids": voids,
            "inferred_from": text(other_at, _EVENT_ID, via > 0),
            "device_id": device,
            "device_seq": number(rows["seq"]),
            "weight_g": number(rows["weight"], rows["weight"] > 0),
            "direction": number(rows["direction"]),
            "service": word(rows["service"]),
            "origin": word(rows["origin"]),
            "destination": word(rows["destination"]),
            "planned_lane": word(rows["lane"]),
            "owner": word(rows["owner"]),
            "promised_at": number(other, other != NOT_SET),
            "hub_time": number(rows["time"]),
            "producer": word(np.full(len(rows), self._clock)),
        }
        of_container = np.isin(types, (RecordType.CONTAINER, RecordType.RAW_CONTAINER))
        keys = text(
            np.where(of_container, container[0], parcels[0]),
            np.where(of_container, container[1], parcels[1]),
            types != RecordType.TICK,
        )
        lists_of = {
            "parcels": (counts[0], text(add(self._parcels(members[0])), self._parcel_lengths(members[0]))),
            "containers": (counts[1], text(container_at[inner], container_lengths[inner])),
            "path": (np.zeros(len(rows), np.int64), text(np.zeros(0, np.int64), 0)),
        }
        joined = np.concatenate(buffers)
        raw = []
        for n in np.flatnonzero(np.isin(types, (RecordType.RAW, RecordType.RAW_CONTAINER))).tolist():
            at, size = int(keys[0][n]), int(keys[1][n])
            key = joined[at : at + size].tobytes().decode()
            make = malformed_container_event if of_container[n] else malformed_scan
            raw.append(make(int(other[n]), int(rows["serial"][n]), key, int(event_time[n])))
        return RecordColumns(
            types.astype(np.uint8), rows["arrival"] + rows["again"], joined, keys, columns, lists_of, raw
        )

    @staticmethod
    def _inferred(
        buffers: list[NDArray[np.uint8]],
        add: Callable[[NDArray[np.uint8]], Ints],
        causes: Column,
        containers: Column,
        parcels: Column,
        nested: NDArray[np.bool_],
    ) -> tuple[Ints, int]:
        """Add the ids of scans: made of what they follow from, or what their container got of it, and of the parcel."""
        texts = np.concatenate(buffers)

        def ids(texts: NDArray[np.uint8], cause: Column, child: Column) -> NDArray[np.uint8]:
            made = np.empty(len(child[0]) * INFERRED_ID_BYTES, np.uint8)
            none = np.zeros(len(child[0]), np.int64), np.zeros(len(child[0]), np.int32)
            write_inferred_ids(texts, *cause, *none, texts, *child, np.empty(_ID_ROOM, np.uint8), made)
            return made.reshape(-1, INFERRED_ID_BYTES)

        at, length = causes[0].copy(), causes[1].copy()
        which = np.flatnonzero(nested)
        of_container = ids(texts, _of(causes, which), _of(containers, which))
        at[which] = len(texts) + np.arange(len(which)) * INFERRED_ID_BYTES
        length[which] = INFERRED_ID_BYTES
        texts = np.concatenate([texts, of_container.reshape(-1)])
        return add(ids(texts, (at, length), parcels)), INFERRED_ID_BYTES

    def _members(self, rows: CompactRecords, lists: ChildLists) -> tuple[tuple[Ints, Ints], tuple[Ints, Ints]]:
        """How many parcels and how many containers each record names; the numbers of all of them."""
        keys = np.where(rows["type"] == RecordType.CONTAINER, rows["parcel"], 0)
        counts, members = [], []
        for sign in (1, -1):
            count = np.zeros(len(rows), np.int64)
            found = [np.zeros(0, np.int64)]
            for row in np.flatnonzero(keys * sign > 0).tolist():
                found.append(lists[int(keys[row])])
                count[row] = len(found[-1])
            counts.append(count)
            members.append(np.concatenate(found))
        return (counts[0], counts[1]), (members[0], members[1])

    @staticmethod
    def _parcel_lengths(parcels: Ints) -> NDArray[np.int32]:
        return np.where(parcels < 0, np.int32(13), np.int32(_PARCEL))

    def _event_ids(self, numbers: Ints) -> NDArray[np.uint8]:
        halves = np.stack([splitmix64(numbers, salt) for salt in self._salts], axis=1)
        return _HEX[halves.view(np.uint8)].view(np.uint8).reshape(-1, _EVENT_ID)

    def _parcels(self, parcels: Ints) -> NDArray[np.uint8]:
        """LP and 14 digits, as e-commerce shippers number them; or an UPU S10 item id and three bytes to spare."""
        texts = np.zeros((len(parcels), _PARCEL), np.uint8)
        is_s10 = parcels < 0
        number = (np.where(is_s10, -1 - parcels, parcels) * _STRIDE + self._first_parcel) % 10**14
        texts[:, :2] = np.frombuffer(b"LP", np.uint8)
        _digits(texts[:, 2:], number, 14)
        if is_s10.any():
            s10 = np.zeros((int(is_s10.sum()), _PARCEL), np.uint8)
            s10[:, 0] = ord("L")
            s10[:, 1] = self._s10_letter
            _digits(s10[:, 2:], number[is_s10] % 10**8, 8)
            rest = 11 - ((s10[:, 2:10] - ord("0")) @ _S10_WEIGHTS) % 11
            s10[:, 10] = ord("0") + np.where(rest == 10, 0, np.where(rest == 11, 5, rest))
            s10[:, 11:13] = np.frombuffer(self._country.encode(), np.uint8)
            texts[is_s10] = s10
        return texts

    def _containers(self, codes: Ints) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
        texts = np.zeros((len(codes), _CONTAINER), np.uint8)
        lengths = np.zeros(len(codes), np.int32)
        number = ((codes & (1 << 40) - 1) * _CONTAINER_STRIDE + self._first_container) % _CONTAINERS
        sort = codes >> 56
        # IATA Res. 686: type, five digits, owner.
        which = np.where(sort == ULD, number // 10**5, -1)
        for index in np.unique(which[which >= 0]).tolist():
            type_, owner = _ULDS[index % len(_ULDS)], _OWNERS[index // len(_ULDS)]
            ulds = which == index
            lengths[ulds] = _fill(texts, ulds, [(type_, None, 0), (b"", number % 10**5, 5), (owner, None, 0)])
        if (trucks := sort == TRUCK).any():
            lengths[trucks] = _fill(texts, trucks, [(b"TRK-", number, 7)])
        for index, prefix in enumerate(self._bag_prefixes):
            bags = (sort == BAG) & (codes >> 40 & 0xFFFF == index)
            if not bags.any():
                continue
            # UPU S9: year, despatch and receptacle number, last and registered flags, weight in 100 g.
            weight = (splitmix64(number, 5) % np.uint64(180)).astype(np.int64) + 20
            parts: Sequence[tuple[bytes, Ints | None, int]] = [
                (prefix + str(self._year).encode(), number, 7),
                (b"00", weight, 4),
            ]
            lengths[bags] = _fill(texts, bags, parts)
        return texts, lengths

    def _local_offsets(self, last_hour: int) -> NDArray[np.int64]:
        """Minutes from UTC for each station and hour of the log."""
        hours = [datetime.fromtimestamp(hour * 3600, UTC) for hour in range(self._first_hour, last_hour + 1)]
        by_zone = {
            zone: [_minutes_ahead(hour, ZoneInfo(zone)) for hour in hours]
            for zone in {site.time_zone for site, _ in self.stations}
        }
        own = [by_zone[site.time_zone] for site, _ in self.stations]
        return np.array([*own, *([[0] * len(hours)] * len(self.partners))], np.int64)

    def _offset(self, stations: NDArray[np.int16], times: Ints) -> Ints:
        hours = np.clip(times // HOUR - self._first_hour, 0, self._offsets.shape[1] - 1)
        found: Ints = self._offsets[stations, hours]
        return found


def _of(column: Column, rows: Ints) -> Column:
    return column[0][rows], column[1][rows]


def _minutes_ahead(hour: datetime, zone: ZoneInfo) -> int:
    offset = hour.astimezone(zone).utcoffset()
    assert offset is not None
    return round(offset.total_seconds() / 60)


def _digits(out: NDArray[np.uint8], numbers: Ints, width: int) -> None:
    """Write numbers as `width` decimal digits, two at a time from the right."""
    rest = numbers
    at = width
    while at > 0:
        rest, pair = np.divmod(rest, 100)
        text = _PAIRS[pair].view(np.uint8).reshape(-1, 2)
        if at >= 2:
            out[:, at - 2 : at] = text
        else:
            out[:, 0] = text[:, 1]
        at -= 2


def _fill(texts: NDArray[np.uint8], rows: NDArray[np.bool_], parts: Sequence[tuple[bytes, Ints | None, int]]) -> int:
    """Write fixed bytes and numbers one after the other into the given rows; how many bytes that are."""
    block = np.zeros((int(rows.sum()), texts.shape[1]), np.uint8)
    at = 0
    for fixed, numbers, width in parts:
        block[:, at : at + len(fixed)] = np.frombuffer(fixed, np.uint8)
        at += len(fixed)
        if numbers is not None:
            _digits(block[:, at : at + width], numbers[rows], width)
            at += width
    texts[rows] = block
    return at
