"""Each kind of randomisation changes what it says, only that, and is undone by the next reset."""

from dataclasses import fields

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from robot_env.tasks import find_task
from sim.randomize import Randomization
from sim.twin_arm import TwinArm

TASK = find_task("peg_insertion")


def _values(bench) -> dict[str, np.ndarray]:
    model, peg = bench.arm.model, bench.arm.model.geom("peg").id
    hole = bench.arm.hole_pose
    turn = Rotation.from_quat(hole[3:]) * Rotation.from_quat(bench.pose()[3:]).inv()
    cameras = [model.camera(name).id for name in ("wrist_1", "wrist_2")]
    return {
        "hole_xy_m": hole[:2] - bench.pose()[:2],
        "hole_yaw_rad": turn.as_rotvec()[2:],
        "friction": model.geom_friction[peg, :1].copy(),
        "mass": model.body_mass[[model.body("hand").id, model.body("peg").id]].copy(),
        "latency_s": np.array([bench.arm._delay_steps * model.opt.timestep]),
        "lighting": model.light_diffuse.copy(),
        "camera_m": model.cam_pos[cameras].copy(),
        "camera_rad": model.cam_quat[cameras].copy(),
    }


RANGE = {
    "hole_xy_m": 0.005, "hole_yaw_rad": 0.05, "friction": 0.5, "mass": 0.3, "latency_s": 0.08, "lighting": 0.5,
    "camera_m": 0.01, "camera_rad": 0.1,
}  # fmt: skip
RELATIVE = ("friction", "mass", "lighting")


def test_everything_is_off_by_default():
    assert all(getattr(Randomization(), f.name) == 0.0 for f in fields(Randomization))
    assert set(RANGE) == {f.name for f in fields(Randomization)}


@pytest.mark.parametrize("name", sorted(RANGE))
def test_a_field_changes_what_it_says_within_its_range(make_bench, name):
    bench, plain = make_bench(randomization=Randomization(**{name: RANGE[name]})), make_bench()
    changes = []
    for seed in range(12):
        bench.reset(seed=seed)
        plain.reset(seed=seed)
        drawn, nominal = _values(bench), _values(plain)
        for other in drawn:
            if other != name:
                assert drawn[other] == pytest.approx(nominal[other], abs=1e-12), other
        change = drawn[name] / nominal[name] - 1.0 if name in RELATIVE else drawn[name] - nominal[name]
        changes.append(np.abs(change).max())
    slack = 0.5 * np.sqrt(3) if name == "camera_rad" else 1.0  # a quaternion moves by half the angle of three axes
    assert max(changes) <= RANGE[name] * max(slack, 1.0) + 1e-9
    assert max(changes) > 0.3 * RANGE[name]
    assert len(set(changes)) > 6  # drawn anew each time


def test_draws_do_not_pile_up_and_follow_the_seed(make_bench):
    bench = make_bench(randomization=Randomization(**RANGE))
    bench.reset(seed=3)
    first = _values(bench)
    for seed in range(10):
        bench.reset(seed=seed)
    bench.reset(seed=3)
    again = _values(bench)
    assert all(np.array_equal(first[name], again[name]) for name in first)


def test_a_wrong_mass_makes_the_arm_sag_or_rise(make_bench):
    bench = make_bench(randomization=Randomization(mass=0.5))
    for seed in range(6):
        bench.reset(seed=seed)
        believed_kg = 0.73 + 0.1
        extra_n = (_values(bench)["mass"].sum() - believed_kg) * 9.81
        model = bench.arm.model
        arm_kg = model.body_mass[model.body("link1").id : model.body("peg").id + 1].sum()
        assert model.body("link1").subtreemass == pytest.approx(arm_kg)
        bench.send(bench.pose((0.0, 0.0, 0.08)), steps=10)
        assert bench.height_m() - 0.08 == pytest.approx(-extra_n / 2000.0, abs=0.0003)


def test_latency_delays_the_command(make_bench):
    late, prompt = make_bench(randomization=Randomization(latency_s=0.1)), make_bench()
    moved = []
    for bench in (late, prompt):
        bench.reset(seed=1)
        bench.send(bench.pose((0.05, 0.0, 0.08)))
        moved.append(bench.arm.read().tcp_pose[0] - TASK.target[0])
    delay_s = _values(late)["latency_s"][0]
    assert delay_s > 0.01
    assert 0.0 <= moved[0] < 0.95 * moved[1]


def test_lighting_changes_the_picture(make_bench):
    bench = make_bench(randomization=Randomization(lighting=0.9))
    brightness = []
    for seed in range(6):
        bench.reset(seed=seed)
        brightness.append(bench.arm.cameras["wrist_1"].read().picture.mean())
    assert np.ptp(brightness) > 5.0


@pytest.mark.parametrize("name", sorted(RANGE))
@pytest.mark.parametrize("value", [-0.01, float("nan"), float("inf")])
def test_nonsense_is_refused(name, value):
    with pytest.raises(ValueError, match=f"Randomization.{name}"):
        Randomization(**{name: value})


@pytest.mark.parametrize("name", RELATIVE)
def test_a_relative_range_stays_below_one(name):
    with pytest.raises(ValueError, match="below 1"):
        Randomization(**{name: 1.0})


def test_the_arm_takes_it_as_its_second_argument():
    assert TwinArm(TASK, Randomization(friction=0.2))._randomizer.ranges.friction == 0.2
