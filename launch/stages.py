"""The stages of a run, each in its own folder and each able to go on after an interruption."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from rich.progress import Progress

from agent.adopt import first_state
from agent.methods import find_method
from agent.policy import SAMPLE, Policy, PolicyParams, policy_params
from agent.replay.dataset import Dataset
from agent.replay.ring import Ring
from agent.types import Method, Metrics, Nets, Normalizer, Phase, State
from launch import local
from launch.actor import Actor, Episode
from launch.build import networks_of, obs_shapes_of, offline_phase, online_plan
from launch.checkpoint import Checkpoints, check_fits, open_checkpoint
from launch.collect import collect, collection_task
from launch.evaluate import Evaluator, Score
from launch.learner import Learner
from launch.recipe_files import structure, to_json, to_plain
from launch.recipes import (
    CollectRecipe,
    FinetuneRecipe,
    Learning,
    PretrainRecipe,
    check_seed,
)
from launch.runs import RunLog, prepare, rewind_logs
from robot_env.env import RobotEnv
from robot_env.make import make_env
from robot_env.preflight import preflight
from robot_env.tasks import Task, find_task

DATA_FILE = "dataset.npz"
LOG_EVERY = {"offline": 2, "online": 10}  # blocks between two fetches of metrics from the device
SAVE_EVERY_S = 30.0  # seconds of work that an interruption may cost


def collect_stage(recipe: CollectRecipe, folder: Path, progress: Progress, resume: bool = False) -> Path:
    """Collects a data set into `folder`; returns its file."""
    task = find_task(recipe.task)
    preflight(collection_task(task, recipe.collect))
    prepare(folder, to_json(recipe), resume)
    path = folder / DATA_FILE
    if not path.exists():
        bar = progress.add_task("collect", total=recipe.collect.transitions, note="")
        dataset = collect(task, recipe.collect, recipe.seed, lambda n: progress.update(bar, completed=n))
        dataset.save(path)
    return path


def load_dataset(path: str | Path, task: Task) -> Dataset:
    """A data set, checked against the task. Raises `ValueError`."""
    path = Path(path)
    dataset = Dataset.load(path / DATA_FILE if path.is_dir() else path)
    dataset.check(obs_shapes_of(task), task.action_dim, task.name)
    for name in ("reward_scale", "reward_shift", "discount"):
        recorded, wanted = getattr(dataset.info, name), getattr(task, name)
        if recorded != wanted:
            raise ValueError(
                f"data set {path}: recorded with {name} {recorded}, task {task.name!r} has {wanted}, and returns would "
                "not match the rewards; collect it again"
            )
    return dataset


def pretrain_stage(recipe: PretrainRecipe, folder: Path, progress: Progress, resume: bool = False) -> None:
    """Pre-trains on a data set; leaves a checkpoint. An interrupted pre-training begins again: it has no robot time in it."""
    task = find_task(recipe.task)
    phase = offline_phase(recipe.offline)
    nets = networks_of(task, recipe.learning)
    dataset = load_dataset(recipe.data, task)
    prepare(folder, to_json(recipe), resume)
    checkpoints = Checkpoints(folder / "checkpoint")
    if checkpoints.newest is None:
        learner = Learner(nets, (phase,), dataset.normalizer(), _ring(task, 1, "host"), dataset, recipe.seed)
        rewind_logs(folder, 0, 0)
        log = RunLog(folder, f"pre-train {recipe.offline.method}", phase.updates, progress, LOG_EVERY["offline"])
        try:
            local.run(learner, None, None, log)
            log.flush()
        finally:
            log.close()
        numbers = {"wall_s": log.wall_s, "updates": learner.updates, "finished": True}
        meta = _meta(recipe, recipe.offline.method, learner, numbers)
        checkpoints.save({"state": learner.state}, _policy(learner), meta)
    checkpoints.close()


def load_policy(folder: Path) -> tuple[PolicyParams, Nets, dict[str, Any]]:
    """The policy of a pretrain or finetune run's newest checkpoint, its networks, and what the checkpoint says of itself."""
    checkpoints = open_checkpoint(folder)
    try:
        meta, saved = checkpoints.meta(), checkpoints.policy()
    finally:
        checkpoints.close()
    saved = jax.tree.map(jnp.asarray, saved)
    nets = networks_of(find_task(meta["task"]), structure(meta["learning"], Learning))
    normalizer = Normalizer(saved["normalizer"]["mean"], saved["normalizer"]["std"])
    return PolicyParams(saved["params"], normalizer, meta["version"]), nets, meta


