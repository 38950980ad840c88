"""Clocks and alerts of the parcel table as columns of ParcelState and Alert, ready for the Avro encoder."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streams.domain.jit import int64, jit
from streams.domain.promise_clocks import (
    DEADLINE,
    JOURNEY_COUNT,
    NO_TIME,
    NOT_STARTED,
    OPEN_ENDED,
    PAUSED,
    REMAINING,
    SINCE,
    STATUS,
    STOPPED,
    WITHDRAWN,
    Integers,
    JourneyFacts,
    PromiseRules,
)
from streams.domain.record_hash import put_big_endian
from streams.kernel.active_alerts import alert_type_of, subject_intern_id_of
from streams.kernel.batch_changes import BatchChanges
from streams.kernel.evaluate import evaluate_parcel
from streams.kernel.frames import (
    HASH_BYTES,
    FrameArrays,
    set_interned,
    set_number,
    set_optional_number,
    set_parcel_id,
    set_text,
)
from streams.kernel.interned_records import LOCATION_SITE, LOCATION_STATION, location_text
from streams.kernel.parcel_table import HUB_TIME, NO_ALERT_INDEX, NO_INTERN_ID, ByteArray, TableArrays


class MonitoringColumns(NamedTuple):
    """Indexes of the columns of ParcelState's root frame that depend on the promises."""

    journeys: int
    clocks: int
    active_alerts: int


class ClockColumns(NamedTuple):
    """Indexes of the columns of the frame clocks[]."""

    promise: int
    status: int
    since: int
    deadline: int
    remaining_ms: int
    stopped_at: int


class ActiveAlertColumns(NamedTuple):
    """Indexes of the columns of the frame active_alerts[]."""

    condition: int
    type: int
    since: int
    alert_id: int


class AlertColumns(NamedTuple):
    """Indexes of the columns of Alert's root frame."""

    alert_id: int
    parcel_id: int
    version: int
    type: int
    condition: int
    hub_time: int
    since: int
    deadline: int
    limit: int
    stopped_at: int
    withdraws: int
    evidence: int
    site: int
    station: int
    direction: int


# Hashes of an alert: its id, the id of the alert that it withdraws, and two record hashes of evidence.
HASHES_PER_ALERT = 4


@jit
def count_active_alerts(a: TableArrays, rows: NDArray[np.int32], count: int) -> int:
    """Total number of active alerts of the first `count` of `rows`."""
    total = int64(0)
    for i in range(count):
        active_alert = int64(a.rows[rows[i]]["first_alert"])
        while active_alert != NO_ALERT_INDEX:
            total += 1
            active_alert = int64(a.active_alerts[active_alert]["next"])
    return total


@jit
def fill_monitoring_columns(
    a: TableArrays,
    rules: PromiseRules,
    rows: NDArray[np.int32],
    count: int,
    first_hash: int,
    states: FrameArrays,
    w: MonitoringColumns,
    clocks: FrameArrays,
    c: ClockColumns,
    active_alerts: FrameArrays,
    s: ActiveAlertColumns,
    hashes: ByteArray,
    journey: JourneyFacts,
    findings: Integers,
) -> None:
    """Fill the columns of the clocks and active alerts of the first `count` of `rows`.

    Args:
        first_hash: index of the first free hash in `hashes`.
        clocks: room for one row for each promise of each parcel.
        active_alerts, hashes: room for one row and 16 bytes for each active alert (`count_active_alerts`).
        w, c, s: indexes of the columns of `states`, `clocks` and `active_alerts`.
        journey, findings: work space, overwritten.
    """
    now = a.counts[HUB_TIME]
    clock = int64(0)
    alert = int64(0)
    for i in range(count):
        row = int64(rows[i])
        evaluate_parcel(a, rules, row, now, journey, findings)
        set_number(states, w.journeys, i, max(1, journey.facts[JOURNEY_COUNT]))
        first = clock
        for promise in range(len(rules.limit)):
            status = findings[promise, STATUS]
            if status == NOT_STARTED:
                continue
            set_interned(clocks, c.promise, clock, a, int64(a.subject_intern_ids[promise]))
            set_number(clocks, c.status, clock, status)
            set_number(clocks, c.since, clock, findings[promise, SINCE])
            set_optional_number(
                clocks, c.deadline, clock, findings[promise, DEADLINE], findings[promise, DEADLINE] != OPEN_ENDED
            )
            set_optional_number(clocks, c.remaining_ms, clock, findings[promise, REMAINING], status == PAUSED)
            set_optional_number(
                clocks, c.stopped_at, clock, findings[promise, STOPPED], findings[promise, STOPPED] != NO_TIME
            )
            clock += 1
        set_text(states, w.clocks, i, first, clock - first)
        first = alert
        active_alert = int64(a.rows[row]["first_alert"])
        while active_alert != NO_ALERT_INDEX:
            subject_and_type = int64(a.active_alerts[active_alert]["subject_and_type"])
            offset = (first_hash + alert) * HASH_BYTES
            put_big_endian(hashes, offset, a.active_alerts[active_alert]["high"])
            put_big_endian(hashes, offset + 8, a.active_alerts[active_alert]["low"])
            set_interned(active_alerts, s.condition, alert, a, subject_intern_id_of(subject_and_type))
            set_number(active_alerts, s.type, alert, alert_type_of(subject_and_type))
            set_number(active_alerts, s.since, alert, int64(a.active_alerts[active_alert]["since"]))
            set_text(active_alerts, s.alert_id, alert, offset, HASH_BYTES)
            alert += 1
            active_alert = int64(a.active_alerts[active_alert]["next"])
        set_text(states, w.active_alerts, i, first, alert - first)


