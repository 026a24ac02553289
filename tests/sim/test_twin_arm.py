"""The twin behind the arm's protocol: resets, wrench, determinism, refusals."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from robot_env.arm import ArmCommand
from robot_env.tasks import find_task
from sim.randomize import Randomization
from sim.twin_arm import TwinArm

TASK = find_task("peg_insertion")
ARM = TwinArm(TASK)


def _record(bench, steps: int = 50) -> np.ndarray:
    """Everything measured over random steps from a reset, one row per step."""
    rng, rows = np.random.default_rng(5), []
    bench.reset((0.01, -0.01, 0.05), (0, 0, 0.2), seed=7)
    for _ in range(steps):
        bench.act(rng.uniform(-1, 1, 6))
        s = bench.arm.read()
        rows.append(np.concatenate([s.tcp_pose, s.tcp_velocity, s.wrench, s.joints, [s.stamp_s], bench.arm.hole_pose]))
    return np.array(rows)


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(*[st.floats(low, high) for low, high in zip(TASK.low, TASK.high, strict=True)]),
    st.integers(0, 2**32 - 1),
)
def test_reset_places_the_arm_at_rest_anywhere_in_the_box(offset, seed):
    offset = np.array(offset)
    offset[2] = max(offset[2], 0.03)  # above the rim
    target = np.array(TASK.target)
    turned = Rotation.from_euler("xyz", offset[3:]) * Rotation.from_euler("xyz", target[3:])
    goal = np.concatenate([target[:3] + offset[:3], turned.as_quat()])
    ARM.reset(goal[None], np.random.default_rng(seed))
    state = ARM.read()
    assert np.abs(state.tcp_pose[:3] - goal[:3]).max() < 1e-4
    assert (Rotation.from_quat(state.tcp_pose[3:]) * turned.inv()).magnitude() < 1e-3
    assert np.abs(state.tcp_velocity).max() < 1e-3
    assert np.abs(state.wrench).max() < 1e-9
    assert state.stamp_s == 0.0


def test_reset_uses_the_last_pose_of_the_path(bench):
    path = np.stack([bench.pose((0.0, 0.0, z)) for z in (0.05, 0.08, 0.11)])
    bench.arm.reset(path, np.random.default_rng(0))
    assert bench.height_m() == pytest.approx(0.11, abs=1e-4)


def test_reset_refuses_a_pose_out_of_reach(bench):
    with pytest.raises(ValueError, match="away from anything the arm reaches"):
        bench.reset((1.0, 0.0, 0.5))
    with pytest.raises(RuntimeError, match="call reset"):
        bench.send(bench.pose())


def test_the_same_seed_gives_the_same_episode_bit_for_bit(make_bench):
    fresh, used = make_bench(), make_bench()
    used.reset((0.0, 0.0, 0.03), seed=99)
    for _ in range(20):
        used.act(np.array([1.0, 0.5, 1.0, 0.3, 0.0, 1.0]))  # somewhere else, in contact
    used.send(used.pose(), mode="precise")
    used.arm.stop("test")
    first = _record(fresh)
    assert np.array_equal(first, _record(used))
    assert np.array_equal(first, _record(fresh))


def test_hidden_hole_offset_stays_in_range_is_spread_and_follows_the_seed(bench):
    xy_m, yaw_rad = TASK.scene.hidden_offset
    drawn = []
    for seed in range(200):
        bench.reset(seed=seed)
        hole, target = bench.arm.hole_pose, bench.pose()
        yaw = (Rotation.from_quat(hole[3:]) * Rotation.from_quat(target[3:]).inv()).as_rotvec()
        assert np.abs(yaw[:2]).max() < 1e-9
        assert hole[2] == pytest.approx(target[2])
        drawn.append([*(hole[:2] - target[:2]) / xy_m, yaw[2] / yaw_rad])
    drawn = np.array(drawn)
    assert np.abs(drawn).max() <= 1.0 + 1e-9
    assert (drawn.max(axis=0) > 0.9).all()
    assert (drawn.min(axis=0) < -0.9).all()
    assert np.abs(np.corrcoef(drawn.T) - np.eye(3)).max() < 0.25
    bench.reset((0.02, 0.02, 0.06), seed=11)
    elsewhere = bench.arm.hole_pose
    bench.reset(seed=11)
    assert np.array_equal(elsewhere, bench.arm.hole_pose)


def test_one_send_is_one_control_period(bench):
    bench.reset()
    for k in range(1, 4):
        bench.send(bench.pose((0.0, 0.0, 0.08)))
        assert bench.arm.read().stamp_s == pytest.approx(k / TASK.hz, abs=1e-9)


def test_holding_still_stays_put(bench):
    bench.reset()
    before = bench.arm.read().tcp_pose
    bench.send(bench.pose((0.0, 0.0, 0.08)), steps=50)
    assert np.abs(bench.arm.read().tcp_pose - before).max() < 1e-4


def test_velocity_is_the_change_of_the_pose(bench):
    bench.reset()
    bench.send(bench.pose((0.05, -0.05, 0.11), (0, 0, 0.3)), steps=2)
    first = bench.arm.read()
    fine = TwinArm(TASK).model.opt.timestep
    bench.arm.substeps = 1  # look one physics step ahead
    bench.send(bench.pose((0.05, -0.05, 0.11), (0, 0, 0.3)))
    second = bench.arm.read()
    shift = (second.tcp_pose[:3] - first.tcp_pose[:3]) / fine
    turn = (Rotation.from_quat(second.tcp_pose[3:]) * Rotation.from_quat(first.tcp_pose[3:]).inv()).as_rotvec() / fine
    assert np.linalg.norm(shift) > 0.05
    assert first.tcp_velocity[:3] == pytest.approx(shift, abs=0.01)
    assert first.tcp_velocity[3:] == pytest.approx(turn, abs=0.03)


def test_wrench_is_the_worlds_push_on_the_tool_in_the_tools_frame(make_bench):
    bench = make_bench(still=True)
    bench.reset((0.03, 0.03, 0.03))
    bench.send(bench.pose((0.03, 0.03, 0.0)), steps=20)  # press on the box: 4 mm clip x 2000 N/m down
    wrench = bench.arm.read().wrench
    assert wrench[2] == pytest.approx(-8.0, abs=0.5)  # the box pushes up; the tool's z points down
    assert np.abs(wrench[:2]).max() < 0.3 * 8.0 + 0.2  # inside the friction cone
    bench.reset((0.0, 0.0, 0.012), (0, 0, 0))
    bench.send(bench.pose((0.0, 0.05, 0.012)), steps=20)  # press the wall at +y: 3 mm clip x 2000 N/m
    wrench = bench.arm.read().wrench
    assert wrench[1] == pytest.approx(6.0, abs=0.7)  # it pushes towards -y, which is +y of the tool (turned about x)


def test_wrench_is_quiet_in_free_space(bench):
    rng, bench_peak_n = np.random.default_rng(1), 0.0
    for seed in range(3):
        bench.reset((0.0, 0.0, 0.10), seed=seed)
        for _ in range(40):
            action = rng.uniform(-1, 1, 6)
            action[2] = -abs(action[2]) if bench.height_m() < 0.06 else action[2]
            bench.act(action)
            bench_peak_n = max(bench_peak_n, np.linalg.norm(bench.arm.read().wrench[:3]))
    assert 0.05 < bench_peak_n < 3.0


def test_stop_holds_and_refuses_until_reset(bench):
    bench.reset()
    bench.send(bench.pose((0.05, 0.0, 0.1)), steps=2)
    bench.arm.stop("the operator said so")
    with pytest.raises(RuntimeError, match=r"the operator said so.*call reset"):
        bench.send(bench.pose())
    bench.reset()
    bench.send(bench.pose((0.0, 0.0, 0.08)))


def test_a_new_arm_can_be_read_but_wants_a_reset(bench):
    assert np.linalg.norm(bench.arm.read().tcp_pose[3:]) == pytest.approx(1.0)
    with pytest.raises(RuntimeError, match="has not been reset"):
        bench.send(bench.pose())


def test_close_twice_and_then_refuse(bench):
    bench.reset()
    bench.arm.close()
    bench.arm.close()
    with pytest.raises(RuntimeError, match="closed"):
        bench.send(bench.pose())


@pytest.mark.parametrize("pose", [np.zeros(7), np.full(7, np.nan), np.zeros(6), np.array([0.5, 0, 0.2, 9, 0, 0, 0])])
def test_send_refuses_what_is_not_a_pose(bench, pose):
    bench.reset()
    with pytest.raises(ValueError, match="not seven finite numbers"):
        bench.arm.send(ArmCommand(pose))


def test_send_returns_what_it_sent(bench):
    bench.reset()
    pose = bench.pose((0.0, 0.0, 0.08))
    sent = bench.arm.send(ArmCommand(pose * np.array([1, 1, 1, 1.001, 1.001, 1.001, 1.001]), gripper=1.0))
    assert sent.tcp_pose == pytest.approx(pose)
    assert sent.gripper == 0.0  # the gripper is fixed


def test_construction_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="does not divide"):
        TwinArm(TASK, timestep_s=0.0017)
    with pytest.raises(ValueError, match=r"latency_s 0\.2"):
        TwinArm(TASK, Randomization(latency_s=0.2))
    with pytest.raises(ValueError, match="below the table"):
        TwinArm(replace(TASK, target=(0.5, 0.0, 0.02, np.pi, 0.0, 0.0)))
