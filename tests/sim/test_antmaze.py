"""AntMaze: the ant, what a step is worth, and states that are gone back to."""

import math

import mujoco
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.antmaze import TASKS, build
from sim.mazes import UMAZE

BY_NAME = {task.name: task for task in TASKS}
ONE_PER_MAZE = [BY_NAME[f"antmaze-{name}"] for name in ("umaze", "medium-play", "large-play", "ultra-play")]
MAX_STEPS = {
    "antmaze-umaze": 700,
    "antmaze-umaze-diverse": 700,
    "antmaze-medium-play": 1000,
    "antmaze-medium-diverse": 1000,
    "antmaze-large-play": 1000,
    "antmaze-large-diverse": 1000,
    "antmaze-ultra-play": 2000,
    "antmaze-ultra-diverse": 2000,
}


@pytest.fixture(scope="module")
def umaze():
    return BY_NAME["antmaze-umaze"].make()


@pytest.fixture(params=ONE_PER_MAZE, ids=lambda task: task.name)
def env(request):
    made = request.param.make()
    yield made
    made.close()


def test_these_are_the_tasks():
    assert {task.name: task.max_steps for task in TASKS} == MAX_STEPS
    for task in TASKS:
        assert (task.obs_dim, task.action_dim, task.hz) == (29, 8, 10.0)
        assert (task.reward_scale, task.reward_shift, task.failure_reward, task.discount) == (10.0, -5.0, 0.0, 0.99)
        assert task.truncation_value == pytest.approx(-500.0)  # -5 a step for ever
        assert task.success_in is None
        assert task.normalized(1.0, True) == 100.0
        assert task.normalized(0.0, False) == 0.0


def test_play_and_diverse_are_one_environment():
    for one, other in zip(TASKS[::2], TASKS[1::2], strict=True):
        assert (one.settings, one.max_steps, one.env) == (other.settings, other.max_steps, other.env)


@pytest.mark.filterwarnings(
    "ignore:.*Box observation space:UserWarning", "ignore:.*alternative render modes:UserWarning"
)
@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_gymnasium_finds_nothing_wrong(task):
    env = task.make()
    check_env(env, skip_render_check=True)
    assert env.observation_space.shape == (29,)
    assert env.action_space.shape == (8,)


def test_the_ant_is_d4rls():
    model = build(UMAZE).compile()
    option = model.opt
    assert (option.timestep, option.integrator) == (0.02, mujoco.mjtIntegrator.mjINT_RK4)
    assert (option.solver, option.iterations, option.tolerance) == (mujoco.mjtSolver.mjSOL_NEWTON, 100, 1e-8)
    assert (option.cone, option.impratio, option.disableflags) == (mujoco.mjtCone.mjCONE_PYRAMIDAL, 1.0, 0)
    np.testing.assert_array_equal(option.gravity, [0.0, 0.0, -9.81])
    np.testing.assert_array_equal(model.qpos0, [0, 0, 0.75, 1] + [0] * 11)
    np.testing.assert_array_equal(model.dof_armature, [0] * 6 + [1] * 8)
    np.testing.assert_array_equal(model.dof_damping, [0] * 6 + [1] * 8)
    joints = ["hip_4", "ankle_4", "hip_1", "ankle_1", "hip_2", "ankle_2", "hip_3", "ankle_3"]
    assert [model.joint(model.actuator_trnid[i, 0]).name for i in range(8)] == joints
    np.testing.assert_array_equal(model.actuator_ctrlrange, [[-30.0, 30.0]] * 8)
    np.testing.assert_array_equal(model.actuator_gear[:, 0], 1.0)
    turned = [model.joint(name).range for name in ("hip_1", "ankle_1", "ankle_2", "ankle_3", "ankle_4")]
    np.testing.assert_allclose(np.rad2deg(turned), [[-30, 30], [30, 70], [-70, -30], [-70, -30], [30, 70]])
    np.testing.assert_array_equal(model.geom_solref, [[0.02, 1.0]] * model.ngeom)
    np.testing.assert_array_equal(model.geom_solimp, [[0.8, 0.8, 0.01, 0.5, 2.0]] * model.ngeom)
    np.testing.assert_array_equal(model.geom_friction, [[1.0, 0.5, 0.5]] * model.ngeom)
    np.testing.assert_array_equal(model.geom_condim, 3)
    sphere = 5.0 * 4.0 / 3.0 * math.pi * 0.25**3
    capsules = [
        5.0 * math.pi * (0.08**2 * length + 4.0 / 3.0 * 0.08**3) for length in math.sqrt(2) * np.array([0.2, 0.4])
    ]
    np.testing.assert_allclose(model.body_mass[1:], [sphere, *4 * [capsules[0], capsules[0], capsules[1]]])


def test_an_action_of_one_is_30_newton_metres(umaze):
    umaze.reset(seed=0)
    action = np.array([1.0, -1.0, 0.5, 0.0, 7.0, -7.0, 0.1, -0.1])
    umaze.step(action)
    np.testing.assert_allclose(umaze.data.actuator_force, 30.0 * np.clip(action, -1.0, 1.0))
    for actuator, force in enumerate(umaze.data.actuator_force):
        dof = umaze.model.jnt_dofadr[umaze.model.actuator_trnid[actuator, 0]]
        assert umaze.data.qfrc_actuator[dof] == pytest.approx(force)
    assert umaze.data.time == pytest.approx(0.1)


