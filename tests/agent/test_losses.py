"""Every loss against a number worked by hand.

The observation s and the action a are scalars, the discount is 0.5, critics are linear and the policy is known, so that each
expectation below is arithmetic.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import losses
from agent.losses import (
    calibrate,
    expectile_loss,
    exponential_weight,
    perturbed,
    squared_td_error,
    td_target,
    weighted_cloning,
)
from agent.methods import bc, calql_lagrange, cql, cql_lagrange, find_method, sac, sac_min
from agent.methods.calql import METHOD as CALQL
from agent.tanh_normal import TanhNormal
from agent.types import Normalizer, View
from tests.agent.tiny import (
    KnownPolicy,
    KnownPolicyView,
    assert_close,
    batch,
    constant_actor,
    hand_nets,
    hand_state,
    linear_critics,
    tiny_nets,
    tiny_state,
)

KEY = jax.random.key(0)
LOG_2PI = float(np.log(2 * np.pi))


def run(loss, params, view, rows):
    """Loss and metrics, in one program."""
    return jax.jit(lambda p: loss(p, view, rows, KEY))(params)


def slope(loss, params, view, rows):
    """The loss's gradient, in one program."""
    return jax.jit(jax.grad(lambda p: loss(p, view, rows, KEY)[0]))(params)


def test_the_target_bootstraps_through_truncation_and_not_through_termination():
    view = View(hand_nets(1), hand_state(hand_nets(1), {}), {})
    rows = batch([[0.0]] * 2, [[0.0]] * 2, [2.0, 2.0], [[0.0]] * 2, mask=[1.0, 0.0])
    # Cut short: 2 + 0.5 * 1 * 10 = 7. Terminated: 2 + 0.5 * 0 * 10 = 2.
    np.testing.assert_allclose(td_target(view, rows, jnp.array([10.0, 10.0])), [7.0, 2.0])


def test_the_target_is_a_constant():
    view = View(hand_nets(1), hand_state(hand_nets(1), {}), {})
    rows = batch([[0.0]], [[0.0]], [1.0], [[0.0]])
    assert jax.grad(lambda v: td_target(view, rows, v).sum())(jnp.array([3.0])) == 0.0


def test_squared_td_error_averages_over_members_and_rows():
    # ((1-3)^2 + (2-5)^2 + (4-3)^2 + (5-5)^2) / 4 = (4 + 9 + 1 + 0) / 4 = 3.5
    assert squared_td_error(jnp.array([[1.0, 2.0], [4.0, 5.0]]), jnp.array([3.0, 5.0])) == 3.5


def test_the_calibration_bound_holds_where_there_is_a_return_and_only_there():
    rows = batch(
        [[0.0]] * 3, [[0.0]] * 3, [0.0] * 3, [[0.0]] * 3, mc_return=[5.0, 5.0, -5.0], has_return=[1.0, 0.0, 1.0]
    )
    q = jnp.ones((2, 4, 3))
    np.testing.assert_allclose(calibrate(q, rows), np.broadcast_to([5.0, 1.0, 1.0], (2, 4, 3)))


errors = st.lists(st.floats(-10.0, 10.0, width=32), min_size=1, max_size=8)


@given(errors, st.floats(0.0, 1.0, width=32))
def test_expectile_loss_weighs_the_two_signs(values, expectile):
    error = np.asarray(values, np.float64)
    by_hand = (expectile * error[error > 0] ** 2).sum() + ((1 - expectile) * error[error < 0] ** 2).sum()
    found = float(expectile_loss(jnp.asarray(values, jnp.float32), expectile))
    assert found == pytest.approx(by_hand / len(error), rel=1e-4, abs=1e-5)
    if expectile == 0.5:
        assert found == pytest.approx((error**2).mean() / 2, rel=1e-4, abs=1e-5)


def test_the_minimum_of_the_expectile_loss_is_the_expectile():
    # Of 0 and 1 the 0.9-expectile is 0.9: 0.9 (1 - m) = 0.1 m.
    levels = jnp.linspace(0.0, 1.0, 101)
    loss = jax.vmap(lambda m: expectile_loss(jnp.array([0.0, 1.0]) - m, 0.9))(levels)
    assert levels[jnp.argmin(loss)] == pytest.approx(0.9)


