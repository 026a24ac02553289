"""`segue twin log`, and a motion read again from what it wrote."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.replay.dataset import Dataset
from launch.data_check import check
from launch.data_tools import open_journal
from launch.robots.serl_robot import SerlRobot
from launch.robots.serving import served
from launch.twin_data import in_contact, pose_of, read_log
from launch.twin_log import Logging, excitation, log_stage
from robot_env.arm import ArmState
from robot_env.faults import ArmFault
from robot_env.observation import state_vector
from robot_env.pose import displace, pose_from_offset, pose_from_vector, relative_pose
from robot_env.tasks import find_task, task_names

PEG = find_task("peg_insertion")
TARGET = pose_from_vector(PEG.target).tolist()


@given(st.sampled_from(task_names()), st.integers(0, 2**32 - 1), st.integers(1, 80))
def test_the_motion_stays_in_the_box_and_above_the_target(name, seed, steps):
    task = find_task(name)
    wanted = excitation(task, np.random.default_rng(seed), steps)
    assert wanted.shape == (steps, 6)
    assert (wanted >= np.array(task.low) - 1e-12).all()
    assert (wanted <= np.array(task.high) + 1e-12).all()
    assert (wanted[:, 2] >= task.reset[2] / 2.0 - 1e-12).all()


def test_a_task_that_starts_at_its_target_has_no_free_space():
    with pytest.raises(ValueError, match="not above its target"):
        excitation(replace(PEG, reset=(0.0,) * 6, reset_range=(0.0,) * 6), np.random.default_rng(0), 10)


@given(
    st.sampled_from(["target", "reset"]),
    st.tuples(*[st.floats(low, high) for low, high in zip(PEG.low, PEG.high, strict=True)]),
)
def test_a_pose_is_read_from_what_is_observed(relative_to, offset):
    task, pose = replace(PEG, relative_to=relative_to), pose_from_offset(offset, TARGET)
    origin = pose_from_offset(PEG.reset, TARGET).tolist()
    relative = offset if relative_to == "target" else relative_pose(pose.tolist(), origin)
    state = ArmState(pose, np.zeros(6), np.zeros(6), np.zeros(7), 0.0, 0.0)
    found = pose_of(task, state_vector(state, pose.tolist(), relative).astype(np.float64))
    assert found[:3] == pytest.approx(pose[:3], abs=1e-6)
    assert abs(found[3:] @ pose[3:]) == pytest.approx(1.0, abs=1e-6)


def test_touching_is_told_by_force_or_torque():
    states = np.zeros((3, 19))
    states[1, 2], states[2, 11] = 6.0, -1.5
    assert in_contact(states).tolist() == [False, True, True]


@pytest.mark.parametrize("name", ["peg_insertion", "peg_insertion_franka"])
def test_a_log_is_a_data_set_that_holds_the_motion(segue, tmp_path, name):
    out = tmp_path / "log"
    code, _, err = segue("twin", "log", "--task", name, "--episodes", "2", "--steps", "30", "--out", out, "--json")
    assert (code, err) == (0, "")
    log, source = read_log(out), open_journal(out)
    assert (log.steps, log.in_contact, len(log.episodes)) == (60, 0, 2)
    assert not [
        finding for finding in check(source) if finding.severity == "error" and "observations" not in finding.what
    ]
    task = find_task(name)
    for episode in log.episodes:
        motion = episode.motion
        start = pose_from_offset(task.reset, pose_from_vector(task.target).tolist())
        assert motion.pose[0][:3] == pytest.approx(start[:3], abs=1e-4)
        assert np.array_equal(motion.last[1:], motion.reference[:-1])
        assert np.ptp(motion.next_pose[:, :3], axis=0).min() > 0.004
        again = displace(motion.pose[5].tolist(), Dataset.load(out).columns["executed"][5].tolist(), task.action_scale)
        assert abs(again[3:] @ motion.reference[5][3:]) <= 1.0 + 1e-9
    assert not np.array_equal(log.episodes[0].motion.reference, log.episodes[1].motion.reference)
    code, _, err = segue("twin", "log", "--out", out)
    assert (code, err.count("\n")) == (2, 1)
    assert "already holds a run" in err


def test_a_fault_ends_it_and_what_came_before_is_kept(tmp_path):
    robot = SerlRobot(PEG)
    with served(robot) as url:
        logging = Logging(arm=f"serl:{url},simulated", episodes=1, steps=20)

        def stop_after_five(steps: int) -> None:
            if steps == 5:
                robot._stop("somebody pressed the button")

        with pytest.raises(ArmFault, match="somebody pressed the button"):
            log_stage(logging, PEG, tmp_path / "log", False, stop_after_five)
    log = read_log(tmp_path / "log")
    assert log.steps == 6
    assert log.episodes[0].free.tolist() == [True] * 5 + [False]


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (("--task", "pen"), "--task pen: it has no arm"),
        (("--episodes", "0"), "--episodes 0: give at least 1"),
        (("--arm", "twin:nowhere.json"), "twin nowhere.json: it cannot be read"),
        (("--arm", "kuka"), "arm 'kuka' is unknown"),
    ],
)
def test_what_cannot_be_logged_is_one_sentence(segue, tmp_path, option, words):
    code, out, err = segue("twin", "log", *option, "--out", tmp_path / "log")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert words in err
    assert not (tmp_path / "log").exists()
