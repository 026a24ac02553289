"""What the commands share: their options, the numbers that they start from, and their exit codes."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import tyro

from launch.evaluate import MODES
from launch.experiments import experiment_names, find_experiment
from launch.recipes import CollectRecipe, FinetuneRecipe, PretrainRecipe
from launch.rehearse import PRESETS
from launch.runs import read_lines
from launch.show import show

EXIT_USER, EXIT_FAILED, EXIT_STOPPED = 2, 1, 130

Flat = tyro.conf.arg(name="")
Out = Annotated[Path, tyro.conf.arg(help="Folder of the run; made anew.", metavar="DIR")]
Resume = Annotated[
    tyro.conf.FlagCreatePairsOff[bool],
    tyro.conf.arg(help="Go on with the run that the folder holds; only collecting begins again."),
]
InProcess = Annotated[
    tyro.conf.FlagCreatePairsOff[bool],
    tyro.conf.arg(help="Act in this process; otherwise an actor of its own is started and joined by sockets."),
]
Realtime = Annotated[
    tyro.conf.FlagCreatePairsOff[bool],
    tyro.conf.arg(help="Hold the task's control rate on the wall clock, and count the steps that come late."),
]
Json = Annotated[tyro.conf.FlagCreatePairsOff[bool], tyro.conf.arg(help="Print one JSON object and nothing else.")]


# The commands start from the quick rehearsal's numbers, so that its line can be walked step by step on a laptop.
QUICK = PRESETS["quick"]
COLLECT = CollectRecipe(collect=QUICK.collect)
PRETRAIN = PretrainRecipe(data=tyro.MISSING, learning=QUICK.learning, offline=replace(QUICK.offline, coef={}))
FINETUNE = FinetuneRecipe(
    learning=QUICK.learning, online=replace(QUICK.online, bridge_settings={}), evaluation=QUICK.evaluation
)


def with_bridge_settings(recipe: FinetuneRecipe) -> FinetuneRecipe:
    """The recipe with the quick preset's settings of its bridge, where it names none."""
    online = recipe.online
    if online.bridge != QUICK.online.bridge:
        return recipe
    settings = {**QUICK.online.bridge_settings, **online.bridge_settings}
    return replace(recipe, online=replace(online, bridge_settings=settings))


def experiment_recipe(name: str, data: Path | None, preset: str | None, seed: int | None) -> Any:
    """The recipe of an experiment's preset. Raises `ValueError` for an unknown preset."""
    presets = find_experiment(name).PRESETS
    chosen = next(iter(presets)) if preset is None else preset
    if chosen not in presets:
        raise ValueError(f"--preset {chosen}: experiment {name!r} has {', '.join(presets)}; choose one")
    given = {"data": None if data is None else str(data), "seed": seed}
    return replace(presets[chosen], **{option: value for option, value in given.items() if value is not None})


def named_file(what: str) -> Path:
    """The recipe file that is meant. Raises `ValueError` where it is neither a file nor an experiment."""
    if not Path(what).exists():
        names = ", ".join(experiment_names())
        raise ValueError(
            f"segue run {what}: it is no file and no experiment; give the recipe.json of a run, or {names}"
        )
    return Path(what)


def said(score: Mapping[str, Any]) -> str:
    """Successes of trials, with the mean normalised score where the task has one."""
    mean = score.get("normalized")
    return f"{score['success']}/{score['trials']}" + ("" if mean is None else f" ({mean:.1f})")


def show_seeds(out: Path, result: Mapping[str, Any], json: bool) -> None:
    """Where the seeds of a run are, and how each did in the end."""
    last = {mode: [round(row[-1], 3) for row in result[mode]["success"]] for mode in MODES}
    rows = [{"seed": s, **{m: last[m][i] for m in MODES}} for i, s in enumerate(result["seeds"])]
    show(json, {"runs": str(out / "seed_*"), "result": str(out / "result.json"), "success": rows})


def show_curve(out: Path, json: bool) -> None:
    rows = read_lines(out / "scores.jsonl")
    counts = [{mode: said(row[mode]) for mode in MODES} for row in rows]
    curve = [{"env_steps": row["env_steps"], **count} for row, count in zip(rows, counts, strict=True)]
    show(json, {"checkpoint": str(out), "curve": curve})
