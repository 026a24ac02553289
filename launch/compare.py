"""Comparing offline methods, bridges and online methods on one task, over seeds: pre-trained once, fine-tuned in every way."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from rich.progress import Progress

from agent.bridges import bridge_class
from agent.methods import find_method
from launch.build import fine_tuning_phases, offline_phase, online_plan
from launch.comparison import merge_cells, write_comparison
from launch.comparison_cells import NOTHING
from launch.preset import Preset
from launch.presets import find_preset, preset_for
from launch.recipe_files import to_plain
from launch.recipes import FinetuneRecipe, Online, PretrainRecipe, check_seed
from launch.runs import console, prepare, write_json
from launch.seeds import RESULT, finetune_seeds, pretrain_seeds


@dataclass(frozen=True)
class CompareRecipe:
    """What `segue compare` does.

    Attributes:
        task: name of the task.
        data: the data set's folder.
        preset: the numbers; by default ours for the task.
        offline: names of offline methods.
        bridge: names of bridges.
        online: names of online methods; every combination that means something is run.
        seeds: how many, trained as one program.
        seed: the first of them.
        updates: minibatches of pre-training, in place of the preset's.
        env_steps: environment steps of fine-tuning, in place of the preset's.
        trials: of each evaluation, in place of the preset's.
    """

    task: str
    data: str
    preset: str | None = None
    offline: tuple[str, ...] = ("calql",)
    bridge: tuple[str, ...] = ("direct", "warm_up", "retain", "anneal", "rlpd")
    online: tuple[str, ...] = ("sac",)
    seeds: int = 5
    seed: int = 0
    updates: int | None = None
    env_steps: int | None = None
    trials: int | None = None

    def __post_init__(self) -> None:
        check_seed(self.seed)
        check_seed(self.seed + self.seeds)
        if self.seeds < 1:
            raise ValueError(f"--seeds {self.seeds}: give at least 1")
        for name in ("offline", "bridge", "online"):
            if not getattr(self, name) or len(set(getattr(self, name))) < len(getattr(self, name)):
                raise ValueError(f"--{name} {' '.join(getattr(self, name))}: name at least one, each once")

    @property
    def numbers(self) -> Preset:
        """The preset with what replaces its numbers."""
        preset = preset_for(self.task) if self.preset is None else find_preset(self.preset)
        given = {"updates": self.updates, "env_steps": self.env_steps, "trials": self.trials}
        for name, value in given.items():
            if value is not None and value < 1:
                raise ValueError(f"--{name.replace('_', '-')} {value}: give at least 1")
        return replace(
            preset,
            offline=replace(preset.offline, updates=self.updates or preset.offline.updates),
            online=replace(preset.online, env_steps=self.env_steps or preset.online.env_steps),
            evaluation=replace(
                preset.evaluation,
                trials=self.trials or preset.evaluation.trials,
                # An early drop is only seen where there are evaluations early.
                every_env_steps=min(preset.evaluation.every_env_steps, max(1, (self.env_steps or 10**9) // 8)),
            ),
        )


@dataclass(frozen=True)
class Combination:
    """One cell: names of the offline method (`none` where the bridge starts from nothing), the bridge and the online method."""

    offline: str
    bridge: str
    online: str

    @property
    def folder(self) -> str:
        """Name of its folder."""
        return f"{self.offline}+{self.bridge}+{self.online}"


def combinations(recipe: CompareRecipe) -> tuple[list[Combination], dict[str, str]]:
    """The cells of a comparison, and by name those that make no sense, with the reason.

    Raises:
        ValueError: a name is unknown, or nothing is left.
    """
    for name in (*recipe.offline, *recipe.online):
        find_method(name)
    for name in recipe.bridge:
        bridge_class(name)
    cells: dict[Combination, None] = {}
    refused: dict[str, str] = {}
    for offline in recipe.offline:
        for bridge in recipe.bridge:
            for online in recipe.online:
                cell = Combination(offline, bridge, online)
                try:
                    online_recipe = recipe.numbers.online_with(online, bridge)
                    from_nothing = starts_from_nothing(online_recipe)
                    if not from_nothing:
                        offline_phase(recipe.numbers.offline_with(offline))
                except ValueError as error:
                    refused[cell.folder] = str(error)
                    continue
                cells[replace(cell, offline=NOTHING) if from_nothing else cell] = None
    if not cells:
        raise ValueError(f"compare: nothing is left; {next(iter(refused.values()))}")
    return list(cells), refused


def starts_from_nothing(online: Online) -> bool:
    """Whether the bridge leaves the offline result aside. Raises `ValueError` where the combination makes no sense."""
    return len(fine_tuning_phases(online)) == len(online_plan(online))


def compare_stage(
    recipe: CompareRecipe,
    out: Path,
    progress: Progress,
    resume: bool = False,
    headline: Literal["mode", "sample"] | None = None,
) -> dict[str, Any]:
    """Runs all cells that are not finished, and writes tables and pictures of those that are."""
    numbers = recipe.numbers
    cells, refused = combinations(recipe)
    prepare(out, {"command": "compare", **to_plain(recipe)}, resume)
    for name, reason in refused.items():
        console.print(f"[yellow]{name}: left out: {reason}[/yellow]", markup=True)
    seeds = range(recipe.seed, recipe.seed + recipe.seeds)
    for offline in dict.fromkeys(cell.offline for cell in cells if cell.offline != NOTHING):
        pretrain = PretrainRecipe(
            recipe.data, recipe.task, recipe.seed, numbers.learning, numbers.offline_with(offline)
        )
        pretrain_seeds(pretrain, seeds, numbers.evaluation, out / "offline" / offline, progress, resume)
    for cell in cells:
        _cell(recipe, cell, seeds, out, progress, resume)
        found, _ = merge_cells([out])
        write_comparison(found, out, headline or numbers.evaluation.headline)
    return {
        "table": str(out / "table.md"),
        "pictures": [str(out / "curves.png"), str(out / "summary.png")],
        "cells": [cell.folder for cell in cells],
        "left_out": refused,
    }


def _cell(
    recipe: CompareRecipe, cell: Combination, seeds: Iterable[int], out: Path, progress: Progress, resume: bool
) -> None:
    numbers, folder = recipe.numbers, out / "cells" / cell.folder
    finetune = FinetuneRecipe(
        checkpoint=None if cell.offline == NOTHING else str(out / "offline" / cell.offline),
        data=recipe.data,
        task=recipe.task,
        seed=recipe.seed,
        learning=numbers.learning,
        online=numbers.online_with(cell.online, cell.bridge),
        evaluation=numbers.evaluation,
    )
    if (folder / RESULT).exists():
        return
    result = finetune_seeds(finetune, list(seeds), folder / "run", progress, resume or folder.exists())
    write_json(folder / RESULT, {"offline": cell.offline, **result})
