"""Frozen image networks: from camera frames to features that are computed once and kept."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open

from encoders.files import write_arrays
from encoders.resnet import ARCHITECTURES, STRIDE, ResNet, find_architecture, init_params, param_shapes

# torchvision's preprocessing of its ImageNet weights, of channels from 0 to 1; SERL's is the same.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
AT_ONCE = 64  # frames in one forward pass: more are no faster on a CPU, and take memory
FORMAT = "segue trunk 1"


@dataclass(frozen=True, eq=False)
class Trunk:
    """An image network with its weights.

    Attributes:
        architecture: its name, see `encoders.resnet.ARCHITECTURES`.
        params: its weights.
        source: where they are from, in words.
        mixtures: of its channels, random and orthonormal, so many are kept; 0 keeps the channels themselves.
    """

    architecture: str
    params: Mapping[str, Any] = field(repr=False)
    source: str
    mixtures: int = 0

    def __post_init__(self) -> None:
        channels = find_architecture(self.architecture).channels
        if not 0 <= self.mixtures <= channels:
            raise ValueError(
                f"trunk: {self.mixtures} mixtures of {self.architecture}'s {channels} channels; give at most so many, or 0"
            )

    @cached_property
    def fingerprint(self) -> str:
        """12 hex digits of architecture and weights: features of two trunks can be mixed only where it is the same."""
        digest = hashlib.sha256(self.architecture.encode())
        for name, x in sorted(flattened(self.params).items()):
            digest.update(name.encode() + np.ascontiguousarray(x, np.float32).tobytes())
        return digest.hexdigest()[:12]

    @property
    def name(self) -> str:
        """For messages and files."""
        return f"{self.architecture}-{self.fingerprint}" + (f"-{self.mixtures}" if self.mixtures else "")

    def feature_shape(self, frame_shape: tuple[int, ...]) -> tuple[int, int, int]:
        """Of a frame `(H, W, 3)`. Raises `ValueError` where it is too small."""
        height, width = frame_shape[:2]
        if len(frame_shape) != 3 or frame_shape[2] != 3 or min(height, width) < STRIDE:
            raise ValueError(
                f"frame: its shape is {frame_shape}; give height, width of at least {STRIDE}, and 3 channels"
            )
        channels = self.mixtures or find_architecture(self.architecture).channels
        return -(-height // STRIDE), -(-width // STRIDE), channels

    def encode(self, frames: np.ndarray) -> np.ndarray:
        """Features `(N, h, w, C)` float16 of frames `(N, H, W, 3)` uint8; a few at once, so that memory stays bounded."""
        if frames.dtype != np.uint8 or frames.ndim != 4:
            raise ValueError(f"frames: they are {frames.dtype} {frames.shape}; give uint8 (N, height, width, 3)")
        found = np.empty((len(frames), *self.feature_shape(frames.shape[1:])), np.float16)
        for start in range(0, len(frames), AT_ONCE):
            part = frames[start : start + AT_ONCE]
            size = min(AT_ONCE, 1 << (len(part) - 1).bit_length())  # few programs are compiled
            padded = np.concatenate([part, np.zeros((size - len(part), *part.shape[1:]), np.uint8)])
            found[start : start + len(part)] = np.asarray(
                _encode(self.architecture, self.mixtures, self.weights, padded)
            )[: len(part)]
        return found

    def apply(self, weights: Any, frames: jax.Array) -> jax.Array:
        """The same of frames `(B, H, W, 3)` on the device, with `weights` in hand; to be part of a larger program."""
        return _kept(self.architecture, self.mixtures, weights, frames)

    @cached_property
    def weights(self) -> Any:
        """On the device."""
        return jax.tree.map(jnp.asarray, dict(self.params))


def features(architecture: str, params: Any, frames: jax.Array) -> jax.Array:
    """Features `(B, h, w, C)` float32 of frames `(B, H, W, 3)`, 0 to 255, of any type; to be part of a larger program."""
    x = frames.astype(jnp.float32) / 255.0
    x = (x - jnp.asarray(MEAN)[None, None, None]) / jnp.asarray(STD)[None, None, None]
    return ResNet(find_architecture(architecture)).apply({"params": params}, x)  # type: ignore[return-value]


def _kept(architecture: str, mixtures: int, params: Any, frames: jax.Array) -> jax.Array:
    """What is kept of frames `(B, H, W, 3)`, as float16; large numbers as the largest there are."""
    x, most = features(architecture, params, frames), float(jnp.finfo(jnp.float16).max)
    if mixtures:
        # Orthonormal columns keep distances well (Johnson and Lindenstrauss 1984).
        x = x @ np.linalg.qr(np.random.default_rng(0).standard_normal((x.shape[-1], mixtures)))[0].astype(np.float32)
    return jnp.clip(x, -most, most).astype(jnp.float16)


_encode = jax.jit(_kept, static_argnums=(0, 1))


def random_trunk(architecture: str, seed: int = 0) -> Trunk:
    """A trunk of random weights, the same for the same seed. Raises `ValueError` for an unknown architecture."""
    return Trunk(architecture, init_params(architecture, seed), f"random weights, seed {seed}")


def save_trunk(trunk: Trunk, path: Path) -> None:
    """Writes a safetensors file, whole or not at all."""
    about = {"format": FORMAT, "architecture": trunk.architecture, "source": trunk.source}
    write_arrays({name: np.asarray(x, np.float32) for name, x in flattened(trunk.params).items()}, path, about)


def load_trunk(path: Path) -> Trunk:
    """The trunk in a file that `save_trunk` wrote. Raises `ValueError` in one sentence for anything else."""
    try:
        with path.open("rb"):  # what is no file has a name for what it is
            pass
        with safe_open(path, framework="numpy") as file:
            about = file.metadata() or {}
            if about.get("format") != FORMAT:
                raise ValueError(f"trunk {path}: it is a safetensors file of something else; import it first")
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except FileNotFoundError:
        raise ValueError(f"trunk {path}: there is no such file; make one with `segue encoder import`") from None
    except (OSError, SafetensorError, TypeError) as error:
        raise ValueError(f"trunk {path} cannot be read ({error}); make it again with `segue encoder import`") from error
    architecture = about.get("architecture", "")
    if architecture not in ARCHITECTURES:
        raise ValueError(f"trunk {path}: it is of architecture {architecture!r}, which is unknown; import it again")
    check_weights(path, architecture, arrays)
    return Trunk(architecture, unflattened(arrays), about.get("source", "not told"))


def trunk_from(text: str) -> Trunk:
    """The trunk that a text names: `ARCHITECTURE@SEED`, such as `resnet10@0`, for random weights, else a trunk's file.

    Raises:
        ValueError: in one sentence.
    """
    architecture, at, seed = text.rpartition("@")
    if not at or Path(text).exists():
        return load_trunk(Path(text))
    if not (seed.isascii() and seed.isdigit()) or int(seed) >= 2**32:
        raise ValueError(f"encoder {text!r}: seed {seed!r} is no whole number below 2^32; give one, as in resnet10@0")
    return random_trunk(architecture, int(seed))


def check_weights(path: Path, architecture: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Raises `ValueError` that names the first weight that is missing, left over, of another kind or not finite."""
    wanted = weight_shapes(architecture)
    for name in sorted({*wanted, *arrays}):
        want = f"float32 {wanted[name]}" if name in wanted else "none"
        have = f"{arrays[name].dtype} {arrays[name].shape}" if name in arrays else "absent"
        if want != have:
            raise ValueError(f"trunk {path}: {name} is {have}, {architecture} wants {want}; import it again")
        if not np.isfinite(arrays[name]).all():
            raise ValueError(f"trunk {path}: {name} holds numbers that are not finite; import it again")


def weight_shapes(architecture: str) -> dict[str, tuple[int, ...]]:
    """Of all weights by path. Raises `ValueError` for an unknown architecture."""
    return {path: x.shape for path, x in flattened(param_shapes(architecture)).items()}


def flattened(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Leaves by path, `stem/conv/kernel`."""
    found: dict[str, Any] = {}
    for name, x in tree.items():
        found |= flattened(x, f"{prefix}{name}/") if isinstance(x, Mapping) else {f"{prefix}{name}": x}
    return found


def unflattened(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """The tree whose leaves lie at those paths."""
    tree: dict[str, Any] = {}
    for path, x in leaves.items():
        *folders, name = path.split("/")
        inner = tree
        for folder in folders:
            inner = inner.setdefault(folder, {})
        inner[name] = x
    return tree


__all__ = ["Trunk", "features", "load_trunk", "random_trunk", "save_trunk", "trunk_from"]
