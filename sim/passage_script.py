"""Scripted hands for the narrow passage, the source of its offline data: one that gets there slowly, and one that wanders."""

import numpy as np

from sim.passage_plan import ARENA_M, GAP_M, GOAL_M, WALL_HALF_M

GAP_Y_M = (GAP_M[0] + GAP_M[1]) / 2.0
BESIDE_M = WALL_HALF_M + 0.12  # how far before and behind the wall the way through the gap begins and ends


class Steering:
    """What both hands have: a way of waypoints, and a command that turns towards the next one only by and by.

    Args:
        speed: mean size of the command.
        inertia: share of the last command that stays in the next one; it makes the hand overshoot.
        noise: deviation of Gaussian noise on each command.
        rng: all its randomness.
    """

    def __init__(self, speed: float, inertia: float, noise: float, rng: np.random.Generator) -> None:
        self._speed, self._inertia, self._noise, self._rng = speed, inertia, noise, rng
        self._command = np.zeros(2)

    def act(self, obs: np.ndarray) -> np.ndarray:
        """The action `(2,)` in -1..1 for an observation `(4,)`."""
        place_m = np.asarray(obs[:2], np.float64)
        away_m = self._next(place_m) - place_m
        wanted = self._speed * away_m / max(float(np.linalg.norm(away_m)), 1e-9)
        self._command = self._inertia * self._command + (1.0 - self._inertia) * wanted
        return np.clip(self._command + self._noise * self._rng.standard_normal(2), -1.0, 1.0)

    def _next(self, place_m: np.ndarray) -> np.ndarray:
        """The waypoint `(2,)`, m, to go to from a place."""
        raise NotImplementedError


class Threading(Steering):
    """Goes before the gap, through it, and to the goal: at two thirds of the speed there is, and past each of them at first."""

    NEAR_M = 0.06  # at which a waypoint counts as reached

    def __init__(self, rng: np.random.Generator) -> None:
        super().__init__(speed=rng.uniform(0.55, 0.8), inertia=0.6, noise=0.2, rng=rng)
        self._way = [np.array(point) for point in ((-BESIDE_M, GAP_Y_M), (BESIDE_M, GAP_Y_M), GOAL_M)]

    def _next(self, place_m: np.ndarray) -> np.ndarray:
        if len(self._way) > 1 and np.linalg.norm(self._way[0] - place_m) < self.NEAR_M:
            self._way.pop(0)
        return self._way[0]


class Wandering(Steering):
    """Goes to places drawn at random, some behind the wall, which it does not see: there it is stuck for a while."""

    PATIENCE = (8, 25)  # steps after which it goes elsewhere, at least and below

    def __init__(self, rng: np.random.Generator) -> None:
        super().__init__(speed=rng.uniform(0.4, 1.0), inertia=0.6, noise=0.35, rng=rng)
        self._left = 0

    def _next(self, place_m: np.ndarray) -> np.ndarray:
        if self._left == 0:
            self._goal_m = self._rng.uniform(-ARENA_M, ARENA_M, 2)
            self._left = int(self._rng.integers(*self.PATIENCE))
        self._left -= 1
        return self._goal_m
