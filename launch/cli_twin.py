"""`segue twin ...`: the twin of an arm made like that arm."""

from pathlib import Path
from typing import Annotated

import tyro

from launch.cli_robot import check_arm_task
from launch.options import Flat, Json, Out, Realtime
from launch.runs import progress_bar
from launch.show import show
from launch.twin_log import Logging, log_stage
from launch.twin_stage import PICTURE, fit_stage
from sim.dynamics import RANGES

SUMMARY = "Fit the twin's gains, friction and latency to an arm: log a motion on it, and fit."
LOGGING = Logging()

twin = tyro.extras.SubcommandApp()


@twin.command
def log(out: Out, logging: Annotated[Logging, Flat] = LOGGING, realtime: Realtime = False, json: Json = False) -> None:
    """Stream a small motion to an arm and keep it as a data set: sines and steps of at most 3 cm, in free space.

    The arm goes to the middle of the task's start poses first. Every command passes the safety layer; the motion stays in the
    task's box and above half the height of the start poses. A robot is always held to the task's rate.
    """
    task = check_arm_task(logging.task)
    with progress_bar() as progress:
        bar = progress.add_task("log", total=logging.episodes * logging.steps, note="")
        found = log_stage(logging, task, out, realtime, lambda steps: progress.update(bar, completed=steps))
    show(json, found)


@twin.command
def fit(log: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="LOG")], out: Out, json: Json = False) -> None:
    """Fit the twin to a logged motion; then `--arm twin:DIR/twin.json` in any command is the twin with these values.

    Least squares, one control step ahead, over the steps in free space. Every fifth episode is put aside to check on. What the
    motion does not tell stays as published, and is named.

    Args:
        log: Folder of `segue twin log`, or of any data set or run on the arm.
    """
    found = fit_stage(log, out)
    if json:
        show(True, found)
        return
    errors = found["standard_errors"]
    values = [
        {"value": name, "found": found["values"][name], "standard error": errors.get(name, "not told: as published")}
        for name in RANGES
    ]
    residuals = [{"one step ahead": name, **_pairs(row)} for name, row in found["residuals_one_step_ahead"].items()]
    if "residual_over_the_picture" in found:
        row = found["residual_over_the_picture"]
        residuals.append({"one step ahead": f"{row['steps']} steps in one go", **_pairs(row)})
    show(
        False,
        {
            "twin": f"--arm twin:{found['twin']}",
            "picture": str(out / PICTURE),
            "steps": found["steps"],
            "values": values,
            "residual": residuals,
            "not told apart": [", ".join(names) for names in found["not_told_apart"]],
        },
    )


def _pairs(row: dict[str, float]) -> dict[str, str]:
    """Before and after, for people."""
    return {unit: f"{row[f'before_{unit}']:.3g} to {row[f'after_{unit}']:.3g}" for unit in ("mm", "mrad")}
