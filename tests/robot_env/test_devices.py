"""Each device from the bytes that it sends to the action that is expected; and its loss, within a deadline."""

import os
import pty
import select
import struct
import termios
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot_env import gamepad, keyboard, spacemouse
from robot_env.env import RobotEnv
from robot_env.gamepad import Gamepad
from robot_env.hand import Hand
from robot_env.hand_thread import ThreadedDevice
from robot_env.human import DEVICES, open_human, parse_device
from robot_env.keyboard import Keyboard
from robot_env.spacemouse import SpaceMouse
from tests.launch.waiting import eventually
from tests.robot_env.scripted_arm import TOY, Judge, ScriptedArm

LEVEL = (0.5, 0.0, 0.2, 0.0, 0.0, 0.0, 1.0)  # a tool whose frame is the base's: the action is what the human asks for


class Clock:
    """Time that passes when it is told to."""

    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def asked(module, driver):
    """The action of what a driver shows once it has taken in all that was sent, with a gripper."""
    axes, held = {}, frozenset()
    for _ in range(4):
        axes, held = driver.wait(0.01)

    class Shown:
        def read(self):
            from robot_env.hand import Reading

            return Reading(axes, held)

    return Hand(Shown(), module.MAPPING, gripper=True).action({}, LEVEL)


# A terminal's keyboard


@pytest.fixture
def terminal():
    """What types into a terminal, and the terminal's path."""
    ours, theirs = pty.openpty()
    yield (lambda text: os.write(ours, text)), os.ttyname(theirs), theirs
    os.close(theirs)
    os.close(ours)


@pytest.mark.parametrize(
    ("typed", "action"),
    [
        (b"w", [0.5, 0, 0, 0, 0, 0, 0]),
        (b"s", [-0.5, 0, 0, 0, 0, 0, 0]),
        (b"aR", [0, 0.5, 0.1, 0, 0, 0, 0]),
        (b"df", [0, -0.5, -0.5, 0, 0, 0, 0]),
        (b"q", [0, 0, 0, 0, 0, 0.5, 0]),
        (b"KJ", [0, 0, 0, -0.1, 0.1, 0, 0]),
        (b"c", [0, 0, 0, 0, 0, 0, -1]),
        (b"v", [0, 0, 0, 0, 0, 0, 1]),
        (b"h", [0, 0, 0, 0, 0, 0, 0]),
        (b"ws", None),
        (b"\x1b[A\x1bOB\x1b[1;5C", None),  # arrows: none of it is a key of ours
        (b"", None),
    ],
)
def test_a_keyboards_keys_become_the_action(terminal, typed, action):
    write, path, _ = terminal
    driver = Keyboard(path, Clock())
    driver.open()
    write(typed)
    found = asked(keyboard, driver)
    driver.close()
    assert found is None if action is None else np.allclose(found, action)


def test_a_key_is_held_a_moment_after_the_terminal_told_it_and_no_longer(terminal):
    write, path, _ = terminal
    clock = Clock()
    driver = Keyboard(path, clock, hold_s=0.15)
    driver.open()
    write(b"w")
    assert driver.wait(0.1)[0] == {"forward": 0.5}
    clock.now_s += 0.1
    assert driver.wait(0.0)[0] == {"forward": 0.5}
    clock.now_s += 0.1
    assert driver.wait(0.0) == ({}, frozenset())
    driver.close()


def test_the_terminal_is_left_as_it_was(terminal):
    _, path, theirs = terminal
    before = termios.tcgetattr(theirs)
    driver = Keyboard(path)
    driver.open()
    assert not termios.tcgetattr(theirs)[3] & termios.ECHO
    assert termios.tcgetattr(theirs)[3] & termios.ISIG  # Ctrl-C still interrupts
    driver.close()
    assert termios.tcgetattr(theirs) == before
    driver.close()


def test_a_keyboard_without_a_terminal_says_what_to_do(tmp_path):
    (tmp_path / "file").write_text("w")
    for path in (tmp_path / "file", tmp_path / "none"):
        with pytest.raises(ConnectionError, match=r"is no terminal that can be read .*start the program in one"):
            Keyboard(str(path)).open()


@given(st.binary(max_size=60))
def test_whatever_is_typed_is_a_reading(data):
    driver = Keyboard(clock=Clock())
    keys = driver._keys(data.decode(errors="ignore"))
    assert not any(key == "\x1b" for key in keys)


