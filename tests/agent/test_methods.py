"""What every method keeps, and the losses of those that differ from SAC and CQL, against numbers worked by hand."""

import importlib
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agent.adopt import adopt
from agent.heads import Networks
from agent.methods import awac, awr, find_method, iql, method_names, so2, td3, td3bc
from agent.plan import check_phase
from agent.policy import exploration
from agent.types import Method, Moment, Phase, View
from agent.update import update
from tests.agent.test_losses import KEY, known_view, run, slope
from tests.agent.tiny import (
    OFFSET,
    KnownPolicy,
    KnownPolicyView,
    assert_close,
    assert_same,
    batch,
    constant_actor,
    differs,
    hand_nets,
    hand_state,
    linear_critics,
    random_batch,
    stacked,
    tiny_nets,
    tiny_state,
)

NETS = tiny_nets(layer_norm=False, std="vector")  # fewer leaves compile faster
EVERYTHING = tiny_state(NETS, Method(losses={}, frozen=tuple(NETS.modules)))
QUICK = {"xla_backend_optimization_level": 0}  # a program that runs three times is not worth optimising


@pytest.mark.parametrize("name", method_names())
def test_one_update_moves_the_method_s_groups_and_nothing_else(name):
    method, rows = find_method(name), random_batch(0, 4)
    if method.rollout is not None:
        rows = method.rollout(View(NETS, EVERYTHING, method.coef), rows)
    rows = stacked([rows])
    # With groups that are none of its own.
    first = adopt(NETS, method, EVERYTHING, None).replace(params=EVERYTHING.params)
    step = jax.jit(lambda state: update(NETS, method, state, rows, method.coef), compiler_options=QUICK)
    second, _ = step(first)
    third, metrics = step(second)  # by now a loss that is due on every second minibatch has run
    assert all(np.isfinite(value) for value in metrics.values()), metrics
    moved = {group for group in NETS.modules if differs(third.params[group], first.params[group])}
    assert moved == set(method.updated)
    assert set(third.target) == set(method.targets)
    for group, kind in method.targets.items():
        tau = NETS.tau if kind == "moving" else 0.0
        mixed = jax.tree.map(lambda t, p, tau=tau: t + tau * (p - t), second.target[group], third.params[group])
        assert_close(third.target[group], mixed)
    assert_same(step(first)[0], second)  # the key is in the state


@pytest.mark.parametrize("name", method_names())
def test_a_method_s_table_is_complete(name):
    method = find_method(name)
    module = importlib.import_module(f"agent.methods.{name}")
    assert module.__doc__.splitlines()[0].rstrip().endswith((".", ":"))
    if method.rollout is None:
        check_phase(Phase("offline", method, updates=1, shares={"offline": 1.0}))
    else:
        assert method.not_offline
        check_phase(Phase("online", method, env_steps=4, batch_size=2, collect=exploration(method), rollout=3))
    for reason in (method.not_offline, method.not_online):
        # It ends a message: "--offline.method so2: REASON; choose another method".
        assert not reason or (len(reason.split()) > 4 and reason[-1].isalpha())
    assert not (method.not_offline and method.not_online)
    assert set(method.before.updated if method.before else ()) <= set(method.frozen)
    assert set(method.cools) <= set(method.coef)
    Networks(**method.networks)  # fits the published sizes
    view = View(NETS, EVERYTHING, {})
    moment = Moment(KEY, KEY, jnp.int32(0))
    action = exploration(method).act(view, {"x": jnp.array([[30.0, -30.0]])}, moment)
    assert action.shape == (1, 1)
    assert np.all(np.abs(action) <= 1.0)


def test_a_method_that_trains_no_std_explores_with_noise_of_its_own():
    silent = {name for name in method_names() if find_method(name).explore is not None}
    assert silent == {"td3", "td3bc", "spot"}


# TD3 and SO2: targets at perturbed actions. The policy's next action is 0.25.


