"""Whether observations stand in the order that a twin gives them in, as far as their values can tell.

The values of each dimension, as three quantiles, are laid beside those of each of the twin's under a random policy, and the
best order is looked for. Data of any policy fits the task's own order nearly as well as the best one: on D4RL's tasks slow,
fast and trained policies and human demonstrations came to 1.0 to 1.5 times the best order's distance, and observations that
were shifted or shuffled to 2 to 80 times. It does not see two dimensions of the same kind that changed places, nor most of a
HalfCheetah's disorder (1.3 to 2.7), whose coordinates are much alike. It says nothing of actions.
"""

import numpy as np
from scipy.optimize import linear_sum_assignment

from sim.d4rl import D4RLTask

EPISODES, STEPS, HELD = 6, 60, 3  # of the twin's random policy; each action is held for some steps
RATIO = 2.0  # how many times better another order has to fit
TAILS = (0.02, 0.5, 0.98)  # quantiles that stand for a dimension's values
LEAST_WIDTH = 0.02  # in each dimension's own unit, so that values at rest can be compared
FARTHEST = 10.0  # widths; farther away is as bad
ROWS = 20_000  # of the data, evenly spread
FEWEST = 50  # rows; of fewer the quantiles say little


def order_doubt(task: D4RLTask, observations: np.ndarray) -> str | None:
    """Why observations `(N, D)` may not be in the task's order, in words; None where nothing shows."""
    if len(observations) < FEWEST:
        return None
    rows = np.unique(np.linspace(0, len(observations) - 1, ROWS).astype(int))
    cost = distances(np.asarray(observations[rows], np.float64), _random_observations(task))
    order = linear_sum_assignment(cost)
    ratio = float(np.trace(cost) / max(cost[order].sum(), 1e-9))
    if ratio <= RATIO:
        return None
    moved = np.count_nonzero(order[0] != order[1])
    return (
        f"the observations fit the twin's {ratio:.1f} times better with {moved} of {len(cost)} dimensions in another order; "
        "compare the order in the file with the task's"
    )


def distances(data: np.ndarray, twin: np.ndarray) -> np.ndarray:
    """`(D, D)`: how far the values of each dimension of `data` lie from those of each of `twin`, in widths of both."""
    here, there = np.quantile(data, TAILS, axis=0), np.quantile(twin, TAILS, axis=0)
    width = (here[-1] - here[0])[:, None] + (there[-1] - there[0])[None, :] + LEAST_WIDTH
    return np.minimum(np.abs(here[:, :, None] - there[:, None, :]).max(axis=0) / width, FARTHEST)


def _random_observations(task: D4RLTask) -> np.ndarray:
    """What the twin observes under random actions, some small and some large, `(M, D)`."""
    env, rng, rows = task.make(), np.random.default_rng(0), []
    try:
        for episode in range(EPISODES):
            rows.append(env.reset(seed=episode)[0])
            size, over = rng.uniform(0.2, 1.0), False
            for step in range(STEPS):
                if step % HELD == 0:
                    action = rng.uniform(-size, size, task.action_dim)
                if not over:
                    obs, _, terminated, truncated, _ = env.step(action)
                    rows.append(obs)
                    over = terminated or truncated
    finally:
        env.close()
    return np.array(rows)
