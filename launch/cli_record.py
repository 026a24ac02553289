"""`segue record ...`: data from a human's hand."""

from pathlib import Path
from typing import Annotated

import tyro

from agent.replay.dataset import Dataset
from launch.demonstrate import Demos, demos_stage
from launch.options import Flat, Json, Resume
from launch.rig import Rig
from launch.runs import console, progress_bar
from launch.show import show
from launch.tasks import find_task
from robot_env.tasks import Task

SUMMARY = "Record data that a human shows."
DEMOS, RIG = Demos(), Rig()
NewFolder = Annotated[Path, tyro.conf.arg(metavar="DIR")]

record = tyro.extras.SubcommandApp()


@record.command(name="demos")
def demos_(
    out: NewFolder,
    demos: Annotated[Demos, Flat] = DEMOS,
    rig: Annotated[Rig, Flat] = RIG,
    resume: Resume = False,
    json: Json = False,
) -> None:
    """Record demonstrations with a SpaceMouse, a gamepad, the keyboard or the task's script; a human says which to keep.

    Nothing is lost at Ctrl-C: what was kept is a data set already, and the same command with --resume goes on.

    Args:
        out: Folder of the data set.
    """
    task = find_task(demos.task)
    if not isinstance(task, Task):
        raise ValueError(f"--task {demos.task}: it has no arm that a hand could lead; see `segue collect`")
    with progress_bar() as progress:
        bar = progress.add_task("record", total=demos.episodes, note="")
        demos_stage(
            demos,
            task,
            rig,
            out,
            resume,
            lambda text: console.print(text, markup=False, highlight=False),
            lambda kept, note: progress.update(bar, completed=kept, note=note),
        )
    dataset = Dataset.load(out)
    facts = {"data": str(out), "transitions": len(dataset), "episodes": len(dataset.episodes)}
    show(json, {**facts, "success_rate": round(dataset.success_rate(), 3)})
