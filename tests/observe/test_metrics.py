"""The events of a worker become metrics and log lines; nothing that a sender writes creates a series or a line."""

import dataclasses
import io
import json
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs

from streams.domain.double_containment import DoubleContainment
from streams.errors import Misconfigured
from streams.observe import logs
from streams.observe.instruments import WeightedHistogram
from streams.observe.metric_catalogue import BATCH_SECONDS, CATALOGUE, PROCESS_METRICS, SCAN_TO_STATE
from streams.observe.status_server import StatusServer, start_status_server
from streams.observe.worker_metrics import WorkerMetrics
from streams.telemetry import worker_events as events

Scrape = dict[tuple[str, frozenset[tuple[str, str]]], float]

BATCH = events.ParcelBatchCommitted(
    partition=1,
    records=10,
    scans={("LGG", "SORTED", "IMPORT"): 4, ("LGG", "LOADED", "EXPORT"): 1, ("", "ADVISED", "IMPORT"): 1},
    duplicates=2,
    dead_letters={"TRUNCATED": 1, "INVALID_UTF8": 1},
    states=5,
    milestones=3,
    seconds={"decode": 0.001, "fold": 0.002, "encode": 0.003, "send": 0.01, "commit": 0.02},
    scan_to_state=[(0.04, 6), (1.0, 2), (4000.0, 1)],
    lag_records=7,
    lag_seconds=1.5,
    parcels_by_stage={"SORTED": 4, "LOADED": 1},
    hub_time=1_772_337_600_000,
)


def running_worker(*owned: int, **options: object) -> WorkerMetrics:
    metrics = WorkerMetrics(sites=["LGG", "LEJ"], **options)  # type: ignore[arg-type]
    metrics(events.WorkerStarted(bootstrap="127.0.0.1:9092", group="parcels", group_instance_id="a"))
    metrics(events.PartitionsAssigned(owned))
    for partition in owned:
        metrics(events.PartitionRestored(partition=partition, rows=100, records=120, seconds=0.4, offset=9))
    return metrics


def parse(text: str) -> Scrape:
    families = list(text_string_to_metric_families(text))
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def scrape(metrics: WorkerMetrics) -> Scrape:
    with start_status_server(metrics, 0) as server:
        status, text = get(server.port, "/metrics")
    assert status == 200
    return parse(text)


def value(scraped: Scrape, name: str, **labels: str) -> float:
    return scraped[name, frozenset(labels.items())]


@pytest.fixture
def log() -> Iterator[list[dict[str, object]]]:
    with capture_logs() as lines:
        yield lines  # type: ignore[misc]


class TestABatch:
    def test_is_counted_with_its_numbers(self) -> None:
        metrics = running_worker(0, 1)
        metrics(BATCH)
        metrics(dataclasses.replace(BATCH, partition=0, parcels_by_stage={"SORTED": 2}, lag_records=0, lag_seconds=0.0))
        now = scrape(metrics)
        assert value(now, "parcel_scans_total", site="LGG", kind="SORTED", direction="IMPORT") == 8
        assert value(now, "parcel_scans_total", site="none", kind="ADVISED", direction="IMPORT") == 2
        assert value(now, "parcel_records_total") == 20
        assert value(now, "parcel_duplicates_total") == 4
        assert value(now, "parcel_dead_letters_total", reason="TRUNCATED") == 2
        assert value(now, "parcel_states_written_total") == 10
        assert value(now, "parcel_milestones_written_total") == 6
        assert value(now, "parcel_scan_to_state_seconds_bucket", le="0.025") == 0
        assert value(now, "parcel_scan_to_state_seconds_bucket", le="0.05") == 12
        assert value(now, "parcel_scan_to_state_seconds_bucket", le="1.0") == 16
        assert value(now, "parcel_scan_to_state_seconds_count") == 18
        assert value(now, "parcel_scan_to_state_seconds_sum") == pytest.approx(2 * (0.24 + 2 + 4000))
        assert value(now, "parcel_phase_seconds_total", phase="commit") == pytest.approx(0.04)
        assert value(now, "parcel_batch_seconds_sum") == pytest.approx(0.072)
        assert value(now, "parcel_transaction_seconds_sum") == pytest.approx(0.06)
        assert value(now, "parcel_lag_records", partition="1") == 7
        assert value(now, "parcel_lag_seconds", partition="1") == 1.5
        assert value(now, "parcel_in_hub_parcels", stage="SORTED") == 6
        assert value(now, "parcel_hub_timestamp_seconds") == 1_772_337_600
        assert value(now, "parcel_assigned_partitions") == 2
        assert value(now, "parcel_restore_seconds_count") == 2
        assert value(now, "parcel_restored_parcels_total") == 200
        assert value(now, "parcel_last_batch_timestamp_seconds") > 1_700_000_000

    def test_sets_the_stages_of_its_partition(self) -> None:
        metrics = running_worker(1)
        metrics(BATCH)
        metrics(dataclasses.replace(BATCH, parcels_by_stage={"LOADED": 5}))
        now = scrape(metrics)
        assert value(now, "parcel_in_hub_parcels", stage="SORTED") == 0
        assert value(now, "parcel_in_hub_parcels", stage="LOADED") == 5

    def test_never_moves_hub_time_back(self) -> None:
        metrics = running_worker(1)
        metrics(BATCH)
        metrics(dataclasses.replace(BATCH, hub_time=5))
        metrics(dataclasses.replace(BATCH, hub_time=None))
        assert value(scrape(metrics), "parcel_hub_timestamp_seconds") == 1_772_337_600


