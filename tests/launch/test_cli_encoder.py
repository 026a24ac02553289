"""`segue encoder ...`, as people use it."""

import json
import os
import pickle
import subprocess
import sys
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from encoders.pretrained import from_serl_params
from encoders.trunk import flattened, load_trunk, random_trunk, save_trunk
from tests.encoders.serl_network import serl_params
from tests.encoders.torch_models import torch_model, torchvision

ROOT = Path(__file__).parents[2]


@pytest.fixture
def run(segue, monkeypatch, tmp_path):
    """Runs a command in an empty folder: `(exit code, standard output, what was said of an error)`."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return partial(segue, "encoder")


@pytest.fixture
def weights(tmp_path) -> Path:
    torch.save(torch_model("resnet10").state_dict(), tmp_path / "weights.pth")
    return tmp_path / "weights.pth"


def nothing_is_left(folder: Path = Path()) -> bool:
    return list(folder.iterdir()) == []


def test_import_and_info_tell_of_the_same_trunk(run, weights):
    code, out, _ = run("import", "resnet10", "--weights", weights, "--json")
    told = json.loads(out)
    assert code == 0
    assert [p.name for p in Path().iterdir()] == [told["file"]] == ["resnet10.safetensors"]
    assert (told["parameters"], told["bytes"]) == (4_905_792, 4 * 4_905_792)
    assert (told["frame"], told["features"]) == ([128, 128, 3], [4, 4, 512])
    assert Path(told["file"]).stat().st_size > told["bytes"]
    code, out, _ = run("info", "resnet10.safetensors", "--json")
    facts = json.loads(out)
    assert code == 0
    assert told.items() <= facts.items()
    assert 0.1 < facts["frames_per_s"] < 1e6
    assert 0.01 < facts["two_frames_ms"] < 1e4
    code, out, _ = run("info", "resnet10.safetensors")
    assert code == 0
    assert "4 x 4 x 512" in out
    assert told["fingerprint"] in out


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("kind", ["jax", "numpy"])
def test_serls_pickle_is_read_whichever_arrays_it_holds(kind, protocol, run, tmp_path):
    """The published one holds jax's."""
    params = serl_params()
    arrays = jax.tree.map(jax.numpy.asarray, params) if kind == "jax" else params
    (tmp_path / "resnet10_params.pkl").write_bytes(pickle.dumps(arrays, protocol))
    code, _, said = run("import", "resnet10_serl", "--weights", tmp_path / "resnet10_params.pkl", "--out", "a")
    assert code == 0, said
    assert load_trunk(Path("a")).fingerprint == from_serl_params("resnet10_serl", params, "here").fingerprint


def test_a_file_that_is_there_is_kept(run, weights):
    Path("mine.safetensors").write_text("mine")
    code, out, said = run("import", "resnet10", "--weights", weights, "--out", "mine.safetensors")
    assert (code, out) == (2, "")
    assert "mine.safetensors: it is already there; give another name" in said
    assert Path("mine.safetensors").read_text() == "mine"
    code, _, said = run("import", "resnet10", "--weights", weights, "--out", "none/a.safetensors")
    assert (code, "make it first" in said) == (2, True)
    assert [p.name for p in Path().iterdir()] == ["mine.safetensors"]


class Runs:
    def __reduce__(self):
        return os.system, ("touch ran",)


def test_whatever_cannot_be_read_is_one_sentence_and_leaves_nothing(run, weights, tmp_path):
    (tmp_path / "bad.pkl").write_bytes(pickle.dumps({"conv_init": Runs()}))
    (tmp_path / "list.pkl").write_bytes(pickle.dumps([1]))
    (tmp_path / "cut.pth").write_bytes(weights.read_bytes()[:-1000])
    (tmp_path / "cut.safetensors").write_bytes(b"\x10" + bytes(20))
    (tmp_path / "weights.txt").touch()
    torch.save({"conv1.weight": Runs()}, tmp_path / "bad.pth")
    save_trunk(random_trunk("resnet10"), tmp_path / "trunk.safetensors")
    bare = {name: np.zeros(1, np.float32) for name in flattened(random_trunk("resnet10").params)}
    save_file(bare, tmp_path / "other.safetensors")
    for architecture, name, words in [
        ("resnet11", "weights.pth", "'resnet11' is unknown"),
        ("resnet18", "weights.pth", "layer1.1.conv1.weight is missing"),
        ("resnet10_serl", "weights.pth", "give SERL's pickle"),
        ("resnet10", "list.pkl", "holds a list"),
        ("resnet10", "none.pth", "there is none"),
        ("resnet10", "none.pkl", "there is none"),
        ("resnet10", "none.safetensors", "there is none"),
        ("resnet10", "cut.pth", "no archive"),
        ("resnet10", "cut.safetensors", "cannot be read"),
        ("resnet10", "weights.txt", "give a .pth of torch.save"),
        ("resnet10", "bad.pth", "posix.system"),
        ("resnet10_serl", "bad.pkl", "posix.system"),
        ("resnet10", "trunk.safetensors", "it is a trunk already"),
        ("resnet10", "other.safetensors", "conv1.weight is missing"),
    ]:
        code, out, said = run("import", architecture, "--weights", tmp_path / name)
        assert (code, out, said.count("\n")) == (2, "", 1), said
        assert words in said
        assert said.startswith("segue: ")
        assert ";" in said
        assert nothing_is_left()
    code, out, said = run("info", tmp_path / "other.safetensors")
    assert (code, out, said.count("\n")) == (2, "", 1)
    assert "it is a safetensors file of something else; import it first" in said


def test_names_that_torchvision_does_not_have_are_refused(run):
    torchvision()
    code, _, said = run("import", "resnet10", "--weights", "IMAGENET1K_V1")
    assert (code, "torchvision has no weights of resnet10; give a .pth" in said) == (2, True)
    code, _, said = run("import", "resnet50", "--weights", "IMAGENET1K_V9")
    assert (code, "torchvision has IMAGENET1K_V1, IMAGENET1K_V2, DEFAULT of resnet50" in said) == (2, True)
    assert nothing_is_left()


def test_a_download_that_fails_is_one_sentence(run, tmp_path, monkeypatch):
    """Every way to the net leads to a port where nobody listens."""
    torchvision()
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    code, out, said = run("import", "resnet18", "--weights", "IMAGENET1K_V1")
    assert (code, out) == (1, "")
    last = said.splitlines()[-1]
    assert last.startswith(
        "segue: --weights IMAGENET1K_V1: the download of https://download.pytorch.org/models/resnet18-"
    )
    assert "try again, or give a .pth" in last
    assert nothing_is_left()


def test_without_torch_files_are_read_and_names_say_what_to_install(weights, tmp_path):
    """In a process that can import neither."""
    absent = tmp_path / "absent"
    absent.mkdir()
    for name in ("torch", "torchvision"):
        (absent / f"{name}.py").write_text(f"raise ModuleNotFoundError({name!r})\n")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(absent), str(ROOT)])}

    def call(*arguments: str) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "launch.cli", "encoder", "import", *arguments]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    done = call("resnet10", "--weights", str(weights), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["architecture"] == "resnet10"
    done = call("resnet18", "--weights", "IMAGENET1K_V1")
    assert (done.returncode, done.stdout) == (2, "")
    assert "torchvision is not installed; `pip install torch torchvision`, or give a .pth" in done.stderr
    assert done.stderr.count("\n") == 1
