"""Clocks and alerts of the parcel table as columns of ParcelState and Alert, ready for the Avro encoder."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streams.domain.jit import int64, jit, jit_inline
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
from streams.kernel.interned_records import LOCATION_SITE, LOCATION_STATION, NULL_SIZE, location_text
from streams.kernel.parcel_table import HUB_TIME, KEY_ALIGNMENT, NO_ALERT_INDEX, NO_INTERN_ID, ByteArray, TableArrays
from streams.kernel.state_columns import IDENTITY_BYTES, NOT_NULL, FrameArrays


class MonitoringColumns(NamedTuple):
    """Numbers of the columns of ParcelState's root frame that tell of clocks."""

    journeys: int
    clocks: int
    active_alerts: int


class ClockColumns(NamedTuple):
    """Numbers of the columns of the frame clocks[]."""

    promise: int
    status: int
    since: int
    deadline: int
    remaining_ms: int
    stopped_at: int


class ActiveAlertColumns(NamedTuple):
    """Numbers of the columns of the frame active_alerts[]."""

    condition: int
    type: int
    since: int
    alert_id: int


class AlertColumns(NamedTuple):
    """Numbers of the columns of Alert's root frame."""

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


# Identities of an alert: its own, what it withdraws, and two of evidence.
IDENTITIES_PER_ALERT = 4


@jit_inline
def _number(frame: FrameArrays, column: int, row: int, value: int) -> None:
    frame.values[column, row] = value
    frame.lengths[column, row] = NOT_NULL


@jit_inline
def _maybe(frame: FrameArrays, column: int, row: int, value: int, there: bool) -> None:
    frame.values[column, row] = value if there else 0
    frame.lengths[column, row] = NOT_NULL if there else NULL_SIZE


@jit_inline
def _text(frame: FrameArrays, column: int, row: int, at: int, size: int) -> None:
    frame.values[column, row] = at
    frame.lengths[column, row] = size


@jit_inline
def _word(frame: FrameArrays, column: int, row: int, a: TableArrays, word: int) -> None:
    _text(frame, column, row, int64(a.interned[word]["heap_offset"]), int64(a.interned[word]["size"]))


@jit
def count_active_alerts(a: TableArrays, touched: NDArray[np.int32], count: int) -> int:
    """Alerts that stand of the first `count` rows of `touched` together."""
    total = int64(0)
    for i in range(count):
        told = int64(a.rows[touched[i]]["first_alert"])
        while told != NO_ALERT_INDEX:
            total += 1
            told = int64(a.active_alerts[told]["next"])
    return total


@jit
def fill_monitoring_columns(
    a: TableArrays,
    rules: PromiseRules,
    touched: NDArray[np.int32],
    count: int,
    first_identity: int,
    states: FrameArrays,
    w: MonitoringColumns,
    clocks: FrameArrays,
    c: ClockColumns,
    standing: FrameArrays,
    s: ActiveAlertColumns,
    identities: ByteArray,
    story: JourneyFacts,
    found: Integers,
) -> None:
    """Columns of the clocks and standing alerts of the first `count` rows of `touched`.

    Room: `clocks` a row for each promise of each parcel, `standing` and `identities` (from `first_identity` on) one for
    each alert that stands (`count_active_alerts`). `story`, `found`: overwritten.
    """
    now = a.counts[HUB_TIME]
    clock = int64(0)
    alert = int64(0)
    for i in range(count):
        row = int64(touched[i])
        evaluate_parcel(a, rules, row, now, story, found)
        _number(states, w.journeys, i, max(1, story.facts[JOURNEY_COUNT]))
        first = clock
        for promise in range(len(rules.limit)):
            stands = found[promise, STATUS]
            if stands == NOT_STARTED:
                continue
            _word(clocks, c.promise, clock, a, int64(a.subject_intern_ids[promise]))
            _number(clocks, c.status, clock, stands)
            _number(clocks, c.since, clock, found[promise, SINCE])
            _maybe(clocks, c.deadline, clock, found[promise, DEADLINE], found[promise, DEADLINE] != OPEN_ENDED)
            _maybe(clocks, c.remaining_ms, clock, found[promise, REMAINING], stands == PAUSED)
            _maybe(clocks, c.stopped_at, clock, found[promise, STOPPED], found[promise, STOPPED] != NO_TIME)
            clock += 1
        _text(states, w.clocks, i, first, clock - first)
        first = alert
        told = int64(a.rows[row]["first_alert"])
        while told != NO_ALERT_INDEX:
            what = int64(a.active_alerts[told]["subject_and_type"])
            at = (first_identity + alert) * IDENTITY_BYTES
            put_big_endian(identities, at, a.active_alerts[told]["high"])
            put_big_endian(identities, at + 8, a.active_alerts[told]["low"])
            _word(standing, s.condition, alert, a, subject_intern_id_of(what))
            _number(standing, s.type, alert, alert_type_of(what))
            _number(standing, s.since, alert, int64(a.active_alerts[told]["since"]))
            _text(standing, s.alert_id, alert, at, IDENTITY_BYTES)
            alert += 1
            told = int64(a.active_alerts[told]["next"])
        _text(states, w.active_alerts, i, first, alert - first)