class TestARevokedPartition:
    def test_is_not_in_the_gauges(self) -> None:
        metrics = running_worker(0, 1)
        metrics(BATCH)
        metrics(events.PartitionsRevoked((1,), lost=False))
        now = scrape(metrics)
        assert not [key for key in now if key[0].startswith("parcel_lag") and dict(key[1]).get("partition") == "1"]
        assert value(now, "parcel_in_hub_parcels", stage="SORTED") == 0
        assert value(now, "parcel_assigned_partitions") == 1
        assert value(now, "parcel_scans_total", site="LGG", kind="SORTED", direction="IMPORT") == 4

    def test_does_not_return_with_its_last_batch(self) -> None:
        metrics = running_worker(1)
        metrics(events.PartitionsRevoked((1,), lost=True))
        metrics(BATCH)
        now = scrape(metrics)
        assert ("parcel_lag_records", frozenset({("partition", "1")})) not in now
        assert value(now, "parcel_in_hub_parcels", stage="SORTED") == 0
        assert value(now, "parcel_rebalances_total", change="lost") == 1
        assert value(now, "parcel_records_total") == 10


class TestSeries:
    def test_exist_from_the_start(self) -> None:
        now = scrape(WorkerMetrics(sites=["LGG"]))
        for metric in CATALOGUE:
            labels = {label.name for label in metric.labels}
            if "partition" not in labels:
                assert {name for name, _ in now} >= set(metric.series), metric.name
        assert value(now, "parcel_dead_letters_total", reason="TRUNCATED") == 0
        assert value(now, "parcel_transaction_recoveries_total", outcome="resent") == 0
        assert value(now, "parcel_scans_total", site="LGG", kind="LOST", direction="EXPORT") == 0

    def test_are_only_those_of_the_catalogue(self) -> None:
        metrics = running_worker(1)
        metrics(BATCH)
        known = {series for metric in CATALOGUE for series in metric.series} | PROCESS_METRICS.keys()
        assert {name for name, _ in scrape(metrics)} <= known

    @settings(deadline=None)  # a WorkerMetrics has some thousand series
    @given(site=st.text(), kind=st.text(), direction=st.text(), reason=st.text(), phase=st.text(), stage=st.text())
    def test_do_not_grow_with_values_from_senders(
        self, site: str, kind: str, direction: str, reason: str, phase: str, stage: str
    ) -> None:
        metrics = WorkerMetrics(sites=["LGG"])
        before = {s.name: len(family.samples) for family in metrics.registry.collect() for s in family.samples}
        with capture_logs():
            metrics(
                dataclasses.replace(
                    BATCH,
                    scans={(site, kind, direction): 3},
                    dead_letters={reason: 2},
                    seconds={phase: 0.5},
                    parcels_by_stage={stage: 1},
                )
            )
        after = {s.name: len(family.samples) for family in metrics.registry.collect() for s in family.samples}
        assert after == before
        scans = [family for family in metrics.registry.collect() if family.name == "parcel_scans"]
        assert sum(sample.value for sample in scans[0].samples) == 3

    def test_of_a_site_outside_the_hub_is_other(self) -> None:
        metrics = running_worker(1)
        metrics(dataclasses.replace(BATCH, scans={("XXX", "TELEPORTED", "UP"): 5}))
        assert value(scrape(metrics), "parcel_scans_total", site="other", kind="OTHER", direction="UNKNOWN") == 5


