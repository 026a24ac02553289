"""Pictures small enough to follow, and what sees them."""

from dataclasses import replace
from functools import cache

import numpy as np

from agent.types import Transition
from encoders.sight import Sight
from encoders.spatial import Vision
from encoders.trunk import Trunk, random_trunk
from tests.agent.tiny import transition

SIDE = 32
CAMERAS = {"left": (SIDE, SIDE, 3), "right": (SIDE, SIDE, 3)}


@cache
def trunk() -> Trunk:
    return random_trunk("resnet10")


def sight_of(**vision) -> Sight:
    """Two cameras; whatever is not said is small."""
    return Sight(Vision(**{"blocks": 1, "bottleneck": 4, **vision}), CAMERAS, trunk())


def picture(number: float, camera: str) -> np.ndarray:
    """A picture that tells its number and its camera in every pixel."""
    return np.full((SIDE, SIDE, 3), int(number) * 2 + (camera == "right"), np.uint8)


def sighted(t: Transition) -> Transition:
    """The transition with pictures that tell its observations' numbers."""

    def seen(obs):
        return {**obs, **{camera: picture(obs["x"][0], camera) for camera in CAMERAS}}

    return replace(t, obs=seen(t.obs), next_obs=seen(t.next_obs))


def look(number: int, **options) -> Transition:
    return sighted(transition(x=float(number), **options))
