"""Discounted returns of whole episodes."""

import numpy as np


def discounted_returns(reward: np.ndarray, tail: float, discount: float) -> np.ndarray:
    """Return-to-go `(T,)` float32 of one whole episode's rewards `(T,)`, in order.

    Args:
        reward: scaled and shifted, exactly as the temporal-difference target sees it.
        tail: value of the state after the last step: 0 where the task terminated there; for an episode cut short, what it
            would go on to earn (a sparse task that never succeeds: `reward_shift / (1 - discount)`).
    """
    out = np.empty(len(reward), np.float64)
    value = float(tail)
    for t in range(len(reward) - 1, -1, -1):
        value = float(reward[t]) + discount * value
        out[t] = value
    return out.astype(np.float32)


def episode_slices(end: np.ndarray) -> list[slice]:
    """The episodes of a stream in order, from `end (N,)`, true on each last step; an open episode at the end is left out."""
    last = np.flatnonzero(end)
    first = np.concatenate([[0], last[:-1] + 1]) if len(last) else last
    return [slice(int(a), int(b) + 1) for a, b in zip(first, last, strict=True)]