def test_a_contact_begins_at_one_centimetre(umaze):
    """As where the larger margin of two geoms is taken; MuJoCo adds them now."""
    qpos = umaze.model.qpos0.copy()
    for height_m, touching in ((0.2595, True), (0.2605, False)):
        qpos[2], qpos[8:15:2] = height_m, (-2.0, 2.0, 2.0, -2.0)  # feet up, so that the torso is lowest
        umaze.set_state({"qpos": qpos, "qvel": np.zeros(14), "goal": np.zeros(2)})
        lowest = [c for c in umaze.data.contact if umaze.model.geom("torso_geom").id in c.geom]
        assert bool(lowest) == touching
        assert all(c.includemargin == pytest.approx(0.01) for c in lowest)


def test_a_dropped_ant_settles_on_its_feet(umaze):
    umaze.reset(seed=3)
    for _ in range(150):
        umaze.step(np.zeros(8))
    model, data = umaze.model, umaze.data
    assert np.abs(data.qvel).max() < 0.001
    assert data.body("torso").xmat.reshape(3, 3)[2, 2] > 0.999  # upright
    assert data.qpos[2] == pytest.approx(0.370, abs=0.002)
    feet = {model.geom(f"{name}_ankle_geom").id for name in ("left", "right", "third", "fourth")}
    assert {int(c.geom[1]) for c in data.contact} == feet
    assert {int(c.geom[0]) for c in data.contact} == {model.geom("floor").id}


def test_the_goal_is_not_observed_and_not_touched(umaze):
    """The same start with goals here and far away: the same observations, and a marker that stands at the goal."""
    umaze.reset(seed=0)
    start, seen = umaze.get_state(), []
    for goal in ([0.8, 0.8], [100.0, 100.0]):
        obs, _ = umaze.reset(options={"state": {**start, "goal": np.array(goal)}})
        np.testing.assert_array_equal(umaze.data.site("goal").xpos[:2], goal)
        seen.append([obs] + [umaze.step(np.full(8, 0.5 * (-1) ** k))[0] for k in range(10)])
    np.testing.assert_array_equal(*seen)
    np.testing.assert_array_equal(seen[0][-1], np.concatenate([umaze.data.qpos, umaze.data.qvel]))


@given(
    st.floats(0.0, 2.0 * math.pi), st.sampled_from([(0.49, True), (0.51, False), (0.4999999, True), (0.5000001, False)])
)
def test_the_goal_is_reached_within_half_a_metre_of_where_the_step_ends(umaze, angle_rad, case):
    away_m, there = case
    umaze.reset(seed=0)
    start = umaze.get_state()
    start["qvel"][:2] = 3.0, -3.0  # so that before and after the step are far apart
    umaze.set_state(start)
    after = umaze.step(np.zeros(8))[0][:2]
    assert np.linalg.norm(after - start["qpos"][:2]) > 0.2
    start["goal"] = after + away_m * np.array([math.cos(angle_rad), math.sin(angle_rad)])
    umaze.set_state(start)
    _, reward, terminated, truncated, info = umaze.step(np.zeros(8))
    assert (reward, terminated, truncated, info["success"]) == (float(there), there, False, there)
    np.testing.assert_array_equal(info["goal"], start["goal"])


def test_success_is_worth_100(env):
    env.reset(seed=0)
    state = env.get_state()
    state["qpos"][:2] = state["goal"]
    env.reset(options={"state": state})
    _, reward, terminated, truncated, info = env.step(np.zeros(8))
    assert (reward, terminated, truncated) == (1.0, True, False)
    assert env.task.normalized(reward, info["success"]) == 100.0


def test_time_ends_an_episode_as_truncation_and_only_without_success(env):
    env.reset(seed=0)
    state = {**env.get_state(), "steps": env.task.max_steps - 2}
    env.set_state(state)
    assert env.step(np.zeros(8))[1:4] == (0.0, False, False)
    assert env.step(np.zeros(8))[1:4] == (0.0, False, True)
    state["qpos"][:2] = state["goal"]
    env.set_state({**state, "steps": env.task.max_steps - 1})
    assert env.step(np.zeros(8))[1:4] == (1.0, True, False)


@settings(max_examples=10)
@given(st.integers(0, 2**31), st.integers(0, 20), st.sampled_from(ONE_PER_MAZE))
def test_a_state_and_a_seed_decide_everything(seed, before, task):
    one, other = task.make(), task.make()
    rng = np.random.default_rng(seed)
    np.testing.assert_array_equal(one.reset(seed=seed)[0], other.reset(seed=seed)[0])
    np.testing.assert_array_equal(one.goal, other.goal)
    actions = rng.uniform(-1.0, 1.0, (before + 10, 8))
    for action in actions[:before]:
        one.step(action)
    other.reset(seed=seed + 1)
    assert (other.goal != one.goal).all()
    other.reset(options={"state": one.get_state()})
    for action in actions[before:]:
        (a, *rest, info), (b, *same, known) = one.step(action), other.step(action)
        np.testing.assert_array_equal(a, b)
        assert rest == same
        np.testing.assert_array_equal(info["goal"], known["goal"])


def test_what_is_handed_out_is_a_copy(umaze):
    obs, _ = umaze.reset(seed=0)
    goal, state = umaze.goal.copy(), umaze.get_state()
    given_away = umaze.step(np.zeros(8))[4]["goal"]
    for array in (obs, state["goal"], given_away):
        array[:] = 77.0
    np.testing.assert_array_equal(umaze.goal, goal)
    assert (umaze.data.qpos[:2] != 77.0).all()
    mine = np.array([1.0, 2.0])
    umaze.set_state({**umaze.get_state(), "goal": mine})
    mine[:] = 77.0
    np.testing.assert_array_equal(umaze.goal, [1.0, 2.0])


def test_a_state_needs_a_goal(umaze):
    umaze.reset(seed=0)
    state = umaze.get_state()
    del state["goal"]
    with pytest.raises(ValueError, match="'goal' is missing"):
        umaze.set_state(state)
