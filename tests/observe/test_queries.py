"""Rules and dashboard ask only for what the worker exports, and ask for it rightly."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from streams.domain.reject_reasons import RejectReason
from streams.observe import gateway_dashboard, gateway_metric_catalogue, metrics_reference
from streams.observe import worker_dashboard as dashboard
from streams.observe.grafana import Dashboard
from streams.observe.metric_catalogue import CATALOGUE as OF_WORKERS
from streams.observe.metric_catalogue import PREFIX, PROCESS_METRICS, SCRAPE_METRICS, MetricType

DEPLOY = Path(__file__).parents[2] / "deploy"
RUNBOOKS = Path(__file__).parents[2] / "docs" / "runbooks.md"

# Grafana's own words, which PromQL does not have.
MACROS = {"$__rate_interval": "1m", "$__range": "1h", "$job": ".+", "$instance": ".+"}

BOARDS = (dashboard.DASHBOARD, gateway_dashboard.DASHBOARD)
CATALOGUE = tuple(dict.fromkeys((*OF_WORKERS, *gateway_metric_catalogue.CATALOGUE)))
LABELS = {series: {label.name for label in metric.labels} for metric in CATALOGUE for series in metric.series}
EVERYWHERE = {"job", "instance", "le"}


def rules() -> list[dict[str, Any]]:
    files = [yaml.safe_load(file.read_text()) for file in sorted((DEPLOY / "prometheus" / "rules").glob("*.yml"))]
    return [rule for file in files for group in file["groups"] for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    boards = [json.loads(board.file.read_text()) for board in BOARDS]
    return [panel for board in boards for panel in board["panels"] if panel["type"] != "row"]


RECORDED = {rule["record"] for rule in rules() if "record" in rule}
ALERTS = [rule for rule in rules() if "alert" in rule]
QUERIES = {
    **{rule.get("record") or rule["alert"]: rule["expr"] for rule in rules()},
    **{f"{panel['title']}, {target['refId']}": target["expr"] for panel in panels() for target in panel["targets"]},
}
each_query = pytest.mark.parametrize("query", [pytest.param(query, id=name) for name, query in QUERIES.items()])


def tree_of(query: str) -> Any:
    for macro, value in MACROS.items():
        query = query.replace(macro, value)
    return promql_parser.parse(query)


def nodes(tree: Any) -> Iterator[Any]:
    yield tree
    below = [getattr(tree, name, None) for name in ("expr", "lhs", "rhs", "vector_selector")]
    for node in [*below, *(getattr(tree, "args", None) or ())]:
        if node is not None:
            yield from nodes(node)


def inside(query: str, kind: type) -> list[Any]:
    return [node for node in nodes(tree_of(query)) if isinstance(node, kind)]


def names(query: str) -> set[str]:
    return {selector.name for selector in inside(query, promql_parser.VectorSelector)}


def keeps(aggregation: Any, label: str) -> bool:
    modifier = aggregation.modifier
    if modifier is None:
        return False
    return (label in modifier.labels) == (modifier.type == promql_parser.AggModifierType.By)


def is_bucket(name: str) -> bool:
    return "_bucket" in name


@each_query
def test_every_name_is_one_that_the_worker_exports(query: str) -> None:
    assert names(query) <= LABELS.keys() | PROCESS_METRICS.keys() | SCRAPE_METRICS.keys() | RECORDED


@each_query
def test_every_label_is_one_that_its_metric_has(query: str) -> None:
    for selector in inside(query, promql_parser.VectorSelector):
        asked = {matcher.name for matcher in selector.matchers.matchers}
        assert asked <= LABELS.get(selector.name, set()) | EVERYWHERE, selector
    known = set().union(*LABELS.values()) | EVERYWHERE
    for aggregation in inside(query, promql_parser.AggregateExpr):
        assert set(aggregation.modifier.labels if aggregation.modifier else ()) <= known


@each_query
def test_quantiles_keep_the_edges_of_the_buckets(query: str) -> None:
    for call in inside(query, promql_parser.Call):
        if call.func.name == "histogram_quantile":
            for node in nodes(call):
                assert not isinstance(node, promql_parser.AggregateExpr) or keeps(node, "le"), node
    for aggregation in inside(query, promql_parser.AggregateExpr):
        for selector in nodes(aggregation):
            if isinstance(selector, promql_parser.VectorSelector) and is_bucket(selector.name):
                # Buckets are cumulative: their sum means something per edge, or for one edge.
                edges = [matcher for matcher in selector.matchers.matchers if matcher.name == "le"]
                assert edges or keeps(aggregation, "le"), aggregation


@each_query
def test_an_edge_that_is_asked_for_exists(query: str) -> None:
    edges = {f"{name}_bucket": buckets for name, buckets in ((m.name, m.buckets) for m in CATALOGUE)}
    for selector in inside(query, promql_parser.VectorSelector):
        for matcher in selector.matchers.matchers:
            if matcher.name == "le":
                exported = re.sub(r"^job:|:rate5m$", "", selector.name)
                assert matcher.value in {str(float(edge)) for edge in edges[exported]}


@each_query
def test_counters_are_only_asked_for_their_increase(query: str) -> None:
    ranged = {matrix.vector_selector.name for matrix in inside(query, promql_parser.MatrixSelector)}
    counting = {m.name for m in CATALOGUE if m.type is MetricType.COUNTER}
    counting |= {series for m in CATALOGUE if m.type is MetricType.HISTOGRAM for series in m.series}
    assert not (names(query) & counting) - ranged


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
class TestEveryAlert:
    def test_says_how_bad_it_is_and_what_happened(self, rule: dict[str, Any]) -> None:
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}

    def test_leads_to_a_section_of_the_runbooks(self, rule: dict[str, Any]) -> None:
        page, _, section = rule["annotations"]["runbook_url"].partition("#")
        assert page == "docs/runbooks.md"
        assert section == rule["alert"].lower()
        assert f"## {rule['alert']}\n" in RUNBOOKS.read_text()

    def test_is_tried_by_a_rule_test_that_fires(self, rule: dict[str, Any]) -> None:
        files = (DEPLOY / "prometheus" / "tests").glob("*.yml")
        tests = [test for file in files for test in yaml.safe_load(file.read_text())["tests"]]
        tried = [
            case for test in tests for case in test.get("alert_rule_test", ()) if case["alertname"] == rule["alert"]
        ]
        assert any(case["exp_alerts"] for case in tried)


@pytest.mark.parametrize("panel", panels(), ids=lambda panel: panel["title"])
class TestEveryPanel:
    def test_says_what_it_shows(self, panel: dict[str, Any]) -> None:
        assert panel["title"]
        assert panel["description"].endswith(".")
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["targets"]

    def test_asks_the_source_that_was_chosen(self, panel: dict[str, Any]) -> None:
        for asking in (panel, *panel["targets"]):
            assert asking["datasource"] == {"type": "prometheus", "uid": "$datasource"}

    def test_looks_at_the_chosen_workers_only(self, panel: dict[str, Any]) -> None:
        for target in panel["targets"]:
            for selector in inside(target["expr"], promql_parser.VectorSelector):
                assert {"job", "instance"} <= {matcher.name for matcher in selector.matchers.matchers}

    def test_leaves_the_window_to_grafana(self, panel: dict[str, Any]) -> None:
        for target in panel["targets"]:
            windows = re.findall(r"\[(.*?)\]", target["expr"])
            assert set(windows) <= {"$__rate_interval", "$__range"}


each_board = pytest.mark.parametrize("dashboard", BOARDS, ids=lambda board: board.name)


@each_board
def test_panels_do_not_overlap_and_have_their_own_ids(dashboard: Dashboard) -> None:
    board = json.loads(dashboard.file.read_text())["panels"]
    assert len({panel["id"] for panel in board}) == len(board)
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in board)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24


def test_every_metric_is_on_the_dashboard_or_in_a_rule() -> None:
    asked = set().union(*map(names, QUERIES.values()))
    unused = {metric.name for metric in CATALOGUE if not asked & set(metric.series)}
    # For people who ask by hand: the clock of the log, what a restore brought; the build fills the variables.
    assert unused == {"parcel_hub_timestamp_seconds", "parcel_restored_parcels_total", "parcel_build_info"}


@each_board
def test_the_dashboard_file_is_the_one_that_the_catalogue_makes(dashboard: Dashboard) -> None:
    assert dashboard.file.read_text() == dashboard.text(), f"run: python -m {dashboard.generator_module}"


def test_the_reference_page_is_the_one_that_the_catalogue_makes() -> None:
    assert metrics_reference.PAGE_PATH.read_text() == metrics_reference.render_page(), (
        "run: python -m streams.observe.metrics_reference"
    )


@pytest.mark.parametrize("metric", CATALOGUE, ids=lambda metric: metric.name)
def test_names_follow_the_practices_of_prometheus(metric: Any) -> None:
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


def test_gateways_are_scraped_as_the_job_that_the_rules_know() -> None:
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    jobs = [each["job_name"] for each in config["scrape_configs"]]
    assert jobs == ["parcels", gateway_metric_catalogue.JOB]
    asked = {
        matcher.value
        for rule in ALERTS
        for selector in inside(rule["expr"], promql_parser.VectorSelector)
        for matcher in selector.matchers.matchers
        if matcher.name == "job"
    }
    assert asked == set(jobs)


def test_every_reason_of_a_dead_letter_is_a_label_value() -> None:
    [metric] = [metric for metric in CATALOGUE if metric.name == "parcel_dead_letters_total"]
    assert metric.labels[0].values == tuple(reason.name for reason in RejectReason)[1:]
