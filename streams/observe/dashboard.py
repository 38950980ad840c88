"""The Grafana dashboard of the workers, made from the catalogue: `python -m streams.observe.dashboard` writes it.

The classic model: Grafana 10 to 13 load it from a file. Queries name metrics through the catalogue, so a panel cannot
ask for one that does not exist.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from streams.observe import catalogue
from streams.observe.catalogue import Metric, Type

FILE: Final = Path(__file__).parents[2] / "deploy" / "grafana" / "dashboards" / "parcels" / "workers.json"

_SOURCE: Final = {"type": "prometheus", "uid": "$datasource"}
_SELECT: Final = '{job=~"$job", instance=~"$instance"}'
_WIDTH: Final = 24


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel: what it shows and its queries, as (PromQL, legend)."""

    title: str
    description: str
    unit: str
    queries: Sequence[tuple[str, str]]
    kind: str = "timeseries"
    width: int = 8
    stacked: bool = False
    # (from this value on, colour); the colour below the first is green.
    thresholds: Sequence[tuple[float, str]] = ()


def _now(metric: Metric | str) -> str:
    return f"{metric if isinstance(metric, str) else metric.name}{_SELECT}"


def _rate(metric: Metric, by: str = "") -> str:
    name = metric.series[-1] if metric.type is Type.HISTOGRAM else metric.name
    return f"sum{f' by ({by}) ' if by else ''}(rate({_now(name)}[$__rate_interval]))"


def _quantile(metric: Metric, quantile: float) -> str:
    return f"histogram_quantile({quantile:g}, sum by (le) (rate({_now(metric.series[0])}[$__rate_interval])))"


def _quantiles(metric: Metric) -> list[tuple[str, str]]:
    return [(_quantile(metric, 0.5), "half within"), (_quantile(metric, 0.99), "99 % within")]


def _within(metric: Metric, edge: float) -> str:
    """Share of the observations up to an edge of a bucket."""
    if edge not in metric.buckets:
        message = f"{metric.name} has no bucket that ends at {edge:g}"
        raise ValueError(message)
    kept = _now(metric.series[0]).replace("{", f'{{le="{edge}", ', 1)
    return f"sum(rate({kept}[$__rate_interval])) / {_rate(metric)}"


_SLO: Final = catalogue.SCAN_TO_STATE_SLO_SECONDS

