"""Whether an actor with two cameras holds 10 Hz beside a learner, each on a core of its own."""

import multiprocessing
import os
import queue
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from typing import Any

import jax
import numpy as np

from agent.adopt import make_nets
from agent.heads import Networks
from launch import bench
from launch.bench_image import TASK, sighted_policy
from robot_env.arm import Camera, Frame
from robot_env.env import RobotEnv
from robot_env.make import make_arm
from robot_env.pace import Pace, quantiles_ms
from robot_env.tasks import find_task

STEPS = 600  # a minute at 10 Hz
WANTED = {"late_percent": 1.0, "frame_to_action_p99_ms": 60.0}  # at most
START_S = 300.0  # for processes to begin and to compile

Act = Callable[[Mapping[str, np.ndarray]], np.ndarray]
Learn = Callable[[], object]


def realtime(
    repeats: int = 1,
    steps: int = STEPS,
    make_policy: Callable[[], Act] | None = None,
    make_learner: Callable[[], Learn] | None = None,
) -> dict[str, Any]:
    """Runs of `steps` control steps each, in real time.

    Args:
        make_policy: called in the actor's process, so it must be a module's function; by default `bench_image.sighted_policy`.
        make_learner: called in the learner's process; by default `sac_updates`.
    """
    if steps < 2:
        raise ValueError(f"--steps {steps}: give at least 2")
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    actor_core, learner_core = (cores[0], cores[-1]) if cores else (None, None)
    make = (make_policy or sighted_policy, make_learner or sac_updates)
    runs = [run(steps, *make, actor_core, learner_core) for _ in range(repeats)]
    return {
        "task": TASK,
        "hz": find_task(TASK).hz,
        "steps": steps,
        "cores": "wherever the system puts them" if not cores else f"actor {actor_core}, learner {learner_core}",
        "wanted_at_most": WANTED,
        "runs": runs,
    }


def run(
    steps: int,
    make_policy: Callable[[], Act],
    make_learner: Callable[[], Learn],
    actor_core: int | None,
    learner_core: int | None,
) -> dict[str, Any]:
    """One run: what the actor measured, and how busy the learner kept its core meanwhile."""
    spawn = multiprocessing.get_context("spawn")
    learning, over, told = spawn.Event(), spawn.Event(), spawn.Queue()
    learner = spawn.Process(target=learn, args=(make_learner, learning, over, told), daemon=True)
    actor = spawn.Process(target=act, args=(steps, make_policy, learning, told), daemon=True)
    load = os.getloadavg()[0]
    try:
        for process, core in ((learner, learner_core), (actor, actor_core)):
            with pinned(core):
                process.start()
        acted = hear(told, (learner, actor), START_S + 10 * steps / find_task(TASK).hz)
        over.set()
        return {**acted, **hear(told, (learner, actor), START_S), "load_before": round(load, 2)}
    finally:
        for process in (learner, actor):
            if process.pid is not None:
                process.join(0 if process.exitcode is None and not over.is_set() else 10)
                process.kill()
                process.join()


@contextmanager
def pinned(core: int | None) -> Iterator[None]:
    """What is started meanwhile, with all its threads, stays on one core, and XLA computes in one thread."""
    cores = os.sched_getaffinity(0) if core is not None else set()
    flags = os.environ.get("XLA_FLAGS")
    os.environ["XLA_FLAGS"] = f"{flags or ''} --xla_cpu_multi_thread_eigen=false".strip()
    try:
        if core is not None:
            os.sched_setaffinity(0, {core})
        yield
    finally:
        if core is not None:
            os.sched_setaffinity(0, cores)
        os.environ.pop("XLA_FLAGS")
        os.environ.update({} if flags is None else {"XLA_FLAGS": flags})


def hear(told: Any, processes: tuple[BaseProcess, ...], timeout_s: float) -> dict[str, Any]:
    """What a process tells. Raises `RuntimeError` where one dies, or nothing comes in time."""
    until_s = time.monotonic() + timeout_s
    while time.monotonic() < until_s:
        try:
            return told.get(timeout=0.5)
        except queue.Empty:
            for process in processes:
                if process.exitcode:
                    raise RuntimeError(f"a process of the bench ended with exit code {process.exitcode}") from None
    raise RuntimeError(f"a process of the bench said nothing for {timeout_s:.0f} s")


