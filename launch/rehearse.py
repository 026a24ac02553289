"""The main job: from offline data to a fine-tuned policy on the twin, beside the baseline, in one command."""

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import Progress

from agent.heads import Networks
from agent.policy import PolicyParams
from agent.replay.dataset import Dataset
from agent.types import Nets
from encoders.spatial import Vision
from launch.attendant import program
from launch.classifier_data import save_labelled
from launch.classifier_record import check_recordable, record
from launch.classifier_stages import REPORT as CLASSIFIER_REPORT
from launch.classifier_stages import train_stage
from launch.evaluate import MODES, Evaluator
from launch.finetune import finetune_stage
from launch.policies import load_policy
from launch.rates import wilson
from launch.recipe_files import to_json, to_plain
from launch.recipes import (
    Collect,
    CollectRecipe,
    Evaluation,
    FinetuneRecipe,
    Learning,
    Offline,
    Online,
    PretrainRecipe,
    RehearseRecipe,
)
from launch.report import write_report
from launch.run_folder import METHODS
from launch.runs import console, prepare, read_json, read_lines, versions, write_json
from launch.stages import collect_stage, pretrain_stage
from launch.tasks import find_task, make_env
from launch.video import record_trial

# The paper's numbers (WSRL, appendix J and I; SERL's SAC): for a GPU.
FULL = RehearseRecipe(
    preset="full",
    learning=Learning(Networks((256, 256), (256, 256), critics=10, members_per_target=2)),
    collect=Collect(transitions=17_000),
    offline=Offline(
        "calql", {"conservative": 5.0, "sampled_actions": 10, "backup_actions": 10}, updates=40_000, batch_size=256
    ),
    online=Online("sac", bridge="warm_up", bridge_settings={"steps": 5_000}, env_steps=20_000, utd=4, batch_size=256),
    evaluation=Evaluation(trials=20, every_env_steps=1_000),
)

# Shrunk until two laptop cores finish in minutes; what was shrunk stands in the report.
QUICK = replace(
    FULL,
    preset="quick",
    learning=Learning(
        Networks((128, 128), (128, 128), critics=4, members_per_target=2),
        actor_lr=1e-4,  # this and the next are WSRL's in simulation
        temperature_lr=1e-4,
        tau=0.01,
        temperature=0.1,
    ),
    collect=Collect(transitions=8_000),
    # A larger conservative weight, or the best of several next actions, lifts Q from the returns of -10 to -50 that there are
    # to -4 within this many updates; fine-tuning then has to unlearn the difference first, and success drops to nothing.
    offline=Offline(
        "calql", {"conservative": 0.3, "sampled_actions": 3, "backup_actions": 1}, updates=6_000, batch_size=128
    ),
    online=replace(FULL.online, bridge_settings={"steps": 500}, env_steps=3_000),
    evaluation=Evaluation(trials=20, every_env_steps=500),
)
PRESETS = {"quick": QUICK, "full": FULL}
CONSECUTIVE = 2  # steps in a row that a classifier has to see success for
SIGHT = "_image"  # ends the name of a task's variant with cameras

# By sight. An update through features costs several times one of states: fewer of them, and faster ones; the encoder is only as
# good as what the critic has learned by then.
QUICK_IMAGE = replace(
    QUICK,
    task=QUICK.task + SIGHT,
    learning=replace(QUICK.learning, actor_lr=3e-4, critic_lr=1e-3, vision=Vision(mixtures=64)),
    collect=replace(QUICK.collect, transitions=4_000),
    offline=replace(QUICK.offline, updates=4_000),
    online=replace(QUICK.online, env_steps=1_500, utd=2, batch_size=128),
)
IMAGE_PRESETS = {"quick": QUICK_IMAGE, "full": replace(FULL, task=FULL.task + SIGHT)}


def rehearse(
    recipe: RehearseRecipe,
    out: Path,
    progress: Progress,
    resume: bool = False,
    video: bool = True,
    in_process: bool = False,
) -> dict[str, Any]:
    """Runs all stages into `out` and returns what `result.json` holds."""
    find_task(recipe.task)  # an unknown task is refused before a folder is made
    start_s = time.monotonic() - _wall_s(out)
    prepare(out, to_json(recipe), resume)
    # A stage that an interruption cut goes on by itself; the folder as a whole was checked above.
    data = collect_stage(CollectRecipe(recipe.task, recipe.seed, recipe.collect), out / "data", progress, resume)
    reward = classifier_stage(recipe, out / "classifier", progress) if recipe.reward == "classifier" else None
    pretrain = PretrainRecipe(str(data), recipe.task, recipe.seed, recipe.learning, recipe.offline)
    pretrain_stage(pretrain, out / "pretrain", progress, resume)
    wsrl = FinetuneRecipe(
        checkpoint=str(out / "pretrain"),
        task=recipe.task,
        reward=reward,
        seed=recipe.seed,
        learning=recipe.learning,
        online=recipe.online,
        evaluation=recipe.evaluation,
    )
    finetune_stage(wsrl, out / "wsrl", progress, resume, in_process)
    baseline = replace(recipe.online, bridge="rlpd", bridge_settings={})
    rlpd = replace(wsrl, checkpoint=None, data=str(data), online=baseline)
    finetune_stage(rlpd, out / "rlpd", progress, resume, in_process)
    if video:
        _videos(recipe, out)
    result = _result(recipe, out, Dataset.load(data))
    result["wall_s"] = round(time.monotonic() - start_s, 1)
    write_json(out / "result.json", result)
    write_report([out], out / "report.html")
    return result


