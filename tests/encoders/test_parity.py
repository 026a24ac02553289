"""Our networks against torchvision's own, through the files and the command that people use."""

import json

import jax
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from encoders.trunk import features, load_trunk
from launch.cli_encoder import encoder
from tests.encoders.torch_models import DEPTHS, torch_features, torch_model, torchvision

TOLERANCE = 1e-4  # of the largest feature, and in the mean square; measured: below 5e-6


def imported(capsys, *arguments) -> dict:
    encoder.cli(prog="segue encoder", args=["import", *map(str, arguments), "--json"])
    return json.loads(capsys.readouterr().out)


def assert_same_features(architecture, model, frames, params):
    wanted = torch_features(model, frames)
    found = np.asarray(jax.jit(features, static_argnums=0)(architecture, params, frames))
    assert found.shape == wanted.shape
    assert wanted.std() > 0.01 * wanted.max()
    assert np.abs(found - wanted).max() <= TOLERANCE * np.abs(wanted).max()
    assert np.linalg.norm(found - wanted) <= TOLERANCE * np.linalg.norm(wanted)
    for one, other in zip(found, wanted, strict=True):  # no picture hides behind another
        assert np.abs(one - other).max() <= TOLERANCE * np.abs(other).max()


@pytest.mark.parametrize("architecture", DEPTHS)
def test_features_are_torchvisions(architecture, tmp_path, capsys):
    model = torch_model(architecture)
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    trunks = []
    for kind in ("pth", "safetensors"):
        out = tmp_path / f"trunk_{kind}.safetensors"
        told = imported(capsys, architecture, "--weights", tmp_path / f"weights.{kind}", "--out", out)
        assert told["architecture"] == architecture
        assert told["source"].startswith(f"weights.{kind}, SHA-256 ")
        trunks.append(load_trunk(out))
    assert trunks[0].fingerprint == trunks[1].fingerprint == told["fingerprint"]
    frames = np.random.default_rng(0).integers(0, 256, (2, 128, 128, 3), np.uint8)
    assert_same_features(architecture, model, frames, trunks[0].params)


def test_features_of_pictures_of_odd_sizes_are_torchvisions(tmp_path, capsys):
    model = torch_model("resnet10", seed=1)
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    imported(capsys, "resnet10", "--weights", tmp_path / "weights.pth", "--out", tmp_path / "trunk.safetensors")
    trunk = load_trunk(tmp_path / "trunk.safetensors")
    for height, width in ((65, 50), (33, 96), (32, 127)):
        frames = np.random.default_rng(height).integers(0, 256, (1, height, width, 3), np.uint8)
        assert_same_features("resnet10", model, frames, trunk.params)


@pytest.mark.parametrize("part", ["weight", "bias", "running_mean", "running_var"])
def test_the_comparison_would_see_a_batch_norm_that_is_folded_wrong(part, tmp_path, capsys):
    model = torch_model("resnet10")
    state = model.state_dict()
    changed = state["layer3.0.bn1." + part].clone()
    changed[7] += 0.5
    torch.save({**state, "layer3.0.bn1." + part: changed}, tmp_path / "weights.pth")
    imported(capsys, "resnet10", "--weights", tmp_path / "weights.pth", "--out", tmp_path / "trunk.safetensors")
    frames = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), np.uint8)
    with pytest.raises(AssertionError):
        assert_same_features("resnet10", model, frames, load_trunk(tmp_path / "trunk.safetensors").params)


def test_weights_that_torchvision_names_are_asked_of_torchvision(tmp_path, capsys, monkeypatch):
    """Its cache holds a file of the name that it looks for, so nothing is downloaded."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    model = torch_model("resnet18")
    address = torchvision().models.ResNet18_Weights.IMAGENET1K_V1.url
    kept = tmp_path / "cache" / "hub" / "checkpoints" / address.rsplit("/", 1)[1]
    kept.parent.mkdir(parents=True)
    torch.save(model.state_dict(), kept)
    told = imported(capsys, "resnet18", "--weights", "IMAGENET1K_V1", "--out", tmp_path / "trunk.safetensors")
    assert "ResNet18_Weights.IMAGENET1K_V1" in told["source"]
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    again = imported(capsys, "resnet18", "--weights", tmp_path / "weights.pth", "--out", tmp_path / "2.safetensors")
    assert told["fingerprint"] == again["fingerprint"]
