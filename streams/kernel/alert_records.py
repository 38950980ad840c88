"""Builds the alert records of a Tick: their fields, their evidence and their ids."""

from typing import Final

import numpy as np

from streams.domain.jit import int64, jit, jit_inline
from streams.domain.kinds import (
    CUSTOMS_HELD,
    CUSTOMS_RELEASED,
    DISPATCHED,
    KINDS,
    LANE_KINDS,
    NO_READ,
    PACKED,
    RECIRCULATED,
    UNPACKED,
)
from streams.domain.promise_clocks import (
    ADVICE_SLOT,
    COUNT,
    DEADLINE,
    FIRST_EVIDENCE,
    FIRST_SLOT,
    JOURNEY_START_KINDS,
    LIMIT,
    NO_SLOT,
    NO_TIME,
    OPEN_ENDED,
    SECOND_EVIDENCE,
    SEEN_AFTER_EMPTYING_SLOT,
    STOPPED,
    WITHDRAWN,
    Integers,
    JourneyFacts,
    PromiseRules,
)
from streams.domain.promises import (
    ANOMALIES,
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
)
from streams.domain.record_hash import put_big_endian, record_hash
from streams.kernel.batch_changes import ALERT_COUNT, BatchChanges, mark_updated
from streams.kernel.packed_key import ADVICE, VOIDED, kind_of
from streams.kernel.parcel_table import (
    KEY_ALIGNMENT,
    NO_INTERN_ID,
    TableArrays,
    next_slot,
)

# Kinds of the scans that are evidence of an anomaly, one bit each. A voided scan of such a kind is the evidence of the
# withdrawal.
_EVIDENCE_KINDS: Final = np.zeros(len(ANOMALIES), np.int64)
_EVIDENCE_KINDS[MISROUTED] = LANE_KINDS
_EVIDENCE_KINDS[REPEATED_NO_READ] = 1 << NO_READ
_EVIDENCE_KINDS[RECIRCULATING] = 1 << RECIRCULATED
_EVIDENCE_KINDS[NOT_RELEASED] = 1 << DISPATCHED
_EVIDENCE_KINDS[HELD_TOO_LONG] = 1 << CUSTOMS_HELD
_EVIDENCE_KINDS[FROM_THE_FUTURE] = (1 << len(KINDS)) - 1
_EVIDENCE_KINDS[NUMBER_REUSED] = JOURNEY_START_KINDS
_EVIDENCE_KINDS[FOUND_OUTSIDE] = (1 << len(KINDS)) - 1
_EVIDENCE_KINDS[MISSING] = 1 << PACKED | 1 << UNPACKED
_EVIDENCE_KINDS[FOUND_EXTRA] = 1 << UNPACKED
ANOMALY_EVIDENCE_KINDS: Final = tuple(_EVIDENCE_KINDS.tolist())


@jit
def append_alert(
    a: TableArrays,
    rules: PromiseRules,
    row: int,
    subject: int,
    alert_type: int,
    since: int,
    now: int,
    batch_number: int,
    journey: JourneyFacts,
    findings: Integers,
    changes: BatchChanges,
) -> int:
    """Append an alert to `changes`; returns its index.

    `alert_type`: for WITHDRAWN the caller has set `withdrawn_high` and `withdrawn_low` of the next alert.
    """
    mark_updated(a, row, batch_number, changes)
    n = changes.counts[ALERT_COUNT]
    changes.counts[ALERT_COUNT] = n + 1
    alert = changes.alerts[n]
    alert["row"] = row
    alert["version"] = a.rows[row]["records"]
    alert["type"] = alert_type
    alert["subject"] = subject
    alert["direction"] = a.rows[row]["direction"]
    alert["hub_time"] = now
    alert["since"] = since
    alert["deadline"] = findings[subject, DEADLINE] if findings[subject, DEADLINE] != OPEN_ENDED else NO_TIME
    alert["limit"] = findings[subject, LIMIT]
    alert["stopped_at"] = findings[subject, STOPPED]
    first_evidence = findings[subject, FIRST_EVIDENCE]
    second_evidence = findings[subject, SECOND_EVIDENCE]
    if alert_type == WITHDRAWN:
        if first_evidence == NO_SLOT:
            first_evidence = _reason_to_withdraw(a, rules, row, subject, journey)
    else:
        alert["withdrawn_high"] = 0
        alert["withdrawn_low"] = 0
    alert["evidence_count"] = 0 if first_evidence == NO_SLOT else 1 if second_evidence == NO_SLOT else 2
    alert["first_evidence_high"] = a.slots[first_evidence]["high"] if first_evidence != NO_SLOT else np.uint64(0)
    alert["first_evidence_low"] = a.slots[first_evidence]["low"] if first_evidence != NO_SLOT else np.uint64(0)
    alert["second_evidence_high"] = a.slots[second_evidence]["high"] if second_evidence != NO_SLOT else np.uint64(0)
    alert["second_evidence_low"] = a.slots[second_evidence]["low"] if second_evidence != NO_SLOT else np.uint64(0)
    location_slot = first_evidence
    if second_evidence != NO_SLOT and int64(a.slots[second_evidence]["packed_key"]) & ADVICE == 0:
        location_slot = second_evidence
    alert["location"] = NO_INTERN_ID
    if location_slot != NO_SLOT and int64(a.slots[location_slot]["packed_key"]) & ADVICE == 0:
        alert["location"] = a.slots[location_slot]["location_or_plan"]
    high, low = _alert_id(a, changes, n)
    alert["high"] = high
    alert["low"] = low
    return int64(n)


