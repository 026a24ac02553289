"""The stages of a run for several seeds at once, a population; both can go on after an interruption.

A folder holds `seed_K` for each seed, a run's folder with its checkpoint, and `result.json`: the curves of all.
"""

import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.progress import Progress

from agent.methods import find_method
from agent.policy import exploration
from agent.replay.dataset import Dataset
from agent.replay.rings import Rings
from agent.types import Method, Phase, State
from launch.build import fine_tuning_phases, networks_of, obs_shapes_of, offline_phase
from launch.checkpoint import Checkpoints
from launch.diagnosis import Diagnosis
from launch.finetune import check_sources, normalizer_of
from launch.fleet import make_fleet
from launch.learner import OFFLINE_BLOCK
from launch.population import Crew, Population, member
from launch.population_trials import Examiner, Outcomes
from launch.recipe_files import to_json, to_plain
from launch.recipes import Evaluation, FinetuneRecipe, PretrainRecipe
from launch.runs import console, prepare, read_json, write_json
from launch.stages import load_dataset, load_state
from launch.tasks import AnyTask, find_task, normalized_score
from launch.training import SAVE_EVERY_S

RESULT = "result.json"


def seeds_of(recipe: PretrainRecipe | FinetuneRecipe) -> range:
    """The seeds of a recipe."""
    return range(recipe.seed, recipe.seed + recipe.seeds)


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
    task, phase = find_task(recipe.task), offline_phase(recipe.offline)
    nets, dataset = networks_of(task, recipe.learning), load_dataset(recipe.data, task)
    seeds = seeds_of(recipe)
    prepare(folder, to_json(recipe), resume)
    if (folder / RESULT).exists():
        return read_json(folder / RESULT)
    population = Population(nets, (phase,), dataset.normalizer(), dataset, seeds)
    bar = progress.add_task(f"pre-train {recipe.offline.method}", total=phase.updates, note="")
    with closing(Checkpoints(folder / "checkpoint")) as checkpoints:
        spent_s = _take_up(population, checkpoints).get("wall_s", 0.0)
        start_s = saved_s = time.monotonic()
        while population.remaining > 0:
            population.learn(min(OFFLINE_BLOCK, population.remaining))
            jax.block_until_ready(population.state.update_count)
            progress.update(bar, completed=population.phase_updates)
            if time.monotonic() - saved_s > SAVE_EVERY_S:
                saved_s = time.monotonic()
                _save(recipe, population, checkpoints, recipe.offline.method, {"wall_s": spent_s + saved_s - start_s})
    wall_s = spent_s + time.monotonic() - start_s
    _check_finite(population)
    with closing(Examiner(nets, task, seeds, evaluation.trials, exploration(find_method(recipe.offline.method)))) as it:
        outcomes = it.both(population.state)
    for i, seed in enumerate(seeds):
        _export(recipe, population.state, i, recipe.offline.method, seed_folder(folder, seed))
    result = {
        "offline": recipe.offline.method,
        "task": recipe.task,
        "seeds": list(seeds),
        "trials": evaluation.trials,
        "wall_s": round(wall_s, 1),
        "data": facts_of(dataset, task),
        **{mode: _numbers([found]) for mode, found in outcomes.items()},
    }
    write_json(folder / RESULT, result)
    return result


def finetune_seeds(recipe: FinetuneRecipe, folder: Path, progress: Progress, resume: bool = False) -> dict[str, Any]:
    """Fine-tunes the recipe's seeds in the twin as one program; returns what `result.json` holds.

    `recipe.checkpoint` is one pre-trained run for all, or the folder of `pretrain_seeds` with one for each. An interrupted run
    goes on from its last evaluation, with new episodes.
    """
    task, online = find_task(recipe.task), recipe.online
    if (recipe.arm, online.pace, online.stop_score, online.replay) != ("twin", "lockstep", None, "device"):
        raise ValueError(
            "--seeds: several seeds run in the twin, in lockstep, to their end and with their replays on the device; "
            "leave --arm, --online.pace, --online.stop-score and --online.replay out"
        )
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
    normalizer = states[0].normalizer if states else normalizer_of(dataset, task)
    population = Population(nets, phases, normalizer, dataset, seeds, rings, states, method)
    run = _Run(recipe, seeds, folder, population, progress, total)
    with closing(run):
        run.go_on()
        result = run.result(dataset, task)
    for i, seed in enumerate(seeds):
        _export(recipe, population.state, i, online.method, seed_folder(folder, seed))
    write_json(folder / RESULT, result)
    return result


