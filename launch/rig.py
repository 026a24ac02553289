"""What stands beside the arm: cameras, and a human with a device and keys."""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, cast

import numpy as np
import tyro

from launch.attendant import Attendant, attendant_of
from launch.runs import console
from launch.tasks import AnyTask
from robot_env.arm_with_cameras import check_cameras
from robot_env.camera_sources import parse_cameras
from robot_env.human import Human, help_of, open_human, parse_device
from robot_env.operator import VERDICTS, Verdict
from robot_env.tasks import Task

SCRIPT = "script:"


@dataclass(frozen=True)
class Rig:
    """What stands beside the arm, on the machine that acts.

    Attributes:
        camera: a source for each camera beside the arm: opencv:0, opencv:/dev/video2, file:clip.mp4, realsense:SERIAL; with
            @X,Y,WIDTH,HEIGHT for a part of its picture.
        intervene: by what a human may take over: spacemouse, gamepad, keyboard, or script:FILE.jsonl; NAME:PATH for one of
            several devices, NAME@180 where the human faces the arm.
        terminal: whose keys are read; by default the one that the command was given in.
    """

    camera: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=SOURCE")] = ()
    intervene: Annotated[str | None, tyro.conf.arg(metavar="DEVICE")] = None
    terminal: Annotated[str | None, tyro.conf.arg(metavar="PATH")] = None

    @property
    def by_hand(self) -> bool:
        """Whether a human acts, who needs time to pass as it does on an arm."""
        return self.intervene is not None and not self.intervene.startswith(SCRIPT)

    @property
    def help(self) -> str:
        """What a human's keys and buttons do; empty where there is none. Raises `ValueError` where nothing stops the arm."""
        return help_of(parse_device(self.intervene or ""), self.terminal or own_terminal()) if self.by_hand else ""

    @property
    def cameras(self) -> dict[str, str]:
        """Sources by name. Raises `ValueError`."""
        return parse_cameras(self.camera)

    @property
    def flags(self) -> list[str]:
        """The same for a process of its own, which does not have this one's terminal."""
        cameras = ["--camera", *self.camera] if self.camera else []
        device = [] if self.intervene is None else ["--intervene", self.intervene]
        terminal = self.terminal or (own_terminal() if self.by_hand else None)
        return [*cameras, *device, *([] if terminal is None else ["--terminal", terminal])]

    def check(self, task: AnyTask, also: str | None = None) -> None:
        """Opens nothing. Raises `ValueError` where something is written wrongly, or the task has no use for it.

        Args:
            also: something else that may take over.
        """
        if not isinstance(task, Task):
            if self.camera or self.intervene:
                what = "--camera" if self.camera else "--intervene"
                raise ValueError(f"{what}: task {task.name!r} is simulated without an arm; leave it out")
            return
        check_cameras(self.cameras, task)
        if self.intervene == also:
            return
        if self.by_hand:
            parse_device(self.intervene or "")
        elif self.intervene is not None:
            read_script(Path(self.intervene.removeprefix(SCRIPT)), task.action_dim)

    def attendant(self, arm: str, human: Human | None) -> Attendant:
        """Who looks at an arm that was stopped."""
        return attendant_of(arm, human.operator if human is not None and self.by_hand else None, self.say)

    def say(self, text: str) -> None:
        """Tells the human something, in their terminal where they have one."""
        terminal = self.terminal or own_terminal()
        if terminal is None:
            console.print(text, markup=False, highlight=False)
            return
        with open(terminal, "w") as lines:
            lines.write(f"\r\n{text}\r\n")

    def human(self, task: Task) -> Human | None:
        """The human, with their device open; None where there is none. Raises `ValueError` and `ConnectionError`."""
        if self.intervene is None:
            return None
        if not self.by_hand:
            played = Played(read_script(Path(self.intervene.removeprefix(SCRIPT)), task.action_dim))
            return Human(played, played)
        return open_human(parse_device(self.intervene), task.gripper, self.terminal or own_terminal())


def own_terminal() -> str | None:
    """The terminal that this program was started in; None where it was started without."""
    for stream in (sys.stdin, sys.stderr, sys.stdout):
        try:
            return os.ttyname(stream.fileno())
        except (OSError, ValueError, AttributeError):  # closed, a file or a pipe, or not of the system at all
            continue
    return None


Script = list[tuple[np.ndarray | None, Verdict | None]]
"""Of each control step the action, where the human takes over, and what they say of it."""


class Played:
    """A human as a file has them: a line for each control step that they may take over, and for each period of a pause."""

    def __init__(self, script: Script) -> None:
        self._lines = iter(script)
        self._said: Verdict | None = None
        self._paused = False

    def action(self, obs: Mapping[str, np.ndarray], pose: Sequence[float]) -> np.ndarray | None:
        action, self._said = next(self._lines, (None, None))
        return action

    def begin(self) -> None: ...

    def verdict(self) -> Verdict | None:
        if self._paused:
            self._said = next(self._lines, (None, "stop"))[1]  # a file that ends in a pause does not hang
        said, self._said = self._said, None
        self._paused = (said is None) if self._paused else said == "pause"
        return said


def read_script(path: Path, action_dim: int) -> Script:
    """Actions and verdicts of a JSON-lines file: a line for each control step, `{"action": [...], "verdict": "success"}`.

    Either may be left out: the policy then acts, and nothing is said.

    Raises:
        ValueError: it names the line that is none.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        what = getattr(error, "strerror", None) or "it is no text"
        raise ValueError(f"--intervene {SCRIPT}{path}: {what}; give a file of JSON lines") from error
    script: Script = []
    for number, line in enumerate(lines, 1):
        try:
            script.append(_line(json.loads(line), action_dim))
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"--intervene {SCRIPT}{path}: line {number}: {error}; give "
                f'{{"action": [{action_dim} numbers], "verdict": one of {", ".join(VERDICTS)}}}, or either of the two'
            ) from error
    return script


def _line(plain: Any, action_dim: int) -> tuple[np.ndarray | None, Verdict | None]:
    """Raises `ValueError` or `TypeError` where it is none."""
    if not isinstance(plain, dict) or not set(plain) <= {"action", "verdict"}:
        raise ValueError("it is no object with action and verdict")
    action, verdict = plain.get("action"), plain.get("verdict")
    if verdict is not None and verdict not in VERDICTS:
        raise ValueError(f"verdict {verdict!r} is unknown")
    found = None if action is None else np.array(action, np.float64)
    if found is not None and (found.shape != (action_dim,) or not np.isfinite(found).all()):
        raise ValueError(f"action {action} is not {action_dim} finite numbers")
    return found, cast(Verdict | None, verdict)
