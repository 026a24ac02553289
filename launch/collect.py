"""Collecting offline data: with scripts, at random, with an expert, or with a policy that was learned."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np

from agent.policy import Policy
from agent.replay.dataset import Dataset
from agent.replay.journal_info import DatasetInfo
from launch.actor import episode_seed
from launch.attendant import TWINS_RUNNER
from launch.policies import load_policy, ways_of_acting
from launch.recipes import Collect
from launch.tasks import AnyTask, Environment, check_task, info_of, make_env
from robot_env.tasks import Task, name_of
from sim.d4rl import D4RLTask
from sim.expert import Expert
from sim.passage import PassageEnv
from sim.passage_script import Threading, Wandering
from sim.scripted import ScriptedInsertion, ScriptQuality

# Two kinds of scripted hand: one that mostly succeeds, and one that mostly does not.
GOOD = ScriptQuality(noise=0.25, bias_m=0.0005, bias_rad=0.03, random_fraction=0.05)
BAD = ScriptQuality(noise=0.5, bias_m=0.006, bias_rad=0.15, random_fraction=0.3, give_up_fraction=0.5)

Row = dict[str, Any]


class Hand(Protocol):
    """What acts: `begin` at each reset, then `act`."""

    def begin(self, env: Environment, episode: int, rng: np.random.Generator) -> None: ...
    def act(self, obs: Mapping[str, np.ndarray]) -> np.ndarray: ...


def is_good(episode: int, good_share: float) -> bool:
    """Whether a good hand plays an episode. Good and bad hands take turns, so that their shares are exact: drawn at random they
    differ between seeds more than anything."""
    return int((episode + 1) * good_share) > int(episode * good_share)


class ScriptedHand:
    """The peg's script, well done or badly."""

    def __init__(self, good_share: float) -> None:
        self._good_share = good_share

    def begin(self, env: Environment, episode: int, rng: np.random.Generator) -> None:
        quality = GOOD if is_good(episode, self._good_share) else BAD
        self._arm = env.arm  # type: ignore[attr-defined]
        self._script = ScriptedInsertion(env.task, self._arm.hole_pose, quality, rng)

    def act(self, obs: Mapping[str, np.ndarray]) -> np.ndarray:
        return self._script.act(self._arm.read())


class PassageHand:
    """The narrow passage's scripts: a good hand threads the gap, a bad one wanders."""

    def __init__(self, good_share: float) -> None:
        self._good_share = good_share

    def begin(self, env: Environment, episode: int, rng: np.random.Generator) -> None:
        self._script = (Threading if is_good(episode, self._good_share) else Wandering)(rng)

    def act(self, obs: Mapping[str, np.ndarray]) -> np.ndarray:
        return self._script.act(obs["state"])


# Of environments without an arm, those that there is a script for.
SCRIPTED: dict[type, type[PassageHand]] = {PassageEnv: PassageHand}


class RandomHand:
    """Uniform actions."""

    def begin(self, env: Environment, episode: int, rng: np.random.Generator) -> None:
        self._dim, self._rng = env.task.action_dim, rng

    def act(self, obs: Mapping[str, np.ndarray]) -> np.ndarray:
        return self._rng.uniform(-1.0, 1.0, self._dim)


class ExpertHand:
    """A DAPG expert, with noise or without."""

    def __init__(self, path: Path, noise: bool) -> None:
        self._expert, self._noise = Expert.load(path), noise

    def begin(self, env: Environment, episode: int, rng: np.random.Generator) -> None:
        self._rng = rng if self._noise else None

    def act(self, obs: Mapping[str, np.ndarray]) -> np.ndarray:
        return self._expert.act(obs["state"], self._rng)


class PolicyHand:
    """A learned policy, sampled or by its mode."""

    def __init__(self, folder: Path, noise: bool, seed: int) -> None:
        self._now, nets, self.meta = load_policy(folder)
        self._policy = Policy(nets, ways_of_acting(self.meta)["sample" if noise else "mode"], jax.random.key(seed))

    def begin(self, env: Environment, episode: int, rng: np.random.Generator) -> None:
        self._step = 0

    def act(self, obs: Mapping[str, np.ndarray]) -> np.ndarray:
        self._step += 1
        return self._policy(self._now, obs, self._step - 1)


def check_collect(task: AnyTask, recipe: Collect) -> None:
    """Raises `ValueError` where a task cannot be collected in that way."""
    if recipe.behavior not in (ways := _behaviors(task)):
        raise ValueError(
            f"--collect.behavior {recipe.behavior}: task {task.name!r} is collected with {', '.join(ways)}; choose one"
        )
    if (recipe.behavior in ("expert", "policy")) != (recipe.source is not None):
        raise ValueError(
            f"--collect.source {recipe.source}: behaviour 'expert' takes the expert's .npz file, 'policy' the folder of a "
            f"run, and {recipe.behavior!r} is what was asked for; give it to these and to no other"
        )
    check_task(collection_task(task, recipe), "twin")