class _Run:
    """The loop of fine-tuning: act, learn, and now and then evaluate, save and keep a snapshot for the diagnostics."""

    def __init__(
        self,
        recipe: FinetuneRecipe,
        seeds: Sequence[int],
        folder: Path,
        population: Population,
        progress: Progress,
        total: int,
    ) -> None:
        task = find_task(recipe.task)
        self._recipe, self._seeds, self._population, self._total = recipe, seeds, population, total
        self._crew = Crew(population, make_fleet(task, len(seeds)))
        explore = exploration(find_method(recipe.online.method))
        self._examiner = Examiner(population.nets, task, seeds, recipe.evaluation.trials, explore)
        self._checkpoints = Checkpoints(folder / "checkpoint")
        self._title = f"{recipe.online.bridge} + {recipe.online.method}"
        self._progress, self._bar = progress, progress.add_task(self._title, total=total, note="")
        self._curve: dict[str, Any] = {"env_steps": [], "mode": [], "sample": []}
        stochastic = find_method(recipe.online.method).explore is None
        self._diagnosis = Diagnosis(population.nets, folder / "snapshots", stochastic)
        self._capacity = 0 if population.rings is None else population.rings.capacity
        self._start_s = time.monotonic()

    def go_on(self) -> None:
        """Takes the run up where it was saved, and carries it to its end."""
        meta = _take_up(self._population, self._checkpoints)
        if meta:
            self._curve = meta["curve"]
            self._crew.env_steps = self._curve["env_steps"][-1]
            self._crew.episodes += np.asarray(meta["episodes"])
            self._examiner.evaluations = len(self._curve["env_steps"])
            self._start_s -= meta["wall_s"]
        else:
            self._evaluate()
        every, population = self._recipe.evaluation.every_env_steps, self._population
        while self._crew.env_steps < self._total:
            now = self._crew.env_steps
            most = min(self._recipe.online.block, self._capacity)
            count = min(most, population.remaining, every - now % every)
            self._crew.perform(count)
            if population.phase.method is not None:
                population.learn(count)
            self._progress.update(self._bar, completed=self._crew.env_steps)
            if population.remaining == 0 and population.phase_index + 1 < len(population.phases):
                population.enter(population.phase_index + 1)
            if self._crew.env_steps % every == 0 or self._crew.env_steps == self._total:
                self._evaluate()

    def _evaluate(self) -> None:
        population, steps = self._population, self._crew.env_steps
        _check_finite(population)
        found = self._examiner.both(population.state)
        self._curve["env_steps"].append(steps)
        for mode, outcomes in found.items():
            self._curve[mode].append(_numbers([outcomes]))
        self._diagnosis.keep(steps, population.state)
        told = "  ".join(f"{mode} {outcomes.success.mean():.2f}" for mode, outcomes in found.items())
        console.print(f"[dim]{self._title}: after {steps} env steps: {told}[/dim]")
        meta = {
            "curve": self._curve,
            "episodes": self._crew.episodes.tolist(),
            "wall_s": time.monotonic() - self._start_s,
        }
        _save(self._recipe, population, self._checkpoints, self._recipe.online.method, meta)

    def result(self, dataset: Dataset | None, task: AnyTask) -> dict[str, Any]:
        """What a comparison reads, without the place in it."""
        curve, rings = self._curve, self._population.rings
        assert rings is not None
        joined = {
            mode: {
                name: None if rows[0][name] is None else np.concatenate([row[name] for row in rows], axis=1).tolist()
                for name in rows[0]
            }
            for mode, rows in ((mode, curve[mode]) for mode in ("mode", "sample"))
        }
        offline = None if dataset is None else jax.tree.map(jax.numpy.asarray, dataset.batch())
        recipe = self._recipe
        return {
            "bridge": recipe.online.bridge,
            "online": recipe.online.method,
            "task": recipe.task,
            "seeds": list(self._seeds),
            "trials": recipe.evaluation.trials,
            "wall_s": round(time.monotonic() - self._start_s, 1),
            "env_steps": curve["env_steps"],
            **joined,
            "data": None if dataset is None else facts_of(dataset, task),
            "diagnostics": self._diagnosis.summary(self._population.state, rings, offline),
        }

    def close(self) -> None:
        """Closes environments and files."""
        self._crew.fleet.close()
        self._examiner.close()
        self._checkpoints.close()


