"""`segue hand check`: live axes of a device, without an arm."""

import json
import os
import pty
import threading

import pytest

from launch.hand_check import check_hand
from robot_env.human import parse_device
from tests.launch.test_cli import refused


@pytest.fixture
def terminal():
    ours, theirs = pty.openpty()
    yield ours, os.ttyname(theirs)
    os.close(theirs)
    os.close(ours)


def test_what_a_device_asks_for_is_shown(terminal, segue):
    ours, path = terminal
    typist = threading.Timer(0.2, lambda: os.write(ours, b"wQp"))
    typist.start()
    code, out, said = segue("hand", "check", "keyboard", "--seconds", "0.6", "--terminal", path, "--json")
    typist.join()
    assert code == 0, said
    assert "Space STOP" in said
    told = json.loads(out)
    assert (told["forward"], told["left"], told["said"]) == ([0.0, 0.5], [0.0, 0.0], ["pause"])
    assert {"w", "Q", "p"} <= set(told["held"])


def test_the_axes_are_those_of_whoever_faces_the_arm(terminal):
    ours, path = terminal
    seen, now_s = [], [0.0]

    def show(row: dict) -> None:
        if not seen:
            os.write(ours, b"w")  # what was typed before the device was opened does not count
        seen.append(row)

    def sleep(seconds: float) -> None:
        threading.Event().wait(0.005)
        now_s[0] += seconds if any(row["held"] for row in seen) else 0.001  # time passes once the key was seen

    told = check_hand(parse_device("keyboard@180"), path, 3.0, show, clock=lambda: now_s[0], sleep=sleep)
    assert told["forward"] == [-0.5, 0.0]
    assert any(row["raw"] == {"forward": 0.5} for row in seen)


def test_what_makes_no_sense_is_refused(segue, terminal):
    refused(segue("hand", "check", "mouse"), "device 'mouse'")
    refused(segue("hand", "check", "keyboard", "--seconds", "0", "--terminal", terminal[1]), "--seconds 0")