@given(errors, st.floats(0.0, 20.0, width=32), st.floats(0.5, 200.0, width=32))
def test_an_exponential_weight_rises_with_the_advantage_up_to_its_limit(values, inverse_temperature, limit):
    advantage = np.sort(np.asarray(values, np.float32))
    weight = np.asarray(exponential_weight(jnp.asarray(advantage), inverse_temperature, limit))
    assert np.all((weight >= 0.0) & (weight <= np.float32(limit)))
    assert np.all(np.diff(weight) >= 0.0)
    if limit > 1.0:
        assert exponential_weight(jnp.zeros(1), inverse_temperature, limit) == 1.0


@given(
    st.lists(st.floats(-1.0, 1.0, width=32), min_size=6, max_size=6), st.floats(0.0, 4.0, width=32), st.integers(0, 9)
)
def test_a_perturbed_action_is_in_the_box_and_near_the_action(values, limit, seed):
    action = jnp.asarray(values, jnp.float32).reshape(3, 2)
    found = np.asarray(perturbed(action, jax.random.key(seed), 1.0, limit))
    assert np.all(np.abs(found) <= 1.0)
    assert np.all(np.abs(found - action) <= limit + 1e-6)


def test_a_perturbation_has_the_std_that_is_asked_for():
    found = perturbed(jnp.zeros((40_000, 1)), KEY, 0.3, 0.6)
    # Of a normal clipped at 2 std: E x^2 = 0.954500 - 2 * 2 * 0.053991 + 4 * 0.045500 = 0.920537; 0.3 sqrt = 0.287836.
    assert float(jnp.std(found)) == pytest.approx(0.287836, rel=0.02)
    assert float(jnp.mean(found)) == pytest.approx(0.0, abs=0.01)


def test_weighted_cloning_is_cloning_row_by_row():
    nets = hand_nets(1)
    params = {"actor": constant_actor(0.3, 2.0)}
    view = View(nets, hand_state(nets, params), {})
    rows = batch([[0.0]] * 2, [[0.5], [-0.2]], [0.0] * 2, [[0.0]] * 2)
    loss, metrics = jax.jit(lambda p: weighted_cloning(p, view, rows, jnp.array([3.0, 1.0])))(params)
    z = np.arctanh([0.5, -0.2])
    log_prob = -(((z - 0.3) / 2) ** 2) / 2 - np.log(2) - LOG_2PI / 2 - np.log(1 - np.array([0.5, -0.2]) ** 2)
    assert loss == pytest.approx(-(3 * log_prob[0] + log_prob[1]) / 2, rel=1e-5)
    assert metrics["effective_share"] == pytest.approx(2.0**2 / 5.0)  # mean 2, mean square 5
    constant = jax.jit(jax.grad(lambda w: weighted_cloning(params, view, rows, w)[0]))(jnp.ones(2))
    assert np.all(constant == 0.0)


@pytest.mark.parametrize(("mean", "action"), [(0.0, 0.5), (0.3, -0.2)])
def test_bc(mean, action):
    nets = hand_nets(1)
    params = {"actor": constant_actor(mean, 2.0)}
    rows = batch([[0.0], [9.0]], [[action], [action]], [0.0, 0.0], [[0.0], [0.0]])
    loss, metrics = run(bc.actor, params, View(nets, hand_state(nets, params), {"noise": 0.0}), rows)
    # z = artanh(a); -log pi = ((z - mean) / 2)^2 / 2 + log 2 + log(2 pi) / 2 + log(1 - a^2), the same in both rows.
    # For mean 0 and a 0.5: z = 0.549306, so 0.037717 + 0.693147 + 0.918939 - 0.287682 = 1.362121.
    by_hand = ((np.arctanh(action) - mean) / 2) ** 2 / 2 + np.log(2) + LOG_2PI / 2 + np.log(1 - action**2)
    assert loss == pytest.approx(by_hand, rel=1e-5)
    if mean == 0.0:
        assert loss == pytest.approx(1.362121, abs=2e-6)
    assert metrics["squared_error"] == pytest.approx((np.tanh(mean) - action) ** 2, rel=1e-5)