def facts_of(dataset: Dataset, task: AnyTask) -> dict[str, float]:
    """What the data themselves achieve: mean score (see `launch.comparison`) and mean raw return of an episode."""
    raw = (dataset.columns["reward"] - task.reward_shift) / task.reward_scale
    scores, returns = [], []
    for episode in dataset.episodes:
        success = bool(dataset.columns["success"][episode.stop - 1])
        returns.append(float(raw[episode].sum()))
        normalized = normalized_score(task, returns[-1], success)
        scores.append(float(success) if normalized is None else normalized / 100.0)
    return {"mean_score": float(np.clip(np.mean(scores), 0.0, 1.0)), "mean_return": float(np.mean(returns))}


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


def _numbers(outcomes: Sequence[Outcomes]) -> dict[str, Any]:
    """Means over the trials, `(S, T)`, of T evaluations."""

    def over_trials(name: str) -> list[list[float]] | None:
        found = [getattr(o, name) for o in outcomes]
        return None if found[0] is None else np.stack([x.mean(axis=1) for x in found], axis=1).tolist()

    return {
        "success": over_trials("success"),
        "normalized": over_trials("normalized"),
        "return": over_trials("raw_return"),
    }


def _check_finite(population: Population) -> None:
    """Raises `FloatingPointError` where a parameter is no number."""
    for group, tree in population.state.params.items():
        if not all(bool(np.isfinite(np.asarray(leaf)).all()) for leaf in jax.tree.leaves(tree)):
            raise FloatingPointError(
                f"phase {population.phase.name!r}: group {group!r} is not finite; "
                "lower the learning rate or look for outliers in the data"
            )


def _take_up(population: Population, checkpoints: Checkpoints) -> Mapping[str, Any]:
    """Goes on from the newest checkpoint; returns what it says of itself, nothing where there is none."""
    if checkpoints.newest is None:
        return {}
    meta = checkpoints.meta()
    for index in range(1, meta["phase"] + 1):
        population.enter(index)
    population.restore(checkpoints.arrays(population.arrays()), meta)
    return meta


def _save(recipe: Any, population: Population, checkpoints: Checkpoints, method: str, meta: Mapping[str, Any]) -> None:
    about = _about(recipe, population.state, method, finished=False)
    policy = _policy(population.state)
    checkpoints.save(population.arrays(), policy, {**about, **population.numbers(), **meta})


def _export(recipe: Any, state: State, index: int, method: str, folder: Path) -> None:
    """One seed's run as `segue evaluate` and `segue finetune` take it."""
    one = member(state, index)
    # Only the method's own groups: what a bridge carried along is no part of it.
    kept = {name: {g: x for g, x in getattr(one, name).items() if g in _groups(method)} for name in ("params", "opt")}
    one = one.replace(**kept, target={g: x for g, x in one.target.items() if g in find_method(method).targets})
    with closing(Checkpoints(folder / "checkpoint")) as checkpoints:
        checkpoints.save({"state": one}, _policy(one), _about(recipe, one, method, finished=True))


def _groups(method: str) -> tuple[str, ...]:
    found = find_method(method)
    return (*found.updated, *found.frozen)


def _about(recipe: Any, state: State, method: str, finished: bool) -> dict[str, Any]:
    learning, version = to_plain(recipe.learning), int(state.update_count)
    return {"task": recipe.task, "learning": learning, "method": method, "version": version, "finished": finished}


def _policy(state: State) -> dict[str, Any]:
    normalizer = state.normalizer
    return {"params": {"actor": state.params["actor"]}, "normalizer": {"mean": normalizer.mean, "std": normalizer.std}}
