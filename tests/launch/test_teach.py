"""`segue robot teach-box`: a hand shows a target and a box, and the task that is written holds all that was shown."""

import tempfile
from math import pi
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launch.task_file import check_margin, taught_task, write_task
from launch.teach import Lesson, picture, teach
from robot_env.arm import ArmCommand, ArmState
from robot_env.joints import HOME_RAD
from robot_env.pose import angle_between, euler_from_quat, pose_from_offset, pose_from_vector
from robot_env.preflight import preflight
from robot_env.safety import SafetyLayer
from robot_env.starts import evaluation_starts
from robot_env.tasks import find_task
from sim.twin_arm import TwinArm
from tests.launch.test_cli import refused

PEG = find_task("peg_insertion")
MARGIN = (0.002, 0.01)
ROOT = Path(__file__).resolve().parents[2]
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
    keys = iter([[], *([key] for _, key in steps), ["t", "q"]])
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


def test_nothing_shown_is_told_with_its_reason():
    lesson = Lesson(PEG, MARGIN)
    with pytest.raises(ValueError, match="no target was shown; guide the tool"):
        taught_task(lesson, PEG, "shown", MARGIN)
    lesson.see(reading(TARGET, (0.0, -pi / 4, 0.0, -0.2, 0.0, pi / 2, pi / 4)))
    with pytest.raises(ValueError, match=r"nothing is taught: no pose counts \(joint 4 at"):
        taught_task(lesson, PEG, "shown", MARGIN)


def test_the_twins_readings_teach_the_peg_and_its_task_runs(tmp_path):
    arm, corners = TwinArm(PEG), [(0.03, 0.02, 0.06), (-0.03, -0.02, 0.06), (0, 0, 0.06), (0, 0, 0.0)]
    lesson, keys = Lesson(PEG, MARGIN), iter([*[[]] * 69, ["t"], ["q"]])

    def led():
        """The hand's way: through corners, and down into the hole."""
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
    assert abs(task.target[2] - PEG.target[2]) < 0.06
    assert 0.02 < task.reset[2] <= task.high[2]


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
