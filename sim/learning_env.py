"""A D4RL task as learners and actors know environments: like `RobotEnv`, without an arm."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from robot_env.pace import Pace
from sim.d4rl import D4RLTask


def make_spaces(task: D4RLTask) -> tuple[spaces.Dict, spaces.Box]:
    """Observation and action space; builds no model."""
    state = spaces.Box(-np.inf, np.inf, (task.obs_dim,), np.float32)
    return spaces.Dict({"state": state}), spaces.Box(-1.0, 1.0, (task.action_dim,), np.float32)


class LearningEnv(gymnasium.Env[dict[str, Any], np.ndarray]):
    """Rewards are the training ones: `task.reward_scale` x raw + `task.reward_shift`, raw as data sets record it.

    `info` holds `succeed` (whether the episode has succeeded by now), `raw_reward` (what the score counts),
    `requested_action` and `executed_action` (the same: the action, clipped). Where the action or the simulation is not finite,
    the step is truncated with `info["fault"]`, and the next reset begins anew. With a pace, `late_s` and `step_s` are those of
    `RobotEnv`.
    """

    fault = None  # no fault stays: a simulation needs no human

    def __init__(self, task: D4RLTask, render_mode: Any = None, pace: Pace | None = None) -> None:
        self.task, self.twin = task, task.make(render_mode)
        self.render_mode, self.pace = render_mode, pace
        self.observation_space, self.action_space = make_spaces(task)
        self._obs: dict[str, np.ndarray] = {}
        self._succeeded = False

    def acknowledge(self, operator: str) -> None:
        """Nothing is held, so there is nothing to acknowledge."""

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """See `D4RLEnv.reset`."""
        super().reset(seed=seed)
        obs, _ = self.twin.reset(seed=seed, options=options)
        self._obs, self._succeeded = {"state": obs.astype(np.float32)}, False
        if self.pace is not None:
            self.pace.restart()
        return dict(self._obs), {"succeed": False}

    def step(self, action: np.ndarray) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """One control step. Raises `ValueError` for an action of another shape."""
        asked = np.asarray(action, np.float32)
        if asked.shape != self.action_space.shape:
            raise ValueError(f"action has shape {asked.shape}; give {self.action_space.shape}, as action_space says")
        if not np.isfinite(asked).all():
            return self._broken(asked, np.zeros_like(asked), f"action {asked.tolist()} is not finite")
        asked = np.clip(asked, -1.0, 1.0)
        paced = {} if self.pace is None else self.pace.beat()
        obs, scored, terminated, truncated, told = self.twin.step(asked)
        if not (np.isfinite(obs).all() and np.isfinite(scored)):
            return self._broken(asked, asked, "the simulation is not finite any more")
        self._obs, self._succeeded = {"state": obs.astype(np.float32)}, self._succeeded or bool(told["success"])
        raw = float(told.get("training_reward", scored))
        reward = self.task.reward_scale * raw + self.task.reward_shift
        return dict(self._obs), reward, terminated, truncated, self._info(asked, asked, float(scored)) | paced

    def _broken(
        self, asked: np.ndarray, done: np.ndarray, why: str
    ) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        raw = 0.0 if self.task.failure_reward is None else self.task.failure_reward
        reward = self.task.reward_scale * raw + self.task.reward_shift
        return dict(self._obs), reward, False, True, self._info(asked, done, raw) | {"fault": why}

    def _info(self, asked: np.ndarray, done: np.ndarray, raw: float) -> dict[str, Any]:
        return {
            "succeed": self._succeeded,
            "requested_action": asked,
            "executed_action": done,
            "raw_reward": raw,
        }

    def render(self) -> np.ndarray | None:
        """See `D4RLEnv.render`."""
        return self.twin.render()

    def close(self) -> None:
        """Frees what pictures needed."""
        self.twin.close()