WEIGHTED_SAMPLES = st.lists(st.tuples(st.floats(0, 10_000), st.integers(1, 50)), max_size=30)


@given(samples=WEIGHTED_SAMPLES)
def test_a_sample_of_n_counts_like_n_samples(samples: list[tuple[float, int]]) -> None:
    weighted, one_by_one = (WeightedHistogram(SCAN_TO_STATE, CollectorRegistry()) for _ in range(2))
    weighted.observe(samples)
    for seconds, records in samples:
        for _ in range(records):
            one_by_one.observe([(seconds, 1)])
    [left], [right] = weighted.collect(), one_by_one.collect()
    assert [(s.name, s.labels, pytest.approx(s.value)) for s in left.samples] == [
        (s.name, s.labels, s.value) for s in right.samples
    ]


@given(value=st.sampled_from(BATCH_SECONDS.buckets))
def test_a_value_on_an_edge_is_within_it(value: float) -> None:
    histogram = WeightedHistogram(BATCH_SECONDS, CollectorRegistry())
    histogram.observe([(value, 1)])
    [family] = histogram.collect()
    within = {float(s.labels["le"]): s.value for s in family.samples if s.name.endswith("_bucket")}
    assert within[value] == 1
    assert all(count == (edge >= value) for edge, count in within.items())


class TestContainers:
    BATCH = events.ContainerBatchCommitted(
        partition=1,
        records=12,
        events={("LGG", "ARRIVED"): 2, ("", "VOID"): 1},
        inferred_events=8,
        duplicates=1,
        dead_letters={"CYCLE": 1},
        inferred_records={"ARRIVED": 900, "VOID": 30},
        pending_fan_outs=2,
        containers=40,
        retired=3,
        seconds={"fold": 0.1},
        event_to_scan=[(0.2, 12)],
        lag_records=5,
        lag_seconds=7.0,
    )

    def test_are_counted_until_their_partition_is_revoked(self) -> None:
        metrics = running_worker(1)
        metrics(events.PartitionsAssigned((1, 2), "containers"))
        assert metrics.not_ready_reason() == "restoring 1,2"
        for partition in (1, 2):
            metrics(events.PartitionRestored(partition, 40, 50, 0.1, 9, processor="containers"))
            metrics(dataclasses.replace(self.BATCH, partition=partition))
        assert metrics.not_ready_reason() is None
        value = metrics.registry.get_sample_value
        assert value("parcel_container_events_total", {"site": "LGG", "kind": "ARRIVED"}) == 4
        assert value("parcel_inferred_records_total", {"kind": "ARRIVED"}) == 1800
        assert value("parcel_container_event_to_scan_seconds_count") == 24
        assert value("parcel_dead_letters_total", {"reason": "CYCLE"}) == 2
        assert value("parcel_retired_containers_total") == 6
        assert (value("parcel_containers"), value("parcel_fan_outs_pending")) == (80, 4)
        assert value("parcel_container_lag_seconds", {"partition": "2"}) == 7
        metrics(events.PartitionsRevoked((2,), lost=False, processor="containers"))
        assert (value("parcel_containers"), value("parcel_fan_outs_pending")) == (40, 2)
        assert value("parcel_container_lag_seconds", {"partition": "2"}) is None
        # This metric counts only partitions of hub.scans.
        assert value("parcel_assigned_partitions") == 1

    def test_of_a_double_containment_are_counted_and_logged(self, log: list[dict[str, object]]) -> None:
        metrics = running_worker(1)
        found = DoubleContainment("BAG", "U1", "e1", "U2", "e2", 1_772_337_600_000)
        metrics(
            dataclasses.replace(self.BATCH, double_containments=[found, dataclasses.replace(found, withdrawn=True)])
        )
        evidence = {"container": "BAG", "first_parent": "U1", "first_event_id": "e1", "second_parent": "U2",
                    "second_event_id": "e2", "event_time": "2026-03-01T04:00:00+00:00"}  # fmt: skip
        assert {"event": "parcels.worker.double_containment", "log_level": "warning", **evidence} in log
        assert {"event": "parcels.worker.double_containment_retracted", "log_level": "info", **evidence} in log
        value = metrics.registry.get_sample_value
        assert value("parcel_double_containments_total", {"change": "detected"}) == 1
        assert value("parcel_double_containments_total", {"change": "retracted"}) == 1

    def test_of_thousands_of_double_containments_are_counted_but_not_all_logged(
        self, log: list[dict[str, object]]
    ) -> None:
        metrics = running_worker(1)
        found = DoubleContainment("BAG", "U1", "e1", "U2", "e2", 1_772_337_600_000)
        metrics(dataclasses.replace(self.BATCH, double_containments=[found] * 3_000))
        assert len([line for line in log if line["event"] == "parcels.worker.double_containment"]) == 50
        assert metrics.registry.get_sample_value("parcel_double_containments_total", {"change": "detected"}) == 3_000
        metrics(events.WorkerProgress(partitions=(1,), records=1, seconds=60.0))
        assert log[-1]["double_containments"] == 3_000


