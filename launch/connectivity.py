"""How two or three policies are connected: scores on the line, or in the plane, between their parameters (SMAC, section 5).

Only the actors' parameters are mixed. Every place is tried on the same fixed trials with the same random numbers.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import ArrayLike

from agent.diagnostics import at, line, plane
from agent.types import Behavior, Nets, Normalizer, State
from launch.comparison_cells import Acting
from launch.curves import LOOK, MODES, save
from launch.evaluate import Mode
from launch.plots import COLOURS
from launch.policies import load_policy, ways_of_acting
from launch.population_trials import Examiner
from launch.tasks import AnyTask, find_task

POINTS, GRID, TRIALS = 21, 11, 20
TOGETHER = 32  # policies tried at once: bounds the memory of environments and parameters
MARGIN = 0.2  # around the policies, of their spread along an axis (SMAC, appendix M: -0.2 to 1.2)
LETTERS, INK = "ABC", "#1c2430"


@dataclass(frozen=True)
class Policies:
    """Policies of one task that differ in their actors' parameters alone.

    Attributes:
        names: the runs' folders, without what all share.
        actors: parameters of each.
        behaviors: how they act in each mode.
    """

    names: tuple[str, ...]
    task: AnyTask
    nets: Nets
    normalizer: Normalizer
    actors: tuple[Any, ...]
    behaviors: Mapping[Mode, Behavior]


def read_policies(folders: Sequence[Path], mode: Mode) -> Policies:
    """The policies of pretrain and finetune runs, which shall act in one `mode`.

    Raises:
        ValueError: no run, runs of different tasks, networks or observation statistics, or the same policy twice.
    """
    (first, nets, meta), *others = found = [load_policy(folder) for folder in folders]
    behaviors = ways_of_acting(meta)
    carried = set(behaviors[mode].groups) - {"actor"}
    if carried:
        raise ValueError(
            f"connect: {folders[0]} acts with {min(carried)!r} beside its actor; give runs of an actor alone"
        )
    for folder, (other, _, its) in zip(folders[1:], others, strict=True):
        pair, networks = f"connect: {folder} and {folders[0]}", meta["learning"]["networks"]
        if its["task"] != meta["task"]:
            raise ValueError(f"{pair} are of tasks {its['task']!r} and {meta['task']!r}; give runs of one task")
        for name, value in its["learning"]["networks"].items():
            if value != networks[name]:
                raise ValueError(
                    f"{pair} have networks.{name} {value} and {networks[name]}; give runs of equal networks"
                )
        if not _equal(other.normalizer, first.normalizer):
            raise ValueError(f"{pair} have different observation statistics; give runs that began with the same data")
        if ways_of_acting(its)[mode] != behaviors[mode]:
            methods = f"{its['method']!r} and {meta['method']!r}"
            raise ValueError(f"{pair} are of methods {methods}, which explore in different ways; give --acting mode")
    actors = tuple(policy.params["actor"] for policy, _, _ in found)
    for i in range(len(actors)):
        for j in range(i):
            if _equal(actors[i], actors[j]):
                raise ValueError(f"connect: {folders[j]} and {folders[i]} hold the same policy; give different ones")
    return Policies(_names(folders), find_task(meta["task"]), nets, first.normalizer, actors, behaviors)


def _equal(a: Any, b: Any) -> bool:
    return jax.tree.all(jax.tree.map(np.array_equal, a, b))


def _names(folders: Sequence[Path]) -> tuple[str, ...]:
    full = [folder.resolve() for folder in folders]
    shared = os.path.commonpath([folder.parent for folder in full])
    return tuple(str(folder.relative_to(shared)) for folder in full)


def survey(
    policies: Policies, mix: Callable[[np.ndarray], Any], places: np.ndarray, trials: int, mode: Mode
) -> tuple[np.ndarray, np.ndarray]:
    """Score in 0..1, as `launch.comparison_cells.Acting` has it, and mean raw return, `(N,)` each, at `places (N, ...)`.

    Args:
        mix: from K places to actors' parameters `(K, ...)`.
    """
    rounds = -(-len(places) // TOGETHER)
    together = -(-len(places) // rounds)  # equal rounds: another size would be compiled anew
    filled = np.concatenate([places, np.repeat(places[-1:], rounds * together - len(places), axis=0)])
    shared = jax.tree.map(lambda x: jnp.broadcast_to(x[None], (together, *x.shape)), policies.normalizer)
    parts = []
    with closing(Examiner(policies.nets, policies.task, [0] * together, trials, policies.behaviors)) as examiner:
        for some in np.split(filled, rounds):
            state = State({"actor": mix(some)}, {}, {}, shared, jnp.int32(0), jax.random.key(0))
            found = examiner(state, mode)
            normalized = None if found.normalized is None else found.normalized.mean(axis=1)
            parts.append(Acting(found.success.mean(axis=1), found.raw_return.mean(axis=1), normalized))
    score = np.concatenate([part.score for part in parts])
    returns = np.concatenate([part.returns for part in parts])
    return score[: len(places)], returns[: len(places)]


def along_line(policies: Policies, points: int, trials: int, mode: Mode) -> dict[str, Any]:
    """Scores at `points` places from the first policy (t = 0) to the second (t = 1), and what lies `between` them."""
    a, b = policies.actors
    ts = np.linspace(0.0, 1.0, points)
    score, returns = survey(policies, lambda some: line(a, b, some), ts, trials, mode)
    rows = [{"t": float(t), "score": float(s), "return": float(r)} for t, s, r in zip(ts, score, returns, strict=True)]
    return {**between(ts, score), "line": rows}


def between(ts: np.ndarray, score: np.ndarray) -> dict[str, float]:
    """What lies between two ends, of scores `(T,)` at `ts (T,)` from 0 to 1.

    `barrier`: the most that the score lies under the straight line between its ends, at `barrier_t` (Frankle et al. 2020, of
    the score instead of the error). `valley`: the most that it lies under the lower end. Where the score changes
    monotonically, which is what SMAC means by connected, the valley is 0 and the barrier need not be.
    """
    below = (1.0 - ts) * score[0] + ts * score[-1] - score
    lowest = int(np.argmax(below))
    valley = min(score[0], score[-1]) - score.min()
    return {"barrier": float(below[lowest]), "barrier_t": float(ts[lowest]), "valley": float(valley)}


def over_plane(policies: Policies, grid: int, trials: int, mode: Mode) -> dict[str, Any]:
    """Scores of three policies, and on a `grid` x `grid` of the plane through them, with a margin around them.

    Coordinates are those of `agent.diagnostics.plane`: A at (0, 0), B at (1, 0), C at (x, 1). `score` and `return` are rows
    of equal y. `length` is that of the axes' units, in parameters.
    """
    origin, *_ = policies.actors
    try:
        u, v, corners = plane(*policies.actors)
    except ValueError as error:  # their networks are equal
        names = ", ".join(policies.names)
        raise ValueError(
            f"connect: {names} lie on one line in the space of parameters; give two of them, or another third"
        ) from error
    low, high = corners.min(axis=0), corners.max(axis=0)
    x, y = np.linspace(low - MARGIN * (high - low), high + MARGIN * (high - low), grid).T
    places = np.concatenate([corners, _places(x, y)])

    def mix(some: np.ndarray) -> Any:
        return jax.vmap(lambda place: at(origin, u, v, place[0], place[1]))(jnp.asarray(some, jnp.float32))

    score, returns = survey(policies, mix, places, trials, mode)
    return {
        "points": [
            {
                "x": float(corners[i, 0]),
                "y": float(corners[i, 1]),
                "score": float(score[i]),
                "return": float(returns[i]),
            }
            for i in range(3)
        ],
        "length": [float(jnp.linalg.norm(u)), float(jnp.linalg.norm(v))],
        "x": x.tolist(),
        "y": y.tolist(),
        "score": score[3:].reshape(grid, grid).tolist(),
        "return": returns[3:].reshape(grid, grid).tolist(),
    }


def _places(x: ArrayLike, y: ArrayLike) -> np.ndarray:
    """All `(len(y) * len(x), 2)` places of a grid, row by row of equal y."""
    return np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)


def connect(folders: Sequence[Path], out: Path, points: int, grid: int, trials: int, mode: Mode) -> dict[str, Any]:
    """Surveys two or three runs' policies and draws `out`; returns all numbers. Raises `ValueError` in one sentence."""
    if len(folders) not in (2, 3):
        raise ValueError(
            f"connect: names {len(folders)} runs; give the folders of two for a line, of three for a plane"
        )
    on_line = len(folders) == 2
    for option, value, default, used in (("points", points, POINTS, on_line), ("grid", grid, GRID, not on_line)):
        if value < 2:
            raise ValueError(f"--{option} {value}: give at least 2")
        if value != default and not used:
            raise ValueError(f"--{option}: it is not used with {len(folders)} runs; leave it out")
    if trials < 1:
        raise ValueError(f"--trials {trials}: give at least 1")
    if out.suffix != ".png":
        raise ValueError(f"connect {out}: it is written as PNG; give a name that ends in .png")
    if not out.parent.is_dir():
        raise ValueError(f"connect {out}: the folder {out.parent} is not there; make it first")
    policies = read_policies(folders, mode)
    found = along_line(policies, points, trials, mode) if on_line else over_plane(policies, grid, trials, mode)
    title = f"{policies.task.name}, {MODES[mode]}, {trials} trials at each place"
    with mpl.rc_context(LOOK):
        figure = Figure(figsize=(6.6, 4.6 if on_line else 5.6), layout="constrained")
        axes = figure.subplots()
        axes.set_title(title, loc="left", fontsize=10.5, fontweight="bold")
        (_draw_line if on_line else _draw_plane)(axes, found, policies.names)
        figure.legend(loc="outside lower left", frameon=False, fontsize=8.5)
        save(figure, out)
    runs = [str(folder) for folder in folders]
    return {"picture": str(out), "runs": runs, "task": policies.task.name, "acting": mode, "trials": trials, **found}