def perturbed_target(method, target, rows, coef, members, key=KEY):
    nets = hand_nets(members)
    online = linear_critics([1.0] * members, [1.0] * members, [float(i) for i in range(members)])
    state = hand_state(
        nets,
        {"critic": online, "actor": constant_actor(-2.0, 1.0)},
        {"critic": target, "actor": constant_actor(float(np.arctanh(0.25)), 1.0)},
    )
    coef = dict(zip(("target_noise", "noise_clip"), coef, strict=True))
    rows_count = len(rows.reward)
    view = View(nets, state, coef) if method is td3.METHOD else known_view(nets, state, coef, [0.25], -7.0, rows_count)
    return jax.jit(lambda key: method.losses["critic"]({"critic": online}, view, rows, key))(key)


@pytest.mark.parametrize("module", [td3, so2])
def test_perturbed_target_without_noise(module):
    target = linear_critics([1.0, 1.0], [2.0, 0.0], [4.0, 6.0])  # Q' = s + 2a + 4, s + 6
    rows = batch([[1.0], [1.0]], [[0.5], [0.5]], [2.0, 2.0], [[3.0], [3.0]], mask=[1.0, 0.0])
    loss, metrics = perturbed_target(module.METHOD, target, rows, (0.0, 0.5), 2)
    # As SAC's: Q = 1.5, 2.5; Q'(3, 0.25) = 7.5, 9; y = 5.75, and 2 at the end: (14.3125 + 0.25) / 2 = 7.28125.
    # TD3's target takes the action of the slow policy: the other's, tanh(-2), would give y = 4.54.
    assert loss == pytest.approx(7.28125, rel=1e-5)
    assert metrics["q"] == pytest.approx(2.0, rel=1e-5)


@pytest.mark.parametrize("module", [td3, so2])
@pytest.mark.parametrize(("clip", "actions"), [(0.5, (-0.25, 0.75)), (1.0, (-0.75, 1.0)), (5.0, (-1.0, 1.0))])
def test_the_perturbation_is_clipped_first_by_its_limit_then_by_the_box(module, clip, actions):
    target = linear_critics([0.0], [2.0], [0.0])  # Q' = 2a, so y = a
    rows = batch([[0.0]], [[0.0]], [0.0], [[0.0]])
    keys = jax.random.split(KEY, 40)
    found = jax.vmap(lambda key: perturbed_target(module.METHOD, target, rows, (1e4, clip), 1, key)[0])(keys)
    # Q = 0 and noise far beyond the limits: the loss is a'^2 at one of its two ends.
    ends = np.unique(np.round(np.asarray(found), 3))
    np.testing.assert_allclose(ends, np.unique(np.round(np.square(actions), 3)), atol=2e-3)


def test_the_published_numbers():
    assert (td3.METHOD.coef["target_noise"], td3.METHOD.coef["noise_clip"]) == (0.2, 0.5)
    assert (so2.METHOD.coef["target_noise"], so2.METHOD.coef["noise_clip"]) == (0.3, 0.6)
    assert td3.METHOD.cadence["actor"] == 2
    assert td3.METHOD.targets == {"critic": "moving", "actor": "moving"}


def policy_state(mean, critic):
    nets = hand_nets(len(critic["bias_1"]))
    params = {"actor": constant_actor(mean, 0.7), "critic": critic}
    return nets, hand_state(nets, params), {"actor": params["actor"]}


def test_td3_actor_climbs_the_mean_critic_at_the_mode_and_leaves_the_std():
    nets, state, own = policy_state(0.3, linear_critics([1.0, 3.0], [2.0, 4.0], [0.0, 1.0]))  # mean: 2s + 3a + 0.5
    rows = batch([[1.0], [2.0]], [[0.0], [0.0]], [0.0, 0.0], [[0.0], [0.0]])
    loss, _ = run(td3.actor, own, View(nets, state, {}), rows)
    # tanh(0.3) = 0.291313: Q = 2.5 + 0.873938 and 4.5 + 0.873938, mean 4.373938.
    assert loss == pytest.approx(-4.373938, rel=1e-5)
    gradient = slope(td3.actor, own, View(nets, state, {}), rows)["actor"]
    assert gradient["mean"]["bias"] == pytest.approx(-3.0 * (1.0 - 0.291313**2), rel=1e-3)  # -2.745410
    assert np.all(gradient["log_std"] == 0.0)


