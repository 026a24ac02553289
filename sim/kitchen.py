"""The Franka kitchen as D4RL has it, on gymnasium-robotics' model: four things to do in any order.

D4RL is followed where gymnasium-robotics 1.4.2 differs: what is seen is noisier (0.1 of each joint's amplitude, not 0.01 for
the robot and 0.0005 for the objects); an element is judged by what is seen, not by the true position; the goal is part of the
observation, velocities are not; the arm passes through its pedestal. Joints, actuators, limits, goals and start are the same.
"""

from collections.abc import Mapping
from typing import Any, Literal

import mujoco
import numpy as np

from sim.d4rl import D4RLEnv, D4RLTask, library_model
from sim.scores import REFERENCES

ROBOT = 9  # seven joints of the arm (rad), two fingers (m); 21 coordinates of objects follow
NEAR = 0.3  # an element is complete when it is seen nearer to its goal than this, Euclidean, in m, rad or both
SPEED = 2.0  # of a joint at action 1, rad/s or m/s; below D4RL's limit of 10 that it is cut to
# What a joint's target is cut to, rad and m.
LOW = np.array([-2.9, -1.8, -2.9, -3.1, -2.9, 0.0, -2.9, 0.0, 0.0])
HIGH = np.array([2.9, 1.8, 2.9, 0.0, 2.9, 3.8, 2.9, 0.04, 0.04])

# Where in qpos an element is, and its goal there: knobs, switches, doors in rad and m; the kettle's place and quaternion wxyz.
ELEMENTS: Mapping[str, tuple[slice, tuple[float, ...]]] = {
    "bottom burner": (slice(11, 13), (-0.88, -0.01)),
    "light switch": (slice(17, 19), (-0.69, -0.05)),
    "slide cabinet": (slice(19, 20), (0.37,)),
    "microwave": (slice(22, 23), (-0.75,)),
    "kettle": (slice(23, 30), (-0.23, 0.75, 1.62, 0.99, 0.0, 0.0, -0.06)),
}

# Every episode begins here, with everything at rest.
# fmt: off
START = np.array([
    1.48388023e-01, -1.76848573e+00, 1.84390296e+00, -2.47685760e+00, 2.60252026e-01, 7.12533105e-01, 1.59515394e+00,
    4.79267505e-02, 3.71350919e-02,
    -2.66279850e-04, -5.18043486e-05, 3.12877220e-05, -4.51199853e-05, -3.90842156e-06, -4.22629655e-05, 6.28065475e-05,
    4.04984708e-05, 4.62730939e-04, -2.26906415e-04, -4.65501369e-04, -6.44129196e-03, -1.77048263e-03, 1.08009684e-03,
    -2.69397440e-01, 3.50383255e-01, 1.61944683e+00, 1.00618764e+00, 4.06395120e-03, -6.62095997e-03, -2.68278933e-04,
])
# fmt: on

# The greatest error of a position that is seen, rad and m: a tenth of the amplitudes of D4RL's robot file, which was written
# for another scene and is used by index: all of the robot; burners; cabinets and microwave (the hinges 0.01); the kettle.
NOISE = 0.1 * np.repeat([0.1, 0.005, 0.0005, 0.005, 0.1, 0.005, 0.1, 0.005], [9, 2, 6, 3, 3, 3, 3, 1])


