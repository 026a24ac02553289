"""`segue camera check`: whether cameras give pictures, how often, how old, and whether one would be noticed as failing."""

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from robot_env.arm import Frame
from robot_env.camera_sources import live_camera
from robot_env.camera_thread import ThreadedCamera
from robot_env.camera_watch import FLAT, contrast

LOOK_S = 0.005  # between two looks for a new frame: a camera of 30 Hz has one every 33 ms
FROZEN_S = 0.2  # two control steps at 10 Hz, which is when a run stops
OPEN_S = 10.0
SHOW_S = 0.25


@dataclass
class Seen:
    """What one camera has given.

    Attributes:
        frames: since the check began.
        since_s, newest_s: when it began, and when the newest frame came, s.
        longest_s: between two frames.
        frame: the newest.
        error: what its driver raised last, while it does.
    """

    since_s: float
    newest_s: float
    frames: int = 0
    longest_s: float = 0.0
    frame: Frame | None = None
    error: str = ""
    _last_s: float = field(default=float("-inf"))

    def look(self, camera: ThreadedCamera, now_s: float) -> None:
        """Takes the newest frame, where there is another."""
        try:
            frame = camera.read()
        except Exception as error:  # whatever a driver raises is what the check is for
            self.error = str(error) or type(error).__name__
        else:
            self.error = ""
            if frame.stamp_s > self._last_s:
                self._last_s, self.frame, self.frames = frame.stamp_s, frame, self.frames + 1
                self.longest_s, self.newest_s = max(self.longest_s, now_s - self.newest_s), now_s

    def row(self, now_s: float) -> dict[str, Any]:
        """The camera as it is now, and what is wrong with it."""
        age_s, picture = now_s - self.newest_s, None if self.frame is None else self.frame.picture
        flat = picture is not None and contrast(picture) <= FLAT
        wrong = self.error or ("frozen" if age_s > FROZEN_S else "shows nothing: of one colour" if flat else "")
        return {
            "rate_hz": round(self.frames / max(now_s - self.since_s, 1e-6), 1),
            "age_ms": round(1000.0 * age_s),
            "longest_gap_ms": round(1000.0 * max(self.longest_s, age_s)),
            "brightness": None if picture is None else round(float(picture.mean())),
            "state": wrong or "well",
        }


def check_cameras(
    sources: Mapping[str, str],
    seconds: float,
    pictures: Path | None = None,
    show: Callable[[dict[str, dict[str, Any]]], None] = lambda rows: None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, dict[str, Any]]:
    """Reads cameras for a while, as a run does.

    Args:
        sources: by camera.
        seconds: how long.
        pictures: folder for a picture of each camera, as the policy sees it; made where it is not there.
        show: takes how it stands, four times a second.

    Returns:
        By camera a row, see `Seen.row`.

    Raises:
        ValueError: a source is written wrongly, or its library is not installed.
        ConnectionError: a camera gives no frame at all.
    """
    if not 0.0 < seconds < 1e6:
        raise ValueError(f"--seconds {seconds:g}: give a number above 0")
    with ExitStack() as stack:
        cameras = {name: live_camera(name, text) for name, text in sources.items()}
        for camera in cameras.values():
            camera.open(OPEN_S)
            stack.callback(camera.close)
        begun_s = shown_s = clock()
        seen = {name: Seen(begun_s, begun_s) for name in cameras}
        while (now_s := clock()) - begun_s < seconds:
            for name, camera in cameras.items():
                seen[name].look(camera, now_s)
            if now_s - shown_s >= SHOW_S:
                show({name: each.row(now_s) for name, each in seen.items()})
                shown_s = now_s
            sleep(LOOK_S)
        rows = {name: each.row(now_s) for name, each in seen.items()}
    if pictures is not None:
        for name, each in seen.items():
            if each.frame is not None:
                rows[name]["picture"] = str(write_picture(pictures / f"{name}.png", each.frame.picture))
    return rows


def write_picture(path: Path, picture: np.ndarray) -> Path:
    """Writes an RGB picture. Raises `ValueError` where it cannot."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(cv2.imencode(".png", picture[..., ::-1])[1].tobytes())
    except OSError as error:
        raise ValueError(f"--pictures {path.parent}: {error.strerror}; give another folder") from error
    return path
