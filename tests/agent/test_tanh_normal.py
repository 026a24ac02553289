"""The squashed normal against numeric integration and scipy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from agent.heads import MAX_STD, MIN_STD
from agent.tanh_normal import TanhNormal

log_prob = jax.jit(lambda mean, log_std, action: TanhNormal(mean, log_std).log_prob(action))
sample = jax.jit(lambda mean, log_std, key: TanhNormal(mean, log_std).sample(key))
sample_four = jax.jit(lambda mean, log_std, key: TanhNormal(mean, log_std).sample(key, 4))


def row(*numbers: float) -> jax.Array:
    return jnp.array([numbers], jnp.float32)


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (0.7, 0.4), (-1.0, 0.8)])
def test_the_density_integrates_to_one(mean, std):
    edges = np.tanh(np.linspace(-6.0, 6.0, 4001))
    middle, width = (edges[1:] + edges[:-1]) / 2, np.diff(edges)
    rows = len(middle)
    density = np.exp(
        log_prob(jnp.full((rows, 1), mean), jnp.full((rows, 1), np.log(std)), jnp.asarray(middle)[:, None])
    )
    assert np.sum(density * width) == pytest.approx(1.0, abs=1e-3)
    # The probability of a >= 0 is the normal's of z >= 0.
    assert np.sum((density * width)[middle > 0]) == pytest.approx(norm.sf(0.0, mean, std), abs=2e-3)


@given(mean=st.floats(-2, 2), log_std=st.floats(-2, 1), action=st.floats(-0.99, 0.99), other=st.floats(-0.99, 0.99))
def test_log_prob_is_the_change_of_variables(mean, log_std, action, other):
    z = np.arctanh(np.float64(np.float32([action, other])))
    by_scipy = np.sum(norm.logpdf(z, mean, np.exp(log_std)) - np.log1p(-(np.tanh(z) ** 2)))
    found = log_prob(row(mean, mean), row(log_std, log_std), row(action, other))
    assert found[0] == pytest.approx(by_scipy, rel=1e-3, abs=1e-3)


def test_samples_follow_the_law():
    mean, log_std = jnp.full((20_000, 1), 0.5), jnp.full((20_000, 1), np.log(0.5))
    action, _ = sample(mean, log_std, jax.random.key(3))
    z = np.arctanh(np.asarray(action))
    assert z.mean() == pytest.approx(0.5, abs=0.02)  # five standard errors: 5 * 0.5 / sqrt(20000) = 0.018
    assert z.std() == pytest.approx(0.5, abs=0.02)


def test_a_sample_brings_its_own_log_prob():
    mean, log_std = row(0.3, -0.2), row(-0.5, 0.1)
    for seed in range(5):
        action, density = sample(mean, log_std, jax.random.key(seed))
        np.testing.assert_allclose(density, log_prob(mean, log_std, action), rtol=1e-3)
        actions, densities = sample_four(mean, log_std, jax.random.key(seed))
        assert actions.shape == (4, 1, 2)
        assert len(np.unique(actions[..., 0])) == 4
        for action, density in zip(actions, densities, strict=True):
            np.testing.assert_allclose(density, log_prob(mean, log_std, action), rtol=1e-3)


def test_sampling_is_reparameterised():
    slope = jax.jit(jax.grad(lambda mean: TanhNormal(mean, row(-9.0)).sample(jax.random.key(0))[0].sum()))(row(0.5))
    assert slope[0, 0] == pytest.approx(1.0 - np.tanh(0.5) ** 2, rel=1e-3)


def test_the_mode_is_the_squashed_mean():
    np.testing.assert_allclose(TanhNormal(row(0.5, -9.0), row(0.0, 0.0)).mode(), np.tanh([[0.5, -9.0]]), rtol=1e-6)


@pytest.mark.parametrize("std", [MIN_STD, 1.0, MAX_STD])
@pytest.mark.parametrize("end", [-1.0, 1.0])
def test_the_ends_are_finite_with_their_gradients(std, end):
    def value(mean, log_std):
        return TanhNormal(mean, log_std).log_prob(row(end))[0]

    found, slopes = jax.jit(jax.value_and_grad(value, argnums=(0, 1)))(row(0.2), row(np.log(std)))
    assert np.isfinite(found)
    assert all(np.isfinite(slope).all() for slope in slopes)


@pytest.mark.parametrize("mean", [-100.0, 100.0])
def test_a_saturated_sample_keeps_a_finite_density(mean):
    action, density = sample(row(mean), row(np.log(MAX_STD)), jax.random.key(0))
    assert abs(action[0, 0]) <= 1.0
    assert np.isfinite(density).all()
