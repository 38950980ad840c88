"""Codecs of the parcel processor: a decoder or encoder for each topic, and the indexes of its columns.

All partitions share them: a codec keeps nothing between batches.
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
_MAX_STATE_BYTES: Final = 16 << 20

_Columns = TypeVar("_Columns")


def _column_indexes(
    columns: Callable[..., _Columns], layout: Layout, path: str = "", renamed: Mapping[str, str] | None = None
) -> _Columns:
    """An instance of the NamedTuple `columns` with the index of each field's column.

    Args:
        columns: the NamedTuple.
        layout: of the schema.
        path: prefix of the fields in the schema.
        renamed: field -> its name in the schema, where they differ.
    """
    fields: tuple[str, ...] = cast(Any, columns)._fields
    return columns(*(layout.column_index(path + (renamed or {}).get(field, field)) for field in fields))


class ScanDecoder:
    """Decoder of hub.scans."""

    def __init__(self) -> None:
        schemas = load_schemas()
        names = ("Scan", "Advice", "Tick")
        # The other fields do not matter to the state: they are checked and skipped.
        self.layout = Layout.of(*(schemas.current(name) for name in names), only=ScanColumns._fields)
        writers = {
            number: (schema, names.index(name)) for number, (name, schema) in schemas.writer_schemas(*names).items()
        }
        self.decoder = ColumnDecoder(self.layout, [schemas.current(name) for name in names], writers)
        self.columns = _column_indexes(ScanColumns, self.layout)


class ParcelStateCodec:
    """Encoder and decoder of parcel.state."""

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
        self.root_columns = _column_indexes(StateColumns, layout)
        self.kind_columns = _column_indexes(KindColumns, layout, "kinds[].", {"scans": "count"})
        self.timeline_columns = _column_indexes(TimelineEntryColumns, layout, "timeline[].")
        self.kinds_frame = layout.frame_index("kinds[]")
        self.timeline_frame = layout.frame_index("timeline[]")
        self.monitoring_columns = _column_indexes(MonitoringColumns, layout)
        self.clock_columns = _column_indexes(ClockColumns, layout, "clocks[].")
        self.clocks_frame = layout.frame_index("clocks[]")
        self.active_alert_columns = _column_indexes(ActiveAlertColumns, layout, "active_alerts[].")
        self.active_alerts_frame = layout.frame_index("active_alerts[]")
        self.widths = [len(frame.columns) for frame in layout.frames]
        reader = Layout.of(schema, only=StateReaderColumns._fields)
        writers = {number: (text, 0) for number, (_, text) in schemas.writer_schemas("ParcelState").items()}
        self.decoder = ColumnDecoder(reader, [schema], writers, max_value_bytes=_MAX_STATE_BYTES)
        self.root_reader_columns = _column_indexes(StateReaderColumns, reader)
        nested = {
            name: name.replace("_", ".", 1)
            for name in TimelineEntryReaderColumns._fields
            if name.startswith(("details_", "plan_"))
        }
        self.timeline_reader_columns = _column_indexes(TimelineEntryReaderColumns, reader, "timeline[].", nested)
        self.timeline_reader_frame = reader.frame_index("timeline[]")
        self.active_alert_reader_columns = _column_indexes(ActiveAlertReaderColumns, reader, "active_alerts[].")
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
        self.columns = _column_indexes(MilestoneColumns, self.encoder.layout)
        self.width = len(self.encoder.layout.frames[0].columns)


class AlertEncoder:
    """Encoder of parcel.alerts."""

    def __init__(self) -> None:
        schemas = load_schemas()
        paths = ("alert_id", "withdraws", "evidence[]")
        self.encoder = ColumnEncoder(
            schemas.current("Alert"), schemas.id("Alert"), sources=dict.fromkeys(paths, HASH_SOURCE)
        )
        self.columns = _column_indexes(AlertColumns, self.encoder.layout)
        self.widths = [len(frame.columns) for frame in self.encoder.layout.frames]


class ThroughputDeltaEncoder:
    """Encoder of hub.throughput."""

    def __init__(self) -> None:
        schemas = load_schemas()
        self.encoder = ColumnEncoder(schemas.current("ThroughputDelta"), schemas.id("ThroughputDelta"))
        self.columns = _column_indexes(ThroughputDeltaColumns, self.encoder.layout, renamed={"scans": "count"})
        self.width = len(self.encoder.layout.frames[0].columns)


class ThroughputDeltaColumns(NamedTuple):
    """Indexes of the columns of ThroughputDelta."""

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
