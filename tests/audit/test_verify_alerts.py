"""The verifier of alerts finds duplicate, wrong and missing alerts, and nothing in a correct log."""

from copy import deepcopy

import pytest

from streams.audit.verify import VerificationReport, record_hash
from streams.audit.verify_alerts import AlertVerifier
from streams.domain.reference.alerts import alert_hash_input
from tests.formats.avro import framed

NINE = 1_772_355_600_000
HOUR = 3_600_000


def alert(type_, hub_time, withdraws=None, **others):
    fields = {
        "parcel_id": "P1",
        "version": 1,
        "type": type_,
        "condition": "door",
        "hub_time": hub_time,
        "since": NINE,
        "deadline": NINE + HOUR,
        "limit": HOUR,
        "stopped_at": None,
        "withdraws": withdraws,
        "evidence": [record_hash(b"a")],
        "site": "LGG",
        "station": "",
        "direction": "IMPORT",
    } | others
    return fields | {"alert_id": record_hash(alert_hash_input(fields))}


class Log:
    """An alert that is withdrawn, and another alert."""

    def __init__(self):
        breached = alert("BREACHED", NINE + 2 * HOUR)
        withdrawn = alert("WITHDRAWN", NINE + 3 * HOUR, breached["alert_id"])
        self.alerts = [breached, withdrawn, alert("AT_RISK", NINE + 4 * HOUR)]
        expected = [
            [alert["type"], alert["condition"], alert["hub_time"], alert["alert_id"].hex()] for alert in self.alerts
        ]
        self.truth = {"P1": {"alerts": expected}}

    def verify(self):
        report = VerificationReport()
        alerts = AlertVerifier(report)
        alerts.add(
            (alert["parcel_id"].encode(), framed("Alert", alert), 0, offset) for offset, alert in enumerate(self.alerts)
        )
        alerts.compare(self.truth)
        return report


@pytest.fixture
def log():
    return Log()


def test_a_correct_log(log):
    report = log.verify()
    assert report.ok
    assert report.alerts == 3


def test_a_duplicate_alert(log):
    log.alerts.append(deepcopy(log.alerts[2]))
    assert [difference.found for difference in log.verify().duplicate_alerts] == ["again"]


def test_a_missing_alert(log):
    del log.alerts[2]
    assert [difference.field for difference in log.verify().missing_alerts] == ["AT_RISK door"]


def test_an_alert_that_is_not_in_the_truth(log):
    del log.truth["P1"]["alerts"][2]
    assert [difference.expected for difference in log.verify().wrong_alerts] == ["not in the truth"]


def test_an_id_that_does_not_fit_the_content(log):
    log.alerts[2]["deadline"] += 1
    assert ["the id" in difference.expected for difference in log.verify().wrong_alerts] == [True]


def test_a_withdrawal_of_an_inactive_alert(log):
    log.alerts[0], log.alerts[1] = log.alerts[1], log.alerts[0]
    assert any(difference.expected == "the id of the active alert" for difference in log.verify().wrong_alerts)


def test_a_hub_time_that_decreases(log):
    log.alerts[0], log.alerts[2] = log.alerts[2], log.alerts[0]
    assert any("hub time" in str(difference.expected) for difference in log.verify().wrong_alerts)


@pytest.mark.parametrize("value", [None, b"", b"\0\0\0\0\x07", b"rubbish"])
def test_a_value_that_is_no_alert(value):
    report = VerificationReport()
    AlertVerifier(report).add([(b"P1", value, 0, 0)])
    assert len(report.wrong_alerts) == 1
