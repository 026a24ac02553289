"""PEX: which policy acts, how often, and that the offline one stays as it was."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agent.bridges import find_bridge
from agent.bridges.expansion import expanded
from agent.methods import find_method
from agent.plan import acting, plan
from agent.policy import MODE, SAMPLE, act, exploration
from agent.program import begin
from agent.types import Moment, Phase, View
from tests.agent.tiny import (
    assert_same,
    constant_actor,
    differs,
    hand_nets,
    hand_state,
    identity,
    linear_critics,
    tiny_nets,
    tiny_state,
)

KEY = jax.random.key(0)


def view_of(prior: float, fresh: float, slopes: list[float]) -> View:
    """Policies that all but always take `tanh(prior)` and `tanh(fresh)`; member e has `Q = slopes[e] * a`."""
    nets = hand_nets(len(slopes))
    params = {
        "actor": constant_actor(fresh, 1e-5),
        "prior": constant_actor(prior, 1e-5),
        "critic": linear_critics([0.0] * len(slopes), slopes, [0.0] * len(slopes)),
    }
    return View(nets, hand_state(nets, params), {})


def chosen(view: View, behavior, rows: int = 1, draws: int = 4000) -> np.ndarray:
    """Actions `(draws, rows)`."""
    obs = {"x": jnp.zeros((rows, 1))}

    def one(key):
        return behavior.act(view, obs, Moment(key, key, jnp.int32(0)))[:, 0]

    return np.asarray(jax.jit(jax.vmap(one))(jax.random.split(KEY, draws)))


@pytest.mark.parametrize(("inverse_temperature", "slopes"), [(2.0, [1.0]), (10.0, [0.3, 0.1]), (0.5, [-4.0, 2.0])])
def test_an_action_is_drawn_with_probability_softmax_of_the_lowest_q(inverse_temperature, slopes):
    view = view_of(-0.5, 0.5, slopes)
    low, high = np.tanh(-0.5), np.tanh(0.5)
    q_prior, q_fresh = min(low * s for s in slopes), min(high * s for s in slopes)
    expected = 1.0 / (1.0 + np.exp(-inverse_temperature * (q_fresh - q_prior)))
    actions = chosen(view, expanded(SAMPLE, inverse_temperature))
    assert np.isclose(np.abs(actions), high, atol=1e-3).all()  # of one or the other, never in between
    assert np.mean(actions > 0) == pytest.approx(expected, abs=0.025)


def test_the_most_likely_action_is_the_one_of_higher_q():
    for slope, best in ((1.0, 0.5), (-1.0, -0.5)):
        actions = chosen(view_of(-0.5, 0.5, [slope]), expanded(MODE, 0.01), rows=3, draws=50)
        np.testing.assert_allclose(actions, np.tanh(best), rtol=1e-4)


def test_each_observation_has_a_choice_of_its_own():
    actions = chosen(view_of(-0.5, 0.5, [0.0]), expanded(SAMPLE, 1.0), rows=2, draws=2000) > 0
    assert np.corrcoef(actions.T)[0, 1] == pytest.approx(0.0, abs=0.06)


def expansion(online: str, **settings) -> tuple[Phase, ...]:
    method = find_method(online)
    offline = Phase("offline", find_method("iql"), updates=10, batch_size=8, shares={"offline": 1.0})
    phase = Phase("online", method, env_steps=20, utd=2, batch_size=8, collect=exploration(method))
    return plan(offline, find_bridge("expansion", settings), phase)


def test_the_offline_policy_is_kept_a_fresh_one_learns_and_values_are_taken_over():
    nets = tiny_nets()
    phases = expansion("iql")
    before = tiny_state(nets, phases[0].method)
    state, method = begin(nets, phases, 1, before, phases[0].method)
    assert_same(state.params["prior"], before.params["actor"])
    assert differs(state.params["actor"], before.params["actor"])
    for name in ("critic", "value"):
        assert_same(state.params[name], before.params[name])
    assert "prior" in method.frozen
    assert dict(phases[1].shares) == {"offline": 0.5, "online": 0.5}


def test_both_policies_are_evaluated_and_travel_to_the_actor():
    nets = tiny_nets()
    phases = expansion("sac")
    needed = set(phases[1].collect.groups)
    assert needed == {"actor", "prior", "critic"}
    state = begin(nets, phases, 1, tiny_state(nets, phases[0].method), phases[0].method)[0]
    params = {group: state.params[group] for group in needed}
    for behavior in acting(phases).values():
        assert set(behavior.groups) <= needed
        action = act(nets, behavior, params, identity(2), {}, {"x": jnp.zeros(2)}, KEY, 0, 0)
        assert np.abs(action).max() <= 1.0


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="give a number above 0"):
        expansion("sac", inverse_temperature=0.0)
    with pytest.raises(ValueError, match="between 0 and 1"):
        expansion("sac", offline_share=1.0)


def test_an_online_method_without_a_critic_cannot_choose():
    nothing = Phase("online", find_method("bc"), env_steps=20, collect=SAMPLE)
    with pytest.raises(ValueError, match="no critic to choose by"):
        find_bridge("expansion")(nothing, nothing)