ROWS: Final[Sequence[tuple[str, Sequence[Panel]]]] = (
    (
        "Now",
        (
            Panel("Scans", catalogue.SCANS.help, "cps", [(_rate(catalogue.SCANS), "")], "stat", 4),
            Panel(
                "Parcels in the hub",
                catalogue.IN_HUB_PARCELS.help,
                "short",
                [(f"sum({_now(catalogue.IN_HUB_PARCELS)})", "")],
                "stat",
                4,
            ),
            Panel(
                f"Scan to state within {_SLO:g} s",
                f"Share of the records readable in parcel.state within {_SLO:g} s of their append. Promised: 99 %.",
                "percentunit",
                [(_within(catalogue.SCAN_TO_STATE, _SLO), "")],
                "stat",
                4,
            ),
            Panel(
                "Lag",
                "Worst partition. " + catalogue.LAG_SECONDS.help,
                "s",
                [(f"max({_now(catalogue.LAG_SECONDS)})", "")],
                "stat",
                4,
                thresholds=((10, "orange"), (60, "red")),
            ),
            Panel(
                "Dead letters",
                "In the time shown. " + catalogue.DEAD_LETTERS.help,
                "short",
                [(f"sum(increase({_now(catalogue.DEAD_LETTERS)}[$__range]))", "")],
                "stat",
                4,
                thresholds=((1, "orange"),),
            ),
            Panel(
                "Silence",
                "Since the last commit of any worker. Long silence is fine while nothing arrives.",
                "s",
                [(f"time() - max({_now(catalogue.LAST_BATCH)})", "")],
                "stat",
                4,
            ),
        ),
    ),
    (
        "Flow",
        (
            Panel(
                "Scans by kind",
                catalogue.SCANS.help,
                "cps",
                [(_rate(catalogue.SCANS, "kind") + " > 0", "{{kind}}")],
                width=12,
                stacked=True,
            ),
            Panel(
                "Parcels in the hub by stage",
                catalogue.IN_HUB_PARCELS.help,
                "short",
                [(f"sum by (stage) ({_now(catalogue.IN_HUB_PARCELS)})", "{{stage}}")],
                width=12,
                stacked=True,
            ),
            Panel(
                "Scans by direction",
                catalogue.DIRECTION.doc,
                "cps",
                [(_rate(catalogue.SCANS, "direction"), "{{direction}}")],
            ),
            Panel("Scans by site", catalogue.SITE.doc, "cps", [(_rate(catalogue.SCANS, "site"), "{{site}}")]),
            Panel(
                "Alerts",
                catalogue.ALERTS.help + " " + catalogue.ALERT.doc,
                "cps",
                [(_rate(catalogue.ALERTS, "alert, about") + " > 0", "{{about}} {{alert}}")],
            ),
            Panel(
                "Clocks",
                catalogue.CLOCKS.help,
                "short",
                [(f"sum by (promise) ({_now(catalogue.CLOCKS)})", "{{promise}}")],
            ),
            Panel(
                "Duplicates",
                "Share of the records that repeat one already known. A jump: a sender repeats itself.",
                "percentunit",
                [(f"{_rate(catalogue.DUPLICATES)} / {_rate(catalogue.RECORDS)}", "duplicates")],
            ),
        ),
    ),
    (
        "Latency and lag",
        (
            Panel("Scan to state", catalogue.SCAN_TO_STATE.help, "s", _quantiles(catalogue.SCAN_TO_STATE)),
            Panel(
                "Lag in seconds",
                catalogue.LAG_SECONDS.help,
                "s",
                [(f"max by (partition) ({_now(catalogue.LAG_SECONDS)})", "partition {{partition}}")],
            ),
            Panel(
                "Lag in records",
                catalogue.LAG_RECORDS.help,
                "short",
                [(f"max by (partition) ({_now(catalogue.LAG_RECORDS)})", "partition {{partition}}")],
            ),
        ),
    ),
    (
        "Batches",
        (
            Panel(
                "Where the time goes",
                "Seconds a second in each phase, over all workers. " + catalogue.PHASE.doc,
                "s",
                [(_rate(catalogue.PHASE_SECONDS, "phase"), "{{phase}}")],
                stacked=True,
            ),
            Panel("Batch", catalogue.BATCH_SECONDS.help, "s", _quantiles(catalogue.BATCH_SECONDS)),
            Panel("Transaction", catalogue.TRANSACTION_SECONDS.help, "s", _quantiles(catalogue.TRANSACTION_SECONDS)),
            Panel(
                "Records a batch",
                "Small when idle, for latency; large when behind, for throughput.",
                "short",
                [(f"{_rate(catalogue.RECORDS)} / {_rate(catalogue.BATCH_SECONDS)}", "records")],
            ),
            Panel(
                "Written",
                "States and milestones written to Kafka, and parcels that left parcel.state.",
                "cps",
                [
                    (_rate(catalogue.STATES), "states"),
                    (_rate(catalogue.MILESTONES), "milestones"),
                    (_rate(catalogue.RETIRED), "retired"),
                ],
            ),
            Panel(
                "Processor and memory",
                "Processor seconds a second, and memory, of each worker.",
                "short",
                [
                    (f"rate({_now('process_cpu_seconds_total')}[$__rate_interval])", "processors, {{instance}}"),
                    (f"{_now('process_resident_memory_bytes')} / 2^30", "GiB, {{instance}}"),
                ],
            ),
        ),
    ),
    (
        "Trouble",
        (
            Panel(
                "Dead letters by reason",
                catalogue.DEAD_LETTERS.help + " What each reason means: parcels dlq list.",
                "cps",
                [(_rate(catalogue.DEAD_LETTERS, "reason"), "{{reason}}")],
            ),
            Panel(
                "Partitions held",
                catalogue.PARTITIONS.help + " The sum is the partition count of hub.scans.",
                "short",
                [(f"sum by (instance) ({_now(catalogue.PARTITIONS)})", "{{instance}}")],
                stacked=True,
            ),
            Panel(
                "Rebalances",
                catalogue.REBALANCES.help,
                "cps",
                [
                    (_rate(catalogue.REBALANCES, "change"), "{{change}}"),
                    (_rate(catalogue.MEMBERSHIPS_LOST, "loss"), "place lost: {{loss}}"),
                ],
            ),
            Panel(
                "Transactions of unknown outcome",
                catalogue.REFENCES.help,
                "cps",
                [(_rate(catalogue.REFENCES, "outcome"), "{{outcome}}")],
            ),
            Panel(
                "Restore",
                catalogue.RESTORE_SECONDS.help,
                "s",
                _quantiles(catalogue.RESTORE_SECONDS),
            ),
            Panel(
                "Workers and broker",
                "Workers that Prometheus can scrape, and workers that no broker answers.",
                "short",
                [
                    ('sum(up{job=~"$job", instance=~"$instance"})', "workers up"),
                    (f"sum({_now(catalogue.BROKER_AWAY)})", "without a broker"),
                ],
            ),
        ),
    ),
)


