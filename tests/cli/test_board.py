"""The board of the demo shows the metrics of a worker."""

import dataclasses
import io
import math
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from streams.cli.board import Board, histogram_quantile, is_ready, scrape_worker
from streams.domain.reject_reasons import RejectReason
from streams.errors import StreamsError
from streams.observe.status_server import start_status_server
from streams.observe.worker_metrics import WorkerMetrics
from streams.telemetry import worker_events as events

BATCH = events.ParcelBatchCommitted(
    partition=0,
    records=1000,
    scans={("LGG", "SORTED", "IMPORT"): 900, ("LGG", "DISPATCHED", "IMPORT"): 42},
    duplicates=17,
    dead_letters={"TRUNCATED": 3},
    states=800,
    milestones=400,
    seconds={"fold": 0.01},
    scan_to_state=[(0.12, 1000)],
    lag_records=55,
    lag_seconds=0.4,
    parcels_by_stage={"SORTED": 321},
    hub_time=1_772_348_400_000,
)
MILESTONE = {
    "event_time": datetime(2026, 3, 1, 7, 0, tzinfo=UTC),
    "parcel_id": "LP[red]1",
    "type": "REACHED",
    "stage": "SORTED",
    "site": "LGG",
    "station": "SRT-07",
    "direction": "IMPORT",
}


@pytest.fixture
def metrics() -> WorkerMetrics:
    metrics = WorkerMetrics(sites=["LGG"], log=structlog.wrap_logger(structlog.ReturnLogger()))
    metrics(events.WorkerStarted("b", "g", "i"))
    metrics(events.PartitionsAssigned((0,)))
    return metrics


@pytest.fixture
def board(metrics: WorkerMetrics) -> Iterator[Board]:
    with start_status_server(metrics, 0) as serving:
        yield Board(f"http://127.0.0.1:{serving.port}", "Parcel hub")


def rendered(board: Board, width: int = 120) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    console.print(board.render([MILESTONE]))
    return console.file.getvalue()


def test_a_snapshot_has_the_figures_of_the_worker(metrics: WorkerMetrics, board: Board) -> None:
    metrics(BATCH)
    snapshot = scrape_worker(board.url)
    assert (snapshot.scans, snapshot.records, snapshot.duplicates) == (942, 1000, 17)
    assert snapshot.dead_letters == {"TRUNCATED": 3}
    assert snapshot.parcels_by_stage["SORTED"] == 321
    assert (snapshot.lag_records, snapshot.lag_seconds) == (55, 0.4)
    assert snapshot.scan_to_state[-1] == (math.inf, 1000)


def test_rate_and_latency_are_those_of_the_last_seconds(metrics: WorkerMetrics, board: Board) -> None:
    metrics(dataclasses.replace(BATCH, scan_to_state=[(800.0, 1_000_000)]))
    board.refresh()
    metrics(BATCH)
    board.refresh()
    first, last = board.snapshots
    assert board.rate() == pytest.approx(942 / (last.monotonic_time - first.monotonic_time))
    p50, p99 = board.latency()
    assert p50 is not None
    assert p99 is not None
    assert 0.1 <= p50 <= p99 <= 0.15


def test_the_board_shows_the_figures(metrics: WorkerMetrics, board: Board) -> None:
    metrics(BATCH)
    board.refresh()
    text = rendered(board)
    for shown in ("Sun 01 Mar 07:00", "942", "321", "TRUNCATED", "LP[red]1", "reached SORTED", "LGG SRT-07", "import"):
        assert shown in text, text


@pytest.mark.parametrize("width", [60, 80, 200])
def test_the_board_fits_a_terminal_of_24_lines(metrics: WorkerMetrics, board: Board, width: int) -> None:
    metrics(dataclasses.replace(BATCH, dead_letters={reason.name: 10_000 for reason in RejectReason}))
    board.refresh()
    lines = rendered(board, width=width).splitlines()
    assert max(map(len, lines)) <= width
    assert len(lines) < 24


def test_the_summary_line_shows_the_figures(metrics: WorkerMetrics, board: Board) -> None:
    metrics(BATCH)
    board.refresh()
    assert "942 scans" in board.summary_line()
    assert "3 dead letters" in board.summary_line()


def test_the_board_can_be_rendered_before_the_first_record(board: Board) -> None:
    board.refresh()
    assert "before the first tick" in rendered(board)


def test_ready_follows_the_readyz_of_the_worker(metrics: WorkerMetrics, board: Board) -> None:
    assert not is_ready(board.url)
    metrics(events.PartitionRestored(0, 0, 0, 0.1, 0))
    assert is_ready(board.url)
    assert not is_ready("http://127.0.0.1:9")


def test_a_worker_that_does_not_answer_is_an_error() -> None:
    with pytest.raises(StreamsError, match="does not answer"):
        Board("http://127.0.0.1:9", "").refresh()


EDGES = (0.1, 0.5, 1.0, math.inf)


def cumulative(values: list[float]) -> list[tuple[float, float]]:
    return [(edge, float(sum(value <= edge for value in values))) for edge in EDGES]


@given(
    before=st.lists(st.floats(0, 2), max_size=20),
    new=st.lists(st.floats(0.001, 0.999), min_size=1, max_size=40),
    share=st.sampled_from([0.5, 0.9, 0.99, 1.0]),
)
def test_a_quantile_lies_in_the_bucket_of_the_true_one(before: list[float], new: list[float], share: float) -> None:
    found = histogram_quantile(share, cumulative(before), cumulative(before + new))
    true = sorted(new)[math.ceil(share * len(new)) - 1]
    low, high = next((low, high) for low, high in zip((0.0, *EDGES), EDGES, strict=False) if true <= high)
    assert found is not None
    assert low <= found <= high


def test_without_new_observations_there_is_no_quantile() -> None:
    assert histogram_quantile(0.5, cumulative([0.2]), cumulative([0.2])) is None
    assert histogram_quantile(0.5, (), ()) is None
