"""The twin's arm driven by joint torques, one millisecond at a time: what a robot's control interface is put in front of.

The scene is the task's own, with its native impedance controller at rest: torques come from outside. Gravity is compensated, as
the robot does. External forces are those of real contacts on the hand and on what it holds.
"""

import importlib
from dataclasses import dataclass

import mujoco
import numpy as np
from scipy.spatial.transform import Rotation

from robot_env.tasks import Task
from sim import panda
from sim.randomize import hidden_offset, place_hole

STEP_S = 0.001
VELOCITY_LIMIT_RAD_S = np.array([2.175, 2.175, 2.175, 2.175, 2.61, 2.61, 2.61])  # Franka's data sheet of the Panda
# The robot's own joint controller, which holds it and follows joint motions; libfranka's examples set these stiffnesses.
JOINT_STIFFNESS = np.array([3000.0, 3000.0, 3000.0, 2500.0, 2500.0, 2000.0, 2000.0])  # N·m/rad
# N·m·s/rad, about critical for what each joint carries in the home pose, kg·m².
JOINT_DAMPING = 2.0 * np.sqrt(JOINT_STIFFNESS * np.array([0.9, 1.4, 0.9, 0.7, 0.13, 0.13, 0.11]))
# An impact of rigid bodies lasts one or two steps and reaches hundreds of newtons. A robot's joints give, and its estimate is
# filtered: with this constant the peg that meets the rim at 0.1 m/s shows about 20 N.
WRENCH_FILTER_S = 0.030


@dataclass(frozen=True)
class Load:
    """A rigid body on the flange: mass kg, centre of mass `(3,)` m and inertia `(3, 3)` kg·m² about it, flange axes."""

    mass_kg: float
    com_m: np.ndarray
    inertia: np.ndarray


def body_as_load(model: mujoco.MjModel, body: int) -> Load:
    """A body of a model, in its own axes."""
    turn = Rotation.from_quat(model.body_iquat[body], scalar_first=True).as_matrix()
    inertia = turn @ np.diag(model.body_inertia[body]) @ turn.T
    return Load(float(model.body_mass[body]), model.body_ipos[body].copy(), inertia)


def moved(load: Load, shift_m: np.ndarray) -> Load:
    """The same, further on by `shift_m (3,)`."""
    return Load(load.mass_kg, load.com_m + shift_m, load.inertia)


def turned(load: Load, turn: np.ndarray) -> Load:
    """The same in other axes: `turn (3, 3)` takes the old to the new."""
    return Load(load.mass_kg, turn @ load.com_m, turn @ load.inertia @ turn.T)


def joined(loads: list[Load]) -> Load:
    """Several rigid bodies as one; none is nothing."""
    mass = sum(load.mass_kg for load in loads)
    if mass == 0.0:
        return Load(0.0, np.zeros(3), np.zeros((3, 3)))
    com = sum((load.mass_kg * load.com_m for load in loads), np.zeros(3)) / mass
    inertia = np.zeros((3, 3))
    for load in loads:
        shift = load.com_m - com
        inertia += load.inertia + load.mass_kg * (shift @ shift * np.eye(3) - np.outer(shift, shift))
    return Load(mass, com, inertia)


