"""Alerts, read independently: is each told once, is it what its id says, and are they those that the truth has?"""

from collections.abc import Iterable, Mapping
from typing import Any

from streams.audit.verify import Difference, LogRecord, ParcelFields, VerificationReport, record_hash
from streams.domain.reference.alerts import alert_hash_input
from streams.formats.record_decoder import DecodingError, RecordDecoder


class AlertVerifier:
    """What parcel.alerts says, told alert by alert in the order of the log."""

    def __init__(self, report: VerificationReport) -> None:
        self._report = report
        # Parcel and id -> what it was about.
        self._told: dict[tuple[str, bytes], tuple[str, str, int]] = {}
        # Parcel and subject -> the alert that stands.
        self._standing: dict[tuple[str, str], bytes] = {}
        self._hub_times: dict[tuple[str, str], int] = {}
        self._decode = RecordDecoder("Alert")

    def add(self, records: Iterable[LogRecord]) -> None:
        """Take in records in the order of the log within each partition."""
        for key, value, partition, offset in records:
            self._report.alerts += 1
            place = f"{partition}:{offset}"
            try:
                alert = self._decode(value)
            except DecodingError as error:
                named = "no key" if key is None else key.decode(errors="backslashreplace")
                self._report.wrong_alerts.append(Difference(named, f"alert at {place}", "an Alert", str(error)))
                continue
            if key != alert["parcel_id"].encode():
                self._wrong(alert, place, f"the key {alert['parcel_id']}", key)
            named_by = (alert["parcel_id"], alert["alert_id"])
            if named_by in self._told:
                twice = Difference(alert["parcel_id"], _name(alert, place), "once", "again")
                self._report.duplicate_alerts.append(twice)
                continue
            self._told[named_by] = (alert["type"], alert["condition"], alert["hub_time"])
            self._check(alert, place)

    def compare(self, truth: Mapping[str, ParcelFields]) -> None:
        """The alerts of each parcel must be those of the truth, none missing and none beside them."""
        left = dict(self._told)
        for parcel_id, parcel in truth.items():
            for type_, about, hub_time, alert_id in parcel.get("told", ()):
                if left.pop((parcel_id, bytes.fromhex(alert_id)), None) is None:
                    missing = Difference(parcel_id, f"{type_} {about}", f"at {hub_time}, id {alert_id}", "not there")
                    self._report.missing_alerts.append(missing)
        for (parcel_id, alert_id), (type_, about, hub_time) in left.items():
            extra = f"at {hub_time}, id {alert_id.hex()}"
            self._report.wrong_alerts.append(Difference(parcel_id, f"{type_} {about}", "not in the truth", extra))

    def compare_active(self, truth: Mapping[str, ParcelFields]) -> None:
        """What must stand in the end has been told and not been withdrawn, and nobody is told of whom nobody knows."""
        for parcel_id, parcel in truth.items():
            for about, type_ in parcel.get("standing", {}).items():
                told = self._told.get((parcel_id, self._standing.get((parcel_id, about), b"")))
                if told is None or told[0] != type_:
                    found = "not there" if told is None else told[0]
                    self._report.missing_alerts.append(Difference(parcel_id, f"standing {about}", type_, found))
        for parcel_id, about in self._standing:
            if parcel_id not in truth:
                self._report.wrong_alerts.append(Difference(parcel_id, about, "not in the truth", "told"))

    def _check(self, alert: Mapping[str, Any], place: str) -> None:
        if (must := record_hash(alert_hash_input(alert))) != alert["alert_id"]:
            self._wrong(alert, place, f"the id {must.hex()}", alert["alert_id"].hex())
        about = (alert["parcel_id"], alert["condition"])
        before = self._hub_times.get(about, alert["hub_time"])
        if alert["hub_time"] < before:
            self._wrong(alert, place, f"a hub time of at least {before}", alert["hub_time"])
        self._hub_times[about] = alert["hub_time"]
        if alert["type"] != "WITHDRAWN":
            self._standing[about] = alert["alert_id"]
        elif self._standing.pop(about, None) != alert["withdraws"]:
            self._wrong(alert, place, "the id of the alert that stood", alert["withdraws"].hex())

    def _wrong(self, alert: Mapping[str, Any], place: str, expected: Any, found: Any) -> None:
        self._report.wrong_alerts.append(Difference(alert["parcel_id"], _name(alert, place), expected, found))


def _name(alert: Mapping[str, Any], place: str) -> str:
    return f"{alert['type']} {alert['condition']} at {place}"
