"""Control steps per second of the twins, those of D4RL beside the environments of the libraries that their models are from."""

import contextlib
import io
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np

from robot_env.arm import ArmCommand
from robot_env.make import make_env
from robot_env.tasks import find_task
from sim.d4rl_tasks import find_d4rl_task

STEPS = {"kitchen-complete": 60}  # timed at once, of the slow ones; 400 of the others
Make = Callable[[], gymnasium.Env]


def sim(repeats: int = 5) -> dict[str, Any]:
    """Control steps per second of the arm's twin, and of D4RL's tasks beside the library's own environments."""
    return arm(repeats) | {"d4rl": twins(repeats)}


def arm(repeats: int = 5, steps: int = 400) -> dict[str, Any]:
    """Of the arm's twin on this process: physics alone, with the environment, and with cameras."""
    rows = [{"what": "arm, 2 ms", **_rate(lambda: _arm_steps(steps, 0.002), steps, repeats)}]
    rows.append({"what": "arm, 1 ms", **_rate(lambda: _arm_steps(steps, 0.001), steps, repeats)})
    rows.append({"what": "environment, resets included", **_rate(lambda: _env_steps(steps, ()), steps, repeats)})
    few = max(steps // 4, 50)
    try:
        cameras = ("wrist_1", "wrist_2")
        rows.append(
            {"what": "environment, both wrist cameras", **_rate(lambda: _env_steps(few, cameras), few, repeats)}
        )
    except RuntimeError as error:
        rows.append({"what": "environment, both wrist cameras", "steps_per_s": 0.0, "min": 0.0, "max": str(error)})
    return {"task": "peg_insertion", "cores_used": "one, and what the renderer takes", "control_steps": rows}


def _arm_steps(steps: int, timestep_s: float) -> float:
    env = make_env("peg_insertion", timestep_s=timestep_s)
    env.reset(seed=0)
    arm, pose = env.arm, env.arm.read().tcp_pose
    start_s = time.perf_counter()
    for _ in range(steps):
        arm.send(ArmCommand(pose))
    seconds = time.perf_counter() - start_s
    env.close()
    return seconds


def _env_steps(steps: int, cameras: tuple[str, ...]) -> float:
    env = make_env(replace(find_task("peg_insertion"), cameras=cameras))
    rng = np.random.default_rng(0)
    env.reset(seed=0)
    start_s = time.perf_counter()
    for i in range(steps):
        _, _, terminated, truncated, _ = env.step(rng.uniform(-1, 1, 6))
        if terminated or truncated:
            env.reset(seed=i)
    seconds = time.perf_counter() - start_s
    env.close()
    return seconds


def _rate(run: Callable[[], float], steps: int, repeats: int) -> dict[str, float]:
    run()
    rates = sorted(steps / run() for _ in range(repeats))
    return {"steps_per_s": round(statistics.median(rates), 1), "min": round(rates[0], 1), "max": round(rates[-1], 1)}


def twins(repeats: int = 5) -> list[dict[str, Any]]:
    """Steps per second of processor time of each D4RL task and of the library's own environment, in turn, random actions.

    Processor time, because another process on the same core is no part of either. The ratio is the median of the pairs'.
    """
    return [_pair(name, make, repeats) for name, make in library_envs().items()]


def library_envs() -> dict[str, Make]:
    """What makes the library's own environment of a task; of tasks that differ in their reward only, one."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):  # its import prints
        from gymnasium.envs.mujoco.half_cheetah_v5 import HalfCheetahEnv
        from gymnasium.envs.mujoco.hopper_v5 import HopperEnv
        from gymnasium.envs.mujoco.walker2d_v5 import Walker2dEnv
        from gymnasium_robotics.envs.adroit_hand.adroit_door import AdroitHandDoorEnv
        from gymnasium_robotics.envs.adroit_hand.adroit_hammer import AdroitHandHammerEnv
        from gymnasium_robotics.envs.adroit_hand.adroit_pen import AdroitHandPenEnv
        from gymnasium_robotics.envs.adroit_hand.adroit_relocate import AdroitHandRelocateEnv
        from gymnasium_robotics.envs.franka_kitchen.kitchen_env import KitchenEnv
        from gymnasium_robotics.envs.maze.ant_maze_v5 import AntMazeEnv as LibraryAntMaze

    def maze(name: str) -> Make:
        task = find_d4rl_task(name)
        rows: list[list[int | str]] = [
            [{"#": 1}.get(sign, sign if sign in "rg" else 0) for sign in row] for row in task.settings["maze"].rows
        ]
        return lambda: LibraryAntMaze(maze_map=rows)

    made: dict[str, Make] = {
        "pen": AdroitHandPenEnv,
        "door": AdroitHandDoorEnv,
        "relocate": AdroitHandRelocateEnv,
        "hammer": AdroitHandHammerEnv,
        "kitchen-complete": KitchenEnv,
        "halfcheetah": HalfCheetahEnv,
        "hopper": HopperEnv,
        "walker2d": Walker2dEnv,
    }
    mazes = ("antmaze-umaze", "antmaze-medium-play", "antmaze-large-play", "antmaze-ultra-play")
    return made | {name: maze(name) for name in mazes}


def _pair(name: str, make_library: Make, repeats: int) -> dict[str, Any]:
    envs = {"ours": find_d4rl_task(name).make(), "library": make_library()}
    steps = STEPS.get(name, 400)
    rates: dict[str, list[float]] = {who: [] for who in envs}
    for repeat in range(repeats + 1):
        order = sorted(envs, reverse=bool(repeat % 2))
        for who in order:
            rate = steps / _seconds_of(envs[who], steps)
            if repeat:  # the first is to warm up
                rates[who].append(rate)
    for env in envs.values():
        env.close()
    ours, library = (statistics.median(rates[who]) for who in ("ours", "library"))
    ratios = sorted(a / b for a, b in zip(rates["ours"], rates["library"], strict=True))
    return {
        "task": name,
        "steps_per_s": round(ours),
        "library_steps_per_s": round(library),
        "ratio": round(statistics.median(ratios), 2),
        "ratio_min": round(ratios[0], 2),
        "ratio_max": round(ratios[-1], 2),
    }


def _seconds_of(env: gymnasium.Env, steps: int) -> float:
    """Processor seconds of so many steps, resets where an episode ends left out."""
    rng, total_s = np.random.default_rng(0), 0.0
    actions = rng.uniform(-1.0, 1.0, (steps, *(env.action_space.shape or ()))).astype(np.float32)
    env.reset(seed=0)
    for action in actions:
        start_s = time.process_time()
        _, _, terminated, truncated, _ = env.step(action)
        total_s += time.process_time() - start_s
        if terminated or truncated:
            env.reset()
    return total_s
