"""What can be checked where the task is known: sizes, order, time limit, rewards and successes."""

from collections.abc import Iterator

import numpy as np

from launch.data_order import order_doubt
from launch.data_scan import Finding, Scan
from launch.data_tools import UNNAMED, failure_penalty, failure_reward, misfit, success_in, success_steps
from launch.tasks import AnyTask
from sim.d4rl import D4RLTask

SAME = 1e-6  # rewards that differ by less are the same
COMMON = 3  # episodes of the greatest length from which on that length counts as a time limit, where no task says one
FAR = -200.0  # a mean normalised score below is no policy's: backwards at an expert's speed is about -100
SHOWN = 5  # rewards named


def task_findings(scan: Scan) -> Iterator[Finding]:
    """All of them; of a task that is not ours, what can be told without it."""
    if scan.task is None:
        if scan.dataset.info.task != UNNAMED:
            yield Finding(
                "note",
                f"task {scan.dataset.info.task!r} is not one of ours and was not checked against",
                len(scan.dataset),
                "rows",
            )
        yield from _time_limit(scan, np.zeros(len(scan.parts), bool))
        return
    reason = misfit(scan.dataset, scan.task)
    if reason is not None:
        yield Finding("error", reason, len(scan.dataset), "rows", 0, 0)
        return
    steps = success_steps(scan.dataset, scan.task)
    seen = scan.c["success"] if steps is None else steps
    succeeded = np.logical_or.reduceat(seen | scan.c["success"], scan.first)
    yield from _time_limit(scan, succeeded)
    yield from _successes(scan, steps)
    strange = list(_rewards(scan, scan.task))
    yield from strange
    if failure_reward(scan.task) is not None and steps is not None and not strange:
        yield from _sparse(scan, scan.task, steps)
    if isinstance(scan.task, D4RLTask) and np.isfinite(scan.c["obs/state"]).all():
        doubt = order_doubt(scan.task, scan.c["obs/state"])
        if doubt is not None:
            yield Finding("warning", doubt, len(scan.dataset), "rows")


def _time_limit(scan: Scan, succeeded: np.ndarray) -> Iterator[Finding]:
    """Episodes that are terminal where time was up, and those that go on beyond it."""
    limit, whose = int(scan.lengths.max()), "the longest episodes"
    if scan.task is not None:
        limit, whose = scan.task.max_steps, f"task {scan.task.name!r}"
    elif np.count_nonzero(scan.lengths == limit) < COMMON:
        return
    at_limit = (scan.lengths == limit) & ~succeeded
    ended = at_limit & scan.c["terminated"][scan.last]
    # One or two may have ended at that very step; where most do, time limits were stored as ends.
    severity = "error" if 2 * ended.sum() > at_limit.sum() and ended.sum() > 1 else "warning"
    what = f"terminal at the time limit ({limit} steps, of {whose}) without success; a time limit is truncation"
    yield from scan.episodes(severity, what, ended)
    if scan.task is not None:
        longest = int(scan.lengths.max())
        what = f"episodes are longer than {whose} lasts ({limit} steps), up to {longest}"
        yield from scan.episodes("warning", what, scan.lengths > limit)


def _successes(scan: Scan, steps: np.ndarray | None) -> Iterator[Finding]:
    """Successes that the data tells of, beside those that the task sees in it; a step sooner or later is no matter."""
    told = scan.c["success"]
    if steps is not None and told.any():
        here, there = (np.logical_or.reduceat(x, scan.first) for x in (told, steps))
        what = "success as the data has it is not what the task sees in the observations"
        yield from scan.episodes("warning", what, here != there)


