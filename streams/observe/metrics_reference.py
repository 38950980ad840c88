"""The reference page of the metrics; `python -m streams.observe.metrics_reference` generates it from the catalogue."""

from collections import Counter
from pathlib import Path

from streams.observe.metric_catalogue import CATALOGUE, PROCESS_METRICS, SCRAPE_METRICS
from streams.observe.metric_definition import Label, Metric, MetricType

PAGE_PATH = Path(__file__).parents[2] / "docs" / "reference" / "metrics.md"

_HEAD = """\
A worker started with `--metrics-port N` serves its metrics on `http://127.0.0.1:N/metrics`. Counters start at 0 when
the process starts. Every combination of label values exists from the start, at 0, and no other value is ever exported.
A value outside the set of its label is counted under `other` (kinds, alert types: `OTHER`; directions: `UNKNOWN`)."""
_BUCKETS = """\
Each service level objective lies on the edge of a bucket. So the share of observations that meet it is a ratio of two
series, without interpolation."""


def render_page() -> str:
    """The page, as Markdown."""
    # Metrics share labels; some labels share a name, and then the page says of which metric each of them is.
    metric_of_label = {label: metric for metric in reversed(CATALOGUE) for label in metric.labels}
    labels = list(dict.fromkeys(label for metric in CATALOGUE for label in metric.labels))
    labels_of_name = Counter(label.name for label in labels)
    return "\n".join(
        [
            "# Metrics",
            "",
            "<!-- Made from streams/observe/metric_catalogue.py by `python -m streams.observe.metrics_reference`. -->",
            "",
            _HEAD,
            "",
            "| metric | type | unit | labels | meaning |",
            "|---|---|---|---|---|",
            *map(_row, CATALOGUE),
            "",
            "## Labels",
            "",
            "| label | values | meaning |",
            "|---|---|---|",
            *(_label(label, metric_of_label[label] if labels_of_name[label.name] > 1 else None) for label in labels),
            "",
            "## Buckets",
            "",
            _BUCKETS,
            "",
            *(
                f"- `{metric.name}`: {', '.join(f'{edge:g}' for edge in metric.buckets)} {metric.unit}"
                for metric in CATALOGUE
                if metric.type is MetricType.HISTOGRAM
            ),
            "",
            "## Metrics from other sources",
            "",
            "The Prometheus client adds metrics of the process; Prometheus adds a metric of the scrape.",
            "",
            *(f"- `{name}`: {meaning}" for name, meaning in (PROCESS_METRICS | SCRAPE_METRICS).items()),
            "",
        ]
    )


def _row(metric: Metric) -> str:
    labels = ", ".join(f"`{label.name}`" for label in metric.labels)
    return f"| `{metric.name}` | {metric.type} | {metric.unit} | {labels} | {metric.help} |"


def _label(label: Label, metric: Metric | None) -> str:
    known = (*label.values, label.other) if label.values is not None else ()
    values = ", ".join(f"`{value}`" for value in dict.fromkeys(known))
    name = f"`{label.name}` of `{metric.name}`" if metric is not None else f"`{label.name}`"
    return f"| {name} | {values or 'known at the start'} | {label.doc} |"


if __name__ == "__main__":
    PAGE_PATH.parent.mkdir(parents=True, exist_ok=True)
    PAGE_PATH.write_text(render_page(), encoding="utf-8")
    print(PAGE_PATH)  # noqa: T201
