"""What the clocks do, in stories that somebody from operations can check. Hours are from the parcel's arrival."""

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


def at(hours):
    return MORNING + round(hours * HOUR)


def arrived(hours=0):
    return scan("arrived", "P", "ARRIVED", at(hours))


def held(hours, reason="DOCUMENTS_MISSING", name="held"):
    return scan(name, "P", "CUSTOMS_HELD", at(hours), reason=reason)


def released(hours, name="released"):
    return scan(name, "P", "CUSTOMS_RELEASED", at(hours))


def delivered(hours):
    return scan("delivered", "P", "DELIVERED", at(hours))


def hour(hours):
    return tick(at(hours))


class Told:
    """A log, and what was said of it."""

    def __init__(self, *log, promises=DOOR):
        self.run, _ = compare(list(log), promises=promises)
        self.alerts = self.run.read_alerts()
        self.clocks = {
            clock["promise"]: clock for state in self.run.read_states().values() for clock in state["clocks"]
        }

    @property
    def said(self):
        return [(alert["type"], alert["condition"], (alert["hub_time"] - MORNING) / HOUR) for alert in self.alerts]

    def clock(self, name="door"):
        """Status, and hours to the deadline or, of a clock that stands still, hours left."""
        clock = self.clocks[name]
        if clock["status"] == "PAUSED":
            return "PAUSED", clock["remaining_ms"] / HOUR
        return clock["status"], (clock["deadline"] - MORNING) / HOUR


class TestAHoldWithAReason:
    def test_stops_the_clock(self):
        assert Told(arrived(), held(10), hour(200)).clock() == ("PAUSED", 62)

    def test_does_not_break_the_promise_however_long_it_lasts(self):
        told = Told(arrived(), held(10), hour(90))
        assert told.said == []

    def test_and_its_release_lets_the_clock_run_on_with_what_was_left(self):
        told = Told(arrived(), held(10), released(30), hour(91), hour(92), hour(92.5))
        assert told.clock() == ("BREACHED", 92)
        assert told.said == [("AT_RISK", "door", 91), ("BREACHED", "door", 92.5)]

    def test_at_risk_is_counted_in_hours_that_the_clock_ran(self):
        assert Told(arrived(), held(10), released(30), hour(74), hour(74.1)).said == [("AT_RISK", "door", 74.1)]

    def test_before_the_parcel_came_takes_nothing_from_the_clock(self):
        assert Told(held(-9), released(-8), arrived(), hour(1)).clock() == ("RUNNING", 72)

    def test_that_lasts_when_the_parcel_comes_holds_the_clock_from_the_start(self):
        assert Told(held(-9), arrived(), hour(1)).clock() == ("PAUSED", 72)
        assert Told(held(-9), arrived(), released(5), hour(6)).clock() == ("RUNNING", 77)

    def test_after_the_promise_was_broken_does_not_mend_it(self):
        told = Told(arrived(), hour(73), held(74), hour(75), released(80), hour(81))
        assert told.clock() == ("BREACHED", 72)
        assert [what for what, *_ in told.said] == ["BREACHED"]

    def test_that_begins_at_the_last_instant_of_the_limit_stops_the_clock_with_nothing_left(self):
        held_last = (arrived(), hour(71.5), held(72))
        told = Told(*held_last, hour(73))
        assert told.clock() == ("PAUSED", 0)
        assert told.said == [("AT_RISK", "door", 71.5)]
        assert Told(*held_last, released(80), delivered(80), hour(81)).clock() == ("MET", 80)
        assert Told(*held_last, released(80), hour(80), hour(81)).said[1:] == [("BREACHED", "door", 81)]

    def test_that_begins_an_instant_later_comes_when_the_promise_is_broken(self):
        told = Told(arrived(), scan("held", "P", "CUSTOMS_HELD", at(72) + 1, reason="DOCUMENTS_MISSING"), hour(73))
        assert told.clock() == ("BREACHED", 72)
        assert told.said == [("BREACHED", "door", 73)]

    def test_that_begins_at_the_last_instant_before_the_promise_is_at_risk_puts_it_off(self):
        assert Told(arrived(), held(54), hour(90)).said == []
        assert Told(arrived(), held(54), hour(90), released(91), hour(91), hour(92)).said == [("AT_RISK", "door", 92)]

    def test_a_delivery_within_what_was_left_keeps_the_promise(self):
        assert Told(arrived(), held(10), released(60), delivered(121), hour(150)).clock() == ("MET", 122)