def load_state(folder: Path, task: Task, learning: Learning) -> tuple[State, Method]:
    """All that a finished run learned, and the method it learned it with.

    Raises:
        ValueError: the checkpoint is of another task, of other networks, or of a run that was interrupted.
    """
    checkpoints = open_checkpoint(folder)
    try:
        meta = checkpoints.meta()
        check_fits(meta, folder, task.name, to_plain(learning.networks))
        method = find_method(meta["method"])
        zeros = {name: jnp.zeros(shape) for name, shape in obs_shapes_of(task).items()}
        like = first_state(networks_of(task, learning), method, Normalizer(zeros, zeros), jax.random.key(0))
        return checkpoints.arrays({"state": like})["state"], method
    finally:
        checkpoints.close()


def finetune_stage(recipe: FinetuneRecipe, folder: Path, progress: Progress, resume: bool = False) -> None:
    """Carries out the plan after its offline phase; leaves a checkpoint, curves and the outcome of each trial."""
    task = find_task(recipe.task)
    nets = networks_of(task, recipe.learning)
    phases = online_plan(recipe.online)
    dataset = None if recipe.data is None else load_dataset(recipe.data, task)
    ring = _ring(task, recipe.online.replay_capacity, recipe.online.replay)
    if phases[0].env_steps:
        learner = _from_nothing(recipe, nets, phases, ring, dataset)
    else:
        if recipe.checkpoint is None:
            raise ValueError(f"bridge {recipe.online.bridge!r} starts from a pre-trained run; give --checkpoint FOLDER")
        state, method = load_state(Path(recipe.checkpoint), task, recipe.learning)
        learner = Learner(nets, phases[1:], state.normalizer, ring, dataset, recipe.seed, state, method)
    env = make_env(task, recipe.arm)
    prepare(folder, to_json(recipe), resume)
    checkpoints = Checkpoints(folder / "checkpoint")
    try:
        Finetuning(recipe, folder, learner, env, checkpoints).run(progress)
    finally:
        checkpoints.close()
        env.close()


