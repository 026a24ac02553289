"""Frozen networks: what they are told by, what they make of frames, and the file that holds them."""

import json
import struct
from dataclasses import replace
from functools import cache

import jax
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from encoders.resnet import ARCHITECTURES
from encoders.trunk import FORMAT, Trunk, features, flattened, load_trunk, random_trunk, save_trunk, unflattened

ABOUT = {"format": FORMAT, "architecture": "resnet10", "source": "a test"}


@cache
def trunk() -> Trunk:
    return random_trunk("resnet10")


def frames(count: int, seed: int = 0, side: tuple[int, int] = (32, 32)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *side, 3), np.uint8)


@settings(max_examples=20)
@given(st.data())
def test_the_fingerprint_changes_with_any_weight(draws):
    leaves = flattened(trunk().params)
    name = draws.draw(st.sampled_from(sorted(leaves)))
    x = np.array(leaves[name])
    place = draws.draw(st.integers(0, x.size - 1))
    x.flat[place] = np.nextafter(x.flat[place], np.float32(np.inf))
    changed = replace(trunk(), params=unflattened({**leaves, name: x}))
    assert changed.fingerprint != trunk().fingerprint
    assert len(changed.fingerprint) == 12


def test_the_fingerprint_is_of_weights_and_architecture_and_of_nothing_else():
    shuffled = dict(reversed(list(flattened(trunk().params).items())))
    assert replace(trunk(), params=unflattened(shuffled), source="elsewhere").fingerprint == trunk().fingerprint
    assert replace(trunk(), architecture="resnet18").fingerprint != trunk().fingerprint
    assert random_trunk("resnet10").fingerprint == trunk().fingerprint
    assert random_trunk("resnet10", 1).fingerprint != trunk().fingerprint
    assert trunk().name == f"resnet10-{trunk().fingerprint}"


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_trunk_comes_back_from_its_file(architecture, tmp_path):
    made = random_trunk(architecture, 3)
    save_trunk(made, tmp_path / "new" / "trunk.safetensors")
    found = load_trunk(tmp_path / "new" / "trunk.safetensors")
    assert (found.architecture, found.source, found.fingerprint) == (architecture, made.source, made.fingerprint)
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["trunk.safetensors"]


def test_what_is_encoded_is_the_forward_pass_of_each_frame_however_many_there_are():
    forward = jax.jit(features, static_argnums=0)
    every = frames(67)  # 64 in one program, and 3 in one for 4
    alone = np.concatenate([np.asarray(forward("resnet10", trunk().params, frame[None])) for frame in every])
    whole = trunk().encode(every)
    assert whole.dtype == np.float16
    assert whole.shape == (67, *trunk().feature_shape((32, 32, 3))) == (67, 1, 1, 512)
    for count in (0, 1, 3, 64, 65, 67):
        assert trunk().encode(every[:count]).shape == (count, 1, 1, 512)
        np.testing.assert_allclose(trunk().encode(every[:count]), alone[:count], rtol=2e-3, atol=1e-4)
    assert len({row.tobytes() for row in whole}) == 67


def test_features_that_are_too_large_are_the_largest_of_float16():
    leaves = flattened(trunk().params)
    name = "stage_4_block_1/conv_2/norm/scale"
    huge = replace(trunk(), params=unflattened({**leaves, name: leaves[name] * np.float32(1e8)}))
    found = huge.encode(frames(2))
    assert np.isfinite(found).all()
    assert found.max() == np.finfo(np.float16).max


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (np.zeros((1, 32, 32, 3), np.float32), "they are float32"),
        (np.zeros((32, 32, 3), np.uint8), r"uint8 \(32, 32, 3\)"),
        (np.zeros((1, 32, 32, 4), np.uint8), r"\(32, 32, 4\)"),
        (np.zeros((1, 31, 32, 3), np.uint8), r"\(31, 32, 3\)"),
        (np.zeros((1, 3, 64, 64), np.uint8), r"\(3, 64, 64\)"),
    ],
)
def test_frames_of_another_kind_are_refused(bad, words):
    with pytest.raises(ValueError, match=words):
        trunk().encode(bad)


def refused(path) -> str:
    with pytest.raises(ValueError) as refusal:  # noqa: PT011 - its words are looked at by whoever calls
        load_trunk(path)
    said = str(refusal.value)
    assert said.startswith(f"trunk {path}")
    assert ";" in said
    assert "\n" not in said
    return said


