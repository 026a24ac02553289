"""The peg, the hole and the scripts that insert the one into the other."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from robot_env.arm import ArmState
from robot_env.tasks import find_task
from sim.scripted import ScriptedInsertion, ScriptQuality

TASK = find_task("peg_insertion")
DOWN = np.array([0.0, 0.0, 1.0, 0.0, 0.0, 0.0])


def _scene(**changes):
    return replace(TASK, scene=replace(TASK.scene, hidden_offset=(0.0, 0.0), **changes))


def test_the_inserted_peg_stands_at_the_target(make_bench):
    bench = make_bench(still=True)
    bench.reset((0.0, 0.0, 0.02))
    for _ in range(20):
        bench.act(DOWN)
    assert bench.inserted()
    assert abs(bench.height_m()) < 0.0003
    assert np.abs(bench.arm.read().tcp_pose[:2] - bench.arm.hole_pose[:2]).max() < 0.0004  # half the clearance


def test_contact_works_where_the_hole_was_moved_to(bench):
    """Straight down at the true hole goes in; at its mirror image, off by more than the clearance, it does not."""
    seen = 0
    for seed in range(20):
        bench.reset(seed=seed)
        hole, target = bench.arm.hole_pose, bench.pose()
        if np.abs(hole[:2] - target[:2]).max() < 0.0008:
            continue
        seen += 1
        for side, goes_in in ((1, True), (-1, False)):
            start = target.copy()
            start[:2] += side * (hole[:2] - target[:2])
            start[2] += 0.028
            start[3:] = hole[3:]
            bench.arm.reset(start[None], np.random.default_rng(seed))
            below = start.copy()
            for step in range(25):
                below[2] = start[2] - 0.0015 * step
                bench.send(below)
            assert (bench.height_m() < 0.004) == goes_in
    assert seen > 5


def test_a_turned_peg_rests_on_the_rim(make_bench):
    bench = make_bench(still=True)
    for yaw_rad in (0.1, -0.2, 0.4):
        bench.reset((0.0, 0.0, 0.03), (0, 0, yaw_rad))
        bench.send(bench.pose((0.0, 0.0, -0.002), (0, 0, yaw_rad)), steps=30)
        assert bench.height_m() == pytest.approx(TASK.scene.hole_depth_m, abs=0.001)
        assert not bench.inserted()


def test_ramming_never_tunnels(make_bench):
    """Full speed down and sideways, 300 steps: the tip stays above the box unless it is in the hole."""
    bench, rng = make_bench(still=True), np.random.default_rng(0)
    bench.reset((0.03, 0.03, 0.08))
    peak_n = 0.0
    for _ in range(300):
        action = np.sign(rng.uniform(-1, 1, 6))
        action[2] = 1.0
        bench.act(action)
        state = bench.arm.read()
        tip = state.tcp_pose[:3] + Rotation.from_quat(state.tcp_pose[3:]).apply([0, 0, 0.05])
        near = np.abs(tip[:2] - bench.arm.hole_pose[:2]).max() < 0.005
        assert near or bench.height_m() > TASK.scene.hole_depth_m - 0.0015
        assert np.isfinite(state.joints).all()
        peak_n = max(peak_n, float(np.linalg.norm(state.wrench[:3])))
    assert 8.0 < peak_n < 40.0


def test_friction_can_jam_the_peg_part_way(make_bench):
    """Pressed down and against a wall with twice that force: a slippery peg slides to the bottom, a rough one jams."""
    heights = []
    for friction in (0.3, 0.8):
        bench = make_bench(_scene(friction=friction))
        bench.reset((0.0, 0.0, 0.015))
        bench.send(bench.pose((0.05, 0.0, 0.015)), steps=5)
        bench.send(bench.pose((0.05, 0.0, -0.002)), steps=30)
        heights.append(bench.height_m())
    assert heights[0] < 0.004
    assert 0.006 < heights[1] < 0.02


def test_a_chamfer_guides_the_peg_in(make_bench):
    """1.2 mm off, more than the clearance: a sharp rim stops the peg, a 3 mm chamfer leads it in."""
    heights = []
    for chamfer_m in (0.0, 0.003):
        bench = make_bench(_scene(chamfer_m=chamfer_m, friction=0.1))
        bench.reset((0.0012, -0.0012, 0.03))
        start = np.array([0.0012, -0.0012, 0.03])
        for step in range(40):
            bench.send(bench.pose(start - np.array([0, 0, 0.001 * step])))
        heights.append(bench.height_m())
    assert heights[0] > 0.02
    assert heights[1] < 0.004


@pytest.mark.parametrize("clearance_m", [0.0003, 0.002])
def test_clearance_is_the_play_of_the_peg(make_bench, clearance_m):
    bench, ends = make_bench(_scene(clearance_m=clearance_m)), []
    for side in (1, -1):
        bench.reset((0.0, 0.0, 0.012))
        bench.send(bench.pose((side * 0.004, 0.0, 0.012)), steps=15)
        state = bench.arm.read()
        middle = state.tcp_pose[:3] + Rotation.from_quat(state.tcp_pose[3:]).apply([0, 0, 0.044])
        ends.append(middle[0])
    assert ends[0] - ends[1] == pytest.approx(clearance_m, abs=0.0004)


def test_the_clean_script_succeeds(bench):
    assert sum(bench.episode(ScriptQuality(), seed) for seed in range(20)) >= 19


def test_worse_scripts_succeed_less(make_bench):
    roomy = replace(TASK, max_steps=60, scene=replace(TASK.scene, clearance_m=0.0006))
    bench, seeds = make_bench(roomy), range(100, 115)
    noisy = sum(bench.episode(ScriptQuality(noise=0.3), s) for s in seeds)
    bad = sum(bench.episode(ScriptQuality(noise=0.8), s) for s in seeds)
    turned = sum(bench.episode(ScriptQuality(bias_rad=0.3), s) for s in seeds)
    quits = sum(bench.episode(ScriptQuality(give_up_fraction=1.0), s) for s in seeds)
    assert 6 <= noisy <= 14
    assert bad <= 4
    assert turned <= 8
    assert quits <= 10


def _state(pose: np.ndarray) -> ArmState:
    return ArmState(pose, np.zeros(6), np.zeros(6), np.zeros(7), 0.0, 0.0)


@settings(max_examples=100, deadline=None)
@given(
    shift=st.tuples(*[st.floats(-0.06, 0.06)] * 3),
    turn=st.tuples(st.floats(-0.05, 0.05), st.floats(-0.05, 0.05), st.floats(-0.6, 0.6)),
    noise=st.floats(0, 2),
    fraction=st.floats(0, 1),
)
def test_actions_are_finite_and_bounded(shift, turn, noise, fraction):
    target = np.array(TASK.target)
    hole = np.concatenate([target[:3], Rotation.from_euler("xyz", target[3:]).as_quat()])
    turned = Rotation.from_euler("xyz", turn) * Rotation.from_quat(hole[3:])
    state = _state(np.concatenate([hole[:3] + shift, turned.as_quat()]))
    quality = ScriptQuality(noise=noise, random_fraction=fraction, give_up_fraction=fraction)
    script = ScriptedInsertion(TASK, hole, quality, np.random.default_rng(0))
    for _ in range(5):
        action = script.act(state)
        assert action.shape == (6,)
        assert (np.abs(action) <= 1.0).all()


@pytest.mark.parametrize("name", ["noise", "bias_m", "bias_rad", "random_fraction", "give_up_fraction"])
@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf")])
def test_quality_refuses_nonsense(name, value):
    with pytest.raises(ValueError, match=name):
        ScriptQuality(**{name: value})