# A gamepad


@pytest.fixture
def pad(tmp_path):
    """What sends a gamepad's events, and the gamepad."""
    path = tmp_path / "js0"
    os.mkfifo(path)
    driver = Gamepad(str(path))
    driver.open()
    with open(path, "wb", buffering=0) as events:
        yield (lambda *event: events.write(struct.pack("<IhBB", 7, *event))), driver, events
    driver.close()


BUTTON, AXIS, INITIAL = 1, 2, 0x80


@pytest.mark.parametrize(
    ("events", "action"),
    [
        ([(-32767, AXIS, 1)], [1, 0, 0, 0, 0, 0, 0]),  # left stick away from the human: forward
        ([(-32767, AXIS, 0)], [0, 1, 0, 0, 0, 0, 0]),  # to its left
        ([(32767, AXIS, 0)], [0, -1, 0, 0, 0, 0, 0]),
        ([(-32767, AXIS, 4)], [0, 0, 1, 0, 0, 0, 0]),  # right stick up
        ([(32767, AXIS, 3)], [0, 0, 0, 0, 0, -1, 0]),  # to its right: clockwise, seen from above
        ([(32767, AXIS, 6)], [0, 0, 0, 1, 0, 0, 0]),
        ([(-32767, AXIS, 7)], [0, 0, 0, 0, 1, 0, 0]),
        ([(-18841, AXIS, 1)], [0.5, 0, 0, 0, 0, 0, 0]),  # 0.575: half of what is beyond the dead zone
        ([(1, BUTTON, 5)], [0, 0, 0, 0, 0, 0, -1]),
        ([(1, BUTTON, 4)], [0, 0, 0, 0, 0, 0, 1]),
        ([(1, BUTTON, 5), (0, BUTTON, 5)], None),
        (
            [(3000, AXIS, 0), (-32767, AXIS | INITIAL, 2), (-32767, AXIS | INITIAL, 5)],
            None,
        ),  # a worn stick; triggers rest
        ([(32767, AXIS, 40), (1, BUTTON, 40), (9, 0x33, 1)], None),  # what this pad does not have
    ],
)
def test_a_gamepads_events_become_the_action(pad, events, action):
    send, driver, _ = pad
    for event in events:
        send(*event)
    found = asked(gamepad, driver)
    assert found is None if action is None else np.allclose(found, action, atol=1e-4)


def test_a_button_that_was_pressed_and_let_go_before_anybody_looked_was_pressed(pad, monkeypatch):
    send, driver, _ = pad
    for down in (1, 0, 1, 0):
        send(down, BUTTON, 6)
    monkeypatch.setattr(driver, "open", lambda: None)  # it is
    device = ThreadedDevice("gamepad", driver)
    device.open()
    pressed: list[str] = []
    assert eventually(lambda: pressed.extend(device.presses()) or len(pressed) == 2)
    assert pressed == ["back", "back"]
    device.close()


def test_an_event_in_two_pieces_is_one_event(pad):
    _, driver, events = pad
    event = struct.pack("<IhBB", 7, 1, BUTTON, 0)
    events.write(event[:5])
    assert driver.wait(0.1)[1] == frozenset()
    events.write(event[5:])
    assert driver.wait(0.1)[1] == {"a"}


def test_a_gamepad_that_is_not_there_says_what_to_do(tmp_path):
    with pytest.raises(ConnectionError, match=r"js7 cannot be opened .*plug it in"):
        Gamepad(str(tmp_path / "js7")).open()


# A SpaceMouse


class Hidraw:
    """A handle as hidapi's, over a pipe whose every write is a report."""

    def __init__(self) -> None:
        self._out, self._in = os.pipe2(os.O_DIRECT)  # which keeps packets apart

    def send(self, kind: int, data: bytes) -> None:
        os.write(self._in, bytes([kind]) + data)

    def unplug(self) -> None:
        os.close(self._in)

    def read(self, max_length: int, timeout_ms: int = 0) -> list[int]:
        if not select.select([self._out], [], [], timeout_ms / 1000)[0]:
            return []
        report = os.read(self._out, max_length)
        if not report:
            raise OSError("read error")
        return list(report)

    def close(self) -> None:
        os.close(self._out)


def s16(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}h", *values)