def test_cloning_sees_observations_with_noise_of_their_own_size():
    nets = tiny_nets(2, 1)
    state = tiny_state(nets, find_method("bc"))
    wide = state.replace(normalizer=Normalizer({"x": np.zeros(2, np.float32)}, {"x": np.float32([1.0, 100.0])}))
    rows = batch([[0.0, 0.0]] * 400, [[0.2]] * 400, [0.0] * 400, [[0.0, 0.0]] * 400)
    keys = [jax.random.key(i) for i in range(2)]

    def loss(noise: float, key: jax.Array, now) -> float:
        return float(bc.actor(state.params, View(nets, now, {"noise": noise}), rows, key)[0])

    assert loss(0.0, keys[0], state) == loss(0.0, keys[1], state)
    assert loss(0.5, keys[0], state) != loss(0.5, keys[1], state)
    # Noise is counted in standard deviations, so that one in other units is the same problem.
    assert loss(0.5, keys[0], state) == pytest.approx(loss(0.5, keys[0], wide), rel=1e-4)


def known_view(nets, state, coef, actions, log_density, rows):
    policy = KnownPolicy(jnp.asarray(actions, jnp.float32)[:, None, None], log_density, rows)
    return KnownPolicyView(nets, state, coef, policy)


def test_sac_critic():
    nets = hand_nets(2)
    online = linear_critics([1.0, 1.0], [1.0, 1.0], [0.0, 1.0])  # Q = s + a, s + a + 1
    target = linear_critics([1.0, 1.0], [2.0, 0.0], [4.0, 6.0])  # Q' = s + 2a + 4, s + 6
    state = hand_state(nets, {"critic": online}, {"critic": target})
    view = known_view(nets, state, {}, [0.25], -7.0, 2)
    rows = batch([[1.0], [1.0]], [[0.5], [0.5]], [2.0, 2.0], [[3.0], [3.0]], mask=[1.0, 0.0])
    loss, metrics = run(sac.critic, {"critic": online}, view, rows)
    # Q = 1.5, 2.5. Q'(3, 0.25) = 7.5, 9: the smaller is 7.5. No entropy is added, whatever log pi is.
    # Row 1: y = 2 + 0.5 * 7.5 = 5.75: ((1.5 - 5.75)^2 + (2.5 - 5.75)^2) / 2 = (18.0625 + 10.5625) / 2 = 14.3125.
    # Row 2 terminated: y = 2: (0.25 + 0.25) / 2 = 0.25. Their mean is 7.28125.
    assert loss == pytest.approx(7.28125, rel=1e-5)
    assert metrics["q"] == pytest.approx(2.0, rel=1e-5)


def test_sac_critic_gradient():
    nets = hand_nets(1)
    online, target = linear_critics([1.0], [1.0], [0.0]), linear_critics([0.0], [0.0], [4.0])
    view = known_view(nets, hand_state(nets, {"critic": online}, {"critic": target}), {}, [0.0], 0.0, 1)
    rows = batch([[1.0]], [[0.5]], [1.0], [[0.0]])
    gradient = slope(sac.critic, {"critic": online}, view, rows)
    # d(Q - y)^2 / d bias_1 = 2 (1.5 - (1 + 0.5 * 4)) = -3; a target that carried gradient would change it.
    assert gradient["critic"]["bias_1"] == pytest.approx(-3.0, rel=1e-4)


def test_sac_actor():
    nets = hand_nets(2, temperature=0.5)
    critic = linear_critics([1.0, 3.0], [2.0, 4.0], [0.0, 1.0])  # mean over members: 2s + 3a + 0.5
    state = hand_state(nets, {"critic": critic, "temperature": {"raw": jnp.log(jnp.expm1(0.5))}})
    view = known_view(nets, state, {}, [0.5], -0.8, 2)
    rows = batch([[1.0], [2.0]], [[0.0], [0.0]], [0.0, 0.0], [[0.0], [0.0]])
    loss, metrics = run(sac.actor, {}, view, rows)
    # Q means: 2 + 1.5 + 0.5 = 4 and 4 + 1.5 + 0.5 = 6, so 5. Loss: 0.5 * -0.8 - 5 = -5.4.
    assert loss == pytest.approx(-5.4, rel=1e-5)
    assert metrics["entropy"] == pytest.approx(0.8)


