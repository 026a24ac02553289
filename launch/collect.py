"""Collecting offline data of mixed quality with scripts."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from agent.replay.dataset import Dataset, DatasetInfo
from agent.types import SOURCES, Transition
from launch.actor import episode_seed
from launch.recipes import Collect
from robot_env.env import RobotEnv
from robot_env.make import make_env
from robot_env.tasks import Task
from sim.scripted import ScriptedInsertion, ScriptQuality

OPERATOR = "segue collect (twin)"

# Two kinds of hand: one that mostly succeeds, and one that mostly does not.
GOOD = ScriptQuality(noise=0.25, bias_m=0.0005, bias_rad=0.03, random_fraction=0.05)
BAD = ScriptQuality(noise=0.5, bias_m=0.006, bias_rad=0.15, random_fraction=0.3, give_up_fraction=0.5)


def widened(task: Task, factor: float) -> Task:
    """The task in a box and with start poses `factor` times as wide across (x, y, yaw); heights stay."""
    scale = np.array([factor, factor, 1.0, 1.0, 1.0, factor])
    return replace(
        task,
        low=tuple(np.asarray(task.low) * scale),
        high=tuple(np.asarray(task.high) * scale),
        reset_range=tuple(np.asarray(task.reset_range) * scale),
    )


def collection_task(task: Task, recipe: Collect) -> Task:
    """The task as data is collected on it: a wider box, and time for a slow hand."""
    return replace(widened(task, recipe.widen), max_steps=recipe.max_steps)


def collect(task: Task, recipe: Collect, seed: int, progress: Callable[[int], None] = lambda n: None) -> Dataset:
    """Scripted episodes in the twin until there are enough transitions, the last one finished.

    Args:
        progress: called with the number of transitions so far.
    """
    env = make_env(collection_task(task, recipe), "twin")
    transitions: list[Transition] = []
    episode = 0
    try:
        while len(transitions) < recipe.transitions:
            # Hands take turns so that their shares are exact: drawn at random they differ between seeds more than anything.
            is_good = int((episode + 1) * recipe.good_share) > int(episode * recipe.good_share)
            rng, quality = np.random.default_rng([seed, episode]), GOOD if is_good else BAD
            transitions += _episode(env, quality, rng, episode_seed(seed, episode), len(transitions))
            episode += 1
            progress(len(transitions))
    finally:
        env.close()
    good = round(100 * recipe.good_share)
    info = DatasetInfo(
        task=task.name,
        reward_scale=task.reward_scale,
        reward_shift=task.reward_shift,
        discount=task.discount,
        provenance=f"scripted in the twin, {good}% good and {100 - good}% bad hands, box x{recipe.widen}, seed {seed}",
    )
    return Dataset.from_transitions(transitions, info)


def _episode(
    env: RobotEnv, quality: ScriptQuality, rng: np.random.Generator, seed: int, first: int
) -> list[Transition]:
    obs, _ = env.reset(seed=seed)
    script = ScriptedInsertion(env.task, env.arm.hole_pose, quality, rng)  # type: ignore[attr-defined]
    transitions, over, info = [], False, {}
    while not over:
        action = script.act(env.arm.read())
        next_obs, reward, terminated, truncated, info = env.step(action)
        over = terminated or truncated
        transitions.append(
            Transition(
                obs=obs,
                action=info["requested_action"],
                executed=info["executed_action"],
                reward=float(reward),
                next_obs=next_obs,
                terminated=terminated,
                truncated=truncated,
                source=SOURCES.index("offline"),
                sequence=first + len(transitions),
            )
        )
        obs = next_obs
    if "fault" in info:
        env.acknowledge(OPERATOR)
    return transitions
