"""Cases of the promise that a parcel is scanned regularly. Hours are from the arrival of the parcel."""

import pytest

from streams.domain.promises import Promises
from tests.kernel.records import scan, void
from tests.kernel.test_promise_clock_cases import AlertCase, arrived, hour, time_at


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

    def alerts_of(self, *log):
        return AlertCase(arrived(), *log, promises=self.SILENT).summary

    def test_fires_once_while_it_lasts_and_again_the_next_time(self):
        sorted_at = scan("s", "P", "SORTED", time_at(20))
        log = (hour(13), hour(14), sorted_at, hour(21), hour(33))
        assert self.alerts_of(*log) == [("BREACHED", "silence", 13), ("BREACHED", "silence", 33)]

    def test_is_withdrawn_when_a_scan_of_that_time_comes_late(self):
        assert self.alerts_of(hour(13), scan("s", "P", "UNLOADED", time_at(5)), hour(14)) == [
            ("BREACHED", "silence", 13),
            ("WITHDRAWN", "silence", 14),
        ]

    def test_ends_when_the_parcel_leaves(self):
        assert self.alerts_of(scan("s", "P", "DISPATCHED", time_at(9)), hour(100)) == []


class TestAParcelThatIsPackedInABag:
    """With the default promises: 18 hours without a scan are too long in the hub."""

    def packed(self, hours, name="packed", kind="PACKED"):
        return scan(name, "P", kind, time_at(hours), container_id="BAG")

    def silences(self, *log):
        case = AlertCase(*log, promises=Promises.default())
        return [(alert_type, hours) for alert_type, condition, hours in case.summary if condition == "silence"]

    def test_at_its_origin_is_not_silent_however_long_the_flight_takes(self):
        assert self.silences(self.packed(-40), hour(-1)) == []

    def test_and_opened_there_again_is_not_silent_either(self):
        log = (self.packed(-40), self.packed(-39, "opened", "UNPACKED"), self.packed(-38, "again"))
        assert self.silences(*log, hour(-1)) == []

    def test_at_its_origin_is_missed_18_hours_after_it_came_not_after_it_was_packed(self):
        log = (self.packed(-10), hour(-1), arrived(0))
        assert self.silences(*log, hour(17), hour(19)) == [("BREACHED", 19)]

    def test_in_the_hub_is_silent_from_then_on(self):
        log = (arrived(0), self.packed(10))
        assert self.silences(*log, hour(27), hour(29)) == [("BREACHED", 29)]
        assert self.silences(arrived(0), self.packed(10, "opened", "UNPACKED"), hour(27), hour(29)) == [
            ("BREACHED", 29)
        ]

    def test_elsewhere_after_it_left_the_hub_is_not_silent(self):
        dispatched = scan("left", "P", "DISPATCHED", time_at(5))
        assert self.silences(arrived(0), dispatched, self.packed(9), hour(60)) == []

    def test_whose_arrival_is_voided_was_never_silent(self):
        log = (arrived(0), self.packed(2), hour(21))
        assert self.silences(*log) == [("BREACHED", 21)]
        wrong = void("v", "P", "arrived", time_at(22))
        assert self.silences(*log, wrong, hour(23)) == [("BREACHED", 21), ("WITHDRAWN", 23)]

    def test_whose_arrival_is_recorded_late_was_silent_since_the_packing(self):
        log = (self.packed(2), hour(21), arrived(0), hour(22))
        assert self.silences(*log) == [("BREACHED", 22)]

    @pytest.mark.parametrize("kind", ["UNPACKED", "PACKED"])
    def test_counts_as_in_the_hub_once_something_was_done_to_it_there(self, kind):
        def in_hub(*log):
            stage = AlertCase(*log, promises=Promises.default()).run.last.parcels_by_stage
            return {name: number for name, number in stage.items() if number}

        packed = self.packed(5, kind=kind)
        assert in_hub(packed) == {}
        for enters_hub in ("ARRIVED", "UNLOADED", "INDUCTED", "SORTED", "NO_READ", "RECIRCULATED", "LOADED"):
            seen = scan("seen", "P", enters_hub, time_at(3))
            assert in_hub(packed, seen) == {kind: 1}
            assert in_hub(packed, seen, void("v", "P", "seen", time_at(6))) == {}
        for gone in ("DISPATCHED", "DELIVERED", "RETURNED", "LOST"):
            assert in_hub(arrived(0), scan("gone", "P", gone, time_at(3)), packed) == {}
        for office in ("CUSTOMS_PRESENTED", "CUSTOMS_RELEASED", "DAMAGED"):
            assert in_hub(scan("office", "P", office, time_at(3)), packed) == {}
