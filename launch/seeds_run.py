"""The loop of fine-tuning several seeds, and what it leaves on the disk."""

import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.progress import Progress

from agent.methods import find_method
from agent.policy import exploration
from agent.replay.dataset import Dataset
from agent.types import State
from launch.checkpoint import Checkpoints
from launch.diagnosis import Diagnosis
from launch.fleet import make_fleet
from launch.learner import OFFLINE_BLOCK
from launch.population import Crew, Population, member
from launch.population_trials import Examiner, Outcomes
from launch.recipes import FinetuneRecipe
from launch.runs import console
from launch.tasks import AnyTask, find_task, normalized_score
from launch.training import meta_of, saved_policy


class Run:
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
        meta = take_up(self._population, self._checkpoints)
        if meta:
            self._curve = meta["curve"]
            self._crew.env_steps = self._curve["env_steps"][-1]
            self._crew.episodes += np.asarray(meta["episodes"])
            self._examiner.evaluations = len(self._curve["env_steps"])
            self._start_s -= meta["wall_s"]
        else:
            self._advance()
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
            self._advance()
            if self._crew.env_steps % every == 0 or self._crew.env_steps == self._total:
                self._evaluate()

    def _advance(self) -> None:
        """Carries out the phases without an actor, and enters those that are due."""
        population = self._population
        while True:
            while not population.phase.env_steps and population.remaining > 0:
                population.learn(min(OFFLINE_BLOCK, population.remaining))
            if population.remaining > 0 or population.phase_index + 1 == len(population.phases):
                break
            population.enter(population.phase_index + 1)

    def _evaluate(self) -> None:
        population, steps = self._population, self._crew.env_steps
        check_finite(population)
        found = self._examiner.both(population.state)
        self._curve["env_steps"].append(steps)
        for mode, outcomes in found.items():
            self._curve[mode].append(means([outcomes]))
        population.evaluated(best=best_so_far(self._curve[self._recipe.evaluation.headline]))
        self._diagnosis.keep(steps, population.state)
        told = "  ".join(f"{mode} {outcomes.success.mean():.2f}" for mode, outcomes in found.items())
        console.print(f"[dim]{self._title}: after {steps} env steps: {told}[/dim]")
        meta = {
            "curve": self._curve,
            "episodes": self._crew.episodes.tolist(),
            "wall_s": time.monotonic() - self._start_s,
        }
        save(self._recipe, population, self._checkpoints, self._recipe.online.method, meta)

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
        offline = None if dataset is None else jax.tree.map(jnp.asarray, dataset.batch())
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


def means(outcomes: Sequence[Outcomes]) -> dict[str, Any]:
    """Means over the trials, `(S, T)`, of T evaluations."""

    def over_trials(name: str) -> list[list[float]] | None:
        found = [getattr(o, name) for o in outcomes]
        return None if found[0] is None else np.stack([x.mean(axis=1) for x in found], axis=1).tolist()

    return {
        "success": over_trials("success"),
        "normalized": over_trials("normalized"),
        "return": over_trials("raw_return"),
    }


def best_so_far(rows: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Of which seeds the last of a curve's evaluations was better than all before, `(S,)`; rows as `means` gives them."""
    scores = np.array([row["success"] if row["normalized"] is None else row["normalized"] for row in rows])[:, :, 0]
    return (scores[-1] > scores[:-1]).all(axis=0)


def check_finite(population: Population) -> None:
    """Raises `FloatingPointError` where a parameter is no number."""
    for group, tree in population.state.params.items():
        if not all(bool(np.isfinite(np.asarray(leaf)).all()) for leaf in jax.tree.leaves(tree)):
            raise FloatingPointError(
                f"phase {population.phase.name!r}: group {group!r} is not finite; "
                "lower the learning rate or look for outliers in the data"
            )


def take_up(population: Population, checkpoints: Checkpoints) -> Mapping[str, Any]:
    """Goes on from the newest checkpoint; returns what it says of itself, nothing where there is none."""
    if checkpoints.newest is None:
        return {}
    meta = checkpoints.meta()
    for index in range(1, meta["phase"] + 1):
        population.enter(index)
    population.restore(checkpoints.arrays(population.arrays()), meta)
    return meta


def save(recipe: Any, population: Population, checkpoints: Checkpoints, method: str, meta: Mapping[str, Any]) -> None:
    about = meta_of(recipe, method, population.state, {"finished": False, **population.numbers(), **meta})
    checkpoints.save(population.arrays(), saved_policy(population.state), about)


def export(recipe: Any, state: State, index: int, method: str, folder: Path) -> None:
    """One seed's run as `segue evaluate` and `segue finetune` take it; what a bridge carried along is no part of it."""
    found, one = find_method(method), member(state, index)
    groups = (*found.updated, *found.frozen)
    one = one.replace(
        params={name: one.params[name] for name in groups},
        target={name: one.target[name] for name in found.targets},
        opt={name: one.opt[name] for name in found.updated},
        priority={},
    )
    with closing(Checkpoints(folder / "checkpoint")) as checkpoints:
        checkpoints.save({"state": one}, saved_policy(one), meta_of(recipe, method, one, {"finished": True}))
