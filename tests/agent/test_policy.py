"""What travels to the actor, and acting with it."""

import jax
import numpy as np
import pytest

from agent.methods import find_method
from agent.policy import MODE, SAMPLE, Policy, policy_params
from tests.agent.tiny import tiny_nets, tiny_state

OBS = {"x": np.array([0.3, -0.2], np.float32)}


@pytest.fixture(scope="module")
def learned():
    nets = tiny_nets(2, 3)
    return nets, tiny_state(nets, find_method("sac"))


def test_only_the_groups_a_behaviour_names_travel(learned):
    _, state = learned
    now = policy_params(state.replace(update_count=state.update_count + 7), SAMPLE)
    assert set(now.params) == {"actor"}
    assert now.version == 7


def test_no_draw_is_repeated_and_a_seed_repeats_all(learned):
    nets, state = learned
    now = policy_params(state, SAMPLE)
    first, second = (Policy(nets, SAMPLE, jax.random.key(5)) for _ in range(2))
    drawn = np.stack([first(now, OBS, 0) for _ in range(6)])
    assert drawn.shape == (6, 3)
    assert len(np.unique(drawn[:, 0])) == 6
    assert (np.abs(drawn) <= 1.0).all()
    np.testing.assert_array_equal(drawn, np.stack([second(now, OBS, 0) for _ in range(6)]))


def test_the_mode_is_the_squashed_mean_and_needs_no_draw(learned):
    nets, state = learned
    act = Policy(nets, MODE, jax.random.key(5))
    actions = [act(policy_params(state, MODE), OBS, 0) for _ in range(2)]
    mean, _ = nets.modules["actor"].apply({"params": state.params["actor"]}, OBS["x"][None])
    np.testing.assert_allclose(actions[0], np.tanh(mean)[0], rtol=1e-5)
    np.testing.assert_array_equal(*actions)


def test_observations_are_standardised_with_the_statistics_that_travel(learned):
    nets, state = learned
    act = Policy(nets, MODE, jax.random.key(5))
    now = policy_params(state, MODE)
    moved = now.replace(
        normalizer=now.normalizer.replace(mean={"x": np.float32([1.0, 2.0])}, std={"x": np.float32([2.0, 4.0])})
    )
    np.testing.assert_allclose(
        act(moved, {"x": OBS["x"] * np.float32([2, 4]) + np.float32([1, 2])}, 0), act(now, OBS, 0), rtol=1e-4, atol=1e-7
    )