class TestAHoldWithoutAReason:
    @pytest.mark.parametrize("reason", [None, ""])
    def test_does_not_stop_the_clock(self, reason):
        told = Told(arrived(), held(10, reason), released(30), hour(73))
        assert told.clock() == ("BREACHED", 72)

    def test_does_not_start_it_again_either_while_another_hold_has_a_reason(self):
        told = Told(arrived(), held(10), held(20, None, "another"), hour(30), released(40), hour(50))
        assert told.clock() == ("RUNNING", 102)


class TestASecondHold:
    def test_stops_the_clock_again(self):
        log = (arrived(), held(10), released(20), held(30, name="again"))
        assert Told(*log, hour(300)).clock() == ("PAUSED", 52)
        assert Told(*log, released(35, "released again"), hour(40)).clock() == ("RUNNING", 87)

    def test_during_the_first_one_counts_once(self):
        told = Told(arrived(), held(10), held(15, name="again"), released(20), hour(21))
        assert told.clock() == ("RUNNING", 82)


class TestARelease:
    def test_that_comes_before_its_hold_is_understood_when_the_hold_comes(self):
        told = Told(arrived(), released(30), hour(31), held(10), hour(32))
        assert told.clock() == ("RUNNING", 92)
        assert told.said == []

    def test_that_comes_late_and_shows_that_the_promise_is_broken_fires_at_the_next_tick(self):
        told = Told(arrived(), held(10), hour(93), released(12), hour(94))
        assert told.said == [("BREACHED", "door", 94)]


class TestAHoldThatIsVoided:
    def test_never_stopped_the_clock(self):
        told = Told(arrived(), held(10), hour(60), void("v", "P", "held", at(61)), hour(73))
        assert told.clock() == ("BREACHED", 72)
        assert told.said == [("BREACHED", "door", 73)]

    def test_whose_void_comes_first_does_not_either(self):
        assert Told(arrived(), void("v", "P", "held", at(11)), held(10), hour(12)).clock() == ("RUNNING", 72)

    def test_a_voided_release_leaves_the_clock_standing_and_takes_the_alert_back(self):
        told = Told(arrived(), held(10), released(12), hour(80), void("v", "P", "released", at(81)), hour(82))
        assert told.clock() == ("PAUSED", 62)
        assert told.said == [("BREACHED", "door", 80), ("WITHDRAWN", "door", 82)]