@pytest.mark.parametrize(
    ("reports", "action"),
    [
        ([(1, s16(0, -350, 0))], [1, 0, 0, 0, 0, 0, 0]),  # pushed away: forward
        ([(1, s16(-350, 0, 0))], [0, 1, 0, 0, 0, 0, 0]),  # to the left
        ([(1, s16(0, 0, -350))], [0, 0, 1, 0, 0, 0, 0]),  # lifted
        ([(2, s16(0, 0, 350))], [0, 0, 0, 0, 0, -1, 0]),  # turned clockwise, seen from above
        ([(2, s16(0, -350, 0))], [0, 0, 0, 1, 0, 0, 0]),
        ([(2, s16(-350, 0, 0))], [0, 0, 0, 0, 1, 0, 0]),
        ([(1, s16(0, -350, 0)), (2, s16(0, 0, -350))], [1, 0, 0, 0, 0, 1, 0]),
        ([(1, s16(0, 0, -350, 0, 0, -350))], [0, 0, 1, 0, 0, 1, 0]),  # a newer one tells all six at once
        ([(1, s16(0, -184, 0))], [0.501, 0, 0, 0, 0, 0, 0]),
        ([(3, b"\x01\x00")], [0, 0, 0, 0, 0, 0, -1]),
        ([(3, b"\x02\x00")], [0, 0, 0, 0, 0, 0, 1]),
        ([(3, b"\x02\x00"), (3, b"\x00\x00")], None),
        ([(1, s16(0, -350, 0)), (1, s16(0, 0, 0))], None),
        ([(1, s16(10, -10, 17))], None),  # nobody touches it
        ([(23, b"\x64"), (1, b"\x00"), (2, b"")], None),  # a battery's report, and reports cut short
    ],
)
def test_a_space_mouses_reports_become_the_action(reports, action):
    handle = Hidraw()
    driver = SpaceMouse(opened=lambda path: handle)
    driver.open()
    for report in reports:
        handle.send(*report)
    found = asked(spacemouse, driver)
    driver.close()
    handle.unplug()
    assert found is None if action is None else np.allclose(found, action, atol=1e-3)


@given(st.lists(st.binary(min_size=1, max_size=14), max_size=4))
def test_whatever_a_space_mouse_reports_its_axes_are_numbers(reports):
    driver = SpaceMouse()
    for report in reports:
        driver._take(report[0], report[1:])
    assert np.isfinite([0.0, *driver._axes.values()]).all()


def test_without_a_space_mouse_it_is_said_so():
    pytest.importorskip("hidraw", reason="hidapi is not installed")
    with pytest.raises(ConnectionError, match=r"none is plugged in|cannot be opened"):
        spacemouse.open_device("/dev/hidraw-none")


# Loss


class Told:
    """A driver that shows what it is told, and waits, or fails, as it is told."""

    def __init__(self) -> None:
        self.shown = ({}, frozenset())
        self.asked, self.go, self.failure, self.opened, self.missing = 0, threading.Event(), None, 0, False
        self.go.set()

    def open(self) -> None:
        if self.missing:
            raise ConnectionError("there is none")
        self.opened += 1

    def wait(self, timeout_s):
        self.go.wait(5.0)
        self.asked += 1
        if self.failure is not None:
            raise self.failure
        threading.Event().wait(0.001)
        return self.shown

    def close(self) -> None: ...


@pytest.fixture
def told():
    driver, clock = Told(), Clock()
    device = ThreadedDevice("spacemouse", driver, clock, deadline_s=0.3)
    yield driver, clock, device
    driver.go.set()
    device.close()


def test_a_device_is_at_rest_when_it_is_opened_and_lost_when_it_is_closed(told):
    driver, _, device = told
    with pytest.raises(ConnectionError, match="it is not open"):
        device.read()
    device.open()
    assert device.read().held == frozenset()
    driver.shown = ({"x": 1.0}, frozenset({"a"}))
    assert eventually(lambda: device.read().axes == {"x": 1.0})
    device.close()
    with pytest.raises(ConnectionError, match="it is closed"):
        device.read()


def test_a_driver_that_waits_for_ever_is_a_lost_device_at_the_deadline(told):
    driver, clock, device = told
    device.open()
    driver.go.clear()
    seen = driver.asked
    assert eventually(lambda: driver.asked in (seen, seen + 1))
    clock.now_s += 0.29
    device.read()
    clock.now_s += 0.31
    with pytest.raises(
        ConnectionError, match=r"spacemouse is lost \(it has not answered for 0.60 s\); plug it in again"
    ):
        device.read()
    driver.go.set()
    assert eventually(lambda: _is_there(device))  # it answers again


