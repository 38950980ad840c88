"""Cases of promise clocks and anomalies that an operator can check. Hours are from the arrival of the parcel."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from streams.domain.limits import EARLIEST_MS, LATEST_MS
from streams.domain.promises import Promises
from tests.kernel.records import MORNING, advice, scan, tick, void
from tests.kernel.test_tick_alerts import compare

HOUR = 3_600_000
DOOR = Promises.parse(
    {
        "promises": [
            {
                "name": "door",
                "starts": ["ARRIVED"],
                "stops": ["DELIVERED"],
                "limit": "72h",
                "at_risk": 0.75,
                "pauses": ["CUSTOMS_HELD"],
            }
        ],
        "anomalies": {"held_too_long": "100h"},
    }
)


def time_at(hours):
    return MORNING + round(hours * HOUR)


def arrived(hours=0):
    return scan("arrived", "P", "ARRIVED", time_at(hours))


def held(hours, reason="DOCUMENTS_MISSING", name="held"):
    return scan(name, "P", "CUSTOMS_HELD", time_at(hours), reason=reason)


def released(hours, name="released"):
    return scan(name, "P", "CUSTOMS_RELEASED", time_at(hours))


def delivered(hours):
    return scan("delivered", "P", "DELIVERED", time_at(hours))


def hour(hours):
    return tick(time_at(hours))


class AlertCase:
    """A log and its alerts and clocks, by the kernel and the oracle alike."""

    def __init__(self, *log, promises=DOOR):
        self.run, _ = compare(list(log), promises=promises)
        self.alerts = self.run.read_alerts()
        self.clocks = {
            clock["promise"]: clock for state in self.run.read_states().values() for clock in state["clocks"]
        }

    @property
    def summary(self):
        """Type, condition and hour of each alert."""
        return [(alert["type"], alert["condition"], (alert["hub_time"] - MORNING) / HOUR) for alert in self.alerts]

    def clock(self, name="door"):
        """Status, and hour of the deadline or, of a paused clock, remaining hours."""
        clock = self.clocks[name]
        if clock["status"] == "PAUSED":
            return "PAUSED", clock["remaining_ms"] / HOUR
        return clock["status"], (clock["deadline"] - MORNING) / HOUR


class TestAHoldWithAReason:
    def test_stops_the_clock(self):
        assert AlertCase(arrived(), held(10), hour(200)).clock() == ("PAUSED", 62)

    def test_of_any_length_does_not_break_the_promise(self):
        case = AlertCase(arrived(), held(10), hour(90))
        assert case.summary == []

    def test_and_its_release_let_the_clock_run_on_with_the_remaining_time(self):
        case = AlertCase(arrived(), held(10), released(30), hour(91), hour(92), hour(92.5))
        assert case.clock() == ("BREACHED", 92)
        assert case.summary == [("AT_RISK", "door", 91), ("BREACHED", "door", 92.5)]

    def test_at_risk_is_counted_in_hours_that_the_clock_ran(self):
        assert AlertCase(arrived(), held(10), released(30), hour(74), hour(74.1)).summary == [("AT_RISK", "door", 74.1)]

    def test_before_the_arrival_does_not_affect_the_clock(self):
        assert AlertCase(held(-9), released(-8), arrived(), hour(1)).clock() == ("RUNNING", 72)

    def test_that_lasts_at_the_arrival_pauses_the_clock_from_the_start(self):
        assert AlertCase(held(-9), arrived(), hour(1)).clock() == ("PAUSED", 72)
        assert AlertCase(held(-9), arrived(), released(5), hour(6)).clock() == ("RUNNING", 77)

    def test_after_the_promise_was_broken_changes_nothing(self):
        case = AlertCase(arrived(), hour(73), held(74), hour(75), released(80), hour(81))
        assert case.clock() == ("BREACHED", 72)
        assert [alert_type for alert_type, *_ in case.summary] == ["BREACHED"]

    def test_that_begins_at_the_last_instant_of_the_limit_pauses_the_clock_with_no_remaining_time(self):
        held_last = (arrived(), hour(71.5), held(72))
        case = AlertCase(*held_last, hour(73))
        assert case.clock() == ("PAUSED", 0)
        assert case.summary == [("AT_RISK", "door", 71.5)]
        assert AlertCase(*held_last, released(80), delivered(80), hour(81)).clock() == ("MET", 80)
        assert AlertCase(*held_last, released(80), hour(80), hour(81)).summary[1:] == [("BREACHED", "door", 81)]

    def test_that_begins_an_instant_later_is_too_late(self):
        case = AlertCase(
            arrived(), scan("held", "P", "CUSTOMS_HELD", time_at(72) + 1, reason="DOCUMENTS_MISSING"), hour(73)
        )
        assert case.clock() == ("BREACHED", 72)
        assert case.summary == [("BREACHED", "door", 73)]

    def test_that_begins_at_the_last_instant_before_the_risk_postpones_it(self):
        assert AlertCase(arrived(), held(54), hour(90)).summary == []
        assert AlertCase(arrived(), held(54), hour(90), released(91), hour(91), hour(92)).summary == [
            ("AT_RISK", "door", 92)
        ]

    def test_a_delivery_within_the_remaining_time_keeps_the_promise(self):
        assert AlertCase(arrived(), held(10), released(60), delivered(121), hour(150)).clock() == ("MET", 122)


class TestAHoldWithoutAReason:
    @pytest.mark.parametrize("reason", [None, ""])
    def test_does_not_stop_the_clock(self, reason):
        case = AlertCase(arrived(), held(10, reason), released(30), hour(73))
        assert case.clock() == ("BREACHED", 72)

    def test_does_not_end_the_pause_of_a_hold_that_has_a_reason(self):
        case = AlertCase(arrived(), held(10), held(20, None, "another"), hour(30), released(40), hour(50))
        assert case.clock() == ("RUNNING", 102)


class TestASecondHold:
    def test_stops_the_clock_again(self):
        log = (arrived(), held(10), released(20), held(30, name="again"))
        assert AlertCase(*log, hour(300)).clock() == ("PAUSED", 52)
        assert AlertCase(*log, released(35, "released again"), hour(40)).clock() == ("RUNNING", 87)

    def test_during_the_first_one_counts_once(self):
        case = AlertCase(arrived(), held(10), held(15, name="again"), released(20), hour(21))
        assert case.clock() == ("RUNNING", 82)


class TestARelease:
    def test_that_arrives_before_its_hold_takes_effect_when_the_hold_arrives(self):
        case = AlertCase(arrived(), released(30), hour(31), held(10), hour(32))
        assert case.clock() == ("RUNNING", 92)
        assert case.summary == []

    def test_that_arrives_late_and_proves_a_broken_promise_fires_at_the_next_tick(self):
        case = AlertCase(arrived(), held(10), hour(93), released(12), hour(94))
        assert case.summary == [("BREACHED", "door", 94)]


class TestAHoldThatIsVoided:
    def test_never_stopped_the_clock(self):
        case = AlertCase(arrived(), held(10), hour(60), void("v", "P", "held", time_at(61)), hour(73))
        assert case.clock() == ("BREACHED", 72)
        assert case.summary == [("BREACHED", "door", 73)]

    def test_whose_void_arrives_first_never_stopped_it_either(self):
        assert AlertCase(arrived(), void("v", "P", "held", time_at(11)), held(10), hour(12)).clock() == ("RUNNING", 72)

    def test_a_voided_release_leaves_the_clock_paused_and_withdraws_the_alert(self):
        case = AlertCase(arrived(), held(10), released(12), hour(80), void("v", "P", "released", time_at(81)), hour(82))
        assert case.clock() == ("PAUSED", 62)
        assert case.summary == [("BREACHED", "door", 80), ("WITHDRAWN", "door", 82)]


class TestLateEvidence:
    def test_that_it_was_delivered_in_time_withdraws_the_alert(self):
        case = AlertCase(arrived(), hour(73), delivered(70), hour(74))
        assert case.summary == [("BREACHED", "door", 73), ("WITHDRAWN", "door", 74)]
        assert case.alerts[1]["withdraws"] == case.alerts[0]["alert_id"]
        assert case.alerts[1]["evidence"][0] == case.alerts[0]["evidence"][0]

    def test_that_it_was_delivered_too_late_changes_nothing(self):
        case = AlertCase(arrived(), hour(73), delivered(72.5), hour(74))
        assert case.summary == [("BREACHED", "door", 73)]
        assert case.clock() == ("BREACHED", 72)

    def test_that_it_never_arrived_withdraws_the_alert(self):
        case = AlertCase(arrived(), hour(73), void("v", "P", "arrived", time_at(74)), hour(74))
        assert case.summary[-1] == ("WITHDRAWN", "door", 74)
        assert case.clocks == {}

    def test_of_an_earlier_arrival_breaks_the_promise_earlier(self):
        case = AlertCase(arrived(), hour(50), scan("first", "P", "ARRIVED", time_at(-24)), hour(51))
        assert case.summary == [("BREACHED", "door", 51)]

    def test_before_a_tick_prevents_the_alert(self):
        assert AlertCase(hour(80), arrived(), delivered(70), hour(81)).summary == []

    def test_a_promise_that_is_broken_withdrawn_and_broken_again_has_three_alerts(self):
        case = AlertCase(
            arrived(), hour(73), delivered(70), hour(74), void("v", "P", "delivered", time_at(75)), hour(76)
        )
        assert [alert_type for alert_type, *_ in case.summary] == ["BREACHED", "WITHDRAWN", "BREACHED"]
        assert len({alert["alert_id"] for alert in case.alerts}) == 3

    def test_the_last_instant_of_the_limit_keeps_the_promise(self):
        assert AlertCase(arrived(), hour(72), delivered(72), hour(90)).clock() == ("MET", 72)
        assert AlertCase(arrived(), hour(72), delivered(72), hour(90)).summary == [("AT_RISK", "door", 72)]


class TestTicks:
    def test_one_before_the_hub_time_fires_nothing(self):
        assert AlertCase(hour(100), arrived(), hour(99)).summary == []

    def test_one_of_the_same_time_evaluates_the_records_since(self):
        case = AlertCase(hour(100), arrived(), hour(100), hour(100))
        assert case.summary == [("BREACHED", "door", 100)]

    def test_nothing_fires_without_one(self):
        assert AlertCase(arrived(), delivered(100)).summary == []

    def test_every_alert_fires_once_in_many_ticks(self):
        assert len(AlertCase(arrived(), *(hour(70 + number) for number in range(30))).summary) == 2


class TestAnomalies:
    ALL = Promises.parse({})

    def alerts_of(self, *log):
        return AlertCase(*log, promises=self.ALL).summary

    def test_sorted_to_another_lane_than_planned(self):
        plan = advice("plan", "P", time_at(-9), planned_lane="N")
        wrong, right = (scan(lane, "P", "SORTED", time_at(2), lane=lane) for lane in ("S", "N"))
        assert self.alerts_of(plan, right, hour(3)) == []
        assert self.alerts_of(plan, wrong, hour(3)) == [("ANOMALY", "MISROUTED", 3)]
        assert self.alerts_of(plan, wrong, hour(3), right, hour(4)) == [("ANOMALY", "MISROUTED", 3)]
        new = advice("new plan", "P", time_at(1), planned_lane="S")
        assert self.alerts_of(plan, wrong, hour(3), new, hour(4))[-1] == ("WITHDRAWN", "MISROUTED", 4)

    def test_not_read_three_times(self):
        tries = [scan(f"e{number}", "P", "NO_READ", time_at(number)) for number in range(3)]
        assert self.alerts_of(*tries[:2], hour(3)) == []
        assert self.alerts_of(*tries, hour(3)) == [("ANOMALY", "REPEATED_NO_READ", 3)]

    def test_dispatched_without_a_release(self):
        log = (advice("plan", "P", time_at(-9)), scan("gone", "P", "DISPATCHED", time_at(9)), hour(10))
        assert self.alerts_of(*log) == [("ANOMALY", "NOT_RELEASED", 10)]
        assert self.alerts_of(*log, released(8), hour(11))[-1] == ("WITHDRAWN", "NOT_RELEASED", 11)
        assert self.alerts_of(*log, released(9.5), hour(11)) == [("ANOMALY", "NOT_RELEASED", 10)]

    def test_in_transit_a_release_is_needed_only_after_a_customs_step(self):
        plan = advice("plan", "P", time_at(-9), direction="TRANSIT")
        gone = scan("gone", "P", "DISPATCHED", time_at(9))
        assert self.alerts_of(plan, gone, hour(10)) == []
        assert self.alerts_of(plan, gone, held(5), hour(10)) == [("ANOMALY", "NOT_RELEASED", 10)]

    def test_held_too_long_with_or_without_a_reason(self):
        for reason in (None, "why"):
            assert self.alerts_of(held(0, reason), hour(72), hour(73)) == [("ANOMALY", "HELD_TOO_LONG", 73)]
            log = (held(0, reason), hour(73), released(70), hour(74))
            assert self.alerts_of(*log) == [("ANOMALY", "HELD_TOO_LONG", 73), ("WITHDRAWN", "HELD_TOO_LONG", 74)]

    def test_a_scan_from_the_future_stays_an_anomaly_after_its_time(self):
        early = scan("early", "P", "UNLOADED", time_at(2))
        assert self.alerts_of(hour(0), early, hour(1), hour(2), hour(3)) == [("ANOMALY", "FROM_THE_FUTURE", 1)]
        taken_back = (hour(0), early, hour(1), void("v", "P", "early", time_at(1)), hour(2))
        assert self.alerts_of(*taken_back)[-1] == ("WITHDRAWN", "FROM_THE_FUTURE", 2)

    def test_a_reused_number_begins_a_new_journey(self):
        case = AlertCase(
            arrived(),
            delivered(20),
            hour(21),
            scan("again", "P", "ARRIVED", time_at(24 * 9)),
            hour(24 * 9 + 1),
            promises=Promises.parse({"promises": DOOR.model_dump(mode="json")["promises"]}),
        )
        assert case.summary == [("ANOMALY", "NUMBER_REUSED", 24 * 9 + 1)]
        assert case.clock() == ("RUNNING", 24 * 9 + 72)
        assert case.run.read_states()["P"]["journeys"] == 2

    def test_a_parcel_that_returns_soon_is_on_the_same_journey(self):
        case = AlertCase(arrived(), delivered(20), scan("again", "P", "ARRIVED", time_at(48)), hour(50))
        assert case.summary == []
        assert case.clock() == ("MET", 72)


def ms(*date_parts, zone=UTC):
    return round(datetime(*date_parts, tzinfo=zone).timestamp() * 1000)


class TestCalendarsHaveNoEffect:
    """A limit is elapsed time: neither daylight saving nor leap days change it."""

    @pytest.mark.parametrize(
        "begin",
        [
            pytest.param(ms(2026, 3, 28, 12, 0, zone=ZoneInfo("Europe/Brussels")), id="clocks go forward"),
            pytest.param(ms(2026, 10, 24, 12, 0, zone=ZoneInfo("Europe/Brussels")), id="clocks go back"),
            pytest.param(ms(2028, 2, 28, 12, 0), id="leap day"),
            pytest.param(ms(2100, 2, 28, 12, 0), id="no leap day"),
            pytest.param(ms(1969, 12, 30, 12, 0), id="across 1970"),
            pytest.param(ms(2038, 1, 18, 12, 0), id="across 2038"),
            pytest.param(EARLIEST_MS, id="the first time there is"),
            pytest.param(LATEST_MS - 73 * HOUR, id="nearly the last"),
        ],
    )
    def test_three_days_are_seventy_two_hours(self, begin):
        log = [scan("a", "P", "ARRIVED", begin, utc_offset_minutes=120)]
        log += [tick(begin + hours * HOUR) for hours in (53, 54, 72)] + [tick(begin + 72 * HOUR + 1)]
        run, _ = compare(log, promises=DOOR)
        alerts = [(alert["type"], alert["hub_time"] - begin) for alert in run.read_alerts()]
        assert alerts == [("AT_RISK", 72 * HOUR), ("BREACHED", 72 * HOUR + 1)]

    def test_the_utc_offset_has_no_effect(self):
        alerts_by_offset = []
        for offset in (-840, 0, 60, 840):
            log = [scan("a", "P", "ARRIVED", MORNING, utc_offset_minutes=offset), tick(time_at(73))]
            alerts_by_offset.append(compare(log, promises=DOOR)[0].read_alerts())
        assert all(alerts == alerts_by_offset[0] for alerts in alerts_by_offset)


class TestADeviceWhoseClockIsAnHourWrong:
    def test_a_stop_before_the_start_keeps_the_promise(self):
        case = AlertCase(arrived(), delivered(-1), hour(100))
        assert case.clock() == ("MET", 72)
        assert case.summary == []

    def test_a_scan_an_hour_ahead_is_too_late_until_it_is_corrected(self):
        log = (arrived(), delivered(72.5), hour(73))
        assert AlertCase(*log).summary == [("BREACHED", "door", 73)]
        right = scan("right", "P", "DELIVERED", time_at(71.5))
        corrected = AlertCase(*log, void("v", "P", "delivered", time_at(74)), right, hour(75))
        assert corrected.summary == [("BREACHED", "door", 73), ("WITHDRAWN", "door", 75)]
        assert corrected.clock() == ("MET", 72)
