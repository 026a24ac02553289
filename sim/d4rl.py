"""The ground that all D4RL tasks share: what a task says of itself, and one environment on plain MuJoCo."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Literal

import gymnasium
import mujoco
import numpy as np
from gymnasium import spaces

from sim.pictures import Painter

State = dict[str, np.ndarray]
PICTURE = (480, 360)  # width, height in pixels


@dataclass(frozen=True)
class D4RLTask:
    """A task of D4RL's, or the same scene with a sparse reward.

    Attributes:
        name: such as `door-binary`.
        what: one sentence.
        env: the class of its environment.
        obs_dim, action_dim: sizes of the observation and of the action, which is within -1..1.
        max_steps: time limit, control steps; ending there is truncation.
        hz: control steps per second of simulated time.
        success: when a step counts as a success, in words.
        reward: what a step earns, in words.
        reference: D4RL's returns of a random policy and of an expert: a normalised score is 0 at the one, 100 at the other.
        settings: what else the class needs to know.
        scored: what is normalised: the episode's return, or whether it succeeded.
        discount: per control step.
        reward_scale, reward_shift: training reward = scale x raw + shift; WSRL's for the domain.
        failure_reward: raw reward of every step of an episode that never succeeds; None where the reward is dense.
        counted: where data sets record a running count instead of what is scored, the count that is success; else None.
        success_in: whether observations `(N, D)` are of success, `(N,)` bool; None where they do not tell.
    """

    name: str
    what: str
    env: type["D4RLEnv"]
    obs_dim: int
    action_dim: int
    max_steps: int
    hz: float
    success: str
    reward: str
    reference: tuple[float, float]
    settings: Mapping[str, Any] = field(default_factory=dict)
    scored: Literal["return", "success"] = "return"
    discount: float = 0.99
    reward_scale: float = 1.0
    reward_shift: float = 0.0
    failure_reward: float | None = None
    counted: float | None = None
    success_in: Callable[[np.ndarray], np.ndarray] | None = None

    @property
    def truncation_value(self) -> float:
        """What the training return of an episode that was cut short ends in: failing on for ever, or nothing if dense."""
        if self.failure_reward is None:
            return 0.0
        return (self.reward_scale * self.failure_reward + self.reward_shift) / (1.0 - self.discount)

    def make(self, render_mode: Literal["rgb_array"] | None = None) -> "D4RLEnv":
        """A new environment."""
        return self.env(self, render_mode)

    def recorded_return(self, reward: np.ndarray) -> float:
        """The raw return of an episode's rewards `(T,)` as data sets record them."""
        return float(reward.sum() if self.counted is None else reward.max())

    def normalized(self, raw_return: float, success: bool) -> float:
        """The normalised score of one episode, 0 to 100 for D4RL's references."""
        low, high = self.reference
        return 100.0 * ((raw_return if self.scored == "return" else float(success)) - low) / (high - low)


