"""The command line: `segue COMMAND --help`."""

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.table import Table

from agent.replay.dataset import Dataset
from launch import bench as benches
from launch import bench_outage, bench_wire, catalogue
from launch.act import Acting, act
from launch.address import Address, parse_address
from launch.evaluate import MODES
from launch.finetune import finetune_stage, learner_stage
from launch.journal_tools import What, look_after
from launch.keys import Keys, default_folder, load_keys, make_keys, trust
from launch.recipe_files import Recipe, read_recipe
from launch.recipes import CollectRecipe, FinetuneRecipe, PretrainRecipe, RehearseRecipe
from launch.rehearse import PRESETS
from launch.rehearse import rehearse as run_rehearsal
from launch.report import write_report
from launch.runs import console, progress_bar, read_lines, results
from launch.show import show
from launch.stages import collect_stage, evaluate_stage, pretrain_stage

EXIT_USER, EXIT_FAILED, EXIT_STOPPED = 2, 1, 130

app = tyro.extras.SubcommandApp()
Flat = tyro.conf.arg(name="")
Out = Annotated[Path, tyro.conf.arg(help="Folder of the run; made anew.", metavar="DIR")]
Resume = Annotated[
    tyro.conf.FlagCreatePairsOff[bool],
    tyro.conf.arg(help="Go on with the run that the folder holds; a stage without robot time begins again."),
]
InProcess = Annotated[
    tyro.conf.FlagCreatePairsOff[bool],
    tyro.conf.arg(help="Act in this process; otherwise an actor of its own is started and joined by sockets."),
]
Json = Annotated[tyro.conf.FlagCreatePairsOff[bool], tyro.conf.arg(help="Print one JSON object and nothing else.")]


# The commands start from the quick rehearsal's numbers, so that its line can be walked step by step on a laptop.
QUICK = PRESETS["quick"]
COLLECT = CollectRecipe(collect=QUICK.collect)
PRETRAIN = PretrainRecipe(data=tyro.MISSING, learning=QUICK.learning, offline=replace(QUICK.offline, coef={}))
FINETUNE = FinetuneRecipe(
    learning=QUICK.learning, online=replace(QUICK.online, bridge_settings={}), evaluation=QUICK.evaluation
)


ACTING = Acting()


@app.command
def collect(
    out: Out, recipe: Annotated[CollectRecipe, Flat] = COLLECT, resume: Resume = False, json: Json = False
) -> None:
    """Collect offline data of mixed quality with scripts, in the twin."""
    with progress_bar() as progress:
        path = collect_stage(recipe, out, progress, resume)
    dataset = Dataset.load(path)
    facts = {"data": str(path), "transitions": len(dataset), "episodes": len(dataset.episodes)}
    show(json, {**facts, "success_rate": round(dataset.success_rate(), 3)})


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
    show(json, {"checkpoint": str(out), **(read_lines(out / "metrics.jsonl") or [{}])[-1]})


@app.command
def finetune(
    out: Out,
    recipe: Annotated[FinetuneRecipe, Flat] = FINETUNE,
    resume: Resume = False,
    in_process: InProcess = False,
    json: Json = False,
) -> None:
    """Fine-tune online: a bridge from a pre-trained run, or a baseline that starts from nothing."""
    _finetune(with_bridge_settings(recipe), out, resume, json, in_process)


def with_bridge_settings(recipe: FinetuneRecipe) -> FinetuneRecipe:
    """The recipe with the quick preset's settings of its bridge, where it names none."""
    online = recipe.online
    if online.bridge != QUICK.online.bridge:
        return recipe
    settings = {**QUICK.online.bridge_settings, **online.bridge_settings}
    return replace(recipe, online=replace(online, bridge_settings=settings))


@app.command
def learner(
    out: Out,
    recipe: Annotated[FinetuneRecipe, Flat] = FINETUNE,
    bind: str = "127.0.0.1:5555",
    keys: Path | None = None,
    resume: Resume = False,
    json: Json = False,
) -> None:
    """Fine-tune with actors that join from other processes or machines: the learner's side.

    Args:
        bind: HOST:PORT for transitions; parameters take the port after it. Any host but loopback needs keys.
        keys: Folder of this machine's keys, see `segue keys`; without it, loopback speaks in the clear.
    """
    address = parse_address(bind)
    trusted = keys_for(address, keys)
    with progress_bar() as progress:
        learner_stage(with_bridge_settings(recipe), out, progress, resume, address, trusted)
    _show_curve(out, json)


@app.command
def actor(
    connect: str,
    out: Annotated[
        Path, tyro.conf.arg(help="Folder for what is not delivered yet; keep it between starts.", metavar="DIR")
    ],
    acting: Annotated[Acting, Flat] = ACTING,
    keys: Path | None = None,
    learner_name: str | None = None,
    json: Json = False,
) -> None:
    """Act for a learner that is elsewhere, and go on while it is away.

    Args:
        connect: HOST:PORT of `segue learner`.
        keys: Folder of this machine's keys, see `segue keys`; without it, loopback speaks in the clear.
        learner_name: Which trusted peer the learner is, where several are trusted.
    """
    address = parse_address(connect)
    trusted = keys_for(address, keys)
    show(json, act(address, trusted, out, acting, learner_name))