def _behaviors(task: AnyTask) -> tuple[str, ...]:
    """What may act on a task."""
    if isinstance(task, Task):
        return ("scripted",)
    others = ("random", "expert", "policy")
    return ("scripted", *others) if task.env in SCRIPTED else others


def collection_task(task: AnyTask, recipe: Collect) -> AnyTask:
    """The task as data is collected on it: an arm's in a wider box, with time for a slow hand; D4RL's with raw rewards."""
    if isinstance(task, D4RLTask):
        return replace(task, reward_scale=1.0, reward_shift=0.0)
    return replace(widened(task, recipe.widen), max_steps=recipe.max_steps)


def widened(task: Task, factor: float) -> Task:
    """The task in a box and with start poses `factor` times as wide across (x, y, yaw); heights stay."""
    scale = np.array([factor, factor, 1.0, 1.0, 1.0, factor])
    return replace(
        task,
        low=tuple(np.asarray(task.low) * scale),
        high=tuple(np.asarray(task.high) * scale),
        reset_range=tuple(np.asarray(task.reset_range) * scale),
    )


def collect(task: AnyTask, recipe: Collect, seed: int, progress: Callable[[int], None] = lambda n: None) -> Dataset:
    """Episodes in the twin until there are enough transitions, the last one finished.

    Args:
        progress: called with the number of transitions so far.

    Raises:
        ValueError: `recipe.give_up_after` episodes on end had no success, and only successes are kept.
    """
    hand, provenance = _hand(task, recipe, seed)
    env = make_env(collection_task(task, recipe))
    rows: list[Row] = []
    episode = kept = fruitless = 0
    try:
        while len(rows) < recipe.transitions:
            if recipe.only_successes and fruitless == recipe.give_up_after:
                raise ValueError(
                    f"collect: no success in {fruitless} episodes of {task.name!r}; use a better policy, or keep failures too"
                )
            found = _episode(env, hand, episode, seed)
            episode, fruitless = episode + 1, 0 if found[-1]["success"] else fruitless + 1
            if found[-1]["success"] or not recipe.only_successes:
                kept += 1
                rows += found
            progress(len(rows))
    finally:
        env.close()
    if recipe.only_successes:
        provenance += f"; the {kept} successful of {episode} episodes kept"
    return _dataset(rows, info_of(env.task, provenance))


def _hand(task: AnyTask, recipe: Collect, seed: int) -> tuple[Hand, str]:
    """What acts, and how it is described."""
    end = f", seed {seed}"
    match recipe.behavior:
        case "scripted":
            good = round(100 * recipe.good_share)
            words = f"scripted in the twin, {good}% good and {100 - good}% bad hands"
            if isinstance(task, Task):
                return ScriptedHand(recipe.good_share), words + f", box x{recipe.widen}" + end
            return SCRIPTED[task.env](recipe.good_share), words + end
        case "random":
            return RandomHand(), "uniform random actions in the twin" + end
        case "expert":
            path = Path(str(recipe.source))
            kind = "sampled" if recipe.noise else "deterministic"
            return ExpertHand(path, recipe.noise), f"expert {path.name} in the twin, {kind}" + end
        case "policy":
            hand = PolicyHand(Path(str(recipe.source)), recipe.noise, seed)
            if name_of(hand.meta["task"]) != task.name:
                raise ValueError(
                    f"--collect.source {recipe.source}: its policy is of task {hand.meta['task']!r}, not {task.name!r}; "
                    "give one of this task"
                )
            how = "sampled" if recipe.noise else "by its mode"
            words = (
                f"policy of {recipe.source} ({hand.meta['method']}, {hand.meta['version']} updates), {how}, in the twin"
            )
            return hand, words + end


def _episode(env: Environment, hand: Hand, episode: int, seed: int) -> list[Row]:
    obs, _ = env.reset(seed=episode_seed(seed, episode))
    hand.begin(env, episode, np.random.default_rng([seed, episode]))
    rows, over, info = [], False, {}
    while not over:
        next_obs, reward, terminated, truncated, info = env.step(hand.act(obs))
        over = terminated or truncated
        rows.append(
            {
                "obs": obs,
                "next_obs": next_obs,
                "action": info["requested_action"],
                "executed": info["executed_action"],
                "reward": float(reward),
                "terminated": terminated,
                "truncated": truncated,
                "success": bool(info["succeed"]),
            }
        )
        obs = next_obs
    if "fault" in info:
        env.acknowledge(TWINS_RUNNER)
    return rows


def _dataset(rows: list[Row], info: DatasetInfo) -> Dataset:
    def stacked(kind: str) -> dict[str, np.ndarray]:
        return {name: np.stack([row[kind][name] for row in rows]) for name in rows[0][kind]}

    action, reward, terminated, truncated, success, executed = (
        np.asarray([row[name] for row in rows])
        for name in ("action", "reward", "terminated", "truncated", "success", "executed")
    )
    obs, next_obs = stacked("obs"), stacked("next_obs")
    return Dataset.of(info, obs, next_obs, action, reward, terminated, truncated, success, executed=executed)
