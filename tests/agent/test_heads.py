"""Networks: the ensemble in every shape it is called with, initialisation, limits, and the drawn members of a target."""

import itertools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from agent import heads
from agent.heads import MAX_STD, MIN_STD, Actor, Critics, Multiplier, Networks
from agent.layers import normed_relu
from agent.types import View
from tests.agent.tiny import assert_close, hand_nets, hand_state, linear_critics, random_batch, tiny_nets

KEY = jax.random.key(1)


def random_like(tree, seed):
    """Parameters of the same shapes with no zeros and no ones, so that no term is hidden."""
    leaves, shape = jax.tree.flatten(tree)
    rng = np.random.default_rng(seed)
    return jax.tree.unflatten(shape, [jnp.asarray(rng.normal(0.3, 0.7, leaf.shape), jnp.float32) for leaf in leaves])


KINDS = {
    "layer norm": (True, "relu"),
    "plain": (False, "relu"),
    "norm and tanh": (True, "tanh"),
    "tanh": (False, "tanh"),
}


@pytest.fixture(scope="module", params=KINDS.values(), ids=KINDS)
def critics(request):
    """A module, its random parameters, and one compiled call."""
    layer_norm, activation = request.param
    networks = Networks(critic_hidden=(5, 4), critics=3, layer_norm=layer_norm, critic_activation=activation)
    module = Critics(3, networks)
    params = random_like(jax.eval_shape(module.init, KEY, jnp.zeros((1, 2)), jnp.zeros((1, 3)))["params"], 0)
    return module, params, jax.jit(lambda obs, action: module.apply({"params": params}, obs, action))


def test_a_critic_is_dense_norm_activation(critics):
    module, params, call = critics
    obs, action = np.random.default_rng(1).normal(size=(2, 4, 3)).astype(np.float32)
    q = call(jnp.asarray(obs[:, :2]), jnp.asarray(action))
    assert q.shape == (3, 4)
    p = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
    for e in range(3):
        x = np.concatenate([obs[:, :2], action], axis=1)
        for i in range(2):
            x = x @ p[f"kernel_{i}"][e] + p[f"bias_{i}"][e]
            if module.networks.layer_norm:
                x = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-6)
                x = x * p[f"scale_{i}"][e] + p[f"shift_{i}"][e]
            x = np.tanh(x) if module.networks.critic_activation == "tanh" else np.maximum(x, 0.0)
        np.testing.assert_allclose(q[e], (x @ p["kernel_2"][e] + p["bias_2"][e])[:, 0], rtol=1e-4, atol=1e-4)