def _rewards(scan: Scan, task: AnyTask) -> Iterator[Finding]:
    """Raw rewards that the task does not give."""
    raw, low = scan.raw_reward, failure_reward(task)
    if low is not None:
        penalty = failure_penalty(task)
        gives = np.array([low, low + 1.0] if penalty is None else [low, low + 1.0, -penalty])
        strange = np.abs(raw[:, None] - gives[None, :]).min(axis=1) > SAME
        values = ", ".join(f"{value:.6g}" for value in np.unique(raw[strange])[:SHOWN])
        told = f"task {task.name!r} gives {low:g}, and {low + 1.0:g} at success"
        yield from scan.rows("error", f"raw rewards such as {values}; {told}{_guess(task, low, raw)}", strange)
    elif isinstance(task, D4RLTask) and task.scored == "return" and np.isfinite(raw).all():
        score = float(np.mean([task.normalized(task.recorded_return(raw[part]), False) for part in scan.parts]))
        values = np.unique(raw)
        if len(values) == 2 and not np.isin(values, (0.0, 1.0)).all():  # a kitchen may have got no further than 1
            what = f"every reward is {values[0]:g} or {values[1]:g}, as of a sparse task; {task.name!r} pays: {task.reward}"
            yield Finding("warning", what, len(raw), "rows", 0, 0)
        if task.counted is not None and (raw.min() < 0.0 or raw.max() > task.counted):
            what = f"rewards from {raw.min():g} to {raw.max():g}; task {task.name!r} counts from 0 to {task.counted:g}"
            yield Finding("error", what, len(raw), "rows", 0, 0)
        if score < FAR:
            what = f"the mean normalised score is {score:.0f}: the rewards are in another scale than the task's"
            yield Finding("error", what, len(raw), "rows", 0, 0)


def _guess(task: AnyTask, low: float, raw: np.ndarray) -> str:
    """Which other convention sparse rewards may be in."""
    found = np.unique(raw)
    trained = np.array([task.reward_scale * value + task.reward_shift for value in (low, low + 1.0)])
    if (np.abs(found[:, None] - trained[None, :]).min(axis=1) <= SAME).all():
        return f": they are scaled by {task.reward_scale:g} and shifted by {task.reward_shift:+g} already"
    if len(found) == 2 and abs(np.ptp(found) - 1.0) <= SAME:
        return f": they are shifted by {found[0] - low:+g}"
    return "" if success_in(task) is None else "; make them with `segue data relabel`"


def _sparse(scan: Scan, task: AnyTask, steps: np.ndarray) -> Iterator[Finding]:
    """Where data of a task that pays for success, and ends there, does neither."""
    low, succeeded = failure_reward(task), np.logical_or.reduceat(steps, scan.first)
    assert low is not None
    paid = np.abs(scan.raw_reward - low - 1.0) <= SAME
    known = paid | (np.abs(scan.raw_reward - low) <= SAME)
    # Where a file has no next observation of a terminal step, readers repeat the one before: it tells nothing.
    known &= ~scan.c["terminated"] | (scan.c["next_obs/state"] != scan.c["obs/state"]).any(axis=1)
    yield from scan.rows("error", "the reward and the observation do not agree on success", known & (paid != steps))
    if failure_penalty(task) is None:
        ended = scan.c["terminated"][scan.last] & ~succeeded & ~paid[scan.last] & (scan.lengths != task.max_steps)
        yield from scan.episodes("warning", f"terminal without success, which is all that ends {task.name!r}", ended)
    before = np.concatenate([np.maximum.accumulate(steps[part]) for part in scan.parts])
    later = np.concatenate([[False], before[:-1]])
    later[scan.first] = False
    cut = "" if success_in(task) is None else "; `segue data relabel` cuts them off"
    yield from scan.rows("warning", f"steps after a success, where {task.name!r} has ended{cut}", later)
    lost = steps[scan.last] & ~scan.c["terminated"][scan.last]
    yield from scan.episodes("warning", "success is the last step and is not terminal", lost & ~later[scan.last])
    if not (succeeded.any() or paid.any()):
        what = "no episode succeeds: there is nothing to learn the reward from"
        yield Finding("warning", what, len(scan.parts), "episodes")
