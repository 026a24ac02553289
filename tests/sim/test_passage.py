"""The narrow passage: its wall holds, one row of many is the environment, seeds, limits, rewards, pictures and scripts."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sim.d4rl_tasks import d4rl_tasks
from sim.learning_env import LearningEnv
from sim.passage import MAX_STEPS, TASK, PassageBatch, at_goal
from sim.passage_plan import ARENA_M, GAP_M, GOAL_M, GOAL_RADIUS_M, START_HIGH_M, START_LOW_M, WALL_HALF_M
from sim.passage_script import Threading, Wandering

LOW, HIGH = GAP_M
NEAR = st.sampled_from([-1.0, -0.5, -1e-9, 0.0, 1e-9, 0.5, 1.0])
COMMANDS = st.lists(st.tuples(NEAR, NEAR) | st.tuples(*[st.floats(-1.0, 1.0)] * 2), min_size=1, max_size=40)
CLOSE_X = [s * x for s in (-1.0, 1.0) for x in (WALL_HALF_M, np.nextafter(WALL_HALF_M, 1.0), 0.1, ARENA_M)]
CLOSE_Y = [y for edge in GAP_M for y in (np.nextafter(edge, -1.0), edge, np.nextafter(edge, 1.0))] + [-ARENA_M, ARENA_M]
BESIDE = st.tuples(
    st.sampled_from(CLOSE_X) | st.floats(WALL_HALF_M, ARENA_M) | st.floats(-ARENA_M, -WALL_HALF_M),
    st.sampled_from(CLOSE_Y) | st.floats(-ARENA_M, ARENA_M),
)
BETWEEN = st.tuples(st.floats(-WALL_HALF_M, WALL_HALF_M), st.sampled_from(GAP_M) | st.floats(LOW, HIGH))


def in_wall(x, y):
    """Whether places are within the wall: its faces are not."""
    return (x > -WALL_HALF_M) & (x < WALL_HALF_M) & ((y < LOW) | (y > HIGH))


def placed(position, velocity=(0.0, 0.0), steps=0, **settings) -> PassageBatch:
    batch = PassageBatch(1, **settings)
    batch.put(0, np.array(position), np.array(velocity), steps)
    return batch


@given(BESIDE | BETWEEN, st.tuples(NEAR, NEAR), COMMANDS)
@example((-WALL_HALF_M, LOW), (1.0, -1.0), [(1.0, -1.0)] * 20)
@example((-WALL_HALF_M, float(np.nextafter(LOW, 0.0))), (1.0, 1.0), [(1.0, 1.0)] * 20)
@example((WALL_HALF_M, HIGH), (-1.0, 1.0), [(-1.0, 1.0)] * 20)
@example((-0.06, 0.0), (1.0, 1.0), [(1.0, 0.0)] * 40)
def test_no_way_leads_through_the_wall_or_off_the_plane(position, velocity, commands):
    batch = placed(position, velocity, max_steps=1000)
    x, y = position
    for command in commands:
        over = batch.step(np.array([command]))[2][0]
        new_x, new_y = batch.position_m[0]
        path = [(x + t * (new_x - x), y) for t in np.linspace(0.0, 1.0, 23)]
        path += [(new_x, y + t * (new_y - y)) for t in np.linspace(0.0, 1.0, 23)]
        path[22:24] = [(new_x, y)] * 2  # the corner without rounding
        assert not any(in_wall(*place) for place in path), path
        assert max(abs(new_x), abs(new_y)) <= ARENA_M
        assert not (x * new_x < 0 and not LOW <= y <= HIGH), "it changed sides beside the gap"
        x, y = new_x, new_y
        if over:
            break


def test_no_corner_of_the_gap_can_be_cut():
    """Every start of a fine grid around the gap, with every command of a grid held for three steps."""
    fine = np.array([-0.1, -0.03, -0.009, -1e-9, 0.0, 1e-9, 0.009, 0.03, 0.07])
    x = np.concatenate([side * (WALL_HALF_M + fine[fine >= 0.0]) for side in (-1.0, 1.0)] + [[-0.049, 0.0, 0.049]])
    y = np.concatenate([LOW + fine, HIGH + fine])
    command = np.linspace(-1.0, 1.0, 9)
    starts = np.stack(np.meshgrid(x, y, command, command, indexing="ij"), axis=-1).reshape(-1, 4)
    starts = starts[~in_wall(starts[:, 0], starts[:, 1])]
    batch = PassageBatch(len(starts))
    for row, (*position, vx, vy) in enumerate(starts):
        batch.put(row, position, (vx, vy), 0)
    for _ in range(3):
        x, y = batch.position_m.T.copy()
        batch.step(starts[:, 2:])
        new_x, new_y = batch.position_m.T
        for share in np.linspace(0.0, 1.0, 50, endpoint=False):
            assert not in_wall(x + share * (new_x - x), y).any()
            assert not in_wall(new_x, y + share * (new_y - y)).any()
        assert not in_wall(new_x, new_y).any()


def test_the_velocity_follows_the_command_with_a_lag():
    batch = placed((-0.9, -0.9))
    for vx, x in ((0.5, -0.85), (0.75, -0.775), (0.875, -0.6875)):
        obs = batch.step(np.array([[5.0, -0.0]]))[0]  # clipped to 1
        np.testing.assert_allclose(obs[0], [x, -0.9, vx, 0.0], atol=1e-6)
    np.testing.assert_allclose(batch.step(np.array([[-1.0, 0.5]]))[0][0, 2:], [-0.0625, 0.25])


@pytest.mark.parametrize(
    ("position", "command", "stop", "free"),
    [
        ((-0.06, 0.0), (1.0, 1.0), (0, -WALL_HALF_M), 1),
        ((0.06, 0.9), (-1.0, -1.0), (0, WALL_HALF_M), 1),
        ((0.0, 0.5), (0.05, 1.0), (1, HIGH), 0),
        ((0.0, 0.5), (0.05, -1.0), (1, LOW), 0),
        ((0.95, -0.9), (1.0, -0.1), (0, ARENA_M), 1),
        ((-0.5, -0.98), (0.1, -1.0), (1, -ARENA_M), 0),
    ],
)
def test_what_it_meets_stops_it_and_it_slides_along(position, command, stop, free):
    batch = placed(position)
    for _ in range(3):
        batch.step(np.array([command]))
    axis, at_m = stop
    assert batch.position_m[0, axis] == at_m
    assert batch.velocity_m_s[0, axis] == 0.0
    assert batch.velocity_m_s[0, free] == pytest.approx(0.875 * command[free])
    assert batch.position_m[0, free] - position[free] == pytest.approx(0.1 * 2.125 * command[free])


def test_the_gap_lets_it_through_and_the_straight_way_is_blocked():
    through = placed((-0.3, 0.5))
    for _ in range(8):
        through.step(np.array([[1.0, 0.0]]))
    assert through.position_m[0, 0] > WALL_HALF_M
    straight = PassageBatch(200)
    obs = straight.reset(np.arange(200), np.arange(200))
    for _ in range(MAX_STEPS):
        away = np.array(GOAL_M)[None, :] - obs[:, :2]
        obs, *_, success = straight.step(away / np.abs(away).max(axis=1, keepdims=True))
        assert not success.any()
    assert (obs[:, 0] < 0.0).all()


def test_starts_are_drawn_all_over_their_region():
    starts = PassageBatch(400).reset(np.arange(400), np.arange(400))
    assert (starts[:, 2:] == 0.0).all()
    low, high = np.array(START_LOW_M), np.array(START_HIGH_M)
    share = (starts[:, :2] - low) / (high - low)
    assert ((share >= 0.0) & (share <= 1.0)).all()
    assert share.min() < 0.02
    assert share.max() > 0.98
    assert len(np.unique(starts[:, 0])) == 400


@given(st.integers(0, 2**40), st.integers(0, 4))
def test_a_seed_is_one_start_in_any_row_and_in_the_environment(seed, row):
    env = TASK.make()
    here = env.reset(seed=seed)[0]
    batch = PassageBatch(5)
    np.testing.assert_array_equal(batch.reset([row], [seed])[0], here)
    np.testing.assert_array_equal(batch.observe()[row], here)
    following = env.reset()[0]
    assert not np.array_equal(following, here)
    env.reset(seed=seed)
    np.testing.assert_array_equal(env.reset()[0], following)


@settings(max_examples=8)
@given(st.integers(0, 1000))
def test_a_row_of_many_is_the_environment(seed):
    """Rows begin and end at times of their own; some thread the gap, and some do what they like."""
    rng, count, next_seed = np.random.default_rng(seed), 4, seed
    batch, envs = PassageBatch(count, 45), [replace(TASK, max_steps=45).make() for _ in range(count)]
    hands, over, obs = [None] * count, np.ones(count, bool), np.zeros((count, 4), np.float32)
    ends = 0
    for _ in range(120):
        rows = np.flatnonzero(over | (rng.uniform(size=count) < 0.01))
        seeds = next_seed + np.arange(len(rows))
        if len(rows):
            obs[rows] = batch.reset(rows, seeds)
        for row, start in zip(rows, seeds, strict=True):
            np.testing.assert_array_equal(envs[row].reset(seed=int(start))[0], obs[row])
            hands[row] = (Threading if row < 2 else Wandering)(rng)
        next_seed += len(rows)
        actions = np.array([hand.act(x) for hand, x in zip(hands, obs, strict=True)])
        obs, reward, terminated, truncated, success = batch.step(actions)
        for row, env in enumerate(envs):
            alone = env.step(actions[row])
            np.testing.assert_array_equal(alone[0], obs[row])
            told = (reward[row], terminated[row], truncated[row], {"success": success[row]})
            assert alone[1:] == told
        over = terminated | truncated
        ends += int(over.sum())
    assert ends >= 4


def test_time_runs_out_after_sixty_steps_and_that_is_no_end():
    env = TASK.make()
    assert MAX_STEPS == 60
    for seed in range(2):
        env.reset(seed=seed)
        told = [env.step(np.zeros(2))[1:] for _ in range(MAX_STEPS)]
        assert told == [(-1.0, False, False, {"success": False})] * 59 + [(-1.0, False, True, {"success": False})]
    with pytest.raises(ValueError, match="row 0 is over"):
        env.step(np.zeros(2))
    assert TASK.truncation_value == pytest.approx(-1.0 / 0.03)


@pytest.mark.parametrize("steps", [0, MAX_STEPS - 1])
def test_the_goal_ends_the_episode_even_at_the_last_step(steps):
    x, y = GOAL_M
    batch = placed((x, y + GOAL_RADIUS_M + 0.02), steps=steps)
    obs, reward, terminated, truncated, success = batch.step(np.array([[0.0, -1.0]]))
    assert (reward[0], terminated[0], truncated[0], success[0]) == (0.0, True, False, True)
    assert at_goal(obs).all()
    env = TASK.make()
    env.reset(options={"state": {"position": (x + 0.2, y), "velocity": (0.0, 0.0), "steps": steps}})
    assert env.step(np.zeros(2))[1:4] == (-1.0, False, steps == MAX_STEPS - 1)


@given(st.floats(0.0, 2.0 * np.pi), st.sampled_from([0.999, 1.001]))
def test_the_goal_is_a_disc(angle, share):
    place = np.array(GOAL_M) + share * GOAL_RADIUS_M * np.array([np.cos(angle), np.sin(angle)])
    assert bool(at_goal(np.array([[*place, 0.3, 0.0]]))[0]) == (share < 1.0)


@given(st.floats(0.0, 2.0 * np.pi), st.sampled_from([-1e-8, 0.0, 1e-8]))
def test_success_is_judged_by_what_is_observed_to_the_last_bit(angle, off_m):
    """Or else data, which holds 32 bits, would contradict its own rewards."""
    batch = placed(np.array(GOAL_M) + (GOAL_RADIUS_M + off_m) * np.array([np.cos(angle), np.sin(angle)]))
    obs, *_, success = batch.step(np.zeros((1, 2)))
    assert obs.dtype == np.float32
    assert success[0] == at_goal(obs)[0] == at_goal(obs.astype(np.float64))[0]


def test_a_state_is_taken_up_where_it_was():
    env, other = TASK.make(), TASK.make()
    env.reset(seed=3)
    actions = np.random.default_rng(0).uniform(-1.0, 1.0, (MAX_STEPS, 2))
    for action in actions[:20]:
        env.step(action)
    state = env.get_state()
    rest = [env.step(action)[:4] for action in actions[20:]]
    first = other.reset(seed=9, options={"state": state})[0]
    np.testing.assert_array_equal(first[:2], state["position"].astype(np.float32))
    for action, (obs, *told) in zip(actions[20:], rest, strict=True):
        found = other.step(action)
        np.testing.assert_array_equal(found[0], obs)
        assert list(found[1:4]) == told
    assert told[2] is True


GOOD_STATE = {"position": (-0.5, 0.0), "velocity": (0.0, 0.0)}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"position": (0.0, 0.0)}, "within the wall"),
        ({"position": (0.049, np.nextafter(LOW, 0.0))}, "within the wall"),
        ({"position": (1.1, 0.0)}, "off the plane"),
        ({"position": (0.0, 0.0, 0.0)}, r"not \(2,\) finite"),
        ({"velocity": (np.nan, 0.0)}, "finite numbers"),
        ({"velocity": (1.5, 0.0)}, "above 1"),
        ({"steps": -1}, "steps is -1"),
        ({"steps": 0.5}, "steps is 0.5"),
        ({"qpos": 0.0}, "'qpos' is unknown"),
        ({"velocity": None}, "'velocity' is missing"),
    ],
)
def test_a_state_that_is_none_is_refused(change, words):
    env = TASK.make()
    env.reset(seed=0)
    before = env.get_state()
    state = {name: value for name, value in {**GOOD_STATE, **change}.items() if value is not None}
    with pytest.raises(ValueError, match=words):
        env.set_state(state)
    for name, value in env.get_state().items():
        np.testing.assert_array_equal(value, before[name])


def test_what_makes_no_sense_is_refused():
    env = TASK.make()
    with pytest.raises(ValueError, match="has not begun; reset it"):
        env.step(np.zeros(2))
    env.reset(seed=0)
    for action in (np.zeros(3), np.array([np.nan, 0.0])):
        with pytest.raises(ValueError, match="action of narrow_passage"):
            env.step(action)
    with pytest.raises(ValueError, match="option 'goal' is unknown"):
        env.reset(options={"goal": 1})
    with pytest.raises(ValueError, match="'human'"):
        TASK.make("human")
    with pytest.raises(ValueError, match="at least 1 row"):
        PassageBatch(0)
    batch = PassageBatch(3)
    with pytest.raises(ValueError, match="2 rows and 1 seeds"):
        batch.reset([0, 1], [0])
    batch.reset([0, 1, 2], [0, 1, 2])
    for actions in (np.zeros((2, 2)), np.full((3, 2), np.nan)):
        with pytest.raises(ValueError, match=r"give \(3, 2\)"):
            batch.step(actions)


def test_what_it_observes_is_its_own():
    env = TASK.make()
    first = env.reset(seed=0)[0]
    kept = first.copy()
    env.step(np.ones(2))
    np.testing.assert_array_equal(first, kept)
    state = env.get_state()
    state["position"] += 1.0
    assert not np.array_equal(env.get_state()["position"], state["position"])


def test_gymnasium_finds_no_fault():
    check_env(TASK.make("rgb_array"), skip_render_check=True)


def test_it_is_no_task_of_d4rls_and_can_be_handed_to_a_process():
    assert TASK.name not in d4rl_tasks()
    assert pickle.loads(pickle.dumps(TASK)) == TASK
    assert (TASK.normalized(-60.0, False), TASK.normalized(-17.0, True)) == (0.0, 100.0)
    assert TASK.make().metadata["render_fps"] == 10


def test_a_learner_sees_it_as_any_task():
    env = LearningEnv(TASK)
    obs, _ = env.reset(seed=5)
    hand, over, info = Threading(np.random.default_rng(0)), False, {}
    while not over:
        obs, reward, terminated, truncated, info = env.step(hand.act(obs["state"]))
        over = terminated or truncated
        assert reward == info["raw_reward"] == (0.0 if terminated else -1.0)
    assert info["succeed"] is terminated is True
    env.reset(seed=0)
    assert "fault" in env.step(np.full(2, np.nan))[4]


def test_pictures_show_the_wall_the_goal_and_the_way():
    assert TASK.make().render() is None
    env = TASK.make("rgb_array")
    env.reset(seed=0)
    before = env.render()
    assert (before.shape, before.dtype) == ((360, 480, 3), np.uint8)
    wall, gap, goal = before[300, 240], before[100, 240], before[236, 352]
    assert wall.max() < 100 < 240 < gap.min()
    assert goal[1] > goal[0] + 80
    for _ in range(6):
        env.step(np.array([0.8, 0.8]))
    after = env.render()
    x, y = env.get_state()["position"]
    row, column = round(180 - 160 * y), round(240 + 160 * x)
    assert after[row, column, 2] > after[row, column, 0] + 100
    changed = np.argwhere((after != before).any(axis=2))
    assert 300 < len(changed) < 3000
    env.reset(seed=0)
    np.testing.assert_array_equal(env.render(), before)


@pytest.mark.parametrize(("hand", "least", "most"), [(Threading, 0.9, 1.0), (Wandering, 0.0, 0.15)])
def test_a_good_hand_gets_there_slowly_and_a_bad_one_seldom(hand, least, most):
    count = 60
    batch = PassageBatch(count)
    obs = batch.reset(np.arange(count), np.arange(count))
    hands = [hand(np.random.default_rng(i)) for i in range(count)]
    taken, won = np.full(count, MAX_STEPS), np.zeros(count, bool)
    for step in range(1, MAX_STEPS + 1):
        actions = np.array([one.act(x) for one, x in zip(hands, obs, strict=True)])
        obs, _, terminated, truncated, success = batch.step(actions)
        assert np.abs(actions).max() <= 1.0
        new = success & ~won
        taken[new], won = step, won | success
        over = np.flatnonzero(terminated | truncated)
        if len(over):
            batch.reset(over, over)
    assert least <= won.mean() <= most
    if hand is Threading:
        assert 36 < taken.mean() < 43  # the fastest there is takes 15 to 19
