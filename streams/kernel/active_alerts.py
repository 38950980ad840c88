"""Alerts that stand, of each parcel: told once, kept until they are withdrawn, so that nothing is told again.

They are known by the name of their promise, not by its place in the file, so that another file changes nothing about
what was told; a name that the present promises do not have is kept as it is.
"""

import numpy as np

from streams.domain.jit import int64, jit, jit_inline
from streams.kernel.parcel_table import ACTIVE_ALERT_COUNT, FREE_ALERT, NONE, TableArrays

_TYPE_BITS = 2
_TYPES = 3


@jit_inline
def subject_intern_id_of(what: int) -> int:
    """Word of the name of what an alert is about."""
    return int64(what) >> _TYPE_BITS


@jit_inline
def alert_type_of(what: int) -> int:
    """Type of an alert: AT_RISK or BREACHED; of an anomaly ODD."""
    kind = int64(what) & _TYPES
    return kind if kind != 0 else _TYPES + 1


@jit_inline
def pack_subject_and_type(word: int, kind: int) -> int:
    """The two in one number."""
    return (word << _TYPE_BITS) | (kind & _TYPES)


@jit_inline
def find_active_alert(a: TableArrays, row: int, word: int) -> int:
    """The alert about the promise or the anomaly with that name that stands, or NONE."""
    told = int64(a.rows[row]["told"])
    while told != NONE:
        if subject_intern_id_of(a.told[told]["what"]) == word:
            return told
        told = int64(a.told[told]["next"])
    return int64(NONE)


@jit_inline
def free_alert_capacity(a: TableArrays) -> int:
    """How many more alerts can stand without more room; at least."""
    return int64(len(a.told) - a.counts[ACTIVE_ALERT_COUNT])


@jit
def set_active_alert(
    a: TableArrays, row: int, word: int, kind: int, since: int, high: np.uint64, low: np.uint64
) -> None:
    """An alert stands from now on, in the place of another about the same."""
    told = find_active_alert(a, row, word)
    if told == NONE:
        told = int64(a.counts[FREE_ALERT])
        if told == NONE:
            told = int64(a.counts[ACTIVE_ALERT_COUNT])
            a.counts[ACTIVE_ALERT_COUNT] = told + 1
        else:
            a.counts[FREE_ALERT] = a.told[told]["next"]
        a.told[told]["next"] = a.rows[row]["told"]
        a.rows[row]["told"] = told
    a.told[told]["what"] = pack_subject_and_type(word, kind)
    a.told[told]["since"] = since
    a.told[told]["high"] = high
    a.told[told]["low"] = low


@jit
def remove_active_alert(a: TableArrays, row: int, word: int) -> None:
    """The alert about that does not stand any more."""
    before = int64(NONE)
    told = int64(a.rows[row]["told"])
    while told != NONE:
        after = int64(a.told[told]["next"])
        if subject_intern_id_of(a.told[told]["what"]) == word:
            if before == NONE:
                a.rows[row]["told"] = after
            else:
                a.told[before]["next"] = after
            a.told[told]["next"] = a.counts[FREE_ALERT]
            a.counts[FREE_ALERT] = told
            return
        before = told
        told = after


@jit
def remove_all_active_alerts(a: TableArrays, row: int) -> None:
    """No alert of the parcel stands any more."""
    told = int64(a.rows[row]["told"])
    while told != NONE:
        after = int64(a.told[told]["next"])
        a.told[told]["next"] = a.counts[FREE_ALERT]
        a.counts[FREE_ALERT] = told
        told = after
    a.rows[row]["told"] = NONE
