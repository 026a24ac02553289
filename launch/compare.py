"""Comparing offline methods, bridges and online methods on one task, over seeds: pre-trained once, fine-tuned in every way."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from rich.progress import Progress

from agent.bridges import bridge_class
from agent.methods import find_method
from launch.build import offline_phase, starts_from_nothing
from launch.comparison import merge_cells, write_comparison
from launch.comparison_cells import NOTHING
from launch.preset import Preset
from launch.presets import find_preset, preset_for
from launch.recipe_files import to_json, to_plain
from launch.recipes import CompareRecipe, FinetuneRecipe, PretrainRecipe
from launch.runs import console, prepare, write_json
from launch.seeds import RESULT, finetune_seeds, pretrain_seeds
from launch.stages import load_dataset
from launch.tasks import find_task


def numbers_of(recipe: CompareRecipe) -> Preset:
    """The preset of a comparison, with what replaces its numbers. Raises `ValueError` for an unknown task or preset."""
    find_task(recipe.task)
    preset = preset_for(recipe.task) if recipe.preset is None else find_preset(recipe.preset)
    evaluation = preset.evaluation
    return replace(
        preset,
        offline=replace(preset.offline, updates=recipe.updates or preset.offline.updates),
        online=replace(preset.online, env_steps=recipe.env_steps or preset.online.env_steps),
        evaluation=replace(
            evaluation,
            trials=recipe.trials or evaluation.trials,
            # An early drop is only seen where there are evaluations early.
            every_env_steps=min(evaluation.every_env_steps, max(1, (recipe.env_steps or 10**9) // 8)),
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
    numbers = numbers_of(recipe)
    offline_names = recipe.offline or (numbers.offline.method,)
    online_names = recipe.online or (numbers.online.method,)
    for name in (*offline_names, *online_names):
        find_method(name)
    for name in recipe.bridge:
        bridge_class(name)
    cells: dict[Combination, None] = {}
    refused: dict[str, str] = {}
    for offline in offline_names:
        for bridge in recipe.bridge:
            for online in online_names:
                cell = Combination(offline, bridge, online)
                try:
                    online_recipe = numbers.online_with(online, bridge)
                    from_nothing = starts_from_nothing(online_recipe)
                    if not from_nothing:
                        offline_phase(numbers.offline_with(offline))
                        numbers.learning_with(offline)
                except ValueError as error:
                    refused[cell.folder] = str(error)
                    continue
                cells[replace(cell, offline=NOTHING) if from_nothing else cell] = None
    if not cells:
        raise ValueError(f"compare: nothing is left; {next(iter(refused.values()))}")
    return list(cells), refused


def compare_stage(
    recipe: CompareRecipe,
    out: Path,
    progress: Progress,
    resume: bool = False,
    headline: Literal["mode", "sample"] | None = None,
) -> dict[str, Any]:
    """Runs all cells that are not finished, and writes tables and pictures of those that are."""
    numbers = numbers_of(recipe)
    cells, refused = combinations(recipe)
    load_dataset(recipe.data, find_task(recipe.task))  # refused before anything is written
    prepare(out, to_json(recipe), resume)
    write_json(out / "preset.json", to_plain(numbers))
    for name, reason in refused.items():
        console.print(f"[yellow]{name}: left out: {reason}[/yellow]", markup=True)
    for offline in dict.fromkeys(cell.offline for cell in cells if cell.offline != NOTHING):
        method = numbers.offline_with(offline)
        learning = numbers.learning_with(offline)
        pretrain = PretrainRecipe(recipe.data, recipe.task, recipe.seed, learning, method, recipe.seeds)
        pretrain_seeds(pretrain, numbers.evaluation, out / "offline" / offline, progress, resume)
    failed: dict[str, str] = {}
    for cell in cells:
        try:
            _cell(recipe, cell, out, progress, resume)
        except FloatingPointError as error:
            failed[cell.folder] = str(error)
            console.print(f"[yellow]{cell.folder}: diverged: {error}[/yellow]")
            continue
        found, _ = merge_cells([out])
        write_comparison(found, out, headline or numbers.evaluation.headline)
    return {
        "table": str(out / "table.md"),
        "pictures": [str(out / "curves.png"), str(out / "summary.png")],
        "cells": [cell.folder for cell in cells],
        "left_out": refused,
        "diverged": failed,
    }


def _cell(recipe: CompareRecipe, cell: Combination, out: Path, progress: Progress, resume: bool) -> None:
    numbers, folder = numbers_of(recipe), out / "cells" / cell.folder
    finetune = FinetuneRecipe(
        checkpoint=None if cell.offline == NOTHING else str(out / "offline" / cell.offline),
        data=recipe.data,
        task=recipe.task,
        seed=recipe.seed,
        seeds=recipe.seeds,
        learning=numbers.learning if cell.offline == NOTHING else numbers.learning_with(cell.offline),
        online=numbers.online_with(cell.online, cell.bridge),
        evaluation=numbers.evaluation,
    )
    if (folder / RESULT).exists():
        return
    result = finetune_seeds(finetune, folder / "run", progress, resume or folder.exists())
    write_json(folder / RESULT, {"offline": cell.offline, **result})
