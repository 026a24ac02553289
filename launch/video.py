"""Videos of trials: what the scene camera sees beside the two wrist views, with a caption."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from imageio_ffmpeg import get_ffmpeg_exe

from agent.policy import PolicyParams
from launch.evaluate import Evaluator, Mode, Trial
from robot_env.arm import Camera

CAPTION_PX = 40  # height of the bar under the picture
VIEW_PX = 360  # side of a camera's picture where cameras stand side by side
HOLD_S = 1.5  # how long the outcome stays: as long as it takes to read it
BAR, INK, GOOD, BAD = (23, 27, 34), (235, 238, 242), (24, 150, 120), (214, 92, 58)  # RGB


class Recorder:
    """Writes an H.264 video that any browser plays; under its name it appears whole or not at all.

    Use it as a context manager: at the end the file takes its name; when the block raises or drops it, nothing is left.

    Args:
        path: the .mp4 file.
        hz: pictures per second; a task's own rate shows it as fast as it happened.
    """

    def __init__(self, path: Path, hz: float) -> None:
        self.path, self.hz = Path(path), hz
        self._part = self.path.with_name(f".{self.path.stem}.part.mp4")
        self._ffmpeg: subprocess.Popen | None = None
        self._shape: tuple[int, ...] = ()
        self._dropped = False

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if self._ffmpeg is not None:
                self._finish(check=kind is None)
                if kind is None and not self._dropped:
                    self._part.replace(self.path)
        finally:
            self._part.unlink(missing_ok=True)

    def add(self, picture: np.ndarray, times: int = 1) -> None:
        """Appends a picture `(height, width, 3)` uint8 RGB, all of one even size, `times` times."""
        if self._ffmpeg is None:
            self._open(picture.shape)
        if picture.shape != self._shape:
            raise ValueError(f"{self.path}: a picture is {picture.shape}, the first was {self._shape}; make them alike")
        assert self._ffmpeg is not None
        assert self._ffmpeg.stdin is not None
        try:
            for _ in range(times):
                self._ffmpeg.stdin.write(np.ascontiguousarray(picture, np.uint8))
        except BrokenPipeError:
            self._finish(check=True)

    def drop(self) -> None:
        """What was added is not wanted: no file is left."""
        self._dropped = True

    def _open(self, shape: tuple[int, ...]) -> None:
        height, width = shape[:2]
        if height % 2 or width % 2:
            raise ValueError(f"{self.path}: pictures are {width}x{height}, and H.264 wants even sizes; pad them by one")
        self._shape = shape
        self.path.parent.mkdir(parents=True, exist_ok=True)
        raw = f"-f rawvideo -pix_fmt rgb24 -s {width}x{height} -r {self.hz} -i -"
        coded = "-an -c:v libx264 -crf 20 -pix_fmt yuv420p -movflags +faststart"
        # Not `imageio_ffmpeg.write_frames`: it forks with a hook, which is unsafe beside JAX's threads.
        self._ffmpeg = subprocess.Popen(
            [get_ffmpeg_exe(), "-y", "-loglevel", "error", *raw.split(), *coded.split(), str(self._part)],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            process_group=0,  # Ctrl-C ends the run; the run then ends ffmpeg
        )

    def _finish(self, check: bool) -> None:
        """Lets ffmpeg end. Raises `RuntimeError` where it failed and `check` is on."""
        assert self._ffmpeg is not None
        ffmpeg, self._ffmpeg = self._ffmpeg, None
        _, said = ffmpeg.communicate()
        if check and ffmpeg.returncode != 0:
            why = " ".join(said.decode(errors="replace").split()) or f"it ended with {ffmpeg.returncode}"
            raise RuntimeError(f"{self.path}: ffmpeg could not write it ({why}); see that the disk has room")


def record_trial(
    evaluator: Evaluator, params: PolicyParams, mode: Mode, number: int, path: Path, caption: str
) -> Trial | None:
    """Runs one of the evaluator's trials and films it, in real time, with the outcome held at the end; None, and no film, where
    a human discards it.

    Args:
        params: the policy.
        mode: how it acts.
        number: of the trial.
        path: the .mp4 file.
        caption: what is shown, such as "before: offline Cal-QL, trial 3"; the step and the outcome are added.

    Raises:
        RuntimeError: no picture can be drawn on this machine; nothing was written.
    """
    task = evaluator.env.task
    step, last = 0, np.empty(0)
    with Recorder(path, task.hz) as recorder:

        def watch() -> None:
            nonlocal step, last
            last = see(evaluator.env)
            text = f"{caption}, step {step}/{task.max_steps}"
            recorder.add(captioned(last, text, step / task.max_steps))
            step += 1

        trial = evaluator.attempt(params, mode, number, watch=watch)
        if trial is None:
            recorder.drop()
            return None
        if trial.success:
            outcome, colour = f"success after {trial.env_steps} steps", GOOD
        elif trial.fault is not None:
            outcome, colour = f"stopped by a fault at step {trial.env_steps}", BAD
        else:
            outcome, colour = f"no success in {trial.env_steps} steps", BAD
        text = f"{caption}: {outcome}"
        end = captioned(last, text, trial.env_steps / task.max_steps, colour)
        recorder.add(end, times=round(HOLD_S * task.hz))
    return trial


def see(env: Any) -> np.ndarray:
    """What there is to see now, uint8 RGB: of the twin its scene with the wrist views stacked beside it, `(360, 660, 3)`; of an
    arm that only its own cameras see, these side by side, `(360, 360 n, 3)`; of a simulation without an arm what it renders."""
    if not hasattr(env, "arm"):
        return env.render()
    arm = env.arm
    if "scene" not in arm.cameras:
        return np.hstack([_view(camera) for camera in arm.cameras.values()])
    scene = arm.cameras["scene"].read().picture
    side = scene.shape[0] // 2
    wrists = [arm.cameras[name].read().picture for name in ("wrist_1", "wrist_2")]
    views = [cv2.resize(view, (side, side), interpolation=cv2.INTER_CUBIC) for view in wrists]
    views[1][0] = views[1][:, 0] = views[0][:, 0] = BAR  # thin lines between the three
    return np.hstack([scene, np.vstack(views)])


def _view(camera: Camera) -> np.ndarray:
    """A camera's picture `(VIEW_PX, VIEW_PX, 3)`; black where it has none, for a film must not stop an arm."""
    try:
        return cv2.resize(camera.read().picture, (VIEW_PX, VIEW_PX), interpolation=cv2.INTER_LINEAR)
    except Exception:  # whatever a driver raises
        return np.zeros((VIEW_PX, VIEW_PX, 3), np.uint8)


def captioned(picture: np.ndarray, text: str, progress: float, colour: tuple[int, int, int] = BAR) -> np.ndarray:
    """The picture `(height, width, 3)` on a bar of `CAPTION_PX` that says `text` and shows `progress` (0..1)."""
    height, width = picture.shape[:2]
    out = np.empty((height + CAPTION_PX, width, 3), np.uint8)
    out[:height], out[height:] = picture, colour
    out[height : height + 3, : round(width * min(max(progress, 0.0), 1.0))] = INK
    plain = text.encode("ascii", "replace").decode()  # the fonts drawn here know no more
    scale = min(_scales(plain, width - 24))
    at = (12, height + CAPTION_PX // 2 + 7)
    cv2.putText(out, plain, at, cv2.FONT_HERSHEY_SIMPLEX, scale, INK, 1, cv2.LINE_AA)
    return out


def _scales(text: str, room_px: int) -> Iterator[float]:
    """The usual size of letters, and the one at which `text` fills the room."""
    yield 0.55
    (width, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 1.0, 1)
    yield room_px / max(width, 1)
