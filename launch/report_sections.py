"""The sections of a report after its headline: trials, films, training, data, faults, recipe."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from launch.markup import esc, key, num, share, table, tr
from launch.plots import Curve, lines, offsets, thinned, trial_grid
from launch.run_folder import METHODS, MODES, NUMBER, STAGES, Run

COLOUR = {"offline": "offline", "finetuned": "wsrl", "rlpd": "rlpd"}
METRICS = {"critic/q": "Q value", "actor/entropy": "Policy entropy (nats)", "critic/loss": "Critic loss (TD error)"}
SINCE = "updates since fine-tuning began"
TREND_EPISODES = 20  # a running mean over as many training episodes as an evaluation has trials


def trials(runs: Sequence[Run]) -> str:
    """A grid of outcomes per run, mode and method, and where the failures ended."""
    text = (
        "<p>Each column is one fixed start pose, each row an evaluation after so many environment steps. WSRL's row 0 is the"
        " policy before fine-tuning.</p>"
        + key(METHODS, "box")
        + '<span class="key box hollow">no success (thick edge: stopped by a fault)</span>'
    )
    for run in runs:
        for mode in MODES:
            grids = ""
            for method, name in METHODS.items():
                rows = [(num(r["env_steps"]), r[mode]["outcomes"]) for r in run.logs[f"{method}/scores"]]
                drawn = trial_grid(rows, method) if rows else '<p class="note">not tested yet</p>'
                grids += f"<figure><figcaption>{name}</figcaption>{drawn}</figure>"
            text += f'<h3>{esc(run.label)}, {MODES[mode]} actions</h3><div class="pair">{grids}</div>'
    return text + failures(runs)


def failures(runs: Sequence[Run]) -> str:
    """Where failed trials ended, seen from above: before, after and baseline."""
    mode, points = runs[0].headline, {}
    for stage in STAGES:
        logs = [run.logs["rlpd/scores" if stage == "rlpd" else "wsrl/scores"] for run in runs]
        rows = [log[0 if stage == "offline" else -1] for log in logs if log]
        ends = [o["final_offset_m"] for row in rows for o in row[mode]["outcomes"] if not o["success"]]
        points[stage] = 1000.0 * np.array(ends, float).reshape(-1, 3)
    if sum(map(len, points.values())) < 3:
        return ""
    limit = 1.15 * max(float(np.abs(p[:, :2]).max()) for p in points.values() if len(p)) + 1.0
    panels = ""
    for stage, mm in points.items():
        height = f", median {np.median(mm[:, 2]):.0f} mm above the seat" if len(mm) else ""
        drawn = offsets(f"o-{stage}", STAGES[stage], COLOUR[stage], mm, limit)
        panels += f"<figure>{drawn}<figcaption>{len(mm)} failed{height}</figcaption></figure>"
    return (
        f'<h3>Where the failures ended, {MODES[mode]} actions</h3><div class="three">{panels}</div><p class="note">From above,'
        " in mm. The cross is where the task says the hole is; the real hole is moved by a hidden draw in each trial.</p>"
    )


def videos(runs: Sequence[Run], out: Path) -> str:
    """The films, by relative name."""
    text, absent = "", []
    for run in runs:
        films = ""
        for name, said in (("before", "Before: offline Cal-QL"), ("after", "After: WSRL")):
            path = run.folder / f"{name}.mp4"
            if not path.exists():
                absent.append(f"{name}.mp4 ({run.label})")
                continue
            source = quote(os.path.relpath(path.resolve(), out.resolve().parent).replace(os.sep, "/"))
            film = f'<video controls muted loop playsinline preload="metadata" src="{esc(source)}#t=0.01"></video>'
            films += f"<figure>{film}<figcaption>{said}</figcaption></figure>"
        if films:
            text += (f"<h3>{esc(run.label)}</h3>" if len(runs) > 1 else "") + f'<div class="pair">{films}</div>'
    if text:
        text += (
            '<p class="note">In real time: the scene, and the two wrist cameras beside it. Filmed is the first start that'
            " failed before and succeeds after, or start 0 where there is none: the films are picked, the grids are not.</p>"
        )
    if absent:
        why = "no film was asked for, this machine can draw no pictures, or the run is unfinished"
        text += f'<p class="note">Not there: {esc(", ".join(absent))}; {why}.</p>'
    return text


def inside(runs: Sequence[Run]) -> str:
    """What the networks did, on an axis that has 0 where fine-tuning begins."""
    panels = ""
    for metric, title in METRICS.items():
        of = {
            stage: [metric_curve(run, folder, metric) for run in runs]
            for stage, folder in (("offline", "pretrain"), ("wsrl", "wsrl"), ("rlpd", "rlpd"))
        }
        drawn = lines(metric.replace("/", "-"), title, SINCE, of, start=True, log=metric == "critic/loss")
        panels += f"<figure>{drawn}</figure>"
    of = {method: [trend(run.logs[f"{method}/episodes"]) for run in runs] for method in METHODS}
    panels += f"<figure>{lines('episodes', 'Success in training', 'environment steps', of, rate=True)}</figure>"
    return (
        key({"offline": "pre-training", **METHODS}) + f'<div class="pair">{panels}</div><p class="note">Left of 0 is'
        " pre-training; RLPD has none. A Q value that falls apart where fine-tuning begins would be the collapse that WSRL's"
        f" warm-up is there to prevent. The critic loss leaves out Cal-QL's conservative term."
        f" Success in training is the mean of the last {TREND_EPISODES} episodes, which are"
        " sampled from the policy at random starts.</p>"
    )


def data(runs: Sequence[Run]) -> str:
    """The offline data."""
    rows = []
    for run in runs:
        facts = (run.result or {}).get("data") or {}
        cells = [num(facts.get("transitions")), num(facts.get("episodes")), share(facts.get("success_rate"))]
        rows.append(tr([esc(run.label), *cells, esc(facts.get("provenance", "not recorded yet"))]))
    text = table(["", "transitions", "episodes", "success", "from"], rows)
    return (
        text
        + '<p class="note">The paper used about 17k transitions, recorded on the real arm during an online run.</p>'
    )


def shrunk(runs: Sequence[Run]) -> str:
    """What differs from the paper's numbers."""
    items = next((run.result.get("shrunk") or [] for run in runs if run.result), None)
    if items is None:
        return "<p>Listed when the run is finished; until then, see the recipe below.</p>"
    if not items:
        return "<p>Nothing: sizes and counts are the paper's.</p>"
    rows = [tr([esc(i.get("what")), num(i.get("paper")), num(i.get("here"))]) for i in items]
    return "<p>So that it ends in minutes, this run departs from the paper's numbers:</p>" + table(
        ["", "paper", "here"], rows
    )