def test_sac_actor_climbs_the_critic():
    nets = hand_nets(1)
    actor = constant_actor(0.3, 1e-5)
    critic = linear_critics([0.0], [2.0], [0.0])  # Q = 2a
    state = hand_state(nets, {"actor": actor, "critic": critic, "temperature": {"raw": jnp.float32(-100.0)}})
    rows = batch([[0.0]], [[0.0]], [0.0], [[0.0]])
    gradient = slope(sac.actor, {"actor": actor}, View(nets, state, {}), rows)
    # With no temperature and no spread the loss is -2 tanh(mean): slope -2 (1 - tanh(0.3)^2) = -1.830272.
    assert gradient["actor"]["mean"]["bias"] == pytest.approx(-1.830272, rel=1e-3)


@pytest.mark.parametrize(("log_density", "by_hand"), [(-0.3, 0.65), (2.0, -0.5)])
def test_temperature(log_density, by_hand):
    nets = hand_nets(1, target_entropy=-1.0)
    params = {"temperature": {"raw": jnp.log(jnp.expm1(0.5))}}
    view = known_view(nets, hand_state(nets, params), {}, [0.0], log_density, 2)
    rows = batch([[0.0]] * 2, [[0.0]] * 2, [0.0] * 2, [[0.0]] * 2)
    # 0.5 * (entropy + 1): 0.5 * (0.3 + 1) = 0.65 while there is too much entropy, 0.5 * (-2 + 1) = -0.5 with too little.
    loss, _ = run(sac.temperature, params, view, rows)
    assert loss == pytest.approx(by_hand, rel=1e-5)
    raw = slope(sac.temperature, params, view, rows)["temperature"]["raw"]
    assert np.sign(raw) == np.sign(by_hand)  # a step against it lowers the temperature, or raises it


def conservative(loss, rows, online, target, coef, actions=(0.0,), members=1):
    nets = hand_nets(members)
    state = hand_state(nets, {"critic": online}, {"critic": target})
    view = known_view(nets, state, coef, list(actions), float(np.log(0.25)), len(rows.reward))
    return run(loss, {"critic": online}, view, rows)


ONE = batch([[1.0]], [[0.5]], [2.0], [[3.0]], mask=0.0, mc_return=3.0, has_return=1.0)
FLAT = linear_critics([1.0], [0.0], [0.0])  # Q = s, the same for every action
COEF = {"conservative": 5.0, "sampled_actions": 1, "backup_actions": 10}


def test_cql_penalty_counts_each_action_with_its_density():
    loss, metrics = conservative(cql.critic, ONE, FLAT, FLAT, COEF)
    # Q = 1 for all actions. One uniform action of density 0.5: log 0.5^1 is subtracted, e^1 * 2. Two of the policy, of density
    # 0.25: 2 * e^1 * 4. log(10 e) - 1 = log 10 = 2.302585. TD: (1 - 2)^2 = 1. Loss: 1 + 5 * 2.302585 = 12.512925.
    assert metrics["gap"] == pytest.approx(2.302585, rel=1e-5)
    assert metrics["td"] == pytest.approx(1.0, rel=1e-4)
    assert loss == pytest.approx(12.512925, rel=1e-5)


def test_cql_uniform_density_grows_with_the_dimension():
    nets = hand_nets(1)
    wide = make_wide_view(nets)
    rows = batch([[1.0]], [[0.5, 0.5, 0.5]], [2.0], [[3.0]], mask=0.0)
    _, metrics = run(cql.critic, {"critic": wide.state.params["critic"]}, wide, rows)
    # Three dimensions: a uniform density of 1/8. log(8 + 2 * 4) = log 16 = 2.772589.
    assert metrics["gap"] == pytest.approx(2.772589, rel=1e-5)


