"""A reward classifier as an environment's success."""

import numpy as np

from encoders.classifier import Classifier, encode
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
        about = self._classifier.about
        frames = {name: np.asarray(obs[name])[None] for name in about.cameras}
        self.score = float(self._classifier.scores(encode(self._trunk, frames, about.cameras))[0])
        self.in_a_row = self.in_a_row + 1 if self.score > about.threshold else 0
        return self.in_a_row >= about.consecutive
