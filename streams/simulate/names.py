"""Turns the simulator's numbers into the texts of the log: ids of events, parcels and containers, and hub names."""

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
# Parcel numbers step through all 14-digit numbers by this; it has no factor in common with 10.
_STRIDE: Final = 61_803_398_893
# Ten types and ten owners of ULDs, each with five digits: as many ids as other containers have with seven digits.
_ULDS: Final = (b"AKE", b"AKH", b"AKN", b"AAP", b"AMJ", b"ALF", b"PMC", b"PAG", b"PLA", b"PGA")
_OWNERS: Final = (b"CV", b"3V", b"FX", b"QR", b"ET", b"5X", b"K4", b"RU", b"SQ", b"TK")
_CONTAINERS: Final = 10**7
# It has no factor in common with 10, so that container numbers of a type are distinct.
_CONTAINER_STRIDE: Final = 6_180_339
# Bytes for a cause and a child.
_ID_ROOM: Final = 256
# A country's office of exchange, and its packing station.
_EXCHANGE_OFFICE, _PACKING_STATION = "AAAA", "OUT-01"
_EVENT_ID, _PARCEL, _CONTAINER = 32, 16, 29

_HEX = np.frombuffer("".join(f"{byte:02x}" for byte in range(256)).encode(), np.uint16)
_PAIRS = np.frombuffer("".join(f"{number:02d}" for number in range(100)).encode(), np.uint16)

Ints = NDArray[np.int64]


def splitmix64(numbers: NDArray[np.int64] | NDArray[np.uint64] | int, salt: int) -> NDArray[np.uint64]:
    """SplitMix64's finaliser: with one salt, different numbers give different results that look random."""
    z = np.atleast_1d(np.asarray(numbers)).astype(np.uint64) + np.uint64(salt & (1 << 64) - 1)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def container_code(container_type: int, prefix: int | Ints, number: Ints) -> Ints:
    """A container's code: its type (ULD, BAG, TRUCK), the index of its prefix, and its number."""
    return np.int64(container_type << 56) | np.asarray(prefix, np.int64) << 40 | number


class StringTable:
    """Distinct strings, numbered in the order in which they were added."""

    def __init__(self) -> None:
        self._index: dict[str, int] = {}

    def __call__(self, word: str) -> int:
        """The id of a string, which is added if it is new."""
        return self._index.setdefault(word, len(self._index))

    def to_arrays(self) -> tuple[NDArray[np.uint8], Ints, NDArray[np.int32]]:
        """All strings in one buffer; the offset and the length of each."""
        encoded = [word.encode() for word in self._index]
        lengths = np.array([len(word) for word in encoded], np.int32)
        positions = np.concatenate(([0], np.cumsum(lengths)[:-1])).astype(np.int64)
        return np.frombuffer(b"".join(encoded), np.uint8), positions, lengths


