"""The active alerts of each parcel: published once and kept until they are withdrawn, so that none is published twice.

An alert is identified by the name of its promise or anomaly, not by its index in the promises file. So another version
of the file does not affect active alerts, and an alert whose name the file no longer has is kept.
"""

import numpy as np

from streams.domain.jit import int64, jit, jit_inline
from streams.kernel.parcel_table import ACTIVE_ALERT_COUNT, FREE_ALERT, NO_ALERT_INDEX, TableArrays

_TYPE_BITS = 2
_TYPE_MASK = 3


@jit_inline
def subject_intern_id_of(subject_and_type: int) -> int:
    """Intern id of the name of the promise or anomaly that an alert is about."""
    return int64(subject_and_type) >> _TYPE_BITS


@jit_inline
def alert_type_of(subject_and_type: int) -> int:
    """Type of an alert: AT_RISK, BREACHED or ANOMALY."""
    alert_type = int64(subject_and_type) & _TYPE_MASK
    return alert_type if alert_type != 0 else _TYPE_MASK + 1


@jit_inline
def pack_subject_and_type(subject_intern_id: int, alert_type: int) -> int:
    """Both in one number; the type is in the two lowest bits, ANOMALY as 0."""
    return (subject_intern_id << _TYPE_BITS) | (alert_type & _TYPE_MASK)


@jit_inline
def find_active_alert(a: TableArrays, row: int, subject_intern_id: int) -> int:
    """Index of the parcel's active alert about this promise or anomaly, or NO_ALERT_INDEX."""
    alert = int64(a.rows[row]["first_alert"])
    while alert != NO_ALERT_INDEX:
        if subject_intern_id_of(a.active_alerts[alert]["subject_and_type"]) == subject_intern_id:
            return alert
        alert = int64(a.active_alerts[alert]["next"])
    return int64(NO_ALERT_INDEX)


@jit_inline
def free_alert_capacity(a: TableArrays) -> int:
    """Lower bound of the number of alerts that can be added without more room."""
    return int64(len(a.active_alerts) - a.counts[ACTIVE_ALERT_COUNT])


@jit
def set_active_alert(
    a: TableArrays, row: int, subject_intern_id: int, alert_type: int, since: int, high: np.uint64, low: np.uint64
) -> None:
    """Add an active alert, or replace the one about the same promise or anomaly."""
    alert = find_active_alert(a, row, subject_intern_id)
    if alert == NO_ALERT_INDEX:
        alert = int64(a.counts[FREE_ALERT])
        if alert == NO_ALERT_INDEX:
            alert = int64(a.counts[ACTIVE_ALERT_COUNT])
            a.counts[ACTIVE_ALERT_COUNT] = alert + 1
        else:
            a.counts[FREE_ALERT] = a.active_alerts[alert]["next"]
        a.active_alerts[alert]["next"] = a.rows[row]["first_alert"]
        a.rows[row]["first_alert"] = alert
    a.active_alerts[alert]["subject_and_type"] = pack_subject_and_type(subject_intern_id, alert_type)
    a.active_alerts[alert]["since"] = since
    a.active_alerts[alert]["high"] = high
    a.active_alerts[alert]["low"] = low


@jit
def remove_active_alert(a: TableArrays, row: int, subject_intern_id: int) -> None:
    """Remove the active alert about this promise or anomaly, if there is one."""
    previous = int64(NO_ALERT_INDEX)
    alert = int64(a.rows[row]["first_alert"])
    while alert != NO_ALERT_INDEX:
        next_alert = int64(a.active_alerts[alert]["next"])
        if subject_intern_id_of(a.active_alerts[alert]["subject_and_type"]) == subject_intern_id:
            if previous == NO_ALERT_INDEX:
                a.rows[row]["first_alert"] = next_alert
            else:
                a.active_alerts[previous]["next"] = next_alert
            a.active_alerts[alert]["next"] = a.counts[FREE_ALERT]
            a.counts[FREE_ALERT] = alert
            return
        previous = alert
        alert = next_alert


@jit
def remove_all_active_alerts(a: TableArrays, row: int) -> None:
    """Remove all active alerts of the parcel."""
    alert = int64(a.rows[row]["first_alert"])
    while alert != NO_ALERT_INDEX:
        next_alert = int64(a.active_alerts[alert]["next"])
        a.active_alerts[alert]["next"] = a.counts[FREE_ALERT]
        a.counts[FREE_ALERT] = alert
        alert = next_alert
    a.rows[row]["first_alert"] = NO_ALERT_INDEX
