"""What is made of maps of features, beside a plain double loop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from encoders.spatial import Encoder, SpatialEmbeddings, SpatialSoftmax, Vision

MAP = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype(np.float32)


def test_spatial_embeddings_are_weighted_sums_over_the_map():
    module = SpatialEmbeddings(2)
    params = module.init(jax.random.key(0), MAP)
    kernel = np.asarray(params["params"]["kernel"])
    found = np.asarray(module.apply(params, MAP)).reshape(2, 5, 2)
    for b, c, k in np.ndindex(2, 5, 2):
        wanted = sum(MAP[b, i, j, c] * kernel[i, j, c, k] for i in range(3) for j in range(4))
        assert found[b, c, k] == pytest.approx(wanted, rel=1e-4, abs=1e-5)


def test_the_spatial_softmax_finds_a_peak():
    peaked = np.zeros((1, 3, 4, 2), np.float32)
    peaked[0, 2, 0, 0] = peaked[0, 0, 3, 1] = 100.0
    module = SpatialSoftmax()
    found = np.asarray(module.apply(module.init(jax.random.key(0), peaked), peaked)).reshape(2, 2)
    np.testing.assert_allclose(found, [[1.0, -1.0], [-1.0, 1.0]], atol=1e-5)


def test_a_flat_map_has_its_softmax_in_the_middle():
    module, flat = SpatialSoftmax(), jnp.ones((1, 3, 5, 2))
    found = module.apply(module.init(jax.random.key(0), flat), flat)
    np.testing.assert_allclose(found, np.zeros((1, 4)), atol=1e-6)


@pytest.mark.parametrize("pooling", ["embeddings", "softmax"])
def test_the_encoder_puts_vectors_first_and_squeezes_each_camera(pooling):
    module = Encoder(Vision(pooling=pooling, bottleneck=3), ("a", "b"))
    obs = {"a": jnp.asarray(MAP), "b": jnp.asarray(MAP[::-1]), "state": jnp.ones((2, 2)), "force": jnp.zeros((2, 1))}
    params = module.init(jax.random.key(0), obs)
    found = np.asarray(module.apply(params, obs))
    assert found.shape == (2, 3 + 2 * 3)
    np.testing.assert_array_equal(found[:, :3], [[0.0, 1.0, 1.0]] * 2)
    assert (abs(found) <= 1.0).all()
    swapped = np.asarray(module.apply(params, {**obs, "a": obs["b"], "b": obs["a"]}))
    assert (found[:, 3:] != swapped[:, 3:]).all()  # each camera has weights of its own


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"pooling": "mean"}, "pooling is 'mean'"),
        ({"blocks": 0}, "blocks is 0"),
        ({"views": 9}, "views is 9; give 0 to 8"),
        ({"views": 1, "train_trunk": True}, "views are of a frozen trunk"),
        ({"mixtures": 64, "train_trunk": True}, "mixtures are of a frozen trunk"),
        ({"memory_mb": 0}, "memory_mb is 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong, words):
    with pytest.raises(ValueError, match=words):
        Vision(**wrong)