@pytest.mark.parametrize(
    ("changes", "about", "words"),
    [
        ({"stem/conv/kernel": None}, {}, "stem/conv/kernel is absent"),
        ({"stem/conv/kernel": np.zeros((7, 7, 3, 32), np.float32)}, {}, "resnet10 wants float32 (7, 7, 3, 64)"),
        ({"stem/norm/scale": np.ones(64)}, {}, "is float64 (64,)"),
        ({"stem/norm/scale": np.full(64, np.nan, np.float32)}, {}, "not finite"),
        ({"stem/norm/scale": np.ones(64, ml_dtypes.bfloat16)}, {}, "stem/norm/scale is bfloat16"),
        ({"stem/conv": np.ones(1, np.float32)}, {}, "stem/conv is float32 (1,), resnet10 wants none"),
        ({}, {"architecture": "resnet18"}, "resnet18 wants"),
        ({}, {"architecture": "vgg"}, "'vgg', which is unknown"),
        ({}, {"architecture": None}, "'', which is unknown"),
        ({}, {"format": "pt"}, "of something else; import it first"),
        ({}, {"format": None}, "of something else"),
    ],
)
def test_a_file_of_something_else_is_refused(changes, about, words, tmp_path):
    arrays = {n: x for n, x in {**flattened(trunk().params), **changes}.items() if x is not None}
    told = {name: x for name, x in {**ABOUT, **about}.items() if x is not None}
    save_file(arrays, tmp_path / "trunk.safetensors", metadata=told)
    assert words in refused(tmp_path / "trunk.safetensors")


def test_what_is_no_file_is_refused(tmp_path):
    assert "no such file" in refused(tmp_path / "none")
    assert "Is a directory" in refused(tmp_path)
    (tmp_path / "empty").touch()
    refused(tmp_path / "empty")
    text = json.dumps({"__metadata__": ABOUT}).encode()
    (tmp_path / "bare").write_bytes(struct.pack("<Q", len(text)) + text)
    assert "is absent" in refused(tmp_path / "bare")


@cache
def saved(folder) -> bytes:
    save_trunk(trunk(), folder / "whole.safetensors")
    return (folder / "whole.safetensors").read_bytes()


@settings(max_examples=40)
@given(draws=st.data())
def test_a_damaged_file_is_refused_or_is_a_trunk(draws, tmp_path_factory):
    """Cut anywhere, or changed in its head: one sentence, or the same kind of trunk with another fingerprint."""
    folder = tmp_path_factory.getbasetemp()
    data = bytearray(saved(folder))
    path = folder / "damaged.safetensors"
    head = 8 + struct.unpack("<Q", data[:8])[0]
    if draws.draw(st.booleans()):
        path.write_bytes(data[: draws.draw(st.integers(0, len(data) - 1))])
        refused(path)
        return
    for place, value in draws.draw(st.lists(st.tuples(st.integers(0, head - 1), st.integers(0, 255)), max_size=3)):
        data[place] = value
    path.write_bytes(data)
    try:
        assert load_trunk(path).architecture in ARCHITECTURES
    except ValueError as error:
        assert str(error).startswith(f"trunk {path}")  # noqa: PT017 - any of many refusals
        assert "\n" not in str(error)  # noqa: PT017


def test_mixtures_keep_distances_and_say_so_in_the_name():
    frames = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), np.uint8)
    every, mixed = (replace(trunk(), mixtures=n) for n in (0, 128))
    assert mixed.feature_shape((32, 32, 3)) == (1, 1, 128)
    assert mixed.name == f"{every.name}-128"
    far, near = (x.encode(frames).astype(np.float32).reshape(6, -1) for x in (every, mixed))
    pairs = np.triu_indices(6, 1)
    ratio = np.linalg.norm(near[pairs[0]] - near[pairs[1]], axis=1) / np.linalg.norm(
        far[pairs[0]] - far[pairs[1]], axis=1
    )
    np.testing.assert_allclose(ratio, np.sqrt(128 / 512), rtol=0.25)  # as of random directions
    assert (near < 0).any()  # a mixture has both signs


@pytest.mark.parametrize("mixtures", [-1, 513])
def test_more_mixtures_than_channels_are_refused(mixtures):
    with pytest.raises(
        ValueError, match=rf"{mixtures} mixtures of resnet10's 512 channels; give at most so many, or 0"
    ):
        replace(trunk(), mixtures=mixtures)
