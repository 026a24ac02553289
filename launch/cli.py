"""The command line: `segue COMMAND --help`."""

import json as json_module
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.table import Table

from agent.replay.dataset import Dataset
from launch import bench as benches
from launch import catalogue
from launch.evaluate import MODES
from launch.recipe_files import Recipe, read_recipe
from launch.recipes import CollectRecipe, FinetuneRecipe, PretrainRecipe, RehearseRecipe
from launch.rehearse import PRESETS
from launch.rehearse import rehearse as run_rehearsal
from launch.report import write_report
from launch.runs import console, progress_bar, read_lines, results
from launch.stages import collect_stage, evaluate_stage, finetune_stage, pretrain_stage

WIDEST = 4  # columns of a table that still fits a terminal
EXIT_USER, EXIT_FAILED, EXIT_STOPPED = 2, 1, 130

app = tyro.extras.SubcommandApp()
Flat = tyro.conf.arg(name="")
Out = Annotated[Path, tyro.conf.arg(help="Folder of the run; made anew.", metavar="DIR")]
Resume = Annotated[
    tyro.conf.FlagCreatePairsOff[bool],
    tyro.conf.arg(help="Go on with the run that the folder holds; a stage without robot time begins again."),
]
Json = Annotated[tyro.conf.FlagCreatePairsOff[bool], tyro.conf.arg(help="Print one JSON object and nothing else.")]


# The commands start from the quick rehearsal's numbers, so that its line can be walked step by step on a laptop.
QUICK = PRESETS["quick"]
COLLECT = CollectRecipe(collect=QUICK.collect)
PRETRAIN = PretrainRecipe(data=tyro.MISSING, learning=QUICK.learning, offline=replace(QUICK.offline, coef={}))
FINETUNE = FinetuneRecipe(
    learning=QUICK.learning, online=replace(QUICK.online, bridge_settings={}), evaluation=QUICK.evaluation
)


@app.command
def collect(
    out: Out, recipe: Annotated[CollectRecipe, Flat] = COLLECT, resume: Resume = False, json: Json = False
) -> None:
    """Collect offline data of mixed quality with scripts, in the twin."""
    with progress_bar() as progress:
        path = collect_stage(recipe, out, progress, resume)
    dataset = Dataset.load(path)
    facts = {"data": str(path), "transitions": len(dataset), "episodes": len(dataset.episodes)}
    _show(json, {**facts, "success_rate": round(dataset.success_rate(), 3)})


@app.command
def pretrain(
    out: Out, recipe: Annotated[PretrainRecipe, Flat] = PRETRAIN, resume: Resume = False, json: Json = False
) -> None:
    """Pre-train a policy and critics on a data set."""
    offline = recipe.offline
    if offline.method == QUICK.offline.method:
        offline = replace(offline, coef={**QUICK.offline.coef, **offline.coef})
    _pretrain(replace(recipe, offline=offline), out, resume, json)


def _pretrain(recipe: PretrainRecipe, out: Path, resume: bool, json: bool) -> None:
    with progress_bar() as progress:
        pretrain_stage(recipe, out, progress, resume)
    _show(json, {"checkpoint": str(out), **(read_lines(out / "metrics.jsonl") or [{}])[-1]})


@app.command
def finetune(
    out: Out, recipe: Annotated[FinetuneRecipe, Flat] = FINETUNE, resume: Resume = False, json: Json = False
) -> None:
    """Fine-tune online: a bridge from a pre-trained run, or a baseline that starts from nothing."""
    online = recipe.online
    if online.bridge == QUICK.online.bridge:
        online = replace(online, bridge_settings={**QUICK.online.bridge_settings, **online.bridge_settings})
    _finetune(replace(recipe, online=online), out, resume, json)


def _finetune(recipe: FinetuneRecipe, out: Path, resume: bool, json: bool) -> None:
    with progress_bar() as progress:
        finetune_stage(recipe, out, progress, resume)
    rows = read_lines(out / "scores.jsonl")
    counts = [{mode: f"{row[mode]['success']}/{row[mode]['trials']}" for mode in MODES} for row in rows]
    curve = [{"env_steps": row["env_steps"], **count} for row, count in zip(rows, counts, strict=True)]
    _show(json, {"checkpoint": str(out), "curve": curve})


@app.command
def evaluate(
    checkpoint: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DIR")],
    trials: int = 20,
    arm: str = "twin",
    seed: int = 0,
    json: Json = False,
) -> None:
    """Test a trained policy on its task's fixed trials, with its mode and with its samples.

    Args:
        checkpoint: Folder of a pretrain or finetune run.
        trials: How many fixed initial poses.
        arm: Which arm.
        seed: Of sampled actions.
    """
    result = evaluate_stage(checkpoint, trials, arm, seed)
    if not json:
        for mode in MODES:
            score = result[mode]
            low, high = score["ci95"]
            failed = ", ".join(str(t["number"]) for t in score["outcomes"] if not t["success"]) or "none"
            result[mode] = (
                f"{score['success']}/{score['trials']} (95% {low:.2f} to {high:.2f}); failed trials: {failed}"
            )
    _show(json, result)