def test_td3bc_actor():
    nets, state, own = policy_state(float(np.arctanh(0.5)), linear_critics([1.0, 1.0], [2.0, 4.0], [0.0, 0.0]))
    rows = batch([[1.0], [-2.0], [0.0]], [[0.5], [0.1], [0.5]], [0.0] * 3, [[0.0]] * 3)
    coef = {"q_weight": 2.5, "bc": 3.0}
    loss, metrics = run(td3bc.actor, own, View(nets, state, coef), rows)
    # Q = s + 3 * 0.5: 2.5, -0.5 and 1.5, mean 1.166667, mean size 1.5. Squared errors 0, 0.16 and 0, mean 0.053333.
    # -2.5 * 1.166667 / 1.5 + 3 * 0.053333 = -1.784444.
    assert metrics["squared_error"] == pytest.approx(0.053333, rel=1e-4)
    assert loss == pytest.approx(-1.784444, rel=1e-4)
    gradient = slope(td3bc.actor, own, View(nets, state, coef), rows)["actor"]
    # d/da: -2.5 * 3 / 1.5 + 3 * 2 * mean(0, 0.4, 0) = -5 + 0.8 = -4.2, times 1 - 0.5^2. The scale is a constant.
    assert gradient["mean"]["bias"] == pytest.approx(-3.15, rel=1e-3)


@pytest.mark.parametrize("scale", [0.1, 20.0])
def test_td3bc_does_not_see_the_scale_of_q(scale):
    slopes = []
    for factor in (1.0, scale):
        nets, state, own = policy_state(0.4, linear_critics([factor], [3.0 * factor], [0.0]))
        rows = batch([[1.0], [-2.0]], [[0.5], [0.1]], [0.0, 0.0], [[0.0], [0.0]])
        slopes.append(slope(td3bc.actor, own, View(nets, state, {"q_weight": 2.5, "bc": 1.0}), rows))
    assert_close(*slopes, rtol=1e-3)


# AWAC, AWR and IQL: a policy of known actions whose log pi(a|s) is a + 1.


@dataclass(frozen=True)
class Cloned(KnownPolicy):
    def log_prob(self, action):
        return action[:, 0] + 1.0


def cloning_loss(actor, actions, critic, rows, coef, value=None):
    nets = hand_nets(len(critic["bias_1"]))
    params = {"critic": critic} | ({} if value is None else {"value": value})
    policy = Cloned(jnp.asarray(actions, jnp.float32)[:, None, None], 0.0, len(rows.reward))
    view = KnownPolicyView(nets, hand_state(nets, params, {"critic": critic}), coef, policy)
    loss, metrics = run(actor, {}, view, rows)
    return float(loss), metrics


TWO = batch([[0.0]] * 2, [[0.5], [0.0]], [0.0] * 2, [[0.0]] * 2)


@pytest.mark.parametrize(("temperature", "by_hand"), [(1.0, -1.375), (0.5, -1.45)])
def test_awac_actor(temperature, by_hand):
    critic = linear_critics([0.0, 0.0], [2 * np.log(3.0)] * 2, [0.0, 1.0])  # the lower is 2 log(3) a
    loss, metrics = cloning_loss(awac.actor, [0.25], critic, TWO, {"advantage_temperature": temperature})
    # Against Q(0.25) = log(3) / 2: A = +-log(3) / 2, odds 3 : 1, weights 1.5 and 0.5; at temperature 0.5 9 : 1, 1.8 and 0.2.
    # log pi = 1.5 and 1: -(1.5 * 1.5 + 0.5 * 1) / 2 = -1.375 and -(1.8 * 1.5 + 0.2 * 1) / 2 = -1.45.
    assert loss == pytest.approx(by_hand, rel=1e-4)
    assert metrics["weight"] == pytest.approx(1.0, rel=1e-5)
    assert metrics["advantage"] == pytest.approx(0.0, abs=1e-4)


