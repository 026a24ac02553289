"""`TwinArm`: the simulated arm behind the same protocol as the real one."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass

import mujoco
import numpy as np
from mujoco.rollout import Rollout
from scipy.spatial.transform import Rotation

from robot_env.arm import GAINS, ArmCommand, ArmState, Camera, Frame, Mode
from robot_env.tasks import Task
from sim import panda
from sim.dynamics import PUBLISHED, Dynamics
from sim.pictures import Painter
from sim.randomize import OFF, Randomization, Randomizer, hidden_offset, place_hole

CAMERA_SIZE = {"wrist_1": (128, 128), "wrist_2": (128, 128), "scene": (480, 360)}  # width, height in pixels

STATE = mujoco.mjtState.mjSTATE_FULLPHYSICS.value
INPUTS = mujoco.mjtState.mjSTATE_MOCAP_POS.value | mujoco.mjtState.mjSTATE_MOCAP_QUAT.value


class TwinArm:
    """A simulated Franka Panda in a task's scene. `send` lets exactly one control period of simulated time pass.

    Args:
        task: its `scene` says what is built, its `target` where, its `hz` how long a control period is.
        randomization: what else is drawn at each reset, beside the task's own hidden hole offset.
        timestep_s: physics step; a whole number of them must make a control period.
        dynamics: of the arm, as `segue twin fit` finds them.
    """

    def __init__(
        self, task: Task, randomization: Randomization = OFF, timestep_s: float = 0.002, dynamics: Dynamics = PUBLISHED
    ) -> None:
        self.substeps = round(1.0 / (task.hz * timestep_s))
        if abs(self.substeps * timestep_s * task.hz - 1.0) > 1e-9:
            raise ValueError(
                f"timestep {timestep_s} s does not divide task {task.name!r}'s control period 1/{task.hz} s;"
                " choose one that does, such as 0.002"
            )
        if randomization.latency_s + dynamics.latency_s > 1.0 / task.hz:
            raise ValueError(
                f"Randomization.latency_s {randomization.latency_s} s, with the arm's own {dynamics.latency_s:g} s, is longer"
                f" than task {task.name!r}'s control period {1.0 / task.hz} s; lower it"
            )
        self.task, self.dynamics = task, dynamics
        self.model = importlib.import_module(task.scene.module).build(task, timestep_s).compile()
        self.model.dof_frictionloss[:7] = dynamics.dry_friction_nm
        self.data = mujoco.MjData(self.model)
        self._ik_data = mujoco.MjData(self.model)
        self._randomizer = Randomizer(self.model, randomization)
        self._tcp, self._hand = self.model.site("tcp").id, self.model.body("hand").id
        self._mocap = {
            name: self.model.body_mocapid[self.model.body(name).id]
            for name in ("reference_position", "reference_orientation", "hole")
        }
        self._tare, self._wrist = np.zeros(6), np.zeros(6)
        self._rollout = Rollout(nthread=0)
        self._delay_steps = 0.0
        self._mode: Mode | None = None
        self._refusal: str | None = "the arm has not been reset yet"
        self._painters: dict[tuple[int, int], Painter] = {}
        self.data.qpos[:7] = panda.HOME_RAD
        mujoco.mj_forward(self.model, self.data)

    def connect(self) -> None:
        """Nothing to open."""

    def read(self) -> ArmState:
        """The state at the end of the last control step; `stamp_s` counts simulated seconds since the reset.

        The wrench is the mean over that step, about the wrist (the hand's mount): a rigid impact lasts one or two
        physics steps and reaches hundreds of newtons, which no filtered sensor on a robot would show either.
        """
        data, velocity = self.data, np.empty(6)
        mujoco.mj_objectVelocity(self.model, data, mujoco.mjtObj.mjOBJ_SITE, self._tcp, velocity, 0)
        return ArmState(
            tcp_pose=self._tcp_pose(data),
            tcp_velocity=np.concatenate([velocity[3:], velocity[:3]]),
            wrench=self._tare - self._wrist,  # the sensors report the hand on the tool, not the world
            joints=data.qpos[:7].copy(),
            gripper=0.0,
            stamp_s=data.time,
        )

    def send(self, command: ArmCommand) -> ArmCommand:
        """Move the controller's reference and simulate one control period. Raises `RuntimeError` once stopped."""
        if self._refusal:
            raise RuntimeError(f"command refused: {self._refusal}; call reset first")
        pose = _unit(command.tcp_pose)
        self._set_mode(command.mode)
        before = self._inputs()
        self._set_reference(pose)
        self._simulate(self._delayed(before, self._inputs()))
        return ArmCommand(pose, 0.0, command.mode)

    def reset(self, path: np.ndarray, rng: np.random.Generator) -> None:
        """Draw a new scene from `rng` and place the arm, at rest, at the last pose of `path (n, 7)`; tare the wrench.

        The result depends on `path` and the state of `rng` alone, bit for bit.
        """
        pose = _unit(np.asarray(path, float)[-1])
        model, data = self.model, self.data
        self._refusal, self._mode = "the last reset failed", None
        hole = self._draw_scene(rng)
        joints = self._joints_at(pose)
        model.qpos_spring[:7] = joints
        mujoco.mj_resetData(model, data)
        data.qpos[:7] = joints
        place_hole(data, self._mocap["hole"], self.task, hole)
        self._set_mode("compliant")
        self._set_reference(pose)
        self._simulate(np.repeat(self._inputs()[None], self.substeps, axis=0))
        data.time = 0.0
        self._tare = self._wrist.copy()
        self._refusal = None

    def rest(self) -> None:
        """Nothing to do: simulated time stands still."""

    def stop(self, reason: str) -> None:
        """Hold the present pose; commands are refused until the next reset."""
        self._set_reference(self._tcp_pose(self.data))
        self._refusal = f"the arm was stopped ({reason})"

    def close(self) -> None:
        """Give the cameras' contexts back. Safe to call twice."""
        for painter in self._painters.values():
            painter.close()
        self._painters.clear()
        self._refusal = "the arm was closed"

    @property
    def cameras(self) -> Mapping[str, Camera]:
        """`wrist_1`, `wrist_2` (128x128) and `scene` (480x360). Nothing is opened before the first `read`."""
        return {name: TwinCamera(self, name) for name in CAMERA_SIZE}

    @property
    def hole_pose(self) -> np.ndarray:
        """`(7,)`: the TCP pose at full insertion into the hole as it really lies, m and xyzw. No robot knows this."""
        i = self._mocap["hole"]
        return np.concatenate([self.data.mocap_pos[i], np.roll(self.data.mocap_quat[i], -1)])

    def picture(self, camera: str) -> np.ndarray:
        """What a camera sees now, `(height, width, 3)` uint8 RGB."""
        size = CAMERA_SIZE[camera]
        if size not in self._painters:
            self._painters[size] = Painter(self.model, *size, fine=camera == "scene")
        return self._painters[size].paint(self.data, camera)

    def _simulate(self, inputs: np.ndarray) -> None:
        """One control period in one native call. `inputs (substeps, n)`: where the mocap bodies are at each step."""
        model, data = self.model, self.data
        state = np.empty(mujoco.mj_stateSize(model, STATE))
        mujoco.mj_getState(model, data, state, STATE)
        _, sensors = self._rollout.rollout(
            model, data, state, inputs, control_spec=INPUTS, initial_warmstart=data.qacc_warmstart.copy()
        )
        self._wrist = np.asarray(sensors)[0, :, :6].mean(axis=0)
        mujoco.mj_forward(model, data)  # poses of the state reached, not of the last step's start

    def _inputs(self) -> np.ndarray:
        """Where the mocap bodies are now, in the order in which a rollout wants them."""
        inputs = np.empty(mujoco.mj_stateSize(self.model, INPUTS))
        mujoco.mj_getState(self.model, self.data, inputs, INPUTS)
        return inputs

    def _delayed(self, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """Inputs `(substeps, n)` that change from one to the other once the latency is over, within a step in proportion."""
        arrived = np.clip(np.arange(1.0, self.substeps + 1.0) - self._delay_steps, 0.0, 1.0)[:, None]
        return (1.0 - arrived) * before + arrived * after

    def _draw_scene(self, rng: np.random.Generator) -> np.ndarray:
        """Change the model for a new episode; the hole's offset `(3,)` from the target, see `place_hole`."""
        hole, latency_s = self._randomizer.draw(rng)
        self._delay_steps = (latency_s + self.dynamics.latency_s) / self.model.opt.timestep
        return hole + hidden_offset(self.task, rng)

    def _set_reference(self, pose: np.ndarray) -> None:
        self.data.mocap_pos[self._mocap["reference_position"]] = pose[:3]
        now = self.data.mocap_quat[self._mocap["reference_orientation"]]
        quat = np.roll(pose[3:], 1)
        now[:] = -quat if quat @ now < 0.0 else quat  # one rotation; this sign can be blended with the last one

    def _set_mode(self, mode: Mode) -> None:
        if mode != self._mode:
            panda.set_gains(self.model, self.dynamics.scaled(GAINS[mode]))
            self._mode = mode

    def _tcp_pose(self, data: mujoco.MjData) -> np.ndarray:
        quat = np.empty(4)
        mujoco.mju_mat2Quat(quat, data.site_xmat[self._tcp])
        return np.concatenate([data.site_xpos[self._tcp], np.roll(quat, -1)])

    def _joints_at(self, pose: np.ndarray, near: np.ndarray = panda.HOME_RAD) -> np.ndarray:
        """Inverse kinematics: joints `(7,)` at the TCP `pose (7,)`, by Gauss-Newton from the joints `near (7,)`.

        Raises `ValueError` when no configuration within the joint limits is found.
        """
        model, data = self.model, self._ik_data
        joints, jacobian, error = near.copy(), np.empty((6, 7)), np.empty(6)
        for _ in range(100):
            data.qpos[:7] = joints
            mujoco.mj_kinematics(model, data)
            mujoco.mj_comPos(model, data)
            now = self._tcp_pose(data)
            turn = Rotation.from_quat(pose[3:]) * Rotation.from_quat(now[3:]).inv()
            error = np.concatenate([pose[:3] - now[:3], turn.as_rotvec()])
            if np.linalg.norm(error) < 1e-9:
                return joints
            mujoco.mj_jacSite(model, data, jacobian[:3], jacobian[3:], self._tcp)
            size = np.linalg.norm(error)
            error *= min(1.0, 0.2 / size)  # short steps far from the goal, where the linear model is poor
            joints = np.clip(joints + np.linalg.pinv(jacobian) @ error, panda.LOWER_RAD, panda.UPPER_RAD)
        raise ValueError(
            f"pose {np.round(pose, 3)} (m, xyzw) is {np.linalg.norm(error):.3g} away from anything the arm reaches;"
            " move it nearer"
        )


@dataclass(frozen=True)
class TwinCamera:
    """One of the twin's cameras.

    It draws in the caller's thread, to which OpenGL is bound; simulated time stands still meanwhile.
    """

    arm: TwinArm
    name: str

    def read(self) -> Frame:
        """What it sees now, stamped with simulated seconds since the reset."""
        return Frame(self.arm.picture(self.name), self.arm.data.time)


def _unit(pose: np.ndarray) -> np.ndarray:
    """A copy of `pose (7,)` with its quaternion normalised. Raises `ValueError` when it is not a finite pose."""
    pose = np.array(pose, float)
    size = np.linalg.norm(pose[3:]) if pose.shape == (7,) else 0.0
    if not (np.isfinite(pose).all() and 0.5 < size < 2.0):
        raise ValueError(f"pose {pose} is not seven finite numbers with a unit quaternion (xyzw) last; correct it")
    pose[3:] /= size
    return pose
