"""A human beside the arm: what they hold, and the keys by which they say how an episode goes."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from math import radians
from typing import Any

from robot_env.hand import Hand
from robot_env.hand_thread import ThreadedDevice
from robot_env.intervention import Intervention
from robot_env.operator import ButtonOperator, EitherOperator, Operator

# name: (module, class of its driver), imported only when asked for. The class takes a path; the module has MAPPING, VERDICTS,
# and what they mean in words: HELP and VERDICT_HELP.
DEVICES = {
    "spacemouse": ("robot_env.spacemouse", "SpaceMouse"),
    "gamepad": ("robot_env.gamepad", "Gamepad"),
    "keyboard": ("robot_env.keyboard", "Keyboard"),
}


@dataclass(frozen=True)
class Human:
    """What `RobotEnv` takes of a human.

    Attributes:
        intervention: takes over; None where they only watch.
        operator: says how it goes; None where they have no keys.
        close: gives the devices back.
        help: what keys and buttons do.
    """

    intervention: Intervention | None
    operator: Operator | None
    close: Callable[[], None] = lambda: None
    help: str = ""


@dataclass(frozen=True)
class DeviceChoice:
    """A device as it was named: `NAME[:PATH][@DEGREES]`.

    Attributes:
        name: of `DEVICES`.
        path: of the device; empty for the first that is found.
        facing_rad: which way the human looks, about the base's z axis; 0 where they stand behind the arm.
    """

    name: str
    path: str = ""
    facing_rad: float = 0.0


def parse_device(text: str) -> DeviceChoice:
    """The device that a string names. Raises `ValueError` that says how it is written."""
    rest, at, degrees = text.partition("@")
    name, _, path = rest.partition(":")
    try:
        angle = float(degrees) if at else 0.0
    except ValueError:
        angle = 720.0
    if name not in DEVICES or not abs(angle) <= 360.0:
        raise ValueError(
            f"device {text!r}: it is not NAME[:PATH][@DEGREES] with a name of {', '.join(DEVICES)} and an angle up to 360; "
            "give such as spacemouse, or spacemouse@180 where the human faces the arm"
        )
    return DeviceChoice(name, path, radians(angle))


def modules_of(choice: DeviceChoice, terminal: str | None) -> dict[str, Any]:
    """The modules of a device and, beside another one, of the keyboard of a terminal, by name; the device's own first.

    Raises:
        ValueError: none of them has a key that stops the arm.
    """
    names = [choice.name, *(["keyboard"] if terminal and choice.name != "keyboard" else [])]
    modules = {name: importlib.import_module(DEVICES[name][0]) for name in names}
    if not any(module.VERDICTS for module in modules.values()):
        raise ValueError(
            f"device {choice.name!r} has no key that stops the arm; start the program in a terminal, whose keyboard has one"
        )
    return modules


def help_of(choice: DeviceChoice, terminal: str | None) -> str:
    """What keys and buttons do, in lines. Raises `ValueError` as `modules_of` does."""
    modules = modules_of(choice, terminal)
    return "\n".join([modules[choice.name].HELP, *(m.VERDICT_HELP for m in modules.values() if m.VERDICTS)])


def open_human(choice: DeviceChoice, gripper: bool, terminal: str | None) -> Human:
    """Opens a device, and beside it the keyboard of a terminal for verdicts.

    Args:
        gripper: whether the task's actions move one.
        terminal: its path; None for no keyboard, which only a device with verdicts of its own can do without.

    Raises:
        ConnectionError: one of them cannot be opened.
        ValueError: a library is not installed, or nothing could stop the arm.
    """
    modules = modules_of(choice, terminal)
    paths = {"keyboard": terminal or "/dev/tty"} | ({choice.name: choice.path} if choice.path else {})
    opened: dict[str, ThreadedDevice] = {}

    def close() -> None:
        while opened:
            opened.popitem()[1].close()

    try:
        for name, module in modules.items():
            device = ThreadedDevice(name, getattr(module, DEVICES[name][1])(paths.get(name, "")))
            device.open()
            opened[name] = device
    except BaseException:
        close()
        raise
    operators = [ButtonOperator(opened[name].presses, m.VERDICTS) for name, m in modules.items() if m.VERDICTS]
    hand = Hand(opened[choice.name], modules[choice.name].MAPPING, gripper, choice.facing_rad)
    return Human(hand, EitherOperator(operators), close, help_of(choice, terminal))
