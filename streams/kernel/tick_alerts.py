"""The effects of a Tick: alerts that fire, alerts that are withdrawn, and parcels that retire.

Alerts are decided at Ticks only, from the records of the parcel and the time of the Tick. So they do not depend on the
order of the records between two Ticks, on batches or on restarts: evaluating a parcel again without new records has no
effect.
"""

from typing import Final

from streams.domain.jit import int64, jit, jit_inline
from streams.domain.kinds import (
    VOID,
)
from streams.domain.promise_clocks import (
    ANOMALY,
    AT_RISK,
    BREACHED,
    FIRING,
    JOURNEY_TIME,
    LEVEL,
    NEXT_CHANGE,
    NO_ALERT,
    NO_SLOT,
    PAUSED,
    RUNNING,
    SINCE,
    STATUS,
    WITHDRAWN,
    Integers,
    JourneyFacts,
    PromiseRules,
    add_running_time,
    first_future_time,
    retirement_time,
)
from streams.domain.promises import (
    FROM_THE_FUTURE,
    NUMBER_REUSED,
)
from streams.kernel.active_alerts import (
    alert_type_of,
    find_active_alert,
    free_alert_capacity,
    remove_active_alert,
    remove_all_active_alerts,
    set_active_alert,
)
from streams.kernel.alert_records import append_alert
from streams.kernel.batch_changes import ALERT_COUNT, RETIREMENT_COUNT, BatchChanges, mark_updated
from streams.kernel.due_index import mark_changed, set_due_time
from streams.kernel.evaluate import evaluate_parcel
from streams.kernel.packed_key import ADVICE, VOIDED, kind_of, time_of
from streams.kernel.parcel_table import (
    CHANGED_COUNT,
    EVALUATED_COUNT,
    HUB_TIME,
    NO_ALERT_INDEX,
    NOT_DUE,
    RETIRED_ROW_COUNT,
    ROW_COUNT,
    ROW_RETIRED,
    ROWS_PER_BLOCK,
    TableArrays,
    clear_row,
    next_slot,
)

# Alerts about one subject (a promise or an anomaly) of a parcel at one Tick: one is withdrawn, another fires.
MAX_ALERTS_PER_SUBJECT: Final = 2


