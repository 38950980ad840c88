"""Grafana dashboards as Python: rows of panels with their queries.

The classic model: Grafana 10 to 13 load it from a file. Queries name metrics through a catalogue, so a panel cannot
ask for one that does not exist.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from streams.observe.metric_catalogue import Metric, MetricType

_FOLDER: Final = Path(__file__).parents[2] / "deploy" / "grafana" / "dashboards" / "parcels"

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


DashboardRows = Sequence[tuple[str, Sequence[Panel]]]


@dataclass(frozen=True, slots=True)
class Dashboard:
    """One dashboard: the file it is in, and its rows of panels."""

    name: str
    title: str
    description: str
    # The module that writes it.
    generator_module: str
    # What every process that it shows exports.
    variable_metric: Metric
    rows: DashboardRows

    @property
    def file(self) -> Path:
        """Where it is."""
        return _FOLDER / f"{self.name}.json"

    def text(self) -> str:
        """The file's text."""
        return json.dumps(_model(self), indent=2) + "\n"

    def write(self) -> None:
        """Write the file."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.file.write_text(self.text(), encoding="utf-8")
        print(self.file)  # noqa: T201


def selector(metric: Metric | str) -> str:
    """The samples of a metric, of what was chosen on the dashboard."""
    return f"{metric if isinstance(metric, str) else metric.name}{_SELECT}"


def rate(metric: Metric, by: str = "") -> str:
    """Its increase a second; of a histogram, the observations."""
    name = metric.series[-1] if metric.type is MetricType.HISTOGRAM else metric.name
    return f"sum{f' by ({by}) ' if by else ''}(rate({selector(name)}[$__rate_interval]))"


def _quantile(metric: Metric, quantile: float) -> str:
    return f"histogram_quantile({quantile:g}, sum by (le) (rate({selector(metric.series[0])}[$__rate_interval])))"


def quantiles(metric: Metric) -> list[tuple[str, str]]:
    """Two queries of a histogram, with their legends."""
    return [(_quantile(metric, 0.5), "half within"), (_quantile(metric, 0.99), "99 % within")]


def share_within(metric: Metric, upper_bound: float) -> str:
    """Share of the observations up to an edge of a bucket."""
    if upper_bound not in metric.buckets:
        message = f"{metric.name} has no bucket that ends at {upper_bound:g}"
        raise ValueError(message)
    kept = selector(metric.series[0]).replace("{", f'{{le="{upper_bound}", ', 1)
    return f"sum(rate({kept}[$__rate_interval])) / {rate(metric)}"


def _model(board: Dashboard) -> dict[str, Any]:
    panels: list[dict[str, Any]] = []
    top = 0
    for title, members in board.rows:
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
        "uid": f"parcel-{board.name}",
        "title": board.title,
        "description": f"{board.description} Made by python -m {board.generator_module}.",
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
        "templating": {
            "list": [
                _source_variable(),
                _variable(board.variable_metric, "job"),
                _variable(board.variable_metric, "instance", 'job=~"$job"'),
            ]
        },
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


def _variable(metric: Metric, label: str, matchers: str = "") -> dict[str, Any]:
    query = f"label_values({metric.name}{{{matchers}}}, {label})"
    return {
        "name": label,
        "label": label.capitalize(),
        "type": "query",
        "datasource": _SOURCE,
        "definition": query,
        "query": {"query": query, "refId": f"variable-{label}"},
        # When the time range changes: processes come and go.
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".+",
        "current": {"text": "All", "value": "$__all"},
        "hide": 0,
    }
