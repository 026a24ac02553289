"""The stages of a run for several seeds at once, a population; both can go on after an interruption.

A folder holds `seed_K` for each seed, a run's folder with its checkpoint, and `result.json`: the curves of all.
"""

import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from rich.progress import Progress

from agent.plan import acting
from agent.replay.rings import Rings
from agent.types import Method, Phase, State
from launch.build import fine_tuning_phases, networks_of, obs_shapes_of, offline_phases
from launch.checkpoint import Checkpoints
from launch.finetune import check_sources, normalizer_of, resolved
from launch.learner import OFFLINE_BLOCK
from launch.population import Population
from launch.population_trials import Examiner
from launch.recipe_files import to_json
from launch.recipes import Evaluation, FinetuneRecipe, PretrainRecipe
from launch.runs import prepare, read_json, write_json
from launch.seeds_run import Run, check_finite, export, facts_of, means, save, take_up
from launch.stages import load_dataset, load_state
from launch.tasks import AnyTask, cameras_of, find_task
from launch.training import SAVE_EVERY_S

RESULT = "result.json"


def seeds_of(recipe: PretrainRecipe | FinetuneRecipe) -> range:
    """The seeds of a recipe."""
    return range(recipe.seed, recipe.seed + recipe.seeds)


def check_sightless(task: AnyTask) -> None:
    """Raises `ValueError` for a task with cameras: pictures of several seeds side by side would not fit."""
    if cameras_of(task):
        raise ValueError(
            f"--seeds: task {task.name!r} has cameras, whose pictures are kept for one seed at a time; start a run for each"
        )


def seed_folder(folder: Path, seed: int) -> Path:
    """Where one seed of a population's run is."""
    return folder / f"seed_{seed}"


def pretrain_seeds(
    recipe: PretrainRecipe,
    evaluation: Evaluation,
    folder: Path,
    progress: Progress,
    resume: bool = False,
) -> dict[str, Any]:
    """Pre-trains the recipe's seeds on one data set as one program; returns what `result.json` holds."""
    task, phases = find_task(recipe.task), offline_phases(recipe.offline)
    check_sightless(task)
    nets, dataset = networks_of(task, recipe.learning), load_dataset(recipe.data, task)
    seeds = seeds_of(recipe)
    prepare(folder, to_json(recipe), resume)
    if (folder / RESULT).exists():
        return read_json(folder / RESULT)
    population = Population(nets, phases, dataset.normalizer(), dataset, seeds)
    bar = progress.add_task(f"pre-train {recipe.offline.method}", total=sum(phase.updates for phase in phases), note="")
    with closing(Checkpoints(folder / "checkpoint")) as checkpoints:
        spent_s = take_up(population, checkpoints).get("wall_s", 0.0)
        start_s = saved_s = time.monotonic()
        while population.remaining > 0 or not population.is_last_phase:
            if population.remaining <= 0:
                population.enter(population.phase_index + 1)
            population.learn(min(OFFLINE_BLOCK, population.remaining))
            progress.update(bar, completed=int(population.state.update_count))
            if time.monotonic() - saved_s > SAVE_EVERY_S:
                saved_s = time.monotonic()
                save(recipe, population, checkpoints, recipe.offline.method, {"wall_s": spent_s + saved_s - start_s})
    wall_s = spent_s + time.monotonic() - start_s
    check_finite(population)
    with closing(Examiner(nets, task, seeds, evaluation.trials, acting(phases))) as it:
        outcomes = it.both(population.state)
    for i, seed in enumerate(seeds):
        export(recipe, population, i, recipe.offline.method, seed_folder(folder, seed))
    result = {
        "offline": recipe.offline.method,
        "task": recipe.task,
        "seeds": list(seeds),
        "trials": evaluation.trials,
        "wall_s": round(wall_s, 1),
        "data": facts_of(dataset, task),
        **{mode: means([found]) for mode, found in outcomes.items()},
    }
    write_json(folder / RESULT, result)
    return result


def finetune_seeds(recipe: FinetuneRecipe, folder: Path, progress: Progress, resume: bool = False) -> dict[str, Any]:
    """Fine-tunes the recipe's seeds in the twin as one program; returns what `result.json` holds.

    `recipe.checkpoint` is one pre-trained run for all, or the folder of `pretrain_seeds` with one for each. An interrupted run
    goes on from its last evaluation, with new episodes.
    """
    recipe = resolved(recipe)
    task, online = find_task(recipe.task), recipe.online
    if (recipe.arm, online.pace, online.stop_score, online.replay) != ("twin", "lockstep", None, "device"):
        raise ValueError(
            "--seeds: several seeds run in the twin, in lockstep, to their end and with their replays on the device; "
            "leave --arm, --online.pace, --online.stop-score and --online.replay out"
        )
    check_sightless(task)
    nets, phases = networks_of(task, recipe.learning), fine_tuning_phases(online)
    dataset = None if recipe.data is None else load_dataset(recipe.data, task)
    seeds = seeds_of(recipe)
    states, method = _starts(recipe, seeds, task, phases)
    prepare(folder, to_json(recipe), resume)
    if (folder / RESULT).exists():
        return read_json(folder / RESULT)
    total = sum(phase.env_steps for phase in phases)
    capacity = min(online.replay_capacity, total)
    rings = Rings(len(seeds), capacity, obs_shapes_of(task), task.action_dim, task.discount, task.truncation_value)
    normalizer = states[0].normalizer if states else normalizer_of(dataset, obs_shapes_of(task))
    population = Population(nets, phases, normalizer, dataset, seeds, rings, states, method)
    run = Run(recipe, seeds, folder, population, progress, total)
    with closing(run):
        run.go_on()
        result = run.result(dataset, task)
    for i, seed in enumerate(seeds):
        export(recipe, population, i, online.method, seed_folder(folder, seed))
    write_json(folder / RESULT, result)
    return result


def _starts(
    recipe: FinetuneRecipe, seeds: Sequence[int], task: AnyTask, phases: tuple[Phase, ...]
) -> tuple[list[State] | None, Method | None]:
    """The states that the seeds begin from, and the method of these; nothing for a bridge that starts from nothing."""
    if not check_sources(recipe, phases):
        return None, None
    folder = Path(str(recipe.checkpoint))
    each = [seed_folder(folder, seed) for seed in seeds]
    if not all(path.is_dir() for path in each):
        if any(folder.glob("seed_*")):
            missing = next(path.name for path in each if not path.is_dir())
            raise ValueError(f"checkpoint {folder}: it has no {missing}; pre-train that seed, or give other seeds")
        state, method = load_state(folder, task, recipe.learning)
        return [state] * len(seeds), method
    loaded = [load_state(path, task, recipe.learning) for path in each]
    return [state for state, _ in loaded], loaded[0][1]