class TestLateEvidence:
    def test_that_it_was_delivered_in_time_withdraws_the_alert(self):
        told = Told(arrived(), hour(73), delivered(70), hour(74))
        assert told.said == [("BREACHED", "door", 73), ("WITHDRAWN", "door", 74)]
        assert told.alerts[1]["withdraws"] == told.alerts[0]["alert_id"]
        assert told.alerts[1]["evidence"][0] == told.alerts[0]["evidence"][0]

    def test_that_it_was_delivered_too_late_changes_nothing(self):
        told = Told(arrived(), hour(73), delivered(72.5), hour(74))
        assert told.said == [("BREACHED", "door", 73)]
        assert told.clock() == ("BREACHED", 72)

    def test_that_it_never_arrived_withdraws_the_alert(self):
        told = Told(arrived(), hour(73), void("v", "P", "arrived", at(74)), hour(74))
        assert told.said[-1] == ("WITHDRAWN", "door", 74)
        assert told.clocks == {}

    def test_of_an_earlier_arrival_breaks_the_promise_earlier(self):
        told = Told(arrived(), hour(50), scan("first", "P", "ARRIVED", at(-24)), hour(51))
        assert told.said == [("BREACHED", "door", 51)]

    def test_before_a_tick_says_nothing_of_what_it_repairs(self):
        assert Told(hour(80), arrived(), delivered(70), hour(81)).said == []

    def test_a_promise_that_is_broken_withdrawn_and_broken_again_has_three_alerts(self):
        told = Told(arrived(), hour(73), delivered(70), hour(74), void("v", "P", "delivered", at(75)), hour(76))
        assert [what for what, *_ in told.said] == ["BREACHED", "WITHDRAWN", "BREACHED"]
        assert len({alert["alert_id"] for alert in told.alerts}) == 3

    def test_the_last_instant_of_the_limit_keeps_the_promise(self):
        assert Told(arrived(), hour(72), delivered(72), hour(90)).clock() == ("MET", 72)
        assert Told(arrived(), hour(72), delivered(72), hour(90)).said == [("AT_RISK", "door", 72)]


class TestTicks:
    def test_one_that_is_behind_fires_nothing(self):
        assert Told(hour(100), arrived(), hour(99)).said == []

    def test_one_of_the_same_time_tells_of_what_came_since(self):
        told = Told(hour(100), arrived(), hour(100), hour(100))
        assert told.said == [("BREACHED", "door", 100)]

    def test_nothing_fires_without_one(self):
        assert Told(arrived(), delivered(100)).said == []

    def test_every_alert_fires_once_however_many_come(self):
        assert len(Told(arrived(), *(hour(70 + number) for number in range(30))).said) == 2


class TestAnomalies:
    ALL = Promises.parse({})

    def told(self, *log):
        return Told(*log, promises=self.ALL).said

    def test_sorted_to_another_lane_than_planned(self):
        plan = advice("plan", "P", at(-9), planned_lane="N")
        wrong, right = (scan(lane, "P", "SORTED", at(2), lane=lane) for lane in ("S", "N"))
        assert self.told(plan, right, hour(3)) == []
        assert self.told(plan, wrong, hour(3)) == [("ANOMALY", "MISROUTED", 3)]
        assert self.told(plan, wrong, hour(3), right, hour(4)) == [("ANOMALY", "MISROUTED", 3)]
        new = advice("new plan", "P", at(1), planned_lane="S")
        assert self.told(plan, wrong, hour(3), new, hour(4))[-1] == ("WITHDRAWN", "MISROUTED", 4)

    def test_not_read_three_times(self):
        tries = [scan(f"e{number}", "P", "NO_READ", at(number)) for number in range(3)]
        assert self.told(*tries[:2], hour(3)) == []
        assert self.told(*tries, hour(3)) == [("ANOMALY", "REPEATED_NO_READ", 3)]

    def test_dispatched_without_a_release_that_comes_to_light(self):
        log = (advice("plan", "P", at(-9)), scan("gone", "P", "DISPATCHED", at(9)), hour(10))
        assert self.told(*log) == [("ANOMALY", "NOT_RELEASED", 10)]
        assert self.told(*log, released(8), hour(11))[-1] == ("WITHDRAWN", "NOT_RELEASED", 11)
        assert self.told(*log, released(9.5), hour(11)) == [("ANOMALY", "NOT_RELEASED", 10)]

    def test_in_transit_only_when_customs_saw_it(self):
        plan = advice("plan", "P", at(-9), direction="TRANSIT")
        gone = scan("gone", "P", "DISPATCHED", at(9))
        assert self.told(plan, gone, hour(10)) == []
        assert self.told(plan, gone, held(5), hour(10)) == [("ANOMALY", "NOT_RELEASED", 10)]

    def test_held_too_long_with_or_without_a_reason(self):
        for reason in (None, "why"):
            assert self.told(held(0, reason), hour(72), hour(73)) == [("ANOMALY", "HELD_TOO_LONG", 73)]
            log = (held(0, reason), hour(73), released(70), hour(74))
            assert self.told(*log) == [("ANOMALY", "HELD_TOO_LONG", 73), ("WITHDRAWN", "HELD_TOO_LONG", 74)]

    def test_a_scan_from_the_future_stays_one_when_its_time_comes(self):
        early = scan("early", "P", "UNLOADED", at(2))
        assert self.told(hour(0), early, hour(1), hour(2), hour(3)) == [("ANOMALY", "FROM_THE_FUTURE", 1)]
        taken_back = (hour(0), early, hour(1), void("v", "P", "early", at(1)), hour(2))
        assert self.told(*taken_back)[-1] == ("WITHDRAWN", "FROM_THE_FUTURE", 2)

    def test_a_number_that_is_used_again_begins_a_new_journey(self):
        told = Told(
            arrived(),
            delivered(20),
            hour(21),
            scan("again", "P", "ARRIVED", at(24 * 9)),
            hour(24 * 9 + 1),
            promises=Promises.parse({"promises": DOOR.model_dump(mode="json")["promises"]}),
        )
        assert told.said == [("ANOMALY", "NUMBER_REUSED", 24 * 9 + 1)]
        assert told.clock() == ("RUNNING", 24 * 9 + 72)
        assert told.run.read_states()["P"]["journeys"] == 2

    def test_a_parcel_that_comes_back_soon_is_the_same_one(self):
        told = Told(arrived(), delivered(20), scan("again", "P", "ARRIVED", at(48)), hour(50))
        assert told.said == []
        assert told.clock() == ("MET", 72)


