"""Published weights become trunks: each array in its place, and whatever does not fit is named."""

from functools import cache

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from encoders.pretrained import from_serl_params, from_torch_state
from encoders.trunk import features, flattened, unflattened
from tests.encoders.serl_network import serl_features, serl_params
from tests.encoders.torch_models import torch_model


@cache
def whole() -> dict[str, np.ndarray]:
    return {name: x.numpy() for name, x in torch_model("resnet10").state_dict().items()}


@cache
def serl() -> dict:
    return serl_params()


def part_of_the_trunk(name: str) -> bool:
    return not name.startswith(("fc.", "output_head")) and "num_batches" not in name


def said(call, *arguments) -> str:
    with pytest.raises(ValueError) as refusal:  # noqa: PT011 - its words are looked at by whoever calls
        call(*arguments, "a test")
    words = str(refusal.value)
    assert "\n" not in words
    assert ";" in words
    return words


def test_serls_network_is_serls():
    """Even and odd sizes: SAME pads them differently, and never as PyTorch would."""
    trunk = from_serl_params("resnet10_serl", serl(), "a test")
    for shape in ((64, 64, 3), (45, 70, 3)):
        frame = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        wanted = serl_features(serl(), frame)
        (found,) = np.asarray(jax.jit(features, static_argnums=0)("resnet10_serl", trunk.params, frame[None]))
        assert found.shape == wanted.shape == trunk.feature_shape(shape)
        assert np.abs(found - wanted).max() < 1e-4 * np.abs(wanted).max()
        assert wanted.std() > 0.05 * wanted.max()


def test_each_array_of_serls_file_is_asked_for_by_name():
    for path in filter(part_of_the_trunk, flattened(serl())):
        without = {p: x for p, x in flattened(serl()).items() if p != path}
        assert f"{path} is missing" in said(from_serl_params, "resnet10_serl", unflattened(without))


def test_serls_file_has_the_size_of_the_published_one():
    """Its 36 arrays without the classifier are 4,905,792 numbers."""
    leaves = flattened(from_serl_params("resnet10_serl", serl(), "a test").params)
    assert (len(leaves), sum(x.size for x in leaves.values())) == (36, 4_905_792)


def test_the_classifier_may_be_absent():
    bare = {name: x for name, x in whole().items() if part_of_the_trunk(name)}
    one, other = (from_torch_state("resnet10", state, "a test") for state in (whole(), bare))
    assert one.fingerprint == other.fingerprint
    headless = {name: x for name, x in serl().items() if name != "output_head"}
    one, other = (from_serl_params("resnet10_serl", params, "a test") for params in (serl(), headless))
    assert one.fingerprint == other.fingerprint


def test_halves_and_doubles_are_taken_too():
    double = from_torch_state("resnet10", {n: x.astype(np.float64) for n, x in whole().items()}, "a test")
    assert double.fingerprint == from_torch_state("resnet10", whole(), "a test").fingerprint
    half = from_torch_state("resnet10", {n: x.astype(np.float16) for n, x in whole().items()}, "a test")
    assert all(x.dtype == np.float32 for x in flattened(half.params).values())


@settings(max_examples=25)
@given(st.sampled_from(["missing", "shape", "whole", "nan", "renamed"]), st.data())
def test_whatever_is_wrong_is_named(wrong, draws):
    name = draws.draw(st.sampled_from(sorted(filter(part_of_the_trunk, whole()))))
    state, x = dict(whole()), whole()[name]
    if wrong in ("missing", "renamed"):
        del state[name]
        state |= {"module." + name: x} if wrong == "renamed" else {}
    elif wrong == "shape":
        state[name] = draws.draw(st.sampled_from([x[:-1], x[None], x.reshape(-1)[:0]]))
    elif wrong == "whole":
        state[name] = x.astype(np.int32)
    else:
        state[name] = x.copy()
        state[name].flat[draws.draw(st.integers(0, x.size - 1))] = draws.draw(st.sampled_from([np.nan, np.inf]))
    assert name in said(from_torch_state, "resnet10", state)


def test_what_is_left_over_is_named():
    assert "layer1.0.se.weight is left over" in said(
        from_torch_state, "resnet10", {**whole(), "layer1.0.se.weight": np.zeros(3, np.float32)}
    )
    assert "layer1.1.conv1.weight is missing" in said(from_torch_state, "resnet18", whole())
    assert "layer1.0.conv1.weight is (64, 64, 3, 3), not (64, 64, 1, 1)" in said(from_torch_state, "resnet50", whole())
    deeper = {name: x.numpy() for name, x in torch_model("resnet18").state_dict().items()}
    assert "layer1.1." in said(from_torch_state, "resnet10", deeper)
    assert "Dense_0/kernel is left over" in said(
        from_serl_params, "resnet10_serl", {**serl(), "Dense_0": {"kernel": np.zeros((2, 2), np.float32)}}
    )
    nested = said(from_serl_params, "resnet10_serl", {"params": serl()})
    assert "/kernel is missing, and there is params/" in nested
    assert "is missing, and there is 1/2" in said(from_serl_params, "resnet10_serl", {1: {2: None}})


def test_statistics_that_no_batch_norm_has_are_refused():
    state = {**whole(), "bn1.running_var": -whole()["bn1.running_var"]}
    assert "bn1.running_var is negative" in said(from_torch_state, "resnet10", state)
    state = {**whole(), "bn1.weight": np.full(64, 3e38, np.float32), "bn1.running_var": np.zeros(64, np.float32)}
    assert "stem/norm/scale is too large" in said(from_torch_state, "resnet10", state)


def test_weights_of_the_other_publisher_are_refused():
    assert "SERL's pickle" in said(from_torch_state, "resnet10_serl", whole())
    assert "resnet10_serl" in said(from_serl_params, "resnet10", serl())
    for call in (from_torch_state, from_serl_params):
        assert "resnet34" in said(call, "resnet101", {})