@jit_inline
def _reason_to_withdraw(a: TableArrays, rules: PromiseRules, row: int, subject: int, journey: JourneyFacts) -> int:
    """Slot of the evidence of a withdrawal: the voided scan of the alert, the late release, or the latest advice."""
    anomaly = subject - len(rules.limit)
    if anomaly < 0:
        kinds = rules.starts[subject] | rules.renews[subject]
    else:
        kinds = int64(ANOMALY_EVIDENCE_KINDS[anomaly])
        if (anomaly == NOT_RELEASED or anomaly == HELD_TOO_LONG) and journey.firsts[COUNT, CUSTOMS_RELEASED] > 0:  # noqa: PLR1714
            return int64(journey.firsts[FIRST_SLOT, CUSTOMS_RELEASED])
        if anomaly == MISSING and journey.facts[SEEN_AFTER_EMPTYING_SLOT] != NO_SLOT:
            return int64(journey.facts[SEEN_AFTER_EMPTYING_SLOT])
        if anomaly == FOUND_OUTSIDE and journey.firsts[COUNT, UNPACKED] > 0:
            return int64(journey.firsts[FIRST_SLOT, UNPACKED])
        if anomaly == FOUND_EXTRA and journey.firsts[COUNT, PACKED] > 0:
            return int64(journey.firsts[FIRST_SLOT, PACKED])
    slot = int64(NO_SLOT)
    for i in range(int64(a.rows[row]["records"])):
        slot = next_slot(a, row, i, slot)
        packed_key = int64(a.slots[slot]["packed_key"])
        if packed_key & VOIDED and (kinds >> kind_of(packed_key)) & 1:
            return slot
    return int64(journey.facts[ADVICE_SLOT])


@jit_inline
def _alert_id(a: TableArrays, changes: BatchChanges, n: int) -> tuple[np.uint64, np.uint64]:
    """Id of an alert, a hash over its fields: see alert_id in schemas/Alert.avsc."""
    alert = changes.alerts[n]
    row = int64(alert["row"])
    message = a.scratch
    key_start = int64(a.rows[row]["key_heap_offset"]) * KEY_ALIGNMENT
    end = int64(a.rows[row]["key_size"])
    for i in range(end):
        message[i] = a.heap[key_start + i]
    message[end] = 0
    end += 1
    subject = int64(alert["subject"])
    intern_id = int64(a.subject_intern_ids[subject])
    name_start = int64(a.interned[intern_id]["heap_offset"])
    name_size = int64(a.interned[intern_id]["size"])
    for i in range(name_size):
        message[end + i] = a.heap[name_start + i]
    message[end + name_size] = 0
    end += name_size + 1
    message[end] = alert["type"]
    message[end + 1] = alert["evidence_count"]
    end += 2
    version = int64(alert["version"])
    for i in range(4):
        message[end + i] = np.uint8((version >> (24 - 8 * i)) & 255)
    end += 4
    put_big_endian(message, end, np.uint64(int64(alert["hub_time"])))
    put_big_endian(message, end + 8, np.uint64(int64(alert["since"])))
    put_big_endian(message, end + 16, np.uint64(int64(alert["deadline"])))
    put_big_endian(message, end + 24, np.uint64(int64(alert["limit"])))
    put_big_endian(message, end + 32, np.uint64(int64(alert["stopped_at"])))
    put_big_endian(message, end + 40, alert["first_evidence_high"])
    put_big_endian(message, end + 48, alert["first_evidence_low"])
    put_big_endian(message, end + 56, alert["second_evidence_high"])
    put_big_endian(message, end + 64, alert["second_evidence_low"])
    put_big_endian(message, end + 72, alert["withdrawn_high"])
    put_big_endian(message, end + 80, alert["withdrawn_low"])
    return record_hash(message, 0, end + 88)
