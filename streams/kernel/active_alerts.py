"""Alerts that stand, of each parcel: told once, kept until they are withdrawn, so that nothing is told again.

They are known by the name of their promise, not by its place in the file, so that another file changes nothing about
what was told; a name that the present promises do not have is kept as it is.
"""

import numpy as np

from streams.domain.jit import compiled, inlined, int64
from streams.kernel.parcel_table import NONE, TOLD_FREE, TOLDS, Arrays

_TYPE_BITS = 2
_TYPES = 3


@inlined
def word_in(what: int) -> int:
    """Word of the name of what an alert is about."""
    return int64(what) >> _TYPE_BITS


@inlined
def type_in(what: int) -> int:
    """Type of an alert: AT_RISK or BREACHED; of an anomaly ODD."""
    kind = int64(what) & _TYPES
    return kind if kind != 0 else _TYPES + 1


@inlined
def what_of(word: int, kind: int) -> int:
    """The two in one number."""
    return (word << _TYPE_BITS) | (kind & _TYPES)


@inlined
def told_of(a: Arrays, row: int, word: int) -> int:
    """The alert about the promise or the anomaly with that name that stands, or NONE."""
    told = int64(a.rows[row]["told"])
    while told != NONE:
        if word_in(a.told[told]["what"]) == word:
            return told
        told = int64(a.told[told]["next"])
    return int64(NONE)


@inlined
def room_for_told(a: Arrays) -> int:
    """How many more alerts can stand without more room; at least."""
    return int64(len(a.told) - a.counts[TOLDS])


@compiled
def put_told(a: Arrays, row: int, word: int, kind: int, since: int, high: np.uint64, low: np.uint64) -> None:
    """An alert stands from now on, in the place of another about the same."""
    told = told_of(a, row, word)
    if told == NONE:
        told = int64(a.counts[TOLD_FREE])
        if told == NONE:
            told = int64(a.counts[TOLDS])
            a.counts[TOLDS] = told + 1
        else:
            a.counts[TOLD_FREE] = a.told[told]["next"]
        a.told[told]["next"] = a.rows[row]["told"]
        a.rows[row]["told"] = told
    a.told[told]["what"] = what_of(word, kind)
    a.told[told]["since"] = since
    a.told[told]["high"] = high
    a.told[told]["low"] = low


@compiled
def drop_told(a: Arrays, row: int, word: int) -> None:
    """The alert about that does not stand any more."""
    before = int64(NONE)
    told = int64(a.rows[row]["told"])
    while told != NONE:
        after = int64(a.told[told]["next"])
        if word_in(a.told[told]["what"]) == word:
            if before == NONE:
                a.rows[row]["told"] = after
            else:
                a.told[before]["next"] = after
            a.told[told]["next"] = a.counts[TOLD_FREE]
            a.counts[TOLD_FREE] = told
            return
        before = told
        told = after


@compiled
def drop_all_told(a: Arrays, row: int) -> None:
    """No alert of the parcel stands any more."""
    told = int64(a.rows[row]["told"])
    while told != NONE:
        after = int64(a.told[told]["next"])
        a.told[told]["next"] = a.counts[TOLD_FREE]
        a.counts[TOLD_FREE] = told
        told = after
    a.rows[row]["told"] = NONE