class KitchenEnv(D4RLEnv):
    """Observes 9 positions of the robot, 21 of the objects, both with noise, and the goal, zero where nothing is asked.

    An action is nine joint speeds; each turns into a target of the joint, counted from where the joint was *seen*. The reward
    is 1 for each element newly complete; an element stays complete. `info["completed"]` lists them in the task's order, and
    `info["training_reward"]` is how many there are, which is what D4RL's data sets record.

    The noise is a function of the episode's `noise` number, drawn at reset, and of the step, and both are in the state: what is
    seen in a state that is set again is the same to the bit, and so is all that follows. Give another number for other noise.
    """

    frame_skip = 40
    view = (2.2, 70.0, -35.0, (-0.2, 0.5, 2.0))

    def __init__(self, task: D4RLTask, render_mode: Literal["rgb_array"] | None = None) -> None:
        path = library_model("kitchen_franka/kitchen_assets/kitchen_env_model.xml")
        model = mujoco.MjModel.from_xml_path(str(path))
        # Random actions meet it every fourth step; D4RL gives it no contacts.
        pedestal = model.body_geomadr[model.body("panda0_link0").parentid[0]]
        model.geom_contype[pedestal] = model.geom_conaffinity[pedestal] = 0
        super().__init__(task, model, render_mode)
        self._step_s = model.opt.timestep * self.frame_skip
        self._elements: tuple[str, ...] = task.settings["elements"]
        self._goal = np.zeros(len(START))
        for name in self._elements:
            where, goal = ELEMENTS[name]
            self._goal[where] = goal
        self._complete = np.zeros(len(self._elements), bool)
        self._noise = 0

    def _begin(self) -> None:
        self.data.qpos[:] = START
        self._complete[:] = False
        self._noise = int(self.np_random.integers(2**53))  # a state is float64, which holds no larger integers

    def _seen(self) -> np.ndarray:
        """`(30,)` positions with the noise of this step."""
        rng = np.random.default_rng((self._noise, self.steps))
        return self.data.qpos + NOISE * rng.uniform(-1.0, 1.0, len(NOISE))

    def _control(self, action: np.ndarray) -> None:
        self.data.ctrl[:] = np.clip(self._seen()[:ROBOT] + SPEED * self._step_s * action, LOW, HIGH)

    def _observe(self) -> np.ndarray:
        return np.concatenate([self._seen(), self._goal])

    def _judge(self, action: np.ndarray) -> tuple[float, bool, dict[str, Any]]:
        error = self._seen() - self._goal
        near = np.array([np.linalg.norm(error[ELEMENTS[name][0]]) < NEAR for name in self._elements])
        reward = np.count_nonzero(near & ~self._complete)
        self._complete |= near
        done = bool(self._complete.all())
        completed = [name for name, complete in zip(self._elements, self._complete, strict=True) if complete]
        return reward, done, {"success": done, "completed": completed, "training_reward": float(len(completed))}

    def _extra_state(self) -> Mapping[str, np.ndarray]:
        return {"completed": self._complete.astype(float), "noise": np.array(float(self._noise))}

    def _set_extra_state(self, extra: Mapping[str, np.ndarray]) -> None:
        if not np.isin(extra["completed"], (0.0, 1.0)).all():
            raise ValueError(
                f"state of {self.task.name}: completed is {extra['completed']}; give 0 or 1 for each element"
            )
        if extra["noise"] < 0 or extra["noise"] % 1:
            raise ValueError(f"state of {self.task.name}: noise is {extra['noise']}; give a whole number from 0")
        self._complete[:] = extra["completed"]
        self._noise = int(extra["noise"])


def _task(name: str, what: str, *elements: str) -> D4RLTask:
    return D4RLTask(
        name=name,
        what=what,
        env=KitchenEnv,
        obs_dim=60,
        action_dim=9,
        max_steps=280,
        hz=12.5,
        success=f"all of {', '.join(elements)} have been seen within {NEAR} of their goals, each at some step",
        reward="1 for each element newly complete; data sets record how many are complete so far",
        counted=float(len(elements)),
        reference=REFERENCES["kitchen"],
        settings={"elements": elements},
        reward_shift=-4.0,
    )


_SLIDER = ("microwave", "kettle", "light switch", "slide cabinet")
TASKS = (
    _task(
        "kitchen-complete",
        "A Franka opens the microwave, moves the kettle, puts on the light, opens the cabinet.",
        *_SLIDER,
    ),
    _task("kitchen-partial", "As kitchen-complete; it differs in its data, which hold parts of other tasks.", *_SLIDER),
    _task(
        "kitchen-mixed",
        "As kitchen-complete, with the bottom burner in place of the cabinet; no episode of its data does it all.",
        *("microwave", "kettle", "bottom burner", "light switch"),
    ),
)