def _is_there(device) -> bool:
    try:
        device.read()
    except ConnectionError:
        return False
    return True


def test_a_device_that_is_pulled_out_is_lost_at_once_and_found_again(told, monkeypatch):
    monkeypatch.setattr("robot_env.hand_thread.AGAIN_S", 0.01)
    driver, _, device = told
    device.open()
    driver.missing, driver.failure = True, OSError("read error")
    assert eventually(lambda: not _is_there(device))
    with pytest.raises(ConnectionError, match="spacemouse is lost"):
        device.presses()
    driver.shown, driver.failure = ({}, frozenset({"stop"})), None
    driver.missing = False
    assert eventually(lambda: _is_there(device))
    assert driver.opened == 2


def test_presses_are_told_once_each_in_order(told):
    driver, _, device = told
    device.open()
    for held in ({"a"}, {"a", "b"}, set(), {"a"}):
        driver.shown = ({}, frozenset(held))
        assert eventually(lambda held=held: device.read().held == held)
    assert device.presses() == ["a", "b", "a"]
    assert device.presses() == []


def test_a_lost_device_stops_the_arm_with_its_reason(told, monkeypatch):
    monkeypatch.setattr("robot_env.hand_thread.AGAIN_S", 0.01)
    driver, _, device = told
    device.open()
    arm = ScriptedArm()
    env = RobotEnv(TOY, arm, success=Judge(), intervention=Hand(device, spacemouse.MAPPING))
    env.reset(seed=0)
    assert not env.step(np.zeros(6))[3]
    driver.missing, driver.failure = True, OSError("read error")
    assert eventually(lambda: not _is_there(device))
    sent = len(arm.commands)
    *_, terminated, truncated, info = env.step(np.zeros(6))
    assert (terminated, truncated, len(arm.commands)) == (False, True, sent)
    assert "ConnectionError: spacemouse is lost" in info["fault"]
    assert arm.stops == [info["fault"]]
    driver.missing, driver.failure = False, None
    assert eventually(lambda: _is_there(device))
    env.acknowledge("a test")
    env.reset(seed=0)
    assert not env.step(np.zeros(6))[3]


# All together


def test_a_human_with_a_keyboard_moves_and_speaks(terminal):
    write, path, _ = terminal
    human = open_human(parse_device(f"keyboard:{path}"), gripper=False, terminal=None)
    try:
        write(b"w\n")
        assert eventually(lambda: human.intervention.action({}, LEVEL) is not None)
        assert eventually(lambda: human.operator.verdict() == "success")
        write(b"x ")
        assert eventually(lambda: human.operator.verdict() == "stop")  # whatever was said beside it
    finally:
        human.close()


def test_what_was_pressed_before_an_episode_is_forgotten_but_for_stop(terminal):
    write, path, _ = terminal
    human = open_human(parse_device("keyboard"), gripper=False, terminal=path)
    device = human.intervention.device
    try:
        write(b"\n")
        assert eventually(lambda: "enter" in device.read().held)
        human.operator.begin()
        assert human.operator.verdict() is None
        write(b" ")
        assert eventually(lambda: "space" in device.read().held)
        human.operator.begin()
        assert human.operator.verdict() == "stop"
        assert human.operator.verdict() is None
    finally:
        human.close()


def test_a_device_without_a_stop_key_needs_a_terminal():
    with pytest.raises(ValueError, match="'spacemouse' has no key that stops the arm; start the program in a terminal"):
        open_human(parse_device("spacemouse"), gripper=False, terminal=None)


@pytest.mark.parametrize("text", ["", "mouse", "spacemouse@", "spacemouse@left", "gamepad@400", "spacemouse@nan"])
def test_a_device_that_is_none_is_refused(text):
    with pytest.raises(
        ValueError, match=r"it is not NAME\[:PATH\]\[@DEGREES\] with a name of spacemouse, gamepad, keyboard"
    ):
        parse_device(text)


@given(name=st.sampled_from(sorted(DEVICES)), path=st.text("/abc0", max_size=5), degrees=st.integers(-360, 360))
def test_a_device_is_read_as_it_was_written(name, path, degrees):
    choice = parse_device(f"{name}:{path}@{degrees}")
    assert (choice.name, choice.path) == (name, path)
    assert np.degrees(choice.facing_rad) == pytest.approx(degrees)
