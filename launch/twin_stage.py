"""What `segue twin fit` does: reads, fits, checks on what was put aside, and leaves a file and a picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from launch.runs import prepare, write_json
from launch.twin_data import CONTACT_N, CONTACT_NM, Episode, Log, read_log
from launch.twin_fit import LEAST_STEPS, Fit, differences, fit, rms, rms_of, split, useful
from launch.twin_picture import draw
from robot_env.tasks import Task
from sim.dynamics import PUBLISHED, file_of
from sim.replay import Motion, Replay

TWIN, PICTURE = "twin.json", "motion.png"
DRAWN = 100  # control periods at most


def fit_stage(path: Path, folder: Path) -> dict[str, Any]:
    """Fits the twin to a log and writes `twin.json` and `motion.png` into `folder`; what was found, as JSON.

    Raises:
        ValueError: in one sentence, where the log is none, too little of it is in free space, or the folder is taken.
    """
    log = read_log(path)
    fitted, held = split(log.episodes)
    motions, others = useful(fitted), useful(held)
    _check_steps(path, log, sum(map(len, motions)))
    prepare(folder, {"command": "twin fit", "log": str(path)}, resume=False)
    found = fit(log.task, motions)
    residuals = {"fitted": _residual(log.task, motions, found)}
    if others:
        residuals["put aside"] = _residual(log.task, others, found)
    used, aside = (sum(map(len, each)) for each in (motions, others))
    steps = {"logged": log.steps, "in contact": log.in_contact, "fitted": used, "put aside": aside}
    about = {
        "task": log.task.name,
        "log": str(path),
        "steps": steps,
        "standard_errors": found.errors,
        "not_told_apart": found.together,
        "residuals_one_step_ahead": residuals,
    }
    if (stretch := _stretch(held if others else fitted)) is not None:
        about["residual_over_the_picture"] = _draw(log.task, stretch, found, folder / PICTURE)
    plain = file_of(found.dynamics, log.task, about)
    write_json(folder / TWIN, plain)
    return {**plain, "twin": str(folder / TWIN)}


def _check_steps(path: Path, log: Log, steps: int) -> None:
    """Raises `ValueError` where there are too few to fit."""
    if steps < LEAST_STEPS:
        contact = f", {log.in_contact} touch something (above {CONTACT_N:g} N or {CONTACT_NM:g} N·m)"
        raise ValueError(
            f"log {path}: of {log.steps} steps{contact if log.in_contact else ''} and {steps} are left to fit, which wants"
            f" {LEAST_STEPS}; log a longer motion in free space"
        )


def _residual(task: Task, motions: Sequence[Motion], found: Fit) -> dict[str, float]:
    """mm and mrad before and after, root mean square, one step ahead."""
    return _named(rms(task, motions, PUBLISHED), rms(task, motions, found.dynamics))


def _named(before: tuple[float, float], after: tuple[float, float]) -> dict[str, float]:
    return {"before_mm": before[0], "after_mm": after[0], "before_mrad": before[1], "after_mrad": after[1]}


def _stretch(episodes: Sequence[Episode]) -> Motion | None:
    """What is drawn: the longest stretch in free space; None where there is none."""
    longest = max((each.stretch(DRAWN) for each in episodes), key=len, default=None)
    return longest if longest is not None and len(longest) > 1 else None


def _draw(task: Task, motion: Motion, found: Fit, path: Path) -> dict[str, float]:
    """Draws a motion that is simulated from its beginning to its end; how far it was from the logged one."""
    replay = Replay(task, [])
    poses = {
        "logged": motion.next_pose,
        "before": replay.run(motion, PUBLISHED),
        "after": replay.run(motion, found.dynamics),
    }
    first = np.repeat(motion.pose[:1], len(motion), axis=0)
    moved = {name: differences(way, first) for name, way in poses.items()}
    seconds = len(motion) / task.hz
    draw(moved, 1.0 / task.hz, f"{task.name}: {seconds:g} s in one go, from the first pose on", path)
    before, after = (rms_of(moved[name] - moved["logged"]) for name in ("before", "after"))
    return {"steps": len(motion), **_named(before, after)}
