"""AntMaze: an ant of eight joints finds the way through a maze to a goal that it is not shown.

Facts are from D4RL's `locomotion` (Apache-2.0), for what is registered there as `antmaze-*-v2`:

- An episode begins in the middle of the map's `r`, each of `qpos` up to 0.1 off, each of `qvel` with a deviation of 0.1. Other
  cells (`non_zero_reset`) are only for collecting data.
- A goal is drawn at every reset, next to the middle of the map's `g`; the observation does not hold it.
- `play` and `diverse`, `umaze` and `umaze-diverse` are the same environment; what differs is the data.

`ultra` is of TAP's authors and has only a v0, which draws its goal once per environment; here every reset draws one, as in v2.

D4RL ran on MuJoCo 2.0. Two things that MuJoCo 3.11 does in another way are set right here: it adds the margins of two geoms
where the larger one was taken, so floor and walls have none; and it leaves quaternions in `qpos` as they were set, so that of
a start is normalised.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import gymnasium
import mujoco
import numpy as np

from sim.d4rl import PICTURE, D4RLEnv, D4RLTask
from sim.mazes import CELL_M, LARGE, MEDIUM, ULTRA, UMAZE, WALL_HEIGHT_M, Maze
from sim.scores import REFERENCES

TORQUE_NM = 30.0  # of an action of 1
GOAL_RADIUS_M = 0.5
START_NOISE = 0.1  # half width in m, rad or quaternion parts; deviation in m/s or rad/s


class AntMazeEnv(D4RLEnv):
    """The ant in the maze `settings["maze"]`.

    Observations `(29,)` are `qpos (15,)`, of which x and y of the torso come first, and `qvel (14,)`. `info["goal"]` is the
    goal `(2,)`, m; it is part of the state.
    """

    frame_skip = 5

    def __init__(self, task: D4RLTask, render_mode: Literal["rgb_array"] | None = None) -> None:
        self.maze: Maze = task.settings["maze"]
        self.goal = self.maze.goal_cell
        super().__init__(task, build(self.maze).compile(), render_mode)
        self.view = _view(self.maze, float(self.model.vis.global_.fovy))

    def _begin(self) -> None:
        self._set_extra_state({"goal": self.maze.draw_goal(self.np_random)})
        self.data.qpos += self.np_random.uniform(-START_NOISE, START_NOISE, self.model.nq)
        self.data.qvel += START_NOISE * self.np_random.standard_normal(self.model.nv)
        mujoco.mj_normalizeQuat(self.model, self.data.qpos)

    def _control(self, action: np.ndarray) -> None:
        self.data.ctrl[:] = TORQUE_NM * action

    def _observe(self) -> np.ndarray:
        return np.concatenate([self.data.qpos, self.data.qvel])

    def _judge(self, action: np.ndarray) -> tuple[float, bool, dict[str, Any]]:
        x, y = self.data.qpos[:2]
        there = math.hypot(x - self.goal[0], y - self.goal[1]) <= GOAL_RADIUS_M
        return float(there), there, {"success": there, "goal": self.goal.copy()}

    def _extra_state(self) -> Mapping[str, np.ndarray]:
        return {"goal": self.goal}

    def _set_extra_state(self, extra: Mapping[str, np.ndarray]) -> None:
        self.goal = extra["goal"].copy()
        self.model.site("goal").pos[:2] = self.goal


def build(maze: Maze) -> mujoco.MjSpec:
    """D4RL's ant in a maze: gymnasium's ant, of the same shape, with D4RL's time step, motors and softness of contacts."""
    spec = mujoco.MjSpec.from_file(str(Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets" / "ant.xml"))
    spec.option.timestep = 0.02
    for motor in spec.actuators:
        motor.gear[0], motor.ctrlrange = 1.0, (-TORQUE_NM, TORQUE_NM)
    world, half = spec.worldbody, np.array([CELL_M, CELL_M, WALL_HEIGHT_M]) / 2.0
    for x, y in maze.cells("#"):
        wall = world.add_geom(type=mujoco.mjtGeom.mjGEOM_BOX, size=half, pos=(x, y, half[2]), rgba=(0.7, 0.5, 0.3, 1.0))
        wall.conaffinity = 1  # the default is for the ant, whose parts do not touch each other
    for geom in spec.geoms:
        geom.solimp[:3] = (0.8, 0.8, 0.01)
    for geom in world.geoms:
        geom.margin = 0.0  # a contact's is the ant's 0.01 m
    _paint(spec, maze)
    return spec


def _paint(spec: mujoco.MjSpec, maze: Maze) -> None:
    """What only pictures show: the goal, as wide as what counts as reaching it, and a floor with squares of 2 m."""
    goal = spec.worldbody.add_site(name="goal", type=mujoco.mjtGeom.mjGEOM_CYLINDER, size=(GOAL_RADIUS_M, 1.0, 0.0))
    goal.pos, goal.rgba = (*maze.goal_cell, 1.0), (0.9, 0.1, 0.1, 0.7)
    spec.geom("floor").pos, spec.geom("floor").size = (*maze.centre, 0.0), (*maze.size_m / 2.0, 1.0)
    checks, squares = spec.material("MatPlane"), spec.texture("texplane")
    checks.reflectance, checks.texrepeat = 0.0, maze.size_m / CELL_M
    squares.rgb1, squares.rgb2 = (0.2, 0.3, 0.4), (0.1, 0.2, 0.3)
    spec.geom("torso_geom").rgba = (0.3, 0.9, 0.5, 1.0)


def _view(maze: Maze, field_of_view_deg: float) -> tuple[float, float, float, tuple[float, float, float]]:
    """A camera that sees the whole maze from nearly above, x to the right and y upwards in the picture."""
    width, depth = maze.size_m
    high = 1.14 * max(depth, width * PICTURE[1] / PICTURE[0])  # with some room around it
    distance = high / 2.0 / math.tan(math.radians(field_of_view_deg / 2.0)) + WALL_HEIGHT_M
    x, y = maze.centre
    return float(distance), 90.0, -80.0, (float(x), float(y), 0.0)


def _task(name: str, maze: Maze, max_steps: int, data: str) -> D4RLTask:
    return D4RLTask(
        name=name,
        what=f"An ant finds the way to a goal that it is not shown; {data}.",
        env=AntMazeEnv,
        obs_dim=29,
        action_dim=8,
        max_steps=max_steps,
        hz=10.0,
        success="the torso's x and y are at most 0.5 m from the goal; the episode ends there",
        reward="1 at the goal, else 0",
        reference=REFERENCES["antmaze"],
        settings={"maze": maze},
        reward_scale=10.0,
        reward_shift=-5.0,
        failure_reward=0.0,
    )


_PLAY, _DIVERSE = "its data have many starts and a few chosen goals", "its data have many starts and many goals"
TASKS = (
    _task("antmaze-umaze", UMAZE, 700, "its data have one start and one goal"),
    _task("antmaze-umaze-diverse", UMAZE, 700, _DIVERSE),
    _task("antmaze-medium-play", MEDIUM, 1000, _PLAY),
    _task("antmaze-medium-diverse", MEDIUM, 1000, _DIVERSE),
    _task("antmaze-large-play", LARGE, 1000, _PLAY),
    _task("antmaze-large-diverse", LARGE, 1000, _DIVERSE),
    _task("antmaze-ultra-play", ULTRA, 2000, _PLAY),
    _task("antmaze-ultra-diverse", ULTRA, 2000, _DIVERSE),
)
