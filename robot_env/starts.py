"""Where episodes start: drawn at random for training, evenly spread and fixed for evaluation."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from robot_env.preflight import outside
from robot_env.tasks import Task


class Start(NamedTuple):
    """One fixed trial: `env.reset(seed=start.seed, options={"offset": start.offset})`.

    Attributes:
        offset: `(6,)` start pose, offset from the target, m and rad.
        seed: of everything else the episode draws, such as a twin's hidden offsets.
    """

    offset: np.ndarray
    seed: int


def draw_start(task: Task, rng: np.random.Generator) -> np.ndarray:
    """A start offset `(6,)`, uniform in `reset` ± `reset_range`."""
    return np.asarray(task.reset) + np.asarray(task.reset_range) * rng.uniform(-1.0, 1.0, 6)


def evaluation_starts(task: Task, n: int, first_seed: int = 10_000) -> list[Start]:
    """`n` fixed trials whose starts fill `reset` ± `reset_range` evenly, the same on every call.

    Additive recurrence with the powers of the generalized golden ratio (the positive root of `x^(d+1) = x + 1`)
    over the `d` axes that vary at all: low discrepancy for any `n`, and the first trials of a longer list are the
    trials of a shorter one.
    """
    spread = np.asarray(task.reset_range, dtype=np.float64)
    varying = np.flatnonzero(spread > 0.0)
    root = 2.0
    for _ in range(64):
        root = (1.0 + root) ** (1.0 / (len(varying) + 1))
    steps = root ** -np.arange(1.0, len(varying) + 1.0)
    starts = []
    for i in range(n):
        unit = np.zeros(6)
        unit[varying] = 2.0 * ((0.5 + (i + 1) * steps) % 1.0) - 1.0
        starts.append(Start(np.asarray(task.reset) + spread * unit, first_seed + i))
    return starts


def parse_start(task: Task, options: dict | None, drawn: np.ndarray) -> np.ndarray:
    """The start offset `(6,)` that `reset(options=...)` asks for, or the drawn one. Raises `ValueError`."""
    unknown = set(options or {}) - {"offset", "alone"}
    if unknown:
        raise ValueError(
            f"reset option {sorted(unknown)} is unknown; there are 'offset', six numbers in m and rad, and 'alone', yes or no"
        )
    offset: Sequence[float] | np.ndarray = (options or {}).get("offset", drawn)
    start = np.asarray(offset, dtype=np.float64)
    if start.shape != (6,) or not np.isfinite(start).all():
        raise ValueError(
            f"reset option 'offset' {offset} is not six finite numbers; give xyz in m and Euler xyz in rad"
        )
    if why := outside(task, start.tolist()):
        raise ValueError(f"start offset {start} is outside the box of task {task.name!r}: {why}; move it in")
    return start
