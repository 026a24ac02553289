"""How good the scores of a classifier are: counts at a threshold, precision and recall over thresholds, calibration.

A score is the probability of success, `(N,)` from 0 to 1; a label `(N,)` is a bool. A score *above* a threshold is a success.
"""

from dataclasses import asdict, dataclass

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_expit, logit

BINS = 10  # of the calibration error
COLDEST, HOTTEST = 0.05, 20.0  # temperatures looked at


@dataclass(frozen=True)
class Counts:
    """The confusion matrix: frames of each label, by what they were taken for."""

    true_positives: int
    false_positives: int
    false_negatives: int
    true_negatives: int

    @property
    def precision(self) -> float | None:
        """Of what was taken for success, the share that was; None where nothing was."""
        taken = self.true_positives + self.false_positives
        return self.true_positives / taken if taken else None

    @property
    def recall(self) -> float | None:
        """Of the successes, the share that was seen; None where there are none."""
        there = self.true_positives + self.false_negatives
        return self.true_positives / there if there else None

    def to_json(self) -> dict[str, int | float | None]:
        """The counts, and both shares."""
        return {**asdict(self), "precision": self.precision, "recall": self.recall}


def count(score: np.ndarray, label: np.ndarray, threshold: float) -> Counts:
    """The confusion matrix at a threshold."""
    taken = score > threshold
    both = (taken & label, taken & ~label, ~taken & label, ~taken & ~label)
    return Counts(*(int(np.count_nonzero(x)) for x in both))


def curve(score: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Thresholds `(T,)`, rising, each between two neighbouring scores, and precision and recall above each.

    The middle is that of the log-odds: next to 0 and 1, that of the probabilities is no middle. Raises `ValueError` where there
    is no success.
    """
    if not label.any():
        raise ValueError("classifier: none of the frames is a success; give labelled frames of both kinds")
    order = np.argsort(score, kind="stable")
    x, y = np.clip(score[order].astype(np.float64), 1e-12, 1.0 - 1e-12), label[order]
    starts = np.flatnonzero(np.r_[True, np.diff(x) > 0.0])  # of equal scores all or none are above a threshold
    above = np.cumsum(y[::-1])[::-1][starts]
    odds = logit(x)
    lower = expit(np.r_[odds[0] - 1.0, (odds[starts[1:] - 1] + odds[starts[1:]]) / 2.0])
    return lower, above / (len(x) - starts), above / y.sum()


def choose_threshold(score: np.ndarray, label: np.ndarray, precision: float, recall: float) -> float:
    """Where to draw the line: as much recall as may be given up buys a margin for precision.

    It is the highest threshold that keeps `recall`; where precision is not as high as asked for there, the lowest one above
    which it is, or is as high as it becomes. It rises, or stays, with the precision asked for, and as less recall is.
    """
    thresholds, precisions, recalls = curve(score, label)
    precise = thresholds[np.argmax(precisions >= min(precision, precisions.max()))]
    seen = thresholds[np.flatnonzero(recalls >= min(recall, 1.0))[-1]]
    return float(max(precise, seen))


def fit_temperature(logits: np.ndarray, label: np.ndarray) -> float:
    """What to divide logits by, so that their sigmoid is a probability: least log loss (Guo et al. 2017).

    The targets are Platt's, short of 0 and 1 as far as so few frames tell: where all are on the right side, the temperature
    would be 0 otherwise.
    """
    positives, negatives = int(label.sum()), int((~label).sum())
    target = np.where(label, (positives + 1.0) / (positives + 2.0), 1.0 / (negatives + 2.0))

    def loss(log_temperature: float) -> float:
        x = logits.astype(np.float64) / np.exp(log_temperature)
        return -float(np.mean(target * log_expit(x) + (1.0 - target) * log_expit(-x)))

    found = minimize_scalar(loss, bounds=(np.log(COLDEST), np.log(HOTTEST)), method="bounded")
    return float(np.exp(found.x))


def calibration_error(score: np.ndarray, label: np.ndarray) -> float:
    """The expected calibration error: how far the mean score of a bin is from its share of successes, by its size."""
    bins = np.minimum((score * BINS).astype(int), BINS - 1)
    sizes = np.bincount(bins, minlength=BINS)
    means = [np.bincount(bins, weights=x, minlength=BINS) for x in (score, label)]
    return float(np.abs(means[0] - means[1]).sum() / max(1, sizes.sum()))