@app.command
def report(
    runs: Annotated[list[Path], tyro.conf.Positional, tyro.conf.arg(metavar="DIR")],
    out: Path | None = None,
    json: Json = False,
) -> None:
    """Write the report page of one or several rehearsals.

    Args:
        runs: Folders of rehearsals; several are shown seed by seed.
        out: The page; by default report.html in the first folder.
    """
    if not runs:
        raise ValueError("report: names no run; give the folders of one or several rehearsals")
    page = out or runs[0] / "report.html"
    write_report(runs, page)
    _show(json, {"report": str(page)})


@app.command
def rehearse(
    out: Out,
    preset: Literal["quick", "full"] = "quick",
    seed: int = 0,
    video: bool = True,
    resume: Resume = False,
    json: Json = False,
) -> None:
    """From offline data to a fine-tuned policy on the twin, beside the baseline, in one command.

    Args:
        preset: `quick` takes minutes on two cores; `full` has the paper's numbers and wants a GPU.
        seed: Of everything.
        video: Film one trial before and one after.
    """
    _rehearse(replace(PRESETS[preset], seed=seed), out, resume, json, video)


def _rehearse(recipe: RehearseRecipe, out: Path, resume: bool, json: bool, video: bool = True) -> None:
    with progress_bar() as progress:
        result = run_rehearsal(recipe, out, progress, resume, video)
    if json:
        _show(True, result)
        return
    table = Table(title=f"{recipe.task}, preset {recipe.preset}, seed {recipe.seed}, {result['env_steps']} env steps")
    for column in ("policy", "offline (Cal-QL)", "fine-tuned (WSRL)", "baseline (RLPD)"):
        table.add_column(column)
    table.add_row("the paper, on the real arm", "13/20", "20/20", "0/20")
    for mode, scores in result["by_mode"].items():
        counts = [f"{scores[name]['success']}/{scores[name]['trials']}" for name in ("offline", "finetuned", "rlpd")]
        table.add_row(f"here, {mode}" + (" (headline)" if mode == result["headline_mode"] else ""), *counts)
    results.print(table)
    results.print(f"{out / 'report.html'}")


@app.command
def run(
    recipe: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RECIPE")],
    out: Out,
    resume: Resume = False,
    json: Json = False,
) -> None:
    """Repeat a run from the recipe.json that it saved.

    Args:
        recipe: The recipe.json of a run.
    """
    loaded: Recipe = read_recipe(recipe)
    match loaded:
        case CollectRecipe():
            collect(out, loaded, resume, json)
        case PretrainRecipe():
            _pretrain(loaded, out, resume, json)
        case FinetuneRecipe():
            _finetune(loaded, out, resume, json)
        case RehearseRecipe():
            _rehearse(loaded, out, resume, json)


@app.command
def methods(json: Json = False) -> None:
    """List the methods and bridges."""
    _show(json, catalogue.methods())


@app.command
def tasks(json: Json = False) -> None:
    """List the tasks with their observations, actions and limits."""
    _show(json, catalogue.tasks())


@app.command
def bench(
    what: Annotated[Literal["update", "sim"], tyro.conf.Positional],
    repeats: int = 5,
    json: Json = False,
) -> None:
    """Measure speed beside its ceiling.

    Args:
        what: `update`: gradient steps per second and GFLOP/s. `sim`: control steps per second of the twin.
        repeats: Measurements of each figure; the median is shown.
    """
    if repeats < 1:
        raise ValueError(f"--repeats {repeats}: give at least 1")
    _show(json, benches.update(repeats) if what == "update" else benches.sim(repeats))


def _show(json: bool, value: Any) -> None:
    """Results go to standard output: as one JSON object, or for people."""
    if json:
        print(json_module.dumps(value))
    else:
        results.print(_as_table(value))


def _as_table(value: dict[str, Any]) -> Table:
    """A two-column table; lists of rows become tables within it, upright where they would be too wide."""
    table = Table(show_header=False)
    for name, entry in value.items():
        rows = entry if isinstance(entry, list) and entry and isinstance(entry[0], dict) else None
        if rows is None:
            table.add_row(name, _as_table(entry) if isinstance(entry, dict) and entry else _as_text(entry))
        elif len(rows[0]) > WIDEST:
            for row in rows:
                table.add_row(name, _as_table(row))
        else:
            inner = Table(*rows[0])
            for row in rows:
                inner.add_row(*map(_as_text, row.values()))
            table.add_row(name, inner)
    return table


def _as_text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {x}" for name, x in value.items()) or "none"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def main() -> None:
    """The program. A user's mistake ends in one sentence on standard error and exit code 2."""
    try:
        app.cli(prog="segue", description="Fine-tune robot policies from offline data to online RL without the drop.")
    except KeyboardInterrupt:
        console.print("stopped; go on with --resume", markup=False)
        sys.exit(EXIT_STOPPED)
    except (ValueError, OSError, RuntimeError, FloatingPointError) as error:
        if os.environ.get("SEGUE_TRACEBACK"):
            raise
        console.print(f"segue: {error}", markup=False, highlight=False, soft_wrap=True)
        sys.exit(EXIT_USER if isinstance(error, ValueError) else EXIT_FAILED)
