"""Success rates: the interval of one, and which of two is the better.

`scipy.stats` takes half a second to import, so it is imported where it is used: every command is started with this file.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt


def wilson(success: int, trials: int) -> tuple[float, float]:
    """The 95% interval of a success rate (Wilson 1927, the score interval); all of 0 to 1 where there was no trial."""
    if trials == 0:
        return 0.0, 1.0
    from scipy.stats import binomtest

    found = binomtest(success, trials).proportion_ci(0.95, method="wilson")
    return float(found.low), float(found.high)


@dataclass(frozen=True)
class Pairs:
    """The same trials run by two policies: how many succeeded with both, with one of them only, and with neither."""

    both: int
    only_this: int
    only_that: int
    neither: int

    @property
    def phi(self) -> float:
        """How alike the two are, -1 to 1, drawn towards 0 as Newcombe has it (1998, paired data, method 10)."""
        this, that = self.both + self.only_this, self.both + self.only_that
        trials = that + self.only_this + self.neither
        margins = this * (trials - this) * that * (trials - that)
        alike = self.both * self.neither - self.only_this * self.only_that
        shrunk = max(alike - trials / 2, 0.0) if alike > 0 else float(alike)
        return shrunk / sqrt(margins) if margins else 0.0


def pairs_of(this: Sequence[bool], that: Sequence[bool]) -> Pairs:
    """Counts of the outcomes of the same trials, in the same order."""
    outcomes = list(zip(this, that, strict=True))
    return Pairs(*(outcomes.count(kind) for kind in ((True, True), (True, False), (False, True), (False, False))))


def mcnemar(pairs: Pairs) -> float:
    """How likely trials that only one of the two won are split as unevenly as these, were the two alike (exact, two-sided)."""
    from scipy.stats import binomtest

    decided = pairs.only_this + pairs.only_that
    return float(binomtest(pairs.only_this, decided).pvalue) if decided else 1.0


def better_of_pairs(pairs: Pairs) -> float:
    """Probability that this one wins more than half of the trials that one of them alone wins; uniform prior, Beta(1,1)."""
    from scipy.stats import beta

    return float(beta.sf(0.5, 1 + pairs.only_this, 1 + pairs.only_that))


def better(success: int, trials: int, other_success: int, other_trials: int) -> float:
    """Probability that the first rate is above the second, each with a uniform prior, Beta(1,1).

    Exact: the rates' posteriors are the `success + 1`-th of `trials + 1` uniform draws, and of `other_trials + 1`. The first is
    the larger where more than `other_success` of the second's are among the smallest `success + other_success + 1` of all.
    """
    from scipy.stats import hypergeom

    return float(hypergeom.sf(other_success, trials + other_trials + 2, other_trials + 1, success + other_success + 1))


def difference(
    success: int, trials: int, other_success: int, other_trials: int, phi: float = 0.0
) -> tuple[float, float, float]:
    """The first success rate minus the second, and its 95% interval from the two Wilson intervals.

    Newcombe 1998, Statistics in Medicine 17: 873-890 (independent trials, `phi` 0), and 2635-2650 (`phi` of pairs), method 10.
    """
    rate, other = success / trials, other_success / other_trials
    (low, high), (other_low, other_high) = wilson(success, trials), wilson(other_success, other_trials)
    down, up = (rate - low, other_high - other), (high - rate, other - other_low)
    gap = rate - other
    return gap, gap - _hypotenuse(*down, phi), gap + _hypotenuse(*up, phi)


def _hypotenuse(a: float, b: float, phi: float) -> float:
    return sqrt(max(a * a - 2.0 * phi * a * b + b * b, 0.0))
