"""Cameras beside an arm that has none of its own, or others."""

from collections.abc import Mapping

import numpy as np

from robot_env.arm import Arm, ArmCommand, ArmState, Camera
from robot_env.camera_sources import live_camera, parse_source
from robot_env.camera_thread import ThreadedCamera
from robot_env.tasks import Task


def check_cameras(cameras: Mapping[str, str], task: Task) -> Mapping[str, str]:
    """The sources. Raises `ValueError` where one is written wrongly, or its name is none of the task's cameras."""
    for name, text in cameras.items():
        parse_source(text)
        if name not in task.cameras:
            raise ValueError(
                f"camera {name}={text}: task {task.name!r} has the cameras {', '.join(task.cameras) or 'none'}; "
                "name one of these, or leave it out"
            )
    return cameras


class ArmWithCameras:
    """An arm with cameras that stand beside it, in place of its own of the same name: opened with it, closed with it.

    Args:
        arm: does everything else.
        sources: by camera, see `robot_env.camera_sources`.
        timeout_s: for a camera's first frame.
    """

    def __init__(self, arm: Arm, sources: Mapping[str, str], timeout_s: float = 10.0) -> None:
        self.arm, self._sources, self._timeout_s = arm, dict(sources), timeout_s
        self._opened: dict[str, ThreadedCamera] = {}

    def connect(self) -> None:
        """Opens the cameras that are not open yet, then the arm. Raises `ConnectionError` that names what it was."""
        for name, text in self._sources.items():
            if name not in self._opened:
                camera = live_camera(name, text)
                camera.open(self._timeout_s)  # which closes it where it raises; the others are closed with the arm
                self._opened[name] = camera
        self.arm.connect()

    def read(self) -> ArmState:
        return self.arm.read()

    def send(self, command: ArmCommand) -> ArmCommand:
        return self.arm.send(command)

    def reset(self, path: np.ndarray, rng: np.random.Generator) -> None:
        self.arm.reset(path, rng)

    def rest(self) -> None:
        self.arm.rest()

    def stop(self, reason: str) -> str | None:
        return self.arm.stop(reason)

    def close(self) -> None:
        try:
            self.arm.close()
        finally:
            while self._opened:
                self._opened.popitem()[1].close()

    @property
    def cameras(self) -> Mapping[str, Camera]:
        return {**self.arm.cameras, **self._opened}
