"""The Grafana dashboard of the gateways: `python -m streams.observe.gateway_dashboard` writes it."""

from typing import Final

from streams.observe import gateway_metric_catalogue as catalogue
from streams.observe.grafana import Dashboard, Panel, Rows, now, quantiles, rate

_CONFLICTS: Final = now(catalogue.RECORDS).replace("{", '{result="conflict", ', 1)

ROWS: Final[Rows] = (
    (
        "Now",
        (
            Panel("Records", catalogue.RECORDS.help, "cps", [(rate(catalogue.RECORDS), "")], "stat", 4),
            Panel(
                "Gateways that take nothing",
                catalogue.STOPPED.help,
                "short",
                [(f"sum({now(catalogue.STOPPED)})", "")],
                "stat",
                4,
                thresholds=((1, "red"),),
            ),
            Panel(
                "Gateways without Kafka",
                catalogue.KAFKA_AWAY.help,
                "short",
                [(f"sum({now(catalogue.KAFKA_AWAY)})", "")],
                "stat",
                4,
                thresholds=((1, "orange"),),
            ),
            Panel(
                "Spool filled",
                "Share of what may wait for Kafka, of the fullest gateway.",
                "percentunit",
                [(f"max({now(catalogue.WAITING)} / {now(catalogue.LIMIT)})", "")],
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
                "In the time shown. " + catalogue.DENIED.help,
                "short",
                [(f"sum(increase({now(catalogue.DENIED)}[$__range]))", "")],
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
            Panel("Answers", catalogue.ANSWER.help, "s", quantiles(catalogue.ANSWER)),
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
                [(rate(catalogue.DENIED, "reason") + " > 0", "{{reason}}")],
            ),
            Panel(
                "Processor and memory",
                "Processor seconds a second, and memory, of each gateway.",
                "short",
                [
                    (f"rate({now('process_cpu_seconds_total')}[$__rate_interval])", "processors, {{instance}}"),
                    (f"{now('process_resident_memory_bytes')} / 2^30", "GiB, {{instance}}"),
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
                catalogue.WAITING.help + " " + catalogue.LIMIT.help,
                "bytes",
                [
                    (f"max by (instance) ({now(catalogue.WAITING)})", "{{instance}}"),
                    (f"min({now(catalogue.LIMIT)})", "limit"),
                ],
            ),
            Panel("Sent", catalogue.SENT.help, "cps", [(rate(catalogue.SENT), "records")]),
            Panel(
                "Disk",
                "Syncs a second, and requests written by each.",
                "short",
                [
                    (rate(catalogue.SYNCS), "syncs a second"),
                    (f"{rate(catalogue.FRAMES)} / {rate(catalogue.SYNCS)}", "requests a sync"),
                ],
            ),
            Panel(
                "A sync takes",
                catalogue.SYNC_SECONDS.help,
                "s",
                [(f"{rate(catalogue.SYNC_SECONDS)} / {rate(catalogue.SYNCS)}", "seconds")],
            ),
        ),
    ),
)

BOARD: Final = Dashboard(
    "gateways",
    "Parcel gateways",
    "Scans and EPCIS events in, onto disk, into Kafka.",
    "streams.observe.gateway_dashboard",
    catalogue.STOPPED,
    ROWS,
)

if __name__ == "__main__":
    BOARD.write()
