"""Optimisers as frozen descriptions: two phases share their moments exactly where the descriptions are equal."""

from dataclasses import dataclass
from typing import Any

import jax
import optax
from optax.contrib import MuonDimensionNumbers


@dataclass(frozen=True)
class Adam:
    """Adam with a constant learning rate.

    Attributes:
        learning_rate: per update.
        clip_norm: largest global norm of the gradient; None clips nothing.
    """

    learning_rate: float = 3e-4
    clip_norm: float | None = None

    def __post_init__(self) -> None:
        _check("adam", self.learning_rate)

    def transformation(self) -> optax.GradientTransformation:
        """The optax transformation."""
        adam = optax.adam(self.learning_rate)
        return adam if self.clip_norm is None else optax.chain(optax.clip_by_global_norm(self.clip_norm), adam)


@dataclass(frozen=True)
class Muon:
    """Kernels move by their momentum made orthogonal, all else by Adam at the same rate (Jordan 2024; optax.contrib.muon).

    A step's spectral norm is about `learning_rate * sqrt(max(1, out / in))`, whatever the gradient's size. Momentum is 0.95,
    Nesterov's, for Adam's first moment too, as optax has it.

    Attributes:
        learning_rate: per update.
    """

    learning_rate: float = 3e-4

    def __post_init__(self) -> None:
        _check("muon", self.learning_rate)

    def transformation(self) -> optax.GradientTransformation:
        """The optax transformation."""
        return optax.contrib.muon(self.learning_rate, muon_weight_dimension_numbers=_matrices)


Optimizer = Adam | Muon


def _check(name: str, learning_rate: float) -> None:
    if not learning_rate > 0:
        raise ValueError(f"{name}: learning_rate is {learning_rate}; give a positive number")


def _matrices(params: Any) -> Any:
    """Which axes of a leaf are a matrix: the last two of a kernel, `(in, out)` or `(E, in, out)`, none of anything else.

    By the leaf's name, for an ensemble's biases `(E, out)` have two axes as well. Without this, optax would make those
    orthogonal across the members, and leave the stacked kernels to Adam.
    """

    def matrix(path: tuple, _: Any) -> MuonDimensionNumbers | None:
        return MuonDimensionNumbers(-2, -1) if str(path[-1].key).startswith("kernel") else None

    return jax.tree_util.tree_map_with_path(matrix, params)
