"""Rules and dashboards query only metrics and labels that the processes export, and query them correctly."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from streams.domain.reject_reasons import RejectReason
from streams.observe import gateway_dashboard, gateway_metric_catalogue, metrics_reference, worker_dashboard
from streams.observe.grafana import Dashboard
from streams.observe.metric_catalogue import CATALOGUE as WORKER_CATALOGUE
from streams.observe.metric_catalogue import PROCESS_METRICS, SCRAPE_METRICS
from streams.observe.metric_definition import PREFIX, MetricType

DEPLOY = Path(__file__).parents[2] / "deploy"
RUNBOOKS = Path(__file__).parents[2] / "docs" / "runbooks.md"

# Macros and variables of Grafana, which PromQL does not have.
MACROS = {"$__rate_interval": "1m", "$__range": "1h", "$job": ".+", "$instance": ".+"}

BOARDS = (worker_dashboard.DASHBOARD, gateway_dashboard.DASHBOARD)
CATALOGUE = tuple(dict.fromkeys((*WORKER_CATALOGUE, *gateway_metric_catalogue.CATALOGUE)))
LABELS = {series: {label.name for label in metric.labels} for metric in CATALOGUE for series in metric.series}
COMMON_LABELS = {"job", "instance", "le"}


def rules() -> list[dict[str, Any]]:
    files = [yaml.safe_load(file.read_text()) for file in sorted((DEPLOY / "prometheus" / "rules").glob("*.yml"))]
    return [rule for file in files for group in file["groups"] for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    boards = [json.loads(board.path.read_text()) for board in BOARDS]
    return [panel for board in boards for panel in board["panels"] if panel["type"] != "row"]


RECORDED = {rule["record"] for rule in rules() if "record" in rule}
ALERTS = [rule for rule in rules() if "alert" in rule]
QUERIES = {
    **{rule.get("record") or rule["alert"]: rule["expr"] for rule in rules()},
    **{f"{panel['title']}, {target['refId']}": target["expr"] for panel in panels() for target in panel["targets"]},
}
each_query = pytest.mark.parametrize("query", [pytest.param(query, id=name) for name, query in QUERIES.items()])


def parse_query(query: str) -> Any:
    for macro, value in MACROS.items():
        query = query.replace(macro, value)
    return promql_parser.parse(query)


def nodes(tree: Any) -> Iterator[Any]:
    yield tree
    below = [getattr(tree, name, None) for name in ("expr", "lhs", "rhs", "vector_selector")]
    for node in [*below, *(getattr(tree, "args", None) or ())]:
        if node is not None:
            yield from nodes(node)


def nodes_of_type(query: str, node_type: type) -> list[Any]:
    return [node for node in nodes(parse_query(query)) if isinstance(node, node_type)]


def metric_names(query: str) -> set[str]:
    return {selector.name for selector in nodes_of_type(query, promql_parser.VectorSelector)}


def keeps_label(aggregation: Any, label: str) -> bool:
    modifier = aggregation.modifier
    if modifier is None:
        return False
    return (label in modifier.labels) == (modifier.type == promql_parser.AggModifierType.By)


def is_bucket(name: str) -> bool:
    return "_bucket" in name


@each_query
def test_every_metric_is_exported(query: str) -> None:
    assert metric_names(query) <= LABELS.keys() | PROCESS_METRICS.keys() | SCRAPE_METRICS.keys() | RECORDED


@each_query
def test_every_label_belongs_to_its_metric(query: str) -> None:
    for selector in nodes_of_type(query, promql_parser.VectorSelector):
        used = {matcher.name for matcher in selector.matchers.matchers}
        assert used <= LABELS.get(selector.name, set()) | COMMON_LABELS, selector
    known = set().union(*LABELS.values()) | COMMON_LABELS
    for aggregation in nodes_of_type(query, promql_parser.AggregateExpr):
        assert set(aggregation.modifier.labels if aggregation.modifier else ()) <= known


@each_query
def test_quantiles_keep_the_bucket_edges(query: str) -> None:
    for call in nodes_of_type(query, promql_parser.Call):
        if call.func.name == "histogram_quantile":
            for node in nodes(call):
                assert not isinstance(node, promql_parser.AggregateExpr) or keeps_label(node, "le"), node
    for aggregation in nodes_of_type(query, promql_parser.AggregateExpr):
        for selector in nodes(aggregation):
            if isinstance(selector, promql_parser.VectorSelector) and is_bucket(selector.name):
                # Buckets are cumulative, so a sum is only correct for each edge, or for one edge.
                edges = [matcher for matcher in selector.matchers.matchers if matcher.name == "le"]
                assert edges or keeps_label(aggregation, "le"), aggregation


@each_query
def test_every_queried_bucket_edge_exists(query: str) -> None:
    edges = {f"{name}_bucket": buckets for name, buckets in ((m.name, m.buckets) for m in CATALOGUE)}
    for selector in nodes_of_type(query, promql_parser.VectorSelector):
        for matcher in selector.matchers.matchers:
            if matcher.name == "le":
                exported = re.sub(r"^job:|:rate5m$", "", selector.name)
                assert matcher.value in {str(float(edge)) for edge in edges[exported]}


@each_query
def test_counters_are_only_queried_over_a_range(query: str) -> None:
    ranged = {matrix.vector_selector.name for matrix in nodes_of_type(query, promql_parser.MatrixSelector)}
    counting = {m.name for m in CATALOGUE if m.type is MetricType.COUNTER}
    counting |= {series for m in CATALOGUE if m.type is MetricType.HISTOGRAM for series in m.series}
    assert not (metric_names(query) & counting) - ranged


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
class TestEveryAlert:
    def test_has_a_severity_and_annotations(self, rule: dict[str, Any]) -> None:
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}

    def test_links_to_its_runbook(self, rule: dict[str, Any]) -> None:
        page, _, section = rule["annotations"]["runbook_url"].partition("#")
        assert page == "docs/runbooks.md"
        assert section == rule["alert"].lower()
        assert f"## {rule['alert']}\n" in RUNBOOKS.read_text()

    def test_fires_in_a_rule_test(self, rule: dict[str, Any]) -> None:
        files = (DEPLOY / "prometheus" / "tests").glob("*.yml")
        tests = [test for file in files for test in yaml.safe_load(file.read_text())["tests"]]
        cases = [
            case for test in tests for case in test.get("alert_rule_test", ()) if case["alertname"] == rule["alert"]
        ]
        assert any(case["exp_alerts"] for case in cases)


@pytest.mark.parametrize("panel", panels(), ids=lambda panel: panel["title"])
class TestEveryPanel:
    def test_has_a_title_a_description_and_a_unit(self, panel: dict[str, Any]) -> None:
        assert panel["title"]
        assert panel["description"].endswith(".")
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["targets"]

    def test_queries_the_selected_data_source(self, panel: dict[str, Any]) -> None:
        for element in (panel, *panel["targets"]):
            assert element["datasource"] == {"type": "prometheus", "uid": "$datasource"}

    def test_queries_only_the_selected_processes(self, panel: dict[str, Any]) -> None:
        for target in panel["targets"]:
            for selector in nodes_of_type(target["expr"], promql_parser.VectorSelector):
                assert {"job", "instance"} <= {matcher.name for matcher in selector.matchers.matchers}

    def test_takes_its_window_from_grafana(self, panel: dict[str, Any]) -> None:
        for target in panel["targets"]:
            windows = re.findall(r"\[(.*?)\]", target["expr"])
            assert set(windows) <= {"$__rate_interval", "$__range"}


each_board = pytest.mark.parametrize("dashboard", BOARDS, ids=lambda board: board.name)


@each_board
def test_panels_do_not_overlap_and_have_their_own_ids(dashboard: Dashboard) -> None:
    board = json.loads(dashboard.path.read_text())["panels"]
    assert len({panel["id"] for panel in board}) == len(board)
    cells = [
        (x, y)
        for grid in (panel["gridPos"] for panel in board)
        for x in range(grid["x"], grid["x"] + grid["w"])
        for y in range(grid["y"], grid["y"] + grid["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24


def test_every_metric_is_on_a_dashboard_or_in_a_rule() -> None:
    queried = set().union(*map(metric_names, QUERIES.values()))
    unused = {metric.name for metric in CATALOGUE if not queried & set(metric.series)}
    # For queries by hand: hub time, parcels of restores, versions.
    assert unused == {"parcel_hub_timestamp_seconds", "parcel_restored_parcels_total", "parcel_build_info"}


@each_board
def test_the_dashboard_file_is_up_to_date(dashboard: Dashboard) -> None:
    assert dashboard.path.read_text() == dashboard.to_json(), f"run: python -m {dashboard.generator_module}"


def test_the_reference_page_is_up_to_date() -> None:
    assert metrics_reference.PAGE_PATH.read_text() == metrics_reference.render_page(), (
        "run: python -m streams.observe.metrics_reference"
    )


@pytest.mark.parametrize("metric", CATALOGUE, ids=lambda metric: metric.name)
def test_metric_names_follow_the_prometheus_practices(metric: Any) -> None:
    assert re.fullmatch(PREFIX + "[a-z_]+", metric.name)
    assert metric.name.endswith("_total") == (metric.type is MetricType.COUNTER)
    assert metric.help.endswith(".")
    assert not {label.name for label in metric.labels} & {
        "parcel",
        "parcel_id",
        "event_id",
        "container_id",
        "device_id",
    }
    assert list(metric.buckets) == sorted(metric.buckets)
    assert bool(metric.buckets) == (metric.type is MetricType.HISTOGRAM)
    if metric.unit == "seconds":
        assert "_seconds" in metric.name


def test_the_rules_use_the_job_names_of_the_scrape_configuration() -> None:
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    jobs = [each["job_name"] for each in config["scrape_configs"]]
    assert jobs == ["parcels", gateway_metric_catalogue.JOB]
    queried = {
        matcher.value
        for rule in ALERTS
        for selector in nodes_of_type(rule["expr"], promql_parser.VectorSelector)
        for matcher in selector.matchers.matchers
        if matcher.name == "job"
    }
    assert queried == set(jobs)


def test_every_reject_reason_is_a_label_value() -> None:
    [metric] = [metric for metric in CATALOGUE if metric.name == "parcel_dead_letters_total"]
    assert metric.labels[0].values == tuple(reason.name for reason in RejectReason)[1:]
