"""The Grafana dashboard of the gateways; `python -m streams.observe.gateway_dashboard` generates it."""

from typing import Final

from streams.observe import gateway_metric_catalogue as catalogue
from streams.observe.grafana import Dashboard, DashboardRows, Panel, quantiles, rate, selector

_CONFLICTS: Final = selector(catalogue.RECORDS).replace("{", '{result="conflict", ', 1)

ROWS: Final[DashboardRows] = (
    (
        "Now",
        (
            Panel("Records", catalogue.RECORDS.help, "cps", [(rate(catalogue.RECORDS), "")], "stat", 4),
            Panel(
                "Gateways that accept nothing",
                catalogue.SPOOL_UNAVAILABLE.help,
                "short",
                [(f"sum({selector(catalogue.SPOOL_UNAVAILABLE)})", "")],
                "stat",
                4,
                thresholds=((1, "red"),),
            ),
            Panel(
                "Gateways without Kafka",
                catalogue.KAFKA_UNAVAILABLE.help,
                "short",
                [(f"sum({selector(catalogue.KAFKA_UNAVAILABLE)})", "")],
                "stat",
                4,
                thresholds=((1, "orange"),),
            ),
            Panel(
                "Spool usage",
                "Pending bytes as a share of their limit, of the fullest gateway.",
                "percentunit",
                [(f"max({selector(catalogue.SPOOL_PENDING_BYTES)} / {selector(catalogue.SPOOL_LIMIT_BYTES)})", "")],
                "stat",
                4,
                thresholds=((0.5, "orange"), (0.8, "red")),
            ),
            Panel(
                "Conflicts",
                "Number of records in the selected time range that were refused: their id is known with other content. "
                "A sender assigns ids wrongly.",
                "short",
                [(f"sum(increase({_CONFLICTS}[$__range]))", "")],
                "stat",
                4,
                thresholds=((1, "orange"),),
            ),
            Panel(
                "Denials",
                "Number in the selected time range. " + catalogue.DENIED_REQUESTS.help,
                "short",
                [(f"sum(increase({selector(catalogue.DENIED_REQUESTS)}[$__range]))", "")],
                "stat",
                4,
            ),
        ),
    ),
    (
        "Requests",
        (
            Panel(
                "Records by result",
                catalogue.RECORDS.help,
                "cps",
                [(rate(catalogue.RECORDS, "result"), "{{result}}")],
                stacked=True,
            ),
            Panel("Request duration", catalogue.REQUEST_DURATION.help, "s", quantiles(catalogue.REQUEST_DURATION)),
            Panel(
                "Requests by status",
                catalogue.REQUESTS.help,
                "cps",
                [(rate(catalogue.REQUESTS, "route, status") + " > 0", "{{route}} {{status}}")],
            ),
            Panel(
                "Denials by reason",
                catalogue.DENIAL.doc,
                "cps",
                [(rate(catalogue.DENIED_REQUESTS, "reason") + " > 0", "{{reason}}")],
            ),
            Panel(
                "CPU and memory",
                "CPU seconds per second, and memory, of each gateway.",
                "short",
                [
                    (f"rate({selector('process_cpu_seconds_total')}[$__rate_interval])", "CPUs, {{instance}}"),
                    (f"{selector('process_resident_memory_bytes')} / 2^30", "GiB, {{instance}}"),
                ],
            ),
            Panel(
                "Gateways",
                "Gateways that Prometheus can scrape.",
                "short",
                [('sum(up{job=~"$job", instance=~"$instance"})', "gateways up")],
            ),
        ),
    ),
    (
        "Spool and forwarding",
        (
            Panel(
                "Pending bytes",
                catalogue.SPOOL_PENDING_BYTES.help + " " + catalogue.SPOOL_LIMIT_BYTES.help,
                "bytes",
                [
                    (f"max by (instance) ({selector(catalogue.SPOOL_PENDING_BYTES)})", "{{instance}}"),
                    (f"min({selector(catalogue.SPOOL_LIMIT_BYTES)})", "limit"),
                ],
            ),
            Panel(
                "Forwarded records",
                catalogue.FORWARDED_RECORDS.help,
                "cps",
                [(rate(catalogue.FORWARDED_RECORDS), "records")],
            ),
            Panel(
                "Disk syncs",
                "Disk syncs per second, and requests for each sync.",
                "short",
                [
                    (rate(catalogue.SPOOL_SYNCS), "syncs per second"),
                    (f"{rate(catalogue.SPOOL_WRITES)} / {rate(catalogue.SPOOL_SYNCS)}", "requests per sync"),
                ],
            ),
            Panel(
                "Disk sync duration",
                catalogue.SPOOL_SYNC_SECONDS.help,
                "s",
                [(f"{rate(catalogue.SPOOL_SYNC_SECONDS)} / {rate(catalogue.SPOOL_SYNCS)}", "seconds")],
            ),
        ),
    ),
)

DASHBOARD: Final = Dashboard(
    "gateways",
    "Parcel gateways",
    "Gateways receive scans and EPCIS events, store them in the spool on disk, and forward them to Kafka.",
    "streams.observe.gateway_dashboard",
    catalogue.SPOOL_UNAVAILABLE,
    ROWS,
)

if __name__ == "__main__":
    DASHBOARD.write()
