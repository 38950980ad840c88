"""The board of `parcels demo`: figures from /metrics of a worker and from parcel.milestones, drawn with Rich.

It uses only the public interfaces of the worker, as Prometheus and a downstream service do.
"""

import time
import urllib.error
import urllib.request
from collections import Counter, deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import BytesIO
from itertools import pairwise
from typing import Any, Final, cast

from confluent_kafka import OFFSET_BEGINNING, TopicPartition
from fastavro import parse_schema, schemaless_reader
from prometheus_client.parser import text_string_to_metric_families
from rich.bar import Bar
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from streams.errors import StreamsError
from streams.formats.schemas import load_schemas
from streams.formats.topics import MILESTONES_TOPIC
from streams.kafka.clients import new_consumer, partition_count
from streams.kafka.settings import KafkaSettings
from streams.observe import metric_catalogue
from streams.observe.metric_definition import Metric

# Rates and latencies cover this time: long enough not to flicker, short enough to follow a wave of arrivals.
_WINDOW_SECONDS: Final = 3.0
_LAST_MILESTONES: Final = 7
_BARS: Final = " ▁▂▃▄▅▆▇█"
_HISTORY: Final = 16
_QUANTILES: Final = (0.5, 0.99)


@dataclass(frozen=True, slots=True)
class MetricsSnapshot:
    """The metrics of a worker at one time."""

    monotonic_time: float  # seconds
    scans: float
    scans_by_kind: Mapping[str, float]
    records: float
    duplicates: float
    dead_letters: Mapping[str, float]
    states: float
    milestones: float
    parcels_by_stage: Mapping[str, float]
    lag_records: float
    lag_seconds: float
    hub_time: float
    # (upper edge in seconds, records up to it), ascending.
    scan_to_state: tuple[tuple[float, float], ...]


def scrape_worker(url: str) -> MetricsSnapshot:
    """Read the metrics of a worker.

    Raises:
        OSError: no worker answers at `url`.
    """
    with urllib.request.urlopen(f"{url}/metrics", timeout=5) as answer:  # noqa: S310
        families = list(text_string_to_metric_families(answer.read().decode()))
    samples: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in families:
        for sample in family.samples:
            samples.setdefault(sample.name, []).append((sample.labels, sample.value))

    def by(metric: Metric, label: str) -> dict[str, float]:
        found: Counter[str] = Counter()
        for labels, value in samples.get(metric.name, ()):
            found[labels[label]] += cast(int, value)
        return dict(found)

    def total(metric: Metric) -> float:
        return sum(value for _, value in samples.get(metric.name, ()))

    kinds = by(metric_catalogue.SCANS, "kind")
    return MetricsSnapshot(
        monotonic_time=time.monotonic(),
        scans=sum(kinds.values()),
        scans_by_kind=kinds,
        records=total(metric_catalogue.RECORDS),
        duplicates=total(metric_catalogue.DUPLICATES),
        dead_letters={reason: n for reason, n in by(metric_catalogue.DEAD_LETTERS, "reason").items() if n},
        states=total(metric_catalogue.STATES),
        milestones=total(metric_catalogue.MILESTONES),
        parcels_by_stage=by(metric_catalogue.IN_HUB_PARCELS, "stage"),
        lag_records=total(metric_catalogue.LAG_RECORDS),
        lag_seconds=max((value for _, value in samples.get(metric_catalogue.LAG_SECONDS.name, ())), default=0.0),
        hub_time=total(metric_catalogue.HUB_TIME),
        scan_to_state=tuple(
            (float(labels["le"]), value) for labels, value in samples.get(metric_catalogue.SCAN_TO_STATE.series[0], ())
        ),
    )


def is_ready(url: str) -> bool:
    """Whether the worker answers /readyz, so processes its partitions."""
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=5):  # noqa: S310
            return True
    except (urllib.error.URLError, OSError):
        return False


