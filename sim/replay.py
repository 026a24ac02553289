"""What the twin would have done in each control period of a motion that was logged: one step ahead, from the logged state.

Each period is predicted on its own, so that what is unknown (the joints' share that does not move the tool) and what is left
out (contacts) spoils no other, and all of them are one native call.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import mujoco
import numpy as np

from robot_env.arm import GAINS
from robot_env.tasks import Task
from sim import panda
from sim.dynamics import Dynamics
from sim.twin_arm import INPUTS, STATE, TwinArm


@dataclass(frozen=True)
class Motion:
    """Control periods of one episode, in order; not all need to be there.

    Attributes:
        pose, velocity: `(n, 7)` and `(n, 6)`, measured before each: m and xyzw, m/s and rad/s, base frame.
        reference: `(n, 7)`, sent after that.
        last: `(n, 7)`, the reference that it took the place of.
        next_pose, next_velocity: `(n, 7)` and `(n, 6)`, measured at the end.
    """

    pose: np.ndarray
    velocity: np.ndarray
    reference: np.ndarray
    last: np.ndarray
    next_pose: np.ndarray
    next_velocity: np.ndarray

    def __len__(self) -> int:
        return len(self.pose)

    def rows(self, which: slice | np.ndarray) -> "Motion":
        """Some of them."""
        return Motion(*(x[which] for x in vars(self).values()))


@dataclass(frozen=True)
class _Begun:
    """States `(n, size)` in which the periods of a motion begin, and the inputs `(n, size)` before and after its references."""

    states: np.ndarray
    last: np.ndarray
    reference: np.ndarray
    rest: np.ndarray


class Replay(TwinArm):
    """A twin without contacts, in which motions are predicted under one `Dynamics` after the other.

    Args:
        task: whose scene the arm stands in.
        motions: one an episode, each beginning near where the episode did.

    Raises:
        ValueError: a pose is out of the arm's reach.
    """

    def __init__(self, task: Task, motions: Sequence[Motion]) -> None:
        super().__init__(task)
        self.model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_CONTACT.value
        self._begun = [self._begin(motion) for motion in motions]

    def predict(self, dynamics: Dynamics) -> tuple[np.ndarray, np.ndarray]:
        """Poses `(N, 7)` and velocities `(N, 6)` at the end of every period of all motions."""
        self._set_dynamics(dynamics)
        ends = [self._end(begun) for begun in self._begun]
        poses, velocities = zip(*(self._seen(state) for state in np.concatenate(ends)), strict=True)
        return np.array(poses), np.array(velocities)

    def run(self, motion: Motion, dynamics: Dynamics) -> np.ndarray:
        """Poses `(n, 7)` at the end of every period, each from where the last one led to."""
        self._set_dynamics(dynamics)
        begun, poses = self._begin(motion.rows(slice(1))), []
        state, rest = begun.states[0], begun.rest
        for last, reference in zip(motion.last, motion.reference, strict=True):
            step = _Begun(state[None], self._inputs_at(last)[None], self._inputs_at(reference)[None], rest)
            state = self._end(step)[0]
            poses.append(self._seen(state)[0])
        return np.array(poses)

    def _set_dynamics(self, dynamics: Dynamics) -> None:
        self.model.dof_frictionloss[:7] = dynamics.dry_friction_nm
        panda.set_gains(self.model, dynamics.scaled(GAINS["compliant"]))
        self._delay_steps = dynamics.latency_s / self.model.opt.timestep

    def _begin(self, motion: Motion) -> _Begun:
        joints, states = panda.HOME_RAD, []
        for pose, velocity in zip(motion.pose, motion.velocity, strict=True):
            joints = self._joints_at(pose, joints)
            states.append(self._state_at(joints, velocity))
        last, reference = (np.array([self._inputs_at(pose) for pose in x]) for x in (motion.last, motion.reference))
        return _Begun(np.array(states), last, reference, states[0][1:8])

    def _state_at(self, joints: np.ndarray, velocity: np.ndarray) -> np.ndarray:
        """The state in which the tool has a velocity `(6,)` and the joints store no energy beside it."""
        model, data, jacobian, mass = self.model, self.data, np.empty((6, 7)), np.empty((7, 7))
        mujoco.mj_resetData(model, data)
        data.qpos[:7] = joints
        mujoco.mj_forward(model, data)
        mujoco.mj_jacSite(model, data, jacobian[:3], jacobian[3:], self._tcp)
        mujoco.mj_fullM(model, data, mass)
        lever = np.linalg.solve(mass, jacobian.T)
        data.qvel[:7] = lever @ np.linalg.solve(jacobian @ lever, velocity)
        state = np.empty(mujoco.mj_stateSize(model, STATE))
        mujoco.mj_getState(model, data, state, STATE)
        return state

    def _inputs_at(self, pose: np.ndarray) -> np.ndarray:
        self._set_reference(pose)
        return self._inputs()

    def _end(self, begun: _Begun) -> np.ndarray:
        """States `(n, size)` one control period later."""
        self.model.qpos_spring[:7] = begun.rest
        inputs = np.array([self._delayed(*pair) for pair in zip(begun.last, begun.reference, strict=True)])
        states, _ = self._rollout.rollout(self.model, self.data, begun.states, inputs, control_spec=INPUTS)
        return np.asarray(states)[:, -1]

    def _seen(self, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pose `(7,)` and velocity `(6,)` of the tool in a state."""
        mujoco.mj_setState(self.model, self.data, state, STATE)
        mujoco.mj_fwdPosition(self.model, self.data)
        mujoco.mj_fwdVelocity(self.model, self.data)
        seen = self.read()
        return seen.tcp_pose, seen.tcp_velocity
