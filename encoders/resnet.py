"""Residual networks (He et al. 2016), as torchvision arranges them and as SERL does, from pictures to a map of features.

A trunk is used in inference mode only: its batch norms' running statistics are folded into one scale and one shift per channel
when weights are imported, so all that is left of a batch norm is `x * scale + shift`, which may be fine-tuned like any weight.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

EXPANSION = 4  # of a bottleneck block: its output is so many times as wide as its middle
WIDTH = 64  # channels of the first stage; each stage doubles them
GROUPS = 4  # of SERL's group norms


@dataclass(frozen=True)
class Architecture:
    """A kind of residual network.

    Attributes:
        stages: blocks in each of the four stages.
        bottleneck: blocks of 1x1, 3x3 and 1x1 convolutions, instead of two 3x3.
        norm: `folded` batch norm, or SERL's `group` norm.
        padding: at a picture's edge, of convolutions and pooling with a stride: PyTorch's (both sides alike), or XLA's `SAME`.
    """

    stages: tuple[int, int, int, int]
    bottleneck: bool = False
    norm: Literal["folded", "group"] = "folded"
    padding: Literal["torch", "same"] = "torch"

    @property
    def channels(self) -> int:
        """Of the feature map."""
        return WIDTH * 8 * (EXPANSION if self.bottleneck else 1)


ARCHITECTURES: Mapping[str, Architecture] = {
    "resnet10": Architecture((1, 1, 1, 1)),
    "resnet18": Architecture((2, 2, 2, 2)),
    "resnet34": Architecture((3, 4, 6, 3)),
    "resnet50": Architecture((3, 4, 6, 3), bottleneck=True),
    "resnet10_serl": Architecture((1, 1, 1, 1), norm="group", padding="same"),
}
STRIDE = 32  # of the whole network: a 128x128 picture has a 4x4 map


def find_architecture(name: str) -> Architecture:
    """The architecture of that name. Raises `ValueError` that lists the names there are."""
    if name not in ARCHITECTURES:
        raise ValueError(f"architecture {name!r} is unknown; choose one of {', '.join(ARCHITECTURES)}")
    return ARCHITECTURES[name]


class Folded(nn.Module):
    """What is left of a batch norm in inference mode: one scale and one shift per channel."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],))
        shift = self.param("shift", nn.initializers.zeros, (x.shape[-1],))
        return x * scale[None, None, None] + shift[None, None, None]


class Convolution(nn.Module):
    """A convolution without a bias, and its norm: `(B, H, W, C) -> (B, H/stride, W/stride, features)`."""

    architecture: Architecture
    features: int
    size: int
    stride: int = 1

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        edge = (self.size - 1) // 2
        # The first one of SERL's is padded as PyTorch's.
        alike = self.architecture.padding == "torch" or self.size == 7
        x = nn.Conv(
            self.features,
            (self.size, self.size),
            self.stride,
            padding=[(edge, edge)] * 2 if alike else "SAME",
            use_bias=False,
            name="conv",
        )(x)
        if self.architecture.norm == "group":
            return nn.GroupNorm(num_groups=GROUPS, epsilon=1e-5, name="norm")(x)
        return Folded(name="norm")(x)


class Block(nn.Module):
    """A residual block; where its shape changes, the shortcut is a 1x1 convolution."""

    architecture: Architecture
    width: int
    stride: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kind, width = self.architecture, self.width
        if kind.bottleneck:
            out = width * EXPANSION
            y = nn.relu(Convolution(kind, width, 1, name="conv_1")(x))
            y = nn.relu(Convolution(kind, width, 3, self.stride, name="conv_2")(y))
            y = Convolution(kind, out, 1, name="conv_3")(y)
        else:
            out = width
            y = nn.relu(Convolution(kind, width, 3, self.stride, name="conv_1")(x))
            y = Convolution(kind, width, 3, name="conv_2")(y)
        if x.shape != y.shape:
            x = Convolution(kind, out, 1, self.stride, name="shortcut")(x)
        return nn.relu(x + y)


class ResNet(nn.Module):
    """`(B, H, W, 3)` float32, normalised as its weights want it (`encoders.trunk`), -> `(B, H/32, W/32, channels)`."""

    architecture: Architecture

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kind = self.architecture
        x = nn.relu(Convolution(kind, WIDTH, 7, 2, name="stem")(x))
        edge = [(1, 1), (1, 1)] if kind.padding == "torch" else "SAME"
        x = nn.max_pool(x, (3, 3), (2, 2), padding=edge)  # type: ignore[arg-type]  # it takes pairs too
        for stage, blocks in enumerate(kind.stages):
            for i in range(blocks):
                stride = 2 if stage > 0 and i == 0 else 1
                x = Block(kind, WIDTH * 2**stage, stride, name=f"stage_{stage + 1}_block_{i + 1}")(x)
        return x


@cache
def param_shapes(name: str) -> Mapping[str, Any]:
    """The tree of an architecture's parameters, as shapes without values. Raises `ValueError` for an unknown name."""
    picture = jax.ShapeDtypeStruct((1, STRIDE, STRIDE, 3), jnp.float32)
    key = jax.eval_shape(lambda: jax.random.key(0))
    return jax.eval_shape(ResNet(find_architecture(name)).init, key, picture)["params"]


def init_params(name: str, seed: int) -> dict[str, Any]:
    """Random parameters of an architecture (He et al. 2015), drawn on the host: compiling flax's draws takes 10 s."""
    rng = np.random.default_rng(seed)

    def drawn(path: tuple[Any, ...], x: jax.ShapeDtypeStruct) -> np.ndarray:
        if path[-1].key == "kernel":
            return rng.normal(0.0, np.sqrt(2.0 / np.prod(x.shape[:-1])), x.shape).astype(np.float32)
        return np.full(x.shape, 1.0 if path[-1].key == "scale" else 0.0, np.float32)

    return dict(jax.tree_util.tree_map_with_path(drawn, param_shapes(name)))
