"""`segue robot teach-box`: a hand shows a target and a box, and the task that is written holds all that was shown."""

import json
import os
import pty
import signal
import tempfile
import threading
import time
from contextlib import closing
from math import pi
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launch.robots.fci import FciTwin
from launch.robots.serl_robot import SerlRobot
from launch.robots.serving import served
from launch.task_file import check_margin, taught_task, write_task
from launch.teach import Lesson, picture, readings, teach
from robot_env.arm import ArmCommand, ArmState
from robot_env.joints import HOME_RAD
from robot_env.keyboard import HOLD_S
from robot_env.make import make_arm
from robot_env.pose import angle_between, euler_from_quat, pose_from_offset, pose_from_vector
from robot_env.preflight import preflight
from robot_env.safety import SafetyLayer
from robot_env.serl_http import SerlServer
from robot_env.starts import evaluation_starts
from robot_env.tasks import find_task
from sim.twin_arm import TwinArm
from tests.launch.test_cli import refused
from tests.launch.waiting import eventually
from tests.robot_env.guided_twin import GuidedTwin

PEG = find_task("peg_insertion")
MARGIN = (0.002, 0.01)
BUSY_S = 60.0  # a time-out that a machine under full load keeps
TARGET = pose_from_vector(PEG.target).tolist()


def reading(pose, joints=HOME_RAD) -> ArmState:
    pushed = np.full(6, 500.0)  # a hand that pushes is no fault
    return ArmState(np.asarray(pose, float), np.zeros(6), pushed, np.array(joints), 0.0, 1.0)


def shown(offsets, target=TARGET, margin=MARGIN) -> Lesson:
    """A lesson of the target first, and then of poses at these offsets from it."""
    lesson = Lesson(PEG, margin)
    lesson.see(reading(target))
    lesson.aim()
    for offset in offsets:
        lesson.see(reading(pose_from_offset(offset, target)))
    return lesson


def written(lesson, folder, margin=MARGIN, like="peg_insertion"):
    """The lesson's task, from its file."""
    path = Path(folder) / "shown.py"
    task = taught_task(lesson, find_task(like), "shown", margin)
    write_task(path, task, like, margin, len(lesson.poses))
    assert find_task(str(path)) == task
    assert [each.name for each in Path(folder).iterdir()] == ["shown.py"]
    return task


angles, metres = st.floats(-pi, pi), st.floats(-0.9, 0.9)
poses = st.tuples(metres, metres, metres, angles, st.floats(-pi / 2, pi / 2), angles).map(pose_from_vector)
margins = st.tuples(st.floats(0.0, 0.1), st.floats(0.0, 0.5))