class Finetuning:
    """A fine-tuning run: learner and actor in lockstep, saved between episodes; the `launch.local.Listener` of its run."""

    def __init__(
        self, recipe: FinetuneRecipe, folder: Path, learner: Learner, env: RobotEnv, checkpoints: Checkpoints
    ) -> None:
        self.recipe, self.folder, self.learner, self.checkpoints = recipe, folder, learner, checkpoints
        operator = operator_of(recipe.arm)
        policy = Policy(learner.nets, SAMPLE, jax.random.fold_in(jax.random.key(recipe.seed), 1))
        self.actor = Actor(env, policy, recipe.seed, operator)
        self.evaluator = Evaluator(env, learner.nets, recipe.evaluation.trials, recipe.seed, operator)
        self.last_score: int | None = None
        self._saved_s = 0.0

    def run(self, progress: Progress) -> None:
        """Goes on from the newest checkpoint, if any, to the end."""
        meta = self._restore()
        if meta.get("finished"):
            return
        rewind_logs(self.folder, self.actor.env_steps, self.learner.updates)
        online, every = self.recipe.online, self.recipe.evaluation.every_env_steps
        self._saved_s = meta.get("wall_s", 0.0)
        title = f"{online.bridge} + {online.method}"
        self.log = RunLog(self.folder, title, online.env_steps, progress, LOG_EVERY["online"], self._saved_s)
        try:
            local.run(self.learner, self.actor, self.evaluator, self, online.block, every, self.last_score)
            self.log.flush()
            self._save(finished=True)
        finally:
            self.log.close()

    def trained(self, phase: str, env_steps: int, updates: int, metrics: Metrics) -> None:
        """See `launch.local.Listener`."""
        self.log.trained(phase, env_steps, updates, metrics)

    def episode(self, env_steps: int, episode: Episode) -> None:
        """See `launch.local.Listener`."""
        self.log.episode(env_steps, episode)

    def scored(self, env_steps: int, scores: dict[str, Score]) -> None:
        """See `launch.local.Listener`."""
        self.last_score = env_steps
        self.log.scored(env_steps, scores)

    def boundary(self, env_steps: int) -> None:
        """Saves now and then; an episode that a checkpoint would cut is never open here."""
        if self.log.wall_s - self._saved_s >= SAVE_EVERY_S:
            self._save(finished=False)

    def _save(self, finished: bool) -> None:
        self.actor.abandon()  # of a finished run the last episode is cut where its budget ended
        self.learner.ring.abandon(self.actor.actor_id)
        arrays, numbers = self.learner.save()
        numbers |= {"episodes": self.actor.episodes, "env_steps": self.actor.env_steps, "last_score": self.last_score}
        numbers |= {"evaluation_calls": self.evaluator.calls, "wall_s": self.log.wall_s, "finished": finished}
        meta = _meta(self.recipe, self.recipe.online.method, self.learner, numbers)
        self.checkpoints.save(arrays, _policy(self.learner), meta)
        self._saved_s = self.log.wall_s

    def _restore(self) -> dict[str, Any]:
        if self.checkpoints.newest is None:
            return {}
        meta = self.checkpoints.meta()
        while self.learner.phase_index < meta["phase"]:
            self.learner.enter_next()
        like: dict[str, Any] = {"state": self.learner.state}
        rows = min(meta["inserted"], self.learner.ring.capacity)
        if rows:
            like["replay"] = jax.tree.map(lambda x: np.zeros((rows, *x.shape[1:]), x.dtype), self.learner.ring.columns)
        self.learner.restore(self.checkpoints.arrays(like), meta)
        self.actor.resume(meta["episodes"], meta["env_steps"])
        self.evaluator.calls, self.last_score = meta["evaluation_calls"], meta["last_score"]
        return meta


def evaluate_stage(folder: Path, trials: int, arm: str, seed: int) -> dict[str, Any]:
    """Both ways of acting on the task's fixed trials."""
    if trials < 1:
        raise ValueError(f"--trials {trials}: give at least 1")
    check_seed(seed)
    now, nets, meta = load_policy(folder)
    env = make_env(find_task(meta["task"]), arm)
    try:
        evaluator = Evaluator(env, nets, trials, seed, operator_of(arm))
        scores = {mode: score.to_json() for mode, score in evaluator.both(now).items()}
    finally:
        env.close()
    return {"checkpoint": str(folder), "task": meta["task"], "updates": meta["version"], **scores}


def operator_of(arm: str) -> str | None:
    """In whose name a fault is acknowledged: a twin's by the program, a robot's by a human."""
    return "the twin's runner" if arm == "twin" else None


def _from_nothing(
    recipe: FinetuneRecipe, nets: Nets, phases: tuple[Phase, ...], ring: Ring, dataset: Dataset | None
) -> Learner:
    bridge = recipe.online.bridge
    if recipe.checkpoint is not None:
        raise ValueError(f"bridge {bridge!r} starts from nothing and would ignore --checkpoint; leave it out")
    if dataset is None:
        raise ValueError(f"bridge {bridge!r} learns from offline data; give --data FILE")
    return Learner(nets, phases, dataset.normalizer(), ring, dataset, recipe.seed)


def _ring(task: Task, capacity: int, place: Literal["device", "host"]) -> Ring:
    cut = task.reward_shift / (1.0 - task.discount)
    return Ring(capacity, obs_shapes_of(task), task.action_dim, task.discount, cut, place)


def _policy(learner: Learner) -> dict[str, Any]:
    now = policy_params(learner.state, SAMPLE)
    return {"params": now.params, "normalizer": {"mean": now.normalizer.mean, "std": now.normalizer.std}}


def _meta(
    recipe: PretrainRecipe | FinetuneRecipe, method: str, learner: Learner, numbers: Mapping[str, Any]
) -> dict[str, Any]:
    """What a checkpoint says of itself; its version counts the minibatches behind the policy, pre-training included."""
    version = int(learner.state.update_count)
    return {"task": recipe.task, "learning": to_plain(recipe.learning), "method": method, "version": version, **numbers}