class TestLogLines:
    def test_name_the_restored_partition(self, log: list[dict[str, object]]) -> None:
        running_worker(3)
        assert log[-1] == {
            "event": "parcels.worker.restored",
            "log_level": "info",
            "processor": "parcels",
            "partition": 3,
            "rows": 100,
            "records": 120,
            "seconds": 0.4,
            "offset": 9,
        }

    def test_are_not_written_for_batches(self, log: list[dict[str, object]]) -> None:
        metrics = running_worker(1)
        log.clear()
        for _ in range(1000):
            metrics(dataclasses.replace(BATCH, dead_letters={}))
        assert log == []

    def test_of_dead_letters_are_one_for_each_reason_and_minute(self, log: list[dict[str, object]]) -> None:
        metrics = running_worker(1)
        log.clear()
        for _ in range(1000):
            metrics(BATCH)
        assert [(line["log_level"], line["reason"]) for line in log] == [
            ("warning", "TRUNCATED"),
            ("warning", "INVALID_UTF8"),
        ]
        metrics(events.WorkerProgress(records=10_000, seconds=60.0, partitions=(1,)))
        assert log[-1]["dead_letters"] == 2000
        metrics(BATCH)
        assert log[-1]["event"] == "parcels.worker.dead_letter"

    def test_of_problems_are_warnings(self, log: list[dict[str, object]]) -> None:
        metrics = running_worker(1)
        for event in (
            events.PartitionsRevoked((1,), lost=True),
            events.TransactionRecovered(1, "resent", "timed out"),
            events.GroupMembershipLost("fenced_instance_id", "another one"),
            events.BrokerUnavailable("all brokers down"),
            events.TicksStopped((1,), 16.0),
        ):
            log.clear()
            metrics(event)
            assert [line["log_level"] for line in log] == ["warning"], event

    @pytest.mark.parametrize(("reason", "level"), [("signal", "info"), ("idle", "info"), ("error", "error")])
    def test_of_a_stop_are_errors_unless_it_was_requested(
        self, log: list[dict[str, object]], reason: str, level: str
    ) -> None:
        metrics = running_worker(1)
        metrics(events.WorkerStopped(reason))
        assert (log[-1]["event"], log[-1]["log_level"]) == ("parcels.worker.stopped", level)

    def test_exist_for_every_event_except_batches(self, log: list[dict[str, object]]) -> None:
        metrics = running_worker(1)
        all_events = [
            events.WorkerStarted("b", "g", "i"),
            events.PartitionsAssigned((2,)),
            events.GroupMembershipLost("unreleased_instance_id", "?"),
            events.PartitionRestored(2, 1, 1, 0.1, 0),
            events.TransactionRecovered(2, "committed", "?"),
            events.BrokerUnavailable("?"),
            events.BrokerRecovered(1.0),
            events.TicksStopped((2,), 15.0),
            events.TicksResumed(20.0),
            events.WorkerProgress(1, 60.0),
            events.PartitionsRevoked((2,), lost=False),
            events.WorkerStopped("signal"),
        ]
        assert {type(event) for event in all_events} | {
            events.ParcelBatchCommitted,
            events.ContainerBatchCommitted,
        } == set(events.WorkerEvent.__args__)
        log.clear()
        for event in all_events:
            metrics(event)
        assert len(log) == len(all_events)
        assert all(str(line["event"]).startswith("parcels.worker.") for line in log)


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class TestTheFormatOfLines:
    @pytest.fixture(autouse=True)
    def _restore(self) -> Iterator[None]:
        before = structlog.get_config()
        yield
        structlog.configure(**before)

    def test_is_keys_and_values_on_a_terminal(self) -> None:
        stream = _Terminal()
        logs.configure_logging(stream)
        running_worker(3)
        lines = stream.getvalue().splitlines()
        assert lines[-1].split(" ", 1)[1] == (
            "info parcels.worker.restored processor=parcels partition=3 rows=100 records=120 seconds=0.4 offset=9"
        )

    def test_is_json_elsewhere(self) -> None:
        stream = io.StringIO()
        logs.configure_logging(stream)
        metrics = running_worker(3)
        metrics(events.BrokerUnavailable('no "broker"\nat all'))
        lines = [json.loads(line) for line in stream.getvalue().splitlines()]
        assert (
            lines[-1].items() >= {"event": "parcels.worker.kafka_unavailable", "error": 'no "broker"\nat all'}.items()
        )
        assert lines[-1]["timestamp"].endswith("Z")

    def test_is_one_line_for_any_text_of_a_broker(self) -> None:
        stream = _Terminal()
        logs.configure_logging(stream)
        WorkerMetrics()(events.BrokerUnavailable("one\ntwo\r\n\x1b[31mthree"))
        assert len(stream.getvalue().splitlines()) == 1
        assert "\x1b" not in stream.getvalue()


