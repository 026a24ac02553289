"""A terminal's keyboard, here or over ssh.

A terminal tells that a key went down, and tells it again while it is held; it never tells that it came up. So a key counts as
held for `HOLD_S` after it was last told. One tap moves the arm for that long, and a held key moves it on once the terminal
begins to repeat. A foot pedal that types a key is a keyboard too.

Lower-case letters move, the same letters in capitals move finely.
"""

import os
import select
import termios
import time
import tty
from collections.abc import Callable, Mapping

from robot_env.hand import HandMapping
from robot_env.hand_thread import News
from robot_env.operator import Verdict

# A little more than a control step at 10 Hz, so that each tap is seen; terminals repeat every 30 to 50 ms.
HOLD_S = 0.15
COARSE, FINE = 0.5, 0.1  # of a full action: at 0.02 m a step and 10 Hz, 100 and 20 mm/s
KEYS: Mapping[str, tuple[str, float]] = {
    "w": ("forward", 1.0),
    "s": ("forward", -1.0),
    "a": ("left", 1.0),
    "d": ("left", -1.0),
    "r": ("up", 1.0),
    "f": ("up", -1.0),
    "l": ("roll", 1.0),
    "j": ("roll", -1.0),
    "k": ("pitch", 1.0),
    "i": ("pitch", -1.0),
    "q": ("yaw", 1.0),
    "e": ("yaw", -1.0),
}
NAMES = {"\n": "enter", "\r": "enter", " ": "space", "\x7f": "backspace", "\b": "backspace"}
MAPPING = HandMapping(
    ("forward", "left", "up", "roll", "pitch", "yaw"), close="c", open="v", take_over=("h",), dead_zone=0.0
)
VERDICTS: dict[str, Verdict] = {
    "enter": "success",
    "backspace": "failure",
    "p": "pause",
    "space": "stop",
    "x": "discard",
}
HELP = (
    "w s forward, back; a d left, right; r f up, down; q e yaw; i k pitch; j l roll; capitals move finely; h holds; "
    "c v close, open the gripper"
)
VERDICT_HELP = "Enter success; Backspace failure; p pause; x discard the episode; Space STOP"


class Keyboard:
    """Reads a terminal without echo, key by key. Ctrl-C still interrupts.

    Args:
        path: of the terminal, such as /dev/pts/3; by default the one that the program was started in.
        clock: seconds, never going back.
        hold_s: how long a key counts as held after the terminal told it.
    """

    def __init__(
        self, path: str = "/dev/tty", clock: Callable[[], float] = time.monotonic, hold_s: float = HOLD_S
    ) -> None:
        self._path, self._clock, self._hold_s = path, clock, hold_s
        self._file = -1
        self._before: list = []
        self._told: dict[str, float] = {}
        self._escaped = False

    def open(self) -> None:
        """See `Driver`."""
        try:
            # Not to become the program's own terminal: Ctrl-C elsewhere would end it.
            self._file = os.open(self._path, os.O_RDONLY | os.O_NOCTTY)
            self._before = termios.tcgetattr(self._file)
            tty.setcbreak(self._file)
        except (OSError, termios.error) as error:
            self.close()
            raise ConnectionError(
                f"keyboard: {self._path} is no terminal that can be read ({error}); start the program in one, with `ssh -t`"
            ) from error
        self._told, self._escaped = {}, False

    def wait(self, timeout_s: float) -> News:
        """See `Driver`."""
        if select.select([self._file], [], [], timeout_s)[0]:
            data = os.read(self._file, 256)
            if not data:
                raise ConnectionResetError(f"{self._path} was closed")
            for key in self._keys(data.decode(errors="ignore")):
                self._told[key] = self._clock()
        now_s = self._clock()
        self._told = {key: told_s for key, told_s in self._told.items() if now_s - told_s <= self._hold_s}
        axes: dict[str, float] = {}
        for key in self._told:
            name, sign = KEYS.get(key.lower(), ("", 0.0))
            axes[name] = axes.get(name, 0.0) + sign * (FINE if key.isupper() else COARSE)
        return axes, frozenset(NAMES.get(key, key) for key in self._told)

    def close(self) -> None:
        """See `Driver`. The terminal is as it was before."""
        if self._file >= 0:
            try:
                if self._before:
                    termios.tcsetattr(self._file, termios.TCSADRAIN, self._before)
            except termios.error:
                pass  # it is gone, and its settings with it
            finally:
                os.close(self._file)
                self._file, self._before = -1, []

    def _keys(self, text: str) -> list[str]:
        """The keys of what was typed. Arrows and the like come as Escape, `[` or `O`, and more: none of it is a key of ours."""
        found = []
        for character in text:
            if character == "\x1b":
                self._escaped = True
            elif self._escaped:
                self._escaped = character in "[O" or character.isdigit() or character == ";"
            else:
                found.append(character)
        return found
