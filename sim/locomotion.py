"""HalfCheetah, Hopper and Walker2d as D4RL has them: gym's v2 tasks, on gymnasium's model files.

The v4 files describe the bodies of v2 in local coordinates, down to the walker's unequal feet; v5's walker has equal ones.
"""

from pathlib import Path
from typing import Any, ClassVar, Literal

import gymnasium
import mujoco
import numpy as np

from sim.d4rl import D4RLEnv, D4RLTask
from sim.scores import REFERENCES

HOPPER_STATE_LIMIT = 100.0  # a hopper is down when a coordinate beyond the place, or a speed, reaches this; rad, m, 1/s


class LocomotionEnv(D4RLEnv):
    """Runs along x. Observes the positions without x, then the velocities; is paid for the way it makes.

    `info` holds the terms of the reward: `reward_forward`, `reward_control` and, where it can fall, `reward_alive`. There is no
    success: `info["success"]` is always False.

    A subclass says what is noisy at the start (`_begin`) and when it is down (`_down`).
    """

    model_file: ClassVar[str]
    control_cost: ClassVar[float]  # per squared unit of action
    alive_reward: ClassVar[float]  # per step
    velocity_limit: ClassVar[float]  # of what is observed, m/s or rad/s
    view = (3.2, 90.0, -12.0, "torso")

    def __init__(self, task: D4RLTask, render_mode: Literal["rgb_array"] | None = None) -> None:
        # Beside gymnasium's own environments, which are not imported for it.
        assets = Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets"
        super().__init__(task, mujoco.MjModel.from_xml_path(str(assets / self.model_file)), render_mode)
        self._step_s = self.model.opt.timestep * self.frame_skip
        self._x_before_m = 0.0

    def _control(self, action: np.ndarray) -> None:
        self._x_before_m = self.data.qpos[0]
        self.data.ctrl[:] = action

    def _observe(self) -> np.ndarray:
        limit = self.velocity_limit
        return np.concatenate([self.data.qpos[1:], np.minimum(np.maximum(self.data.qvel, -limit), limit)])

    def _judge(self, action: np.ndarray) -> tuple[float, bool, dict[str, Any]]:
        forward = (self.data.qpos[0] - self._x_before_m) / self._step_s
        control = -self.control_cost * np.square(action).sum()
        terms = {"reward_forward": forward, "reward_alive": self.alive_reward, "reward_control": control}
        return sum(terms.values()), self._down(), {"success": False, **terms}

    def _down(self) -> bool:
        """Whether it fell."""
        raise NotImplementedError


class HalfCheetahEnv(LocomotionEnv):
    """Two legs, six joints; it cannot fall."""

    frame_skip = 5
    model_file = "half_cheetah.xml"
    control_cost, alive_reward, velocity_limit = 0.1, 0.0, np.inf

    def _begin(self) -> None:
        self.data.qpos[:] += self.np_random.uniform(-0.1, 0.1, self.model.nq)
        self.data.qvel[:] += 0.1 * self.np_random.standard_normal(self.model.nv)

    def _down(self) -> bool:
        return False


class FallingEnv(LocomotionEnv):
    """One that is paid for staying up, and ends where it falls."""

    frame_skip = 4
    control_cost, alive_reward, velocity_limit = 1e-3, 1.0, 10.0

    def _begin(self) -> None:
        self.data.qpos[:] += self.np_random.uniform(-0.005, 0.005, self.model.nq)
        self.data.qvel[:] += self.np_random.uniform(-0.005, 0.005, self.model.nv)


class HopperEnv(FallingEnv):
    """One leg, three joints."""

    model_file = "hopper.xml"

    def _down(self) -> bool:
        _, height_m, lean_rad = self.data.qpos[:3]
        upright = height_m > 0.7 and abs(lean_rad) < 0.2
        return not (
            upright
            and abs(self.data.qpos[3:]).max() < HOPPER_STATE_LIMIT
            and abs(self.data.qvel).max() < HOPPER_STATE_LIMIT
        )


class Walker2dEnv(FallingEnv):
    """Two legs, six joints."""

    model_file = "walker2d.xml"

    def _down(self) -> bool:
        _, height_m, lean_rad = self.data.qpos[:3]
        return not (0.8 < height_m < 2.0 and -1.0 < lean_rad < 1.0)


def _task(name: str, what: str, env: type[LocomotionEnv], obs_dim: int, action_dim: int, hz: float) -> D4RLTask:
    return D4RLTask(
        name=name,
        what=what,
        env=env,
        obs_dim=obs_dim,
        action_dim=action_dim,
        max_steps=1000,
        hz=hz,
        success="there is none: it is scored by its return",
        reward="speed forward in m/s"
        + (", plus 1 for a step that it begins upright," if env.alive_reward else ",")
        + f" less {env.control_cost} of the action squared",
        reference=REFERENCES[name],
    )


TASKS = (
    _task("halfcheetah", "A planar body on two legs runs as fast as it can.", HalfCheetahEnv, 17, 6, hz=20.0),
    _task("hopper", "A planar leg hops forward without falling.", HopperEnv, 11, 3, hz=125.0),
    _task("walker2d", "A planar body on two legs walks forward without falling.", Walker2dEnv, 17, 6, hz=125.0),
)
