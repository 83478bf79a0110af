"""`python -m bench.plot [RESULTS.json]`: a run's figures as bars, PNG and SVG beside its JSON.

Without a name the newest run. One panel a workload that other servers take part in: the median of
what the workload is about, the line from the least to the most over the rounds; less is better.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench import RESULTS
from bench.figures import COLUMNS
from bench.peers import Go, Node
from bench.verdicts import Result

PEERS = {Go.name, Node.name}
ABOUT = ("cpu", "resident", "multiple")
"""Figures, the first that a workload has is drawn; but of latency: """
LATENCY = {"h": "p50"}

OURS, OTHERS, TEXT = "#1f6feb", "#9aa4af", "#24292f"
WIDTH = 8.6
"""Inches: at 100 dots what a README has."""
BAR = 0.27
"""Inches of height."""


class Panel(NamedTuple):
    """One workload: its rows all have the figure."""

    title: str
    figure: str
    rows: list[Result]


def panel(workload: dict[str, Any]) -> Panel | None:
    """None where no other server took part."""
    results = [Result(**each) for each in workload["contenders"]]
    wanted = [LATENCY[workload["letter"]]] if workload["letter"] in LATENCY else ABOUT
    for figure in wanted:
        rows = [each for each in results if each.values(figure)]
        if any(row.name.startswith(tuple(PEERS)) for row in rows):
            heading = COLUMNS[figure].heading
            if "CPU a recipient" in workload["title"]:
                heading = heading.replace("message", "recipient")
            return Panel(f"({workload['letter']}) {workload['name']}: {heading}", figure, rows)
    return None


def draw(axes: Axes, shown: Panel, places: int) -> None:
    """Bars from the top in the table's order; room for so many."""
    medians = [each.median(shown.figure) for each in shown.rows]
    values = [each.values(shown.figure) for each in shown.rows]
    errors = [
        [middle - min(each) for middle, each in zip(medians, values, strict=True)],
        [max(each) - middle for middle, each in zip(medians, values, strict=True)],
    ]
    colours = [OURS if each.name.startswith("fastsmtp") else OTHERS for each in shown.rows]
    rows = range(len(shown.rows))
    axes.barh(rows, medians, 0.7, color=colours, xerr=errors, ecolor=TEXT, capsize=2)
    column = COLUMNS[shown.figure]
    end = max(max(each) for each in values)
    for row, middle, each in zip(rows, medians, values, strict=True):
        axes.text(max(each) + end * 0.02, row, f"{middle:.{column.digits}f}", va="center")
    axes.set_yticks(rows, [each.name.replace(" after one message", "") for each in shown.rows])
    axes.set_ylim(places - 0.5, -0.5)
    axes.set_xlim(0, end * 1.2)
    axes.set_title(shown.title, loc="right", fontweight="bold")
    axes.spines[["top", "right"]].set_visible(False)


def picture(panels: Sequence[Panel], facts: dict[str, str]) -> Figure:
    """The first panel across, the others two and two below it, each as high as its rows."""
    lines = [panels[:1], *(panels[at : at + 2] for at in range(1, len(panels), 2))]
    places = [max(len(each.rows) for each in line) for line in lines]
    heights = [each * BAR + 0.55 for each in places]
    figure = Figure(figsize=(WIDTH, sum(heights) + 0.3), layout="constrained")
    grid = figure.add_gridspec(len(lines), 2, height_ratios=heights)
    for number, line in enumerate(lines):
        for column, each in enumerate(line):
            cell = grid[number, column] if number else grid[number, :]
            draw(figure.add_subplot(cell), each, places[number])
    figure.supxlabel(
        f"Median, least and most of the rounds; less is better. {facts['machine']}, "
        f"{facts['kernel']}, commit {facts['commit']}, {facts['when']}",
        fontsize=7,
    )
    return figure


def main(names: Sequence[str]) -> None:
    runs = [Path(each) for each in names] or list(RESULTS.glob("*.json"))
    if not runs:
        sys.exit(f"nothing to draw in {RESULTS}: `make bench` first")
    newest = max(runs, key=lambda each: each.stat().st_mtime)
    run = json.loads(newest.read_text())
    panels = [found for each in run["workloads"] if (found := panel(each))]
    if not panels:
        sys.exit(f"{newest}: no workload that other servers took part in")
    mpl.rcParams |= {"font.size": 8, "axes.titlesize": 9, "svg.hashsalt": "fastsmtp"}
    drawn = picture(panels, run["environment"])
    for suffix in (".png", ".svg"):
        path = newest.with_suffix(suffix)
        drawn.savefig(path, dpi=150, metadata={"Date": None} if suffix == ".svg" else None)
        print(path)


if __name__ == "__main__":
    main(sys.argv[1:])
