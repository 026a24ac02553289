"""`segue hand check`: what a human's device shows, and the action that it asks for."""

import time
from collections.abc import Callable
from typing import Any

from robot_env.hand import Hand
from robot_env.human import DeviceChoice, open_human
from robot_env.operator import Operator

SHOW_S = 0.1
LEVEL = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0)  # a tool whose frame is the base's: the action is along the room's axes
AXES = ("forward", "left", "up", "roll", "pitch", "yaw")


def check_hand(
    choice: DeviceChoice,
    terminal: str | None,
    seconds: float,
    show: Callable[[dict[str, Any]], None] = lambda row: None,
    say: Callable[[str], None] = lambda text: None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, Any]:
    """Watches a device for a while.

    Args:
        terminal: whose keys are read beside it.
        show: takes what it shows now, ten times a second.
        say: tells the human what keys and buttons do.

    Returns:
        Of each axis of the room the smallest and the largest that was asked for; the buttons that were held, and what was said.

    Raises:
        ConnectionError: the device cannot be opened, or is lost.
        ValueError: it makes no sense.
    """
    if not 0.0 < seconds < 1e6:
        raise ValueError(f"--seconds {seconds:g}: give a number above 0")
    human = open_human(choice, gripper=False, terminal=terminal)
    hand, operator = human.intervention, human.operator
    assert isinstance(hand, Hand)
    assert operator is not None
    say(human.help)
    low, high, held, said = dict.fromkeys(AXES, 0.0), dict.fromkeys(AXES, 0.0), set(), []
    try:
        end_s = clock() + seconds
        while clock() < end_s:
            row = look(hand, operator)
            for name in AXES:
                low[name], high[name] = min(low[name], row[name]), max(high[name], row[name])
            held |= set(row["held"])
            said += [row["said"]] if row["said"] else []
            show(row)
            sleep(SHOW_S)
    finally:
        human.close()
    return {**{name: [low[name], high[name]] for name in AXES}, "held": sorted(held), "said": said}


def look(hand: Hand, operator: Operator) -> dict[str, Any]:
    """What a device shows now."""
    reading, action = hand.device.read(), hand.action({}, LEVEL)
    numbers = [0.0] * len(AXES) if action is None else [round(float(x), 3) for x in action]
    return {
        **dict(zip(AXES, numbers, strict=True)),
        "raw": {name: round(value, 3) for name, value in reading.axes.items()},
        "held": sorted(reading.held),
        "said": operator.verdict(),
    }
