"""Where a camera's pictures come from, named in one string: `SCHEME:ADDRESS[@X,Y,WIDTH,HEIGHT]`.

| source | what |
|---|---|
| `opencv:0`, `opencv:/dev/video2` | a camera of the operating system, by number or path |
| `file:clip.mp4`, `file:frames/` | a video, or a folder of pictures by name, over and over at its own rate |
| `realsense:130322270000` | a RealSense, by its serial number |

After the `@` stands which part of the picture is seen, in its own pixels; by default the largest square in its middle. It is
resized to the task's 128x128 RGB.
"""

import importlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from robot_env.arm import Frame
from robot_env.camera_thread import ThreadedCamera

Crop = tuple[int, int, int, int]
"""x, y, width, height, pixels of the camera's own picture."""

SCHEMES = {  # name: (module, class), imported only when asked for; the class takes the address and the crop
    "opencv": ("robot_env.opencv_camera", "OpenCVCamera"),
    "file": ("robot_env.opencv_camera", "FileCamera"),
    "realsense": ("robot_env.realsense_camera", "RealSenseCamera"),
}
_CROP = re.compile(r"@(\d+),(\d+),(\d+),(\d+)$")


class Driver(Protocol):
    """A camera as its own library gives it.

    Attributes:
        fps: frames per second.
    """

    fps: float

    def read(self) -> Frame:
        """The next frame; may wait for it. Raises `ConnectionError` where there is none; the next call tries again."""
        ...

    def close(self) -> None:
        """Gives it back. Safe to call twice."""
        ...


@dataclass(frozen=True)
class CameraSource:
    """A source as it was named."""

    scheme: str
    address: str
    crop: Crop | None = None

    def opener(self) -> Callable[[], Driver]:
        """What opens the camera, and raises `ConnectionError` where it cannot.

        Raises:
            ValueError: the camera's library is not installed.
        """
        module, name = SCHEMES[self.scheme]
        return partial(getattr(importlib.import_module(module), name), self.address, self.crop)


def parse_source(text: str) -> CameraSource:
    """The source that a string names. Raises `ValueError` that says how it is written."""
    found = _CROP.search(text)
    rest = text if found is None else text[: found.start()]
    scheme, colon, address = rest.partition(":")
    if scheme not in SCHEMES or not colon or not address:
        raise ValueError(
            f"camera source {text!r}: it is not SCHEME:ADDRESS with a scheme of {', '.join(SCHEMES)}; "
            "give such as opencv:0, file:clip.mp4 or realsense:130322270000"
        )
    if found is None:
        if "@" in rest.rpartition("/")[2]:
            raise ValueError(
                f"camera source {text!r}: after @ stands no x,y,width,height; give four whole numbers of pixels"
            )
        return CameraSource(scheme, address)
    x, y, width, height = map(int, found.groups())
    if width < 1 or height < 1:
        raise ValueError(f"camera source {text!r}: its crop is empty; give a width and a height of 1 pixel or more")
    return CameraSource(scheme, address, (x, y, width, height))


def parse_cameras(texts: Sequence[str]) -> dict[str, str]:
    """Sources by camera, of `NAME=SOURCE` each. Raises `ValueError` where one is not that, or named twice."""
    cameras: dict[str, str] = {}
    for text in texts:
        name, equals, source = text.partition("=")
        if not name or not equals or name in cameras:
            raise ValueError(
                f"--camera {text}: it is not a new NAME=SOURCE; give such as wrist_1=opencv:0, each name once"
            )
        parse_source(source)
        cameras[name] = source
    return cameras


class LiveCamera:
    """A driver that is opened when its first frame is asked for: in the thread that reads it, which may wait for it."""

    def __init__(self, opener: Callable[[], Driver]) -> None:
        self._opener = opener
        self._driver: Driver | None = None

    def read(self) -> Frame:
        if self._driver is None:
            self._driver = self._opener()
        return self._driver.read()

    def close(self) -> None:
        if self._driver is not None:
            self._driver.close()


def live_camera(name: str, text: str) -> ThreadedCamera:
    """A camera whose driver is read in a thread of its own; open it before use.

    Raises:
        ValueError: the source is written wrongly, or its library is not installed.
    """
    camera = LiveCamera(parse_source(text).opener())
    return ThreadedCamera(name, camera, release=camera.close)
