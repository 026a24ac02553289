"""Pictures of a comparison, as PNG: learning curves by bridge, and intervals of what is measured on them."""

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from launch.curves import DOTS_PER_INCH, LOOK
from launch.plots import COLOURS

BRIDGES = {  # colour and marker: a bridge looks the same in every comparison, and is told apart in print
    "direct": ("#b03a5b", "v"),
    "warm_up": (COLOURS["wsrl"], "o"),
    "rlpd": (COLOURS["rlpd"], "s"),
    "scratch": ("#7a7f87", "X"),
    "anneal": (COLOURS["offline"], "^"),
    "retain": ("#4d8b3a", "D"),
    "jump_start": ("#c9a400", "P"),
    "policy_only": ("#3f66c8", "<"),
    "pretrain": ("#8a5a3b", ">"),
    "balanced": ("#2f8f8f", "H"),
    "reconstruct": ("#d66fb3", "p"),
    "expansion": ("#6fb6e0", "h"),
    "clone": ("#1c2430", "*"),
}
# For bridges not named above, in the order of their names.
OTHERS = (("#9db800", "d"), ("#e2564f", "8"))
ACROSS = 3  # panels beside one another
MARKED = 30  # evaluations of a line; with more, markers would hide it


@dataclass(frozen=True)
class Estimate:
    """Seeds' values and their middle, with the bounds of its interval where there are several seeds.

    `values (S,)` and numbers, or `values (S, T)` and arrays `(T,)`.
    """

    values: np.ndarray
    middle: np.ndarray
    low: np.ndarray | None = None
    high: np.ndarray | None = None


@dataclass(frozen=True)
class Line:
    """A bridge's score `(T,)` at `env_steps (T,)`, and the mean score of the data its panel starts from."""

    panel: str
    bridge: str
    env_steps: np.ndarray
    score: Estimate
    data_score: float


@dataclass(frozen=True)
class Row:
    """What was measured on a cell, by column."""

    label: str
    bridge: str
    measures: Mapping[str, Estimate]


def looks(bridges: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Colour and marker of each bridge, the same whatever else is in the picture for those with a look of their own."""
    others = [name for name in sorted(set(bridges)) if name not in BRIDGES]
    return BRIDGES | {name: OTHERS[i % len(OTHERS)] for i, name in enumerate(others)}


def curves_picture(title: str, lines: Sequence[Line]) -> bytes:
    """Success against environment steps, a panel for each of the lines' `panel`, in order of appearance."""
    panels = list(dict.fromkeys(line.panel for line in lines))
    across, look = min(ACROSS, len(panels)), looks([line.bridge for line in lines])
    down = math.ceil(len(panels) / across)
    with mpl.rc_context(LOOK):
        figure = Figure(figsize=(2.2 + max(5.4, 3.9 * across), 1.1 + 2.9 * down), layout="constrained")
        figure.suptitle(title, fontsize=11)
        grid = figure.subplots(down, across, sharey=True, squeeze=False).ravel()
        for axes, panel in zip(grid, panels, strict=False):
            axes.set_title(panel, loc="left", fontsize=10.5, fontweight="bold")
            here = [line for line in lines if line.panel == panel]
            for line in here:
                _draw(axes, line, *look[line.bridge])
            for data_score in {line.data_score for line in here}:
                axes.axhline(data_score, color="#1c2430", ls=":", lw=1.3, label="offline data, mean")
            axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        for axes in grid[len(panels) :]:
            axes.set_visible(False)
        for i, axes in enumerate(grid[: len(panels)]):
            if i % across == 0:
                axes.set_ylabel("score")
            if i + across >= len(panels):  # the lowest of its column
                axes.set_xlabel("environment steps, warm-up included")
        grid[0].set_ylim(-0.03, 1.03)
        grid[0].yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        shown = {name: key for axes in grid for key, name in zip(*axes.get_legend_handles_labels(), strict=True)}
        names = sorted(shown, key=lambda name: name not in look)  # bridges first, then the data
        figure.legend([shown[name] for name in names], names, loc="outside right center", frameon=False)
        return _png(figure)


def summary_picture(title: str, columns: Mapping[str, str], rows: Sequence[Row]) -> bytes:
    """A panel for each of `columns` (name: title), a bar for each row's interval, a stroke for its middle, dots for seeds."""
    look = looks([row.bridge for row in rows])
    with mpl.rc_context({**LOOK, "axes.grid.axis": "x"}):
        figure = Figure(figsize=(2.9 * len(columns) + 2.2, 1.4 + 0.34 * len(rows)), layout="constrained")
        figure.suptitle(title, fontsize=11)
        panels = figure.subplots(1, len(columns), sharex=True, sharey=True, gridspec_kw={"wspace": 0.08})
        for axes, (column, words) in zip(panels, columns.items(), strict=True):
            for y, row in enumerate(rows):
                _interval(axes, y, row.measures[column], look[row.bridge][0])
            axes.set_title(words, loc="left", fontsize=10)
            axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
            axes.tick_params(axis="y", length=0)
            axes.spines["left"].set_visible(False)
        panels[0].set_yticks(range(len(rows)), [row.label for row in rows])
        panels[0].set_ylim(len(rows) - 0.4, -0.6)  # the first row on top
        panels[0].set_xlim(-0.02, 1.02)  # the whole scale, so that a small difference looks small
        return _png(figure)


def _draw(axes: Axes, line: Line, colour: str, marker: str) -> None:
    marker, score = marker if len(line.env_steps) <= MARKED else "", line.score
    axes.plot(line.env_steps, score.middle, color=colour, marker=marker, ms=4.5, mew=0, lw=1.8, label=line.bridge)
    if score.low is not None and score.high is not None:
        axes.fill_between(line.env_steps, score.low, score.high, color=colour, alpha=0.15, lw=0)


def _interval(axes: Axes, y: int, measure: Estimate, colour: str) -> None:
    if measure.low is not None and measure.high is not None:
        axes.barh(y, measure.high - measure.low, left=measure.low, height=0.62, color=colour, alpha=0.4, lw=0)
        axes.plot(measure.values, np.full(len(measure.values), y), "o", color=colour, ms=3, alpha=0.8, mew=0)
    axes.plot([measure.middle] * 2, [y - 0.36, y + 0.36], color=colour, lw=2.6, solid_capstyle="butt")


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})
    return buffer.getvalue()
