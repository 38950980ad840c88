"""Catalogue of all metrics that a capture gateway exports; label values come from closed sets, as those of a worker."""

from typing import Final

from streams.observe.metric_catalogue import BUILD_INFO
from streams.observe.metric_definition import Label, Metric, MetricType
from streams.telemetry.gateway_events import DENIAL_REASONS, RECORD_RESULTS, ROUTE_LABELS

# Job name under which Prometheus scrapes gateways; the rules and the dashboard use it.
JOB: Final = "parcels-gateways"

ROUTE: Final = Label(
    "route", ROUTE_LABELS, "Purpose of the request: send scans, a document or an event, or read something."
)
STATUS: Final = Label(
    "status",
    ("200", "201", "202", "400", "401", "403", "404", "405", "408", "409", "413", "415", "429", "503"),
    "HTTP status of the response.",
)
RESULT: Final = Label("result", RECORD_RESULTS, "Result of a record or an event.")
DENIAL: Final = Label("reason", DENIAL_REASONS, "Reason why a request or a record was denied.")

REQUESTS: Final = Metric(
    "parcel_gateway_requests_total", MetricType.COUNTER, "requests", "Requests answered.", (ROUTE, STATUS)
)
REQUEST_DURATION: Final = Metric(
    "parcel_gateway_request_duration_seconds",
    MetricType.HISTOGRAM,
    "seconds",
    "Time from the headers of a request that sends records until its response, including the disk sync.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0),
)
RECORDS: Final = Metric(
    "parcel_gateway_records_total", MetricType.COUNTER, "records", "Records and events received.", (RESULT,)
)
DENIED_REQUESTS: Final = Metric(
    "parcel_gateway_denied_total",
    MetricType.COUNTER,
    "requests",
    "Requests and records denied: the sender is not authenticated, has no permission, or sends too fast.",
    (DENIAL,),
)
SPOOL_PENDING_BYTES: Final = Metric(
    "parcel_gateway_spool_pending_bytes", MetricType.GAUGE, "bytes", "Bytes in the spool that are not in Kafka yet."
)
SPOOL_LIMIT_BYTES: Final = Metric(
    "parcel_gateway_spool_limit_bytes",
    MetricType.GAUGE,
    "bytes",
    "Limit of the pending bytes; beyond it the gateway answers 503.",
)
SPOOL_UNAVAILABLE: Final = Metric(
    "parcel_gateway_spool_unavailable",
    MetricType.GAUGE,
    "",
    "1 while the gateway accepts no records because of its spool, else 0.",
)
SPOOL_SYNCS: Final = Metric(
    "parcel_gateway_spool_syncs_total",
    MetricType.COUNTER,
    "syncs",
    "Disk syncs of the spool; each covers a group of requests.",
)
SPOOL_WRITES: Final = Metric(
    "parcel_gateway_spool_writes_total",
    MetricType.COUNTER,
    "requests",
    "Requests written to the spool, one or more for each disk sync.",
)
SPOOL_SYNC_SECONDS: Final = Metric(
    "parcel_gateway_spool_sync_seconds_total", MetricType.COUNTER, "seconds", "Time spent in disk syncs of the spool."
)
FORWARDED_RECORDS: Final = Metric(
    "parcel_gateway_forwarded_records_total",
    MetricType.COUNTER,
    "records",
    "Records acknowledged by Kafka, repeated ones included.",
)
KAFKA_UNAVAILABLE: Final = Metric(
    "parcel_gateway_kafka_unavailable",
    MetricType.GAUGE,
    "",
    "1 while Kafka accepts no records of this gateway, else 0.",
)

CATALOGUE: Final[tuple[Metric, ...]] = (
    REQUESTS,
    REQUEST_DURATION,
    RECORDS,
    DENIED_REQUESTS,
    SPOOL_PENDING_BYTES,
    SPOOL_LIMIT_BYTES,
    SPOOL_UNAVAILABLE,
    SPOOL_SYNCS,
    SPOOL_WRITES,
    SPOOL_SYNC_SECONDS,
    FORWARDED_RECORDS,
    KAFKA_UNAVAILABLE,
    BUILD_INFO,
)
