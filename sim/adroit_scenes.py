"""The four Adroit scenes: turn a pen, open a door, carry a ball, drive a nail. Observations, rewards and starts are D4RL's."""

from typing import ClassVar, Literal

import numpy as np

from sim.adroit_hand import AdroitEnv, apart
from sim.d4rl import D4RLTask

PEN_NEAR_M, PEN_ALIGNED, PEN_ROUGHLY_ALIGNED = 0.075, 0.95, 0.9  # the latter two: cosines
PEN_DROPPED_M = 0.075  # height
DOOR_OPEN_RAD = 1.35
BALL_NEAR_M = 0.1
NAIL_IN_M = 0.01


class PenEnv(AdroitEnv):
    """Turns a pen in the hand until it points as a second one, which hangs beside it. A dropped pen ends a dense episode.

    Observation `(45,)`: joints 24, pen's position 3, its joint velocities 6, its direction 3, the wanted one 3, position less
    the wanted one 3, direction less the wanted one 3. Lengths m, angles rad.
    """

    scene = "pen"
    view: ClassVar = (0.6, -60.0, -40.0, (0.06, -0.22, 0.24))

    def __init__(self, task: D4RLTask, render_mode: Literal["rgb_array"] | None = None) -> None:
        super().__init__(task, render_mode)
        self.pen, self.place = self.data.body("Object").xpos, self.data.site("eps_ball").xpos
        self.pen_ends = [self.data.site(f"object_{end}").xpos for end in ("top", "bottom")]
        self.target_ends = [self.data.site(f"target_{end}").xpos for end in ("top", "bottom")]
        self.pen_length_m = apart(self.model.site("object_top").pos, self.model.site("object_bottom").pos)
        self.moved = {"desired_orien": self.model.body("target").quat}

    def reward_terms(self) -> dict[str, float]:
        distance, cosine = apart(self.pen, self.place), self._cosine()
        near = distance < PEN_NEAR_M
        return {
            "distance": -distance,
            "alignment": cosine,
            "roughly_aligned": 10.0 if near and cosine > PEN_ROUGHLY_ALIGNED else 0.0,
            "aligned": 50.0 if near and cosine > PEN_ALIGNED else 0.0,
            "dropped": -5.0 if self._failed() else 0.0,
        }

    def _begin(self) -> None:
        cos_x, cos_y = np.cos(half := self.np_random.uniform([-1.0, -1.0], [1.0, 1.0]) / 2.0)
        sin_x, sin_y = np.sin(half)
        self.moved["desired_orien"][:] = cos_x * cos_y, sin_x * cos_y, cos_x * sin_y, sin_x * sin_y

    def _direction(self, ends: list[np.ndarray]) -> np.ndarray:
        return (ends[0] - ends[1]) / self.pen_length_m

    def _cosine(self) -> float:
        return float(np.dot(self._direction(self.pen_ends), self._direction(self.target_ends)))

    def _succeeded(self) -> bool:
        return apart(self.pen, self.place) < PEN_NEAR_M and self._cosine() > PEN_ALIGNED

    def _failed(self) -> bool:
        return bool(self.pen[2] < PEN_DROPPED_M)

    def _observe(self) -> np.ndarray:
        qpos, qvel, pen = self.data.qpos, self.data.qvel, self.pen
        is_so, wanted = self._direction(self.pen_ends), self._direction(self.target_ends)
        return np.concatenate([qpos[:-6], pen, qvel[-6:], is_so, wanted, pen - self.place, is_so - wanted])


class DoorEnv(AdroitEnv):
    """Turns a latch and pulls a door open.

    Observation `(39,)`: joints 27 (the arm's slide is left out), latch 1, door 1, palm's position 3, handle's 3, palm less
    handle 3, and 1 where the door is open by more than 1 rad, else -1. Lengths m, angles rad.
    """

    scene = "door"
    view: ClassVar = (1.3, 60.0, -25.0, (0.0, -0.05, 0.22))

    def __init__(self, task: D4RLTask, render_mode: Literal["rgb_array"] | None = None) -> None:
        super().__init__(task, render_mode)
        self.handle, self.hinge = self.data.site("S_handle").xpos, self.data.joint("door_hinge").qpos
        self.moved = {"door_body_pos": self.model.body("frame").pos}

    def reward_terms(self) -> dict[str, float]:
        angle, qvel = float(self.hinge[0]), self.data.qvel
        return {
            "reach": -0.1 * apart(self.palm, self.handle),
            "open": -0.1 * (angle - 1.57) ** 2,
            "speed": -1e-5 * float(qvel @ qvel),
            "ajar": 2.0 if angle > 0.2 else 0.0,
            "half_open": 8.0 if angle > 1.0 else 0.0,
            "opened": 10.0 if angle > DOOR_OPEN_RAD else 0.0,
        }

    def _begin(self) -> None:
        self.moved["door_body_pos"][:] = self.np_random.uniform([-0.3, 0.25, 0.252], [-0.2, 0.35, 0.35])

    def _succeeded(self) -> bool:
        return bool(self.hinge[0] >= DOOR_OPEN_RAD)

    def _observe(self) -> np.ndarray:
        qpos, palm, handle = self.data.qpos, self.palm, self.handle
        wide_open = [1.0 if self.hinge[0] > 1.0 else -1.0]
        return np.concatenate([qpos[1:-2], qpos[-1:], self.hinge, palm, handle, palm - handle, wide_open])