def judge(runs: Sequence[Run]) -> str:
    """How the classifier that gave the reward did: on held-out frames, and in the trials. Empty where none did."""
    rows = []
    for run in runs:
        facts = (run.result or {}).get("classifier")
        if not facts:
            continue
        held_out = facts["held_out"]
        for method, name in METHODS.items():
            counts = [num(facts[method][what]) for what in ("trials", "called_success", "false_positives", "missed")]
            shares = [share(held_out["precision"]), share(held_out["recall"])]
            rows.append(tr([esc(f"{run.label}, {name}"), *shares, *counts]))
    if not rows:
        return ""
    head = [
        "",
        "precision, held out",
        "recall, held out",
        "trials",
        "called a success",
        "and were none",
        "successes missed",
    ]
    return table(head, rows) + (
        '<p class="note">The classifier gave the reward and ended the episodes; the simulator knows better, and what stands'
        " elsewhere on this page is its verdict. Frames were held out by episode.</p>"
    )


def faults(runs: Sequence[Run]) -> str:
    """Every reason for which the arm was stopped, with how often and where first."""
    seen: dict[str, list[str]] = {}
    for run in runs:
        for method, name in METHODS.items():
            for row in run.logs[f"{method}/episodes"]:
                if row.get("fault"):
                    at = f"{run.label}, {name}, training, step {row['env_steps']}"
                    seen.setdefault(str(row["fault"]), []).append(at)
            for row in run.logs[f"{method}/scores"]:
                for o in (o for mode in MODES for o in row[mode]["outcomes"] if o.get("fault")):
                    at = f"{run.label}, {name}, trial {o['number']} at step {row['env_steps']}"
                    seen.setdefault(str(o["fault"]), []).append(at)
    if not seen:
        return "<p>None: no safety limit stopped the arm, in training or in a trial.</p>"
    rows = [tr([esc(why), num(len(at)), esc(at[0])]) for why, at in sorted(seen.items(), key=lambda s: -len(s[1]))]
    return "<p>The safety layer stopped the arm, which ends the episode:</p>" + table(
        ["reason", "times", "first"], rows
    )


