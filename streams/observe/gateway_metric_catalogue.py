"""Every metric that a capture gateway exports; labels take their values from closed sets, as those of a worker do."""

from typing import Final

from streams.observe.metric_catalogue import BUILD_INFO, Label, Metric, MetricType
from streams.telemetry.gateway_events import DENIAL_REASONS, RECORD_RESULTS, ROUTE_LABELS

# The job under which Prometheus scrapes gateways; rules and the dashboard know it by this name.
JOB: Final = "parcels-gateways"

ROUTE: Final = Label("route", ROUTE_LABELS, "What was asked for: scans, a document, an event, or to look at something.")
STATUS: Final = Label(
    "status",
    ("200", "201", "202", "400", "401", "403", "404", "405", "408", "409", "413", "415", "429", "503"),
    "Status of the answer.",
)
RESULT: Final = Label("result", RECORD_RESULTS, "What became of a record or an event.")
DENIAL: Final = Label("reason", DENIAL_REASONS, "Why somebody was turned away.")

REQUESTS: Final = Metric(
    "parcel_gateway_requests_total", MetricType.COUNTER, "requests", "Requests answered.", (ROUTE, STATUS)
)
RESPONSE_SECONDS: Final = Metric(
    "parcel_gateway_answer_seconds",
    MetricType.HISTOGRAM,
    "seconds",
    "From the head of a request that brings records until its answer, the sync of the disk included.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0),
)
RECORDS: Final = Metric(
    "parcel_gateway_records_total", MetricType.COUNTER, "records", "Records and events that came.", (RESULT,)
)
DENIED_REQUESTS: Final = Metric(
    "parcel_gateway_denied_total",
    MetricType.COUNTER,
    "requests",
    "Requests and records of somebody who may not.",
    (DENIAL,),
)
SPOOL_WAITING_BYTES: Final = Metric(
    "parcel_gateway_spool_waiting_bytes", MetricType.GAUGE, "bytes", "Bytes in the spool that are not in Kafka yet."
)
SPOOL_LIMIT_BYTES: Final = Metric(
    "parcel_gateway_spool_limit_bytes", MetricType.GAUGE, "bytes", "Bytes that may wait for Kafka; beyond them, 503."
)
SPOOL_STOPPED: Final = Metric(
    "parcel_gateway_spool_stopped", MetricType.GAUGE, "", "1 while nothing is accepted because of the spool, else 0."
)
SPOOL_SYNCS: Final = Metric(
    "parcel_gateway_spool_syncs_total", MetricType.COUNTER, "syncs", "Groups of requests synced to disk."
)
SPOOL_FRAMES: Final = Metric(
    "parcel_gateway_spool_frames_total",
    MetricType.COUNTER,
    "requests",
    "Requests written to the spool, some to each sync.",
)
SPOOL_SYNC_SECONDS: Final = Metric(
    "parcel_gateway_spool_sync_seconds_total", MetricType.COUNTER, "seconds", "Time spent waiting for the disk."
)
SENT_RECORDS: Final = Metric(
    "parcel_gateway_sent_records_total",
    MetricType.COUNTER,
    "records",
    "Records that Kafka acknowledged, repeats included.",
)
KAFKA_AWAY: Final = Metric("parcel_gateway_kafka_away", MetricType.GAUGE, "", "1 while Kafka takes no records, else 0.")

CATALOGUE: Final[tuple[Metric, ...]] = (
    REQUESTS,
    RESPONSE_SECONDS,
    RECORDS,
    DENIED_REQUESTS,
    SPOOL_WAITING_BYTES,
    SPOOL_LIMIT_BYTES,
    SPOOL_STOPPED,
    SPOOL_SYNCS,
    SPOOL_FRAMES,
    SPOOL_SYNC_SECONDS,
    SENT_RECORDS,
    KAFKA_AWAY,
    BUILD_INFO,
)
