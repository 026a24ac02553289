"""Weights that others published, as trunks: torchvision's residual networks and SERL's ResNet-10.

Files are read elsewhere (`launch.weights`); here are the names and shapes of what they hold.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from encoders.resnet import find_architecture
from encoders.trunk import Trunk, flattened, unflattened, weight_shapes

EPSILON = 1e-5  # of torchvision's batch norms, whose place is in the code, not in the file
BATCH_NORM = ("weight", "bias", "running_mean", "running_var")
TORCH_HEAD = re.compile(r"fc\..*|(.*\.)?num_batches_tracked")  # the classifier, and a count that training needs
SERL_HEAD = re.compile(r"output_head/.*")
BLOCK = re.compile(r"stage_(\d+)_block_(\d+)/(conv_(\d)|shortcut)")
Arrays = Mapping[str, np.ndarray]


def from_torch_state(architecture: str, state: Arrays, source: str) -> Trunk:
    """A trunk of a state dict of `torchvision.models.resnet`, or of timm's networks of the same names.

    A batch norm becomes `scale = weight / sqrt(running_var + 1e-5)` and `shift = bias - running_mean * scale`; kernels are
    turned from `(out, in, height, width)` to `(height, width, in, out)`. The classifier `fc` is left out.

    Args:
        architecture: one with folded batch norms.
        state: arrays by name.
        source: where they are from, in words.

    Raises:
        ValueError: names the first array that is missing, left over, of another shape, or holds no proper numbers.
    """
    if find_architecture(architecture).norm != "folded":
        raise ValueError(
            f"{architecture}: its norms are no batch norms; give SERL's pickle, or name another architecture"
        )
    wanted = weight_shapes(architecture)
    names = {path: _torch_names(path) for path in _convolutions(wanted)}
    shapes: dict[str, tuple[int, ...]] = {}
    for path, (kernel, norm) in names.items():
        height, width, inside, outside = wanted[f"{path}/conv/kernel"]
        shapes[kernel] = (outside, inside, height, width)
        shapes |= {f"{norm}.{part}": (outside,) for part in BATCH_NORM}
    found = _checked(architecture, shapes, {n: x for n, x in state.items() if not TORCH_HEAD.fullmatch(n)})
    leaves: dict[str, np.ndarray] = {}
    for path, (kernel, norm) in names.items():
        weight, bias, mean, variance = (found[f"{norm}.{part}"].astype(np.float64) for part in BATCH_NORM)
        if variance.min() < 0.0:
            raise ValueError(f"weights of {architecture}: {norm}.running_var is negative; get the file again")
        scale = weight / np.sqrt(variance + EPSILON)
        leaves[f"{path}/conv/kernel"] = found[kernel].transpose(2, 3, 1, 0)
        leaves[f"{path}/norm/scale"], leaves[f"{path}/norm/shift"] = scale, bias - mean * scale
    return _trunk(architecture, leaves, source)


def from_serl_params(architecture: str, params: Mapping[str, Any], source: str) -> Trunk:
    """A trunk of the flax parameters of SERL's `resnet10_params.pkl`; its classifier `output_head` is left out.

    Luo et al. 2024, `serl_launcher/vision/resnet_v1.py`. Arguments and errors are as those of `from_torch_state`.
    """
    if find_architecture(architecture).norm != "group":
        raise ValueError(f"{architecture}: SERL's pickle holds resnet10_serl; name that")
    wanted = weight_shapes(architecture)
    names = {path: _serl_name(path) for path in wanted}
    given = {name: x for name, x in flattened(params).items() if not SERL_HEAD.fullmatch(name)}
    found = _checked(architecture, {names[path]: shape for path, shape in wanted.items()}, given)
    return _trunk(architecture, {path: found[name] for path, name in names.items()}, source)


def _convolutions(paths: Iterable[str]) -> list[str]:
    return sorted({path.rsplit("/", 2)[0] for path in paths})


def _torch_names(path: str) -> tuple[str, str]:
    """Of a convolution and of its norm: `stage_2_block_1/conv_1` is `layer2.0.conv1.weight` and `layer2.0.bn1`."""
    match = BLOCK.fullmatch(path)
    if match is None:
        return "conv1.weight", "bn1"
    stage, block, kind, number = match.groups()
    prefix = f"layer{stage}.{int(block) - 1}"
    if kind == "shortcut":
        return f"{prefix}.downsample.0.weight", f"{prefix}.downsample.1"
    return f"{prefix}.conv{number}.weight", f"{prefix}.bn{number}"


def _serl_name(path: str) -> str:
    """`stage_2_block_1/conv_1/norm/scale` is `ResNetBlock_1/MyGroupNorm_0/scale`: there is one block to a stage."""
    convolution, part, leaf = path.rsplit("/", 2)
    match = BLOCK.fullmatch(convolution)
    if match is None:
        return f"{part}_init/{leaf}"
    stage, _, kind, number = match.groups()
    own = f"{part}_proj" if kind == "shortcut" else f"{'Conv' if part == 'conv' else 'MyGroupNorm'}_{int(number) - 1}"
    return f"ResNetBlock_{int(stage) - 1}/{own}/{leaf}"


def _checked(architecture: str, shapes: Mapping[str, tuple[int, ...]], given: Mapping[str, Any]) -> Arrays:
    """What is given, where it is all that is wanted, and finite numbers of the shapes that are wanted."""
    where, extra = f"weights of {architecture}", sorted(given.keys() - shapes.keys())
    for name, shape in shapes.items():
        if name not in given:
            instead = f", and there is {extra[0]}" if extra else ""
            raise ValueError(f"{where}: {name} is missing{instead}; name the architecture that they are of")
        x = given[name]
        if not isinstance(x, np.ndarray) or x.dtype.kind != "f":
            kind = x.dtype if isinstance(x, np.ndarray) else type(x).__name__
            raise ValueError(f"{where}: {name} is {kind}; give arrays of floating point numbers")
        if x.shape != shape:
            raise ValueError(f"{where}: {name} is {x.shape}, not {shape}; name the architecture that they are of")
        if not np.isfinite(x).all():
            raise ValueError(f"{where}: {name} holds numbers that are not finite; get the file again")
    if extra:
        raise ValueError(f"{where}: {extra[0]} is left over; name the architecture that they are of")
    return given


def _trunk(architecture: str, leaves: Arrays, source: str) -> Trunk:
    single: dict[str, np.ndarray] = {}
    for path, x in leaves.items():
        with np.errstate(over="ignore"):
            single[path] = np.ascontiguousarray(x, np.float32)
        if not np.isfinite(single[path]).all():
            raise ValueError(f"weights of {architecture}: {path} is too large for float32; get the file again")
    return Trunk(architecture, unflattened(single), source)
