"""A camera whose driver may wait, made one that never does: its frames are read in a thread of their own."""

import threading
from collections.abc import Callable
from dataclasses import replace

from robot_env.arm import Camera, Frame

AGAIN_S = 0.1  # after a failure, until the driver is asked again


class ThreadedCamera:
    """The newest frame of a camera, whatever its driver does.

    While the driver waits, `read` gives the last frame again, with the stamp that it had: that is how `CameraWatch` knows.
    While the driver raises, `read` raises the same. A driver that recovers is simply there again.

    Args:
        name: for messages.
        source: the camera; only this class's thread reads it, so it may wait.
        pause: lets seconds pass between two attempts; returns True where the camera was closed meanwhile.
        release: gives the driver back; called by the thread when it ends.
    """

    def __init__(
        self,
        name: str,
        source: Camera,
        pause: Callable[[float], bool] | None = None,
        release: Callable[[], None] = lambda: None,
    ) -> None:
        self._name, self._source, self._release = name, source, release
        self._closed = threading.Event()
        self._pause = pause or self._closed.wait
        self._changed = threading.Condition()
        self._newest: Frame | Exception | None = None
        self._thread = threading.Thread(target=self._work, name=f"camera {name}", daemon=True)

    def open(self, timeout_s: float = 5.0) -> None:
        """Starts reading, and returns once there is a frame; raises `ConnectionError` where none comes in time."""
        self._thread.start()
        with self._changed:
            self._changed.wait_for(lambda: isinstance(self._newest, Frame), timeout_s)
            newest = self._newest
        if not isinstance(newest, Frame):
            self.close()
            why = "it gives nothing" if newest is None else f"{type(newest).__name__}: {newest}"
            raise ConnectionError(f"camera {self._name!r}: no frame in {timeout_s:g} s ({why}); look at its cable")

    def read(self) -> Frame:
        """The newest frame, at once. Raises what the driver raised last, and `ConnectionError` before the first frame."""
        newest = self._newest
        if isinstance(newest, Exception):
            raise newest.with_traceback(None)  # or it would grow with each reading
        if newest is None:
            raise ConnectionError(f"camera {self._name!r} has given no frame yet; open it first")
        return newest

    def close(self, timeout_s: float = 1.0) -> None:
        """Ends the thread; one whose driver waits for ever is left behind after the time-out. Safe to call twice."""
        self._closed.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _work(self) -> None:
        try:
            self._read_on()
        finally:
            self._release()

    def _read_on(self) -> None:
        while not self._closed.is_set():
            try:
                frame = self._source.read()
                # The driver may reuse its buffer.
                newest: Frame | Exception = replace(frame, picture=frame.picture.copy())
            except Exception as error:  # whatever a driver raises is the reader's to know
                newest = error
            with self._changed:
                self._newest = newest
                self._changed.notify_all()
            if isinstance(newest, Exception) and self._pause(AGAIN_S):
                return
