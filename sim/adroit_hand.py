"""The ground of the Adroit tasks: a hand of 24 joints, on an arm of up to six, on gymnasium-robotics' model files."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import mujoco
import numpy as np

from sim.d4rl import D4RLEnv, D4RLTask, library_model

WRIST_GAIN, FINGER_GAIN = 10.0, 1.0  # N·m/rad; D4RL sets them over what the model file says


class AdroitEnv(D4RLEnv):
    """An Adroit task with D4RL's semantics (`d4rl/hand_manipulation_suite`, Apache-2.0).

    An action is a target for each joint's position servo, from -1 at the low end of its range to 1 at the high end. A task
    with a dense reward earns the sum of `reward_terms`. A binary one earns its failure reward until a success, which earns 0
    and ends it.

    Positions of bodies and sites are one physics step (2 ms) older than joint angles, as D4RL's are: `mj_step` ends with the
    joints moved and does not carry the bodies after them. Observation, reward and success see the same positions.

    A subclass names its `scene`, says in `moved` what `_begin` moves about, and writes `reward_terms` and `_succeeded`.
    """

    frame_skip = 5
    scene: ClassVar[str]
    derived: ClassVar[frozenset[str]] = frozenset()  # what D4RL's states hold beyond need: it follows from the rest

    def __init__(self, task: D4RLTask, render_mode: Literal["rgb_array"] | None = None) -> None:
        model = mujoco.MjModel.from_xml_path(str(library_model(f"adroit_hand/adroit_{self.scene}.xml")))
        _set_gains(model)
        super().__init__(task, model, render_mode)
        low, high = model.actuator_ctrlrange.T
        self._middle, self._reach = (low + high) / 2.0, (high - low) / 2.0
        # Of model and data these are windows, not copies: they always show the present.
        self.palm = self.data.site("S_grasp").xpos
        self.moved: dict[str, np.ndarray] = {}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Goes to a state of `get_state`, of D4RL's `get_env_state`, or of DAPG's `init_state_dict`. See `D4RLEnv`."""
        super().set_state({name: value for name, value in state.items() if name not in self.derived})

    def reward_terms(self) -> dict[str, float]:
        """What the dense reward of the present moment is the sum of, by name."""
        raise NotImplementedError

    def _succeeded(self) -> bool:
        raise NotImplementedError

    def _failed(self) -> bool:
        """Whether nothing can be won any more, which ends a task with a dense reward."""
        return False

    def _control(self, action: np.ndarray) -> None:
        self.data.ctrl[:] = self._middle + action * self._reach

    def _judge(self, action: np.ndarray) -> tuple[float, bool, dict[str, Any]]:
        success = bool(self._succeeded())
        if self.task.failure_reward is not None:
            return (0.0 if success else self.task.failure_reward), success, {"success": success}
        return sum(self.reward_terms().values()), bool(self._failed()), {"success": success}

    def _extra_state(self) -> Mapping[str, np.ndarray]:
        return self.moved

    def _set_extra_state(self, extra: Mapping[str, np.ndarray]) -> None:
        for name, window in self.moved.items():
            window[:] = extra[name]


def apart(one: np.ndarray, other: np.ndarray) -> float:
    """The distance of two positions, m."""
    return float(np.linalg.norm(one - other))


def _set_gains(model: mujoco.MjModel) -> None:
    for index in range(model.nu):
        name = model.actuator(index).name
        if not name.startswith("A_AR"):  # the arm keeps the file's
            gain = WRIST_GAIN if name.startswith("A_WR") else FINGER_GAIN
            model.actuator_gainprm[index, :3] = gain, 0.0, 0.0
            model.actuator_biasprm[index, :3] = 0.0, -gain, 0.0
