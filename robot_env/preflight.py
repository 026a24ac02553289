"""Preflight: a task is read once, before any arm moves, and refused with every reason it should not run."""

from collections.abc import Iterator, Sequence
from math import isfinite

from robot_env.safety import TOLERANCE
from robot_env.tasks import Task

AXES = ("x", "y", "z", "roll", "pitch", "yaw")
LIMITS = (2.0, 2.0, 2.0, 3.0, 1.4, 3.0)  # m: beyond any arm's reach; rad: clear of the wrap and of gimbal lock
LARGEST_SCALE = (0.1, 0.5)  # m and rad per step: 1 m/s at 10 Hz; Euler angles of a step stay far from their wrap


def preflight(task: Task) -> None:
    """Raises `ValueError` with one sentence for everything that is wrong with a task."""
    faults = list(_numbers(task)) or [*_box(task), *_limits(task)]
    if faults:
        raise ValueError(f"task {task.name!r} does not pass preflight: " + " ".join(faults))


def outside(task: Task, offset: Sequence[float]) -> str:
    """Which axes of an offset `(6,)` leave a task's box, and by how much; empty where none does."""
    words = []
    for axis, value, low, high in zip(AXES, offset, task.low, task.high, strict=True):
        far = max(low - value, value - high)
        if far > TOLERANCE:
            unit = "m" if axis in AXES[:3] else "rad"
            words.append(f"{axis} {value:.4g} {unit} is {far:.4g} outside {low:.4g}..{high:.4g}")
    return ", ".join(words)


def _numbers(task: Task) -> Iterator[str]:
    """Vectors of the wrong length, and numbers that are none: nothing else can be judged before these are right."""
    sizes = {"target": 6, "low": 6, "high": 6, "reset": 6, "reset_range": 6, "action_scale": 2, "success_tolerance": 2}
    for name, size in sizes.items():
        values = getattr(task, name)
        if len(values) != size:
            yield f"{name} has {len(values)} numbers; give {size}."
        elif not all(map(isfinite, values)):
            yield f"{name} {tuple(values)} is not finite; give {size} finite numbers."
    for name in ("max_steps", "hz", "discount", "reward_scale", "reward_shift"):
        if not isfinite(getattr(task, name)):
            yield f"{name} {getattr(task, name)} is not finite; give a finite number."


def _box(task: Task) -> Iterator[str]:
    """The box, the target in it, and the start poses in it."""
    for i, axis in enumerate(AXES):
        low, high, reset, spread = task.low[i], task.high[i], task.reset[i], task.reset_range[i]
        unit = "m" if i < 3 else "rad"
        if low > high:
            yield f"low {axis} {low:g} {unit} is above high {axis} {high:g} {unit}; swap them."
            continue
        if max(-low, high) > LIMITS[i]:
            yield f"box {axis} {low:g}..{high:g} {unit} exceeds ±{LIMITS[i]:g} {unit}; narrow it."
        if not low - TOLERANCE <= 0.0 <= high + TOLERANCE:
            yield f"target (offset 0) is outside the box {axis} {low:g}..{high:g} {unit}; move the box around it."
        if spread < 0.0:
            yield f"reset_range {axis} {spread:g} {unit} is negative; give a half-width."
        elif reset - spread < low - TOLERANCE or reset + spread > high + TOLERANCE:
            yield (
                f"reset {axis} {reset - spread:g}..{reset + spread:g} {unit} is outside the box {low:g}..{high:g} "
                f"{unit}; move it, narrow reset_range, or widen the box."
            )


def _limits(task: Task) -> Iterator[str]:
    """Scales, limits and counts."""
    for name, value, largest, unit in zip(
        ("action_scale", "action_scale"), task.action_scale, LARGEST_SCALE, ("m", "rad"), strict=True
    ):
        if not 0.0 < value <= largest:
            yield f"{name} {value:g} {unit} is not in 0..{largest:g}; choose the largest move of one step."
    for mode in ("compliant", "precise"):
        limit = task.wrench_limit.get(mode)
        if limit is None or len(limit) != 2 or not all(isfinite(v) and v > 0.0 for v in limit):
            yield f"wrench_limit[{mode!r}] {limit} is not two positive numbers; give (N, N·m)."
    if task.max_steps < 1 or task.max_steps != int(task.max_steps):
        yield f"max_steps {task.max_steps} is not a positive whole number; give the time limit in control steps."
    if task.hz <= 0.0:
        yield f"hz {task.hz:g} is not positive; give control steps per second."
    if min(task.success_tolerance) <= 0.0:
        yield f"success_tolerance {tuple(task.success_tolerance)} is not positive; give (m, rad)."
    if not 0.0 < task.discount <= 1.0:
        yield f"discount {task.discount:g} is not in 0..1; give it per control step."
    if task.reward_scale <= 0.0:
        yield f"reward_scale {task.reward_scale:g} is not positive; success must be worth more than failure."
    penalty = task.failure_penalty
    if penalty is not None and not (isfinite(penalty) and penalty >= 0.0):
        yield f"failure_penalty {penalty} is not a number of 0 or more; give how much a failure costs, or None."
    if task.relative_to not in ("target", "reset"):
        yield f"relative_to {task.relative_to!r} is unknown; choose 'target' or 'reset'."
    if len(set(task.cameras)) != len(task.cameras) or "state" in task.cameras:
        yield f"cameras {task.cameras} collide; give each its own name, none of them 'state'."
    if task.camera_fault not in ("hold", "stop"):
        yield f"camera_fault {task.camera_fault!r} is unknown; choose 'hold' or 'stop'."
