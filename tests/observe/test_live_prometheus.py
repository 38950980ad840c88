"""Prometheus scrapes a worker and a gateway: every query of the dashboards has a result, every rule evaluates."""

import itertools
import json
import math
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
import yaml

from streams.domain.double_containment import DoubleContainment
from streams.domain.kinds import DIRECTIONS, KINDS
from streams.observe import gateway_dashboard, worker_dashboard
from streams.observe.gateway_metric_catalogue import JOB
from streams.observe.gateway_metrics import GatewayMetrics
from streams.observe.status_server import start_status_server
from streams.observe.worker_metrics import WorkerMetrics
from streams.telemetry import gateway_events, worker_events
from tests.conftest import unable

DEPLOY = Path(__file__).parents[2] / "deploy" / "prometheus"
MACROS = {"$__rate_interval": "10s", "$__range": "1m", "$job": ".+", "$instance": ".+"}
MIN_SCRAPES = 6


def busy_worker() -> tuple[WorkerMetrics, Callable[[], None]]:
    """Metrics of a worker, and a function that sends it one event of each kind."""
    metrics = WorkerMetrics(sites=["LGG"], promises=["door"], log=structlog.wrap_logger(structlog.ReturnLogger()))
    metrics(worker_events.WorkerStarted("127.0.0.1:9092", "parcels", "a"))
    metrics(worker_events.PartitionsAssigned((0, 1)))
    metrics(worker_events.PartitionsAssigned((0, 1), "containers"))

    def send_events() -> None:
        for partition in (0, 1):
            metrics(worker_events.PartitionRestored(partition, 1000, 1200, 0.3, 7))
            metrics(worker_events.TransactionRecovered(partition, "committed", "timed out"))
            metrics(
                worker_events.ParcelBatchCommitted(
                    partition=partition,
                    records=110,
                    scans={("LGG", kind, direction): 1 for kind in KINDS for direction in DIRECTIONS},
                    duplicates=5,
                    dead_letters={"TRUNCATED": 2},
                    states=80,
                    milestones=40,
                    seconds={"decode": 0.001, "fold": 0.002, "encode": 0.003, "send": 0.004, "commit": 0.02},
                    scan_to_state=[(0.03, 100), (1.7, 10)],
                    lag_records=3,
                    lag_seconds=0.2,
                    parcels_by_stage={"SORTED": 70, "LOADED": 10},
                    hub_time=1_772_337_600_000,
                    alerts={("AT_RISK", "door"): 2},
                    retired=1,
                    active_clocks={"door": 12},
                )
            )
            metrics(
                worker_events.ContainerBatchCommitted(
                    partition=partition,
                    records=30,
                    events={("LGG", kind): 2 for kind in KINDS},
                    inferred_events=10,
                    duplicates=1,
                    dead_letters={"CYCLE": 1},
                    inferred_records=dict.fromkeys(KINDS, 50),
                    pending_fan_outs=1,
                    containers=40,
                    retired=1,
                    seconds={"fold": 0.002, "encode": 0.003, "send": 0.004, "commit": 0.02},
                    event_to_scan=[(0.03, 20), (1.7, 10)],
                    lag_records=3,
                    lag_seconds=0.2,
                    double_containments=[DoubleContainment("BAG", "U1", "e1", "U2", "e2", 1_772_337_600_000)],
                )
            )

    send_events()
    return metrics, send_events


def busy_gateway() -> tuple[GatewayMetrics, Callable[[], None]]:
    """The same for a gateway."""
    metrics = GatewayMetrics(log=structlog.wrap_logger(structlog.ReturnLogger()))
    metrics(gateway_events.GatewayStarted("http://127.0.0.1:8080", allows_anonymous=False))
    turns = itertools.count(1)

    def send_events() -> None:
        turn = next(turns)
        metrics(gateway_events.RequestAnswered("scans", 200, 0.004, 90, 5, 3, 2))
        metrics(gateway_events.RequestDenied("bad_signature", "S7"))
        metrics(gateway_events.GatewayState(1_000, 90 * turn, 3 * turn, 7 * turn, 0.01 * turn, 8_000))

    send_events()
    return metrics, send_events