def dashboard() -> dict[str, Any]:
    """The dashboard, as Grafana's classic model."""
    panels: list[dict[str, Any]] = []
    top = 0
    for title, members in ROWS:
        panels.append(
            {
                "id": len(panels) + 1,
                "type": "row",
                "title": title,
                "collapsed": False,
                "gridPos": {"x": 0, "y": top, "w": _WIDTH, "h": 1},
                "panels": [],
            }
        )
        top += 1
        left = height = 0
        for panel in members:
            if left + panel.width > _WIDTH:
                top, left = top + height, 0
            height = 4 if panel.kind == "stat" else 8
            place = {"x": left, "y": top, "w": panel.width, "h": height}
            panels.append({"id": len(panels) + 1, "gridPos": place, **_panel(panel)})
            left += panel.width
        top += height
    return {
        "uid": "parcel-workers",
        "title": "Parcel workers",
        "description": "Scans in, states of parcels out. Made by python -m streams.observe.dashboard.",
        "tags": ["parcels"],
        "schemaVersion": 42,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "annotations": {"list": []},
        "links": [],
        "templating": {"list": [_source_variable(), _variable("job"), _variable("instance", 'job=~"$job"')]},
        "panels": panels,
    }


def _panel(panel: Panel) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    steps += [{"color": colour, "value": value} for value, colour in panel.thresholds]
    defaults: dict[str, Any] = {"unit": panel.unit, "min": 0, "thresholds": {"mode": "absolute", "steps": steps}}
    options: dict[str, Any]
    if panel.kind == "stat":
        options = {
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "graphMode": "area",
            "colorMode": "value" if panel.thresholds else "none",
        }
    else:
        defaults["custom"] = {
            "drawStyle": "line",
            "fillOpacity": 20 if panel.stacked else 0,
            "stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"},
        }
        options = {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        }
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": _SOURCE,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": options,
        "targets": [
            {
                "refId": chr(ord("A") + number),
                "datasource": _SOURCE,
                "expr": query,
                "legendFormat": legend or "__auto",
                "range": True,
                "instant": False,
            }
            for number, (query, legend) in enumerate(panel.queries)
        ],
    }


def _source_variable() -> dict[str, Any]:
    return {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "hide": 0}


def _variable(label: str, matchers: str = "") -> dict[str, Any]:
    query = f"label_values({catalogue.BUILD.name}{{{matchers}}}, {label})"
    return {
        "name": label,
        "label": label.capitalize(),
        "type": "query",
        "datasource": _SOURCE,
        "definition": query,
        "query": {"query": query, "refId": f"variable-{label}"},
        # When the time range changes: workers come and go.
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".+",
        "current": {"text": "All", "value": "$__all"},
        "hide": 0,
    }


def text() -> str:
    """The file's text."""
    return json.dumps(dashboard(), indent=2) + "\n"


if __name__ == "__main__":
    FILE.parent.mkdir(parents=True, exist_ok=True)
    FILE.write_text(text(), encoding="utf-8")
    print(FILE)  # noqa: T201