class D4RLEnv(gymnasium.Env[np.ndarray, np.ndarray]):
    """An environment with D4RL's semantics on a compiled MuJoCo model.

    Observations are `(D,)` float64, actions `(A,)` in [-1, 1]; what is outside is clipped. `info["success"]` tells of the step;
    `info["training_reward"]` is there where data sets record another reward than the one that is scored.

    A subclass builds the model in `__init__`, and says how an episode begins (`_begin`), what an action does (`_control`), what
    is observed (`_observe`) and what a step is worth (`_judge`).
    """

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012 (gymnasium's own declaration)
    frame_skip: ClassVar[int]
    # Of the camera: distance m, azimuth and elevation in degrees, and what it looks at, a point or a body's name.
    view: tuple[float, float, float, tuple[float, float, float] | str]

    def __init__(self, task: D4RLTask, model: mujoco.MjModel, render_mode: Literal["rgb_array"] | None = None) -> None:
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"render_mode {render_mode!r}: there is 'rgb_array', or None for no pictures")
        self.task, self.model, self.data = task, model, mujoco.MjData(model)
        self.render_mode = render_mode
        self.metadata = {**type(self).metadata, "render_fps": round(task.hz)}
        self.observation_space = spaces.Box(-np.inf, np.inf, (task.obs_dim,), np.float64)
        self.action_space = spaces.Box(-1.0, 1.0, (task.action_dim,), np.float32)
        self.steps = 0
        self._painter: Painter | None = None

    def reset(self, *, seed: int | None = None, options: Mapping[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        """A new episode.

        Args:
            seed: of all that it draws.
            options: `{"state": ...}` begins where `get_state` was, or at `qpos`, `qvel` and what else the task has.

        Raises:
            ValueError: an option is unknown, or the state is not one of this task.
        """
        super().reset(seed=seed)
        unknown = set(options or {}) - {"state"}
        if unknown:
            raise ValueError(f"reset option {sorted(unknown)[0]!r} is unknown; the only one is 'state'")
        mujoco.mj_resetData(self.model, self.data)
        self.steps = 0
        self._begin()
        mujoco.mj_forward(self.model, self.data)
        if options and "state" in options:
            self.set_state(options["state"])
        return self._observe(), {"success": False}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        """One control step of `frame_skip` physics steps. Raises `ValueError` for an action that is not `(A,)` numbers."""
        action = np.asarray(action, np.float64)
        if action.shape != self.action_space.shape or np.isnan(action @ action):
            raise ValueError(f"action of {self.task.name} is {action}; give {self.task.action_dim} numbers in -1..1")
        action = np.clip(action, -1.0, 1.0)
        self._control(action)
        mujoco.mj_step(self.model, self.data, self.frame_skip)
        self.steps += 1
        reward, terminated, info = self._judge(action)
        truncated = not terminated and self.steps >= self.task.max_steps
        return self._observe(), float(reward), bool(terminated), truncated, info

    def get_state(self) -> State:
        """All that decides what follows, as copies: give it to `set_state`, or to `reset(options={"state": ...})`."""
        state = {"qpos": self.data.qpos, "qvel": self.data.qvel, "warmstart": self.data.qacc_warmstart}
        if self.model.na:
            state["act"] = self.data.act
        state["steps"] = np.asarray(self.steps)
        return {name: np.array(x) for name, x in {**state, **self._extra_state()}.items()}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Goes to a state. `qpos` and `qvel` have to be there, and what the task moves about; the rest begins at nothing.

        Raises:
            ValueError: something is missing, unknown, of another size or not finite.
        """
        steps = checked_steps(self.task, self.get_state(), {"qpos", "qvel", *self._extra_state()}, state)
        self._set_extra_state({name: np.asarray(state[name], np.float64) for name in self._extra_state()})
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[:], self.data.qvel[:] = state["qpos"], state["qvel"]
        if self.model.na:
            self.data.act[:] = state.get("act", 0.0)
        self.steps = steps
        mujoco.mj_forward(self.model, self.data)
        self.data.qacc_warmstart[:] = state.get("warmstart", 0.0)

    def render(self) -> np.ndarray | None:
        """A picture `(height, width, 3)` uint8 of the scene; None where no pictures were asked for."""
        if self.render_mode is None:
            return None
        if self._painter is None:
            self._painter = Painter(self.model, *PICTURE, fine=True)
        distance, azimuth, elevation, target = self.view
        camera = mujoco.MjvCamera()
        camera.distance, camera.azimuth, camera.elevation = distance, azimuth, elevation
        camera.lookat = self.data.body(target).xpos if isinstance(target, str) else target
        return self._painter.paint(self.data, camera)

    def close(self) -> None:
        """Frees what pictures needed."""
        if self._painter is not None:
            self._painter.close()
            self._painter = None

    def _begin(self) -> None:
        """Puts model and data at a new start; draws from `self.np_random`."""
        raise NotImplementedError

    def _control(self, action: np.ndarray) -> None:
        """Sets `data.ctrl` for a clipped action."""
        raise NotImplementedError

    def _observe(self) -> np.ndarray:
        """`(D,)` float64, newly made."""
        raise NotImplementedError

    def _judge(self, action: np.ndarray) -> tuple[float, bool, dict[str, Any]]:
        """Reward, whether the task ended, and info with `success`."""
        raise NotImplementedError

    def _extra_state(self) -> Mapping[str, np.ndarray]:
        """What the task moves about in the model, by D4RL's names."""
        return {}

    def _set_extra_state(self, extra: Mapping[str, np.ndarray]) -> None:
        """The inverse."""


def checked_steps(task: D4RLTask, here: State, needed: set[str], state: Mapping[str, Any]) -> int:
    """The steps of a state that is to be gone to. Raises `ValueError` where that does not fit the state `here`."""
    for name in needed - state.keys():
        raise ValueError(f"state of {task.name}: {name!r} is missing; give {', '.join(sorted(needed))}")
    for name, value in state.items():
        if name not in here:
            raise ValueError(f"state of {task.name}: {name!r} is unknown; it has {', '.join(here)}")
        found = np.asarray(value, np.float64)
        if found.shape != here[name].shape or not np.isfinite(found).all():
            raise ValueError(f"state of {task.name}: {name} is not {here[name].shape} finite numbers; correct it")
    steps = float(state.get("steps", 0))
    if steps < 0 or steps != int(steps):
        raise ValueError(f"state of {task.name}: steps is {steps:g}; give a whole number of 0 or more")
    return int(steps)


def library_model(path: str) -> Path:
    """A model file of gymnasium-robotics, which is not imported for it: its import prints."""
    spec = find_spec("gymnasium_robotics")
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError("gymnasium-robotics is not installed; run `make setup`")
    return Path(spec.submodule_search_locations[0]) / "envs" / "assets" / path
