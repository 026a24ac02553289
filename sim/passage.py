"""A small task to learn on: a point passes a narrow gap in a wall and reaches a goal behind it.

It is no task of D4RL's, but speaks as those do. All the dynamics are numpy's, on any number of rows at once; an episode costs
well under a millisecond, so whole comparisons of methods fit a laptop's afternoon.

The plane is 2 m x 2 m. The wall stands across its middle, with one gap that is off the straight way from every start. A command
is a velocity, which the point follows with a lag. Raw rewards are -1 a step, 0 at the goal, where the episode ends.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import gymnasium
import numpy as np
from gymnasium import spaces

from sim.d4rl import D4RLTask, checked_steps
from sim.passage_picture import paint
from sim.passage_plan import ARENA_M, GAP_M, GOAL_M, GOAL_RADIUS_M, START_HIGH_M, START_LOW_M, WALL_HALF_M

STEP_S = 0.1
SPEED_M_S = 1.0  # of a command of 1, along each axis
RESPONSE = 0.5  # share of the way to the commanded velocity that a step goes: it lags behind by about 0.14 s
MAX_STEPS = 60
FAILURE_REWARD = -1.0


def at_goal(obs: np.ndarray) -> np.ndarray:
    """Whether observations `(N, 4)` are within the goal, `(N,)` bool."""
    away_m = np.asarray(obs[:, :2], np.float64) - np.array(GOAL_M)[None, :]
    return np.einsum("nd,nd->n", away_m, away_m) <= GOAL_RADIUS_M**2


class PassageBatch:
    """Many points at once, each in an episode of its own. A row begins with `reset`; one that is over needs it again.

    Args:
        count: rows, N.
        max_steps: time limit of each episode, control steps.
    """

    def __init__(self, count: int, max_steps: int = MAX_STEPS) -> None:
        if count < 1:
            raise ValueError(f"count is {count}; ask for at least 1 row")
        self.count, self.max_steps = count, max_steps
        self.position_m, self.velocity_m_s = np.zeros((count, 2)), np.zeros((count, 2))
        self.steps = np.zeros(count, np.int64)
        self._over = np.ones(count, bool)

    def reset(self, rows: Sequence[int] | np.ndarray, seeds: Sequence[int] | np.ndarray) -> np.ndarray:
        """New episodes, at rest, in some rows.

        Args:
            rows: `(K,)` which.
            seeds: `(K,)` of the start of each; one seed starts at one place, in any row of any batch.

        Returns:
            their observations `(K, 4)`.
        """
        if len(rows) != len(seeds):
            raise ValueError(f"{len(rows)} rows and {len(seeds)} seeds; give one seed for each row")
        rows = np.asarray(rows, np.int64)
        for row, seed in zip(rows, seeds, strict=True):
            self.position_m[row] = np.random.default_rng(int(seed)).uniform(START_LOW_M, START_HIGH_M)
        self.velocity_m_s[rows], self.steps[rows], self._over[rows] = 0.0, 0, False
        return self.observe()[rows]

    def put(self, row: int, position_m: np.ndarray, velocity_m_s: np.ndarray, steps: int) -> None:
        """Sets a row as if it had got there. Raises `ValueError` for a place outside the plane or within the wall."""
        x, y = (float(value) for value in position_m)
        if max(abs(x), abs(y)) > ARENA_M or (abs(x) < WALL_HALF_M and not GAP_M[0] <= y <= GAP_M[1]):
            raise ValueError(f"position ({x:g}, {y:g}) m is within the wall or off the plane; choose a free place")
        if max(abs(float(value)) for value in velocity_m_s) > SPEED_M_S:
            raise ValueError(f"velocity {np.asarray(velocity_m_s).tolist()} m/s is above {SPEED_M_S:g}; choose less")
        self.position_m[row], self.velocity_m_s[row], self.steps[row] = position_m, velocity_m_s, steps
        self._over[row] = False

    def observe(self) -> np.ndarray:
        """`(N, 4)` float32, newly made: x, y (m), and the velocities along them (m/s); all within -1..1."""
        return np.concatenate([self.position_m, self.velocity_m_s], axis=1, dtype=np.float32)

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """One control step of every row.

        Args:
            actions: `(N, 2)` commanded velocities, of `SPEED_M_S`; what is outside -1..1 is clipped.

        Returns:
            observations `(N, 4)`, raw rewards `(N,)`, and whether each terminated, was truncated and succeeded, `(N,)` bool.

        Raises:
            ValueError: actions are not so many numbers, or a row is over.
        """
        actions = np.asarray(actions, np.float64)
        if actions.shape != (self.count, 2) or np.isnan(actions).any():
            raise ValueError(f"actions of shape {actions.shape}, or not numbers; give ({self.count}, 2) in -1..1")
        if self._over.any():
            raise ValueError(f"row {int(np.argmax(self._over))} is over, or has not begun; reset it")
        self._move(np.clip(actions, -1.0, 1.0))
        self.steps += 1
        obs = self.observe()
        success = at_goal(obs)  # by what is observed, so that data judges as the task does, to the last bit
        truncated = ~success & (self.steps >= self.max_steps)
        self._over = success | truncated
        return obs, np.where(success, FAILURE_REWARD + 1.0, FAILURE_REWARD), success, truncated, success.copy()

    def _move(self, command: np.ndarray) -> None:
        """Along x, then along y, each as far as it is free all the way: no length of step gets through a wall or a corner."""
        self.velocity_m_s += RESPONSE * (SPEED_M_S * command - self.velocity_m_s)
        x, y = self.position_m[:, 0], self.position_m[:, 1]
        beside_gap = (y < GAP_M[0]) | (y > GAP_M[1])  # such a row is on one side of the wall, or touches it
        low = np.where(beside_gap & (x > 0.0), WALL_HALF_M, -ARENA_M)
        high = np.where(beside_gap & (x < 0.0), -WALL_HALF_M, ARENA_M)
        self._advance(0, low, high)
        within = np.abs(x) < WALL_HALF_M
        self._advance(1, np.where(within, GAP_M[0], -ARENA_M), np.where(within, GAP_M[1], ARENA_M))

    def _advance(self, axis: int, low: np.ndarray, high: np.ndarray) -> None:
        """Moves along an axis within bounds `(N,)`, m; who meets one stops there and loses the velocity into it."""
        wanted = self.position_m[:, axis] + STEP_S * self.velocity_m_s[:, axis]
        found = np.clip(wanted, low, high)
        self.position_m[:, axis] = found
        self.velocity_m_s[found != wanted, axis] = 0.0


class PassageEnv(gymnasium.Env[np.ndarray, np.ndarray]):
    """One row of `PassageBatch`, with what a `D4RLEnv` has to the outside; observations are `(4,)` float32."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012 (gymnasium's own declaration)

    def __init__(self, task: D4RLTask, render_mode: Literal["rgb_array"] | None = None) -> None:
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"render_mode {render_mode!r}: there is 'rgb_array', or None for no pictures")
        self.task, self.render_mode = task, render_mode
        self.metadata = {**type(self).metadata, "render_fps": round(task.hz)}
        self.observation_space = spaces.Box(-1.0, 1.0, (task.obs_dim,), np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (task.action_dim,), np.float32)
        self._batch = PassageBatch(1, task.max_steps)
        self._trail: list[np.ndarray] = []

    def reset(self, *, seed: int | None = None, options: Mapping[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        """A new episode.

        Args:
            seed: of the start; the same place as in `PassageBatch.reset`.
            options: `{"state": ...}` begins where `get_state` was.

        Raises:
            ValueError: an option is unknown, or the state is not one of this task.
        """
        super().reset(seed=seed)
        unknown = set(options or {}) - {"state"}
        if unknown:
            raise ValueError(f"reset option {sorted(unknown)[0]!r} is unknown; the only one is 'state'")
        self._batch.reset([0], [int(self.np_random.integers(2**63)) if seed is None else seed])
        self._trail = [self._batch.position_m[0].copy()]
        if options and "state" in options:
            self.set_state(options["state"])
        return self._batch.observe()[0], {"success": False}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        """One control step. Raises `ValueError` for an action that is not `(2,)` numbers, or where the episode is over."""
        action = np.asarray(action, np.float64)
        if action.shape != (2,) or np.isnan(action).any():
            raise ValueError(f"action of {self.task.name} is {action}; give 2 numbers in -1..1")
        obs, reward, terminated, truncated, success = self._batch.step(action[None, :])
        self._trail.append(self._batch.position_m[0].copy())
        return obs[0], float(reward[0]), bool(terminated[0]), bool(truncated[0]), {"success": bool(success[0])}

    def get_state(self) -> dict[str, np.ndarray]:
        """All that decides what follows, as copies: `position` (m), `velocity` (m/s) and `steps`."""
        batch = self._batch
        state = {"position": batch.position_m[0], "velocity": batch.velocity_m_s[0], "steps": batch.steps[0]}
        return {name: np.array(value) for name, value in state.items()}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Goes to a state; `steps` may be left out. Pictures trail from there.

        Raises:
            ValueError: something is missing, unknown, of another size, not finite, or no free place.
        """
        steps = checked_steps(self.task, self.get_state(), {"position", "velocity"}, state)
        self._batch.put(0, state["position"], state["velocity"], steps)
        self._trail = [self._batch.position_m[0].copy()]

    def render(self) -> np.ndarray | None:
        """A picture `(height, width, 3)` uint8 of the plane and the way so far; None where no pictures were asked for."""
        return None if self.render_mode is None else paint(np.array(self._trail))


TASK = D4RLTask(
    name="narrow_passage",
    what="A point finds the narrow gap in a wall, off the straight way, and the goal behind it; small, and fast to learn.",
    env=PassageEnv,
    obs_dim=4,
    action_dim=2,
    max_steps=MAX_STEPS,
    hz=1.0 / STEP_S,
    success=f"at most {GOAL_RADIUS_M:g} m from the goal's middle; the episode ends there",
    reward="0 at the goal, else -1",
    reference=(FAILURE_REWARD * MAX_STEPS, -17.0),  # never there; the mean of the shortest ways found by a search
    scored="return",
    discount=0.97,
    failure_reward=FAILURE_REWARD,
    success_in=at_goal,
)
