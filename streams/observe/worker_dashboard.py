"""The Grafana dashboard of the workers, made from the catalogue by `python -m streams.observe.worker_dashboard`."""

from typing import Final

from streams.observe import metric_catalogue
from streams.observe.grafana import Dashboard, DashboardRows, Panel, quantiles, rate, selector, share_within

_SLO: Final = metric_catalogue.SCAN_TO_STATE_SLO_SECONDS

ROWS: Final[DashboardRows] = (
    (
        "Now",
        (
            Panel(
                "Scans",
                metric_catalogue.SCANS.help,
                "cps",
                [(rate(metric_catalogue.SCANS), "")],
                "stat",
                4,
            ),
            Panel(
                "Parcels in the hub",
                metric_catalogue.IN_HUB_PARCELS.help,
                "short",
                [(f"sum({selector(metric_catalogue.IN_HUB_PARCELS)})", "")],
                "stat",
                4,
            ),
            Panel(
                f"Scan to state within {_SLO:g} s",
                f"Share of the records readable in parcel.state within {_SLO:g} s of their append. Promised: 99 %.",
                "percentunit",
                [(share_within(metric_catalogue.SCAN_TO_STATE, _SLO), "")],
                "stat",
                4,
            ),
            Panel(
                "Lag",
                "Worst partition. " + metric_catalogue.LAG_SECONDS.help,
                "s",
                [(f"max({selector(metric_catalogue.LAG_SECONDS)})", "")],
                "stat",
                4,
                thresholds=((10, "orange"), (60, "red")),
            ),
            Panel(
                "Dead letters",
                "In the time shown. " + metric_catalogue.DEAD_LETTERS.help,
                "short",
                [(f"sum(increase({selector(metric_catalogue.DEAD_LETTERS)}[$__range]))", "")],
                "stat",
                4,
                thresholds=((1, "orange"),),
            ),
            Panel(
                "Silence",
                "Since the last commit of any worker. Long silence is fine while nothing arrives.",
                "s",
                [(f"time() - max({selector(metric_catalogue.LAST_BATCH)})", "")],
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
                metric_catalogue.SCANS.help,
                "cps",
                [(rate(metric_catalogue.SCANS, "kind") + " > 0", "{{kind}}")],
                width=12,
                stacked=True,
            ),
            Panel(
                "Parcels in the hub by stage",
                metric_catalogue.IN_HUB_PARCELS.help,
                "short",
                [(f"sum by (stage) ({selector(metric_catalogue.IN_HUB_PARCELS)})", "{{stage}}")],
                width=12,
                stacked=True,
            ),
            Panel(
                "Scans by direction",
                metric_catalogue.DIRECTION.doc,
                "cps",
                [(rate(metric_catalogue.SCANS, "direction"), "{{direction}}")],
            ),
            Panel(
                "Scans by site",
                metric_catalogue.SITE.doc,
                "cps",
                [(rate(metric_catalogue.SCANS, "site"), "{{site}}")],
            ),
            Panel(
                "Alerts",
                metric_catalogue.ALERTS.help + " " + metric_catalogue.ALERT.doc,
                "cps",
                [(rate(metric_catalogue.ALERTS, "alert, condition") + " > 0", "{{condition}} {{alert}}")],
            ),
            Panel(
                "Clocks",
                metric_catalogue.CLOCKS.help,
                "short",
                [(f"sum by (promise) ({selector(metric_catalogue.CLOCKS)})", "{{promise}}")],
            ),
            Panel(
                "Duplicates",
                "Share of the records that repeat one already known. A jump: a sender repeats itself.",
                "percentunit",
                [
                    (
                        f"{rate(metric_catalogue.DUPLICATES)} / {rate(metric_catalogue.RECORDS)}",
                        "duplicates",
                    )
                ],
            ),
        ),
    ),
    (
        "Latency and lag",
        (
            Panel(
                "Scan to state",
                metric_catalogue.SCAN_TO_STATE.help,
                "s",
                quantiles(metric_catalogue.SCAN_TO_STATE),
            ),
            Panel(
                "Lag in seconds",
                metric_catalogue.LAG_SECONDS.help,
                "s",
                [(f"max by (partition) ({selector(metric_catalogue.LAG_SECONDS)})", "partition {{partition}}")],
            ),
            Panel(
                "Lag in records",
                metric_catalogue.LAG_RECORDS.help,
                "short",
                [(f"max by (partition) ({selector(metric_catalogue.LAG_RECORDS)})", "partition {{partition}}")],
            ),
        ),
    ),
    (
        "Batches",
        (
            Panel(
                "Where the time goes",
                "Seconds a second in each phase, over all workers. " + metric_catalogue.PHASE.doc,
                "s",
                [(rate(metric_catalogue.PHASE_SECONDS, "phase"), "{{phase}}")],
                stacked=True,
            ),
            Panel(
                "Batch",
                metric_catalogue.BATCH_SECONDS.help,
                "s",
                quantiles(metric_catalogue.BATCH_SECONDS),
            ),
            Panel(
                "Transaction",
                metric_catalogue.TRANSACTION_SECONDS.help,
                "s",
                quantiles(metric_catalogue.TRANSACTION_SECONDS),
            ),
            Panel(
                "Records a batch",
                "Small when idle, for latency; large when behind, for throughput.",
                "short",
                [
                    (
                        f"{rate(metric_catalogue.RECORDS)} / {rate(metric_catalogue.BATCH_SECONDS)}",
                        "records",
                    )
                ],
            ),
            Panel(
                "Written",
                "States and milestones written to Kafka, and parcels that left parcel.state.",
                "cps",
                [
                    (rate(metric_catalogue.STATES), "states"),
                    (rate(metric_catalogue.MILESTONES), "milestones"),
                    (rate(metric_catalogue.RETIRED_PARCELS), "retired"),
                ],
            ),
            Panel(
                "Processor and memory",
                "Processor seconds a second, and memory, of each worker.",
                "short",
                [
                    (f"rate({selector('process_cpu_seconds_total')}[$__rate_interval])", "processors, {{instance}}"),
                    (f"{selector('process_resident_memory_bytes')} / 2^30", "GiB, {{instance}}"),
                ],
            ),
        ),
    ),
    (
        "Containers",
        (
            Panel(
                "Events of containers",
                metric_catalogue.CONTAINER_EVENTS.help,
                "cps",
                [(rate(metric_catalogue.CONTAINER_EVENTS, "kind") + " > 0", "{{kind}}")],
            ),
            Panel(
                "What follows from them",
                metric_catalogue.INFERRED_RECORDS.help,
                "cps",
                [(rate(metric_catalogue.INFERRED_RECORDS, "kind") + " > 0", "{{kind}}")],
                stacked=True,
            ),
            Panel(
                "Event to scan",
                metric_catalogue.EVENT_TO_SCAN.help,
                "s",
                quantiles(metric_catalogue.EVENT_TO_SCAN),
            ),
            Panel(
                "Behind",
                metric_catalogue.CONTAINER_LAG_SECONDS.help + " " + metric_catalogue.PENDING_FAN_OUTS.help,
                "short",
                [
                    (f"max({selector(metric_catalogue.CONTAINER_LAG_SECONDS)})", "seconds"),
                    (f"sum({selector(metric_catalogue.PENDING_FAN_OUTS)})", "fan-outs"),
                ],
            ),
            Panel(
                "Containers",
                metric_catalogue.CONTAINERS.help,
                "short",
                [
                    (f"sum({selector(metric_catalogue.CONTAINERS)})", "known"),
                    (rate(metric_catalogue.RETIRED_CONTAINERS), "retired a second"),
                ],
            ),
            Panel(
                "In two at once",
                "In the time shown. " + metric_catalogue.DOUBLE_CONTAINMENTS.help,
                "short",
                [
                    (
                        f"sum by (verdict) (increase({selector(metric_catalogue.DOUBLE_CONTAINMENTS)}[$__range]))",
                        "{{verdict}}",
                    )
                ],
            ),
        ),
    ),
    (
        "Trouble",
        (
            Panel(
                "Dead letters by reason",
                metric_catalogue.DEAD_LETTERS.help + " What each reason means: parcels dlq list.",
                "cps",
                [(rate(metric_catalogue.DEAD_LETTERS, "reason"), "{{reason}}")],
            ),
            Panel(
                "Partitions held",
                metric_catalogue.PARTITIONS.help + " The sum is the partition count of hub.scans.",
                "short",
                [(f"sum by (instance) ({selector(metric_catalogue.PARTITIONS)})", "{{instance}}")],
                stacked=True,
            ),
            Panel(
                "Rebalances",
                metric_catalogue.REBALANCES.help,
                "cps",
                [
                    (rate(metric_catalogue.REBALANCES, "change"), "{{change}}"),
                    (rate(metric_catalogue.MEMBERSHIPS_LOST, "loss"), "place lost: {{loss}}"),
                ],
            ),
            Panel(
                "Transactions of unknown outcome",
                metric_catalogue.TRANSACTION_RECOVERIES.help,
                "cps",
                [(rate(metric_catalogue.TRANSACTION_RECOVERIES, "outcome"), "{{outcome}}")],
            ),
            Panel(
                "Restore",
                metric_catalogue.RESTORE_SECONDS.help,
                "s",
                quantiles(metric_catalogue.RESTORE_SECONDS),
            ),
            Panel(
                "Workers and broker",
                "Workers that Prometheus can scrape, and workers that no broker answers.",
                "short",
                [
                    ('sum(up{job=~"$job", instance=~"$instance"})', "workers up"),
                    (f"sum({selector(metric_catalogue.BROKER_AWAY)})", "without a broker"),
                ],
            ),
        ),
    ),
)

DASHBOARD: Final = Dashboard(
    "workers",
    "Parcel workers",
    "Scans in, states of parcels out.",
    "streams.observe.worker_dashboard",
    metric_catalogue.PARTITIONS,
    ROWS,
)

if __name__ == "__main__":
    DASHBOARD.write()
