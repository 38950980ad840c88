"""The one description of the hub: sites, stations, lanes, and the plan of a day.

The simulator, the metrics and the boards take stations, lanes and sites from here; no other code names one. `hub.yaml`
beside this file is the default; `streams.config.load_hub` reads another file.
"""

from collections import Counter
from collections.abc import Mapping
from enum import StrEnum
from functools import cache
from typing import Annotated, Any, Self
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from streams.domain.config_errors import describe_config_errors
from streams.domain.kinds import DIRECTIONS
from streams.errors import Misconfigured

Code = Annotated[str, Field(pattern=r"^[A-Z0-9][A-Z0-9-]{0,31}$")]
Country = Annotated[str, Field(pattern=r"^[A-Z]{2}$")]
Share = Annotated[float, Field(gt=0, allow_inf_nan=False)]
# How many vehicles come in each hour of the day, UTC.
HourlyCounts = Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=24, max_length=24)]


class SiteRole(StrEnum):
    """The purpose of a site."""

    AIR = "AIR"  # aircraft are unloaded and loaded
    HALL = "HALL"  # bags are opened, parcels sorted, cleared and packed
    FEEDER = "FEEDER"  # the trucks' other end, from which parcels are delivered


class StationKind(StrEnum):
    """The work at a station."""

    ARRIVAL = "ARRIVAL"
    UNLOAD = "UNLOAD"
    UNPACK = "UNPACK"
    INDUCT = "INDUCT"
    SORT = "SORT"
    CUSTOMS = "CUSTOMS"
    PACK = "PACK"
    LOAD = "LOAD"
    DELIVERY = "DELIVERY"


class LaneMode(StrEnum):
    """How a lane leaves the hub."""

    ROAD = "ROAD"
    AIR = "AIR"


# The stations without which no parcel can pass through a site of that role.
REQUIRED_STATIONS: Mapping[SiteRole, frozenset[StationKind]] = {
    SiteRole.AIR: frozenset({StationKind.ARRIVAL, StationKind.UNLOAD, StationKind.LOAD}),
    SiteRole.HALL: frozenset(StationKind) - {StationKind.DELIVERY},
    SiteRole.FEEDER: frozenset({StationKind.DELIVERY}),
}


def _known_zone(zone: str) -> str:
    try:
        ZoneInfo(zone)
    except (KeyError, ValueError, OSError):
        message = f"{zone!r} is not a time zone of this machine (for example Europe/Brussels; needs tzdata)"
        raise ValueError(message) from None
    return zone


