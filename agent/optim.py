"""Optimisers as frozen descriptions: two phases share their moments exactly where the descriptions are equal."""

from dataclasses import dataclass

import optax


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
        if not self.learning_rate > 0:
            raise ValueError(f"adam: learning_rate is {self.learning_rate}; give a positive number")

    def transformation(self) -> optax.GradientTransformation:
        """The optax transformation."""
        adam = optax.adam(self.learning_rate)
        return adam if self.clip_norm is None else optax.chain(optax.clip_by_global_norm(self.clip_norm), adam)


Optimizer = Adam
