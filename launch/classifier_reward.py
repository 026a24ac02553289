"""A reward classifier as an environment's success."""

from collections.abc import Mapping

import numpy as np

from encoders.classifier import About, Classifier, encode
from encoders.trunk import Trunk
from robot_env.arm import ArmState
from robot_env.observation import Observation


class ClassifierReward:
    """Success is a score above the classifier's threshold for so many steps in a row as it says; each episode counts anew.

    Args:
        classifier: as `encoders.classifier.load_classifier` gives it for this trunk and these cameras.
        trunk: whose features it takes.
    """

    def __init__(self, classifier: Classifier, trunk: Trunk) -> None:
        self._classifier, self._trunk = classifier, trunk
        self.score, self.in_a_row = 0.0, 0

    def begin(self) -> None:
        """An episode begins."""
        self.score, self.in_a_row = 0.0, 0

    def __call__(self, state: ArmState, obs: Observation) -> bool:
        """Judges a step by its frames; `score` is the newest probability, `in_a_row` so many were above the threshold."""
        self.score = float(self.scores({name: np.asarray(obs[name])[None] for name in self.about.cameras})[0])
        self.in_a_row = self.in_a_row + 1 if self.score > self.about.threshold else 0
        return self.in_a_row >= self.about.consecutive

    @property
    def about(self) -> About:
        """What the classifier says of itself."""
        return self._classifier.about

    def scores(self, frames: Mapping[str, np.ndarray]) -> np.ndarray:
        """Probabilities `(N,)` of success in frames `(N, H, W, 3)` uint8 by camera."""
        return self._classifier.scores(encode(self._trunk, frames, self.about.cameras))
