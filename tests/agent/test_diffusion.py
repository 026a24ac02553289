"""The diffusion model: schedule, loss by hand, and the score of a mixture whose score is known."""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agent.adopt import first_state
from agent.diffusion import STEPS, denoising, signal
from agent.methods import smac
from agent.optim import Adam
from agent.types import View
from agent.update import train
from tests.agent.tiny import batch, hand_nets, hand_state, identity, tiny_nets

KEY = jax.random.key(0)


def test_the_schedule_begins_with_a_little_noise_and_ends_with_nothing_else():
    kept = np.asarray(signal(jnp.arange(1, STEPS + 1)))
    # f(1/32) = cos(0.061161)^2 = 0.996264, f(0) = cos(0.012467)^2 = 0.999845: 0.996418, a noise of std 0.0598.
    assert kept[0] == pytest.approx(0.996418, abs=1e-5)
    assert np.sqrt(1 - kept[0]) == pytest.approx(0.0598, abs=1e-4)
    assert kept[15] == pytest.approx(0.4938, abs=1e-3)  # f(1/2) = cos(0.791632)^2
    assert kept[-1] == pytest.approx(1e-3)
    assert (np.diff(kept) < 0).all()


@dataclass(frozen=True)
class Oracle:
    """Knows that the action is the observation, and so the noise; it is off by `outcome` in each of the dimensions."""

    def apply(self, variables, obs, action, outcome, step):
        kept = signal(step)[:, None]
        return (action - jnp.sqrt(kept) * obs) / jnp.sqrt(1.0 - kept) + outcome[:, None]


def test_the_loss_is_the_squared_distance_to_the_noise():
    nets = hand_nets(1)
    nets = replace(nets, modules={**nets.modules, "score": Oracle()})
    view = View(nets, hand_state(nets, {"score": {}}), {})
    rows = batch([[0.5], [-1.0], [0.2]], [[0.5], [-1.0], [0.2]], [0.0] * 3, [[0.0]] * 3)
    wrong = rows.replace(outcome=jnp.array([0.0, 1.0, 0.5]))
    loss = jax.jit(lambda rows: denoising({}, view, rows, KEY)[0])
    assert float(loss(rows)) == pytest.approx(0.0, abs=1e-6)
    assert float(loss(wrong)) == pytest.approx(1.25 / 3, abs=1e-4)  # (0 + 1 + 0.25) / 3


MEANS, STD = np.array([[0.5, 0.4], [-0.5, 0.3], [0.1, -0.6]]), 0.15
ROWS = 4096


def mixture(count, rng):
    return MEANS[rng.integers(0, 3, count)] + STD * rng.normal(size=(count, 2))


def exact(x, kept):
    """`-sqrt(1 - kept)` times the score of the noised mixture, `(n, 2)`."""
    variance = kept * STD**2 + 1.0 - kept
    away = x[:, None] - np.sqrt(kept) * MEANS[None]
    log_weight = -0.5 * (away**2).sum(-1) / variance
    weight = np.exp(log_weight - log_weight.max(1, keepdims=True))
    return np.sqrt(1.0 - kept) * np.einsum("nk,nkd->nd", weight / weight.sum(1, keepdims=True), away) / variance


def test_it_recovers_the_score_of_a_mixture_and_knows_the_good_actions_from_the_bad():
    """The outcome is 1 for the mixture and 0 for as many actions around the origin, which must not be in its score."""
    nets = tiny_nets(1, 2, critic_hidden=(48,), optimizer={"score": Adam(2e-3)})
    rng, method = np.random.default_rng(0), smac.METHOD.before
    good, bad = mixture(ROWS // 2, rng), 0.1 * rng.normal(size=(ROWS // 2, 2))
    none = np.zeros((ROWS, 1))
    rows = batch(none, np.concatenate([good, bad]), none[:, 0], none)
    rows = rows.replace(outcome=jnp.float32(jnp.arange(ROWS) < ROWS // 2))

    @jax.jit
    def learned(key):
        state = first_state(nets, method, identity(1), key)

        def draw(state, key, step):
            return jax.tree.map(lambda x: x[jax.random.randint(key, (1, 256), 0, ROWS)], rows)

        return train(nets, method, state, draw, lambda step: {}, 1500)[0]

    state = learned(KEY)
    kept = float(signal(jnp.int32(1)))
    x = np.sqrt(kept) * mixture(2000, rng) + np.sqrt(1 - kept) * rng.normal(size=(2000, 2))

    def cosine(x):
        given = (jnp.zeros((len(x), 1)), jnp.asarray(x, jnp.float32), jnp.ones(len(x)), jnp.ones(len(x), jnp.int32))
        found = np.asarray(nets.modules["score"].apply({"params": state.target["score"]}, *given))
        wanted = exact(x, kept)
        length = np.linalg.norm(found, axis=1), np.linalg.norm(wanted, axis=1)
        return np.mean((found * wanted).sum(1) / (length[0] * length[1])), np.median(length[0] / length[1])

    near, far = cosine(x), cosine(rng.uniform(-1, 1, (2000, 2)))
    assert near[0] > 0.95
    assert near[1] == pytest.approx(1.0, abs=0.3)
    assert far[0] > 0.9  # where the first step's noise never led, it goes by what the later steps taught