@jit
def fill_alert_columns(
    a: TableArrays,
    out: BatchChanges,
    count: int,
    frame: FrameArrays,
    m: AlertColumns,
    evidence: FrameArrays,
    identities: ByteArray,
) -> None:
    """Columns of the first `count` alerts of a batch.

    Room: `evidence` two rows an alert, `identities` IDENTITIES_PER_ALERT of 16 bytes.
    """
    proof = int64(0)
    for i in range(count):
        alert = out.alerts[i]
        row = int64(alert["row"])
        at = i * IDENTITIES_PER_ALERT * IDENTITY_BYTES
        put_big_endian(identities, at, alert["high"])
        put_big_endian(identities, at + 8, alert["low"])
        put_big_endian(identities, at + 16, alert["withdrawn_high"])
        put_big_endian(identities, at + 24, alert["withdrawn_low"])
        put_big_endian(identities, at + 32, alert["first_evidence_high"])
        put_big_endian(identities, at + 40, alert["first_evidence_low"])
        put_big_endian(identities, at + 48, alert["second_evidence_high"])
        put_big_endian(identities, at + 56, alert["second_evidence_low"])
        _text(frame, m.alert_id, i, at, IDENTITY_BYTES)
        if alert["type"] == WITHDRAWN:
            _text(frame, m.withdraws, i, at + IDENTITY_BYTES, IDENTITY_BYTES)
        else:
            _maybe(frame, m.withdraws, i, 0, False)
        proofs = int64(alert["evidence_count"])
        _text(frame, m.evidence, i, proof, proofs)
        for number in range(proofs):
            _text(evidence, 0, proof, at + (2 + number) * IDENTITY_BYTES, IDENTITY_BYTES)
            proof += 1
        _text(
            frame, m.parcel_id, i, int64(a.rows[row]["key_heap_offset"]) * KEY_ALIGNMENT, int64(a.rows[row]["key_size"])
        )
        _number(frame, m.version, i, int64(alert["version"]))
        _number(frame, m.type, i, int64(alert["type"]))
        _word(frame, m.condition, i, a, int64(a.subject_intern_ids[alert["subject"]]))
        _number(frame, m.hub_time, i, int64(alert["hub_time"]))
        _number(frame, m.since, i, int64(alert["since"]))
        _maybe(frame, m.deadline, i, int64(alert["deadline"]), int64(alert["deadline"]) != NO_TIME)
        _maybe(frame, m.limit, i, int64(alert["limit"]), int64(alert["limit"]) != NO_TIME)
        _maybe(frame, m.stopped_at, i, int64(alert["stopped_at"]), int64(alert["stopped_at"]) != NO_TIME)
        where = int64(alert["location"])
        if where == NO_INTERN_ID:
            _text(frame, m.site, i, 0, 0)
            _text(frame, m.station, i, 0, 0)
        else:
            site, size = location_text(a, where, LOCATION_SITE)
            _text(frame, m.site, i, site, size)
            station, size = location_text(a, where, LOCATION_STATION)
            _text(frame, m.station, i, station, size)
        _number(frame, m.direction, i, int64(alert["direction"]))