@jit
def fill_alert_columns(
    a: TableArrays,
    changes: BatchChanges,
    count: int,
    frame: FrameArrays,
    m: AlertColumns,
    evidence: FrameArrays,
    hashes: ByteArray,
) -> None:
    """Fill the columns of the first `count` alerts of a batch.

    Args:
        m: indexes of the columns of `frame`.
        evidence: room for two rows an alert.
        hashes: room for HASHES_PER_ALERT hashes of 16 bytes an alert.
    """
    evidence_row = int64(0)
    for i in range(count):
        alert = changes.alerts[i]
        row = int64(alert["row"])
        offset = i * HASHES_PER_ALERT * HASH_BYTES
        put_big_endian(hashes, offset, alert["high"])
        put_big_endian(hashes, offset + 8, alert["low"])
        put_big_endian(hashes, offset + 16, alert["withdrawn_high"])
        put_big_endian(hashes, offset + 24, alert["withdrawn_low"])
        put_big_endian(hashes, offset + 32, alert["first_evidence_high"])
        put_big_endian(hashes, offset + 40, alert["first_evidence_low"])
        put_big_endian(hashes, offset + 48, alert["second_evidence_high"])
        put_big_endian(hashes, offset + 56, alert["second_evidence_low"])
        set_text(frame, m.alert_id, i, offset, HASH_BYTES)
        if alert["type"] == WITHDRAWN:
            set_text(frame, m.withdraws, i, offset + HASH_BYTES, HASH_BYTES)
        else:
            set_optional_number(frame, m.withdraws, i, 0, False)
        evidence_count = int64(alert["evidence_count"])
        set_text(frame, m.evidence, i, evidence_row, evidence_count)
        for j in range(evidence_count):
            set_text(evidence, 0, evidence_row, offset + (2 + j) * HASH_BYTES, HASH_BYTES)
            evidence_row += 1
        set_parcel_id(frame, m.parcel_id, i, a, row)
        set_number(frame, m.version, i, int64(alert["version"]))
        set_number(frame, m.type, i, int64(alert["type"]))
        set_interned(frame, m.condition, i, a, int64(a.subject_intern_ids[alert["subject"]]))
        set_number(frame, m.hub_time, i, int64(alert["hub_time"]))
        set_number(frame, m.since, i, int64(alert["since"]))
        set_optional_number(frame, m.deadline, i, int64(alert["deadline"]), int64(alert["deadline"]) != NO_TIME)
        set_optional_number(frame, m.limit, i, int64(alert["limit"]), int64(alert["limit"]) != NO_TIME)
        set_optional_number(frame, m.stopped_at, i, int64(alert["stopped_at"]), int64(alert["stopped_at"]) != NO_TIME)
        location = int64(alert["location"])
        if location == NO_INTERN_ID:
            set_text(frame, m.site, i, 0, 0)
            set_text(frame, m.station, i, 0, 0)
        else:
            site, size = location_text(a, location, LOCATION_SITE)
            set_text(frame, m.site, i, site, size)
            station, size = location_text(a, location, LOCATION_STATION)
            set_text(frame, m.station, i, station, size)
        set_number(frame, m.direction, i, int64(alert["direction"]))
