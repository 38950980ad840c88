"""The promises as small arrays: what `streams/domain/promise_clocks.py` reads while it runs compiled."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from streams.domain.kinds import DIRECTIONS, KINDS
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
    """The same promises for compiled code.

    >>> rules_of(Promises.default()).limit[:2].tolist()
    [10800000, 21600000]
    """
    each = promises.promises
    texts: list[bytes] = []
    services = np.zeros((len(each), 2), np.int64)
    lanes = np.zeros((len(each), 2), np.int64)
    for place, promise in enumerate(each):
        for bounds, words in ((services, promise.services), (lanes, promise.lanes)):
            bounds[place, 0] = len(texts)
            texts += [word.encode() for word in words or ()]
            bounds[place, 1] = len(texts)
    odd, retires = promises.anomalies, promises.retirement
    anomalies = np.full(len(ANOMALIES), DISABLED, np.int64)
    for number, threshold in (
        (MISROUTED, 1 if odd.misrouted else None),
        (REPEATED_NO_READ, odd.repeated_no_read),
        (RECIRCULATING, odd.recirculating),
        (NOT_RELEASED, None if odd.not_released is None else _bits(odd.not_released, DIRECTIONS)),
        (HELD_TOO_LONG, odd.held_too_long),
        (FROM_THE_FUTURE, odd.from_the_future),
        (NUMBER_REUSED, odd.number_reused),
        (FOUND_OUTSIDE, 1 if odd.found_outside else None),
        (MISSING, odd.missing),
        (FOUND_EXTRA, 1 if odd.found_extra else None),
    ):
        if threshold is not None:
            anomalies[number] = threshold
    return PromiseRules(
        starts=_array(_bits(promise.starts, KINDS) for promise in each),
        stops=_array(_bits(promise.stops, KINDS) for promise in each),
        start_kinds=_lists([promise.starts for promise in each]),
        stop_kinds=_lists([promise.stops for promise in each]),
        renews=_array(_bits(promise.renews, KINDS) for promise in each),
        restarts=_array(promise.restarts for promise in each),
        restarting_promises=_array(place for place, promise in enumerate(each) if promise.restarts),
        limit=_array(PROMISED_AT if isinstance(promise.limit, str) else promise.limit for promise in each),
        risk=_array(round((promise.at_risk or 0) * BASIS_POINTS) for promise in each),
        pauses=_array(bool(promise.pauses) for promise in each),
        directions=_array(_bits(promise.directions or DIRECTIONS, DIRECTIONS) for promise in each),
        services=services,
        lanes=lanes,
        text_offsets=np.cumsum([0, *map(len, texts)], dtype=np.int64),
        text=np.frombuffer(b"".join(texts) + b"\0", np.uint8).copy(),
        anomalies=anomalies,
        finished=_array(DISABLED if after is None else after for after in (retires.finished, retires.unfinished)),
    )


def _bits(words: Sequence[str], among: Sequence[str]) -> int:
    return sum(1 << among.index(word) for word in set(words))


def _array(numbers: Iterable[int]) -> NDArray[np.int64]:
    return np.array([int(number) for number in numbers], np.int64)


def _lists(kinds: Sequence[Sequence[str]]) -> NDArray[np.int64]:
    """In the order of their numbers: of scans at the same instant the lower kind is the first."""
    lists = np.full((len(kinds), len(KINDS)), DISABLED, np.int64)
    for place, words in enumerate(kinds):
        numbers = sorted({KINDS.index(word) for word in words})
        lists[place, : len(numbers)] = numbers
    return lists