def make_wide_view(nets):
    critic = dict(linear_critics([1.0], [0.0], [0.0]))
    critic["kernel_0"] = jnp.concatenate([critic["kernel_0"], jnp.zeros((1, 2, 1))], axis=1)
    state = hand_state(nets, {"critic": critic}, {"critic": critic})
    return KnownPolicyView(nets, state, COEF, KnownPolicy(jnp.zeros((1, 1, 3)), float(np.log(0.25)), 1))


@pytest.mark.parametrize(("backup_actions", "error"), [(10, 1.0), (2, 1.0), (1, 0.9025)])
def test_cql_target_is_the_best_action_under_the_worst_member(backup_actions, error):
    online = linear_critics([0.0, 0.0], [0.0, 0.0], [0.0, 0.0])
    target = linear_critics([0.0, 0.0], [1.0, -1.0], [0.0, 0.4])  # Q' = a and 0.4 - a
    rows = batch([[0.0]], [[0.0]], [1.0], [[0.0]])
    coef = {"conservative": 0.0, "sampled_actions": 2, "backup_actions": backup_actions}
    _, metrics = conservative(cql.critic, rows, online, target, coef, (0.5, 0.0), members=2)
    # Actions 0.5 and 0: worst members -0.1 and 0, the best of these 0 (the other order would give 0.4).
    # y = 1 + 0.5 * 0 = 1; Q = 0: TD error 1. Of the first action alone: y = 1 - 0.05, 0.95^2 = 0.9025.
    assert metrics["td"] == pytest.approx(error, abs=1e-4)


def test_calql_bounds_the_policy_actions_before_the_densities():
    loss, metrics = conservative(CALQL.losses["critic"], ONE, FLAT, FLAT, COEF)
    # The return 3 lifts Q = 1 at the two policy actions only: log(2 e + 2 * 4 e^3) - 1
    # = log(5.436564 + 160.684295) - 1 = 5.112716 - 1 = 4.112716. Loss: 1 + 5 * 4.112716 = 21.563579.
    assert metrics["gap"] == pytest.approx(4.112716, rel=1e-5)
    assert metrics["bound_share"] == 1.0
    assert loss == pytest.approx(21.563579, rel=1e-5)


@pytest.mark.parametrize(("mc_return", "has_return"), [(3.0, 0.0), (-3.0, 1.0)])
def test_calql_is_cql_without_a_return_or_below_q(mc_return, has_return):
    rows = ONE.replace(mc_return=jnp.array([mc_return]), has_return=jnp.array([has_return]))
    _, metrics = conservative(CALQL.losses["critic"], rows, FLAT, FLAT, COEF)
    assert metrics["gap"] == pytest.approx(2.302585, rel=1e-5)  # log 10, as in CQL
    assert metrics["bound_share"] == 0.0


def test_calql_stops_pushing_down_where_the_bound_holds():
    high = ONE.replace(mc_return=jnp.array([50.0]))

    def push(rows):
        def gap(params):
            state = hand_state(hand_nets(1), {"critic": FLAT}, {"critic": FLAT})
            view = known_view(hand_nets(1), state, COEF, [0.0], 0.0, 1)
            return CALQL.losses["critic"](params, view, rows, KEY)[1]["gap"]

        return jax.jit(jax.grad(gap))({"critic": FLAT})["critic"]["bias_1"][0, 0]

    # Below the bound all weight lies on it: nothing pushes the policy's Q down, and the data's is pushed up: -1.
    # Without a return the push up at the data and down at the actions cancel for a Q that is the same for every action.
    assert push(high) == pytest.approx(-1.0, abs=1e-5)
    assert push(ONE.replace(has_return=jnp.array([0.0]))) == pytest.approx(0.0, abs=1e-5)


def test_the_penalty_moves_no_policy():
    nets = hand_nets(1)
    actor = constant_actor(0.0, 1.0)
    state = hand_state(nets, {"actor": actor, "critic": FLAT}, {"critic": FLAT})

    def loss(actor):
        view = View(nets, state.replace(params={**state.params, "actor": actor}), {**COEF, "sampled_actions": 2})
        return cql.critic({"critic": linear_critics([1.0], [1.0], [0.0])}, view, ONE, KEY)[0]

    assert all(np.all(leaf == 0.0) for leaf in jax.tree.leaves(jax.jit(jax.grad(loss))(actor)))