def test_many_actions_at_once_equal_one_after_the_other(critics):
    _, _, call = critics
    rng = np.random.default_rng(2)
    obs, actions = (
        jnp.asarray(rng.normal(size=(4, 2)), jnp.float32),
        jnp.asarray(rng.normal(size=(6, 4, 3)), jnp.float32),
    )
    many = call(obs, actions)
    assert many.shape == (3, 6, 4)
    for i in range(6):
        np.testing.assert_allclose(many[:, i], call(obs, actions[i]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layer_norm", [True, False])
def test_the_slope_of_a_tanh_critic_has_a_gradient(layer_norm):
    """SMAC's loss is a function of `grad_a Q`: against difference quotients, in double precision."""
    with jax.enable_x64(True):
        networks = Networks(critic_hidden=(4, 3), critics=2, layer_norm=layer_norm, critic_activation="tanh")
        module, rng = Critics(2, networks), np.random.default_rng(3)
        obs, action = jnp.asarray(rng.normal(size=(3, 2))), jnp.asarray(rng.normal(size=(3, 1)))
        shapes = jax.eval_shape(module.init, KEY, obs, action)["params"]
        params = jax.tree.map(lambda x: jnp.asarray(rng.normal(0.3, 0.7, x.shape)), shapes)

        @jax.jit
        def squared_slope(params):
            return jnp.sum(jax.grad(lambda a: jnp.sum(module.apply({"params": params}, obs, a)))(action) ** 2)

        check_grads(squared_slope, (params,), order=1, modes=["rev"], atol=1e-5, rtol=1e-5, eps=1e-5)
        assert all(np.abs(x).max() > 1e-3 for x in jax.tree.leaves(jax.grad(squared_slope)(params)["kernel_1"]))


@pytest.fixture(scope="module")
def layer():
    """`x (E, R, H)`, scale and shift `(E, H)`."""
    rng = np.random.default_rng(4)
    return tuple(jnp.asarray(rng.normal(0.2, 1.0, shape), jnp.float32) for shape in ((2, 3, 5), (2, 5), (2, 5)))


def by_flax(x, scale, shift):
    norms = zip(x, scale, shift, strict=True)
    return jnp.stack([nn.relu(nn.LayerNorm().apply({"params": {"scale": s, "bias": b}}, m)) for m, s, b in norms])


def test_normed_relu_is_flax_layer_norm_and_relu(layer):
    np.testing.assert_allclose(jax.jit(normed_relu)(*layer), jax.jit(by_flax)(*layer), rtol=1e-5, atol=1e-6)


def weigh(function):
    """A scalar that treats every output differently."""
    weight = jnp.asarray(np.random.default_rng(5).normal(size=(2, 3, 5)), jnp.float32)
    return lambda *inputs: jnp.sum(function(*inputs) * weight)


def test_normed_relu_backward_is_that_of_automatic_differentiation(layer):
    ours = jax.jit(jax.grad(weigh(normed_relu), argnums=(0, 1, 2)))(*layer)
    theirs = jax.jit(jax.grad(weigh(by_flax), argnums=(0, 1, 2)))(*layer)
    assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_normed_relu_backward_is_the_difference_quotient(layer):
    value = jax.jit(weigh(normed_relu))
    slopes = jax.jit(jax.grad(weigh(normed_relu), argnums=(0, 1, 2)))(*layer)
    rng = np.random.default_rng(6)
    for i in range(3):
        direction = jnp.asarray(rng.normal(size=layer[i].shape), jnp.float32)
        step = 2e-3
        above = [x + step * direction if j == i else x for j, x in enumerate(layer)]
        below = [x - step * direction if j == i else x for j, x in enumerate(layer)]
        quotient = (value(*above) - value(*below)) / (2 * step)
        assert jnp.sum(slopes[i] * direction) == pytest.approx(float(quotient), rel=0.02, abs=0.02)


def test_normed_relu_is_finite_where_a_row_does_not_vary():
    flat = (jnp.full((1, 2, 4), 3.0), jnp.ones((1, 4)), jnp.ones((1, 4)))
    value, slopes = jax.jit(jax.value_and_grad(lambda *x: normed_relu(*x).sum(), argnums=(0, 1, 2)))(*flat)
    assert value == pytest.approx(8.0, abs=1e-3)
    assert all(np.isfinite(slope).all() for slope in slopes)


def test_each_member_starts_orthogonal_and_different():
    nets = tiny_nets(4, 3, critic_hidden=(16, 16))
    params = jax.jit(nets.modules["critic"].init)(KEY, jnp.zeros((1, 4)), jnp.zeros((1, 3)))["params"]
    for name, gain in (("kernel_0", math.sqrt(2)), ("kernel_1", math.sqrt(2)), ("kernel_2", 1e-2)):
        for kernel in params[name]:
            k = np.asarray(kernel, np.float64)
            small = k @ k.T if k.shape[0] <= k.shape[1] else k.T @ k
            np.testing.assert_allclose(small, gain**2 * np.eye(len(small)), atol=1e-5)
        for a, b in itertools.combinations(params[name], 2):
            assert not np.allclose(a, b)
    for name in ("bias_0", "bias_1", "bias_2", "shift_0", "shift_1"):
        assert not params[name].any()


def test_the_actor_starts_near_zero_with_std_one():
    nets = tiny_nets(4, 3)
    obs = jnp.asarray(np.random.default_rng(0).normal(size=(16, 4)), jnp.float32)
    mean, log_std = jax.jit(nets.modules["actor"].init_with_output)(KEY, obs)[0]
    assert np.abs(mean).max() < 0.1
    assert np.abs(log_std).max() < 0.1


@pytest.mark.parametrize(("raw", "limit"), [(-50.0, MIN_STD), (50.0, MAX_STD)])
@pytest.mark.parametrize("std", ["vector", "state"])
def test_the_std_stays_within_its_limits(std, raw, limit):
    actor = Actor(2, Networks(actor_hidden=(4,), std=std))
    params = jax.jit(actor.init)(KEY, jnp.zeros((1, 3)))["params"]
    if std == "vector":
        params["log_std"] = jnp.full(2, raw)
    else:
        params["log_std"]["bias"] = jnp.full(2, raw)
    _, log_std = jax.jit(actor.apply)({"params": params}, jnp.zeros((5, 3)))
    assert log_std.shape == (5, 2)
    np.testing.assert_allclose(np.exp(log_std), limit, rtol=1e-5)


def test_a_vector_std_ignores_the_observation_and_a_state_std_reads_it():
    obs = jnp.asarray(np.random.default_rng(0).normal(size=(6, 3)), jnp.float32)
    for std, distinct in (("vector", 1), ("state", 6)):
        actor = Actor(2, Networks(actor_hidden=(4,), std=std))
        _, log_std = jax.jit(actor.init_with_output)(KEY, obs)[0]
        assert len(np.unique(log_std[:, 0])) == distinct


@pytest.mark.parametrize("initial", [0.1, 1.0, 7.0])
def test_a_multiplier_starts_where_it_is_told_and_stays_positive(initial):
    module = Multiplier(initial)
    value, variables = module.init_with_output(KEY)
    assert value == pytest.approx(initial, rel=1e-5)
    assert module.apply({"params": {"raw": jnp.float32(-30.0)}}) > 0
    assert variables["params"]["raw"].shape == ()


def test_a_target_takes_members_without_replacement_and_in_time_every_pair():
    nets = tiny_nets(1, 1, critics=4, members_per_target=2, critic_hidden=(1,), layer_norm=False)
    target = linear_critics([0.0] * 4, [0.0] * 4, [0.0, 1.0, 2.0, 3.0])  # member e answers e
    state = hand_state(nets, {}, {"critic": target})
    rows = random_batch(0, 5, obs=1)
    call = jax.jit(jax.vmap(lambda key: View(nets, state, {}).q_target(rows.obs, rows.action, key)))
    drawn = np.rint(call(jax.random.split(KEY, 200))).astype(int)
    assert drawn.shape == (200, 2, 5)  # only the drawn members are evaluated
    assert (drawn == drawn[:, :, :1]).all()  # one draw for the whole batch
    pairs = {tuple(sorted(pair)) for pair in drawn[:, :, 0].tolist()}
    assert pairs == set(itertools.combinations(range(4), 2))


def test_a_target_answers_for_many_actions():
    nets = hand_nets(2)
    state = hand_state(nets, {}, {"critic": linear_critics([1.0, 1.0], [1.0, 1.0], [0.0, 0.0])})
    rows = random_batch(0, 5, obs=1)
    actions = jnp.stack([rows.action, -rows.action, 0.5 * rows.action])
    q = jax.jit(lambda a: View(nets, state, {}).q_target(rows.obs, a, KEY))(actions)
    np.testing.assert_allclose(q, np.broadcast_to(rows.obs["x"].T + actions[..., 0], (2, 3, 5)), atol=2e-5)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"actor_hidden": ()}, "actor_hidden"),
        ({"critic_hidden": (16, 0)}, "critic_hidden"),
        ({"critics": 2, "members_per_target": 3}, "members_per_target 3"),
        ({"members_per_target": 0}, "members_per_target 0"),
        ({"actors": 0}, "actors is 0; give at least 1"),
        ({"critics": 10, "actors": 4}, "10 critics cannot be shared out evenly among 4 actors"),
        ({"critic_activation": "gelu"}, "critic_activation is 'gelu'; give relu or tanh"),
    ],
)
def test_impossible_networks_are_refused(options, words):
    with pytest.raises(ValueError, match=words) as refusal:
        Networks(**options)
    assert "\n" not in str(refusal.value)


def test_many_actions_computed_one_by_one_are_the_same_and_have_the_same_gradient(monkeypatch):
    networks = Networks((8,), (16, 8), critics=3)
    module = heads.Critics(3, networks)
    keys = jax.random.split(jax.random.key(0), 3)
    obs, action = jax.random.normal(keys[0], (5, 4)), jax.random.normal(keys[1], (7, 5, 2))
    params = module.init(keys[2], obs, action)

    def loss(params, obs, action):
        return jnp.sum(jnp.sin(module.apply(params, obs, action)))

    at_once = jax.jit(jax.value_and_grad(loss, (0, 1, 2)))(params, obs, action)
    monkeypatch.setattr(heads, "CACHE_BYTES", 0)
    one_by_one = jax.jit(jax.value_and_grad(lambda *x: loss(*x), (0, 1, 2)))(params, obs, action)
    assert "scan[" in str(jax.make_jaxpr(loss)(params, obs, action))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), at_once, one_by_one)