class RelocateEnv(AdroitEnv):
    """Takes a ball from the table to a place in the air.

    Observation `(39,)`: joints 30, palm less ball 3, palm less target 3, ball less target 3. Lengths m, angles rad.
    `obj_pos` of its state is where the ball lay when the episode began; `qpos` counts from there.
    """

    scene = "relocate"
    derived = frozenset({"hand_qpos", "palm_pos"})
    view: ClassVar = (1.1, 120.0, -30.0, (0.0, -0.05, 0.12))

    def __init__(self, task: D4RLTask, render_mode: Literal["rgb_array"] | None = None) -> None:
        super().__init__(task, render_mode)
        self.ball, self.target = self.data.body("Object").xpos, self.data.site("target").xpos
        self.moved = {"obj_pos": self.model.body("Object").pos, "target_pos": self.model.site("target").pos}
        self._height_m = float(self.moved["obj_pos"][2])

    def reward_terms(self) -> dict[str, float]:
        distance, lifted = apart(self.ball, self.target), self.ball[2] > 0.04
        return {
            "reach": -0.1 * apart(self.palm, self.ball),
            "lifted": 1.0 if lifted else 0.0,
            "hand_to_target": -0.5 * apart(self.palm, self.target) if lifted else 0.0,
            "ball_to_target": -0.5 * distance if lifted else 0.0,
            "near": 10.0 if distance < BALL_NEAR_M else 0.0,
            "very_near": 20.0 if distance < 0.05 else 0.0,
        }

    def _begin(self) -> None:
        self.moved["obj_pos"][:] = *self.np_random.uniform([-0.15, -0.15], [0.15, 0.3]), self._height_m
        self.moved["target_pos"][:] = self.np_random.uniform([-0.2, -0.2, 0.15], [0.2, 0.2, 0.35])

    def _succeeded(self) -> bool:
        return apart(self.ball, self.target) < BALL_NEAR_M

    def _observe(self) -> np.ndarray:
        palm, ball, target = self.palm, self.ball, self.target
        return np.concatenate([self.data.qpos[:-6], palm - ball, palm - target, ball - target])


class HammerEnv(AdroitEnv):
    """Takes a hammer and drives a nail into a board.

    Observation `(46,)`: joints 26, nail's depth 1, hammer's joint velocities 6 within -1..1, palm's position 3, hammer's 3, its
    Euler angles 3 (about its own x, y, z in turn), nail's head 3, and the blow on it, N, within -1..1. Lengths m, angles rad.
    """

    scene = "hammer"
    derived = frozenset({"target_pos"})
    view: ClassVar = (0.9, 60.0, -30.0, (0.0, -0.15, 0.12))

    def __init__(self, task: D4RLTask, render_mode: Literal["rgb_array"] | None = None) -> None:
        super().__init__(task, render_mode)
        self.hammer, self.turn = self.data.body("Object").xpos, self.data.body("Object").xmat
        self.head, self.nail = self.data.site("tool").xpos, self.data.site("S_target").xpos
        self.hole, self.blow = self.data.site("nail_goal").xpos, self.data.sensor("S_nail").data
        self.moved = {"board_pos": self.model.body("nail_board").pos}
        self._board_xy = self.moved["board_pos"][:2].copy()

    def reward_terms(self) -> dict[str, float]:
        distance = apart(self.nail, self.hole)
        return {
            "reach": -0.1 * apart(self.palm, self.hammer),
            "aim": -apart(self.head, self.nail),
            "drive": -10.0 * distance,
            "speed": -0.01 * float(np.linalg.norm(self.data.qvel)),
            "lifted": 2.0 if self.hammer[2] > 0.04 and self.head[2] > 0.04 else 0.0,
            "nearly_in": 25.0 if distance < 0.02 else 0.0,
            "in": 75.0 if distance < NAIL_IN_M else 0.0,
        }

    def _begin(self) -> None:
        self.moved["board_pos"][:] = *self._board_xy, self.np_random.uniform(0.1, 0.25)

    def _succeeded(self) -> bool:
        return apart(self.nail, self.hole) < NAIL_IN_M

    def _observe(self) -> np.ndarray:
        qpos, speed = self.data.qpos, np.clip(self.data.qvel[-6:], -1.0, 1.0)
        euler, blow = euler_xyz(self.turn), np.clip(self.blow, -1.0, 1.0)
        return np.concatenate([qpos[:-6], speed, self.palm, self.hammer, euler, self.nail, blow])


def euler_xyz(matrix: np.ndarray) -> np.ndarray:
    """The angles `(3,)` rad of a rotation matrix `(9,)`, row by row, that is Rx(a) Ry(b) Rz(c); where b is ±90°, a is 0."""
    m00, m01, m02, m10, m11, m12, _, _, m22 = matrix
    if (cos_b := np.hypot(m12, m22)) > 1e-15:
        return np.array([np.arctan2(-m12, m22), np.arctan2(m02, cos_b), np.arctan2(-m01, m00)])
    return np.array([0.0, np.arctan2(m02, cos_b), np.arctan2(m10, m11)])
