"""The Grafana dashboard of the workers, made from the catalogue: `python -m streams.observe.dashboard` writes it."""

from typing import Final

from streams.observe import catalogue
from streams.observe.grafana import Dashboard, Panel, Rows, now, quantiles, rate, within

_SLO: Final = catalogue.SCAN_TO_STATE_SLO_SECONDS

ROWS: Final[Rows] = (
    (
        "Now",
        (
            Panel("Scans", catalogue.SCANS.help, "cps", [(rate(catalogue.SCANS), "")], "stat", 4),
            Panel(
                "Parcels in the hub",
                catalogue.IN_HUB_PARCELS.help,
                "short",
                [(f"sum({now(catalogue.IN_HUB_PARCELS)})", "")],
                "stat",
                4,
            ),
            Panel(
                f"Scan to state within {_SLO:g} s",
                f"Share of the records readable in parcel.state within {_SLO:g} s of their append. Promised: 99 %.",
                "percentunit",
                [(within(catalogue.SCAN_TO_STATE, _SLO), "")],
                "stat",
                4,
            ),
            Panel(
                "Lag",
                "Worst partition. " + catalogue.LAG_SECONDS.help,
                "s",
                [(f"max({now(catalogue.LAG_SECONDS)})", "")],
                "stat",
                4,
                thresholds=((10, "orange"), (60, "red")),
            ),
            Panel(
                "Dead letters",
                "In the time shown. " + catalogue.DEAD_LETTERS.help,
                "short",
                [(f"sum(increase({now(catalogue.DEAD_LETTERS)}[$__range]))", "")],
                "stat",
                4,
                thresholds=((1, "orange"),),
            ),
            Panel(
                "Silence",
                "Since the last commit of any worker. Long silence is fine while nothing arrives.",
                "s",
                [(f"time() - max({now(catalogue.LAST_BATCH)})", "")],
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
                catalogue.SCANS.help,
                "cps",
                [(rate(catalogue.SCANS, "kind") + " > 0", "{{kind}}")],
                width=12,
                stacked=True,
            ),
            Panel(
                "Parcels in the hub by stage",
                catalogue.IN_HUB_PARCELS.help,
                "short",
                [(f"sum by (stage) ({now(catalogue.IN_HUB_PARCELS)})", "{{stage}}")],
                width=12,
                stacked=True,
            ),
            Panel(
                "Scans by direction",
                catalogue.DIRECTION.doc,
                "cps",
                [(rate(catalogue.SCANS, "direction"), "{{direction}}")],
            ),
            Panel("Scans by site", catalogue.SITE.doc, "cps", [(rate(catalogue.SCANS, "site"), "{{site}}")]),
            Panel(
                "Alerts",
                catalogue.ALERTS.help + " " + catalogue.ALERT.doc,
                "cps",
                [(rate(catalogue.ALERTS, "alert, about") + " > 0", "{{about}} {{alert}}")],
            ),
            Panel(
                "Clocks",
                catalogue.CLOCKS.help,
                "short",
                [(f"sum by (promise) ({now(catalogue.CLOCKS)})", "{{promise}}")],
            ),
            Panel(
                "Duplicates",
                "Share of the records that repeat one already known. A jump: a sender repeats itself.",
                "percentunit",
                [(f"{rate(catalogue.DUPLICATES)} / {rate(catalogue.RECORDS)}", "duplicates")],
            ),
        ),
    ),
    (
        "Latency and lag",
        (
            Panel("Scan to state", catalogue.SCAN_TO_STATE.help, "s", quantiles(catalogue.SCAN_TO_STATE)),
            Panel(
                "Lag in seconds",
                catalogue.LAG_SECONDS.help,
                "s",
                [(f"max by (partition) ({now(catalogue.LAG_SECONDS)})", "partition {{partition}}")],
            ),
            Panel(
                "Lag in records",
                catalogue.LAG_RECORDS.help,
                "short",
                [(f"max by (partition) ({now(catalogue.LAG_RECORDS)})", "partition {{partition}}")],
            ),
        ),
    ),
    (
        "Batches",
        (
            Panel(
                "Where the time goes",
                "Seconds a second in each phase, over all workers. " + catalogue.PHASE.doc,
                "s",
                [(rate(catalogue.PHASE_SECONDS, "phase"), "{{phase}}")],
                stacked=True,
            ),
            Panel("Batch", catalogue.BATCH_SECONDS.help, "s", quantiles(catalogue.BATCH_SECONDS)),
            Panel("Transaction", catalogue.TRANSACTION_SECONDS.help, "s", quantiles(catalogue.TRANSACTION_SECONDS)),
            Panel(
                "Records a batch",
                "Small when idle, for latency; large when behind, for throughput.",
                "short",
                [(f"{rate(catalogue.RECORDS)} / {rate(catalogue.BATCH_SECONDS)}", "records")],
            ),
            Panel(
                "Written",
                "States and milestones written to Kafka, and parcels that left parcel.state.",
                "cps",
                [
                    (rate(catalogue.STATES), "states"),
                    (rate(catalogue.MILESTONES), "milestones"),
                    (rate(catalogue.RETIRED), "retired"),
                ],
            ),
            Panel(
                "Processor and memory",
                "Processor seconds a second, and memory, of each worker.",
                "short",
                [
                    (f"rate({now('process_cpu_seconds_total')}[$__rate_interval])", "processors, {{instance}}"),
                    (f"{now('process_resident_memory_bytes')} / 2^30", "GiB, {{instance}}"),
                ],
            ),
        ),
    ),
    (
        "Containers",
        (
            Panel(
                "Events of containers",
                catalogue.CONTAINER_EVENTS.help,
                "cps",
                [(rate(catalogue.CONTAINER_EVENTS, "kind") + " > 0", "{{kind}}")],
            ),
            Panel(
                "What follows from them",
                catalogue.INFERRED.help,
                "cps",
                [(rate(catalogue.INFERRED, "kind") + " > 0", "{{kind}}")],
                stacked=True,
            ),
            Panel("Event to scan", catalogue.EVENT_TO_SCAN.help, "s", quantiles(catalogue.EVENT_TO_SCAN)),
            Panel(
                "Behind",
                catalogue.CONTAINER_LAG_SECONDS.help + " " + catalogue.FAN_OUTS.help,
                "short",
                [
                    (f"max({now(catalogue.CONTAINER_LAG_SECONDS)})", "seconds"),
                    (f"sum({now(catalogue.FAN_OUTS)})", "fan-outs"),
                ],
            ),
            Panel(
                "Containers",
                catalogue.CONTAINERS.help,
                "short",
                [
                    (f"sum({now(catalogue.CONTAINERS)})", "known"),
                    (rate(catalogue.CONTAINERS_RETIRED), "retired a second"),
                ],
            ),
            Panel(
                "In two at once",
                "In the time shown. " + catalogue.IN_TWO.help,
                "short",
                [(f"sum by (verdict) (increase({now(catalogue.IN_TWO)}[$__range]))", "{{verdict}}")],
            ),
        ),
    ),
    (
        "Trouble",
        (
            Panel(
                "Dead letters by reason",
                catalogue.DEAD_LETTERS.help + " What each reason means: parcels dlq list.",
                "cps",
                [(rate(catalogue.DEAD_LETTERS, "reason"), "{{reason}}")],
            ),
            Panel(
                "Partitions held",
                catalogue.PARTITIONS.help + " The sum is the partition count of hub.scans.",
                "short",
                [(f"sum by (instance) ({now(catalogue.PARTITIONS)})", "{{instance}}")],
                stacked=True,
            ),
            Panel(
                "Rebalances",
                catalogue.REBALANCES.help,
                "cps",
                [
                    (rate(catalogue.REBALANCES, "change"), "{{change}}"),
                    (rate(catalogue.MEMBERSHIPS_LOST, "loss"), "place lost: {{loss}}"),
                ],
            ),
            Panel(
                "Transactions of unknown outcome",
                catalogue.REFENCES.help,
                "cps",
                [(rate(catalogue.REFENCES, "outcome"), "{{outcome}}")],
            ),
            Panel(
                "Restore",
                catalogue.RESTORE_SECONDS.help,
                "s",
                quantiles(catalogue.RESTORE_SECONDS),
            ),
            Panel(
                "Workers and broker",
                "Workers that Prometheus can scrape, and workers that no broker answers.",
                "short",
                [
                    ('sum(up{job=~"$job", instance=~"$instance"})', "workers up"),
                    (f"sum({now(catalogue.BROKER_AWAY)})", "without a broker"),
                ],
            ),
        ),
    ),
)

BOARD: Final = Dashboard(
    "workers",
    "Parcel workers",
    "Scans in, states of parcels out.",
    "streams.observe.dashboard",
    catalogue.PARTITIONS,
    ROWS,
)

if __name__ == "__main__":
    BOARD.write()
