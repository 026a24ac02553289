"""Fine-tuning: the learner's side of a run in its folder, alone in its process or with an actor beside it."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.progress import Progress

from agent.heads import SET_BY_METHODS
from agent.replay.dataset import Dataset
from agent.replay.journal import Journal
from agent.types import Normalizer, Phase
from launch import local
from launch.act import NO_RIG, equipped_env
from launch.address import EVERY_INTERFACE, Address, check_bind
from launch.build import (
    fine_tuning_phases,
    journal_info,
    networks_of,
    obs_shapes_of,
    sight_of,
    starts_from_nothing,
    statistics_of,
)
from launch.callable_policy import CallablePolicy
from launch.checkpoint import Checkpoints, about_checkpoint
from launch.features import check_memory
from launch.judging import judge_of
from launch.keys import Keys
from launch.learner import Learner
from launch.recipe_files import to_json
from launch.recipes import FinetuneRecipe
from launch.rig import Rig
from launch.runs import RunLog, console, prepare, write_json
from launch.serve import LATE_S, serve, serve_with_actor
from launch.sockets import LearnerSockets
from launch.stages import load_dataset, load_state, make_ring
from launch.tasks import check_task, find_task
from launch.training import Training
from sim.d4rl import D4RLTask

LOG_EVERY = 10  # blocks between two fetches of metrics from the device


def finetune_stage(
    recipe: FinetuneRecipe,
    folder: Path,
    progress: Progress,
    resume: bool = False,
    in_process: bool = False,
    realtime: bool = False,
    rig: Rig = NO_RIG,
) -> None:
    """Carries out the plan after its offline phase; leaves a checkpoint, a journal, curves and the outcome of each trial.

    Args:
        in_process: act in this process, in lockstep; otherwise an actor of its own process is started and joined by sockets.
        realtime: the actor holds the task's control rate on the wall clock.
        rig: what stands beside the arm.
    """
    rig.check(find_task(recipe.task))
    if rig.by_hand:
        console.print(rig.help, markup=False, highlight=False)
    if in_process and recipe.online.pace != "lockstep":
        raise ValueError("--in-process runs in lockstep; leave it out to run free")
    with open_training(recipe, folder, progress, resume) as training:
        if training is None:
            return
        if in_process:
            with equipped_env(recipe, realtime, rig) as (env, attendant):
                local.finetune(training, env, attendant)
        else:
            serve_with_actor(training, folder, realtime, rig.flags)
        finish(training, folder)


def learner_stage(
    recipe: FinetuneRecipe, folder: Path, progress: Progress, resume: bool, address: Address, keys: Keys | None
) -> None:
    """The learner's side alone: actors join from elsewhere.

    Raises:
        ValueError: the address may not be bound, see `launch.sockets.check_bind`.
    """
    check_bind(address, keys)
    with open_training(recipe, folder, progress, resume, finished_too=True) as training:
        assert training is not None
        if training.finished:
            console.print(f"the run in {folder} is finished; taking what actors still have for {LATE_S:g} s")
        with closing(LearnerSockets(address, keys, training.journal.info.layout.max_bytes)) as sockets:
            there = replace(sockets.address, host="HOST") if address.host in EVERY_INTERFACE else sockets.address
            with_keys = "" if keys is None else " --keys DIR"
            console.print(f"waiting for actors: `segue actor --connect {there} --out DIR{with_keys}`", soft_wrap=True)
            serve(training, sockets, folder)
        finish(training, folder)


def resolved(recipe: FinetuneRecipe) -> FinetuneRecipe:
    """The recipe with what its checkpoint decides: the offline method, and the fields of the networks that methods set.

    Raises:
        ValueError: the checkpoint, or a policy of the user's own, cannot be read.
    """
    if recipe.online.policy is not None:
        task = find_task(recipe.task)
        CallablePolicy(recipe.online.policy).check(obs_shapes_of(task), task.action_dim)
    if recipe.checkpoint is None or starts_from_nothing(recipe.online):
        return recipe
    folder = Path(recipe.checkpoint)
    meta = about_checkpoint(next(iter(sorted(folder.glob("seed_*"))), folder))
    saved = {name: meta["learning"]["networks"].get(name) for name in SET_BY_METHODS}
    networks = replace(recipe.learning.networks, **{name: x for name, x in saved.items() if x is not None})
    return replace(
        recipe,
        learning=replace(recipe.learning, networks=networks),
        online=replace(recipe.online, after=meta["method"]),
    )


def finish(training: Training, folder: Path) -> None:
    """Writes what is left to write of a run that came to its end; `realtime.json`, where its actors had a rate to hold."""
    training.log.flush()
    if training.ledger.paced_steps:
        rate = training.ledger.rate()
        write_json(folder / "realtime.json", rate)
        late, steps = rate["late_steps"], rate["paced_steps"]
        took = ", ".join(
            f"{q} {rate[f'period_{q}_ms']:g} ms" for q in ("p50", "p99", "max") if f"period_{q}_ms" in rate
        )
        console.print(f"late: {late} of {steps} control steps, {rate['late_percent']:g}%; a step took {took}")
    training.save(finished=True)


@contextmanager
def open_training(
    recipe: FinetuneRecipe, folder: Path, progress: Progress, resume: bool, finished_too: bool = False
) -> Iterator[Training | None]:
    """The learner's side of a run, taken up where its folder leaves off; None where it has come to its end.

    Args:
        finished_too: open it even then.

    Raises:
        ValueError: the recipe makes no sense, or the folder holds another run.
    """
    recipe, task = resolved(recipe), find_task(recipe.task)
    check_task(task, recipe.arm)
    if recipe.reward is not None:
        judge_of(task, recipe.reward, recipe.learning.vision)  # refused before a folder is made
    if recipe.online.stop_score is not None and not isinstance(task, D4RLTask):
        raise ValueError(f"--online.stop-score: task {task.name!r} has no normalised score; leave it out")
    learner = _learner(recipe)
    prepare(folder, to_json(recipe), resume)
    online = recipe.online
    with ExitStack() as stack:
        checkpoints = stack.enter_context(closing(Checkpoints(folder / "checkpoint")))
        meta = checkpoints.meta() if checkpoints.newest is not None else {}
        if meta.get("finished") and not finished_too:
            yield None
            return
        info = journal_info(task, f"{online.bridge} + {online.method} on {recipe.arm}, seed {recipe.seed}")
        journal = stack.enter_context(closing(Journal.open(folder / "journal", info)))
        for cut in journal.cuts:
            console.print(f"[yellow]{cut}[/yellow]")
        title, rows = f"{online.bridge} + {online.method}", meta.get("rows")
        log = RunLog(folder, title, online.env_steps, progress, LOG_EVERY, meta.get("wall_s", 0.0), rows)
        stack.enter_context(closing(log))
        yield stack.enter_context(closing(Training(recipe, learner, journal, checkpoints, log)))


def _learner(recipe: FinetuneRecipe) -> Learner:
    """A learner at the beginning of its plan: from a pre-trained run, or from nothing."""
    task, online = find_task(recipe.task), recipe.online
    nets, phases = networks_of(task, recipe.learning), fine_tuning_phases(online)
    sight = sight_of(task, recipe.learning.vision)
    # Pictures take so much memory that no more of it is set aside than the run can fill.
    rows = online.replay_capacity if sight is None else min(online.replay_capacity, online.env_steps)
    dataset = None if recipe.data is None else load_dataset(recipe.data, task, sight)
    if sight is not None:
        frames = 0 if dataset is None else len(dataset) + len(dataset.episodes)
        check_memory(sight, frames, rows)
    ring = make_ring(task, rows, online.replay, sight)
    if check_sources(recipe, phases):
        state, method = load_state(Path(str(recipe.checkpoint)), task, recipe.learning)
        return Learner(nets, phases, state.normalizer, ring, dataset, recipe.seed, state, method)
    normalizer = normalizer_of(dataset, statistics_of(task, recipe.learning.vision))
    return Learner(nets, phases, normalizer, ring, dataset, recipe.seed)


def check_sources(recipe: FinetuneRecipe, phases: tuple[Phase, ...]) -> bool:
    """Whether the phases start from a pre-trained run. Raises `ValueError` where one, or data, is missing or in vain."""
    bridge = recipe.online.bridge
    if recipe.data is None and any(p.method is not None and p.shares.get("offline") for p in phases):
        raise ValueError(f"bridge {bridge!r} learns from offline data; give --data DIR")
    if recipe.online.replay == "host" and any(p.replay == "balanced" for p in phases):
        raise ValueError(f"bridge {bridge!r} draws by priority, on the device; leave out --online.replay host")
    if not starts_from_nothing(recipe.online):
        if recipe.checkpoint is None:
            raise ValueError(f"bridge {bridge!r} starts from a pre-trained run; give --checkpoint FOLDER")
        return True
    if recipe.checkpoint is not None:
        raise ValueError(f"bridge {bridge!r} starts from nothing and would ignore --checkpoint; leave it out")
    return False


def normalizer_of(dataset: Dataset | None, shapes: Mapping[str, tuple[int, ...]]) -> Normalizer:
    """The statistics of a data set; without one, observations as they are."""
    if dataset is not None:
        return dataset.normalizer()
    return Normalizer(
        {name: np.zeros(shape, np.float32) for name, shape in shapes.items()},
        {name: np.ones(shape, np.float32) for name, shape in shapes.items()},
    )
