"""The command line: `segue COMMAND --help`."""

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.table import Table

from agent.replay.dataset import Dataset
from launch import (
    catalogue,
    cli_camera,
    cli_classifier,
    cli_data,
    cli_deploy,
    cli_doctor,
    cli_encoder,
    cli_evaluate,
    cli_measure,
    cli_record,
    cli_remote,
    cli_robot,
    cli_twin,
)
from launch.build import learning_with
from launch.curves import draw, rows
from launch.experiments import experiment_names
from launch.finetune import finetune_stage
from launch.options import (
    COLLECT,
    EXIT_FAILED,
    EXIT_STOPPED,
    EXIT_USER,
    FINETUNE,
    PRETRAIN,
    QUICK,
    Flat,
    InProcess,
    Json,
    Out,
    Realtime,
    Resume,
    experiment_recipe,
    named_file,
    show_curve,
    show_seeds,
    with_bridge_settings,
)
from launch.recipe_files import Recipe, read_recipe
from launch.recipes import CollectRecipe, CompareRecipe, FinetuneRecipe, PretrainRecipe, RehearseRecipe
from launch.rehearse import IMAGE_PRESETS, PRESETS
from launch.rehearse import rehearse as run_rehearsal
from launch.report import write_report
from launch.rig import Rig
from launch.runs import console, progress_bar, read_lines, results
from launch.seeds import finetune_seeds, pretrain_seeds
from launch.show import show
from launch.stages import collect_stage, pretrain_stage

RIG = Rig()

app = tyro.extras.SubcommandApp()


@app.command
def collect(
    out: Out, recipe: Annotated[CollectRecipe, Flat] = COLLECT, resume: Resume = False, json: Json = False
) -> None:
    """Collect offline data in the twin: with scripts, at random, with an expert, or with a learned policy."""
    with progress_bar() as progress:
        path = collect_stage(recipe, out, progress, resume)
    dataset = Dataset.load(path)
    facts = {"data": str(path), "transitions": len(dataset), "episodes": len(dataset.episodes)}
    show(json, {**facts, "success_rate": round(dataset.success_rate(), 3)})


@app.command
def pretrain(
    out: Out,
    recipe: Annotated[PretrainRecipe, Flat] = PRETRAIN,
    resume: Resume = False,
    json: Json = False,
) -> None:
    """Pre-train a policy and critics on a data set."""
    offline = recipe.offline
    if offline.method == QUICK.offline.method:
        offline = replace(offline, coef={**QUICK.offline.coef, **offline.coef})
    learning = learning_with(offline.method, recipe.learning)
    _pretrain(replace(recipe, learning=learning, offline=offline), out, resume, json)


def _pretrain(recipe: PretrainRecipe, out: Path, resume: bool, json: bool) -> None:
    with progress_bar() as progress:
        if recipe.seeds > 1:
            show_seeds(out, pretrain_seeds(recipe, QUICK.evaluation, out, progress, resume), json)
            return
        pretrain_stage(recipe, out, progress, resume)
    show(json, {"checkpoint": str(out), **(read_lines(out / "metrics.jsonl") or [{}])[-1]})


@app.command
def finetune(
    out: Out,
    recipe: Annotated[FinetuneRecipe, Flat] = FINETUNE,
    resume: Resume = False,
    in_process: InProcess = False,
    realtime: Realtime = False,
    rig: Annotated[Rig, Flat] = RIG,
    json: Json = False,
) -> None:
    """Fine-tune online: a bridge from a pre-trained run, or a baseline that starts from nothing."""
    _finetune(with_bridge_settings(recipe), out, resume, json, in_process, realtime, rig)


def _finetune(
    recipe: FinetuneRecipe,
    out: Path,
    resume: bool,
    json: bool,
    in_process: bool = False,
    realtime: bool = False,
    rig: Rig = RIG,
) -> None:
    with progress_bar() as progress:
        if recipe.seeds > 1:
            if in_process:
                raise ValueError("--in-process: several seeds are always trained in one process; leave it out")
            if realtime:
                raise ValueError("--realtime: the twins of several seeds go as fast as they can; leave it out")
            if rig != RIG:
                raise ValueError(
                    "--camera, --intervene: several seeds are trained in twins of their own; leave them out"
                )
            show_seeds(out, finetune_seeds(recipe, out, progress, resume), json)
            return
        finetune_stage(recipe, out, progress, resume, in_process, realtime, rig)
    show_curve(out, json)


for _command in (cli_remote.learner, cli_remote.actor, cli_remote.keys, cli_remote.journal):
    app.command(_command)
for _command in (cli_measure.compare, cli_measure.bench, cli_measure.connect, cli_measure.twins, cli_measure.curves):
    app.command(_command)
