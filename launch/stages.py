"""The stages of a run, each in its own folder and each able to go on after an interruption."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Literal

import jax
import jax.numpy as jnp
from rich.progress import Progress

from agent.adopt import first_state
from agent.methods import find_method
from agent.replay.dataset import Dataset
from agent.replay.journal_write import write_journal
from agent.replay.ring import Ring
from agent.types import Method, Normalizer, State
from agent.vision import with_encoder
from encoders.sight import Sight
from launch.build import networks_of, obs_shapes_of, offline_phases, sight_of, statistics_of
from launch.checkpoint import Checkpoints, check_fits, open_checkpoint
from launch.collect import check_collect, collect
from launch.features import encoded
from launch.journal_tools import JOURNAL
from launch.learner import OFFLINE_BLOCK, Learner
from launch.recipe_files import to_json, to_plain
from launch.recipes import CollectRecipe, Learning, PretrainRecipe
from launch.runs import RunLog, prepare
from launch.tasks import AnyTask, find_task, info_of, spaces_of
from launch.training import SAVE_EVERY_S, meta_of, saved_policy

LOG_EVERY = 2  # blocks between two fetches of metrics from the device


def collect_stage(recipe: CollectRecipe, folder: Path, progress: Progress, resume: bool = False) -> Path:
    """Collects a data set into `folder`; returns the folder, which `load_dataset` takes."""
    task = find_task(recipe.task)
    check_collect(task, recipe.collect)
    prepare(folder, to_json(recipe), resume)
    if not (folder / JOURNAL).exists():
        bar = progress.add_task("collect", total=recipe.collect.transitions, note="")
        dataset = collect(task, recipe.collect, recipe.seed, lambda n: progress.update(bar, completed=n))
        write_journal(dataset, folder / JOURNAL)
    return folder


def load_dataset(path: str | Path, task: AnyTask, sight: Sight | None = None) -> Dataset:
    """A data set, checked against the task, with its rewards and returns as the task has them, its pictures as `sight` keeps
    them. Raises `ValueError`."""
    dataset = Dataset.load(Path(path))
    observed, action = spaces_of(task)
    dataset.check({name: space.shape or () for name, space in observed.items()}, action.shape[0], task.name)
    dataset = dataset.under(info_of(task, ""))
    return dataset if sight is None else encoded(dataset, Path(path), sight)


def pretrain_stage(recipe: PretrainRecipe, folder: Path, progress: Progress, resume: bool = False) -> None:
    """Pre-trains on a data set, from where an earlier part was saved; leaves a checkpoint."""
    task = find_task(recipe.task)
    phases = offline_phases(recipe.offline)
    nets = networks_of(task, recipe.learning)
    sight = sight_of(task, recipe.learning.vision)
    dataset = load_dataset(recipe.data, task, sight)
    prepare(folder, to_json(recipe), resume)
    with closing(Checkpoints(folder / "checkpoint")) as checkpoints:
        meta = checkpoints.meta() if checkpoints.newest is not None else {}
        if meta.get("finished"):
            return
        learner = Learner(nets, phases, dataset.normalizer(), make_ring(task, 1, "host", sight), dataset, recipe.seed)
        if meta:
            while learner.phase_index < meta["phase"]:
                learner.enter_next()
            learner.restore(checkpoints.arrays({"state": learner.state})["state"], meta)
        title, rows = f"pre-train {recipe.offline.method}", meta.get("rows")
        total = sum(phase.updates for phase in phases)
        log = RunLog(folder, title, total, progress, LOG_EVERY, meta.get("wall_s", 0.0), rows)

        def save(finished: bool) -> None:
            numbers = {**learner.numbers(), "wall_s": log.wall_s, "rows": dict(log.rows), "finished": finished}
            meta = meta_of(recipe, recipe.offline.method, learner.state, numbers)
            checkpoints.save({"state": learner.state}, saved_policy(learner.state, phases), meta)

        with closing(log):
            pretrain(learner, log, save)


def pretrain(learner: Learner, log: RunLog, save: Callable[[bool], None]) -> None:
    """Carries out offline phases; `save` is called now and then, and at the end with True."""
    saved_s = log.wall_s
    while learner.remaining > 0 or not learner.is_last_phase:
        if learner.remaining <= 0:
            learner.enter_next()
        metrics = learner.learn(min(OFFLINE_BLOCK, learner.remaining))
        log.trained(learner.phase.name, 0, learner.updates, metrics)
        if log.wall_s - saved_s >= SAVE_EVERY_S:
            save(False)
            saved_s = log.wall_s
    log.flush()
    save(True)


def load_state(folder: Path, task: AnyTask, learning: Learning) -> tuple[State, Method]:
    """All that a finished run learned, and the method it learned it with.

    Raises:
        ValueError: the checkpoint is of another task, of other networks, or of a run that was interrupted.
    """
    checkpoints = open_checkpoint(folder)
    try:
        meta = checkpoints.meta()
        check_fits(meta, folder, task.name, to_plain(learning.networks))
        method = find_method(meta["method"])
        nets = networks_of(task, learning)
        method = with_encoder(nets, method)
        own = (*method.updated, *method.frozen)
        # A bridge may have carried more along, such as the prior that rolled in.
        carried = tuple(name for name in meta.get("groups", own) if name not in own)
        saved = replace(method, frozen=(*method.frozen, *carried))
        zeros = {name: jnp.zeros(shape) for name, shape in statistics_of(task, learning.vision).items()}
        like = first_state(nets, saved, Normalizer(zeros, zeros), jax.random.key(0))
        state = checkpoints.arrays({"state": like})["state"]
        return state.replace(params={name: state.params[name] for name in own}), method
    finally:
        checkpoints.close()


def make_ring(task: AnyTask, capacity: int, place: Literal["device", "host"], sight: Sight | None = None) -> Ring:
    """The replay of a task."""
    return Ring(capacity, obs_shapes_of(task), task.action_dim, task.discount, task.truncation_value, place, sight)
