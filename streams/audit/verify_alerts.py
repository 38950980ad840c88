"""Verifies alerts: each is there once, has the id that its content gives, and is in the truth."""

from collections.abc import Iterable, Mapping
from typing import Any

from streams.audit.verify import Difference, LogRecord, ParcelFields, VerificationReport, key_text, record_hash
from streams.domain.reference.alerts import alert_hash_input
from streams.formats.record_decoder import DecodingError, RecordDecoder


class AlertVerifier:
    """Checks parcel.alerts, alert by alert in log order."""

    def __init__(self, report: VerificationReport) -> None:
        self._report = report
        # (parcel_id, alert_id) -> (type, condition, hub time).
        self._alerts: dict[tuple[str, bytes], tuple[str, str, int]] = {}
        # (parcel_id, condition) -> id of the active alert.
        self._active: dict[tuple[str, str], bytes] = {}
        self._hub_times: dict[tuple[str, str], int] = {}
        self._decode = RecordDecoder("Alert")

    def add(self, records: Iterable[LogRecord]) -> None:
        """Add records, in log order within each partition."""
        for key, value, partition, offset in records:
            self._report.alerts += 1
            offset_text = f"{partition}:{offset}"
            try:
                alert = self._decode(value)
            except DecodingError as error:
                difference = Difference(key_text(key), f"alert at {offset_text}", "an Alert", str(error))
                self._report.wrong_alerts.append(difference)
                continue
            if key != alert["parcel_id"].encode():
                self._wrong(alert, offset_text, f"the key {alert['parcel_id']}", key)
            alert_key = (alert["parcel_id"], alert["alert_id"])
            if alert_key in self._alerts:
                duplicate = Difference(alert["parcel_id"], _name(alert, offset_text), "once", "again")
                self._report.duplicate_alerts.append(duplicate)
                continue
            self._alerts[alert_key] = (alert["type"], alert["condition"], alert["hub_time"])
            self._check(alert, offset_text)

    def compare(self, truth: Mapping[str, ParcelFields]) -> None:
        """The alerts of each parcel must be exactly those of the truth."""
        unexpected = dict(self._alerts)
        for parcel_id, parcel in truth.items():
            for type_, condition, hub_time, alert_id in parcel.get("alerts", ()):
                if unexpected.pop((parcel_id, bytes.fromhex(alert_id)), None) is None:
                    missing = Difference(
                        parcel_id, f"{type_} {condition}", f"at {hub_time}, id {alert_id}", "not there"
                    )
                    self._report.missing_alerts.append(missing)
        for (parcel_id, alert_id), (type_, condition, hub_time) in unexpected.items():
            extra = f"at {hub_time}, id {alert_id.hex()}"
            self._report.wrong_alerts.append(Difference(parcel_id, f"{type_} {condition}", "not in the truth", extra))

    def compare_active(self, truth: Mapping[str, ParcelFields]) -> None:
        """The active alerts of the truth must be active, and every active alert must be of a parcel in the truth."""
        for parcel_id, parcel in truth.items():
            for condition, type_ in parcel.get("active_alerts", {}).items():
                alert = self._alerts.get((parcel_id, self._active.get((parcel_id, condition), b"")))
                if alert is None or alert[0] != type_:
                    found = "not there" if alert is None else alert[0]
                    difference = Difference(parcel_id, f"active_alerts {condition}", type_, found)
                    self._report.missing_alerts.append(difference)
        for parcel_id, condition in self._active:
            if parcel_id not in truth:
                self._report.wrong_alerts.append(
                    Difference(parcel_id, condition, "not in the truth", "an active alert")
                )

    def _check(self, alert: Mapping[str, Any], offset_text: str) -> None:
        if (expected_id := record_hash(alert_hash_input(alert))) != alert["alert_id"]:
            self._wrong(alert, offset_text, f"the id {expected_id.hex()}", alert["alert_id"].hex())
        subject = (alert["parcel_id"], alert["condition"])
        previous = self._hub_times.get(subject, alert["hub_time"])
        if alert["hub_time"] < previous:
            self._wrong(alert, offset_text, f"a hub time of at least {previous}", alert["hub_time"])
        self._hub_times[subject] = alert["hub_time"]
        if alert["type"] != "WITHDRAWN":
            self._active[subject] = alert["alert_id"]
        elif self._active.pop(subject, None) != alert["withdraws"]:
            self._wrong(alert, offset_text, "the id of the active alert", alert["withdraws"].hex())

    def _wrong(self, alert: Mapping[str, Any], offset_text: str, expected: Any, found: Any) -> None:
        self._report.wrong_alerts.append(Difference(alert["parcel_id"], _name(alert, offset_text), expected, found))


def _name(alert: Mapping[str, Any], offset_text: str) -> str:
    return f"{alert['type']} {alert['condition']} at {offset_text}"