class Prometheus:
    """A client of a running Prometheus."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def get(self, path: str, **parameters: str) -> Any:
        url = f"{self.url}{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)["data"]

    def query(self, query: str) -> list[float]:
        return [float(sample["value"][1]) for sample in self.get("/api/v1/query", query=query)["result"]]


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    program = shutil.which("prometheus")
    if program is None:
        unable("prometheus is not installed; Debian has it in the package prometheus")
    folder = tmp_path_factory.mktemp("prometheus")
    shutil.copytree(DEPLOY / "rules", folder / "rules")
    metrics, send_worker_events = busy_worker()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    gateway, send_gateway_events = busy_gateway()
    with start_status_server(metrics, 0) as worker_server, start_status_server(gateway, 0) as gateway_server:
        config = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())
        config["global"] = {"scrape_interval": "500ms", "evaluation_interval": "500ms"}
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        (folder / "targets").mkdir()
        (folder / "targets" / "workers.yml").write_text(
            yaml.safe_dump([{"targets": [f"127.0.0.1:{worker_server.port}"]}])
        )
        (folder / "targets" / "gateways.yml").write_text(
            yaml.safe_dump([{"targets": [f"127.0.0.1:{gateway_server.port}"]}])
        )
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [
                    program,
                    f"--config.file={folder / 'prometheus.yml'}",
                    f"--storage.tsdb.path={folder / 'tsdb'}",
                    f"--web.listen-address=127.0.0.1:{port}",
                ],
                stdout=log,
                stderr=log,
            )
        try:
            found = Prometheus(port)
            deadline = time.monotonic() + 60
            while not _scraped(found):
                assert process.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < deadline, (folder / "log").read_text()
                send_worker_events()
                send_gateway_events()
                time.sleep(0.1)
            yield found
        finally:
            process.terminate()
            process.wait(timeout=30)


def _scraped(prometheus: Prometheus) -> bool:
    try:
        return len(prometheus.query(f"count_over_time(up[1m]) >= {MIN_SCRAPES}")) == 2
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def targets() -> list[Any]:
    boards = (worker_dashboard.DASHBOARD, gateway_dashboard.DASHBOARD)
    panels = [panel for board in boards for panel in json.loads(board.path.read_text())["panels"]]
    return [
        pytest.param(target["expr"], id=f"{panel['title']}, {target['refId']}")
        for panel in panels
        for target in panel.get("targets", ())
    ]


@pytest.mark.parametrize("query", targets())
def test_the_query_of_a_panel_has_finite_values(prometheus: Prometheus, query: str) -> None:
    for macro, value in MACROS.items():
        query = query.replace(macro, value)
    values = prometheus.query(query)
    assert values, query
    assert all(map(math.isfinite, values)), (query, values)


def test_the_variables_of_the_dashboards_find_their_processes(prometheus: Prometheus) -> None:
    for board, job in ((worker_dashboard.DASHBOARD, "parcels"), (gateway_dashboard.DASHBOARD, JOB)):
        name = board.variable_metric.name
        assert prometheus.get("/api/v1/label/job/values", **{"match[]": name}) == [job]
        assert len(prometheus.get("/api/v1/label/instance/values", **{"match[]": f'{name}{{job=~"{job}"}}'})) == 1


def test_every_rule_evaluates(prometheus: Prometheus) -> None:
    groups = prometheus.get("/api/v1/rules")["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert {(rule["name"], rule.get("lastError")) for rule in rules if rule["health"] == "err"} == set()
    assert {"ParcelWorkerDown", "ParcelGatewayDown", "job:parcel_scans:rate5m"} <= {rule["name"] for rule in rules}


def test_an_alert_fires_on_dead_letters(prometheus: Prometheus) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        firing = {alert["labels"]["alertname"] for alert in prometheus.get("/api/v1/alerts")["alerts"]}
        if "ParcelDeadLetters" in firing:
            return
        time.sleep(0.2)
    pytest.fail(f"ParcelDeadLetters does not fire; {sorted(firing)} do")
