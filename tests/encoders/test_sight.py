"""What is kept of a picture: its shape, its size, and that it depends on the picture alone."""

from functools import cache

import numpy as np
import pytest

from encoders.sight import Sight
from encoders.spatial import Vision
from encoders.trunk import random_trunk

CAMERAS = {"left": (64, 32, 3), "right": (32, 32, 3)}


@cache
def trunk():
    return random_trunk("resnet10")


def pictures(count: int, seed: int = 0):
    rng = np.random.default_rng(seed)
    return {name: rng.integers(0, 256, (count, *shape), np.uint8) for name, shape in CAMERAS.items()}


@pytest.mark.parametrize("vision", [Vision(), Vision(views=2), Vision(train_trunk=True)])
def test_shapes_kinds_and_bytes_are_as_told(vision):
    sight = Sight(vision, CAMERAS, trunk())
    kept = sight.encode(pictures(3))
    assert {name: (x.dtype, x.shape[1:]) for name, x in kept.items()} == {
        name: (np.dtype(sight.dtype), shape) for name, shape in sight.shapes.items()
    }
    assert sum(x[0].nbytes for x in kept.values()) == sight.bytes_per_frame


def test_a_trunk_that_is_trained_gets_pictures_as_they_came():
    sight, came = Sight(Vision(train_trunk=True), CAMERAS, trunk()), pictures(2)
    for name, x in sight.encode(came).items():
        np.testing.assert_array_equal(x[:, 0], came[name])
    assert sight.statistics == {}
    assert sight.frozen_trunk is None


def test_views_depend_on_the_picture_alone():
    sight, came = Sight(Vision(views=2), CAMERAS, trunk()), pictures(3)
    together = sight.encode(came)
    for i in (2, 0):
        alone = sight.encode({name: x[i : i + 1] for name, x in came.items()})
        for name in CAMERAS:
            np.testing.assert_allclose(alone[name][0], together[name][i], rtol=2e-3, atol=2e-2)
    left = together["left"].astype(float)
    np.testing.assert_allclose(left[:, 0], trunk().encode(came["left"]), rtol=2e-3, atol=2e-2)
    assert (left[:, 1] != left[:, 0]).any()
    assert (left[:, 1] != left[:, 2]).any()