app.command(cli_data.data, name="data", help=cli_data.SUMMARY)
app.command(cli_encoder.encoder, name="encoder", help=cli_encoder.SUMMARY)
app.command(cli_classifier.classifier, name="classifier", help=cli_classifier.SUMMARY)
app.command(cli_camera.camera, name="camera", help=cli_camera.SUMMARY)
app.command(cli_camera.hand, name="hand", help=cli_camera.HAND_SUMMARY)
app.command(cli_record.record, name="record", help=cli_record.SUMMARY)
app.command(cli_robot.robot, name="robot", help=cli_robot.SUMMARY)
app.command(cli_twin.twin, name="twin", help=cli_twin.SUMMARY)
app.command(cli_doctor.doctor)
app.command(name="evaluate")(cli_evaluate.evaluate_)
app.command(name="deploy")(cli_deploy.deploy_)


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
    show(json, {"report": str(page)})


@app.command
def rehearse(
    out: Out,
    preset: Literal["quick", "full"] = "quick",
    obs: Literal["state", "image"] = "state",
    reward: Literal["geometry", "classifier"] = "geometry",
    seed: int = 0,
    video: bool = True,
    resume: Resume = False,
    in_process: InProcess = False,
    json: Json = False,
) -> None:
    """From offline data to a fine-tuned policy on the twin, beside the baseline, in one command.

    Args:
        preset: `quick` takes minutes on two cores; `full` has the paper's numbers and wants a GPU.
        obs: What the policy sees: the state, or two wrist cameras beside it, with the hole somewhere else in each episode.
        reward: Who judges success online: the task's geometry, or a classifier of pictures that is trained first.
        seed: Of everything.
        video: Film one trial before and one after.
    """
    presets = IMAGE_PRESETS if obs == "image" else PRESETS
    _rehearse(replace(presets[preset], reward=reward, seed=seed), out, resume, json, in_process, video)


def _rehearse(
    recipe: RehearseRecipe, out: Path, resume: bool, json: bool, in_process: bool = False, video: bool = True
) -> None:
    with progress_bar() as progress:
        result = run_rehearsal(recipe, out, progress, resume, video, in_process)
    if json:
        show(True, result)
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
    what: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME|RECIPE")],
    out: Out,
    data: Path | None = None,
    preset: str | None = None,
    seed: int | None = None,
    resume: Resume = False,
    in_process: InProcess = False,
    json: Json = False,
) -> None:
    """Run a whole experiment by its name, or repeat a run from the recipe.json that it saved.

    Args:
        what: `adroit-door`: from human demonstrations to WSRL. `hopper-replay`: from an agent's replay to WSRL. Or the
            recipe.json of a run.
        data: Of an experiment: the file that it starts from.
        preset: Of an experiment: which numbers; by default those for two cores.
        seed: Of an experiment.
    """
    if what in experiment_names():
        _experiment(experiment_recipe(what, data, preset, seed), out, resume, json, in_process)
        return
    if (data, preset, seed) != (None, None, None):
        raise ValueError("segue run RECIPE: the file says its data, preset and seed; leave these options out")
    loaded: Recipe = read_recipe(named_file(what))
    match loaded:
        case CollectRecipe():
            collect(out, loaded, resume, json)
        case PretrainRecipe():
            _pretrain(loaded, out, resume, json)
        case FinetuneRecipe():
            _finetune(loaded, out, resume, json, in_process)
        case RehearseRecipe():
            _rehearse(loaded, out, resume, json, in_process)
        case CompareRecipe():
            cli_measure.compare(out, loaded, resume, json)
        case _:
            _experiment(loaded, out, resume, json, in_process)


def _experiment(recipe: Any, out: Path, resume: bool, json: bool, in_process: bool) -> None:
    module = sys.modules[type(recipe).__module__]
    with progress_bar() as progress:
        result = module.run(recipe, out, progress, resume, in_process)
    draw([result], out / "curve.png")
    show(
        json,
        result
        if json
        else {"result": str(out / "result.json"), "picture": str(out / "curve.png"), "curve": rows(result)},
    )


@app.command
def methods(json: Json = False) -> None:
    """List the methods and bridges."""
    show(json, catalogue.methods())


@app.command
def tasks(json: Json = False) -> None:
    """List the tasks with their observations, actions and limits."""
    show(json, catalogue.tasks())


def main() -> None:
    """The program. A user's mistake ends in one sentence on standard error and exit code 2."""
    # Arms are closed and files finished either way; what a shell runs in the background ignores Ctrl-C, but must end at this.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        app.cli(prog="segue", description="Fine-tune robot policies from offline data to online RL without the drop.")
    except KeyboardInterrupt:
        console.print("stopped; give the same command again, with --resume where it takes that", markup=False)
        sys.exit(EXIT_STOPPED)
    except (ValueError, OSError, RuntimeError, FloatingPointError) as error:
        if os.environ.get("SEGUE_TRACEBACK"):
            raise
        console.print(f"segue: {error}", markup=False, highlight=False, soft_wrap=True)
        sys.exit(EXIT_USER if isinstance(error, ValueError) else EXIT_FAILED)


if __name__ == "__main__":
    main()
