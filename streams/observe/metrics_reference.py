"""The reference page of the metrics, generated from the catalogue by `python -m streams.observe.metrics_reference`."""

from pathlib import Path

from streams.observe.metric_catalogue import CATALOGUE, PROCESS_METRICS, SCRAPE_METRICS, Label, Metric, MetricType

PAGE_PATH = Path(__file__).parents[2] / "docs" / "reference" / "metrics.md"

_HEAD = """\
A worker started with `--metrics-port N` serves them on `http://127.0.0.1:N/metrics`. Counters count since the start of
the process. Every combination of label values exists from the start, at 0, and no other value is ever shown: what is
outside a set counts under its last word."""
_BUCKETS = """\
Promises lie on an edge of a bucket, so that the share kept is a ratio of two series and no interpolation."""


def render_page() -> str:
    """The page, as Markdown."""
    labels = {label.name: label for metric in CATALOGUE for label in metric.labels}
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
            *map(_label, labels.values()),
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
            "## Beside them",
            "",
            "From the Prometheus client, about the process, and from Prometheus, about the scrape:",
            "",
            *(f"- `{name}`: {meaning}" for name, meaning in (PROCESS_METRICS | SCRAPE_METRICS).items()),
            "",
        ]
    )


def _row(metric: Metric) -> str:
    labels = ", ".join(f"`{label.name}`" for label in metric.labels)
    return f"| `{metric.name}` | {metric.type} | {metric.unit} | {labels} | {metric.help} |"


def _label(label: Label) -> str:
    known = (*label.values, label.other) if label.values is not None else ()
    values = ", ".join(f"`{value}`" for value in dict.fromkeys(known))
    return f"| `{label.name}` | {values or 'known at the start'} | {label.doc} |"


if __name__ == "__main__":
    PAGE_PATH.parent.mkdir(parents=True, exist_ok=True)
    PAGE_PATH.write_text(render_page(), encoding="utf-8")
    print(PAGE_PATH)  # noqa: T201
