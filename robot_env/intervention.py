"""The seam where a human takes over: a device that, now and then, answers with an action of its own."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np


class Intervention(Protocol):
    """A device in a human's hand, asked once per control step."""

    def action(self, obs: Mapping[str, np.ndarray], pose: Sequence[float]) -> np.ndarray | None:
        """The human's action, in the policy's frame and units, or `None` while they leave the arm to the policy.

        Args:
            obs: the observation the policy has just acted on.
            pose: `(7,)` of the tool as measured, base frame: where the policy's frame is now.

        Raises:
            ConnectionError: the device is lost; the arm is stopped.
        """
        ...


class ScriptedIntervention:
    """Plays back actions, one per control step. `None`, and everything after the last, leaves the arm to the policy."""

    def __init__(self, actions: Sequence[np.ndarray | None]) -> None:
        self._actions = list(actions)
        self._next = 0

    def action(self, obs: Mapping[str, np.ndarray], pose: Sequence[float]) -> np.ndarray | None:
        self._next += 1
        return self._actions[self._next - 1] if self._next <= len(self._actions) else None