@given(st.lists(st.tuples(poses, st.sampled_from(["", "", "", "t", "enter", "n", "z"])), max_size=12), poses, margins)
@settings(max_examples=150, deadline=None)
def test_every_pose_that_counts_lies_in_the_box_that_is_written(steps, last, margin):
    lesson = Lesson(PEG, margin)
    beside = last + np.array([0.1, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    states = [reading(pose) for pose in (beside, *(pose for pose, _ in steps), last)]
    keys = iter([["t"], *([key] for _, key in steps), ["t", "q"]])
    teach(states, lambda: next(keys), lesson)
    if lesson.done.startswith("that is no target"):
        assert abs(abs(euler_from_quat(last[3:])[1]) - pi / 2) < 1e-4
        return
    assert lesson.target is not None
    assert np.linalg.norm(np.subtract(last[:3], lesson.target[:3])) < 1e-4
    assert angle_between(last[3:], pose_from_vector(lesson.target)[3:]) < 3e-4
    if not lesson.poses or max(np.subtract(lesson.high, lesson.low)[:3]) < PEG.action_scale[0]:
        with pytest.raises(ValueError, match="nothing is taught"):
            taught_task(lesson, PEG, "shown", margin)
        return
    with tempfile.TemporaryDirectory() as folder:
        task = written(lesson, folder, margin)
    preflight(task)
    safety = SafetyLayer(task)
    for pose in lesson.poses:
        assert safety.inside(pose), safety.offset(pose)
    room = np.array([margin[0]] * 3 + [margin[1]] * 3) - 1e-12
    assert all(np.subtract(lesson.low, task.low) >= room)
    assert all(np.subtract(task.high, lesson.high) >= room)
    for start in evaluation_starts(task, 5):
        assert (np.array(lesson.low) - 1e-3 <= start.offset).all()
        assert (start.offset <= np.array(lesson.high) + 1e-9).all()


def test_a_tool_that_turns_past_pi_about_the_base_never_meets_the_wrap(tmp_path):
    target = pose_from_vector((0.5, 0.0, 0.2, pi, 0.0, pi - 0.05)).tolist()
    lesson = shown([(0, 0, 0.1, 0, 0, yaw) for yaw in np.linspace(-0.4, 0.4, 9)], target)
    task = written(lesson, tmp_path)
    np.testing.assert_allclose((task.low[5], task.high[5]), (-0.41, 0.41), atol=2e-3)
    np.testing.assert_allclose(task.reset, (0.0, 0.0, 0.1, 0.0, 0.0, 0.0), atol=1e-3 + 1e-9)
    assert task.reset_range[5] == pytest.approx(0.2, abs=2e-3)


def test_an_arm_near_its_limits_or_a_reading_that_is_none_does_not_count():
    lesson = shown([])
    before = (len(lesson.poses), list(lesson.low), list(lesson.high))
    aside = pose_from_offset((0.05, 0, 0.05, 0, 0, 0), TARGET)
    for joints, words in (
        ((0.0, -pi / 4, 0.0, -0.2, 0.0, pi / 2, pi / 4), "joint 4 at -0.200 rad is within 0.1 rad of its limits"),
        ((0.0, 1.55, pi, -1.6, 0.0, pi / 2, pi / 4), "joint 3"),
        ((0.0, 1.6, 0.0, -1.6, 0.0, pi / 2, pi / 4), "the elbow is 0.241 m above the base plane"),
    ):
        lesson.see(reading(aside, joints))
        assert words in lesson.note
        lesson.aim()
        assert lesson.done.startswith("that is no target: ")
    for pose in ([np.nan, *TARGET[1:]], [*TARGET[:3], 1.0, 1.0, 0.0, 0.0], TARGET[:6]):
        lesson.see(reading(pose))
        assert lesson.now is None
        assert lesson.note
    lesson.see(reading(pose_from_offset((0, 0, 0, 0, 0, 2.99), TARGET)))
    assert lesson.note == "yaw 2.990 is more than 2.988 from the target"
    assert (len(lesson.poses), lesson.low, lesson.high) == before
    assert lesson.target is not None
    np.testing.assert_allclose(lesson.target, PEG.target, atol=1e-4)


def test_another_target_takes_the_box_along_and_a_box_may_begin_anew(tmp_path):
    lesson = shown([(0.1, 0, 0.05, 0, 0, 0), (0, 0.1, 0.05, 0, 0, 2.9)])
    lesson.aim()  # turned by 2.9
    assert lesson.done == "the target is here"
    np.testing.assert_allclose((lesson.low[0], lesson.low[1], lesson.low[5]), (0.0, -0.1, -2.9), atol=1e-3)
    lesson.see(reading(pose_from_offset((0, 0.1, 0.05, 0, 0, -2.9), TARGET)))
    assert lesson.note == ""  # 5.8 rad the other way is 0.48 this way
    lesson.aim()
    assert lesson.done == "the target is here"
    lesson.forget()
    with pytest.raises(ValueError, match=r"a box of 0\.0 x 0\.0 x 0\.0 mm has no room for one step of 20 mm"):
        taught_task(lesson, PEG, "shown", MARGIN)
    lesson.see(reading(pose_from_offset((0, 0.1, 0.15, 0, 0, 2.9), TARGET)))
    assert written(lesson, tmp_path).high[2] >= 0.1


def test_the_way_to_the_first_target_is_no_part_of_the_box():
    lesson = Lesson(PEG, MARGIN)
    lesson.see(reading(pose_from_offset((0.3, 0, 0.3, 0, 0, 0), TARGET)))
    assert (lesson.poses, lesson.offset) == ([], None)
    lesson.see(reading(TARGET))
    lesson.aim()
    np.testing.assert_allclose((*lesson.low, *lesson.high), 0.0, atol=1e-4)
    assert len(lesson.poses) == 1


def test_nothing_shown_is_told_with_its_reason():
    lesson = Lesson(PEG, MARGIN)
    with pytest.raises(ValueError, match="no target was shown; guide the tool"):
        taught_task(lesson, PEG, "shown", MARGIN)
    lesson.see(reading(TARGET, (0.0, -pi / 4, 0.0, -0.2, 0.0, pi / 2, pi / 4)))
    with pytest.raises(ValueError, match=r"nothing is taught: no pose counts \(joint 4 at"):
        taught_task(lesson, PEG, "shown", MARGIN)


def test_the_twins_readings_teach_the_peg_and_its_task_runs(tmp_path):
    arm, corners = TwinArm(PEG), [(0, 0, 0), (0, 0, 0.06), (0.03, 0.02, 0.06), (-0.03, -0.02, 0.06)]
    lesson, keys = Lesson(PEG, MARGIN), iter([*[[]] * 19, ["t"], *[[]] * 59, ["q"]])

    def led():
        """The hand's way: down into the hole, and to corners above it."""
        path = SafetyLayer(PEG).pose((0.0, 0.0, 0.08, 0.0, 0.0, 0.0))[None]
        arm.reset(path, np.random.default_rng(0))
        hole = arm.hole_pose.tolist()
        for corner in corners:
            goal = pose_from_offset((*corner, 0.0, 0.0, 0.0), hole)
            for _ in range(20):
                pose = arm.read().tcp_pose
                step = goal[:3] - pose[:3]
                step *= min(1.0, 0.02 / max(float(np.linalg.norm(step)), 1e-9))
                arm.send(ArmCommand(np.concatenate([pose[:3] + step, goal[3:]])))
                yield arm.read()

    teach(led(), lambda: next(keys), lesson, lambda state: str(picture(lesson, state)))
    task = written(lesson, tmp_path)
    assert task.low[0] < -0.02 < 0.02 < task.high[0]
    assert abs(task.target[2] - PEG.target[2]) < 0.01
    assert 0.04 < task.reset[2] <= task.high[2]


@pytest.mark.parametrize("margin", [(-0.001, 0.0), (0.2, 0.0), (0.0, 0.6), (float("nan"), 0.0), (0.0, float("inf"))])
def test_a_margin_that_is_none_is_refused(margin):
    with pytest.raises(ValueError, match=r"--margin-(m|rad) .*: give a number from 0 to "):
        check_margin(margin)


def test_what_makes_no_sense_is_refused_before_the_arm_is_asked(segue, tmp_path):
    (tmp_path / "there.py").write_text("precious")
    gone = ("--arm", "serl:http://127.0.0.1:9")
    for out, words in (
        ("there.py", "it is already there; give another file"),
        ("task.txt", "it is no file of a task"),
        ("two words.py", "it is no file of a task"),
        ("hopper.py", "there is a task 'hopper' already"),
        ("nowhere/mine.py", "there is no folder"),
    ):
        refused(segue("robot", "teach-box", *gone, "--out", tmp_path / out), words)
    mine = ("robot", "teach-box", "--out", tmp_path / "mine.py")
    refused(segue(*mine, *gone, "--like", "hopper"), "it has no arm")
    refused(segue(*mine, *gone, "--like", tmp_path / "none.py"), "none.py: there is no such file")
    refused(segue(*mine, *gone, "--margin-m", "-1"), "--margin-m -1: give a number from 0 to 0.1")
    refused(segue(*mine, "--arm", "twin"), "--arm twin: nobody can guide it")
    code, _, said = segue(*mine, *gone, "--terminal", "/dev/null")
    assert (code, said.count("\n")) == (1, 1)
    assert "is no terminal that can be read" in said
    assert (tmp_path / "there.py").read_text() == "precious"
    assert [each.name for each in tmp_path.iterdir()] == ["there.py"]


class WatchedRobot(SerlRobot):
    """Counts what it is asked."""

    def __init__(self) -> None:
        super().__init__(PEG)
        self.reads, self.moves, self.others = 0, 0, []

    def state(self):
        self.reads += 1
        return super().state()

    def move(self, pose):
        self.moves += 1
        super().move(pose)

    def stop_impedance(self):
        self.others.append("stopimp")
        super().stop_impedance()

    def rest(self):
        self.others.append("rest")
        super().rest()


@pytest.fixture
def robot(monkeypatch):
    """A served twin; its clients' time-out is one that a machine under full load keeps."""
    build = SerlServer.__init__
    monkeypatch.setattr(SerlServer, "__init__", lambda self, url, timeout_s: build(self, url, BUSY_S))
    robot = WatchedRobot()
    with served(robot) as url:
        robot.url = url
        yield robot


@pytest.fixture
def terminal():
    ours, theirs = pty.openpty()
    yield ours, os.ttyname(theirs)
    os.close(theirs)
    os.close(ours)


class Guide(threading.Thread):
    """Another program that leads the served twin, and a human's fingers: targets and keys, one after the other."""

    def __init__(self, robot, keyboard: int, plan) -> None:
        super().__init__(daemon=True)
        self._robot, self._keyboard, self._plan, self.sent, self.reached = robot, keyboard, plan, 0, []

    def run(self) -> None:
        with closing(SerlServer(self._robot.url, BUSY_S)) as server:
            for what in self._plan:
                self._looked()
                if isinstance(what, bytes):
                    time.sleep(2 * HOLD_S)  # or the terminal would seem to repeat the key
                    os.write(self._keyboard, what)
                else:
                    self._lead(server, np.array(what))

    def _lead(self, server, goal) -> None:
        """References that go there a centimetre at a time."""
        for _ in range(100):
            pose = np.array(self._robot.twin.pose)
            step = goal - pose[:3]
            if np.linalg.norm(step) < 0.006:
                break
            pose[:3] += step * min(1.0, 0.01 / np.linalg.norm(step))
            server.post("pose", {"arr": pose.tolist()})
            self.sent += 1
        self.reached.append(self._robot.twin.pose[:3])

    def _looked(self) -> None:
        """Two more readings have been taken."""
        seen = self._robot.reads
        assert eventually(lambda: self._robot.reads >= seen + 2, BUSY_S)


def test_a_hand_teaches_in_a_terminal_while_another_program_moves_the_twin(robot, segue, terminal, tmp_path):
    keyboard, path = terminal
    plan = [(0.5, 0.0, 0.3), b"t", (0.46, -0.05, 0.4), (0.54, 0.04, 0.36), (0.5, 0.0, 0.4), b"n"]
    guide = Guide(robot, keyboard, [*plan, (0.52, 0.03, 0.38), (0.47, -0.02, 0.31), b"q"])
    guide.start()
    flags = ["--like", "peg_insertion", "--terminal", path, "--json"]
    code, out, said = segue(
        "robot", "teach-box", "--arm", f"serl:{robot.url},simulated", "--out", tmp_path / "mine.py", *flags
    )
    guide.join(BUSY_S)
    assert code == 0, said
    assert "n: the box begins anew; q: write the task" in said
    assert robot.moves == guide.sent  # nobody else moved it,
    assert robot.others == []  # or changed how it is held
    task, told = find_task(str(tmp_path / "mine.py")), json.loads(out)
    assert (tuple(told["low"]), told["poses"] > 4) == (task.low, True)
    target, *_, right, left = np.array(guide.reached)
    np.testing.assert_allclose(task.target[:3], target, atol=1e-4)
    safety = SafetyLayer(task)
    quat = pose_from_vector(task.target)[3:]
    for corner in (target, right, left):
        offset = safety.offset([*corner, *quat])
        assert all(np.array(task.low[:3]) <= offset[:3])
        assert all(np.array(task.high[:3]) >= offset[:3])
    assert task.high[0] < 0.04  # what was shown before the box began anew is forgotten
    code, out, _ = segue(
        "robot", "home", "--arm", f"serl:{robot.url},simulated", "--task", tmp_path / "mine.py", "--json"
    )
    assert code == 0
    assert json.loads(out)["off m"] < 0.01


def test_without_a_target_the_lesson_goes_on(robot, segue, terminal, tmp_path):
    guide = Guide(robot, terminal[0], [(0.45, 0.0, 0.4), b"q", b"t", (0.5, 0.0, 0.35), b"q"])
    guide.start()
    arm = ("--arm", f"serl:{robot.url},simulated")
    flags = ("--like", "peg_insertion", "--terminal", terminal[1])
    code, _, said = segue("robot", "teach-box", *arm, "--out", tmp_path / "mine.py", *flags)
    guide.join(BUSY_S)
    assert code == 0, said
    assert find_task(str(tmp_path / "mine.py")).target[0] == pytest.approx(0.45, abs=0.01)


class Shaky:
    """An arm whose cable is out for a while."""

    def __init__(self, *answers) -> None:
        self.answers, self.joined = list(answers), 0

    def read(self):
        if isinstance(self.answers[0], Exception):
            raise self.answers.pop(0)
        return self.answers.pop(0)

    def connect(self) -> None:
        if isinstance(self.answers[0], ConnectionRefusedError):
            raise self.answers.pop(0)
        self.joined += 1


def test_an_arm_that_does_not_answer_for_a_while_is_joined_again_and_nothing_that_was_shown_is_lost():
    beside = reading(pose_from_offset((0.1, 0, 0, 0, 0, 0), TARGET))
    arm = Shaky(reading(TARGET), TimeoutError("no state for 1 s"), ConnectionRefusedError("held"), beside)
    lesson, told, keys = Lesson(PEG, MARGIN), [], iter([["t"], ["q"]])
    teach(readings(arm, told.append, lambda seconds: None), lambda: next(keys), lesson)
    assert (arm.joined, len(lesson.poses)) == (1, 2)
    assert told == ["no state for 1 s; take your hands off the arm until it is read again"]
    gone = Shaky(reading(TARGET), TimeoutError("no state"), *[ConnectionRefusedError("held")] * 99)
    with pytest.raises(ConnectionError, match="held"):
        teach(readings(gone, told.append, lambda seconds: None), list, lesson)


def test_an_arm_that_was_stopped_is_told(robot, segue, terminal, tmp_path):
    robot._stop("nobody has said anything for a while")
    arm = ("--arm", f"serl:{robot.url},simulated")
    code, _, said = segue("robot", "teach-box", *arm, "--out", tmp_path / "mine.py", "--terminal", terminal[1])
    assert code == 1
    assert "nobody has said anything for a while; look at it" in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "version"), [("panda", 5), ("franky", 10)])
def test_a_franka_is_read_while_a_hand_guides_it(name, version):
    with (
        closing(GuidedTwin(PEG, FciTwin(version))) as twin,
        closing(make_arm(PEG, f"{name}:{twin.host},simulated")) as arm,
    ):
        arm.connect()
        lesson, states = Lesson(PEG, MARGIN), readings(arm)
        teach([next(states)], lambda: ["t"], lesson)
        os.kill(twin.process.pid, signal.SIGUSR1)  # the guiding buttons
        end_s = time.monotonic() + BUSY_S

        def presses():
            done = max(np.subtract(lesson.high, lesson.low)) > 0.15
            return ["q"] if done or time.monotonic() > end_s else []

        teach(states, presses, lesson)
        assert "uiding" in arm._driver.read().error
        preflight(taught_task(lesson, PEG, "mine", MARGIN))
        arm.stop("nothing moves it")
        with pytest.raises(
            ConnectionError, match=f"the robot at {twin.host}"
        ):  # in one sentence, while the buttons are held
            arm.connect()