class TestSilence:
    SILENT = Promises.parse(
        {
            "promises": [
                {
                    "name": "silence",
                    "restarts": True,
                    "starts": ["ARRIVED", "UNLOADED", "SORTED"],
                    "stops": ["DISPATCHED"],
                    "limit": "12h",
                    "at_risk": None,
                }
            ]
        }
    )

    def told(self, *log):
        return Told(arrived(), *log, promises=self.SILENT).said

    def test_is_told_once_while_it_lasts_and_again_the_next_time(self):
        sorted_at = scan("s", "P", "SORTED", at(20))
        log = (hour(13), hour(14), sorted_at, hour(21), hour(33))
        assert self.told(*log) == [("BREACHED", "silence", 13), ("BREACHED", "silence", 33)]

    def test_is_withdrawn_when_a_scan_of_that_time_comes_late(self):
        assert self.told(hour(13), scan("s", "P", "UNLOADED", at(5)), hour(14)) == [
            ("BREACHED", "silence", 13),
            ("WITHDRAWN", "silence", 14),
        ]

    def test_ends_when_the_parcel_leaves(self):
        assert self.told(scan("s", "P", "DISPATCHED", at(9)), hour(100)) == []


class TestAParcelThatIsPackedInABag:
    """By the promises that are shipped: 18 hours without a word are too long, in the hub."""

    def packed(self, hours, name="packed", kind="PACKED"):
        return scan(name, "P", kind, at(hours), container_id="BAG")

    def silences(self, *log):
        told = Told(*log, promises=Promises.default())
        return [(type_, hours) for type_, about, hours in told.said if about == "silence"]

    def test_at_its_origin_is_not_silent_however_long_the_flight_takes(self):
        assert self.silences(self.packed(-40), hour(-1)) == []

    def test_and_opened_there_again_is_not_silent_either(self):
        log = (self.packed(-40), self.packed(-39, "opened", "UNPACKED"), self.packed(-38, "again"))
        assert self.silences(*log, hour(-1)) == []

    def test_at_its_origin_is_missed_18_hours_after_it_came_not_after_it_was_packed(self):
        log = (self.packed(-10), hour(-1), arrived(0))
        assert self.silences(*log, hour(17), hour(19)) == [("BREACHED", 19)]

    def test_in_the_hub_was_heard_of_then(self):
        log = (arrived(0), self.packed(10))
        assert self.silences(*log, hour(27), hour(29)) == [("BREACHED", 29)]
        assert self.silences(arrived(0), self.packed(10, "opened", "UNPACKED"), hour(27), hour(29)) == [
            ("BREACHED", 29)
        ]

    def test_somewhere_else_after_it_left_is_none_of_the_hubs_business(self):
        left = scan("left", "P", "DISPATCHED", at(5))
        assert self.silences(arrived(0), left, self.packed(9), hour(60)) == []

    def test_whose_arrival_turns_out_to_be_wrong_never_was_silent(self):
        log = (arrived(0), self.packed(2), hour(21))
        assert self.silences(*log) == [("BREACHED", 21)]
        wrong = void("v", "P", "arrived", at(22))
        assert self.silences(*log, wrong, hour(23)) == [("BREACHED", 21), ("WITHDRAWN", 23)]

    def test_whose_arrival_is_heard_of_late_was_silent_since_the_packing(self):
        log = (self.packed(2), hour(21), arrived(0), hour(22))
        assert self.silences(*log) == [("BREACHED", 22)]

    @pytest.mark.parametrize("kind", ["UNPACKED", "PACKED"])
    def test_counts_as_in_the_hub_once_something_was_done_to_it_there(self, kind):
        def in_hub(*log):
            stage = Told(*log, promises=Promises.default()).run.last.parcels_by_stage
            return {name: number for name, number in stage.items() if number}

        packed = self.packed(5, kind=kind)
        assert in_hub(packed) == {}
        for here in ("ARRIVED", "UNLOADED", "INDUCTED", "SORTED", "NO_READ", "RECIRCULATED", "LOADED"):
            seen = scan("seen", "P", here, at(3))
            assert in_hub(packed, seen) == {kind: 1}
            assert in_hub(packed, seen, void("v", "P", "seen", at(6))) == {}
        for gone in ("DISPATCHED", "DELIVERED", "RETURNED", "LOST"):
            assert in_hub(arrived(0), scan("gone", "P", gone, at(3)), packed) == {}
        for office in ("CUSTOMS_PRESENTED", "CUSTOMS_RELEASED", "DAMAGED"):
            assert in_hub(scan("office", "P", office, at(3)), packed) == {}