def histogram_quantile(
    quantile: float, earlier: Sequence[tuple[float, float]], later: Sequence[tuple[float, float]]
) -> float | None:
    """A quantile (0 to 1) of the observations between two readings of a histogram; None without observations.

    Within a bucket the observations are assumed to be spread evenly, as in Prometheus.

    >>> histogram_quantile(0.5, [(1.0, 0), (2.0, 0), (float("inf"), 0)], [(1.0, 0), (2.0, 10), (float("inf"), 10)])
    1.5
    """
    earlier_counts = dict(earlier)
    new = [(edge, count - earlier_counts.get(edge, 0.0)) for edge, count in later]
    if not new or new[-1][1] <= 0:
        return None
    rank = quantile * new[-1][1]
    for (low, below), (high, upto) in pairwise([(0.0, 0.0), *new]):
        if upto >= rank:
            # Rounding must not carry the value over the upper edge.
            return low if high == float("inf") else min(high, low + (high - low) * (rank - below) / (upto - below))
    return new[-1][0]


class MilestoneReader:
    """Follows parcel.milestones as a downstream service does: committed records only, decoded with fastavro."""

    def __init__(self, settings: KafkaSettings) -> None:
        self.latest: deque[dict[str, Any]] = deque(maxlen=_LAST_MILESTONES)
        # The parcel with the most milestones has the most interesting history.
        self.counts_by_parcel: Counter[str] = Counter()
        schemas = load_schemas()
        self._writers = {
            number: parse_schema(schema) for number, (_, schema) in schemas.writer_schemas("Milestone").items()
        }
        self._reader = parse_schema(schemas.current("Milestone"))
        self._consumer = new_consumer(settings, "board")
        topic = settings.prefix + MILESTONES_TOPIC
        count = partition_count(self._consumer, topic)
        self._consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in range(count)])

    def poll(self) -> None:
        """Read the milestones that have arrived since the last call, without waiting."""
        values: list[bytes] = []
        while messages := self._consumer.consume(10_000, 0):
            for message in messages:
                # The client recovers from an error by itself. A record without a value holds no milestone.
                if message.error() is not None or message.value() is None:
                    continue
                self.counts_by_parcel[cast(bytes, message.key()).decode()] += 1
                values.append(cast(bytes, message.value()))
        for value in values[-_LAST_MILESTONES:]:
            writer = self._writers[int.from_bytes(value[1:5], "big")]
            decoded = schemaless_reader(BytesIO(value[5:]), writer, self._reader)
            self.latest.appendleft(cast("dict[str, Any]", decoded))

    def close(self) -> None:
        """Close the consumer."""
        self._consumer.close()


@contextmanager
def milestone_reader(settings: KafkaSettings) -> Iterator[MilestoneReader]:
    """A MilestoneReader that is closed at the end."""
    reader = MilestoneReader(settings)
    try:
        yield reader
    finally:
        reader.close()


