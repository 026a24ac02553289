"""A classifier's file: written whole, read back, and refused where it does not fit."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from scipy.special import expit

from encoders.classifier import (
    FILE,
    About,
    Classifier,
    HeadShape,
    encode,
    head_logits,
    init_params,
    load_classifier,
    read_classifier,
    save_classifier,
)
from encoders.classifier_scores import Counts
from encoders.trunk import Trunk, random_trunk

SHAPE = HeadShape(bottleneck=4)
CAMERAS = {"left": (32, 64, 3), "right": (32, 64, 3)}


@pytest.fixture(scope="module")
def trunk() -> Trunk:
    return random_trunk("resnet10", 0)


@pytest.fixture(scope="module")
def classifier(trunk) -> Classifier:
    about = About(
        task="peg",
        cameras=tuple(CAMERAS),
        frame_shape=(32, 64, 3),
        trunk=trunk.name,
        fingerprint=trunk.fingerprint,
        threshold=0.8,
        temperature=1.5,
        consecutive=2,
        provenance="a test",
        held_out=Counts(9, 1, 0, 10),
        head=SHAPE,
    )
    return Classifier(about, init_params(SHAPE, 3, (2, *trunk.feature_shape((32, 64, 3)))))


@pytest.fixture
def file(classifier, tmp_path):
    save_classifier(classifier, tmp_path / FILE)
    return tmp_path / FILE


def frames(count=4):
    rng = np.random.default_rng(0)
    return {name: rng.integers(0, 256, (count, *shape), np.uint8) for name, shape in CAMERAS.items()}


def rewritten(file, **told):
    """The file with parts of what it tells of itself changed."""
    with safe_open(file, framework="numpy") as opened:
        metadata = opened.metadata()
    about = json.loads(metadata["about"]) | told
    save_file(load_file(file), file, metadata={**metadata, "about": json.dumps(about)})
    return file


def test_what_was_saved_is_what_is_loaded(classifier, trunk, file):
    for path in (file, file.parent):
        loaded = load_classifier(path, trunk, CAMERAS)
        assert loaded.about == classifier.about
        features = encode(trunk, frames(), loaded.about.cameras)
        assert features.shape == (4, 2, 1, 2, 512)
        np.testing.assert_array_equal(loaded.scores(features), classifier.scores(features))
    assert [p.name for p in file.parent.iterdir()] == [FILE]


def test_members_judge_together_and_the_temperature_cools(classifier, trunk):
    features = encode(trunk, frames(), classifier.about.cameras)
    each = head_logits(SHAPE, classifier.params, features)
    assert each.shape == (3, 4)
    assert np.ptp(each, axis=0).min() > 0
    np.testing.assert_allclose(classifier.scores(features), expit(each.mean(0) / 1.5), rtol=1e-5)
    one_by_one = np.concatenate([classifier.logits(features[i : i + 1]) for i in range(4)])
    np.testing.assert_allclose(one_by_one, classifier.logits(features), rtol=1e-3, atol=1e-4)


def test_cameras_are_told_apart(classifier, trunk):
    seen = frames()
    swapped = {"left": seen["right"], "right": seen["left"]}
    one, other = (classifier.logits(encode(trunk, f, classifier.about.cameras)) for f in (seen, swapped))
    assert np.abs(one - other).max() > 1e-3


def test_another_encoder_is_refused_by_both_names(trunk, file):
    other = random_trunk("resnet10", 1)
    with pytest.raises(ValueError, match=f"trained on features of encoder {trunk.name}, these are of {other.name}"):
        load_classifier(file, other, CAMERAS)


@pytest.mark.parametrize(
    ("cameras", "told"),
    [
        ({"left": (32, 64, 3)}, "left"),
        ({"right": (32, 64, 3), "left": (32, 64, 3)}, "right, left"),
        ({**CAMERAS, "top": (32, 64, 3)}, "left, right, top"),
        ({}, "none"),
    ],
)
def test_other_cameras_are_refused_by_name(trunk, file, cameras, told):
    with pytest.raises(ValueError, match=f"trained on the cameras left, right, these are {told};"):
        load_classifier(file, trunk, cameras)


def test_frames_of_another_size_are_refused_by_their_camera(trunk, file):
    with pytest.raises(ValueError, match=r"frames of \(32, 64, 3\), those of camera 'right' are \(64, 64, 3\)"):
        load_classifier(file, trunk, {**CAMERAS, "right": (64, 64, 3)})


@pytest.mark.parametrize("held_out", [None, asdict(Counts(0, 0, 5, 5))])
def test_one_of_which_nobody_knows_the_precision_is_no_reward(trunk, file, held_out):
    rewritten(file, held_out=held_out)
    assert read_classifier(file).about.precision is None
    with pytest.raises(ValueError, match="no held-out precision"):
        load_classifier(file, trunk, CAMERAS)


def test_what_is_missing_or_damaged_is_refused_in_one_sentence(trunk, file, tmp_path):
    with pytest.raises(ValueError, match="there is no such file; make one with `segue classifier train`"):
        load_classifier(tmp_path / "nothing", trunk, CAMERAS)
    whole = file.read_bytes()
    for part in (b"", whole[:100], whole[:-10], b"\xff" * 100):
        file.write_bytes(part)
        with pytest.raises(ValueError, match=r"cannot be read \(") as told:
            load_classifier(file, trunk, CAMERAS)
        assert "\n" not in str(told.value)
    save_file({"x": np.zeros(3, np.float32)}, file)
    with pytest.raises(ValueError, match="something else"):
        load_classifier(file, trunk, CAMERAS)


@pytest.mark.parametrize(
    "told",
    [
        {"threshold": 1.5},
        {"threshold": None},
        {"temperature": 0.0},
        {"consecutive": 0},
        {"cameras": None},
        {"surplus": 1},
        {"head": {"width": 3}},
        {"held_out": {"true_positives": 3}},
    ],
)
def test_a_file_that_tells_nonsense_of_itself_is_refused(file, told):
    with pytest.raises(ValueError, match="cannot be read"):
        read_classifier(rewritten(file, **told))


def test_weights_of_other_shapes_or_not_finite_are_refused(trunk, classifier, file):
    rewritten(file, head=asdict(replace(SHAPE, bottleneck=5)))
    with pytest.raises(ValueError, match="not of the shapes"):
        load_classifier(file, trunk, CAMERAS)
    bad = {**classifier.params, "mean": np.full_like(classifier.params["mean"], np.nan)}
    save_classifier(Classifier(classifier.about, bad), file)
    with pytest.raises(ValueError, match="mean holds numbers that are not finite"):
        load_classifier(file, trunk, CAMERAS)
