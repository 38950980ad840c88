"""The Grafana dashboard of the workers; `python -m streams.observe.worker_dashboard` generates it."""

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
                f"Share of the records readable in parcel.state within {_SLO:g} s of their append. Objective: 99 %.",
                "percentunit",
                [(share_within(metric_catalogue.SCAN_TO_STATE, _SLO), "")],
                "stat",
                4,
            ),
            Panel(
                "Lag",
                "Partition with the largest lag. " + metric_catalogue.LAG_SECONDS.help,
                "s",
                [(f"max({selector(metric_catalogue.LAG_SECONDS)})", "")],
                "stat",
                4,
                thresholds=((10, "orange"), (60, "red")),
            ),
            Panel(
                "Dead letters",
                "Number in the selected time range. " + metric_catalogue.DEAD_LETTERS.help,
                "short",
                [(f"sum(increase({selector(metric_catalogue.DEAD_LETTERS)}[$__range]))", "")],
                "stat",
                4,
                thresholds=((1, "orange"),),
            ),
            Panel(
                "Time since last commit",
                "Time since the last commit of any worker. It grows while no records arrive; that is normal.",
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
                metric_catalogue.ALERTS.help + " " + metric_catalogue.ALERT_TYPE.doc,
                "cps",
                [(rate(metric_catalogue.ALERTS, "type, condition") + " > 0", "{{condition}} {{type}}")],
            ),
            Panel(
                "Promise clocks",
                metric_catalogue.PROMISE_CLOCKS.help,
                "short",
                [(f"sum by (promise) ({selector(metric_catalogue.PROMISE_CLOCKS)})", "{{promise}}")],
            ),
            Panel(
                "Duplicates",
                "Share of the records that repeat an earlier record. A jump means that a sender sends records again.",
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
                "Time by phase",
                "Seconds per second spent in each phase, over all workers. " + metric_catalogue.PHASE.doc,
                "s",
                [(rate(metric_catalogue.PHASE_SECONDS, "phase"), "{{phase}}")],
                stacked=True,
            ),
            Panel(
                "Batch duration",
                metric_catalogue.BATCH_SECONDS.help,
                "s",
                quantiles(metric_catalogue.BATCH_SECONDS),
            ),
            Panel(
                "Transaction duration",
                metric_catalogue.TRANSACTION_SECONDS.help,
                "s",
                quantiles(metric_catalogue.TRANSACTION_SECONDS),
            ),
            Panel(
                "Records per batch",
                "Batches are small when workers are idle, for latency, and large when they lag, for throughput.",
                "short",
                [
                    (
                        f"{rate(metric_catalogue.RECORDS)} / {rate(metric_catalogue.BATCH_SECONDS)}",
                        "records",
                    )
                ],
            ),
            Panel(
                "Records written",
                "States and milestones written to Kafka, and parcels removed from parcel.state.",
                "cps",
                [
                    (rate(metric_catalogue.STATES), "states"),
                    (rate(metric_catalogue.MILESTONES), "milestones"),
                    (rate(metric_catalogue.RETIRED_PARCELS), "retired"),
                ],
            ),
            Panel(
                "CPU and memory",
                "CPU seconds per second, and memory, of each worker.",
                "short",
                [
                    (f"rate({selector('process_cpu_seconds_total')}[$__rate_interval])", "CPUs, {{instance}}"),
                    (f"{selector('process_resident_memory_bytes')} / 2^30", "GiB, {{instance}}"),
                ],
            ),
        ),
    ),
    (
        "Containers",
        (
            Panel(
                "Container events",
                metric_catalogue.CONTAINER_EVENTS.help,
                "cps",
                [(rate(metric_catalogue.CONTAINER_EVENTS, "kind") + " > 0", "{{kind}}")],
            ),
            Panel(
                "Inferred records",
                metric_catalogue.INFERRED_RECORDS.help,
                "cps",
                [(rate(metric_catalogue.INFERRED_RECORDS, "kind") + " > 0", "{{kind}}")],
                stacked=True,
            ),
            Panel(
                "Container event to scan",
                metric_catalogue.CONTAINER_EVENT_TO_SCAN.help,
                "s",
                quantiles(metric_catalogue.CONTAINER_EVENT_TO_SCAN),
            ),
            Panel(
                "Container lag",
                metric_catalogue.CONTAINER_LAG_SECONDS.help + " " + metric_catalogue.PENDING_FAN_OUTS.help,
                "short",
                [
                    (f"max({selector(metric_catalogue.CONTAINER_LAG_SECONDS)})", "seconds"),
                    (f"sum({selector(metric_catalogue.PENDING_FAN_OUTS)})", "pending fan-outs"),
                ],
            ),
            Panel(
                "Containers",
                metric_catalogue.CONTAINERS.help,
                "short",
                [
                    (f"sum({selector(metric_catalogue.CONTAINERS)})", "in the table"),
                    (rate(metric_catalogue.RETIRED_CONTAINERS), "retired per second"),
                ],
            ),
            Panel(
                "Double containments",
                "Number in the selected time range. " + metric_catalogue.DOUBLE_CONTAINMENTS.help,
                "short",
                [
                    (
                        f"sum by (change) (increase({selector(metric_catalogue.DOUBLE_CONTAINMENTS)}[$__range]))",
                        "{{change}}",
                    )
                ],
            ),
        ),
    ),
    (
        "Problems",
        (
            Panel(
                "Dead letters by reason",
                metric_catalogue.DEAD_LETTERS.help + " The command `parcels dlq list` explains each reason.",
                "cps",
                [(rate(metric_catalogue.DEAD_LETTERS, "reason"), "{{reason}}")],
            ),
            Panel(
                "Assigned partitions",
                metric_catalogue.ASSIGNED_PARTITIONS.help + " The sum is the partition count of hub.scans.",
                "short",
                [(f"sum by (instance) ({selector(metric_catalogue.ASSIGNED_PARTITIONS)})", "{{instance}}")],
                stacked=True,
            ),
            Panel(
                "Rebalances",
                metric_catalogue.REBALANCES.help + " " + metric_catalogue.GROUP_MEMBERSHIP_LOSSES.help,
                "cps",
                [
                    (rate(metric_catalogue.REBALANCES, "change"), "{{change}}"),
                    (rate(metric_catalogue.GROUP_MEMBERSHIP_LOSSES, "reason"), "membership lost: {{reason}}"),
                ],
            ),
            Panel(
                "Transaction recoveries",
                metric_catalogue.TRANSACTION_RECOVERIES.help,
                "cps",
                [(rate(metric_catalogue.TRANSACTION_RECOVERIES, "outcome"), "{{outcome}}")],
            ),
            Panel(
                "Restore duration",
                metric_catalogue.RESTORE_SECONDS.help,
                "s",
                quantiles(metric_catalogue.RESTORE_SECONDS),
            ),
            Panel(
                "Workers up, workers without Kafka",
                "Workers that Prometheus can scrape, and workers that no Kafka broker answers.",
                "short",
                [
                    ('sum(up{job=~"$job", instance=~"$instance"})', "workers up"),
                    (f"sum({selector(metric_catalogue.KAFKA_UNAVAILABLE)})", "without Kafka"),
                ],
            ),
        ),
    ),
)

DASHBOARD: Final = Dashboard(
    "workers",
    "Parcel workers",
    "Workers read scans and container events, and write parcel states.",
    "streams.observe.worker_dashboard",
    metric_catalogue.ASSIGNED_PARTITIONS,
    ROWS,
)

if __name__ == "__main__":
    DASHBOARD.write()
