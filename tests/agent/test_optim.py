"""Muon: every kernel's step is orthogonal, member by member of an ensemble; all else goes by Adam."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from agent.adopt import init_group
from agent.optim import Adam, Muon
from tests.agent.tiny import tiny_nets

RATE = 0.1
NETS = tiny_nets(6, 3, actor_hidden=(16,), critic_hidden=(16, 8))
QUICK = {"xla_backend_optimization_level": 0}


def uneven(shape, rng):
    """A gradient whose singular values lie a factor of 20 apart, and which differs in size from member to member."""
    rows = np.geomspace(1.0, 20.0, shape[-2])[:, None] if len(shape) > 1 else 1.0
    size = np.geomspace(1e-3, 1e3, shape[0]).reshape(-1, 1, 1) if len(shape) > 2 else 1.0
    return jnp.asarray(size * rows * rng.normal(size=shape), jnp.float32)


def first_step(transformation, params):
    """The update from zero momentum."""
    rng = np.random.default_rng(0)
    gradient = jax.tree.map(lambda x: uneven(x.shape, rng), params)
    step = lambda params, g: transformation.update(g, transformation.init(params), params)[0]  # noqa: E731
    return jax.jit(step, compiler_options=QUICK)(params, gradient)


def spread(matrix):
    """The largest singular value over the smallest."""
    values = np.linalg.svd(matrix, compute_uv=False)
    return values[0] / values[-1]


@pytest.mark.parametrize("group", ["critic", "actor", "alpha"])
def test_the_kernels_of_a_network_move_orthogonally_and_all_else_by_adam(group):
    params = jax.eval_shape(lambda: init_group(NETS, group, jax.random.key(0)))
    params = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), params)
    muon = first_step(Muon(RATE).transformation(), params)
    kernels = 0
    for path, step in jax.tree_util.tree_leaves_with_path(muon):
        if "kernel" not in path[-1].key:
            assert np.allclose(np.abs(step), np.abs(step).max(), rtol=1e-3)  # Adam's first step: the gradient's signs
            continue
        kernels += 1
        *_, rows, columns = step.shape
        for member in step.reshape(-1, rows, columns):
            values = np.linalg.svd(member, compute_uv=False) / RATE / max(1.0, columns / rows) ** 0.5
            assert ((values > 0.6) & (values < 1.3)).all()  # Newton and Schulz's five rounds reach 0.7 to 1.2
    assert kernels == {"critic": 3, "actor": 3, "alpha": 3}[group]


def test_without_dimension_numbers_an_ensemble_s_kernels_would_fall_to_adam():
    params = {"kernel_0": jnp.zeros((3, 8, 8)), "bias_0": jnp.zeros((3, 8))}
    ours, plain = (first_step(t, params) for t in (Muon(RATE).transformation(), optax.contrib.muon(RATE)))
    assert max(spread(member) for member in ours["kernel_0"]) < 2.0
    assert min(spread(member) for member in plain["kernel_0"]) > 4.0
    assert np.allclose(np.abs(plain["kernel_0"]), np.abs(plain["kernel_0"]).max(), rtol=1e-3)
    assert spread(plain["bias_0"]) < 2.0  # and its biases would be made orthogonal across the members
    assert np.allclose(np.abs(ours["bias_0"]), np.abs(ours["bias_0"]).max(), rtol=1e-3)


def test_a_member_s_step_does_not_depend_on_the_others():
    params = {"kernel_0": jnp.zeros((3, 6, 4))}
    together = first_step(Muon(RATE).transformation(), params)["kernel_0"]
    rng = np.random.default_rng(0)
    gradient = uneven((3, 6, 4), rng)
    muon = Muon(RATE).transformation()
    for i in range(3):
        alone = {"kernel": gradient[i]}
        step = jax.jit(lambda g: muon.update(g, muon.init(g), g)[0], compiler_options=QUICK)(alone)["kernel"]
        np.testing.assert_allclose(together[i], step, rtol=1e-3, atol=1e-5)


def test_a_description_says_whether_moments_can_be_shared():
    assert Muon(1e-3) == Muon(1e-3)
    assert Muon(1e-3) != Adam(1e-3)
    with pytest.raises(ValueError, match=r"muon: learning_rate is 0\.0; give a positive number"):
        Muon(0.0)
