"""Curves of experiments: what `segue run NAME` leaves, several seeds in one picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from launch.experiments import experiment_names
from launch.plots import COLOURS
from launch.runs import read_json

MODES = {"mode": "its most likely action", "sample": "sampled actions"}
RESULT = {"experiment": str, "preset": str, "seed": int, "task": str, "env_steps": list, "mode": dict, "sample": dict}
LOOK: dict[Any, Any] = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.15,
    "axes.axisbelow": True,
}
DOTS_PER_INCH = 130


def read_results(folders: Sequence[Path]) -> list[dict[str, Any]]:
    """The results of experiments that differ in their seed only. Raises `ValueError` in one sentence."""
    if not folders:
        raise ValueError("curves: names no run; give the folders of one or several `segue run NAME --out DIR`")
    results = []
    for folder in folders:
        path = folder / "result.json"
        if not path.is_file():
            names = ", ".join(experiment_names())
            raise ValueError(f"curves: {folder} has no result.json; give the folder of a finished experiment, {names}")
        results.append(_checked(read_json(path), path))
    first = results[0]
    for result, folder in zip(results[1:], folders[1:], strict=True):
        for name in ("experiment", "preset"):
            if result[name] != first[name]:
                raise ValueError(
                    f"curves: {folder} has {name} {result[name]}, {folders[0]} has {first[name]}; draw each alone"
                )
    return results


def _checked(result: Any, path: Path) -> dict[str, Any]:
    for name, kind in RESULT.items():
        if not isinstance(result, dict) or not isinstance(result.get(name), kind):
            raise ValueError(f"curves: {path} has no proper {name!r}; run the experiment again")
    for mode in MODES:
        lines = [result["env_steps"], *(result[mode].get(what) for what in ("success", "normalized"))]
        if not all(isinstance(line, list) and len(line) == len(lines[0]) > 0 for line in lines) or not all(
            isinstance(x, int | float) for line in lines for x in line
        ):
            raise ValueError(f"curves: {path} has no proper curve of {mode!r}; run the experiment again")
    return result


def rows(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The curve as rows for people."""

    def cell(mode: str, i: int) -> str:
        success, score = result[mode]["success"][i], result[mode]["normalized"][i]
        return f"{100 * success:.0f} % ({score:.1f})"

    return [{"env_steps": n, **{mode: cell(mode, i) for mode in MODES}} for i, n in enumerate(result["env_steps"])]


def draw(results: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Success, and for tasks that are scored by their return the normalised score, against environment steps, as a PNG.

    A thin line is a seed, the thick one their mean over the steps that all have.
    """
    if path.suffix != ".png":
        raise ValueError(f"curves {path}: it is written as PNG; give a name that ends in .png")
    if not path.parent.is_dir():
        raise ValueError(f"curves {path}: the folder {path.parent} is not there; make it first")
    first = results[0]
    papers: Mapping[str, float] = first.get("papers_after_400000_steps", {})
    what = "success" if papers else "normalized"
    with mpl.rc_context(LOOK):
        figure = Figure(figsize=(9.0, 3.6), layout="constrained")
        panels = figure.subplots(1, 2, sharey=True)
        for axes, (mode, words) in zip(panels, MODES.items(), strict=True):
            grid = np.linspace(0.0, min(result["env_steps"][-1] for result in results), 200)
            lines = [np.interp(grid, result["env_steps"], result[mode][what]) for result in results]
            for result in results:
                axes.plot(result["env_steps"], result[mode][what], color=COLOURS["wsrl"], lw=1.0, alpha=0.5, marker=".")
            axes.plot(
                grid, np.mean(lines, axis=0), color=COLOURS["wsrl"], lw=2.4, label=f"WSRL here, seeds: {len(results)}"
            )
            for i, (name, value) in enumerate(papers.items()):
                label = f"{name}, paper, 400k steps"
                axes.axhline(value, color=f"C{i + 1}", ls=":", lw=1.4, label=label)
            axes.set_title(f"{first['task']}, {words}", loc="left", fontsize=10.5, fontweight="bold")
            axes.set_xlabel("environment steps, warm-up included")
        panels[0].set_ylabel("success rate" if papers else "normalised score")
        if papers:
            panels[0].set_ylim(-0.03, 1.05)
        figure.legend(
            *panels[1].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False, fontsize=8.5
        )
        save(figure, path)


def save(figure: Figure, path: Path) -> None:
    """Writes a PNG whole or not at all."""
    part = path.with_name(f".{path.name}.part.png")
    figure.savefig(part, dpi=DOTS_PER_INCH)
    part.replace(path)