class Names:
    """The texts of one simulated log."""

    def __init__(self, hub: Hub, seed: int, first_ms: int, last_ms: int) -> None:
        self.string_id = StringTable()
        self.stations: list[tuple[Site, Station]] = [(site, station) for site in hub.sites for station in site.stations]
        # After the hub's stations come those where partners pack: one in each country, with their clocks in UTC.
        self.partners = list(dict.fromkeys([*hub.plan.air_origins, *(site.country for site in hub.sites)]))
        locations = [(site.code, station.code) for site, station in self.stations]
        locations += [(f"{country}{_EXCHANGE_OFFICE}", _PACKING_STATION) for country in self.partners]
        self.site_of_station = np.array([self.string_id(site) for site, _ in locations], np.int64)
        self._station_strings = np.array([self.string_id(station) for _, station in locations], np.int64)
        self._device_strings = np.array(
            [
                self.string_id(f"{site.code}/{station.code}/{device}")
                for site, station in self.stations
                for device in range(1, DEVICES_PER_STATION + 1)
            ],
            np.int64,
        )
        self._producer = self.string_id("simulator")
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
        """Indexes of the stations of a kind at a site, and the cumulative shares of their capacity."""
        indexes = [
            n
            for n, (station_site, station) in enumerate(self.stations)
            if station_site is site and station.kind is kind
        ]
        capacity = np.array([self.stations[n][1].capacity_per_hour for n in indexes], np.float64)
        return np.array(indexes, np.int16), np.cumsum(capacity / capacity.sum())

    def partner_station(self, country: str) -> int:
        """Index of the packing station of the partner in a country."""
        return len(self.stations) + self.partners.index(country)

    def bag_prefix_index(self, origin: str, destination: str) -> int:
        """Index of the prefix of a UPU S9 receptacle id: two offices of exchange, category A, subclass CN."""
        prefix = f"{origin}{_EXCHANGE_OFFICE}{destination}{_EXCHANGE_OFFICE}ACN".encode()
        if prefix not in self._bag_prefixes:
            self._bag_prefixes.append(prefix)
        return self._bag_prefixes.index(prefix)

    def to_columns(self, rows: CompactRecords, child_lists: ChildLists) -> RecordColumns:
        """The records as columns with texts, in the order of `rows`; `child_lists`: children of container events."""
        strings, string_offsets, string_lengths = self.string_id.to_arrays()
        buffers, base = [strings], len(strings)

        def add(texts: NDArray[np.uint8]) -> Ints:
            nonlocal base
            offsets: Ints = base + np.arange(len(texts), dtype=np.int64) * texts.shape[1]
            buffers.append(texts.reshape(-1))
            base += texts.size
            return offsets

        def string_column(indexes: NDArray[np.integer]) -> Column:
            indexes_or_0 = np.maximum(indexes, 0)
            return string_offsets[indexes_or_0], np.where(indexes < 0, np.int32(-1), string_lengths[indexes_or_0])

        def text_column(
            offsets: Ints, lengths: NDArray[np.int32] | int, present: NDArray[np.bool_] | None = None
        ) -> Column:
            size = np.broadcast_to(np.asarray(lengths, np.int32), offsets.shape)
            return offsets, size if present is None else np.where(present, size, np.int32(-1))

        def number_column(values: NDArray[np.integer], present: NDArray[np.bool_] | None = None) -> Column:
            lengths = np.zeros(len(rows), np.int32)
            return values.astype(np.int64), lengths if present is None else np.where(present, lengths, np.int32(-1))

        types, kind, aux, inference_level = rows["type"], rows["kind"], rows["aux"], rows["inference_level"]
        event_time = rows["time"] + rows["skew"]
        station = rows["station"]
        counts, children = self._children(rows, child_lists)
        codes, container_index = np.unique(np.concatenate([rows["container"], children[1]]), return_inverse=True)
        container_texts, container_lengths = self._containers(codes)
        container_offsets = add(container_texts)
        own_container = container_index[: len(rows)]
        container = text_column(
            container_offsets[own_container], container_lengths[own_container], rows["container"] != 0
        )
        child_container = container_index[len(rows) :]
        parcels = text_column(add(self._parcels(rows["parcel"])), self._parcel_lengths(rows["parcel"]))
        device_offsets, device_lengths = string_column(self._device_strings[np.maximum(rows["device"], 0)])
        # A scan without a device has an empty device_id, not null.
        device = device_offsets, np.where(rows["device"] < 0, np.int32(0), device_lengths)
        # VOIDs and inferred records name another event. They are few, or there are none.
        event_offsets, event_lengths = add(self._event_ids(rows["serial"])), np.full(len(rows), _EVENT_ID, np.int32)
        has_aux_id = ((types == RecordType.SCAN) | (types == RecordType.CONTAINER)) & (aux != NOT_SET)
        aux_offsets = event_offsets.copy()
        aux_offsets[has_aux_id] = add(self._event_ids(aux[has_aux_id]))
        voids = aux_offsets, np.where(has_aux_id & (kind == VOID), np.int32(_EVENT_ID), np.int32(-1))
        if len(inferred := np.flatnonzero(inference_level)):
            causes = _select_rows((aux_offsets, np.full(len(rows), _EVENT_ID, np.int32)), inferred)
            event_offsets[inferred], event_lengths[inferred] = self._inferred(
                buffers,
                add,
                causes,
                _select_rows(container, inferred),
                _select_rows(parcels, inferred),
                inference_level[inferred] == 2,
            )
            is_void = inferred[kind[inferred] == VOID]
            voids[0][is_void], voids[1][is_void] = event_offsets[is_void], event_lengths[is_void]
        columns: dict[str, Column] = {
            "event_id": (event_offsets, event_lengths),
            "parcel_id": parcels,
            "kind": number_column(kind),
            "event_time": number_column(event_time),
            "utc_offset_minutes": number_column(self._offset(station, event_time)),
            "record_time": number_column(rows["record_time"]),
            "site": string_column(self.site_of_station[station]),
            "station": string_column(self._station_strings[station]),
            "lane": string_column(rows["lane"]),
            "reason": string_column(rows["reason"]),
            # A VOID of an inferred scan has no container_id.
            "container_id": (
                container[0],
                np.where((inference_level > 0) & (kind == VOID), np.int32(-1), container[1]),
            ),
            "parent_id": string_column(np.full(len(rows), -1)),
            "voids": voids,
            "inferred_from": text_column(aux_offsets, _EVENT_ID, inference_level > 0),
            "device_id": device,
            "device_seq": number_column(rows["seq"]),
            "weight_g": number_column(rows["weight"], rows["weight"] > 0),
            "direction": number_column(rows["direction"]),
            "service": string_column(rows["service"]),
            "origin": string_column(rows["origin"]),
            "destination": string_column(rows["destination"]),
            "planned_lane": string_column(rows["lane"]),
            "owner": string_column(rows["owner"]),
            "promised_at": number_column(aux, aux != NOT_SET),
            "hub_time": number_column(rows["time"]),
            "producer": string_column(np.full(len(rows), self._producer)),
        }
        of_container = np.isin(types, (RecordType.CONTAINER, RecordType.RAW_CONTAINER))
        keys = text_column(
            np.where(of_container, container[0], parcels[0]),
            np.where(of_container, container[1], parcels[1]),
            types != RecordType.TICK,
        )
        list_columns = {
            "parcels": (counts[0], text_column(add(self._parcels(children[0])), self._parcel_lengths(children[0]))),
            "containers": (
                counts[1],
                text_column(container_offsets[child_container], container_lengths[child_container]),
            ),
            "path": (np.zeros(len(rows), np.int64), text_column(np.zeros(0, np.int64), 0)),
        }
        buffer = np.concatenate(buffers)
        raw = []
        for row in np.flatnonzero(np.isin(types, (RecordType.RAW, RecordType.RAW_CONTAINER))).tolist():
            offsets, size = int(keys[0][row]), int(keys[1][row])
            key = buffer[offsets : offsets + size].tobytes().decode()
            malform = malformed_container_event if of_container[row] else malformed_scan
            raw.append(malform(int(aux[row]), int(rows["serial"][row]), key, int(event_time[row])))
        return RecordColumns(
            types.astype(np.uint8),
            rows["record_time"] + rows["duplicate_delay"],
            buffer,
            keys,
            columns,
            list_columns,
            raw,
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
        """Add event_ids of inferred scans: derived from the event of the parcel's own container, and the parcel.

        If that event is itself inferred (`nested`), its id is derived first, from its cause and the container.
        """
        texts = np.concatenate(buffers)

        def ids(texts: NDArray[np.uint8], cause: Column, child: Column) -> NDArray[np.uint8]:
            ids_out = np.empty(len(child[0]) * INFERRED_ID_BYTES, np.uint8)
            no_generation = np.zeros(len(child[0]), np.int64), np.zeros(len(child[0]), np.int32)
            write_inferred_ids(texts, *cause, *no_generation, texts, *child, np.empty(_ID_ROOM, np.uint8), ids_out)
            return ids_out.reshape(-1, INFERRED_ID_BYTES)

        offsets, lengths = causes[0].copy(), causes[1].copy()
        nested_rows = np.flatnonzero(nested)
        container_ids = ids(texts, _select_rows(causes, nested_rows), _select_rows(containers, nested_rows))
        offsets[nested_rows] = len(texts) + np.arange(len(nested_rows)) * INFERRED_ID_BYTES
        lengths[nested_rows] = INFERRED_ID_BYTES
        texts = np.concatenate([texts, container_ids.reshape(-1)])
        return add(ids(texts, (offsets, lengths), parcels)), INFERRED_ID_BYTES

    def _children(self, rows: CompactRecords, child_lists: ChildLists) -> tuple[tuple[Ints, Ints], tuple[Ints, Ints]]:
        """The number of child parcels and of child containers of each record; and the children's own numbers."""
        keys = np.where(rows["type"] == RecordType.CONTAINER, rows["parcel"], 0)
        counts, children = [], []
        for sign in (1, -1):
            count = np.zeros(len(rows), np.int64)
            found = [np.zeros(0, np.int64)]
            for row in np.flatnonzero(keys * sign > 0).tolist():
                found.append(child_lists[int(keys[row])])
                count[row] = len(found[-1])
            counts.append(count)
            children.append(np.concatenate(found))
        return (counts[0], counts[1]), (children[0], children[1])

    @staticmethod
    def _parcel_lengths(parcels: Ints) -> NDArray[np.int32]:
        return np.where(parcels < 0, np.int32(13), np.int32(_PARCEL))

    def _event_ids(self, numbers: Ints) -> NDArray[np.uint8]:
        halves = np.stack([splitmix64(numbers, salt) for salt in self._salts], axis=1)
        return _HEX[halves.view(np.uint8)].view(np.uint8).reshape(-1, _EVENT_ID)

    def _parcels(self, parcels: Ints) -> NDArray[np.uint8]:
        """LP and 14 digits, as e-commerce shippers number parcels; or a UPU S10 item id and three unused bytes."""
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
        container_type = codes >> 56
        # IATA Res. 686: type, five digits, owner.
        uld_prefix = np.where(container_type == ULD, number // 10**5, -1)
        for index in np.unique(uld_prefix[uld_prefix >= 0]).tolist():
            type_, owner = _ULDS[index % len(_ULDS)], _OWNERS[index // len(_ULDS)]
            ulds = uld_prefix == index
            lengths[ulds] = _fill(texts, ulds, [(type_, None, 0), (b"", number % 10**5, 5), (owner, None, 0)])
        if (trucks := container_type == TRUCK).any():
            lengths[trucks] = _fill(texts, trucks, [(b"TRK-", number, 7)])
        for index, prefix in enumerate(self._bag_prefixes):
            bags = (container_type == BAG) & (codes >> 40 & 0xFFFF == index)
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
        """UTC offset in minutes for each station and hour of the log."""
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


def _select_rows(column: Column, rows: Ints) -> Column:
    return column[0][rows], column[1][rows]


def _minutes_ahead(hour: datetime, zone: ZoneInfo) -> int:
    offset = hour.astimezone(zone).utcoffset()
    assert offset is not None
    return round(offset.total_seconds() / 60)


def _digits(out: NDArray[np.uint8], numbers: Ints, width: int) -> None:
    """Write numbers with `width` decimal digits, two digits at a time from the right."""
    rest = numbers
    end = width
    while end > 0:
        rest, pair = np.divmod(rest, 100)
        text = _PAIRS[pair].view(np.uint8).reshape(-1, 2)
        if end >= 2:
            out[:, end - 2 : end] = text
        else:
            out[:, 0] = text[:, 1]
        end -= 2


def _fill(texts: NDArray[np.uint8], rows: NDArray[np.bool_], parts: Sequence[tuple[bytes, Ints | None, int]]) -> int:
    """Write fixed bytes and numbers one after the other into the given rows; returns the number of bytes in a row."""
    block = np.zeros((int(rows.sum()), texts.shape[1]), np.uint8)
    offset = 0
    for fixed, numbers, width in parts:
        block[:, offset : offset + len(fixed)] = np.frombuffer(fixed, np.uint8)
        offset += len(fixed)
        if numbers is not None:
            _digits(block[:, offset : offset + width], numbers[rows], width)
            offset += width
    texts[rows] = block
    return offset