def learn(make_learner: Callable[[], Learn], learning: Any, over: Any, told: Any) -> None:
    """A learner's process: one step after the other until it is over."""
    step = make_learner()
    learning.set()
    start_s, start_cpu_s, count = time.monotonic(), time.process_time(), 0
    while not over.is_set():
        step()
        count += 1
    seconds = time.monotonic() - start_s
    share = (time.process_time() - start_cpu_s) / seconds
    told.put({"learner_steps_per_s": round(count / seconds, 2), "learner_share_of_its_core": round(share, 3)})


def sac_updates() -> Learn:
    """A step of SAC as `bench update` measures it: four minibatches of 256 for ten critics, and the actor."""
    nets = make_nets({"state": (bench.OBS,)}, bench.ACT, Networks())
    program = bench.program(nets, "sac", 4, bench.random_replay())

    def step() -> None:
        jax.block_until_ready(program(1))

    return step


def act(steps: int, make_policy: Callable[[], Act], learning: Any, told: Any) -> None:
    """An actor's process: so many control steps at the task's rate once the learner learns."""
    task, policy = find_task(TASK), make_policy()
    arm = ClockedArm(make_arm(task, "twin"))
    env = RobotEnv(task, arm, pace=Pace(task.hz))
    obs, _ = env.reset(seed=0)
    policy(obs)  # compiles
    learning.wait(START_S)
    to_action_s, policy_s, policy_cpu_s, episodes, over = [], [], [], 0, True
    for _ in range(steps):
        if over:
            episodes += 1
            obs, _ = env.reset(seed=episodes)
        asked_s, asked_cpu_s = time.monotonic(), time.process_time()
        action = policy(obs)
        now_s = time.monotonic()
        policy_cpu_s.append(time.process_time() - asked_cpu_s)
        policy_s.append(now_s - asked_s)
        to_action_s.append(now_s - arm.frame_s)
        obs, _, terminated, truncated, info = env.step(action)
        over = terminated or truncated
        if "fault" in info:
            env.acknowledge("the bench")
    env.close()
    assert env.pace is not None
    found = env.pace.summary() | {"episodes": episodes, "faults": len(env.faults)}
    # Where the policy took longer than its processor time, something else was on the core.
    times = {"frame_to_action": to_action_s, "policy": policy_s, "policy_cpu": policy_cpu_s}
    for name, seconds in times.items():
        found |= {f"{name}_{quantile}_ms": value for quantile, value in quantiles_ms(seconds).items()}
    told.put(found)


class ClockedArm:
    """An arm that notes when the oldest of the newest frames was asked for: its drawing counts too."""

    def __init__(self, arm: Any) -> None:
        self._arm, self.frame_s = arm, 0.0
        self.connect, self.read, self.stop, self.close = arm.connect, arm.read, arm.stop, arm.close
        self.rest = arm.rest
        self._fresh = True

    def send(self, command: Any) -> Any:
        """Whatever is seen from here on is new."""
        self._fresh = True
        return self._arm.send(command)

    def reset(self, path: np.ndarray, rng: np.random.Generator) -> None:
        """Whatever is seen from here on is new."""
        self._fresh = True
        self._arm.reset(path, rng)

    @property
    def cameras(self) -> Mapping[str, Camera]:
        return {name: ClockedCamera(self, camera) for name, camera in self._arm.cameras.items()}

    def note(self) -> None:
        """A frame is asked for."""
        if self._fresh:
            self._fresh, self.frame_s = False, time.monotonic()


class ClockedCamera:
    """A camera of a `ClockedArm`."""

    def __init__(self, arm: ClockedArm, camera: Camera) -> None:
        self._arm, self._camera = arm, camera

    def read(self) -> Frame:
        self._arm.note()
        return self._camera.read()
