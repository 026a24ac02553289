"""A twin that is made like an arm: its values, their file, and how the arm then moves."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot_env.arm import GAINS
from robot_env.tasks import find_task
from sim.dynamics import PUBLISHED, RANGES, Dynamics, file_of, read_dynamics
from sim.fitted_twin import fitted_twin
from sim.randomize import Randomization
from sim.replay import Motion, Replay
from sim.twin_arm import TwinArm

TASK = find_task("peg_insertion")
ALTERED = Dynamics(0.8, 0.9, 1.3, 1.2, 0.5, 0.04)
PLAIN = file_of(ALTERED, TASK, {"task": "peg_insertion"})

values = st.builds(Dynamics, **{name: st.floats(low, high) for name, (low, high) in RANGES.items()})
json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*PLAIN, *RANGES]), inner, max_size=7),
    max_leaves=12,
)


@given(values)
def test_a_file_gives_back_what_was_written(tmp_path_factory, dynamics):
    path = tmp_path_factory.mktemp("twin") / "twin.json"
    path.write_text(json.dumps(file_of(dynamics, TASK, {"steps": 3})))
    assert read_dynamics(path, TASK) == dynamics


@given(st.binary(max_size=40) | json_values.map(lambda plain: json.dumps(plain).encode()))
def test_any_other_file_is_refused_in_one_sentence(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("twin") / "twin.json"
    path.write_bytes(text)
    with pytest.raises(ValueError, match="it is damaged") as error:
        read_dynamics(path, TASK)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format": 2}, "its format is 2, this program reads 1"),
        ({"scene": "sim.door"}, "it is of scene 'sim.door', task 'peg_insertion' has 'sim.peg_insertion'"),
        ({"values": {}}, "it is damaged"),
        ({"values": {**PLAIN["values"], "mass": 1.0}}, "it is damaged"),
        ({"values": {**PLAIN["values"], "latency_s": True}}, "it is damaged"),
        ({"values": {**PLAIN["values"], "latency_s": "0.1"}}, "it is damaged"),
        ({"values": {**PLAIN["values"], "latency_s": 0.2}}, r"latency_s is 0.2, outside 0..0.1; fit it again"),
        ({"values": {**PLAIN["values"], "latency_s": float("nan")}}, "latency_s is nan"),
        ({"values": {**PLAIN["values"], "dry_friction_nm": -1}}, "dry_friction_nm is -1"),
        ({"values": {**PLAIN["values"], "rotational_damping": 1e999}}, "rotational_damping is inf"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(tmp_path, changes, words):
    path = tmp_path / "twin.json"
    path.write_text(json.dumps({**PLAIN, **changes}))
    with pytest.raises(ValueError, match=words):
        fitted_twin(TASK, str(path))


def test_no_file_and_a_rate_that_is_too_fast_are_refused(tmp_path):
    with pytest.raises(ValueError, match="No such file"):
        fitted_twin(TASK, str(tmp_path / "none.json"))
    path = tmp_path / "twin.json"
    path.write_text(json.dumps(PLAIN))
    with pytest.raises(ValueError, match="longer than task 'peg_insertion'"):
        fitted_twin(replace(TASK, hz=50.0), str(path))
    with pytest.raises(ValueError, match=r"arm's own 0\.04 s, is longer"):
        TwinArm(TASK, Randomization(latency_s=0.07), dynamics=ALTERED)


def test_the_arm_takes_the_gains_of_its_file_in_both_modes(tmp_path, make_bench):
    path = tmp_path / "twin.json"
    path.write_text(json.dumps(PLAIN))
    assert fitted_twin(TASK, str(path)).dynamics == ALTERED
    assert fitted_twin(TASK).dynamics == PUBLISHED
    bench = make_bench(dynamics=ALTERED)
    bench.reset()
    for mode, gains in GAINS.items():
        bench.send(bench.pose((0.0, 0.0, 0.08)), mode=mode)
        model = bench.arm.model
        assert model.actuator_biasprm[[0, 3], 1] == pytest.approx(
            [-0.8 * gains.translational_stiffness, -0.9 * gains.rotational_stiffness]
        )
        assert model.actuator_biasprm[[6, 9], 2] == pytest.approx(
            [-1.3 * gains.translational_damping, -1.2 * gains.rotational_damping]
        )
        force_n = 0.8 * gains.translational_stiffness * gains.translational_clip_m[0]
        assert model.actuator_forcerange[0] == pytest.approx([-force_n, force_n])


def moved_m(bench, shift_m: float, steps: int = 1) -> float:
    """How far a shift of the reference along x takes the arm, m."""
    bench.reset((0.0, 0.0, 0.09))
    before = bench.arm.read().tcp_pose[0]
    bench.send(bench.pose((shift_m, 0.0, 0.09)), steps)
    return bench.arm.read().tcp_pose[0] - before


def test_dry_friction_keeps_the_arm_from_where_it_was_told_to_go(make_bench):
    stuck, smooth = make_bench(dynamics=replace(PUBLISHED, dry_friction_nm=2.0)), make_bench()
    assert moved_m(smooth, 0.0005, 10) == pytest.approx(0.0005, abs=5e-5)
    assert abs(moved_m(stuck, 0.0005, 10)) < 3e-4  # a newton is not 2 N·m at any joint; MuJoCo lets it creep
    assert 0.0 < moved_m(stuck, 0.005, 10) < 0.0045


def test_latency_delays_the_reference_by_whole_and_by_broken_steps(make_bench):
    ways = [moved_m(make_bench(dynamics=replace(PUBLISHED, latency_s=s)), 0.005) for s in (0.0, 0.04, 0.041, 0.042)]
    assert ways == sorted(ways, reverse=True)
    assert ways[1] < 0.9 * ways[0]
    assert ways[2] == pytest.approx((ways[1] + ways[3]) / 2.0, rel=0.01)
    assert abs(moved_m(make_bench(dynamics=replace(PUBLISHED, latency_s=0.1)), 0.005)) < 1e-6


def recorded(bench, steps: int = 30) -> Motion:
    """A motion of random references in free space, as the twin made it."""
    rng, rows = np.random.default_rng(2), []
    bench.reset((0.0, 0.0, 0.09))
    last = bench.pose((0.0, 0.0, 0.09))
    for _ in range(steps):
        before = bench.arm.read()
        reference = bench.pose(rng.uniform(-0.015, 0.015, 3) + np.array([0.0, 0.0, 0.09]), rng.uniform(-0.05, 0.05, 3))
        bench.send(reference)
        after = bench.arm.read()
        rows.append((before.tcp_pose, before.tcp_velocity, reference, last, after.tcp_pose, after.tcp_velocity))
        last = reference
    return Motion(*map(np.array, zip(*rows, strict=True)))


@pytest.mark.parametrize("dynamics", [PUBLISHED, ALTERED])
def test_a_replay_does_what_the_twin_did(make_bench, dynamics):
    motion = recorded(make_bench(dynamics=dynamics))
    replay = Replay(TASK, [motion.rows(slice(0, 10)), motion.rows(slice(10, None))])
    poses, velocities = replay.predict(dynamics)
    assert np.abs(poses - motion.next_pose)[:, :3].max() < 1e-4
    assert np.abs(velocities - motion.next_velocity)[:, :3].max() < 2e-3
    assert np.abs(replay.run(motion, dynamics) - motion.next_pose).max() < 1e-6
    other = replay.predict(ALTERED if dynamics == PUBLISHED else PUBLISHED)[0]
    assert np.abs(other - motion.next_pose)[:, :3].max() > 2e-3


def test_a_replay_depends_on_the_values_asked_for_last_alone(make_bench):
    replay = Replay(TASK, [recorded(make_bench(), 5)])
    first = replay.predict(PUBLISHED)[0]
    replay.predict(ALTERED)
    assert np.array_equal(first, replay.predict(PUBLISHED)[0])