def test_a_pessimistic_actor_follows_the_lowest_critic():
    nets = tiny_nets(2, 1)
    state = tiny_state(nets, find_method("sac"))
    rows = batch([[0.3, -0.2]] * 4, [[0.2]] * 4, [0.0] * 4, [[0.0, 0.0]] * 4)
    view, params = View(nets, state, {}), {"actor": state.params["actor"]}
    mean, low = (
        float(method.losses["actor"](params, view, rows, KEY)[1]["q"]) for method in (sac.METHOD, sac_min.METHOD)
    )
    action, _ = view.pi(rows.obs).sample(KEY)
    q = view.q(rows.obs, action)
    assert low == pytest.approx(float(jnp.mean(jnp.min(q, axis=0))), rel=1e-5)
    assert low < mean == pytest.approx(float(jnp.mean(q)), rel=1e-5)


MULTIPLIER = {"raw": jnp.log(jnp.expm1(jnp.float32(0.5)))}  # 0.5
SLOPED = linear_critics([1.0], [0.5], [0.0])  # Q = s + a / 2


def lagrange(loss, critic, target_gap):
    """Value, metrics and gradient of a loss in the critic and the multiplier."""
    own = {"critic": critic, "conservatism": MULTIPLIER}
    state = hand_state(hand_nets(1), own, {"critic": critic})
    view = known_view(
        hand_nets(1), state, {**COEF, "conservative": 0.5, "target_gap": target_gap}, [0.0], np.log(0.25), 1
    )
    (value, metrics), gradient = jax.jit(jax.value_and_grad(lambda p: loss(p, view, ONE, KEY), has_aux=True))(own)
    return value, metrics, gradient


@pytest.mark.parametrize("target_gap", [0.8, 3.0])
def test_a_multiplier_weighs_the_penalty_as_a_constant_would(target_gap):
    value, metrics, gradient = lagrange(cql_lagrange.critic, SLOPED, target_gap)
    fixed = lagrange(cql.critic, SLOPED, target_gap)[2]
    assert_close(gradient["critic"], fixed["critic"], rtol=1e-4)
    assert metrics["multiplier"] == pytest.approx(0.5)
    assert value == pytest.approx(float(metrics["td"]), rel=1e-4)


@pytest.mark.parametrize(("target_gap", "push"), [(0.8, -1.502585), (3.0, 0.697415)])
def test_a_multiplier_rises_while_the_gap_is_above_its_target(target_gap, push):
    _, metrics, gradient = lagrange(cql_lagrange.critic, FLAT, target_gap)
    # The gap is log 10, as above: the slope in the multiplier is target - 2.302585, times softplus' = 1 - e^-0.5 = 0.393469.
    assert metrics["gap"] == pytest.approx(2.302585, rel=1e-5)
    assert gradient["conservatism"]["raw"] == pytest.approx(push * 0.393469, rel=1e-4)


def test_calql_lagrange_bounds_the_gap():
    loss = calql_lagrange.METHOD.losses["critic", "conservatism"]
    _, metrics, gradient = lagrange(loss, FLAT, 0.8)
    assert metrics["gap"] == pytest.approx(4.112716, rel=1e-5)  # as Cal-QL's, above
    assert gradient["conservatism"]["raw"] == pytest.approx(-3.312716 * 0.393469, rel=1e-4)


def test_an_action_at_the_edge_counts_as_one_near_it():
    policy = TanhNormal(jnp.zeros((3, 1)), jnp.zeros((3, 1)))
    found = losses.log_likelihood(policy, jnp.asarray([[1.0], [losses.CLONING_EDGE], [-0.5]]))
    inside = policy.log_prob(jnp.asarray([[0.0], [losses.CLONING_EDGE], [-0.5]]))
    assert found[0] == found[1] == inside[1]
    assert found[2] == inside[2]
