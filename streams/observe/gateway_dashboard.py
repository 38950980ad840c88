"""The Grafana dashboard of the gateways: `python -m streams.observe.gateway_dashboard` writes it."""

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
                "Gateways that take nothing",
                catalogue.SPOOL_STOPPED.help,
                "short",
                [(f"sum({selector(catalogue.SPOOL_STOPPED)})", "")],
                "stat",
                4,
                thresholds=((1, "red"),),
            ),
            Panel(
                "Gateways without Kafka",
                catalogue.KAFKA_AWAY.help,
                "short",
                [(f"sum({selector(catalogue.KAFKA_AWAY)})", "")],
                "stat",
                4,
                thresholds=((1, "orange"),),
            ),
            Panel(
                "Spool filled",
                "Share of what may wait for Kafka, of the fullest gateway.",
                "percentunit",
                [(f"max({selector(catalogue.SPOOL_WAITING_BYTES)} / {selector(catalogue.SPOOL_LIMIT_BYTES)})", "")],
                "stat",
                4,
                thresholds=((0.5, "orange"), (0.8, "red")),
            ),
            Panel(
                "Conflicts",
                "In the time shown: refused, because their id is known with other content. A sender numbers wrongly.",
                "short",
                [(f"sum(increase({_CONFLICTS}[$__range]))", "")],
                "stat",
                4,
                thresholds=((1, "orange"),),
            ),
            Panel(
                "Turned away",
                "In the time shown. " + catalogue.DENIED_REQUESTS.help,
                "short",
                [(f"sum(increase({selector(catalogue.DENIED_REQUESTS)}[$__range]))", "")],
                "stat",
                4,
            ),
        ),
    ),
    (
        "In",
        (
            Panel(
                "Records by result",
                catalogue.RECORDS.help,
                "cps",
                [(rate(catalogue.RECORDS, "result"), "{{result}}")],
                stacked=True,
            ),
            Panel("Answers", catalogue.RESPONSE_SECONDS.help, "s", quantiles(catalogue.RESPONSE_SECONDS)),
            Panel(
                "Requests by status",
                catalogue.REQUESTS.help,
                "cps",
                [(rate(catalogue.REQUESTS, "route, status") + " > 0", "{{route}} {{status}}")],
            ),
            Panel(
                "Turned away by reason",
                catalogue.DENIAL.doc,
                "cps",
                [(rate(catalogue.DENIED_REQUESTS, "reason") + " > 0", "{{reason}}")],
            ),
            Panel(
                "Processor and memory",
                "Processor seconds a second, and memory, of each gateway.",
                "short",
                [
                    (f"rate({selector('process_cpu_seconds_total')}[$__rate_interval])", "processors, {{instance}}"),
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
        "Spool and out",
        (
            Panel(
                "Waiting for Kafka",
                catalogue.SPOOL_WAITING_BYTES.help + " " + catalogue.SPOOL_LIMIT_BYTES.help,
                "bytes",
                [
                    (f"max by (instance) ({selector(catalogue.SPOOL_WAITING_BYTES)})", "{{instance}}"),
                    (f"min({selector(catalogue.SPOOL_LIMIT_BYTES)})", "limit"),
                ],
            ),
            Panel("Sent", catalogue.SENT_RECORDS.help, "cps", [(rate(catalogue.SENT_RECORDS), "records")]),
            Panel(
                "Disk",
                "Syncs a second, and requests written by each.",
                "short",
                [
                    (rate(catalogue.SPOOL_SYNCS), "syncs a second"),
                    (f"{rate(catalogue.SPOOL_FRAMES)} / {rate(catalogue.SPOOL_SYNCS)}", "requests a sync"),
                ],
            ),
            Panel(
                "A sync takes",
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
    "Scans and EPCIS events in, onto disk, into Kafka.",
    "streams.observe.gateway_dashboard",
    catalogue.SPOOL_STOPPED,
    ROWS,
)

if __name__ == "__main__":
    DASHBOARD.write()
