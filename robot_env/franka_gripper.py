"""The Franka hand: its library's calls last as long as the fingers move, so they are made in a thread of their own."""

import threading
from collections.abc import Callable
from typing import Any

from robot_env.franka_driver import CONNECT_S, within

LOOK_S = 0.1  # between two readings of the width
SPEED_M_S = 0.1
FORCE_N = 40.0  # SERL's grasp; the hand's continuous limit is 70
CLOSE_S = 3.0  # for a move of the fingers to end


class FrankaGripper:
    """Opens and closes without waiting. What the library raises is told at the next call.

    Args:
        connect: makes the library's gripper; it has `move`, `grasp` and `stop`.
        read: its state, with `width` and `max_width`, m.
    """

    def __init__(self, connect: Callable[[], Any], read: Callable[[Any], Any]) -> None:
        self._connect, self._read = connect, read
        self._wanted = threading.Condition()
        self._open: bool | None = None  # what is asked for; None until somebody asks
        self._closed = False
        self._opening, self._failure = 0.0, ""
        self._thread: threading.Thread | None = None

    def open(self) -> None:
        """Connects, and reads once; harmless where that is done. Raises `ConnectionError`."""
        if self._thread is not None and not self._failure:
            return
        self.close()
        self._closed, self._failure, self._open = False, "", None
        gripper = within(CONNECT_S, "the gripper", self._connect)
        self._look(gripper)
        self._thread = threading.Thread(target=self._work, args=(gripper,), name="gripper", daemon=True)
        self._thread.start()

    def refer(self, opening: float) -> None:
        """Asks for open (above a half) or closed. Raises `ConnectionError` where the gripper has failed."""
        self._require_well()
        with self._wanted:
            self._open = opening > 0.5
            self._wanted.notify_all()

    @property
    def opening(self) -> float:
        """0 closed to 1 open, as it was read last. Raises `ConnectionError` where the gripper has failed."""
        self._require_well()
        return self._opening

    def close(self) -> None:
        """Ends the thread; what the hand holds stays held. Safe to call twice."""
        with self._wanted:
            self._closed = True
            self._wanted.notify_all()
        if self._thread is not None:
            self._thread.join(CLOSE_S)
            self._thread = None

    def _work(self, gripper: Any) -> None:
        done: bool | None = None
        try:
            while True:
                with self._wanted:
                    if self._open == done and not self._closed:
                        self._wanted.wait(LOOK_S)
                    if self._closed:
                        return
                    wanted = self._open
                state = self._look(gripper)
                if wanted != done:
                    self._go(gripper, wanted, state.max_width)
                    done = wanted
        except Exception as error:  # whatever the library raises is the next caller's to know
            self._failure = f"the gripper: {' '.join(str(error).split())}"

    def _go(self, gripper: Any, wanted: bool | None, max_width_m: float) -> None:
        if wanted:
            gripper.move(max_width_m, SPEED_M_S)
        else:  # on whatever is there; that nothing is there is no failure
            gripper.grasp(0.0, SPEED_M_S, FORCE_N, max_width_m, max_width_m)

    def _look(self, gripper: Any) -> Any:
        state = self._read(gripper)
        self._opening = min(max(state.width / state.max_width, 0.0), 1.0)
        return state

    def _require_well(self) -> None:
        if self._failure:
            raise ConnectionError(self._failure)
