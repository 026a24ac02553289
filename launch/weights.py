"""Published weights of image networks, from files and from torchvision, made into trunks."""

import hashlib
import importlib
import re
import sys
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from encoders.pretrained import from_serl_params, from_torch_state
from encoders.resnet import find_architecture
from encoders.trunk import FORMAT, Trunk
from launch.formats.pickles import load_pickle
from launch.formats.source import existing_file
from launch.formats.torch_file import load_torch

NAME = re.compile(r"[A-Z][A-Z0-9_]*")
KINDS = "a .pth of torch.save, a .safetensors of the same names, or SERL's .pkl"


def import_trunk(architecture: str, weights: str) -> Trunk:
    """A trunk of published weights.

    Args:
        architecture: see `encoders.resnet.ARCHITECTURES`.
        weights: a file that ends in .pth, .pt, .safetensors or .pkl, or what torchvision calls its weights, such as
            IMAGENET1K_V1, which are downloaded through it.

    Raises:
        ValueError: in one sentence, for an unknown name, a file that is not as it should be, or where torchvision is absent.
        RuntimeError: the download failed.
    """
    find_architecture(architecture)
    path = Path(weights)
    if reader := READERS.get(path.suffix):
        convert = from_serl_params if path.suffix == ".pkl" else from_torch_state
        arrays = reader(path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        return convert(architecture, arrays, f"{path.name}, SHA-256 {digest}")
    if not NAME.fullmatch(weights):
        raise ValueError(f"--weights {weights}: it is of no known kind; give {KINDS}, or a name such as IMAGENET1K_V1")
    return from_torch_state(architecture, *_fetched(architecture, weights))


def _serl_params(path: Path) -> Mapping[str, Any]:
    params = load_pickle(existing_file(path, "pickle"))
    if not isinstance(params, dict):
        raise ValueError(f"pickle {path}: it holds a {type(params).__name__}; give SERL's resnet10_params.pkl")
    return params


def _safetensors(path: Path) -> Mapping[str, np.ndarray]:
    where = f"safetensors file {existing_file(path, 'safetensors')}"
    try:
        with safe_open(path, framework="numpy") as file:
            if (file.metadata() or {}).get("format") == FORMAT:
                raise ValueError(f"{where}: it is a trunk already; use it as it is")
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (OSError, SafetensorError, TypeError) as error:  # numpy has no bfloat16
        raise ValueError(f"{where}: it cannot be read ({error}); give one of float32") from error


READERS: Mapping[str, Callable[[Path], Mapping[str, Any]]] = {
    ".pth": load_torch,
    ".pt": load_torch,
    ".safetensors": _safetensors,
    ".pkl": _serl_params,
}


def _fetched(architecture: str, name: str) -> tuple[dict[str, np.ndarray], str]:
    """Torchvision's state dict of that name, from its cache or from the net; and where it is from, in words."""
    where, files = f"--weights {name}", f"or give {KINDS}"
    try:
        torchvision = importlib.import_module("torchvision")
    except ImportError:
        raise ValueError(f"{where}: torchvision is not installed; `pip install torch torchvision`, {files}") from None
    except RuntimeError as error:  # two that were not built for each other
        raise ValueError(f"{where}: torchvision cannot be used ({error}); install the one for this torch") from error
    try:
        known = torchvision.models.get_model_weights(architecture)
    except ValueError:
        raise ValueError(f"{where}: torchvision has no weights of {architecture}; give {KINDS}") from None
    if name not in known.__members__:
        raise ValueError(f"{where}: torchvision has {', '.join(known.__members__)} of {architecture}; name one")
    chosen = known[name]
    try:
        with redirect_stdout(sys.stderr):  # it tells there of a download, and results are on standard output
            state = chosen.get_state_dict(progress=False, check_hash=True, weights_only=True, map_location="cpu")
    except (OSError, RuntimeError) as error:
        raise RuntimeError(f"{where}: the download of {chosen.url} failed ({error}); try again, {files}") from error
    source = f"torchvision {torchvision.__version__}, {known.__name__}.{chosen.name}"
    return {key: x.numpy() for key, x in state.items()}, source