@dataclass(slots=True)
class Board:
    """The metrics of the worker at `url` over the last seconds."""

    url: str
    title: str
    snapshots: deque[MetricsSnapshot] = field(default_factory=deque)
    rate_history: deque[float] = field(default_factory=lambda: deque(maxlen=_HISTORY))

    def refresh(self) -> MetricsSnapshot:
        """Read the metrics of the worker once more.

        Raises:
            StreamsError: the worker does not answer.
        """
        try:
            snapshot = scrape_worker(self.url)
        except OSError as error:
            raise StreamsError(f"the worker does not answer at {self.url}: {error}") from error
        self.snapshots.append(snapshot)
        while len(self.snapshots) > 2 and self.snapshots[1].monotonic_time < snapshot.monotonic_time - _WINDOW_SECONDS:
            self.snapshots.popleft()
        self.rate_history.append(self.rate())
        return snapshot

    def rate(self) -> float:
        """Scans a second, over the last seconds."""
        first, last = self.snapshots[0], self.snapshots[-1]
        return (
            (last.scans - first.scans) / (last.monotonic_time - first.monotonic_time)
            if last.monotonic_time > first.monotonic_time
            else 0.0
        )

    def latency(self) -> tuple[float | None, float | None]:
        """Seconds from scan to state over the last seconds, p50 and p99."""
        first, last = self.snapshots[0], self.snapshots[-1]
        p50, p99 = (histogram_quantile(quantile, first.scan_to_state, last.scan_to_state) for quantile in _QUANTILES)
        return p50, p99

    def summary_line(self) -> str:
        """The figures as one line of text."""
        now = self.snapshots[-1]
        p50, p99 = self.latency()
        return (
            f"{_clock(now.hub_time)}  {now.scans:,.0f} scans, {self.rate():,.0f}/s, "
            f"{sum(now.parcels_by_stage.values()):,.0f} parcels in the hub, scan to state {_ms(p50)} (p99 {_ms(p99)}), "
            f"lag {now.lag_records:,.0f}, {sum(now.dead_letters.values()):,.0f} dead letters"
        )

    def render(self, milestones: Sequence[Mapping[str, Any]]) -> RenderableType:
        """The board, for a terminal of at least 24 lines and 80 columns."""
        clock = _clock(self.snapshots[-1].hub_time)
        head = Text.assemble((f" {self.title} ", "bold reverse"), f"  hub time {clock}", style="bold", no_wrap=True)
        upper = Table.grid(expand=True)
        upper.add_column(ratio=1)
        upper.add_column(ratio=1)
        upper.add_row(_panel("Flow", self._flow()), _panel("Parcels by stage", self._stages()))
        return Group(head, upper, self._dead_letters(), _panel("Last milestones", _milestones(milestones)))

    def _flow(self) -> Table:
        now = self.snapshots[-1]
        p50, p99 = self.latency()
        table = _figures()
        table.add_row("scans", f"{now.scans:,.0f}")
        table.add_row("scans/s", f"{self.rate():,.0f}")
        table.add_row("", Text(_sparkline(self.rate_history), style="cyan"))
        table.add_row("scan to state p50", _ms(p50))
        table.add_row("p99", _ms(p99))
        table.add_row("lag, records", f"{now.lag_records:,.0f}")
        table.add_row("lag, seconds", f"{now.lag_seconds:.1f}")
        table.add_row("duplicates dropped", f"{now.duplicates:,.0f}")
        table.add_row("states written", f"{now.states:,.0f}")
        table.add_row("milestones written", f"{now.milestones:,.0f}")
        return table

    def _stages(self) -> Table:
        now = self.snapshots[-1]
        stages = [(stage, now.parcels_by_stage.get(stage, 0.0)) for stage in metric_catalogue.STAGE.values or ()]
        most = max((count for _, count in stages), default=0.0) or 1.0
        table = _figures()
        table.add_column(ratio=1)
        for stage, count in stages:
            table.add_row(stage, f"{count:,.0f}", Bar(most, 0, count, color="green"))
        table.add_row("in the hub", Text(f"{sum(now.parcels_by_stage.values()):,.0f}", style="bold"), "")
        for kind in ("DISPATCHED", "DELIVERED"):
            table.add_row(f"{kind} scans", f"{now.scans_by_kind.get(kind, 0.0):,.0f}", "")
        return table

    def _dead_letters(self) -> Text:
        counts = sorted(self.snapshots[-1].dead_letters.items(), key=lambda item: -item[1])
        reasons = ", ".join(f"{reason} {count:,.0f}" for reason, count in counts) or "none"
        total = sum(count for _, count in counts)
        return Text.assemble(
            (f"  dead letters {total:,.0f}: ", "dim"), (reasons, "yellow"), no_wrap=True, overflow="ellipsis"
        )


def _milestones(milestones: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), expand=True)
    for _ in range(5):
        table.add_column(no_wrap=True, overflow="ellipsis")
    styles = {"REACHED": "green", "CORRECTED": "yellow", "RETRACTED": "red"}
    for row in milestones:
        table.add_row(
            f"{row['event_time']:%a %H:%M:%S}",
            Text(row["parcel_id"], style="cyan"),
            Text(f"{row['type'].lower()} {row['stage']}", style=styles.get(row["type"], "")),
            # Sites and stations come from outside: they are text and never markup.
            Text(f"{row['site']} {row['station']}".strip()),
            "" if row["direction"] == "UNKNOWN" else row["direction"].lower(),
        )
    for _ in range(_LAST_MILESTONES - len(milestones)):
        table.add_row("", "", "", "", "")
    return table


def _figures() -> Table:
    table = Table(box=None, show_header=False, padding=(0, 1, 0, 0), expand=True)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(justify="right", min_width=7)
    return table


def _panel(title: str, content: RenderableType) -> Panel:
    return Panel(content, title=title, title_align="left")


def _sparkline(values: Collection[float]) -> str:
    top = max(values, default=0.0) or 1.0
    return "".join(_BARS[round(value / top * (len(_BARS) - 1))] for value in values)


def _clock(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%a %d %b %H:%M}" if seconds else "before the first tick"


def _ms(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds * 1000:,.0f} ms" if seconds < 10 else f"{seconds:,.1f} s"
