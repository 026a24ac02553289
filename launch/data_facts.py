"""`segue data info`: a data set in numbers."""

from typing import Any

import numpy as np

from agent.types import SOURCES
from launch.data_check import EDGE
from launch.data_scan import Scan
from launch.data_tools import Source
from sim.d4rl import D4RLTask

QUANTILES = {"least": 0.0, "lower quarter": 0.25, "median": 0.5, "upper quarter": 0.75, "greatest": 1.0}
FEW = 6  # different rewards that are listed; of more, quantiles are told


def facts(source: Source) -> dict[str, Any]:
    """Numbers for people and for JSON: sizes, how episodes went and ended, actions, rewards, and where it all came from."""
    dataset, c, scan = source.dataset, source.dataset.columns, Scan(source.dataset, source.task)
    success = c["success"][scan.last]
    layout = dataset.layout
    told: dict[str, Any] = {
        "task": dataset.info.task,
        "transitions": len(dataset),
        "episodes": len(scan.parts),
        "observations": {name: f"{dtype} {list(shape)}" for name, (dtype, shape) in layout.obs.items()},
        "actions": f"{layout.action_dtype} [{layout.action_dim}]",
        "success rate": float(success.mean()),
        "ended": _ends(scan, success),
        "length, env steps": _quantiles(scan.lengths),
        "return, raw": _quantiles(returns(scan)),
    }
    scores = normalized_scores(source, scan)
    told |= {} if scores is None else {"normalised score, mean": float(scores.mean())}
    told |= {
        "reward": dataset.info.reward,
        "rewards, raw": _rewards(scan.raw_reward),
        "discount": dataset.info.discount,
        "reward scale, shift": [dataset.info.reward_scale, dataset.info.reward_shift],
        "sources": {name: int((c["source"] == i).sum()) for i, name in enumerate(SOURCES) if (c["source"] == i).any()},
        "action": action_facts(c["action"]),
    }
    told |= {"remarks": source.remarks} if source.remarks else {}
    return {**told, "made by": dataset.info.provenance}


def returns(scan: Scan) -> np.ndarray:
    """Undiscounted return of each episode, of raw rewards, `(E,)`."""
    return np.add.reduceat(scan.raw_reward, scan.first)


def normalized_scores(source: Source, scan: Scan) -> np.ndarray | None:
    """Of each episode, `(E,)`; None where the task has no references."""
    success = source.dataset.columns["success"][scan.last]
    if not isinstance(source.task, D4RLTask):
        return None
    earned = [source.task.recorded_return(scan.raw_reward[part]) for part in scan.parts]
    return np.array([source.task.normalized(x, bool(y)) for x, y in zip(earned, success, strict=True)])


def action_facts(action: np.ndarray) -> list[dict[str, Any]]:
    """Mean, standard deviation, extremes and share at the box's edge of each dimension of `(N, A)`."""
    return [
        {
            "dimension": i,
            "mean, std": f"{x.mean():+.3f}, {x.std():.3f}",
            "range": f"{x.min():+.3f} to {x.max():+.3f}",
            "at edge": f"{100 * (np.abs(x) >= EDGE).mean():.1f} %",
        }
        for i, x in enumerate(action.astype(np.float64).T)
    ]


def _ends(scan: Scan, success: np.ndarray) -> dict[str, int]:
    terminated, truncated = (
        scan.c["terminated"][scan.last],
        scan.c["truncated"][scan.last] & ~scan.c["terminated"][scan.last],
    )
    counts = {
        "terminal, success": terminated & success,
        "terminal, no success": terminated & ~success,
        "truncated, success": truncated & success,
        "truncated, no success": truncated & ~success,
        "no end mark": ~terminated & ~truncated,
    }
    return {name: int(which.sum()) for name, which in counts.items() if which.any()}


def _quantiles(x: np.ndarray) -> dict[str, float]:
    return {name: round(float(np.quantile(x, q)), 4) for name, q in QUANTILES.items()} | {
        "mean": round(float(x.mean()), 4)
    }


def _rewards(reward: np.ndarray) -> dict[str, Any]:
    values, counts = np.unique(reward, return_counts=True)
    if len(values) > FEW:
        return _quantiles(reward)
    return {f"{value:g}": int(count) for value, count in zip(values, counts, strict=True)}
