"""The parcel stage's way from payloads to columns and back: one decoder or encoder a topic, and where its columns are.

Shared by all partitions: none of them keeps anything between batches.
"""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final, NamedTuple, TypeVar, cast

from streams.formats.schemas import load_schemas
from streams.kernel.alert_columns import ActiveAlertColumns, AlertColumns, ClockColumns, MonitoringColumns
from streams.kernel.avro.decoder import ColumnDecoder
from streams.kernel.avro.encoder import ColumnEncoder
from streams.kernel.avro.layout import Layout
from streams.kernel.frames import HASH_SOURCE
from streams.kernel.milestone_columns import MilestoneColumns
from streams.kernel.record_checks import ScanColumns
from streams.kernel.restore import ActiveAlertReaderColumns, StateReaderColumns, TimelineEntryReaderColumns
from streams.kernel.state_columns import KindColumns, StateColumns, TimelineEntryColumns

# A state may be larger than any record that a scanner sends (streams/formats/topics.py: max.message.bytes).
_STATE_BYTES: Final = 16 << 20

_Numbers = TypeVar("_Numbers")


def _numbers(
    kind: Callable[..., _Numbers], layout: Layout, path: str = "", renamed: Mapping[str, str] | None = None
) -> _Numbers:
    """Column numbers for the fields of the NamedTuple `kind`, by the paths of the schema."""
    fields: tuple[str, ...] = cast(Any, kind)._fields
    return kind(*(layout.column_index(path + (renamed or {}).get(field, field)) for field in fields))


class ScanDecoder:
    """Decoder of hub.scans: shared by all partitions, as it keeps nothing between batches."""

    def __init__(self) -> None:
        schemas = load_schemas()
        names = ("Scan", "Advice", "Tick")
        # A handful of fields say nothing of the state: they are checked and skipped.
        self.layout = Layout.of(*(schemas.current(name) for name in names), only=ScanColumns._fields)
        writers = {
            number: (schema, names.index(name)) for number, (name, schema) in schemas.writer_schemas(*names).items()
        }
        self.decoder = ColumnDecoder(self.layout, [schemas.current(name) for name in names], writers)
        self.columns = _numbers(ScanColumns, self.layout)


class ParcelStateCodec:
    """Encoder of parcel.state, and decoder for the way back."""

    def __init__(self) -> None:
        schemas = load_schemas()
        schema = schemas.current("ParcelState")
        self.encoder = ColumnEncoder(
            schema,
            schemas.id("ParcelState"),
            raw=("plan", "timeline[].details", "timeline[].plan"),
            sources={"timeline[].record_hash": HASH_SOURCE, "active_alerts[].alert_id": HASH_SOURCE},
        )
        layout = self.encoder.layout
        self.root = _numbers(StateColumns, layout)
        self.kinds = _numbers(KindColumns, layout, "kinds[].", {"scans": "count"})
        self.entries = _numbers(TimelineEntryColumns, layout, "timeline[].")
        self.kinds_frame = layout.frame_index("kinds[]")
        self.timeline_frame = layout.frame_index("timeline[]")
        self.watched = _numbers(MonitoringColumns, layout)
        self.clocks = _numbers(ClockColumns, layout, "clocks[].")
        self.clocks_frame = layout.frame_index("clocks[]")
        self.standing = _numbers(ActiveAlertColumns, layout, "active_alerts[].")
        self.active_alerts_frame = layout.frame_index("active_alerts[]")
        self.widths = [len(frame.columns) for frame in layout.frames]
        reader = Layout.of(schema, only=StateReaderColumns._fields)
        writers = {number: (text, 0) for number, (_, text) in schemas.writer_schemas("ParcelState").items()}
        self.decoder = ColumnDecoder(reader, [schema], writers, max_value_bytes=_STATE_BYTES)
        self.root_reader_columns = _numbers(StateReaderColumns, reader)
        nested = {
            name: name.replace("_", ".", 1)
            for name in TimelineEntryReaderColumns._fields
            if name.startswith(("details_", "plan_"))
        }
        self.timeline_reader_columns = _numbers(TimelineEntryReaderColumns, reader, "timeline[].", nested)
        self.timeline_reader_frame = reader.frame_index("timeline[]")
        self.active_alert_reader_columns = _numbers(ActiveAlertReaderColumns, reader, "active_alerts[].")
        self.active_alerts_reader_frame = reader.frame_index("active_alerts[]")


class MilestoneEncoder:
    """Encoder of parcel.milestones."""

    def __init__(self) -> None:
        schemas = load_schemas()
        self.encoder = ColumnEncoder(
            schemas.current("Milestone"),
            schemas.id("Milestone"),
            sources={"milestone_id": HASH_SOURCE, "evidence": HASH_SOURCE},
        )
        self.columns = _numbers(MilestoneColumns, self.encoder.layout)
        self.width = len(self.encoder.layout.frames[0].columns)


class AlertEncoder:
    """Encoder of parcel.alerts."""

    def __init__(self) -> None:
        schemas = load_schemas()
        paths = ("alert_id", "withdraws", "evidence[]")
        self.encoder = ColumnEncoder(
            schemas.current("Alert"), schemas.id("Alert"), sources=dict.fromkeys(paths, HASH_SOURCE)
        )
        self.columns = _numbers(AlertColumns, self.encoder.layout)
        self.widths = [len(frame.columns) for frame in self.encoder.layout.frames]


class ThroughputDeltaEncoder:
    """Encoder of hub.throughput."""

    def __init__(self) -> None:
        schemas = load_schemas()
        self.encoder = ColumnEncoder(schemas.current("ThroughputDelta"), schemas.id("ThroughputDelta"))
        self.columns = _numbers(ThroughputDeltaColumns, self.encoder.layout, renamed={"scans": "count"})
        self.width = len(self.encoder.layout.frames[0].columns)


class ThroughputDeltaColumns(NamedTuple):
    """Numbers of the columns of ThroughputDelta."""

    site: int
    station: int
    kind: int
    direction: int
    minute: int
    scans: int  # count


@cache
def scan_decoder() -> ScanDecoder:
    """The one decoder of hub.scans."""
    return ScanDecoder()


@cache
def parcel_state_codec() -> ParcelStateCodec:
    """The one encoder and decoder of parcel.state."""
    return ParcelStateCodec()


@cache
def milestone_encoder() -> MilestoneEncoder:
    """The one encoder of parcel.milestones."""
    return MilestoneEncoder()


@cache
def alert_encoder() -> AlertEncoder:
    """The one encoder of parcel.alerts."""
    return AlertEncoder()


@cache
def throughput_delta_encoder() -> ThroughputDeltaEncoder:
    """The one encoder of hub.throughput."""
    return ThroughputDeltaEncoder()