def _draw_line(axes: Axes, found: dict[str, Any], names: Sequence[str]) -> None:
    ts, score = (np.array([row[name] for row in found["line"]]) for name in ("t", "score"))
    axes.plot(ts, score, color=COLOURS["wsrl"], lw=1.8, marker=".")
    axes.plot([0, 1], score[[0, -1]], color=INK, ls=":", lw=1.3)
    for t, end, letter, name in zip((0, 1), score[[0, -1]], LETTERS, names, strict=False):
        _mark(axes, t, end, letter, f"{name}, {100 * end:.0f} %")
    if found["barrier"] > 0:
        t, depth = found["barrier_t"], found["barrier"]
        bottom = np.interp(t, ts, score)
        axes.plot([t, t], [bottom, bottom + depth], color="#b03a5b", lw=1.4, label=f"barrier: {100 * depth:.0f} points")
    axes.set_xlabel("share of B's parameters; the rest is A's")
    axes.set_ylabel("score")
    axes.set_ylim(-0.04, 1.08)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))


def _draw_plane(axes: Axes, found: dict[str, Any], names: Sequence[str]) -> None:
    levels = np.linspace(0.0, 1.0, 11)  # the whole scale, so that a small difference looks small
    where = np.array([[point["x"], point["y"]] for point in found["points"]])
    score = [*(point["score"] for point in found["points"]), *np.ravel(found["score"])]
    places = np.concatenate([where, _places(found["x"], found["y"])])  # in triangles: the three lie off the grid
    filled = axes.tricontourf(places[:, 0], places[:, 1], np.asarray(score), levels=levels, cmap="viridis")
    axes.plot(*where[[0, 1, 2, 0]].T, color="white", ls=":", lw=1.2)
    for (x, y), point, letter, name in zip(where, found["points"], LETTERS, names, strict=True):
        _mark(axes, x, y, letter, f"{name}, {100 * point['score']:.0f} %")
    axes.grid(visible=False)
    axes.set_xlabel(f"along B − A, of length {found['length'][0]:.3g}")
    axes.set_ylabel(f"across, towards C, of length {found['length'][1]:.3g}")
    axes.figure.colorbar(filled, ax=axes, label="score", format=PercentFormatter(1.0, decimals=0))


def _mark(axes: Axes, x: float, y: float, letter: str, label: str) -> None:
    axes.plot(x, y, "o", ms=15, mfc="white", mec=INK, mew=1.4)
    axes.plot(x, y, marker=f"${letter}$", ms=7, color=INK, mew=0.3, ls="", label=label)
