"""The parcel stage's way from payloads to columns and back: one decoder or encoder a topic, and where its columns are.

Shared by all partitions: none of them keeps anything between batches.
"""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final, NamedTuple, TypeVar, cast

from streams.formats.schemas import load_schemas
from streams.kernel.alert_columns import AlertColumns, ClockColumns, StandingColumns, WatchColumns
from streams.kernel.avro.decoder import Decoder
from streams.kernel.avro.encoder import Encoder
from streams.kernel.avro.layout import Layout
from streams.kernel.fold import ScanColumns
from streams.kernel.restore import AlertParts, EntryParts, StateParts
from streams.kernel.state_columns import FROM_IDENTITIES, EntryColumns, KindColumns, MilestoneColumns, StateColumns

# A state may be larger than any record that a scanner sends (streams/formats/topics.py: max.message.bytes).
_STATE_BYTES: Final = 16 << 20

_Numbers = TypeVar("_Numbers")


def _numbers(
    kind: Callable[..., _Numbers], layout: Layout, path: str = "", renamed: Mapping[str, str] | None = None
) -> _Numbers:
    """Column numbers for the fields of the NamedTuple `kind`, by the paths of the schema."""
    fields: tuple[str, ...] = cast(Any, kind)._fields
    return kind(*(layout.column(path + (renamed or {}).get(field, field)) for field in fields))


class Scans:
    """Decoder of hub.scans: shared by all partitions, as it keeps nothing between batches."""

    def __init__(self) -> None:
        schemas = load_schemas()
        names = ("Scan", "Advice", "Tick")
        # A handful of fields say nothing of the state: they are checked and skipped.
        self.layout = Layout.of(*(schemas.current(name) for name in names), only=ScanColumns._fields)
        writers = {number: (schema, names.index(name)) for number, (name, schema) in schemas.writers(*names).items()}
        self.decoder = Decoder(self.layout, [schemas.current(name) for name in names], writers)
        self.columns = _numbers(ScanColumns, self.layout)


class States:
    """Encoder of parcel.state, and decoder for the way back."""

    def __init__(self) -> None:
        schemas = load_schemas()
        schema = schemas.current("ParcelState")
        self.encoder = Encoder(
            schema,
            schemas.id("ParcelState"),
            raw=("plan", "scans[].at", "scans[].plan"),
            sources={"scans[].identity": FROM_IDENTITIES, "alerts[].alert_id": FROM_IDENTITIES},
        )
        layout = self.encoder.layout
        self.root = _numbers(StateColumns, layout)
        self.kinds = _numbers(KindColumns, layout, "kinds[].", {"scans": "count"})
        self.entries = _numbers(EntryColumns, layout, "scans[].")
        self.kinds_frame = layout.frame("kinds[]")
        self.entries_frame = layout.frame("scans[]")
        self.watched = _numbers(WatchColumns, layout)
        self.clocks = _numbers(ClockColumns, layout, "clocks[].")
        self.clocks_frame = layout.frame("clocks[]")
        self.standing = _numbers(StandingColumns, layout, "alerts[].")
        self.standing_frame = layout.frame("alerts[]")
        self.widths = [len(frame.columns) for frame in layout.frames]
        reader = Layout.of(schema, only=StateParts._fields)
        writers = {number: (text, 0) for number, (_, text) in schemas.writers("ParcelState").items()}
        self.decoder = Decoder(reader, [schema], writers, limit=_STATE_BYTES)
        self.root_parts = _numbers(StateParts, reader)
        nested = {name: name.replace("_", ".", 1) for name in EntryParts._fields if name.startswith(("at_", "plan_"))}
        self.entry_parts = _numbers(EntryParts, reader, "scans[].", nested)
        self.restored_frame = reader.frame("scans[]")
        self.alert_parts = _numbers(AlertParts, reader, "alerts[].")
        self.restored_alerts_frame = reader.frame("alerts[]")


class Milestones:
    """Encoder of parcel.milestones."""

    def __init__(self) -> None:
        schemas = load_schemas()
        self.encoder = Encoder(
            schemas.current("Milestone"),
            schemas.id("Milestone"),
            sources={"milestone_id": FROM_IDENTITIES, "evidence": FROM_IDENTITIES},
        )
        self.columns = _numbers(MilestoneColumns, self.encoder.layout)
        self.width = len(self.encoder.layout.frames[0].columns)


class Alerts:
    """Encoder of parcel.alerts."""

    def __init__(self) -> None:
        schemas = load_schemas()
        paths = ("alert_id", "withdraws", "evidence[]")
        self.encoder = Encoder(
            schemas.current("Alert"), schemas.id("Alert"), sources=dict.fromkeys(paths, FROM_IDENTITIES)
        )
        self.columns = _numbers(AlertColumns, self.encoder.layout)
        self.widths = [len(frame.columns) for frame in self.encoder.layout.frames]


class Deltas:
    """Encoder of hub.throughput."""

    def __init__(self) -> None:
        schemas = load_schemas()
        self.encoder = Encoder(schemas.current("ThroughputDelta"), schemas.id("ThroughputDelta"))
        self.columns = _numbers(DeltaColumns, self.encoder.layout, renamed={"scans": "count"})
        self.width = len(self.encoder.layout.frames[0].columns)


class DeltaColumns(NamedTuple):
    """Numbers of the columns of ThroughputDelta."""

    site: int
    station: int
    kind: int
    direction: int
    minute: int
    scans: int  # count


@cache
def scans() -> Scans:
    """The one decoder of hub.scans."""
    return Scans()


@cache
def states() -> States:
    """The one encoder and decoder of parcel.state."""
    return States()


@cache
def milestones() -> Milestones:
    """The one encoder of parcel.milestones."""
    return Milestones()


@cache
def alerts() -> Alerts:
    """The one encoder of parcel.alerts."""
    return Alerts()


@cache
def deltas() -> Deltas:
    """The one encoder of hub.throughput."""
    return Deltas()