def ms(*when, zone=UTC):
    return round(datetime(*when, tzinfo=zone).timestamp() * 1000)


class TestCalendarsMeanNothing:
    """A limit is hours that passed, whatever clocks on walls do meanwhile."""

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
        told = [(alert["type"], alert["hub_time"] - begin) for alert in run.read_alerts()]
        assert told == [("AT_RISK", 72 * HOUR), ("BREACHED", 72 * HOUR + 1)]

    def test_the_offset_of_a_local_clock_decides_nothing(self):
        stories = []
        for offset in (-840, 0, 60, 840):
            log = [scan("a", "P", "ARRIVED", MORNING, utc_offset_minutes=offset), tick(at(73))]
            stories.append(compare(log, promises=DOOR)[0].read_alerts())
        assert all(story == stories[0] for story in stories)


class TestADeviceAnHourWrong:
    def test_a_stop_that_seems_to_be_before_the_start_keeps_the_promise(self):
        told = Told(arrived(), delivered(-1), hour(100))
        assert told.clock() == ("MET", 72)
        assert told.said == []

    def test_an_hour_ahead_looks_too_late_until_it_is_corrected(self):
        log = (arrived(), delivered(72.5), hour(73))
        assert Told(*log).said == [("BREACHED", "door", 73)]
        right = scan("right", "P", "DELIVERED", at(71.5))
        corrected = Told(*log, void("v", "P", "delivered", at(74)), right, hour(75))
        assert corrected.said == [("BREACHED", "door", 73), ("WITHDRAWN", "door", 75)]
        assert corrected.clock() == ("MET", 72)
