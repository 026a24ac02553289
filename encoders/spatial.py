"""From maps of features to what a network can act on: pooled over space, squeezed, and put beside the robot's own state."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from encoders.resnet import init_params
from encoders.trunk import features

MOST_VIEWS = 8


@dataclass(frozen=True)
class Vision:
    """How pictures become a part of what the networks see. Of tasks with cameras.

    Attributes:
        trunk: the image network: ARCHITECTURE@SEED for random weights, or the file that `segue encoder import` made.
        train_trunk: fine-tune it with the rest; otherwise it is frozen, and each frame goes through it once, on arrival.
        mixtures: of a frozen trunk's channels, random ones to keep in their stead, for speed and memory; 0 keeps them all.
        pooling: spatial `embeddings`, learned weights for each channel (SERL), or the spatial `softmax`, where each channel is.
        blocks: learned embeddings of each channel.
        bottleneck: what is left of a camera's picture: a dense layer, a layer norm, a tanh.
        views: randomly shifted copies of each frame, encoded beside it, of which training draws one; with a frozen trunk.
        memory_mb: most that pictures or features of the data set and of the replay may take together.
    """

    trunk: str = "resnet10@0"
    train_trunk: bool = False
    mixtures: int = 0
    pooling: Literal["embeddings", "softmax"] = "embeddings"
    blocks: int = 8
    bottleneck: int = 64
    views: int = 0
    memory_mb: int = 4_000

    def __post_init__(self) -> None:
        if self.pooling not in ("embeddings", "softmax"):
            raise ValueError(f"vision: pooling is {self.pooling!r}; give embeddings or softmax")
        for name in ("blocks", "bottleneck", "memory_mb"):
            if getattr(self, name) < 1:
                raise ValueError(f"vision: {name} is {getattr(self, name)}; give at least 1")
        if not 0 <= self.views <= MOST_VIEWS:
            raise ValueError(f"vision: views is {self.views}; give 0 to {MOST_VIEWS}")
        if self.mixtures and self.train_trunk:
            raise ValueError("vision: mixtures are of a frozen trunk's channels; leave them out")
        if self.views and self.train_trunk:
            raise ValueError(
                "vision: views are of a frozen trunk; leave them out, pictures are shifted anew in each batch"
            )


class SpatialEmbeddings(nn.Module):
    """`(B, h, w, C) -> (B, C * blocks)`: for each channel, learned weighted sums over the map (SERL, Luo et al. 2024)."""

    blocks: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (*x.shape[1:], self.blocks))
        return jnp.einsum("bhwc,hwck->bck", x, kernel).reshape(len(x), -1)


class SpatialSoftmax(nn.Module):
    """`(B, h, w, C) -> (B, 2 C)`: where each channel is strongest, rows and columns from -1 to 1 (Levine et al. 2016)."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        rows, height, width, channels = x.shape
        at = jnp.meshgrid(jnp.linspace(-1.0, 1.0, height), jnp.linspace(-1.0, 1.0, width), indexing="ij")
        place = jnp.stack(at, axis=-1).reshape(-1, 2)
        temperature = self.param("temperature", nn.initializers.ones, (channels,))
        weight = jax.nn.softmax(x.reshape(rows, -1, channels) * temperature[None, None], axis=1)
        return jnp.einsum("bpc,pd->bcd", weight, place).reshape(rows, -1)


class Encoder(nn.Module):
    """`{name: (B, ...)} -> (B, D)`: each camera's features squeezed to `bottleneck` numbers, and all vectors as they are.

    Attributes:
        vision: its sizes.
        cameras: which of the observations are maps of features `(B, h, w, C)`, standardised; or pictures `(B, H, W, 3)` uint8.
        architecture: of the trunk that is a part of it; empty where features come from a frozen one.
    """

    vision: Vision
    cameras: tuple[str, ...]
    architecture: str = ""

    @nn.compact
    def __call__(self, obs: Mapping[str, jax.Array]) -> jax.Array:
        parts = [obs[name] for name in sorted(obs) if name not in self.cameras]
        maps = {name: obs[name] for name in self.cameras}
        if self.architecture:
            # A run puts its own in their place.
            weights = self.param("trunk", lambda _: init_params(self.architecture, 0))
            # All cameras go through it together.
            through = features(self.architecture, weights, jnp.concatenate(list(maps.values())))
            maps = dict(zip(maps, jnp.split(through, len(maps)), strict=True))
        for name, x in maps.items():
            if self.vision.pooling == "embeddings":
                pool: nn.Module = SpatialEmbeddings(self.vision.blocks, name=f"{name}_pool")
            else:
                pool = SpatialSoftmax(name=f"{name}_pool")
            squeezed = nn.Dense(self.vision.bottleneck, kernel_init=nn.initializers.orthogonal(), name=name)(pool(x))
            parts.append(jnp.tanh(nn.LayerNorm(name=f"{name}_norm")(squeezed)))
        return jnp.concatenate(parts, axis=-1)
