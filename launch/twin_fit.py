"""`segue twin fit`: gains, friction and latency of the twin from a logged motion, by least squares one step ahead."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from launch.twin_data import Episode
from robot_env.tasks import Task
from sim.dynamics import PUBLISHED, RANGES, Dynamics
from sim.replay import Motion, Replay

LEAST_STEPS = 50  # of six channels of position and six of speed each, for six values
EVERY = 5  # this episode of so many, or this share of the steps, is not fitted, to check on
# What a residual is counted in: m, rad, m/s, rad/s. Speeds are worth a tenth of a second's way.
UNITS = np.repeat([1e-3, 5e-3, 1e-2, 5e-2], 3)
# An arm is never seen better than this share of the units: 0.1 mm, 0.5 mrad, 1 mm/s, 5 mrad/s.
FINEST = 0.1
FIRST = replace(
    PUBLISHED, dry_friction_nm=0.1, latency_s=0.01
)  # within the ranges, from where a search can go either way
# The standard error from which on a value counts as not told, and the step of a difference beside it.
TOLD = dict.fromkeys(RANGES, 0.1) | {"dry_friction_nm": 0.2, "latency_s": 0.01}
DIFFERENCE = 0.1
WEIGHT = 0.3  # of a value in a direction that cannot be told, from which on it is named


@dataclass(frozen=True)
class Fit:
    """What was found.

    Attributes:
        dynamics: with what the motion does not tell as it was published.
        errors: standard error of each value that was fitted, in its unit.
        together: values that the motion does not tell, or does not tell apart.
    """

    dynamics: Dynamics
    errors: dict[str, float]
    together: list[list[str]]


def fit(task: Task, motions: Sequence[Motion]) -> Fit:
    """The values under which the twin's next step is nearest to the logged one.

    Where a direction in their space shows in no step, the value that has most of it is left as published, and the rest is
    fitted again.

    Raises:
        ValueError: a pose is out of reach, or no value at all can be told.
    """
    steps = sum(map(len, motions))
    replay, names, together = Replay(task, motions), list(RANGES), []
    while names:
        miss = partial(_miss, replay, motions, tuple(names))
        found, jacobian = _search(miss, names, 1.0 / task.hz)
        noise = max(FINEST, float(np.sqrt(np.sum(miss(found) ** 2) / (12 * steps - len(names)))))
        _, sizes, directions = np.linalg.svd(jacobian, full_matrices=False)
        if noise <= sizes[-1]:
            errors = noise * np.linalg.norm(directions / sizes[:, None], axis=0)
            told = {name: float(error) * TOLD[name] for name, error in zip(names, errors, strict=True)}
            return Fit(_dynamics(names, found), told, together)
        weak = np.abs(directions[-1])
        together.append([name for name, weight in zip(names, weak, strict=True) if weight > WEIGHT])
        names.pop(int(weak.argmax()))
    raise ValueError("the motion tells none of the values; log one with `segue twin log`")


def split(episodes: Sequence[Episode]) -> tuple[list[Episode], list[Episode]]:
    """Those to fit and those to check on: every fifth; of fewer than five, the last fifth of each."""
    if len(episodes) >= EVERY:
        return [e for i, e in enumerate(episodes, 1) if i % EVERY], list(episodes[EVERY - 1 :: EVERY])
    cuts = [len(each.free) - len(each.free) // EVERY for each in episodes]
    parts = [[slice(cut) for cut in cuts], [slice(cut, None) for cut in cuts]]
    fitted, held = (
        [Episode(e.motion.rows(p), e.free[p]) for e, p in zip(episodes, part, strict=True)] for part in parts
    )
    return fitted, held


def useful(episodes: Sequence[Episode]) -> list[Motion]:
    """The control periods in free space, episode by episode; none that is empty."""
    return [each.motion.rows(each.free) for each in episodes if each.free.any()]


def rms(task: Task, motions: Sequence[Motion], dynamics: Dynamics) -> tuple[float, float]:
    """How far the twin's next step is from the logged one, root mean square, mm and mrad."""
    away = _away(Replay(task, motions), motions, dynamics)
    return rms_of(away[:, :6])


def rms_of(away: np.ndarray) -> tuple[float, float]:
    """Root mean squares, mm and mrad, of the lengths of differences `(n, 6)`, m and rad."""
    metres, radians = (float(np.sqrt(np.mean(np.sum(x**2, axis=1)))) for x in (away[:, :3], away[:, 3:]))
    return 1000.0 * metres, 1000.0 * radians


def differences(poses: np.ndarray, others: np.ndarray) -> np.ndarray:
    """`(n, 6)`, m and rad along base axes, from the other poses `(n, 7)` to these."""
    turns = (Rotation.from_quat(poses[:, 3:]) * Rotation.from_quat(others[:, 3:]).inv()).as_rotvec()
    return np.concatenate([poses[:, :3] - others[:, :3], turns], axis=1)


def _away(replay: Replay, motions: Sequence[Motion], dynamics: Dynamics) -> np.ndarray:
    """`(N, 12)`: what the twin's next step has more than the logged one, m, rad, m/s, rad/s."""
    poses, velocities = replay.predict(dynamics)
    logged, speeds = (np.concatenate(x) for x in zip(*((m.next_pose, m.next_velocity) for m in motions), strict=True))
    return np.concatenate([differences(poses, logged), velocities - speeds], axis=1)


def _dynamics(names: Sequence[str], values: np.ndarray) -> Dynamics:
    return replace(PUBLISHED, **{name: float(x) * TOLD[name] for name, x in zip(names, values, strict=True)})


def _miss(replay: Replay, motions: Sequence[Motion], names: Sequence[str], values: np.ndarray) -> np.ndarray:
    """Residuals `(12 N,)` in `UNITS` under values `(p,)` in units of `TOLD`."""
    return (_away(replay, motions, _dynamics(names, values)) / UNITS[None, :]).ravel()


def _search(
    miss: Callable[[np.ndarray], np.ndarray], names: Sequence[str], period_s: float
) -> tuple[np.ndarray, np.ndarray]:
    """The values `(p,)` in units of `TOLD` with the least residuals, and the Jacobian `(12 N, p)` there."""
    units = np.array([TOLD[name] for name in names])
    low, high = np.array([RANGES[name] for name in names]).T / units
    high = np.where([name == "latency_s" for name in names], np.minimum(high, period_s / units), high)

    def slopes(values: np.ndarray) -> np.ndarray:
        """Differences towards the middle of the ranges, so that none is left."""
        steps, here = np.where(values + DIFFERENCE < high, DIFFERENCE, -DIFFERENCE), miss(values)
        columns = [
            (miss(values + step * one) - here) / step for step, one in zip(steps, np.eye(len(steps)), strict=True)
        ]
        return np.stack(columns, axis=1)

    first = np.array([getattr(FIRST, name) for name in names]) / units
    found = least_squares(miss, first, slopes, (low, high), "dogbox", xtol=1e-4, ftol=1e-4)  # type: ignore[arg-type]
    return found.x, slopes(found.x)