class TestTheStatusServer:
    @pytest.fixture
    def metrics(self) -> WorkerMetrics:
        return WorkerMetrics()

    @pytest.fixture
    def server(self, metrics: WorkerMetrics) -> Iterator[StatusServer]:
        with start_status_server(metrics, 0) as server:
            yield server

    def test_reports_health_while_the_process_answers(self, server: StatusServer) -> None:
        assert get(server.port, "/healthz") == (200, "ok\n")

    def test_reports_ready_with_restored_tables_and_a_broker(
        self, metrics: WorkerMetrics, server: StatusServer
    ) -> None:
        def ready() -> tuple[int, str]:
            return get(server.port, "/readyz")

        assert ready() == (503, "the worker has not started\n")
        metrics(events.WorkerStarted("b", "g", "i"))
        metrics(events.PartitionsAssigned((0, 1)))
        metrics(events.PartitionRestored(0, 1, 1, 0.1, 0))
        assert ready() == (503, "restoring 1\n")
        metrics(events.PartitionRestored(1, 1, 1, 0.1, 0))
        assert ready() == (200, "ok\n")
        metrics(events.BrokerUnavailable("?"))
        assert ready() == (503, "no Kafka broker answers\n")
        metrics(events.BrokerRecovered(1.0))
        assert ready() == (200, "ok\n")
        metrics(events.WorkerStopped("signal"))
        assert ready() == (503, "the worker has stopped\n")

    def test_has_no_other_pages(self, server: StatusServer) -> None:
        assert get(server.port, "/")[0] == 404

    def test_names_a_port_that_is_in_use(self, server: StatusServer) -> None:
        with pytest.raises(Misconfigured, match=f"127.0.0.1:{server.port}.*--metrics-port"):
            start_status_server(WorkerMetrics(), server.port)

    def test_frees_its_port_and_ends_its_thread(self, metrics: WorkerMetrics) -> None:
        before = threading.active_count()
        server = start_status_server(metrics, 0)
        port = server.port
        server.close()
        with socket.socket() as taker:
            taker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            taker.bind(("127.0.0.1", port))
        assert threading.active_count() == before

    def test_is_not_blocked_by_a_silent_client(self, server: StatusServer) -> None:
        with socket.create_connection(("127.0.0.1", server.port)):
            assert get(server.port, "/healthz")[0] == 200
