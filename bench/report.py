"""Results as tables, in the terminal and in the README."""

import json
from pathlib import Path
from typing import Any

from rich.table import Table

from bench.common import REPOSITORY, console

_BEGIN, _END = "<!-- bench:begin -->", "<!-- bench:end -->"
_TITLES = {"ours": "this worker", "kafka_streams": "Kafka Streams"}
_MODES = {
    "live": "six promises watched; states, milestones and alerts written, exactly once",
    "live_plain": "the same without promises",
    "replay": "promises watched, nothing written",
}
# Features of this worker that the peer lacks.
_LESS = "Kafka Streams does less: no anomalies, no retirement, no counts for hub.throughput, no dead letters"


def rows(result: dict[str, Any]) -> list[list[str]]:
    """The table of all measurements, heading row first."""
    table = [["", *_TITLES.values(), "ratio"]]
    for mode, what in _MODES.items():
        measured = result.get(mode)
        if measured:
            ours, peer = (measured[key] for key in _TITLES)
            table += [
                [f"scans/s, {what}", f"{ours['rate']:,}", f"{peer['rate']:,}", f"{measured['ratio']:.1f}"],
                _line("CPU seconds per million scans", ours, peer, "cpu_seconds_per_million", ".1f"),
                _line("largest memory, MB", ours, peer, "peak_megabytes", ",.0f"),
            ]
    if result.get("live") and result.get("live_plain"):
        cost = promises_cost(result)
        table.append(["with promises, share of the rate without", *(f"{cost[key]:.0%}" for key in _TITLES), ""])
    measured = result.get("latency")
    if measured:
        ours, peer = (measured[key] for key in _TITLES)
        for figure in ("p50", "p99"):
            name = f"scan to readable state at {measured['rate']:,} scans/s, {figure}, ms"
            table.append(_line(name, ours, peer, f"{figure}_ms", ".0f"))
    if measured := result.get("containers"):
        name = f"parcel-scans/s, both processors, {measured['inferred_share']:.0%} of them inferred from containers"
        table.append([name, f"{measured['rate']:,}", "", ""])
        table.append(["the same, slowest and fastest run", f"{measured['min']:,} to {measured['max']:,}", "", ""])
    return table


def promises_cost(result: dict[str, Any]) -> dict[str, float]:
    """Rate with promises as a share of the rate without, by program."""
    return {key: round(result["live"][key]["rate"] / result["live_plain"][key]["rate"], 2) for key in _TITLES}


def phase_rows(result: dict[str, Any]) -> list[list[str]]:
    """The time of this worker by phase and mode, heading row first."""
    table = [["phase", "mode", "seconds", "share"]]
    for mode in _MODES:
        phases = ((result.get(mode) or {}).get("ours") or {}).get("phases") or {}
        total = sum(phases.values())
        for name, seconds in sorted(phases.items(), key=lambda phase: -phase[1]):
            table.append([name, mode, f"{seconds:.2f}", f"{seconds / total:.0%}" if total else ""])
    return table


def show(result: dict[str, Any]) -> None:
    """Print the tables."""
    for title, table in (("Side by side", rows(result)), ("This worker's time by phase", phase_rows(result))):
        if len(table) > 1:
            shown = Table(title=title)
            for column, heading in enumerate(table[0]):
                shown.add_column(heading, justify="right" if column else "left")
            for row in table[1:]:
                shown.add_row(*row)
            console.print(shown)
    if any(result.get(mode) for mode in _MODES):
        console.print(_LESS)


def write(result: dict[str, Any], folder: Path, name: str) -> None:
    """Write the result under its own name and as the latest."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in (folder / f"{name}.json", folder / "latest.json"):
        path.write_text(json.dumps(result, indent=2) + "\n")
        console.print(f"written: {path}", soft_wrap=True)


def rewrite_readme(result: dict[str, Any]) -> None:
    """Replace the table between the markers in the README, if it has them."""
    readme = REPOSITORY / "README.md"
    text = readme.read_text()
    if _BEGIN not in text or _END not in text:
        console.print(f"README.md has no {_BEGIN} and {_END}: left as it is")
        return
    before, rest = text.split(_BEGIN, 1)
    after = rest.split(_END, 1)[1]
    readme.write_text(f"{before}{_BEGIN}\n{_markdown(result)}{_END}{after}")
    console.print("README.md has the new table")


def _markdown(result: dict[str, Any]) -> str:
    table = rows(result)
    lines = ["| " + " | ".join(row) + " |" for row in table]
    lines.insert(1, "|---|" + "---:|" * (len(table[0]) - 1))
    machine, scans = result["machine"], next((result[mode]["records"] for mode in _MODES if result.get(mode)), None)
    about = f"{machine['cores']} cores ({machine['cpu']}), {machine['memory_gib']} GiB, the broker on the same machine"
    if scans:
        about = f"The same {scans:,} records, medians of interleaved runs; {about}"
    return "\n".join(lines) + f"\n\n{about}. {_LESS}.\n"


def _line(name: str, ours: dict[str, Any], peer: dict[str, Any], figure: str, form: str) -> list[str]:
    ratio = f"{ours[figure] / peer[figure]:.2f}" if peer[figure] else ""
    return [name, format(ours[figure], form), format(peer[figure], form), ratio]
