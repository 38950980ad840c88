"""The description of the hub: the default is valid, and a wrong one is refused with a helpful message."""

from importlib import resources
from pathlib import Path

import pytest
import yaml

from streams.config import load_hub
from streams.domain.hub import REQUIRED_STATIONS, Hub, LaneMode
from streams.errors import Misconfigured


@pytest.fixture
def described() -> dict:
    return yaml.safe_load(resources.files("streams.domain").joinpath("hub.yaml").read_text(encoding="utf-8"))


class TestTheDefaultHub:
    def test_has_about_forty_stations_and_lanes_both_ways(self):
        hub = Hub.default()
        assert 35 <= sum(len(site.stations) for site in hub.sites) <= 50
        assert hub.lanes_of(LaneMode.ROAD)
        assert hub.lanes_of(LaneMode.AIR)

    def test_every_site_can_do_what_its_role_needs(self):
        for site in Hub.default().sites:
            for kind in REQUIRED_STATIONS[site.role]:
                assert site.stations_of(kind)

    def test_every_truck_goes_to_a_site(self):
        hub = Hub.default()
        for lane in hub.lanes_of(LaneMode.ROAD):
            assert hub.site(lane.feeder).country in lane.destinations


def _set(mapping, path, value):
    *parents, last = path
    for key in parents:
        mapping = mapping[key]
    mapping[last] = value


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("sites", 0, "stations", 0, "capacity_per_hour"), 0, r"sites\[0\].stations\[0\].capacity_per_hour.*here: 0"),
        (("sites", 0, "stations", 0, "code"), "APR-02", "APR-02 is there more than once"),
        (("sites", 0, "role"), "FEEDER", "needs a station of kind DELIVERY"),
        (("sites", 0, "time_zone"), "Europe/Liege", "is not a time zone"),
        (("sites", 2, "code"), "XXX", "feeder DUI is not a site of role FEEDER"),
        (("lanes", 0, "feeder"), None, "a lane of mode ROAD names its feeder"),
        (("lanes", 0, "share"), float("nan"), r"lanes\[0\].share"),
        (("plan", "aircraft_by_hour"), [1] * 23, "plan.aircraft_by_hour"),
        (("plan", "aircraft_by_hour"), [0] * 24, "no vehicle ever arrives"),
        (("plan", "directions"), {"SIDEWAYS": 1}, "takes EXPORT, IMPORT, TRANSIT only, and needs"),
        (("plan", "owners"), "many", "plan.owners.*here: 'many'"),
        (("colour",), "blue", "colour: there is no such key"),
        (("lane",), [], r"lane: there is no such key; did you mean lanes\?"),
        (("lanes", 0, "mode"), "RAIL", r"lanes\[0\].mode: must be '?ROAD"),
        (("plan", "air_origins"), {"cn": 1}, "plan.air_origins.cn"),
    ],
)
def test_a_wrong_description_is_refused_with_the_path_of_the_mistake(described, path, value, message):
    _set(described, path, value)
    with pytest.raises(Misconfigured, match=message):
        Hub.parse(described)


@pytest.mark.parametrize("nonsense", [None, 3, [], "hub", {"sites": 1}])
def test_nonsense_is_refused(nonsense):
    with pytest.raises(Misconfigured, match="the description of the hub is wrong"):
        Hub.parse(nonsense)


class TestAFile:
    def test_of_your_own_is_read(self, tmp_path: Path, described):
        described["name"] = "Leipzig"
        path = tmp_path / "hub.yaml"
        path.write_text(yaml.safe_dump(described), encoding="utf-8")
        assert load_hub(path).name == "Leipzig"

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (None, "cannot be read"),
            (b"\xff\xfe\x00", "cannot be read"),
            (b"a: [", "not YAML"),
            (b"name: 3", "hub.yaml"),
            (b"name: 3\nplan: {owners: 3, owners: 4}", "the key 'owners' is there twice, in line 2;"),
        ],
    )
    def test_that_cannot_be_used_is_named(self, tmp_path: Path, content, message):
        path = tmp_path / "hub.yaml"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(Misconfigured, match=message):
            load_hub(path)
