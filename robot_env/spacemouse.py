"""A SpaceMouse of 3Dconnexion through hidapi: `pip install 'segue[spacemouse]'`.

Its reports, all numbers little-endian s16 and +-350 at the ends:

| first byte | what follows |
|---|---|
| 1 | x, y, z; of newer ones also the three turns |
| 2 | the turns about x, y, z |
| 3 | a bit for each button, the lowest first |

x is to the right, y towards the human, z down, and the turns are about the same axes by the right hand's rule.
"""

import struct
from collections.abc import Callable
from typing import Any, Protocol

from robot_env.hand import HandMapping
from robot_env.hand_thread import News
from robot_env.operator import Verdict

VENDORS = (0x256F, 0x046D)  # 3Dconnexion, and Logitech, which sold them before
PRODUCTS = range(0xC603, 0xC700)  # of Logitech's number these are SpaceMice and their kin; its mice have others
USAGE_PAGE, USAGE = 1, 8  # generic desktop, multi-axis controller: a receiver has other interfaces beside it
FULL = 350.0
MOVES, TURNS = ("x", "y", "z"), ("rx", "ry", "rz")
BUTTONS = ("left", "right", *(f"button_{i}" for i in range(3, 33)))
MAPPING = HandMapping(("-y", "-x", "-z", "-ry", "-rx", "-rz"), close="left", open="right")
VERDICTS: dict[str, Verdict] = {}  # its buttons are the gripper's: verdicts come from the keyboard
HELP = "push, pull, lift and turn the cap; left button closes, right opens the gripper, without one both hold"
VERDICT_HELP = ""


class Handle(Protocol):
    """The part of hidapi's device that is used."""

    def read(self, max_length: int, timeout_ms: int = 0) -> list[int]: ...
    def close(self) -> None: ...


class SpaceMouse:
    """The first SpaceMouse that is plugged in, or the one at a path such as /dev/hidraw3.

    Args:
        path: of the device.
        opened: opens it.
    """

    def __init__(self, path: str = "", opened: Callable[[str], Handle] | None = None) -> None:
        self._path, self._opened = path, opened or open_device
        self._device: Handle | None = None
        self._axes: dict[str, float] = {}
        self._held: frozenset[str] = frozenset()

    def open(self) -> None:
        """See `Driver`."""
        self._device = self._opened(self._path)
        self._axes, self._held = {}, frozenset()

    def wait(self, timeout_s: float) -> News:
        """See `Driver`."""
        assert self._device is not None
        report = bytes(self._device.read(64, max(1, round(1000 * timeout_s))))
        if report:
            self._take(report[0], report[1:])
        return self._axes, self._held

    def close(self) -> None:
        """See `Driver`."""
        if self._device is not None:
            self._device.close()
            self._device = None

    def _take(self, kind: int, data: bytes) -> None:
        if kind == 3:
            bits = int.from_bytes(data[:4], "little")
            self._held = frozenset(name for i, name in enumerate(BUTTONS) if bits >> i & 1)
            return
        names = {1: (*MOVES, *TURNS) if len(data) >= 12 else MOVES, 2: TURNS}.get(kind, ())
        if names and len(data) >= 2 * len(names):
            values = struct.unpack_from(f"<{len(names)}h", data)
            self._axes = {**self._axes, **{n: value / FULL for n, value in zip(names, values, strict=True)}}


def open_device(path: str) -> Handle:
    """hidapi's device at a path, or the first SpaceMouse.

    Raises:
        ConnectionError: there is none, or it may not be read.
        ValueError: hidapi is not installed.
    """
    try:
        import hidraw as hidapi  # its interface to the kernel's own driver, which stays where it is
    except ImportError:
        raise ValueError("spacemouse: hidapi is not installed; pip install 'segue[spacemouse]'") from None
    found = path or next((each["path"].decode() for each in hidapi.enumerate() if _is_space_mouse(each)), "")
    if not found:
        raise ConnectionError("spacemouse: none is plugged in; plug it in, or its receiver")
    device = hidapi.device()
    try:
        device.open_path(found.encode())
    except OSError as error:
        raise ConnectionError(
            f"spacemouse: {found} cannot be opened ({error}); allow it: a udev rule with "
            'KERNEL=="hidraw*", ATTRS{idVendor}=="256f", MODE="0660", GROUP="plugdev"'
        ) from error
    return device


def _is_space_mouse(about: dict[str, Any]) -> bool:
    vendor, product = about["vendor_id"], about["product_id"]
    mine = vendor == VENDORS[0] or (vendor == VENDORS[1] and product in PRODUCTS)
    return mine and (about["usage_page"], about["usage"]) in ((USAGE_PAGE, USAGE), (0, 0))
