"""The commands that measure, compare and draw: `bench`, `compare`, `connect`, `twins`, `curves`."""

import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.markdown import Markdown

from agent.methods import method_names
from launch import bench as benches
from launch import (
    bench_image,
    bench_memory,
    bench_methods,
    bench_outage,
    bench_realtime,
    bench_sim,
    bench_watchdog,
    bench_wire,
)
from launch import twins as fidelity
from launch.compare import compare_stage
from launch.connectivity import GRID, POINTS, TRIALS
from launch.connectivity import connect as survey_and_draw
from launch.curves import draw, read_results
from launch.evaluate import Mode
from launch.options import EXIT_FAILED, Flat, Json, Out, Resume
from launch.recipes import CompareRecipe
from launch.runs import progress_bar, results
from launch.show import show


def curves(
    runs: Annotated[list[Path], tyro.conf.Positional, tyro.conf.arg(metavar="DIR")], out: Path, json: Json = False
) -> None:
    """Draw the curves of an experiment's seeds in one picture.

    Args:
        runs: Folders of `segue run NAME --out DIR`, one a seed.
        out: The PNG.
    """
    draw(read_results(runs), out)
    show(json, {"picture": str(out), "runs": [str(run) for run in runs]})


def compare(out: Out, recipe: Annotated[CompareRecipe, Flat], resume: Resume = False, json: Json = False) -> None:
    """Compare offline methods, bridges and online methods on one task, over seeds trained as one program."""
    with progress_bar() as progress:
        found = compare_stage(recipe, out, progress, resume)
    if json:
        show(True, found)
        return
    results.print(Markdown((out / "table.md").read_text()))
    show(False, {"table": found["table"], "pictures": found["pictures"], "left out": found["left_out"]})


def connect(
    runs: Annotated[list[Path], tyro.conf.Positional, tyro.conf.arg(metavar="DIR")],
    out: Path,
    points: int = POINTS,
    grid: int = GRID,
    trials: int = TRIALS,
    acting: Mode = "mode",
    json: Json = False,
) -> None:
    """Draw how two or three policies are connected: the scores of what lies between their parameters.

    Args:
        runs: Folders of pretrain or finetune runs of one task: two for the line between them, three for the plane.
        out: The PNG.
        points: Of a line: how many places are tried, the two policies among them.
        grid: Of a plane: how many places along each side.
        trials: Fixed trials at each place.
        acting: With the most likely action, or with sampled ones.
    """
    found = survey_and_draw(runs, out, points, grid, trials, acting)
    if not json:  # a plane's numbers are for programs
        found = {name: value for name, value in found.items() if name not in ("x", "y", "score", "return")}
    show(json, found)


def twins(
    what: Annotated[Literal["verify"], tyro.conf.Positional],
    data: Path,
    episodes: int = fidelity.EPISODES,
    json: Json = False,
) -> None:
    """How true the simulated twins are to where D4RL's data comes from.

    Args:
        what: `verify`: replay human demonstrations on the door, and let DAPG's experts act on pen and door.
        data: Folder of DAPG's demonstrations and policies.
        episodes: How many each expert plays; its mean's standard error is told.
    """
    found = fidelity.verify(data, episodes)
    show(json, found)
    if not found["ok"]:
        sys.exit(EXIT_FAILED)


Measure = Literal["update", "sim", "wire", "memory", "outage", "image", "realtime", "watchdog"]


def bench(
    what: Annotated[Measure, tyro.conf.Positional],
    repeats: int = 5,
    method: tuple[str, ...] = (),
    seeds: tuple[int, ...] = (1,),
    steps: int = bench_realtime.STEPS,
    json: Json = False,
) -> None:
    """Measure speed beside its ceiling.

    Args:
        what: `update`: gradient steps per second and GFLOP/s. `sim`: control steps per second of the twins. `wire`: transitions
            per second from actor to learner, and how late parameters come. `memory`: what both hold while 200,000 transitions
            come. `outage`: whether an actor holds its rate while the learner is away for a minute. `image`: what pictures cost,
            kept as features or through the trunk, and a frame's way to an action. `realtime`: whether an actor with two cameras
            holds its rate beside a learner, each on a core of its own. `watchdog`: how late an arm is held and stopped once a
            client falls silent.
        repeats: Measurements of each figure; the median is shown.
        method: Of `update`: names of methods, each measured alone instead of WSRL's two; `all` for every one.
        seeds: Of `update --method`: how many seeds in one program, such as 1 4 16.
        steps: Of `realtime`: control steps of each run.
    """
    if repeats < 1:
        raise ValueError(f"--repeats {repeats}: give at least 1")
    if method or seeds != (1,):
        if what != "update" or not method:
            raise ValueError("bench: --method and --seeds belong to `bench update --method NAME`")
        names = method_names() if method == ("all",) else method
        show(json, bench_methods.methods(names, seeds, repeats))
        return
    measures = {"update": benches.update, "sim": bench_sim.sim, "wire": bench_wire.wire}
    measures |= {"memory": bench_memory.memory, "outage": bench_outage.outage, "image": bench_image.image}
    measures |= {"watchdog": bench_watchdog.watchdog}
    measures |= {"realtime": partial(bench_realtime.realtime, steps=steps)}
    show(json, measures[what](repeats))
