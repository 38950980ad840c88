"""The promises as small arrays, for the compiled code of `streams/domain/promise_clocks.py`."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from streams.domain.kinds import DIRECTIONS, KIND_NUMBERS, KINDS
from streams.domain.promise_clocks import DISABLED, PROMISED_AT, PromiseRules
from streams.domain.promises import (
    ANOMALIES,
    BASIS_POINTS,
    FOUND_EXTRA,
    FOUND_OUTSIDE,
    FROM_THE_FUTURE,
    HELD_TOO_LONG,
    MISROUTED,
    MISSING,
    NOT_RELEASED,
    NUMBER_REUSED,
    RECIRCULATING,
    REPEATED_NO_READ,
    Promises,
)


def build_promise_rules(promises: Promises) -> PromiseRules:
    """The promises as arrays.

    >>> build_promise_rules(Promises.default()).limit[:2].tolist()
    [10800000, 21600000]
    """
    rows = promises.promises
    texts: list[bytes] = []
    services = np.zeros((len(rows), 2), np.int64)
    lanes = np.zeros((len(rows), 2), np.int64)
    for row, promise in enumerate(rows):
        for bounds, names in ((services, promise.services), (lanes, promise.lanes)):
            bounds[row, 0] = len(texts)
            texts += [name.encode() for name in names or ()]
            bounds[row, 1] = len(texts)
    thresholds, retirement = promises.anomalies, promises.retirement
    anomalies = np.full(len(ANOMALIES), DISABLED, np.int64)
    for number, threshold in (
        (MISROUTED, 1 if thresholds.misrouted else None),
        (REPEATED_NO_READ, thresholds.repeated_no_read),
        (RECIRCULATING, thresholds.recirculating),
        (NOT_RELEASED, None if thresholds.not_released is None else _bits(thresholds.not_released, DIRECTIONS)),
        (HELD_TOO_LONG, thresholds.held_too_long),
        (FROM_THE_FUTURE, thresholds.from_the_future),
        (NUMBER_REUSED, thresholds.number_reused),
        (FOUND_OUTSIDE, 1 if thresholds.found_outside else None),
        (MISSING, thresholds.missing),
        (FOUND_EXTRA, 1 if thresholds.found_extra else None),
    ):
        if threshold is not None:
            anomalies[number] = threshold
    return PromiseRules(
        starts=_array(_bits(promise.starts, KINDS) for promise in rows),
        stops=_array(_bits(promise.stops, KINDS) for promise in rows),
        start_kinds=_kind_lists([promise.starts for promise in rows]),
        stop_kinds=_kind_lists([promise.stops for promise in rows]),
        renews=_array(_bits(promise.renews, KINDS) for promise in rows),
        restarts=_array(promise.restarts for promise in rows),
        restarting_promises=_array(row for row, promise in enumerate(rows) if promise.restarts),
        limit=_array(PROMISED_AT if isinstance(promise.limit, str) else promise.limit for promise in rows),
        at_risk_basis_points=_array(round((promise.at_risk or 0) * BASIS_POINTS) for promise in rows),
        pauses=_array(bool(promise.pauses) for promise in rows),
        directions=_array(_bits(promise.directions or DIRECTIONS, DIRECTIONS) for promise in rows),
        services=services,
        lanes=lanes,
        text_offsets=np.cumsum([0, *map(len, texts)], dtype=np.int64),
        text=np.frombuffer(b"".join(texts) + b"\0", np.uint8).copy(),
        anomalies=anomalies,
        retirement_delays=_array(
            DISABLED if delay is None else delay for delay in (retirement.finished, retirement.unfinished)
        ),
    )


def _bits(symbols: Sequence[str], enum: Sequence[str]) -> int:
    return sum(1 << enum.index(symbol) for symbol in set(symbols))


def _array(numbers: Iterable[int]) -> NDArray[np.int64]:
    return np.array([int(number) for number in numbers], np.int64)


def _kind_lists(kinds: Sequence[Sequence[str]]) -> NDArray[np.int64]:
    """A row of kind numbers for each promise, in order: of scans at the same instant the lower kind comes first."""
    lists = np.full((len(kinds), len(KINDS)), DISABLED, np.int64)
    for row, names in enumerate(kinds):
        numbers = sorted({KIND_NUMBERS[kind] for kind in names})
        lists[row, : len(numbers)] = numbers
    return lists
