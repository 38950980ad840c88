"""The events of a gateway become metrics and log lines, which never contain the content of a request."""

import io
import json
from pathlib import Path

import structlog

from streams.observe import logs
from streams.observe.gateway_metric_catalogue import CATALOGUE
from streams.observe.gateway_metrics import GatewayMetrics
from streams.telemetry import gateway_events as events

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "capture.md"


def samples(metrics: GatewayMetrics) -> dict[str, float]:
    lines = [line for line in metrics.exposition().decode().splitlines() if line and line[0] != "#"]
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}


def test_requests_and_the_spool_are_counted() -> None:
    metrics = GatewayMetrics(log=structlog.get_logger())
    metrics(events.RequestAnswered("scans", 200, 0.004, accepted=9, duplicates=2, rejected=1))
    metrics(events.RequestAnswered("read", 404, 0.001))
    metrics(events.GatewayState(1_000, 5, 3, 7, 0.5, 8_000))
    metrics(events.GatewayState(500, 9, 4, 9, 0.75, 8_000))
    found = samples(metrics)
    assert found['parcel_gateway_requests_total{route="scans",status="200"}'] == 1
    assert found['parcel_gateway_records_total{result="accepted"}'] == 9
    assert found['parcel_gateway_request_duration_seconds_bucket{le="0.005"}'] == 1
    assert found["parcel_gateway_spool_pending_bytes"] == 500
    assert found["parcel_gateway_spool_limit_bytes"] == 8_000
    assert found["parcel_gateway_spool_syncs_total"] == 4
    assert found["parcel_gateway_forwarded_records_total"] == 9


def test_every_denial_is_counted_and_logged_without_the_request() -> None:
    stream = io.StringIO()
    logs.configure_logging(stream)
    try:
        metrics = GatewayMetrics(log=structlog.get_logger())
        for reason in events.DENIAL_REASONS:
            metrics(events.RequestDenied(reason, "S7"))
    finally:
        structlog.reset_defaults()
    found = samples(metrics)
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["reason"] for line in lines] == list(events.DENIAL_REASONS)
    assert all(set(line) == {"timestamp", "level", "event", "reason", "device"} for line in lines)
    assert all(found[f'parcel_gateway_denied_total{{reason="{reason}"}}'] == 1 for reason in events.DENIAL_REASONS)


def test_unavailability_is_shown_while_it_lasts() -> None:
    metrics = GatewayMetrics(log=structlog.get_logger())
    metrics(events.SpoolStopped("disk", "no space left"))
    metrics(events.KafkaUnavailable("refused"))
    assert metrics.not_ready_reason() == "no space left"
    assert (
        samples(metrics)["parcel_gateway_spool_unavailable"]
        == samples(metrics)["parcel_gateway_kafka_unavailable"]
        == 1
    )
    metrics(events.SpoolRecovered(1.0))
    metrics(events.KafkaRecovered(1.0))
    assert metrics.not_ready_reason() is None
    assert (
        samples(metrics)["parcel_gateway_spool_unavailable"]
        == samples(metrics)["parcel_gateway_kafka_unavailable"]
        == 0
    )


def test_the_reference_page_has_every_metric() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for metric in CATALOGUE:
        labels = f" by {', '.join(label.name for label in metric.labels)}" if metric.labels else ""
        assert f"| `{metric.name}`{labels} | {metric.help} |" in page