def classifier_stage(recipe: RehearseRecipe, folder: Path, progress: Progress) -> str:
    """Records labelled frames in the twin and trains a classifier on them, unless it is there; returns its folder."""
    task, path = check_recordable(find_task(recipe.task)), folder / "trained"
    if not path.exists():
        positives, negatives = recipe.labels
        bar = progress.add_task("label frames", total=positives + negatives, note="")
        frames = record(task, positives, negatives, recipe.seed, lambda n: progress.update(bar, completed=n))
        shutil.rmtree(folder / "frames", ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        save_labelled(frames, folder / "frames")
        train_stage([folder / "frames"], recipe.learning.vision.trunk, path, CONSECUTIVE, recipe.seed)
    return str(path)


def area(scores: Sequence[Mapping[str, Any]], mode: str, env_steps: int) -> float:
    """Area under the success curve from 0 to `env_steps`, straight lines between evaluations, divided by `env_steps`."""
    x = [row["env_steps"] for row in scores]
    y = [row[mode]["success"] / row[mode]["trials"] for row in scores]
    return float(np.trapezoid(y, x) / env_steps)


def shrunk(recipe: RehearseRecipe) -> list[dict[str, Any]]:
    """Every number in which a recipe differs from the paper's, by name."""

    def flat(plain: Any, prefix: str = "") -> dict[str, Any]:
        if not isinstance(plain, dict):
            return {prefix: plain}
        return {k: v for name, x in plain.items() for k, v in flat(x, f"{prefix}.{name}".strip(".")).items()}

    names = ("learning", "collect", "offline", "online", "evaluation")
    paper, here = ({n: to_plain(getattr(r, n)) for n in names} for r in (FULL, recipe))
    paper, here = flat(paper), flat(here)
    return [{"what": n, "paper": paper.get(n), "here": here[n]} for n in here if here[n] != paper.get(n)]


def _result(recipe: RehearseRecipe, out: Path, dataset: Dataset) -> dict[str, Any]:
    scores = {name: read_lines(out / name / "scores.jsonl") for name in METHODS}
    picked = {"offline": scores["wsrl"][0], "finetuned": scores["wsrl"][-1], "rlpd": scores["rlpd"][-1]}
    by_mode = {mode: {name: _counts(row[mode]) for name, row in picked.items()} for mode in MODES}
    headline = recipe.evaluation.headline
    _, _, meta = load_policy(out / "wsrl")
    return {
        **by_mode[headline],
        "headline_mode": headline,
        "by_mode": by_mode,
        "area": {name: area(rows, headline, recipe.online.env_steps) for name, rows in scores.items()},
        "env_steps": recipe.online.env_steps,
        "updates": recipe.offline.updates + meta["updates"],
        "seed": recipe.seed,
        "preset": recipe.preset,
        "task": recipe.task,
        "versions": versions(),
        "data": {
            "transitions": len(dataset),
            "episodes": len(dataset.episodes),
            "success_rate": dataset.success_rate(),
            "provenance": dataset.info.provenance,
        },
        "shrunk": shrunk(recipe),
    } | ({} if recipe.reward == "geometry" else {"classifier": _judged(scores, out / "classifier" / "trained")})


def _judged(scores: Mapping[str, Sequence[Mapping[str, Any]]], folder: Path) -> dict[str, Any]:
    """How often the classifier was wrong in evaluations, by method: of trials it called a success, and of those it did not."""
    found: dict[str, Any] = {"held_out": read_json(folder / CLASSIFIER_REPORT)}
    for name, rows in scores.items():
        trials = [trial for row in rows for mode in MODES for trial in row[mode]["outcomes"]]
        called = [trial for trial in trials if trial["judged"]]
        found[name] = {
            "trials": len(trials),
            "called_success": len(called),
            "false_positives": sum(not trial["success"] for trial in called),
            "missed": sum(trial["success"] and not trial["judged"] for trial in trials),
        }
    return found


def _counts(score: Mapping[str, Any]) -> dict[str, Any]:
    success, trials = score["success"], score["trials"]
    return {"success": success, "trials": trials, "ci95": [*wilson(success, trials)]}


def _wall_s(out: Path) -> float:
    """Seconds that the stages of an interrupted run have already taken; 0 where none has begun."""
    return sum(
        rows[-1]["wall_s"] for name in ("pretrain", *METHODS) if (rows := read_lines(out / name / "metrics.jsonl"))
    )


def _videos(recipe: RehearseRecipe, out: Path) -> None:
    """One trial before and one after: the first that failed before and succeeded after, or else trial 0."""
    rows = read_lines(out / "wsrl" / "scores.jsonl")
    mode = recipe.evaluation.headline
    first, last = rows[0][mode]["outcomes"], rows[-1][mode]["outcomes"]
    turned = [i for i, (a, b) in enumerate(zip(first, last, strict=True)) if b["success"] and not a["success"]]
    number = turned[0] if turned else 0
    for name, folder, caption in (("before", "pretrain", "before: offline"), ("after", "wsrl", "after: fine-tuned")):
        now, nets, _ = load_policy(out / folder)
        try:
            _video(recipe, nets, now, number, out / f"{name}.mp4", f"{caption}, trial {number}")
        except RuntimeError as error:
            console.print(f"[yellow]no {name}.mp4: {error}[/yellow]")
            return


def _video(recipe: RehearseRecipe, nets: Nets, now: PolicyParams, number: int, path: Path, caption: str) -> None:
    env = make_env(find_task(recipe.task))
    try:
        evaluator = Evaluator(env, nets, recipe.evaluation.trials, recipe.seed, program)
        record_trial(evaluator, now, recipe.evaluation.headline, number, path, caption)
    finally:
        env.close()
