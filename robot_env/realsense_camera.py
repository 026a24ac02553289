"""A RealSense by its serial number through pyrealsense2: `pip install 'segue[realsense]'`, and Debian's libusb-1.0-0."""

import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import numpy as np

from robot_env.arm import Frame
from robot_env.camera_sources import Crop
from robot_env.opencv_camera import fit

try:
    import pyrealsense2
except ImportError as _error:
    raise ValueError(
        f"realsense: pyrealsense2 cannot be imported ({_error}); pip install 'segue[realsense]', and install libusb-1.0-0"
    ) from _error

rs: Any = pyrealsense2  # whose types are not told
WIDTH, HEIGHT, FPS = 640, 480, 30  # every RealSense with colours has this mode, on USB 2 too
TIMEOUT_MS = 1000  # without a frame the camera counts as gone
SETTLE_FRAMES = 15  # half a second, until it has found its exposure
QUEUE = 1  # a queue of old frames is delay


class RealSenseCamera:
    """The colour stream of one RealSense. Exposure and white balance are left to settle and then fixed.

    Args:
        address: its serial number.
        crop: which part of its 640x480 picture is seen.
        devices: those that are plugged in.
        clock: of the stamps, s.

    Raises:
        ConnectionError: there is no such camera, or it has no such stream.
    """

    fps = float(FPS)

    def __init__(
        self,
        address: str,
        crop: Crop | None = None,
        devices: Callable[[], Iterable[Any]] = lambda: rs.context().query_devices(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._serial, self._crop, self._clock = address, crop, clock
        self._devices = devices
        self._queue: Any = None
        self._sensor: Any = None
        self._settling = SETTLE_FRAMES
        self._open()

    def read(self) -> Frame:
        """The next frame. A camera that gave none is opened again at the next call."""
        if self._sensor is None:
            self._open()
        try:
            frame = self._queue.wait_for_frame(TIMEOUT_MS)
        except RuntimeError as error:
            self.close()
            raise ConnectionError(
                f"realsense:{self._serial} gives no frame in {TIMEOUT_MS} ms; look at its cable"
            ) from error
        stamp_s = self._clock()
        picture = fit(np.asanyarray(frame.get_data())[..., ::-1], self._crop)  # fit wants blue first
        if self._settling:
            self._settling -= 1
            if not self._settling:
                self._fix_exposure()
        return Frame(picture, stamp_s)

    def close(self) -> None:
        """See `Driver`."""
        sensor, self._sensor = self._sensor, None
        if sensor is None:
            return
        for give_back in (sensor.stop, sensor.close):
            with suppress(RuntimeError):  # it is unplugged: there is nothing to give back
                give_back()

    def _open(self) -> None:
        there = {_serial(device): device for device in self._devices()}
        if self._serial not in there:
            raise ConnectionError(
                f"realsense:{self._serial} is not there; plugged in are {', '.join(there) or 'none'}; give one of these"
            )
        sensors = there[self._serial].query_sensors()
        found = [
            (sensor, profile) for sensor in sensors for profile in sensor.get_stream_profiles() if _is_wanted(profile)
        ]
        if not found:
            raise ConnectionError(
                f"realsense:{self._serial} has no colour stream of {WIDTH}x{HEIGHT} RGB at {FPS} Hz; choose another camera"
            )
        sensor, profile = found[0]
        self._queue, self._settling = rs.frame_queue(QUEUE), SETTLE_FRAMES
        try:
            for option in (rs.option.enable_auto_exposure, rs.option.enable_auto_white_balance):
                if sensor.supports(option):
                    sensor.set_option(option, 1.0)
            sensor.open(profile)
            sensor.start(self._queue)
        except RuntimeError as error:
            raise ConnectionError(
                f"realsense:{self._serial} cannot be opened ({error}); is another program using it?"
            ) from error
        self._sensor = sensor

    def _fix_exposure(self) -> None:
        """Keeps what the camera has found by now: switching the automatic off leaves the last values in place."""
        for option in (rs.option.enable_auto_exposure, rs.option.enable_auto_white_balance):
            if self._sensor.supports(option):
                self._sensor.set_option(option, 0.0)


def _serial(device: Any) -> str:
    what = rs.camera_info.serial_number
    return device.get_info(what) if device.supports(what) else ""


def _is_wanted(profile: Any) -> bool:
    if profile.stream_type() != rs.stream.color or profile.format() != rs.format.rgb8 or profile.fps() != FPS:
        return False
    video = profile.as_video_stream_profile()
    return (video.width(), video.height()) == (WIDTH, HEIGHT)
