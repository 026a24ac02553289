"""What a run sees with: its cameras, the image network behind them, and the encoder that is learned on top."""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from encoders.augment import shifted_views
from encoders.spatial import Encoder, Vision
from encoders.trunk import Trunk


@dataclass(frozen=True, eq=False)
class Sight:
    """Cameras, trunk and encoder of a run.

    Attributes:
        vision: the settings.
        cameras: shape of a picture `(H, W, 3)` by camera.
        trunk: the image network, frozen or to begin from.
    """

    vision: Vision
    cameras: Mapping[str, tuple[int, ...]]
    trunk: Trunk = field(repr=False)

    @property
    def encoder(self) -> Encoder:
        """The network that is learned."""
        trained = self.trunk.architecture if self.vision.train_trunk else ""
        return Encoder(self.vision, tuple(sorted(self.cameras)), trained)

    @property
    def width(self) -> int:
        """Numbers that it makes of all cameras."""
        return self.vision.bottleneck * len(self.cameras)

    @property
    def frozen_trunk(self) -> Trunk | None:
        """What each picture goes through on arrival; None where the encoder takes pictures as they are."""
        return None if self.vision.train_trunk else self.trunk

    @property
    def given(self) -> dict[str, Any]:
        """Parts of the encoder that do not begin at random."""
        return {"trunk": self.trunk.weights} if self.vision.train_trunk else {}

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of what is kept of one picture, `(1 + V, ...)`, by camera."""
        frozen, views = not self.vision.train_trunk, self.vision.views
        return {
            name: (1 + views, *(self.trunk.feature_shape(shape) if frozen else shape))
            for name, shape in self.cameras.items()
        }

    @property
    def dtype(self) -> str:
        """Of what is kept."""
        return "uint8" if self.vision.train_trunk else "float16"

    @property
    def statistics(self) -> dict[str, tuple[int, ...]]:
        """Shape of the statistics by camera: of features, one for each channel; pictures have none."""
        return {} if self.vision.train_trunk else {name: shape[-1:] for name, shape in self.shapes.items()}

    @property
    def bytes_per_frame(self) -> int:
        """Memory that one picture of each camera takes."""
        return sum(int(np.prod(shape)) for shape in self.shapes.values()) * np.dtype(self.dtype).itemsize

    def example(self) -> dict[str, jax.Array]:
        """Zeros `(1, ...)` as the encoder takes them, by camera."""
        kind = jnp.uint8 if self.vision.train_trunk else jnp.float32
        return {name: jnp.zeros((1, *shape[1:]), kind) for name, shape in self.shapes.items()}

    def encode(self, pictures: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """What is kept of pictures `(N, H, W, 3)` uint8 by camera: `(N, 1 + V, ...)`. A picture's views depend on it alone."""
        if self.vision.train_trunk:
            return {name: x[:, None] for name, x in pictures.items()}
        found = {}
        for name, frames in pictures.items():
            views = np.concatenate([self._views(frame) for frame in frames])
            features = self.trunk.encode(views)
            found[name] = features.reshape(len(frames), -1, *features.shape[1:])
        return found

    def _views(self, frame: np.ndarray) -> np.ndarray:
        rng = np.random.default_rng(zlib.crc32(frame.tobytes()))
        return shifted_views(frame[None], self.vision.views, rng)[0]