def keys_for(address: Address, folder: Path | None) -> Keys | None:
    """The keys in a folder; without one those of this machine, where it has any and the address is not loopback."""
    if folder is None and (address.is_loopback or not default_folder().exists()):
        return None
    return load_keys(folder or default_folder())


@app.command
def keys(
    what: Annotated[Literal["make", "show", "trust"], tyro.conf.Positional],
    peer: Annotated[tuple[str, ...], tyro.conf.Positional] = (),
    folder: Path | None = None,
    json: Json = False,
) -> None:
    """Keys of this machine, and of the machines that it lets in.

    Args:
        what: `make`: a pair for this machine. `show`: its public key, and whom it trusts. `trust NAME KEY`: let a machine in.
        peer: NAME and KEY of a machine to trust.
        folder: Where they are.
    """
    folder = folder or default_folder()
    if len(peer) != (2 if what == "trust" else 0):
        raise ValueError(
            "segue keys: give `make`, `show`, or `trust NAME KEY` with the key that `show` says on the other machine"
        )
    if what == "make":
        make_keys(folder)
    elif what == "trust":
        trust(folder, *peer)
    own = load_keys(folder)
    trusted = {name: key.decode() for name, key in own.trusted.items()}
    key = own.public.decode()
    facts = {"folder": str(folder), "public key": key, "trusted": trusted}
    show(json, facts if json else {**facts, "on the other machine": f"segue keys trust NAME '{key}'"})


@app.command
def journal(
    what: Annotated[What, tyro.conf.Positional],
    folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DIR")],
    episode: str | None = None,
    reason: str = "",
    json: Json = False,
) -> None:
    """Look after the journal of a run: every transition that its actors delivered.

    Args:
        what: `show`: what is in it. `verify`: look for damage. `repair`: cut torn tails and close gaps; nothing is deleted.
            `discard`: an episode is not to be learned from, without rewriting anything. `restore`: it is again.
        folder: Folder of the run, or its journal.
        episode: SESSION:NUMBER, as `show` names it.
        reason: Why it is discarded, kept with it.
    """
    ok, facts = look_after(what, folder, episode, reason)
    show(json, facts)
    if not ok:
        sys.exit(EXIT_FAILED)


def _finetune(recipe: FinetuneRecipe, out: Path, resume: bool, json: bool, in_process: bool = False) -> None:
    with progress_bar() as progress:
        finetune_stage(recipe, out, progress, resume, in_process)
    _show_curve(out, json)


def _show_curve(out: Path, json: bool) -> None:
    rows = read_lines(out / "scores.jsonl")
    counts = [{mode: f"{row[mode]['success']}/{row[mode]['trials']}" for mode in MODES} for row in rows]
    curve = [{"env_steps": row["env_steps"], **count} for row, count in zip(rows, counts, strict=True)]
    show(json, {"checkpoint": str(out), "curve": curve})


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
    show(json, result)


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
    seed: int = 0,
    video: bool = True,
    resume: Resume = False,
    in_process: InProcess = False,
    json: Json = False,
) -> None:
    """From offline data to a fine-tuned policy on the twin, beside the baseline, in one command.

    Args:
        preset: `quick` takes minutes on two cores; `full` has the paper's numbers and wants a GPU.
        seed: Of everything.
        video: Film one trial before and one after.
    """
    _rehearse(replace(PRESETS[preset], seed=seed), out, resume, json, in_process, video)


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
    recipe: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RECIPE")],
    out: Out,
    resume: Resume = False,
    in_process: InProcess = False,
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
            _finetune(loaded, out, resume, json, in_process)
        case RehearseRecipe():
            _rehearse(loaded, out, resume, json, in_process)


@app.command
def methods(json: Json = False) -> None:
    """List the methods and bridges."""
    show(json, catalogue.methods())


@app.command
def tasks(json: Json = False) -> None:
    """List the tasks with their observations, actions and limits."""
    show(json, catalogue.tasks())


@app.command
def bench(
    what: Annotated[Literal["update", "sim", "wire", "outage"], tyro.conf.Positional],
    repeats: int = 5,
    json: Json = False,
) -> None:
    """Measure speed beside its ceiling.

    Args:
        what: `update`: gradient steps per second and GFLOP/s. `sim`: control steps per second of the twin. `wire`: transitions
            per second from actor to learner, and how late parameters come. `outage`: whether an actor holds its rate while
            the learner is away for a minute.
        repeats: Measurements of each figure; the median is shown.
    """
    if repeats < 1:
        raise ValueError(f"--repeats {repeats}: give at least 1")
    measure = {"update": benches.update, "sim": benches.sim, "wire": bench_wire.wire, "outage": bench_outage.outage}[
        what
    ]
    show(json, measure(repeats))


def main() -> None:
    """The program. A user's mistake ends in one sentence on standard error and exit code 2."""
    signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGINT))  # arms are closed and files finished either way
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


if __name__ == "__main__":
    main()
