"""The Adroit twins: D4RL's observations, rewards, starts and ends, and states that lead on exactly."""

import itertools
import warnings

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from sim.adroit import TASKS
from sim.adroit_hand import AdroitEnv
from sim.expert import Expert
from tests.d4rl_data import demonstration_data

NAMED = {task.name: task for task in TASKS}
SCENES = ("pen", "door", "relocate", "hammer")
SEEDS = st.integers(0, 2**32 - 1)
PEN_LEVEL = (np.cos(np.pi / 4), 0.0, np.sin(np.pi / 4), 0.0)  # a target as the pen begins


@pytest.fixture(scope="module")
def envs():
    """One environment of each task: compiling a model takes longer than a short episode."""
    made = {task.name: task.make() for task in TASKS}
    yield made
    for env in made.values():
        env.close()


def rollout(env: AdroitEnv, actions: np.ndarray) -> np.ndarray:
    return np.array([env.step(action)[0] for action in actions])


def random_actions(env: AdroitEnv, steps: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1.0, 1.0, (steps, env.task.action_dim))


@pytest.fixture(scope="module")
def theirs():
    """gymnasium-robotics' environments of the four scenes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from gymnasium_robotics.envs.adroit_hand import adroit_door, adroit_hammer, adroit_pen, adroit_relocate

        made = {
            "pen": adroit_pen.AdroitHandPenEnv(),
            "door": adroit_door.AdroitHandDoorEnv(),
            "relocate": adroit_relocate.AdroitHandRelocateEnv(),
            "hammer": adroit_hammer.AdroitHandHammerEnv(),
        }
    yield made
    for env in made.values():
        env.close()


def test_the_tasks_are_d4rls_four_and_their_binary_forms():
    assert list(NAMED) == [*SCENES, *(f"{scene}-binary" for scene in SCENES)]
    limits = {"pen": 100, "door": 200, "relocate": 200, "hammer": 200}
    sizes = {"pen": (45, 24), "door": (39, 28), "relocate": (39, 30), "hammer": (46, 26)}
    for scene in SCENES:
        dense, binary = NAMED[scene], NAMED[f"{scene}-binary"]
        for task in (dense, binary):
            assert (task.max_steps, (task.obs_dim, task.action_dim)) == (limits[scene], sizes[scene])
        assert (dense.scored, dense.failure_reward, dense.reward_scale, dense.reward_shift) == (
            "return",
            None,
            1.0,
            0.0,
        )
        # A raw -1 becomes -5 and a success +5; failing for ever is worth -5 / (1 - 0.99).
        assert (binary.scored, binary.reference, binary.failure_reward) == ("success", (0.0, 1.0), -1.0)
        assert (binary.reward_scale * -1.0 + binary.reward_shift, binary.reward_shift) == (-5.0, 5.0)
        assert binary.truncation_value == pytest.approx(-500.0)
    assert NAMED["door"].normalized(2880.5693087298737, False) == pytest.approx(100.0)


@pytest.mark.filterwarnings("ignore")  # the checker warns of unbounded observations, which are D4RL's
@pytest.mark.parametrize("name", ["pen", "hammer-binary"])
def test_gymnasiums_checker_finds_nothing(name):
    env = NAMED[name].make()
    check_env(env, skip_render_check=True)
    env.close()


@pytest.mark.parametrize("scene", SCENES)
def test_a_control_step_is_a_hundredth_of_a_second(scene, envs):
    env = envs[scene]
    env.reset(seed=0)
    env.step(np.zeros(env.task.action_dim))
    assert env.data.time == pytest.approx(1.0 / env.task.hz)


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("seed", [0, 7])
def test_starts_and_observations_are_those_of_gymnasium_robotics(scene, seed, envs, theirs):
    """The same seed draws the same start; the same actions then lead through the same states."""
    ours, other = envs[scene], theirs[scene]
    np.testing.assert_allclose(ours.reset(seed=seed)[0], other.reset(seed=seed)[0], atol=1e-9)
    for action in random_actions(ours, 20, seed).astype(np.float32) * 1.3:  # beyond the limits too
        found, reward, _, _, info = ours.step(action)
        wanted, other_reward, _, _, other_info = other.step(action)
        np.testing.assert_allclose(found, wanted, atol=1e-9)
        assert info["success"] == other_info["success"]
        # They have the sign of the way to the object the other way round, in all but the pen's.
        assert reward == pytest.approx(other_reward + 2.0 * ours.reward_terms().get("reach", 0.0), abs=1e-9)


@pytest.mark.parametrize("scene", SCENES)
def test_a_seed_decides_the_episode_whatever_came_before(scene, envs):
    env = envs[scene]
    actions = random_actions(env, 10)
    first = [env.reset(seed=3)[0], *rollout(env, actions)]
    state = env.get_state()
    moved = {name: state[name] + 0.02 for name in env.moved}
    env.reset(seed=4, options={"state": {**state, **moved}})
    rollout(env, actions)
    np.testing.assert_array_equal([env.reset(seed=3)[0], *rollout(env, actions)], first)
    other = env.reset(seed=5)[0]
    # Where the hammer's board stands shows in the nail; each of the others has its place in the observation.
    assert np.any(other != first[0])


@pytest.mark.parametrize("scene", SCENES)
def test_a_state_leads_on_bit_for_bit(scene, envs):
    env, other = envs[scene], envs[f"{scene}-binary"]
    for begin, seed in itertools.product((0, 25), (0, 1)):
        env.reset(seed=seed)
        rollout(env, random_actions(env, begin, seed))
        state, actions = env.get_state(), random_actions(env, 25, seed + 10)
        onward = rollout(env, actions)
        env.set_state(state)
        assert all(np.array_equal(value, state[name]) for name, value in env.get_state().items())
        np.testing.assert_array_equal(rollout(env, actions), onward)
        other.reset(options={"state": state})
        wanted = np.stack([other.step(action)[0] for action in actions])
        np.testing.assert_array_equal(wanted, onward)


@pytest.mark.parametrize(
    ("scene", "extra"),
    [
        ("pen", {"desired_orien": (1.0, 0.0, 0.0, 0.0)}),
        ("door", {"door_body_pos": (-0.25, 0.3, 0.3)}),
        ("relocate", {"obj_pos": (0.1, 0.2, 0.035), "target_pos": (0.0, -0.1, 0.3), "hand_qpos": 30, "palm_pos": 3}),
        ("hammer", {"board_pos": (0.05, 0.0, 0.2), "target_pos": 3}),
    ],
)
def test_d4rls_states_load(scene, extra, envs):
    env = envs[scene]
    state = {"qpos": np.full(env.model.nq, 0.01), "qvel": np.zeros(env.model.nv)}
    state |= {name: np.ones(value) if isinstance(value, int) else np.array(value) for name, value in extra.items()}
    env.reset(options={"state": state})
    here = env.get_state()
    assert all(np.array_equal(here[name], state[name]) for name in ("qpos", *env.moved))
    del state[next(iter(env.moved))]
    with pytest.raises(ValueError, match=r"^state of .* is missing; give .*$"):
        env.set_state(state)


@given(seed=SEEDS)
def test_starts_are_within_d4rls_ranges(envs, seed):
    def moved(scene: str) -> list[np.ndarray]:
        envs[scene].reset(seed=seed)
        return list(envs[scene].moved.values())

    (door,) = moved("door")
    assert np.all((door >= [-0.3, 0.25, 0.252]) & (door <= [-0.2, 0.35, 0.35]))
    ball, target = moved("relocate")
    assert np.all((ball >= [-0.15, -0.15, 0.035]) & (ball <= [0.15, 0.3, 0.035]))
    assert np.all((target >= [-0.2, -0.2, 0.15]) & (target <= [0.2, 0.2, 0.35]))
    (board,) = moved("hammer")
    assert np.all((board >= [0.05, 0.0, 0.1]) & (board <= [0.05, 0.0, 0.25]))
    (quaternion,) = moved("pen")
    about_x, about_y, about_z = Rotation.from_quat(quaternion, scalar_first=True).as_euler("XYZ")
    assert max(abs(about_x), abs(about_y)) <= 1.0 + 1e-9
    assert about_z == pytest.approx(0.0, abs=1e-9)


def dropped(env: AdroitEnv) -> dict[str, np.ndarray]:
    """A state with the pen below the hand."""
    env.reset(seed=0)
    qpos = env.get_state()["qpos"]
    qpos[-6] = 0.2  # the pen lies on its side: its own x points down
    return {**env.get_state(), "qpos": qpos}


def test_a_dropped_pen_ends_a_dense_episode_and_not_a_binary_one(envs):
    state, action = dropped(envs["pen"]), np.zeros(24)
    envs["pen"].set_state(state)
    _, reward, terminated, truncated, info = envs["pen"].step(action)
    assert (terminated, truncated, info) == (True, False, {"success": False})
    assert reward == pytest.approx(sum(envs["pen"].reward_terms().values()))
    assert envs["pen"].reward_terms()["dropped"] == -5.0
    envs["pen-binary"].reset(options={"state": state})
    assert envs["pen-binary"].step(action)[1:] == (-1.0, False, False, {"success": False})


SOLVED = {
    "pen": {"desired_orien": PEN_LEVEL},
    "door": {"hinge": 1.4},
    "relocate": {"target_pos": (0.0, 0.0, 0.05), "obj_pos": (0.0, 0.0, 0.035)},
    "hammer": {"nail": 0.085},
}


def solved(env: AdroitEnv) -> dict[str, np.ndarray]:
    """A state of success in which the hand does nothing."""
    env.reset(seed=0)
    state, extra = env.get_state(), dict(SOLVED[env.task.name.removesuffix("-binary")])
    if "hinge" in extra:
        state["qpos"][-2] = extra.pop("hinge")
    if "nail" in extra:
        state["qpos"][26] = extra.pop("nail")
    return {**state, **{name: np.array(value) for name, value in extra.items()}}


@pytest.mark.parametrize("scene", SCENES)
def test_success_ends_a_binary_episode_only(scene, envs):
    dense, binary = envs[scene], envs[f"{scene}-binary"]
    action = np.zeros(dense.task.action_dim)
    state = solved(binary)
    binary.reset(options={"state": state})
    assert binary.step(action)[1:] == (0.0, True, False, {"success": True})
    dense.reset(options={"state": state})
    _, reward, terminated, truncated, info = dense.step(action)
    assert (terminated, truncated, info) == (False, False, {"success": True})
    assert reward > 9.0


@pytest.mark.parametrize("name", NAMED)
def test_an_episode_is_cut_at_its_limit(name, envs):
    env = envs[name]
    env.reset(seed=1)
    env.set_state({**env.get_state(), "steps": env.task.max_steps - 2})
    action = np.zeros(env.task.action_dim)
    assert env.step(action)[2:4] == (False, False)
    assert env.step(action)[2:4] == (False, True)
    env.set_state({**solved(env), "steps": env.task.max_steps - 1})
    assert env.step(action)[2:4] == ((True, False) if name.endswith("-binary") else (False, True))


@given(seed=SEEDS)
def test_what_observations_tell_of_success_is_what_the_step_told(envs, seed):
    """About the border of success and at speed, where positions that are one physics step old matter."""
    rng = np.random.default_rng(seed)
    for scene in SCENES:
        env, state = envs[scene], solved(envs[scene])
        if scene == "pen":
            state["desired_orien"] = np.array(PEN_LEVEL) + rng.normal(0.0, 0.15, 4)
        elif scene == "door":
            state["qpos"][-2] = rng.uniform(1.3, 1.4)
        elif scene == "relocate":
            state["target_pos"] = np.array([rng.uniform(0.06, 0.14), 0.0, 0.06])
        else:
            state["qpos"][26] = rng.uniform(0.07, 0.09)
        state["qvel"] = rng.uniform(-3.0, 3.0, env.model.nv)
        env.reset(options={"state": state})
        told = [env.step(rng.uniform(-1.0, 1.0, env.task.action_dim)) for _ in range(3)]
        seen = env.task.success_in(np.stack([step[0] for step in told]))
        assert seen.dtype == bool
        assert seen.tolist() == [step[4]["success"] for step in told]


@pytest.mark.parametrize("scene", ["pen", "door"])
def test_an_experts_success_shows_in_its_observations(scene, envs):
    env, expert = envs[scene], Expert.load(demonstration_data() / f"dapg_expert_policy_{scene}.npz")
    observation, _ = env.reset(seed=1)
    told = []
    for _ in range(100):
        told.append(env.step(expert.act(observation)))
        observation = told[-1][0]
    successes = [step[4]["success"] for step in told]
    assert 0 < sum(successes) < 100
    assert env.task.success_in(np.stack([step[0] for step in told])).tolist() == successes


@pytest.mark.parametrize("scene", SCENES)
def test_pictures_show_the_scene(scene):
    env = NAMED[scene].make("rgb_array")
    env.reset(seed=0)
    picture = env.render()
    env.close()
    assert (picture.shape, picture.dtype) == ((360, 480, 3), np.uint8)
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 1000