@jit
def apply_tick(
    a: TableArrays,
    rules: PromiseRules,
    hub_time: int,
    batch_number: int,
    journey: JourneyFacts,
    findings: Integers,
    changes: BatchChanges,
) -> bool:
    """Apply a Tick that does not set the hub time back: evaluate every parcel that is due.

    Returns:
        False when there is no room for the alerts: call again after making more (`ParcelTable.reserve_alerts`,
        `grow_batch_changes`). The second call continues where the first one stopped.
    """
    # 1. Add the rows that are due because of the time to those that changed since the last Tick.
    rows = a.counts[ROW_COUNT]
    for block in range((rows + ROWS_PER_BLOCK - 1) // ROWS_PER_BLOCK):
        if a.block_due_times[block] >= hub_time:
            continue
        earliest = int64(NOT_DUE)
        for row in range(block * ROWS_PER_BLOCK, min(rows, (block + 1) * ROWS_PER_BLOCK)):
            if a.due_times[row] >= hub_time:
                earliest = min(earliest, a.due_times[row])
            else:
                mark_changed(a, row)
        a.block_due_times[block] = earliest
    # 2. Evaluate all of them.
    while a.counts[EVALUATED_COUNT] < a.counts[CHANGED_COUNT]:
        if not _has_room(a, changes):
            return False
        row = int64(a.changed_rows[a.counts[EVALUATED_COUNT]])
        a.counts[EVALUATED_COUNT] += 1
        _evaluate_row(a, rules, row, hub_time, batch_number, journey, findings, changes)
    a.counts[CHANGED_COUNT] = 0
    a.counts[EVALUATED_COUNT] = 0
    a.counts[HUB_TIME] = hub_time
    return True


@jit_inline
def _has_room(a: TableArrays, changes: BatchChanges) -> bool:
    needed = MAX_ALERTS_PER_SUBJECT * len(a.subject_intern_ids)
    return len(changes.alerts) - changes.counts[ALERT_COUNT] >= needed and free_alert_capacity(a) >= needed


@jit_inline
def _evaluate_row(
    a: TableArrays,
    rules: PromiseRules,
    row: int,
    now: int,
    batch_number: int,
    journey: JourneyFacts,
    findings: Integers,
    changes: BatchChanges,
) -> None:
    evaluate_parcel(a, rules, row, now, journey, findings)
    retires_at = retirement_time(journey, rules)
    if now > retires_at:
        retire_row(a, row)
        changes.retired_rows[changes.counts[RETIREMENT_COUNT]] = row
        changes.counts[RETIREMENT_COUNT] += 1
        return
    due = min(retires_at, first_future_time(journey))
    _count_running(a, rules, row, findings)
    for subject in range(len(a.subject_intern_ids)):
        due = min(due, findings[subject, NEXT_CHANGE])
        if a.rows[row]["first_alert"] != NO_ALERT_INDEX or findings[subject, FIRING]:
            _update_alert(a, rules, row, subject, now, batch_number, journey, findings, changes)
    set_due_time(a, row, due)


@jit_inline
def _count_running(a: TableArrays, rules: PromiseRules, row: int, findings: Integers) -> None:
    previous_bits = int64(a.rows[row]["running_clock_bits"])
    new_bits = int64(0)
    for promise in range(len(rules.limit)):
        if findings[promise, STATUS] == RUNNING or findings[promise, STATUS] == PAUSED:
            new_bits |= 1 << promise
    if new_bits != previous_bits:
        _set_running(a, row, previous_bits, new_bits)


@jit_inline
def _set_running(a: TableArrays, row: int, previous_bits: int, new_bits: int) -> None:
    for promise in range(len(a.running_clocks)):
        a.running_clocks[promise] += ((new_bits >> promise) & 1) - ((previous_bits >> promise) & 1)
    a.rows[row]["running_clock_bits"] = new_bits


@jit
def retire_row(a: TableArrays, row: int) -> None:
    """Retire a parcel: its records and alerts are freed, the row stays until `streams/kernel/compact.py` removes it."""
    clear_row(a, row)
    remove_all_active_alerts(a, row)
    _set_running(a, row, int64(a.rows[row]["running_clock_bits"]), int64(0))
    a.parcels_by_stage[int64(a.rows[row]["stage"])] -= 1
    a.parcels_by_stage[0] += 1
    a.rows[row]["stage"] = 0
    a.rows[row]["last_batch"] = ROW_RETIRED
    a.due_times[row] = NOT_DUE
    a.counts[RETIRED_ROW_COUNT] += 1


@jit
def _update_alert(
    a: TableArrays,
    rules: PromiseRules,
    row: int,
    subject: int,
    now: int,
    batch_number: int,
    journey: JourneyFacts,
    findings: Integers,
    changes: BatchChanges,
) -> None:
    """Compare the active alert about a subject with its finding; withdraw the alert, fire a new one, or both."""
    subject_intern_id = int64(a.subject_intern_ids[subject])
    alert = find_active_alert(a, row, subject_intern_id)
    anomaly = subject - len(rules.limit)
    level = findings[subject, LEVEL]
    if alert != NO_ALERT_INDEX:
        since = int64(a.active_alerts[alert]["since"])
        active_level = alert_type_of(a.active_alerts[alert]["subject_and_type"])
        if anomaly == FROM_THE_FUTURE:
            # The hub time has reached the time of the scan by now; the scan was from the future all the same.
            level = int64(ANOMALY if _scan_at(a, row, since) else NO_ALERT)
        elif anomaly != NUMBER_REUSED and since < journey.facts[JOURNEY_TIME]:
            # The alert is about an earlier parcel with the same number: it ends without a withdrawal.
            remove_active_alert(a, row, subject_intern_id)
            mark_updated(a, row, batch_number, changes)
            alert = int64(NO_ALERT_INDEX)
        elif anomaly < 0 and rules.restarts[subject] and since != findings[subject, SINCE]:
            # The clock has restarted since. The alert is withdrawn if it no longer holds for the earlier run.
            if _level_of_run(a, rules, row, subject, since, now, journey) < active_level:
                _withdraw(a, rules, row, subject, alert, now, batch_number, journey, findings, changes)
            remove_active_alert(a, row, subject_intern_id)
            mark_updated(a, row, batch_number, changes)
            alert = int64(NO_ALERT_INDEX)
        elif anomaly == NUMBER_REUSED and level == ANOMALY and since != findings[subject, SINCE]:
            remove_active_alert(a, row, subject_intern_id)
            alert = int64(NO_ALERT_INDEX)
        if alert != NO_ALERT_INDEX and level < active_level:
            _withdraw(a, rules, row, subject, alert, now, batch_number, journey, findings, changes)
            remove_active_alert(a, row, subject_intern_id)
            alert = int64(NO_ALERT_INDEX)
            level = findings[subject, LEVEL]
    active_level = int64(NO_ALERT)
    if alert != NO_ALERT_INDEX:
        active_level = alert_type_of(a.active_alerts[alert]["subject_and_type"])
    if level > active_level and findings[subject, FIRING]:
        n = append_alert(
            a, rules, row, subject, level, findings[subject, SINCE], now, batch_number, journey, findings, changes
        )
        set_active_alert(
            a,
            row,
            subject_intern_id,
            level,
            findings[subject, SINCE],
            changes.alerts[n]["high"],
            changes.alerts[n]["low"],
        )


@jit_inline
def _withdraw(
    a: TableArrays,
    rules: PromiseRules,
    row: int,
    subject: int,
    alert: int,
    now: int,
    batch_number: int,
    journey: JourneyFacts,
    findings: Integers,
    changes: BatchChanges,
) -> None:
    n = changes.counts[ALERT_COUNT]
    changes.alerts[n]["withdrawn_high"] = a.active_alerts[alert]["high"]
    changes.alerts[n]["withdrawn_low"] = a.active_alerts[alert]["low"]
    since = int64(a.active_alerts[alert]["since"])
    append_alert(a, rules, row, subject, int64(WITHDRAWN), since, now, batch_number, journey, findings, changes)


@jit
def _scan_at(a: TableArrays, row: int, time: int) -> bool:
    """Does the parcel have a scan that counts with this event_time?"""
    slot = int64(NO_SLOT)
    for i in range(int64(a.rows[row]["records"])):
        slot = next_slot(a, row, i, slot)
        packed_key = int64(a.slots[slot]["packed_key"])
        if time_of(packed_key) == time and kind_of(packed_key) != VOID and packed_key & (VOIDED | ADVICE) == 0:
            return True
    return False


@jit
def _level_of_run(
    a: TableArrays, rules: PromiseRules, row: int, promise: int, since: int, now: int, journey: JourneyFacts
) -> int:
    """Alert level of an earlier run of a clock: the run that started at `since` and ended with the next restart."""
    starts = rules.starts[promise]
    stops = rules.stops[promise]
    renews = rules.renews[promise]
    running = False
    started = False
    end = now
    slot = int64(NO_SLOT)
    for i in range(int64(a.rows[row]["records"])):
        slot = next_slot(a, row, i, slot)
        packed_key = int64(a.slots[slot]["packed_key"])
        kind = kind_of(packed_key)
        time = time_of(packed_key)
        if kind == VOID or packed_key & VOIDED or time < journey.facts[JOURNEY_TIME]:
            continue
        starts_clock = (starts >> kind) & 1 or (running and (renews >> kind) & 1)
        if not starts_clock and not (stops >> kind) & 1:
            continue
        running = starts_clock != 0
        if time == since and running:
            started = True
        elif time > since:
            end = min(end, time)
    if not started:
        return int64(NO_ALERT)
    pausable = rules.pauses[promise] != 0
    limit = rules.limit[promise]
    if end > add_running_time(journey, since, limit, pausable)[0]:
        return int64(BREACHED)
    risk = rules.at_risk_basis_points[promise]
    if risk != 0 and end > add_running_time(journey, since, limit * risk // 10_000, pausable)[0]:
        return int64(AT_RISK)
    return int64(NO_ALERT)
