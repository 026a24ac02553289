"""The twin as a robot's own computer has it: driven tick by tick, with references, gains, a load and raw sensors."""

from dataclasses import dataclass

import mujoco
import numpy as np
from scipy.spatial.transform import Rotation

from robot_env.arm import Gains
from robot_env.tasks import Task
from sim import panda
from sim.randomize import place_hole
from sim.twin_arm import TwinArm

GRAVITY_M_S2 = 9.81
CLEAR_M = 0.002  # above the rim: the peg is out of the hole


@dataclass(frozen=True)
class RawState:
    """What the robot's sensors and its model say, in libfranka's conventions.

    Attributes:
        pose: `(7,)` of the TCP, m and xyzw, base frame.
        velocity: `(6,)`, m/s and rad/s, base frame.
        wrench: `(6,)` N and N·m of the *tool on the environment* at the TCP, in its frame, as `K_F_ext_hat_K` has it.
        joints, joint_velocity: `(7,)`, rad and rad/s.
        jacobian: `(6, 7)`, base frame, linear rows first.
        gripper: opening, 0 closed to 1 open.
        stamp_s: simulated seconds since the twin was built; never goes back.
    """

    pose: np.ndarray
    velocity: np.ndarray
    wrench: np.ndarray
    joints: np.ndarray
    joint_velocity: np.ndarray
    jacobian: np.ndarray
    gripper: float
    stamp_s: float


class RobotTwin(TwinArm):
    """A twin that starts at Franka's ready pose, at rest, and does nothing but what it is told.

    Args:
        task: see `TwinArm`.
        seed: of the scenes that `place_home` draws.
    """

    def __init__(self, task: Task, seed: int = 0) -> None:
        super().__init__(task)
        self._rng = np.random.default_rng(seed)
        self._load_kg, self._load_at_m = 0.0, np.zeros(3)
        self.place_home()
        self._weight = self._wrist.copy()

    @property
    def pose(self) -> np.ndarray:
        """`(7,)` of the TCP, m and xyzw."""
        return self._tcp_pose(self.data)

    @property
    def time_s(self) -> float:
        """Simulated seconds since the twin was built."""
        return self.data.time

    @property
    def contact_n(self) -> float:
        """The force of contact over the last tick, N: what the wrist feels beyond the weight of hand and peg."""
        return float(np.linalg.norm(self._wrist[:3] - self._weight[:3]))

    def refer(self, pose: np.ndarray) -> None:
        """Moves the impedance controller's reference to a pose `(7,)`, m and a unit quaternion xyzw."""
        self._set_reference(pose)

    def tick(self, seconds: float) -> None:
        """Lets time pass: a whole number of physics steps."""
        steps = round(seconds / self.model.opt.timestep)
        self._simulate(np.repeat(self._inputs()[None], steps, axis=0))

    def set_controller(self, gains: Gains, clip_low: np.ndarray, clip_high: np.ndarray) -> None:
        """Gains, and how far `(6,)` the tool may lag behind (low) or run ahead (high) of the reference, m and rad."""
        self._mode = None  # neither of the two that `TwinArm` knows
        panda.set_gains(self.model, gains)
        stiffness = -self.model.actuator_biasprm[0:6, 1]
        self.model.actuator_forcerange[0:6, 0] = -stiffness * clip_high
        self.model.actuator_forcerange[0:6, 1] = stiffness * clip_low

    def set_load(self, mass_kg: float, centre_m: np.ndarray) -> None:
        """What the robot believes to carry: its weight is taken out of the wrench. `centre_m (3,)` in the flange's frame."""
        self._load_kg = mass_kg
        self._load_at_m = Rotation.from_euler("z", -panda.HAND_YAW_RAD).apply(centre_m) - [0.0, 0.0, panda.TCP_M]

    def new_scene(self, rng: np.random.Generator) -> None:
        """Draws the hole's place anew, the arm staying where it is. Raises `ValueError` while the peg is in the hole."""
        rim_m = self.hole_pose[2] + self.task.scene.hole_depth_m
        if self.pose[2] < rim_m + CLEAR_M:
            raise ValueError(
                f"the tool is at {self.pose[2]:.3f} m and the peg may be in the hole; lift it above the rim"
            )
        place_hole(self.data, self._mocap["hole"], self.task, self._draw_scene(rng))
        self.tick(self.model.opt.timestep)

    def place_home(self) -> None:
        """Places the arm, at rest, at Franka's ready pose, and draws a new scene."""
        model, data, time_s = self.model, self.data, self.data.time
        hole = self._draw_scene(self._rng)
        mujoco.mj_resetData(model, data)
        model.qpos_spring[:7] = data.qpos[:7] = panda.HOME_RAD
        data.time = time_s
        mujoco.mj_forward(model, data)
        place_hole(data, self._mocap["hole"], self.task, hole)
        self._set_reference(self.pose)
        self._set_mode("compliant")
        self.tick(1.0 / self.task.hz)

    def raw(self) -> RawState:
        """The state at the end of the last tick; the wrench is its mean."""
        state, jacobian = self.read(), np.empty((6, 7))
        mujoco.mj_jacSite(self.model, self.data, jacobian[:3], jacobian[3:], self._tcp)
        weight = Rotation.from_quat(state.tcp_pose[3:]).inv().apply([0.0, 0.0, -GRAVITY_M_S2 * self._load_kg])
        force = self._wrist[:3] + weight
        # The sensors are about the wrist; the load's weight acts at its centre.
        torque = (
            self._wrist[3:] - np.cross([0.0, 0.0, panda.TCP_M], self._wrist[:3]) + np.cross(self._load_at_m, weight)
        )
        return RawState(
            pose=state.tcp_pose,
            velocity=state.tcp_velocity,
            wrench=np.concatenate([force, torque]),
            joints=state.joints,
            joint_velocity=self.data.qvel[:7].copy(),
            jacobian=jacobian,
            gripper=state.gripper,
            stamp_s=state.stamp_s,
        )
