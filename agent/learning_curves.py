"""What is measured on learning curves: the drop, where a run ends up, and what it lost on the way.

A curve is `env_steps (T,)`, the environment steps before each evaluation, and `success (S, T)`, the success rate in 0..1 of
each of S seeds. The first evaluation is the policy as offline training left it.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike


def first_quarter(env_steps: ArrayLike) -> int:
    """A quarter of the run, in environment steps: the window for `catastrophic_failure` where none is prescribed.

    It is SOAR's own: 100k steps of 400k.
    """
    steps = _checked_steps(env_steps)
    return int((steps[-1] - steps[0]) // 4)


def catastrophic_failure(env_steps: ArrayLike, success: ArrayLike, within_steps: float) -> np.ndarray:
    """The start minus the lowest success within the window, `(S,)`, at least 0 (SOAR, section 3).

    The lowest value of many noisy evaluations lies below the truth: compare runs that were evaluated equally often.

    Args:
        within_steps: the window's length in environment steps, from the first evaluation, its end included.

    Raises:
        ValueError: the curve is malformed, or the window holds no evaluation after the first, which would read as no failure.
    """
    steps, rates = _checked(env_steps, success)
    inside = steps - steps[0] <= within_steps
    if inside.sum() < 2:
        raise ValueError(
            f"learning curve: no evaluation lies within {within_steps} steps after the first, at {steps[0]:.0f}; "
            "widen the window or evaluate more often"
        )
    return rates[:, 0] - rates[:, inside].min(axis=1)


def asymptote(env_steps: ArrayLike, success: ArrayLike, share: float = 0.1) -> np.ndarray:
    """The mean of the evaluations in the last `share` of the run's environment steps, `(S,)`; the last always counts.

    SOAR (section 3) takes 350k to 400k steps, a share of 1/8.
    """
    steps, rates = _checked(env_steps, success)
    if not 0.0 < share <= 1.0:
        raise ValueError(f"learning curve: share is {share}; give a number above 0 and up to 1")
    # An evaluation at the edge counts, whatever the rounding of the product.
    window_steps = share * (steps[-1] - steps[0]) * (1 + 1e-9)
    return rates[:, steps[-1] - steps <= window_steps].mean(axis=1)


def regret(env_steps: ArrayLike, success: ArrayLike) -> np.ndarray:
    """The mean of 1 - success over the run's environment steps, by trapezoids, `(S,)`, in 0..1; 0 succeeds from the first step.

    SMAC prints it as a sum in section 7 and as a mean in appendix G: this is the mean, so that runs of any length compare.
    SMAC subtracts from the highest return that any run reached, this from a success rate of 1. A single evaluation stands for
    the whole run.
    """
    steps, rates = _checked(env_steps, success)
    missed = 1.0 - rates
    if len(steps) == 1:
        return missed[:, 0]
    return np.trapezoid(missed, steps, axis=1) / (steps[-1] - steps[0])


def normalized_regret(regrets: Mapping[str, ArrayLike]) -> dict[str, float]:
    """Regrets by name, each `(S,)`, averaged over seeds and min-max scaled over the names: 0 the best, 1 the worst.

    SMAC, Table 1, scales within one environment: give runs on one task. All are 0 where they are equal.

    Raises:
        ValueError: there are none, or one is no list of finite numbers.
    """
    if not regrets:
        raise ValueError("regrets: there are none; give at least one run's")
    means = {}
    for name, values in regrets.items():
        numbers = np.asarray(values, float)
        if numbers.ndim != 1 or not numbers.size or not np.isfinite(numbers).all():
            raise ValueError(f"regrets: {name!r} is {values}; give a finite number for each seed, (S,)")
        means[name] = float(numbers.mean())
    best, worst = min(means.values()), max(means.values())
    return {name: (mean - best) / (worst - best) if worst > best else 0.0 for name, mean in means.items()}


def _checked(env_steps: ArrayLike, success: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """The curve as floats `(T,)` and `(S, T)`."""
    steps, rates = _checked_steps(env_steps), np.asarray(success, float)
    if rates.ndim != 2 or rates.shape[1] != len(steps) or not len(rates):
        raise ValueError(f"learning curve: success is {rates.shape}, env_steps ({len(steps)},); give success as (S, T)")
    if not ((rates >= 0.0) & (rates <= 1.0)).all():
        raise ValueError(f"learning curve: success runs from {rates.min()} to {rates.max()}; give rates in 0..1")
    return steps, rates


def _checked_steps(env_steps: ArrayLike) -> np.ndarray:
    steps = np.asarray(env_steps, float)
    if steps.ndim != 1 or not steps.size:
        raise ValueError(f"learning curve: env_steps is {steps.shape}; give at least one evaluation, as (T,)")
    if not np.isfinite(steps).all() or not (np.diff(steps) > 0).all():
        raise ValueError("learning curve: env_steps do not rise; give every evaluation once, in order")
    return steps
