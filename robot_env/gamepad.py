"""A gamepad through the kernel's joystick interface, which needs no library.

Each event is eight bytes (Linux, Documentation/input/joydev/joystick-api.rst): time in ms, u32; value, s16; type, u8: 1 a
button, 2 an axis, with bit 7 set where it tells how things stood when the device was opened; number, u8. All little-endian.

The names are those of the kernel's `xpad` driver (Xbox and compatible pads); other drivers may count buttons in another order.
"""

import os
import select
import struct
from pathlib import Path

from robot_env.hand import HandMapping
from robot_env.hand_thread import News
from robot_env.operator import Verdict

EVENT = struct.Struct("<IhBB")
BUTTON, AXIS, INITIAL = 1, 2, 0x80
FULL = 32767.0
AXES = ("left_x", "left_y", "left_trigger", "right_x", "right_y", "right_trigger", "pad_x", "pad_y")
BUTTONS = ("a", "b", "x", "y", "left_bumper", "right_bumper", "back", "start", "guide", "left_stick", "right_stick")
# Sticks count to the right and towards the human. The cross turns: sideways about the forward axis, away about the left one.
MAPPING = HandMapping(
    ("-left_y", "-left_x", "-right_y", "pad_x", "-pad_y", "-right_x"),
    close="right_bumper",
    open="left_bumper",
    take_over=("y",),
    dead_zone=0.15,  # worn sticks rest up to a tenth off their middle
)
VERDICTS: dict[str, Verdict] = {"a": "success", "b": "failure", "start": "pause", "back": "stop", "x": "discard"}
HELP = (
    "left stick forward, back, left, right; right stick up, down, yaw; cross roll, pitch; bumpers open, close the gripper; "
    "y holds"
)
VERDICT_HELP = "a success; b failure; start pause; x discard the episode; back STOP"


class Gamepad:
    """The first gamepad that is plugged in, or the one at a path such as /dev/input/js1.

    Args:
        path: of the device.
    """

    def __init__(self, path: str = "") -> None:
        self._path, self._file = path, -1
        self._axes: dict[str, float] = {}
        self._held: set[str] = set()
        self._rest = b""

    def open(self) -> None:
        """See `Driver`."""
        path = self._path or next(iter(sorted(map(str, Path("/dev/input").glob("js*")))), "")
        if not path:
            raise ConnectionError("gamepad: there is no /dev/input/js*; plug one in (the kernel's module is `joydev`)")
        try:
            self._file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        except OSError as error:
            raise ConnectionError(
                f"gamepad: {path} cannot be opened ({error.strerror}); plug it in, and join the group `input`"
            ) from error
        self._axes, self._held, self._rest = {}, set(), b""

    def wait(self, timeout_s: float) -> News:
        """See `Driver`."""
        if select.select([self._file], [], [], timeout_s)[0]:
            data = os.read(self._file, EVENT.size - len(self._rest))
            if not data:
                raise ConnectionResetError("it was unplugged")
            self._rest += data
        if len(self._rest) == EVENT.size:  # one at a time: a button that is down and up again was pressed
            _, value, kind, number = EVENT.unpack(self._rest)
            self._rest = b""
            self._take(kind & ~INITIAL, number, value)
        return self._axes, frozenset(self._held)

    def close(self) -> None:
        """See `Driver`."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _take(self, kind: int, number: int, value: int) -> None:
        if kind == AXIS and number < len(AXES):
            self._axes[AXES[number]] = max(-1.0, value / FULL)
        elif kind == BUTTON and number < len(BUTTONS):
            (self._held.add if value else self._held.discard)(BUTTONS[number])
