"""A task that was taught, as a file that `--task` takes."""

import json
from collections.abc import Sequence
from dataclasses import replace
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from math import isfinite
from pathlib import Path

from launch.tasks import task_names
from launch.teach import Lesson
from robot_env.preflight import preflight
from robot_env.tasks import Task, task_reference

GRAIN = Decimal("0.001")  # m and rad
LARGEST_MARGIN = (0.1, 0.5)  # m, rad: more is no margin
START_SHARE = 0.5  # of the box's width: nobody has shown that the arm reaches its corners turned all the way
FIELDS = ("target", "low", "high", "reset", "reset_range")
TEXT = '''"""Taught by hand with `segue robot teach-box`: {poses} poses, and {metres:g} m and {radians:g} rad around them.

Episodes begin at the top of the box, over the middle half of it. What does not stand here is as the other task has it.
"""

from dataclasses import replace

from robot_env.tasks import find_task

TASK = replace(
    find_task({like}),
{fields}
)
'''


def check_out(path: Path) -> str:
    """The name of the task that may be written there. Raises `ValueError` where none may."""
    name = path.stem
    if path.suffix != ".py" or not name.isidentifier():
        raise ValueError(f"--out {path}: it is no file of a task; give such as my_task.py")
    if name in task_names():
        raise ValueError(f"--out {path}: there is a task {name!r} already; give another name")
    if path.exists():
        raise ValueError(f"--out {path}: it is already there; give another file")
    if not path.parent.is_dir():
        raise ValueError(f"--out {path}: there is no folder {path.parent}; make it, or give another file")
    return name


def check_margin(margin: tuple[float, float]) -> None:
    """Raises `ValueError` for one that is negative, or so large that it is none."""
    for flag, value, largest in zip(("--margin-m", "--margin-rad"), margin, LARGEST_MARGIN, strict=True):
        if not (isfinite(value) and 0.0 <= value <= largest):
            raise ValueError(f"{flag} {value:g}: give a number from 0 to {largest:g}")


def taught_task(lesson: Lesson, like: Task, name: str, margin: tuple[float, float]) -> Task:
    """The task of a lesson: its corners rounded outward, and start poses at its top, within what was shown.

    Raises:
        ValueError: no target was shown, or no space around it, or the task does not pass preflight.
    """
    low, high = lesson.low, lesson.high
    if lesson.target is None:
        why = f"no pose counts ({lesson.note})" if lesson.note and not lesson.poses else "no target was shown"
        raise ValueError(f"nothing is taught: {why}; guide the tool to where the task is done, and press t there")
    if not max(b - a for a, b in zip(low[:3], high[:3], strict=True)) >= like.action_scale[0]:
        size = " x ".join(f"{1000 * (b - a):.1f}" for a, b in zip(low[:3], high[:3], strict=True))
        raise ValueError(
            f"nothing is taught: a box of {size} mm has no room for one step of {1000 * like.action_scale[0]:g} mm;"
            " guide the tool through all of the space that it may use"
        )
    room = [margin[0]] * 3 + [margin[1]] * 3
    middle = [0.5 * (a + b) for a, b in zip(low, high, strict=True)]
    spread = [START_SHARE * 0.5 * (b - a) for a, b in zip(low, high, strict=True)]
    task = replace(
        like,
        name=name,
        target=lesson.target,
        low=_rounded([value - more for value, more in zip(low, room, strict=True)], ROUND_FLOOR),
        high=_rounded([value + more for value, more in zip(high, room, strict=True)], ROUND_CEILING),
        reset=_rounded([*middle[:2], high[2], 0.0, 0.0, middle[5]], ROUND_FLOOR),
        reset_range=_rounded([*spread[:2], 0.0, 0.0, 0.0, spread[5]], ROUND_FLOOR),
    )
    preflight(task)
    return task


def write_task(path: Path, task: Task, like: str, margin: tuple[float, float], poses: int) -> None:
    """Writes a task's file, whole or not at all.

    Args:
        like: the name or the file of the task that it differs from in its name and `FIELDS` only.
        poses: how many were shown.

    Raises:
        ValueError: the file is there by now.
        OSError: it cannot be written.
    """
    values = {"name": f'"{task.name}"', **{name: repr(getattr(task, name)) for name in FIELDS}}
    fields = "\n".join(f"    {name}={value}," for name, value in values.items())
    like = json.dumps(task_reference(like), ensure_ascii=False)
    text = TEXT.format(poses=poses, metres=margin[0], radians=margin[1], like=like, fields=fields)
    part = path.with_name(path.name + ".part")
    try:
        part.write_text(text, encoding="utf-8")
        check_out(path)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _rounded(values: Sequence[float], how: str) -> tuple[float, ...]:
    """To whole grains; downward is never above the value itself, and upward never below."""
    return tuple(float(Decimal(value).quantize(GRAIN, how)) + 0.0 for value in values)
