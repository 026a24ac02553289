"""`segue data validate`: what is wrong, or strange, with a data set. Looks, and changes nothing."""

import hashlib
from collections.abc import Iterator

import numpy as np

from launch.data_check_task import task_findings
from launch.data_scan import Finding, Scan
from launch.data_tools import Source

EDGE = 0.999  # |action| from which on a component stands at the edge of its box
STUCK = 0.9  # share of rows from which on a component that stands there is worth a warning
HELD = 20  # steps; an episode that is shorter may well keep a component at one edge
CLIPPED = 0.1  # of the actions' size (root mean square) that clipping may take away before they are of another unit
SHOWN = 5  # values or dimensions named in one finding


def check(source: Source) -> list[Finding]:
    """All that is found in a data set, errors first; against its task too, where that is one of ours."""
    scan = Scan(source.dataset, source.task)
    found = [*shape_findings(scan), *action_findings(scan), *value_findings(scan), *task_findings(scan)]
    if source.unfinished:
        what = "episodes were left or lost their end; they count as truncated where they were"
        found.append(Finding("warning", what, source.unfinished, "episodes"))
    order = ("error", "warning", "note")
    return sorted(found, key=lambda finding: order.index(finding.severity))


def shape_findings(scan: Scan) -> Iterator[Finding]:
    """Numbers that are none, next observations of elsewhere, episodes cut, doubled or of one step."""
    yield from _not_finite(scan)
    yield from _not_joined(scan)
    if not (scan.c["terminated"][-1] or scan.c["truncated"][-1]):
        what = "the last episode has no end mark; it counts as truncated"
        yield from scan.episodes("warning", what, np.arange(len(scan.parts)) == len(scan.parts) - 1)
    seen, doubled = set(), np.zeros(len(scan.parts), bool)
    for number, part in enumerate(scan.parts):
        marks = _digest(scan, part)
        doubled[number] = marks in seen
        seen.add(marks)
    yield from scan.episodes("warning", "the same episode stands before, to the bit; leave one out", doubled)
    single = "episodes of a single step; the file may keep its end marks up after an end"
    yield from scan.episodes("warning", single, scan.lengths == 1)


def _digest(scan: Scan, part: slice) -> bytes:
    mark = hashlib.blake2b(digest_size=16)
    for name, x in sorted(scan.c.items()):
        if name.startswith(("obs/", "next_obs/")) or name in ("action", "reward"):
            mark.update(np.ascontiguousarray(x[part]).data)
    return mark.digest()


def _not_finite(scan: Scan) -> Iterator[Finding]:
    for name, x in scan.c.items():
        if x.dtype.kind == "f":
            bad = np.any(~np.isfinite(x.reshape(len(x), -1)), axis=1)
            yield from scan.rows("error", f"{name} is not finite; leave these episodes out with --finite", bad)


def _not_joined(scan: Scan) -> Iterator[Finding]:
    inside = np.ones(len(scan.dataset), bool)
    inside[scan.last] = False
    broken = np.zeros(len(scan.dataset), bool)
    for name in scan.dataset.layout.obs:
        following, after = scan.c[f"next_obs/{name}"][:-1], scan.c[f"obs/{name}"][1:]
        same = (following == after) | ((following != following) & (after != after))  # NaN is told of elsewhere
        broken[:-1] |= ~same.reshape(len(same), -1).all(axis=1)
    what = "the next observation is not the one that follows in the episode; rows are missing or out of order"
    yield from scan.rows("error", what, broken & inside)


def action_findings(scan: Scan) -> Iterator[Finding]:
    """Actions beyond -1..1, at its edges, that never change, or that were not what the arm was sent."""
    action = np.where(np.isfinite(scan.c["action"]), scan.c["action"], 0.0).astype(np.float64)
    size = np.abs(action)
    over = np.maximum(size - 1.0, 0.0)
    taken = np.sqrt((over**2).mean() / max((action**2).mean(), 1e-12))
    told = f"actions outside -1..1, up to {size.max():.4g}; clipping takes away {100 * taken:.1f} % of their size"
    hint = "; they seem to be in another unit: rescale them" if taken > CLIPPED else "; learning clips them"
    yield from scan.rows("error" if taken > CLIPPED else "warning", told + hint, np.any(over > 0, axis=1))
    share, still = (size >= EDGE).mean(axis=0), np.ptp(action, axis=0) == 0
    stuck = (share >= STUCK) & ~still
    if stuck.any() and len(scan.dataset) >= HELD:
        what = (
            f"action dimensions {_named(stuck)} stand at the edge of their box in {100 * STUCK:g} % of the rows or more"
        )
        yield Finding("warning", what, int(stuck.sum()), "dimensions")
    if still.any() and len(scan.dataset) > 1:
        yield Finding("warning", f"action dimensions {_named(still)} never change", int(still.sum()), "dimensions")
    yield from scan.episodes(
        "note", f"an action stays at one edge for the whole episode ({HELD} steps or more)", _held(scan, action)
    )
    sent = scan.c["executed"] != scan.c["action"]
    what = "what was executed differs from the action that was asked for"
    yield from scan.rows("note", what, np.any(sent & ~np.isnan(scan.c["action"]), axis=1))


def _held(scan: Scan, action: np.ndarray) -> np.ndarray:
    """In which episodes a component stands at the same edge throughout, `(E,)`."""
    low = np.minimum.reduceat(action, scan.first, axis=0) >= EDGE
    high = np.maximum.reduceat(action, scan.first, axis=0) <= -EDGE
    return (low | high).any(axis=1) & (scan.lengths >= HELD)


def value_findings(scan: Scan) -> Iterator[Finding]:
    """Rewards that are all the same, and observed dimensions that never change."""
    reward = scan.raw_reward
    if len(reward) > 1 and np.ptp(reward) == 0:
        yield from scan.rows(
            "warning", f"every reward is {reward[0]:g}; there is nothing to tell good from bad", reward == reward
        )
    for name in scan.dataset.layout.obs:
        x = scan.c[f"obs/{name}"]
        if x.ndim == 2 and x.dtype.kind == "f" and len(x) > 1:
            dead = np.ptp(x, axis=0) == 0
            if dead.any():
                yield Finding(
                    "note", f"obs/{name} dimensions {_named(dead)} never change", int(dead.sum()), "dimensions"
                )


def _named(which: np.ndarray) -> str:
    found = np.flatnonzero(which)
    return ", ".join(map(str, found[:SHOWN])) + (f" and {len(found) - SHOWN} more" if len(found) > SHOWN else "")
