"""SPOT: the bound, the penalty and its gradient by hand, and what a trained model finds unlikely."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agent.adopt import adopt, first_state
from agent.methods import spot, td3
from agent.optim import Adam
from agent.types import Method, View
from agent.update import train
from agent.vae import MAX_LOG_STD, MIN_LOG_STD, reconstruction_and_divergence
from tests.agent.test_losses import KEY, run, slope
from tests.agent.tiny import (
    OFFSET,
    assert_same,
    batch,
    constant_actor,
    hand_nets,
    hand_state,
    identity,
    linear_critics,
    tiny_nets,
)

QUICK = {"xla_backend_optimization_level": 0}


def known_vae(mean_on_action: float, decoded: float, decoded_on_latent: float = 0.0, log_std: float = np.log(2.0)):
    """Parameters of scalar observation and action: latents `(mean_on_action a, -1)` of std `(exp(log_std), 1)`.

    The decoded action is `tanh(arctanh(decoded) + decoded_on_latent z_1)`.
    """

    def trunk(inputs, reads):
        through = {"kernel": jnp.eye(3), "bias": jnp.zeros(3)}
        return {"Dense_0": {"kernel": jnp.zeros((inputs, 3)).at[reads, 0].set(1.0), "bias": jnp.full(3, OFFSET)}} | {
            "Dense_1": through
        }

    def head(width, weight, bias):
        kernel = jnp.zeros((3, width)).at[0, 0].set(weight)
        return {"kernel": kernel, "bias": jnp.asarray(bias, jnp.float32).at[0].add(-weight * OFFSET)}

    return {
        "encoder": trunk(2, 1),  # of (s, a), reads a
        "mean": head(2, mean_on_action, [0.0, -1.0]),
        "log_std": head(2, 0.0, [log_std, 0.0]),
        "decoder": trunk(3, 1),  # of (s, z), reads z_1
        "action": head(1, decoded_on_latent, [np.arctanh(decoded)]),
    }


def test_the_bound_s_two_terms_are_means_over_their_dimensions():
    decoded, action = jnp.array([[0.25, 0.5]]), jnp.array([[0.75, 0.5]])
    mean, log_std = jnp.array([[0.5, -1.0]]), jnp.log(jnp.array([[2.0, 1.0]]))
    reconstruction, divergence = reconstruction_and_divergence(decoded, action, mean, log_std)
    # (0.25 + 0) / 2. KL: (0.25 + 4 - 1) / 2 - log 2 = 0.931853 and (1 + 1 - 1) / 2 = 0.5: mean 0.715926.
    assert reconstruction.tolist() == [0.125]
    assert divergence == pytest.approx(0.715926, rel=1e-5)


def test_the_module_decodes_a_sample_of_its_posterior():
    nets = hand_nets(1)
    call = lambda noise, **changes: nets.modules["vae"].apply(  # noqa: E731
        {"params": known_vae(1.0, 0.0, 0.1, **changes)}, jnp.zeros((1, 1)), jnp.array([[0.5]]), jnp.array([noise])
    )
    # z_1 = 0.5 + 2 * 1 = 2.5: decoded tanh(0.25) = 0.244919, 0.065067 off squared. Without noise tanh(0.05) = 0.049958.
    assert call([1.0, 9.0])[0] == pytest.approx(0.065067, rel=1e-3)
    assert call([0.0, 0.0])[0] == pytest.approx(0.202538, rel=1e-3)
    for log_std, limit in ((-99.0, MIN_LOG_STD), (99.0, MAX_LOG_STD)):
        # The mean of the two KL; that of the second is 0.5.
        by_hand = (0.5 * (0.25 + np.exp(2 * limit) - 1) - limit + 0.5) / 2
        assert call([0.0, 0.0], log_std=log_std)[1] == pytest.approx(by_hand, rel=1e-4)


def test_the_model_s_loss():
    nets = hand_nets(1)
    params = {"vae": known_vae(2.0, 0.25)}
    rows = batch([[0.0]] * 2, [[0.5], [-0.5]], [0.0] * 2, [[0.0]] * 2)
    loss, metrics = run(spot.vae, params, View(nets, hand_state(nets, params), {}), rows)
    # Errors 0.0625 and 0.5625. Latent means +-1: KL (1 + 4 - 1) / 2 - log 2 = 1.306853, with 0.5 the mean 0.903426.
    assert metrics["reconstruction"] == pytest.approx(0.3125, rel=1e-3)
    assert metrics["divergence"] == pytest.approx(0.903426, rel=1e-3)
    assert loss == pytest.approx(0.3125 + 0.5 * 0.903426, rel=1e-3)


def test_the_actor_s_loss_and_its_gradient():
    nets = hand_nets(2)
    params = {
        "actor": constant_actor(float(np.arctanh(0.5)), 0.7),
        "critic": linear_critics([1.0, 1.0], [2.0, 4.0], [0.0, 0.0]),  # mean: s + 3a
        "vae": known_vae(2.0, 0.25),
    }
    view = View(nets, hand_state(nets, params), {"support": 3.0})
    rows = batch([[1.0], [-2.0], [0.0]], [[0.9]] * 3, [0.0] * 3, [[0.0]] * 3)
    own = {"actor": params["actor"]}
    loss, metrics = run(spot.actor, own, view, rows)
    # Q = 2.5, -0.5 and 1.5: 1.166667 / 1.5 = 0.777778. At the mode 0.5: 0.0625 + 0.5 * 0.903426 = 0.514213.
    assert metrics["q"] == pytest.approx(1.166667, rel=1e-4)
    assert metrics["penalty"] == pytest.approx(0.514213, rel=1e-3)
    assert loss == pytest.approx(3.0 * 0.514213 - 0.777778, rel=1e-3)
    # d/da: -3 / 1.5 + 3 * (2 * 0.25 + 0.5 * (1 * 2) / 2) = -2 + 3 * (0.5 + 0.5) = 1, times 1 - 0.5^2.
    gradient = slope(spot.actor, own, view, rows)["actor"]
    assert gradient["mean"]["bias"] == pytest.approx(0.75, rel=2e-3)

    def of_the_model(vae):
        state = view.state.replace(params={**params, "vae": vae})
        return spot.actor(own, View(nets, state, view.coef), rows, KEY)[0]

    assert not any(leaf.any() for leaf in jax.tree.leaves(jax.jit(jax.grad(of_the_model))(params["vae"])))


SIZES = {"actor_hidden": (32,), "critic_hidden": (32,), "critics": 2, "layer_norm": False}
NETS = tiny_nets(1, 1, **SIZES, optimizer={"actor": Adam(3e-3)})
ROWS = 1000
UPWARDS = Method(losses={"actor": spot.actor}, frozen=("critic", "vae"))


@pytest.fixture(scope="module")
def table():
    """Actions close to half the observation."""
    rng = np.random.default_rng(0)
    obs = rng.uniform(-1, 1, (ROWS, 1))
    return batch(obs, obs / 2 + rng.normal(0, 0.05, (ROWS, 1)), np.zeros(ROWS), obs)


def learned(method, state, table, coef, steps):
    def draw(state, key, step):
        return jax.tree.map(lambda x: x[jax.random.randint(key, (1, 64), 0, ROWS)], table)

    run = jax.jit(lambda state, coef: train(NETS, method, state, draw, lambda i: coef, steps), compiler_options=QUICK)
    return lambda **coef: run(state, coef)[0]


@pytest.fixture(scope="module")
def model(table):
    """A state with the trained model."""
    first = jax.jit(lambda key: first_state(NETS, spot.METHOD.before, identity(1), key))(KEY)
    return learned(spot.METHOD.before, first, table, {}, 600)()


def test_actions_off_the_data_are_penalised_the_more_the_farther(model, table):
    view = View(NETS, model, {})
    off = jax.jit(jax.vmap(lambda away: spot.unlikelihood(view, table, table.action + away, KEY)[0]))(
        jnp.array([0.0, 0.2, 0.5, 1.0])
    )
    assert off[0] < 0.02, off
    assert np.all(np.diff(off) > 0.02), off


def test_the_penalty_holds_the_policy_to_the_data_where_the_critic_pulls_away(model, table):
    state = adopt(NETS, spot.METHOD, model, spot.METHOD.before)
    assert_same(state.params["vae"], model.params["vae"])
    flat = jax.tree.map(jnp.zeros_like, state.params["critic"])
    upwards = {**flat, "kernel_0": flat["kernel_0"].at[:, 1].set(1 / 32), "bias_0": flat["bias_0"] + 3.0}
    upwards |= {"kernel_1": flat["kernel_1"] + 1.0, "bias_1": flat["bias_1"] - 95.0}  # Q = a + 1
    state = adopt(NETS, UPWARDS, state.replace(params={**state.params, "critic": upwards}), spot.METHOD)
    climb = learned(UPWARDS, state, table, {}, 600)
    trials = {"x": jnp.linspace(-0.9, 0.9, 7)[:, None]}

    def error(**coef):
        after = climb(**coef)
        assert_same(after.params["vae"], model.params["vae"])
        mode = np.asarray(View(NETS, after, {}).pi(trials).mode())
        return np.abs(mode - np.asarray(trials["x"]) / 2).mean()

    found = [error(support=support) for support in (20.0, 0.0)]
    assert found[0] < 0.1, found
    assert found[1] > 0.8, found  # at 1 everywhere it is off by 1 on average


def test_the_published_numbers():
    method = spot.METHOD
    assert method.before.updated == method.frozen == ("vae",)
    assert NETS.optimizer["vae"].learning_rate == 1e-3
    assert (spot.BETA, dict(method.cools)) == (0.5, {"support": 0.2})
    assert {**method.losses, "actor": None} == {**td3.METHOD.losses, "actor": None}
    published = tiny_nets(17, 6, critic_hidden=(256, 256)).modules["vae"]
    assert (published.latent_dim, published.hidden) == (12, 750)
