"""Cameras through OpenCV: those of the operating system (V4L2 on Linux), videos, and folders of pictures."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from robot_env.arm import Frame
from robot_env.camera_sources import Crop
from robot_env.observation import IMAGE_SHAPE

DEFAULT_FPS = 30.0  # of a source that does not say
SETTLE_FRAMES = 15  # half a second at 30 Hz: until a camera has found its exposure, which is then fixed
AUTO, MANUAL = 3.0, 1.0  # V4L2's aperture priority and manual mode, as OpenCV hands them on
PICTURES = (".png", ".jpg", ".jpeg", ".bmp")


def fit(frame: np.ndarray, crop: Crop | None = None) -> np.ndarray:
    """A part of a BGR frame `(H, W, 3)` as `IMAGE_SHAPE` uint8 RGB; by default the largest square in its middle.

    Raises:
        ConnectionError: the crop does not lie within the frame.
    """
    height, width = frame.shape[:2]
    side = min(height, width)
    x, y, w, h = crop or ((width - side) // 2, (height - side) // 2, side, side)
    if x + w > width or y + h > height:
        raise ConnectionError(
            f"crop {x},{y},{w},{h} does not lie within its picture of {width}x{height} pixels; correct it"
        )
    part, size = frame[y : y + h, x : x + w], (IMAGE_SHAPE[1], IMAGE_SHAPE[0])
    small = part if (w, h) == size else cv2.resize(part, size, interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(small[..., ::-1])


class OpenCVCamera:
    """A camera of the operating system. Exposure and white balance are left to settle and then fixed, where it lets them be.

    Args:
        address: its number, or its path such as /dev/video2.
        crop: which part of its picture is seen.
        capture: opens it, as `cv2.VideoCapture`.
        clock: of the stamps, s.

    Raises:
        ConnectionError: it cannot be opened.
    """

    def __init__(
        self,
        address: str,
        crop: Crop | None = None,
        capture: Callable[..., Any] = cv2.VideoCapture,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._address, self._crop, self._open, self._clock = address, crop, capture, clock
        self._capture = self._opened()
        self.fps: float = self._capture.get(cv2.CAP_PROP_FPS) or DEFAULT_FPS

    def read(self) -> Frame:
        """The next frame. A camera that gave none is opened again at the next call."""
        if not self._capture.isOpened():
            self._capture = self._opened()
        there, frame = self._capture.read()
        stamp_s = self._clock()
        if not there:
            self._capture.release()
            raise ConnectionError(f"opencv:{self._address} gives no more frames; look at its cable")
        return Frame(fit(frame, self._crop), stamp_s)

    def close(self) -> None:
        """See `Driver`."""
        self._capture.release()

    def _opened(self) -> Any:
        capture = self._open(int(self._address) if self._address.isdigit() else self._address)
        if not capture.isOpened():
            raise ConnectionError(
                f"opencv:{self._address} cannot be opened; give the number or path of a camera that is plugged in and free"
            )
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # a queue of old frames is delay
        self._fix_exposure(capture)
        return capture

    @staticmethod
    def _fix_exposure(capture: Any) -> None:
        """Lets the camera find exposure and white balance, and keeps what it found: a policy is not to see them drift."""
        capture.set(cv2.CAP_PROP_AUTO_EXPOSURE, AUTO)
        capture.set(cv2.CAP_PROP_AUTO_WB, 1.0)
        for _ in range(SETTLE_FRAMES):
            if not capture.grab():
                return
        exposure, colour = capture.get(cv2.CAP_PROP_EXPOSURE), capture.get(cv2.CAP_PROP_WB_TEMPERATURE)
        capture.set(cv2.CAP_PROP_AUTO_EXPOSURE, MANUAL)
        capture.set(cv2.CAP_PROP_EXPOSURE, exposure)
        capture.set(cv2.CAP_PROP_AUTO_WB, 0.0)
        capture.set(cv2.CAP_PROP_WB_TEMPERATURE, colour)


class FileFrames:
    """The frames of a video or of a folder of pictures, one after another, once.

    Attributes:
        fps: frames per second.

    Raises:
        ConnectionError: it cannot be read.
    """

    def __init__(self, path: str, crop: Crop | None = None) -> None:
        self._path, self._crop = Path(path), crop
        self._pictures = sorted(p for p in self._path.glob("*") if p.suffix.lower() in PICTURES)
        self._capture = None if self._pictures else cv2.VideoCapture(path)
        self._next = 0
        if self._capture is not None and not self._capture.isOpened():
            raise ConnectionError(
                f"file:{path} cannot be opened; give a video, or a folder of {', '.join(PICTURES)} files"
            )
        self.fps = (self._capture.get(cv2.CAP_PROP_FPS) if self._capture is not None else 0.0) or DEFAULT_FPS

    def next(self) -> np.ndarray | None:
        """The next picture, `IMAGE_SHAPE` uint8 RGB; None after the last."""
        if self._capture is not None:
            there, frame = self._capture.read()
            return fit(frame, self._crop) if there else None
        if self._next >= len(self._pictures):
            return None
        path, self._next = self._pictures[self._next], self._next + 1
        frame = cv2.imread(str(path))
        if frame is None:
            raise ConnectionError(f"file:{path} is no picture that can be read; take it out of its folder")
        return fit(frame, self._crop)

    def close(self) -> None:
        """Gives it back."""
        if self._capture is not None:
            self._capture.release()


class FileCamera:
    """A file as a camera that takes its frames at its own rate, over and over.

    Args:
        address: the video, or the folder of pictures.
        crop: which part is seen.
        clock, sleep: seconds, and what lets them pass.
    """

    def __init__(
        self,
        address: str,
        crop: Crop | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._address, self._crop, self._clock, self._sleep = address, crop, clock, sleep
        self._frames = FileFrames(address, crop)
        self.fps = self._frames.fps
        self._due_s = clock()

    def read(self) -> Frame:
        """The next frame, when it is due. Raises `ConnectionError` where the file has none."""
        now_s = self._clock()
        if now_s < self._due_s:
            self._sleep(self._due_s - now_s)
        self._due_s = max(self._due_s, now_s) + 1.0 / self.fps
        picture = self._frames.next()
        if picture is None:
            self._frames.close()
            self._frames = FileFrames(self._address, self._crop)
            picture = self._frames.next()
        if picture is None:
            raise ConnectionError(f"file:{self._address} has no frame; give another file")
        return Frame(picture, self._clock())

    def close(self) -> None:
        """See `Driver`."""
        self._frames.close()
