"""The text that names a trunk."""

import pytest

from encoders.trunk import random_trunk, save_trunk, trunk_from


def test_random_weights_by_architecture_and_seed_or_a_file(tmp_path, monkeypatch):
    named = trunk_from("resnet10@3")
    assert named.fingerprint == random_trunk("resnet10", 3).fingerprint != trunk_from("resnet10@4").fingerprint
    monkeypatch.chdir(tmp_path)
    for name in ("mine.safetensors", "mine@home.safetensors"):
        save_trunk(named, tmp_path / name)
        assert trunk_from(name).fingerprint == named.fingerprint


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("resnet11@0", "architecture 'resnet11' is unknown"),
        ("resnet10@", "seed '' is no whole number"),
        ("resnet10@-1", "seed '-1' is no whole number"),
        ("resnet10@4294967296", "below 2"),
        ("resnet10@١", "is no whole number"),
        ("nowhere.safetensors", "there is no such file"),
        ("", "trunk . cannot be read"),
    ],
)
def test_what_names_no_trunk_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        trunk_from(text)