@pytest.mark.parametrize(("limit", "by_hand"), [(100.0, -1.375), (1.5, -1.125)])
def test_awr_actor(limit, by_hand):
    critic = linear_critics([0.0, 0.0], [2.0, -2.0], [0.0, 0.0])  # the lower is -2 |a|
    coef = {"inverse_temperature": 2 * np.log(2.0), "weight_limit": limit, "sampled_actions": 2}
    loss, _ = cloning_loss(awr.actor, [0.25, -0.25], critic, TWO, coef)
    # V = mean(-0.5, -0.5) (the lower of the means would be 0). A = -1 + 0.5 and 0 + 0.5: weights 1/2 and 2, or 1.5 at most.
    # log pi = 1.5 and 1: -(0.5 * 1.5 + 2 * 1) / 2 = -1.375, with the limit -(0.75 + 1.5) / 2 = -1.125.
    assert loss == pytest.approx(by_hand, rel=1e-4)


def linear_value(on_obs, constant):
    """Parameters of a value with one hidden unit and no layer norm: `V = on_obs s + constant`."""
    return {
        "Trunk_0": {"Dense_0": {"kernel": jnp.full((1, 1), on_obs), "bias": jnp.full(1, OFFSET)}},
        "Dense_0": {"kernel": jnp.ones((1, 1)), "bias": jnp.full(1, constant - OFFSET)},
    }


IQL_TARGET = linear_critics([1.0, 1.0], [2.0, 0.0], [4.0, 6.0])  # Q' = s + 2a + 4, s + 6
IQL_ROWS = batch([[1.0], [2.0]], [[0.5], [-0.5]], [1.0, 1.0], [[2.0], [2.0]], mask=[1.0, 0.0])
IQL_VALUE = linear_value(5.0, -3.0)


@pytest.mark.parametrize(("expectile", "by_hand", "push"), [(0.7, 6.2, -2.2), (0.5, 5.0, -1.0), (0.1, 2.6, 1.4)])
def test_iql_value(expectile, by_hand, push):
    nets = hand_nets(2)
    state = hand_state(nets, {"value": IQL_VALUE}, {"critic": IQL_TARGET})
    view = View(nets, state, {"expectile": expectile})
    loss, metrics = run(iql.value, {"value": IQL_VALUE}, view, IQL_ROWS)
    # Lower target Q: min(6, 7) = 6 and min(5, 8) = 5. V = 5s - 3 = 2 and 7. Errors 4 and -2: (16 w + 4 (1 - w)) / 2.
    assert loss == pytest.approx(by_hand, rel=1e-4)
    assert metrics["v"] == pytest.approx(4.5, rel=1e-4)
    # d/dV: -(2 * 4 w - 2 * 2 (1 - w)) / 2 = -4 w + 2 (1 - w).
    gradient = slope(iql.value, {"value": IQL_VALUE}, view, IQL_ROWS)["value"]["Dense_0"]["bias"]
    assert gradient == pytest.approx(push, rel=1e-3)


@pytest.mark.parametrize(("limit", "by_hand"), [(100.0, -1.676777), (1.5, -1.301777)])
def test_iql_actor(limit, by_hand):
    coef = {"inverse_temperature": np.log(2.0) / 4, "weight_limit": limit}
    loss, metrics = cloning_loss(iql.actor, [9.0], IQL_TARGET, IQL_ROWS, coef, IQL_VALUE)
    # A = 4 and -2: weights 2^1 (or 1.5) and 2^-0.5 = 0.707107. log pi = 1.5 and 0.5.
    # -(2 * 1.5 + 0.707107 * 0.5) / 2 = -1.676777; with the limit -(2.25 + 0.353553) / 2 = -1.301777.
    assert loss == pytest.approx(by_hand, rel=1e-4)
    assert metrics["advantage"] == pytest.approx(1.0, rel=1e-4)


def test_iql_critic_bootstraps_from_the_value():
    nets = hand_nets(1)
    critic = linear_critics([1.0], [1.0], [0.0])
    view = View(nets, hand_state(nets, {"critic": critic, "value": IQL_VALUE}), {})
    loss, _ = run(iql.critic, {"critic": critic}, view, IQL_ROWS)
    # Q = 1.5 both. V(2) = 7: y = 1 + 0.5 * 7 = 4.5, and 1 at the end: (9 + 0.25) / 2 = 4.625.
    assert loss == pytest.approx(4.625, rel=1e-4)


def test_iql_is_updated_in_the_published_order():
    assert iql.METHOD.updated == ("value", "actor", "critic")