class TorqueArm:
    """A simulated Panda under joint torques.

    Args:
        task: its scene is built; the hole is drawn once, at the start, as the task's hidden offset says.
        seed: of that draw.

    Attributes:
        q, dq: `(7,)` rad, rad/s.
        torque: `(7,)` N·m, commanded last, without gravity.
        wrench: `(6,)` N, N·m: what the world does to the tool, about the TCP, base axes, filtered.
        external: `(7,)` N·m: what that comes to at the joints.
        clock_ms: simulated time.
    """

    def __init__(self, task: Task, seed: int = 0) -> None:
        self.task = task
        self.model = importlib.import_module(task.scene.module).build(task, STEP_S).compile()
        self.data = mujoco.MjData(self.model)
        self.model.jnt_stiffness[:7] = 0.0  # the twin's posture spring is its controller's
        self.model.dof_damping[:7] = 0.0
        self._tcp, self._hand = self.model.site("tcp").id, self.model.body("hand").id
        self._tool = [self._hand, *_below(self.model, self._hand)]
        self._root = self.model.body_rootid[self._hand]
        self._jacobian = np.zeros((6, 7))
        self.torque, self.wrench, self.external = np.zeros(7), np.zeros(6), np.zeros(7)
        self.clock_ms = 0
        self._hole = self.model.body_mocapid[self.model.body("hole").id]
        place_hole(self.data, self._hole, task, hidden_offset(task, np.random.default_rng(seed)))
        self.data.qpos[:7] = panda.HOME_RAD
        self.q, self.dq = self.data.qpos[:7], self.data.qvel[:7]
        mujoco.mj_forward(self.model, self.data)

    def step(self, torque: np.ndarray) -> None:
        """One millisecond under `torque (7,)`, N·m, finite; it is cut at what the joints can do."""
        model, data = self.model, self.data
        self.torque = np.clip(torque, -panda.TORQUE_LIMIT_NM, panda.TORQUE_LIMIT_NM)
        data.qfrc_applied[:7] = self.torque
        mujoco.mj_step2(model, data)
        wrench = self._contact_wrench()
        mujoco.mj_step1(model, data)  # so that everything read now belongs to the new q and dq
        self.wrench += (STEP_S / (STEP_S + WRENCH_FILTER_S)) * (wrench - self.wrench)
        mujoco.mj_jacSite(model, data, self._jacobian[:3], self._jacobian[3:], self._tcp)
        self.external = self._jacobian.T @ self.wrench
        self.clock_ms += 1

    def forget_impact(self) -> None:
        """Let the estimate of the wrench begin anew, from nothing: one step of contact may show hundreds of newtons."""
        self.wrench, self.external = np.zeros(6), np.zeros(7)

    def follow(self, q: np.ndarray, dq: np.ndarray) -> np.ndarray:
        """The torque `(7,)` by which the robot's own controller goes to `q`, rad, at `dq`, rad/s."""
        return JOINT_STIFFNESS * (q - self.q) + JOINT_DAMPING * (dq - self.dq)

    @property
    def tcp(self) -> np.ndarray:
        """`(4, 4)` pose of the TCP in the base frame."""
        return _matrix(self.data.site_xpos[self._tcp], self.data.site_xmat[self._tcp].reshape(3, 3))

    @property
    def gravity(self) -> np.ndarray:
        """`(7,)` N·m by which gravity is compensated."""
        return self.data.qfrc_gravcomp[:7]

    @property
    def hole_pose(self) -> np.ndarray:
        """`(7,)`: the TCP pose at full insertion into the hole as it really lies, m and xyzw. No robot knows this."""
        return np.concatenate([self.data.mocap_pos[self._hole], np.roll(self.data.mocap_quat[self._hole], -1)])

    def loads(self) -> tuple[Load, Load]:
        """The hand, and what it holds, as the robot's settings name them: on the flange."""
        hand = body_as_load(self.model, self._hand)
        held = [moved(body_as_load(self.model, body), self.model.body_pos[body]) for body in self._tool[1:]]
        turn = Rotation.from_euler("z", panda.HAND_YAW_RAD).as_matrix()
        return turned(hand, turn), turned(joined(held), turn)

    def _contact_wrench(self) -> np.ndarray:
        """`(6,)` N, N·m of all contacts on the tool, about the TCP, base axes."""
        total = self.data.cfrc_ext[self._tool].sum(axis=0)  # torque, then force, about the tree's centre of mass
        force = total[3:]
        if not force.any():
            return np.zeros(6)
        arm = self.data.subtree_com[self._root] - self.data.site_xpos[self._tcp]
        return np.concatenate([force, total[:3] + np.cross(arm, force)])


def flange_to_tcp() -> np.ndarray:
    """`(4, 4)`: the TCP in the flange's frame."""
    return _matrix(np.array([0.0, 0.0, panda.TCP_M]), Rotation.from_euler("z", panda.HAND_YAW_RAD).as_matrix())


def _matrix(position: np.ndarray, turn: np.ndarray) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = turn, position
    return matrix


def _below(model: mujoco.MjModel, body: int) -> list[int]:
    """The bodies that hang on one."""
    return [b for b in range(model.nbody) if model.body_parentid[b] == body and b != body]
