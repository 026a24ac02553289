"""The networks' shapes, and that they are told by name."""

import jax
import jax.numpy as jnp
import pytest

from encoders.resnet import ARCHITECTURES, ResNet, find_architecture, init_params
from encoders.trunk import weight_shapes

PARAMETERS = {
    "resnet10": 4_905_792,
    "resnet10_serl": 4_905_792,
    "resnet18": 11_176_512,  # torchvision's 11,689,512 without the classifier
    "resnet34": 21_284_672,
    "resnet50": 23_508_032,
}


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize(("side", "out"), [((32, 32), (1, 1)), ((128, 128), (4, 4)), ((33, 100), (2, 4))])
def test_the_map_is_a_thirty_second_of_the_picture(name, side, out):
    shapes = jax.eval_shape(
        lambda: ResNet(ARCHITECTURES[name]).apply({"params": init_params(name, 0)}, jnp.zeros((2, *side, 3)))
    )
    assert shapes.shape == (2, *out, ARCHITECTURES[name].channels)
    assert shapes.dtype == jnp.float32


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_there_are_as_many_weights_as_published(name):
    total = sum(jnp.zeros(shape).size for shape in weight_shapes(name).values())
    assert total == PARAMETERS[name]


def test_random_weights_are_those_of_their_seed():
    one, again, other = (init_params("resnet10", seed)["stem"]["conv"]["kernel"] for seed in (0, 0, 1))
    assert (one == again).all()
    assert not (one == other).any()
    assert one.dtype == "float32"
    assert abs(one.std() / (2.0 / (7 * 7 * 3)) ** 0.5 - 1.0) < 0.05


def test_an_unknown_name_is_refused_with_those_that_are_known():
    with pytest.raises(ValueError, match=r"'resnet101' is unknown; choose one of resnet10, .*resnet10_serl"):
        find_architecture("resnet101")
