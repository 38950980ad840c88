"""The verifier of alerts finds what is doubled, wrong or missing, and nothing in a log that is right."""

from copy import deepcopy

import pytest

from streams.audit.verify import VerificationReport, record_hash
from streams.audit.verify_alerts import AlertVerifier
from streams.domain.reference.alerts import alert_hash_input
from tests.formats.avro import framed

NINE = 1_772_355_600_000
HOUR = 3_600_000


def alert(type_, hub_time, withdraws=None, **others):
    said = {
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
    return said | {"alert_id": record_hash(alert_hash_input(said))}


class Log:
    """An alert that is withdrawn, and another one."""

    def __init__(self):
        broken = alert("BREACHED", NINE + 2 * HOUR)
        withdrawn = alert("WITHDRAWN", NINE + 3 * HOUR, broken["alert_id"])
        self.alerts = [broken, withdrawn, alert("AT_RISK", NINE + 4 * HOUR)]
        told = [[each["type"], each["condition"], each["hub_time"], each["alert_id"].hex()] for each in self.alerts]
        self.truth = {"P1": {"told": told}}

    def verify(self):
        report = VerificationReport()
        alerts = AlertVerifier(report)
        alerts.add((each["parcel_id"].encode(), framed("Alert", each), 0, n) for n, each in enumerate(self.alerts))
        alerts.compare(self.truth)
        return report


@pytest.fixture
def log():
    return Log()


def test_a_log_that_is_right(log):
    report = log.verify()
    assert report.ok
    assert report.alerts == 3


def test_an_alert_that_is_there_twice(log):
    log.alerts.append(deepcopy(log.alerts[2]))
    assert [each.found for each in log.verify().duplicate_alerts] == ["again"]


def test_an_alert_that_is_not_there(log):
    del log.alerts[2]
    assert [each.what for each in log.verify().missing_alerts] == ["AT_RISK door"]


def test_an_alert_that_the_truth_does_not_have(log):
    del log.truth["P1"]["told"][2]
    assert [each.expected for each in log.verify().wrong_alerts] == ["not in the truth"]


def test_an_alert_that_does_not_say_what_its_id_says(log):
    log.alerts[2]["deadline"] += 1
    assert ["the id" in each.expected for each in log.verify().wrong_alerts] == [True]


def test_a_withdrawal_of_what_does_not_stand(log):
    log.alerts[0], log.alerts[1] = log.alerts[1], log.alerts[0]
    assert any(each.expected == "the id of the alert that stood" for each in log.verify().wrong_alerts)


def test_a_hub_time_that_goes_back(log):
    log.alerts[0], log.alerts[2] = log.alerts[2], log.alerts[0]
    assert any("hub time" in str(each.expected) for each in log.verify().wrong_alerts)


@pytest.mark.parametrize("value", [None, b"", b"\0\0\0\0\x07", b"rubbish"])
def test_what_is_no_alert(value):
    report = VerificationReport()
    AlertVerifier(report).add([(b"P1", value, 0, 0)])
    assert len(report.wrong_alerts) == 1