def pace(runs: Sequence[Run]) -> str:
    """Which side of learner and actor waited for the other, and what was lost or refused on the way."""
    rows = []
    for run in runs:
        for method, facts in run.pace.items():
            waited = [f"{facts[name]:,.1f} s" for name in ("wall_s", "learner_waited_s", "actors_waited_s")]
            lost = [num(facts[name]) for name in ("sessions", "transitions_lost", "duplicates_dropped")]
            refused = num(sum(facts["messages_refused"].values()))
            name = f"{run.label}, {METHODS[method]}"
            ratio = share(facts["updates"] / max(facts["env_steps"], 1))
            rows.append(tr([esc(name), esc(facts["pace"]), ratio, *waited, *lost, refused]))
    if not rows:
        return "<p>Learner and actor took turns in one process: neither could wait, and there was no wire to lose anything.</p>"
    head = [
        "",
        "pace",
        "updates per step",
        "in all",
        "learner waited",
        "actors waited",
        "sessions",
        "lost",
        "again",
        "refused",
    ]
    return table(head, rows) + (
        '<p class="note">In lockstep the two take turns, so one always waits; running free, the governor makes the side wait'
        " that is ahead. Sessions: the actor's process began so often. Lost: transitions that a full spool dropped. Again:"
        " records that arrived more than once and were taken once. Refused: messages that were none of this run's.</p>"
    )


def provenance(runs: Sequence[Run]) -> str:
    """The recipe, how to run it again, and the versions."""
    text = "<p>Each folder holds its recipe; <code>segue run recipe.json --out NEW</code> repeats the run.</p>"
    for run in runs:
        shown = esc(json.dumps(run.recipe, indent=2))
        text += f"<details><summary>Recipe, {esc(run.label)}</summary><pre>{shown}</pre></details>"
        versions = (run.result or {}).get("versions") or {}
        text += f'<p class="note">{esc(", ".join(f"{name} {v}" for name, v in versions.items()) or "unfinished")}</p>'
    return text


def metric_curve(run: Run, folder: str, metric: str) -> Curve:
    """A metric against updates, pre-training left of 0."""
    logged = run.logs[f"{folder}/metrics"]
    # Cal-QL's loss has the conservative term in it; its TD error alone compares with the other losses.
    error = logged_as(logged, "critic/td") if metric == "critic/loss" else None
    name = error or logged_as(logged, metric) or metric
    rows = [row for row in logged if isinstance(row.get(name), NUMBER)]
    offline = run.logs["pretrain/metrics"]
    shift = offline[-1]["updates"] if folder == "pretrain" and offline else 0
    return thinned([r["updates"] - shift for r in rows], [r[name] for r in rows])


def logged_as(rows: Sequence[Mapping[str, Any]], metric: str) -> str | None:
    """A metric's name in a log: where an encoder shares the critic's loss, `critic/q` is `critic+encoder/q`."""
    group, what = metric.split("/")
    names = (name.partition("/") for row in rows for name in row)
    return next(("/".join((groups, of)) for groups, _, of in names if of == what and group in groups.split("+")), None)


def trend(rows: Sequence[Mapping[str, Any]]) -> Curve:
    """Running success of training episodes, from the first full window on."""
    wins = np.cumsum([0, *(row["success"] for row in rows)])
    mean = (wins[TREND_EPISODES:] - wins[:-TREND_EPISODES]) / TREND_EPISODES
    return thinned([row["env_steps"] for row in rows][TREND_EPISODES - 1 :], mean.tolist())
