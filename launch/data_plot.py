"""The picture of `segue data info --plot`: returns, lengths, actions and where the observations lie."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from launch.data_facts import normalized_scores, returns
from launch.data_scan import Scan
from launch.data_tools import Source
from sim.d4rl import D4RLTask

WON, LOST, INK = "#158a9c", "#dd7a26", "#1c2430"  # told apart in print and by the colour-blind
LOOK: dict[Any, Any] = {
    "font.size": 9.5,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.alpha": 0.15,
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
}
BINS = 40  # of a histogram at most; of few episodes there are two for each
ACTION_BINS = 61  # of a dimension: odd, so that 0 is within one
POINTS = 20_000  # of the data in the coverage, evenly spread
CELLS = 90  # across the coverage
STILL = 1e-6  # a standard deviation below is none


def draw(source: Source, path: Path) -> None:
    """Writes one PNG. Raises `ValueError` for a file of another kind."""
    if path.suffix.lower() != ".png":
        raise ValueError(f"--plot {path}: it is written as PNG; give a name that ends in .png")
    dataset, scan = source.dataset, Scan(source.dataset, source.task)
    success = dataset.columns["success"][scan.last]
    with mpl.rc_context(LOOK):
        figure = Figure(figsize=(11.0, 8.0), layout="constrained", dpi=130)
        grid = figure.subplots(2, 2)
        size = f"{len(scan.parts):,} episodes, {len(dataset):,} transitions"
        head = f"{dataset.info.task}: {size}, {100 * success.mean():.0f} % succeed"
        figure.suptitle(head, x=0.01, ha="left", fontsize=13, fontweight="bold")
        _returns(grid[0, 0], source, scan, success)
        _histogram(grid[0, 1], scan.lengths, success, "Length of an episode", "env steps", whole=True)
        limit = source.task.max_steps if source.task is not None else None
        if limit is not None:
            grid[0, 1].axvline(limit, color=INK, lw=1, ls=(0, (4, 3)), alpha=0.7, label=f"the task's limit, {limit:,}")
            grid[0, 1].legend(frameon=False)
        _actions(figure, grid[1, 0], dataset.columns["action"])
        _coverage(figure, grid[1, 1], source)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path)


def _returns(axes: Axes, source: Source, scan: Scan, success: np.ndarray) -> None:
    scores = normalized_scores(source, scan)
    beside = "" if scores is None else f"; mean normalised score {scores.mean():.1f}"
    _histogram(axes, returns(scan), success, "Return of an episode", f"undiscounted sum of raw rewards{beside}")


def _histogram(axes: Axes, x: np.ndarray, success: np.ndarray, title: str, unit: str, whole: bool = False) -> None:
    """Episodes by a number of theirs; `whole` numbers have bins of whole numbers."""
    low, high, bins = float(x.min()), float(x.max()), min(BINS, 2 * len(x))
    edges = np.linspace(low, high, bins + 1)
    if low == high:
        room = max(1.0, 0.05 * abs(low))
        edges = low + room * np.array([-0.1, 0.1])
        axes.set_xlim(low - room, low + room)
    elif whole:
        step = max(1, round((high - low) / bins))
        edges = np.arange(low - 0.5, high + step + 0.5, step)
    groups = [(x[success], WON, "success"), (x[~success], LOST, "no success")]
    values, colours, names = zip(*[group for group in groups if len(group[0])], strict=True)
    labels = [f"{name} ({len(each):,})" for each, name in zip(values, names, strict=True)]
    axes.hist(values, edges.tolist(), stacked=True, color=colours, label=labels)
    axes.set(title=title, xlabel=unit, ylabel="episodes")
    axes.set_ylim(top=1.25 * axes.get_ylim()[1])  # room for the legend
    axes.ticklabel_format(axis="x", useOffset=False)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False)


def _actions(figure: Figure, axes: Axes, action: np.ndarray) -> None:
    """A column for each dimension; what is outside the box is drawn too, beyond dashed lines."""
    reach = max(1.0, float(np.abs(action).max()))
    edges = np.linspace(-reach, reach, ACTION_BINS + 1)
    share = np.stack([np.histogram(x, edges)[0] for x in action.T], axis=1) / len(action)
    dimensions = np.arange(action.shape[1] + 1) - 0.5
    shown = np.ma.masked_equal(share, 0.0)
    mesh = axes.pcolormesh(dimensions, edges, shown, norm=LogNorm(max(1.0 / len(action), 1e-5), 1.0), cmap="viridis_r")
    figure.colorbar(mesh, ax=axes, label="share of the steps", format=lambda x, _: f"{100 * x:g} %")
    for edge in (-1.0, 1.0):
        axes.axhline(edge, color=LOST, lw=1, ls=(0, (4, 3)))
    axes.set(title="Actions, by dimension", xlabel="dimension", ylabel="action (the box is ±1)")
    axes.set_ylim(-1.05 * reach, 1.05 * reach)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(visible=False)


def _coverage(figure: Figure, axes: Axes, source: Source) -> None:
    """How many steps were spent where: in the maze, or in the plane in which observations differ most."""
    vectors = [x for name, x in source.dataset.columns.items() if name.startswith("obs/") and x.ndim == 2]
    if not vectors:
        axes.set_axis_off()
        axes.text(0.5, 0.5, "pictures only: no coverage", ha="center", va="center", transform=axes.transAxes)
        return
    rows = np.unique(np.linspace(0, len(source.dataset) - 1, POINTS).astype(int))
    x = np.concatenate([each[rows].astype(np.float64) for each in vectors], axis=1)
    if isinstance(source.task, D4RLTask) and "maze" in source.task.settings:
        points, title, labels = x[:, :2], "Places", ["x (m)", "y (m)"]
        axes.set_aspect("equal")
    else:
        points, shares = _components(x)
        title = "Observations, standardised"
        labels = [
            f"principal component {i + 1} ({100 * share:.0f} % of the variance)" for i, share in enumerate(shares)
        ]
    shown = axes.hist2d(points[:, 0], points[:, 1], CELLS, norm=LogNorm(), cmap="viridis_r", cmin=1)
    figure.colorbar(shown[3], ax=axes, label="steps in a cell", format=StrMethodFormatter("{x:,.0f}"))
    axes.set(title=title, xlabel=labels[0], ylabel=labels[1])
    axes.grid(visible=False)


def _components(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`(M, 2)`: rows `(M, D)`, each dimension standardised, along the two directions of most variance; and its shares."""
    x = np.pad(x, ((0, 0), (0, max(0, 2 - x.shape[1]))))
    std = x.std(axis=0)
    x = (x - x.mean(axis=0)[None, :]) / np.where(std < STILL, 1.0, std)[None, :]
    variance, directions = np.linalg.eigh(x.T @ x)
    return x @ directions[:, :-3:-1], variance[:-3:-1] / max(float(variance.sum()), STILL)