class _HubModel(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Station(_HubModel):
    """One location where scans are made; `code` is unique within its site."""

    code: Code
    kind: StationKind
    capacity_per_hour: int = Field(gt=0, description="Parcels an hour.")


class Site(_HubModel):
    """One site and its stations."""

    code: Code
    name: str
    role: SiteRole
    country: Country
    time_zone: Annotated[str, AfterValidator(_known_zone)]
    stations: tuple[Station, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _complete(self) -> Self:
        _distinct("station", (station.code for station in self.stations))
        missing = REQUIRED_STATIONS[self.role] - {station.kind for station in self.stations}
        if missing:
            message = f"a site of role {self.role} needs a station of kind {', '.join(sorted(missing))}"
            raise ValueError(message)
        return self

    def stations_of(self, kind: StationKind) -> tuple[Station, ...]:
        """The stations of a kind."""
        return tuple(station for station in self.stations if station.kind is kind)


class Lane(_HubModel):
    """One way out of the hub, for a group of destinations that are packed, loaded and dispatched together."""

    code: Code
    mode: LaneMode
    feeder: Code | None = Field(default=None, description="ROAD: the site that the trucks run to.")
    destinations: tuple[Country, ...] = Field(min_length=1)
    share: Share = Field(description="Part of the parcels, relative to the other lanes of this mode.")

    @model_validator(mode="after")
    def _feeder_fits_mode(self) -> Self:
        if (self.mode is LaneMode.ROAD) != (self.feeder is not None):
            message = "a lane of mode ROAD names its feeder site, one of mode AIR does not"
            raise ValueError(message)
        return self


class Service(_HubModel):
    """A service sold."""

    code: Code
    share: Share
    promise_hours: float | None = Field(gt=0, allow_inf_nan=False, description="From arrival; null: no promise.")


class DailyPlan(_HubModel):
    """The plan of a day of the hub."""

    aircraft_by_hour: HourlyCounts
    trucks_by_hour: HourlyCounts
    directions: Mapping[str, Share]
    air_origins: Mapping[Country, Share] = Field(min_length=1)
    services: tuple[Service, ...] = Field(min_length=1)
    owners: int = Field(gt=0, le=10_000, description="How many parties own parcels.")

    @model_validator(mode="after")
    def _hours_and_shares_are_usable(self) -> Self:
        for name, hours in (("aircraft_by_hour", self.aircraft_by_hour), ("trucks_by_hour", self.trucks_by_hour)):
            if not sum(hours):
                message = f"{name}: no vehicle ever arrives; at least one of the 24 numbers must be above 0"
                raise ValueError(message)
        known = set(DIRECTIONS[1:])
        if not self.directions or not known.issuperset(self.directions):
            message = f"directions: takes {', '.join(sorted(known))} only, and needs at least one of them"
            raise ValueError(message)
        _distinct("service", (service.code for service in self.services))
        return self


class Hub(_HubModel):
    """A hub with one air side, one sorting hall and any number of feeders.

    Example:
        >>> hub = Hub.default()
        >>> hub.hall.code, len(hub.lanes)
        ('LGG', 9)
    """

    name: str
    sites: tuple[Site, ...]
    lanes: tuple[Lane, ...] = Field(min_length=1)
    plan: DailyPlan

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _distinct("site", (site.code for site in self.sites))
        _distinct("lane", (lane.code for lane in self.lanes))
        for role in (SiteRole.AIR, SiteRole.HALL):
            if (count := sum(site.role is role for site in self.sites)) != 1:
                message = f"sites: exactly one must have the role {role}, not {count}"
                raise ValueError(message)
        feeders = {site.code for site in self.sites if site.role is SiteRole.FEEDER}
        for lane in self.lanes:
            if lane.feeder is not None and lane.feeder not in feeders:
                message = f"lane {lane.code}: feeder {lane.feeder} is not a site of role FEEDER"
                raise ValueError(message)
        for mode in LaneMode:
            if not self.lanes_of(mode):
                message = f"lanes: at least one must be of mode {mode}"
                raise ValueError(message)
        return self

    @classmethod
    @cache
    def default(cls) -> Self:
        """The hub of `hub.yaml` beside this module, modelled on Liège."""
        from streams.domain.yaml_documents import load_default

        return cls.parse(load_default("hub.yaml"))

    @classmethod
    def parse(cls, mapping: object) -> Self:
        """A hub from plain lists and mappings, as YAML or JSON give them.

        Raises:
            Misconfigured: names every key that is wrong, its value, and what would be right.
        """
        try:
            return cls.model_validate(mapping)
        except ValidationError as error:
            models = (Hub, Site, Station, Lane, Service, DailyPlan)
            lines = describe_config_errors(error, models, "hub")
            raise Misconfigured("the description of the hub is wrong:\n" + "\n".join(lines)) from None

    @property
    def air(self) -> Site:
        """The air side."""
        return next(site for site in self.sites if site.role is SiteRole.AIR)

    @property
    def hall(self) -> Site:
        """The sorting hall."""
        return next(site for site in self.sites if site.role is SiteRole.HALL)

    def site(self, code: str) -> Site:
        """The site with this code. Raises KeyError."""
        for site in self.sites:
            if site.code == code:
                return site
        raise KeyError(code)

    def lanes_of(self, mode: LaneMode) -> tuple[Lane, ...]:
        """The lanes of one mode, road or air."""
        return tuple(lane for lane in self.lanes if lane.mode is mode)


def _distinct(element: str, codes: Any) -> None:
    repeated = sorted(code for code, count in Counter(codes).items() if count > 1)
    if repeated:
        message = f"{element} {', '.join(repeated)} is there more than once; codes must differ"
        raise ValueError(message)
