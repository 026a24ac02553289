"""The report of a rehearsal: one page that stands alone, beside the two videos."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from launch.plots import STYLE, Curve, lines, offsets, success_curves, thinned, trial_grid

NUMBER = (int, float)
STAGES = {"offline": "offline Cal-QL", "finetuned": "WSRL", "rlpd": "RLPD"}
METHODS = {"wsrl": "WSRL", "rlpd": "RLPD"}
MODES = {"mode": "mode", "sample": "sampled"}
COLOUR = {"offline": "offline", "finetuned": "wsrl", "rlpd": "rlpd"}
# WSRL (Zhou et al.), Table 1: a real arm, 20 initial poses.
PAPER = {"offline": "13/20", "finetuned": "20/20", "rlpd": "0/20"}
PAPER_COST = {
    "offline": "40k updates",
    "finetuned": "5k warm-up + 3k actor steps, 18 min",
    "rlpd": "20k actor steps, 50 min",
}
METRICS = {"critic/q": "Q value", "actor/entropy": "Policy entropy (nats)", "critic/loss": "Critic loss (TD error)"}
SINCE = "updates since fine-tuning began"
TREND_EPISODES = 20  # a running mean over as many training episodes as an evaluation has trials

# What must be there, and of which type.
RECIPE = {"command": str, "task": str, "preset": str, "seed": int, "online": dict, "evaluation": dict}
RESULT = {"by_mode": dict, "headline_mode": str, "area": dict, "env_steps": int}
COUNT = {"success": int, "trials": int, "ci95": list}
LINES = {
    "metrics": {"updates": NUMBER},
    "scores": {"env_steps": NUMBER, "mode": dict, "sample": dict},
    "episodes": {"env_steps": NUMBER, "success": bool},
}
OUTCOME = {"number": int, "success": bool, "env_steps": NUMBER, "final_offset_m": list}
LOGS = ("pretrain/metrics", *(f"{m}/{log}" for m in METHODS for log in LINES))


@dataclass(frozen=True)
class Run:
    """A run folder, read.

    Attributes:
        recipe: what was asked for.
        result: what came out; None while the run is unfinished.
        logs: rows by file, such as `wsrl/scores`.
    """

    folder: Path
    recipe: Mapping[str, Any]
    result: Mapping[str, Any] | None
    logs: Mapping[str, list[dict[str, Any]]]

    @property
    def label(self) -> str:
        return f"seed {self.recipe['seed']}"

    @property
    def warm_up(self) -> int:
        """Environment steps that the frozen policy collects first."""
        return int(self.recipe["online"].get("bridge_settings", {}).get("steps", 0))

    @property
    def headline(self) -> str:
        return (self.result or {}).get("headline_mode") or self.recipe["evaluation"].get("headline", "mode")

    def score(self, mode: str, stage: str) -> Mapping[str, Any] | None:
        """The count of a stage; of an unfinished run, the newest there is."""
        if self.result is not None:
            return self.result["by_mode"][mode][stage]
        rows = self.logs["rlpd/scores" if stage == "rlpd" else "wsrl/scores"]
        rows = [row for row in rows if (row["env_steps"] == 0) == (stage == "offline")]
        return rows[-1][mode] if rows else None


def write_report(runs: Sequence[Path], out: Path) -> None:
    """Writes the page of one rehearsal, or of several with different seeds side by side.

    Args:
        runs: run folders.
        out: the html file, written whole or not at all.

    Raises:
        ValueError: a folder holds no run, or one that cannot be read, or the runs are not of one recipe.
    """
    if not runs:
        raise ValueError("there is no run to report; name a folder that `segue rehearse --out DIR` made")
    read = [read_run(Path(folder)) for folder in runs]
    check_alike(read)
    out = Path(out)
    text = page(read, out)
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(f".{out.name}.part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(out)
    finally:
        part.unlink(missing_ok=True)


def read_run(folder: Path) -> Run:
    """Reads a run folder. Raises `ValueError` in one sentence."""
    path = folder / "recipe.json"
    if not path.is_file():
        raise ValueError(
            f"{path} does not exist, so {folder} holds no run; make one with `segue rehearse --out {folder}`"
        )
    recipe = need(read_json(path), RECIPE, path, folder)
    if recipe["command"] != "rehearse":
        raise ValueError(f"{path} is of `segue {recipe['command']}`; a report needs `segue rehearse --out DIR`")
    path, result = folder / "result.json", None
    if path.exists():
        result = need(read_json(path), RESULT, path, folder)
        for mode in MODES:
            for stage in STAGES:
                need((result["by_mode"].get(mode) or {}).get(stage), COUNT, f"{path}: {mode}, {stage}", folder)
    return Run(folder, recipe, result, {name: read_lines(folder, name) for name in LOGS})


def read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}); make the run again with `segue rehearse --out DIR`") from error


def read_lines(folder: Path, name: str) -> list[dict[str, Any]]:
    """The rows of a log; a last line that an interruption tore is left out, and a log that has not begun is empty."""
    path, rows = folder / f"{name}.jsonl", []
    texts = path.read_bytes().splitlines() if path.exists() else []
    for i, text in enumerate(texts):
        try:
            row = json.loads(text)
        except ValueError as error:
            if i == len(texts) - 1:
                break
            raise ValueError(
                f"{path}:{i + 1} is not JSON; make the run again with `segue rehearse --out {folder}`"
            ) from error
        where = f"{path}:{i + 1}"
        rows.append(need(row, LINES[name.split("/")[1]], where, folder))
        for mode in MODES if name.endswith("scores") else ():
            for outcome in need(row[mode], {**COUNT, "outcomes": list}, f"{where}: {mode}", folder)["outcomes"]:
                need(outcome, OUTCOME, f"{where}: {mode} outcomes", folder)
    return rows


def need(value: Any, kinds: Mapping[str, Any], where: Path | str, folder: Path) -> Any:
    """The mapping itself, when it has each key with its type."""
    for key, kind in kinds.items():
        if not isinstance(value, dict) or not isinstance(value.get(key), kind):
            raise ValueError(f"{where} has no proper {key!r}; make the run again with `segue rehearse --out {folder}`")
    return value


def check_alike(runs: Sequence[Run]) -> None:
    """Several runs stand side by side only when nothing but the seed differs."""
    first = runs[0]
    for i, run in enumerate(runs[1:], 1):
        for key in {**first.recipe, **run.recipe}:
            if key != "seed" and first.recipe.get(key) != run.recipe.get(key):
                raise ValueError(
                    f"{run.folder}/recipe.json differs from {first.folder}/recipe.json in {key!r}; report runs that"
                    " differ in their seed only, made with `segue rehearse --seed N --out DIR`"
                )
        if any(run.recipe["seed"] == other.recipe["seed"] for other in runs[:i]):
            raise ValueError(f"{run.folder}: its seed {run.recipe['seed']} is there already; name each seed's run once")


def page(runs: Sequence[Run], out: Path) -> str:
    """The whole document."""
    recipe, task = runs[0].recipe, runs[0].recipe["task"].replace("_", " ")
    seeds = "seed " + str(recipe["seed"]) if len(runs) == 1 else f"{len(runs)} seeds"
    sections = {
        "Beside the paper": paper_table(runs),
        "Learning curves": curves(runs),
        "Every trial": trials(runs),
        "Before and after": videos(runs, out),
        "Inside the training": inside(runs),
        "Data": data(runs),
        "What was shrunk": shrunk(runs),
        "Faults": faults(runs),
        "Recipe and versions": provenance(runs),
    }
    links = "".join(f'<a href="#s{i}">{name}</a>' for i, name in enumerate(sections))
    body = "".join(
        f'<section id="s{i}"><h2>{name}</h2>{text}</section>' for i, (name, text) in enumerate(sections.items())
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{esc(task)}: a rehearsal of offline-to-online fine-tuning</title><style>{STYLE}</style></head><body><main>"
        f'<p class="kicker">Segue rehearsal · {esc(recipe["preset"])} preset · {esc(seeds)}</p>'
        f"<h1>{esc(task).capitalize()}: from offline data to a fine-tuned policy</h1>"
        f"{summary(runs)}<nav>{links}</nav>{body}</main></body></html>\n"
    )


def summary(runs: Sequence[Run]) -> str:
    """The headline in words and in three cards."""
    mode, count = runs[0].headline, {stage: total(runs, runs[0].headline, stage) for stage in STAGES}
    missing = [run.label for run in runs if run.result is None]
    warn = (
        f'<section class="warn"><b>Unfinished.</b> No result yet of {esc(", ".join(missing))}: the page shows what has been'
        " recorded so far. Go on with <code>segue rehearse --resume --out DIR</code>.</section>"
        if missing
        else ""
    )
    said = {stage: f"<b>{c[0]} of {c[1]}</b>" if c else "<b>not tested yet</b>" for stage, c in count.items()}
    done = {method: num(max(last_step(run, method) for run in runs)) for method in METHODS}
    same = f"and tested so far after {done['rlpd']} steps" if missing else "and the same steps"
    lead = (
        (f"{len(runs)} runs with different seeds, counted together. " if len(runs) > 1 else "")
        + f"Pre-trained offline on scripted data, the policy succeeds in {said['offline']} trials on the simulated arm."
        f" After {done['wsrl']} environment steps of fine-tuning with WSRL, the first {num(runs[0].warm_up)} of them warm-up,"
        f" it succeeds in {said['finetuned']}. The baseline RLPD, given the same data {same}, succeeds in {said['rlpd']}."
    )
    cards = "".join(card(runs, mode, stage) for stage in STAGES)
    return (
        f'{warn}<p class="lead">{lead} {lowest(runs, mode)}</p><div class="cards">{cards}</div>'
        "<p>Cal-QL learns from the recorded data alone. WSRL goes on from there: the frozen policy first collects a warm-up,"
        " then policy and critics train on what the arm does now, without the old data. RLPD starts from nothing and learns"
        " from new and old data, half and half.</p>"
        f'<p class="note">Headline figures use {MODE_SAID[mode]}; the other way of acting stands beside it throughout. Trials'
        " start from the same fixed poses each time. Shaded bars are 95 % Clopper-Pearson intervals: with 20 trials,"
        " a few successes more or less are chance.</p>"
    )


MODE_SAID = {"mode": "the policy's most likely action (mode)", "sample": "actions drawn from the policy (sampled)"}
TITLES = {"offline": "Before: offline Cal-QL", "finetuned": "After: WSRL", "rlpd": "Baseline: RLPD"}


def card(runs: Sequence[Run], mode: str, stage: str) -> str:
    scores = [(run.label, score) for run in runs if (score := run.score(mode, stage))]
    bars = ""
    for label, score in scores:
        low, high, rate = *(100 * v for v in score["ci95"]), 100 * score["success"] / max(score["trials"], 1)
        bars += (
            f'<div class="bar" title="{esc(label)}"><i style="left:{low:.1f}%;width:{high - low:.1f}%"></i>'
            f'<u style="left:{rate:.1f}%"></u></div>'
        )
    count = total(runs, mode, stage)
    return (
        f'<div class="card {COLOUR[stage]}">{TITLES[stage]}<b>{f"{count[0]}/{count[1]}" if count else "–"}</b>{bars}'
        f'<span class="small">{interval(scores[0][1]) + ". " if len(scores) == 1 else ""}Paper, real arm: {PAPER[stage]}'
        "</span></div>"
    )


def lowest(runs: Sequence[Run], mode: str) -> str:
    """The drop that the method is there to avoid, said aloud."""
    rows = [(row[mode], row["env_steps"], run) for run in runs for row in run.logs["wsrl/scores"]]
    if not rows:
        return ""
    score, step, run = min(rows, key=lambda r: r[0]["success"] / max(r[0]["trials"], 1))
    of = f" ({esc(run.label)})" if len(runs) > 1 else ""
    low = f"{score['success']} of {score['trials']}"
    if step == 0:
        return f"No evaluation of WSRL fell below the {low} it began with{of}."
    return f"WSRL's lowest evaluation on the way was {low}, after {num(step)} steps{of}."


def paper_table(runs: Sequence[Run]) -> str:
    """Our counts in both modes beside Table 1."""
    rows = [
        tr(["The paper, real arm", "not said", *(f"<b>{PAPER[s]}</b>{small(PAPER_COST[s])}" for s in STAGES)], "paper")
    ]
    for run in runs:
        cells = {m: [run.score(m, s) for s in STAGES] for m in MODES}
        for mode in MODES:
            drawn = [
                f"<b>{s['success']}/{s['trials']}</b>{small(interval(s))}" if s else "not yet" for s in cells[mode]
            ]
            rows.append(tr([esc(f"Here, twin, {run.label}"), acting(runs, mode), *drawn]))
    for mode in MODES if len(runs) > 1 else ():
        counts = [total(runs, mode, stage) for stage in STAGES]
        drawn = [f"<b>{c[0]}/{c[1]}</b>" if c else "not yet" for c in counts]
        rows.append(tr([f"Here, all {len(runs)} seeds", acting(runs, mode), *drawn], "total"))
    took = [f"{num(r.result['env_steps'])} steps ({r.label}, computed in {clock(r.result)})" for r in runs if r.result]
    return (
        table(["Where", "Acting", *(STAGES[s] + (" (SERL)" if s == "rlpd" else "") for s in STAGES)], rows)
        + f'<p class="note">{esc("; ".join(took) or "Unfinished")}; warm-up counts as steps. The paper (Zhou et al., WSRL,'
        " Table 1) measured a real Franka arm with two wrist cameras and a learned reward. This is a simulated twin, so the"
        " rows stand side by side for orientation: they do not repeat the paper's experiment.</p>"
    )


def curves(runs: Sequence[Run]) -> str:
    """Success rate against environment steps in both modes, and the areas."""
    panels, head = "", runs[0].headline
    for mode in sorted(MODES, key=lambda m: m != head):
        of = {method: [score_curve(run, method, mode) for run in runs] for method in METHODS}
        title = f"Acting with the {mode}" if mode == "mode" else "Acting with samples"
        panels += f"<figure>{success_curves(f'c-{mode}', title, of, runs[0].warm_up)}</figure>"
    areas = [
        tr([esc(run.label), *(share(run.result["area"].get(m)) for m in METHODS)])
        for run in runs
        if run.result is not None
    ]
    seeds = (
        " One thin line a seed, the mean thick." if len(runs) > 1 else " Bands are 95 % intervals of each evaluation."
    )
    return (
        key(METHODS) + '<span class="key shade">warm-up of WSRL: the frozen policy collects, nothing is trained</span>'
        f'<div class="pair">{panels}</div><p class="note">Success in the fixed trials. Warm-up steps count.{seeds} At step 0'
        " WSRL is the offline policy and RLPD is untrained.</p>"
        + (
            f"<h3>Area under the curve, {MODES[head]} actions</h3>{table(['', *METHODS.values()], areas)}"
            '<p class="note">Over the same environment steps; 1 is success in every trial from the first step on.</p>'
            if areas
            else ""
        )
    )


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


def provenance(runs: Sequence[Run]) -> str:
    """The recipe, how to run it again, and the versions."""
    text = "<p>Each folder holds its recipe; <code>segue run recipe.json --out NEW</code> repeats the run.</p>"
    for run in runs:
        shown = esc(json.dumps(run.recipe, indent=2))
        text += f"<details><summary>Recipe, {esc(run.label)}</summary><pre>{shown}</pre></details>"
        versions = (run.result or {}).get("versions") or {}
        text += f'<p class="note">{esc(", ".join(f"{name} {v}" for name, v in versions.items()) or "unfinished")}</p>'
    return text


def total(runs: Sequence[Run], mode: str, stage: str) -> tuple[int, int] | None:
    """Successes and trials of all runs that have them."""
    scores = [score for run in runs if (score := run.score(mode, stage))]
    return (sum(s["success"] for s in scores), sum(s["trials"] for s in scores)) if scores else None


def score_curve(run: Run, method: str, mode: str) -> Curve:
    rows = run.logs[f"{method}/scores"]
    scores = [row[mode] for row in rows]
    rates = [s["success"] / max(s["trials"], 1) for s in scores]
    return Curve([r["env_steps"] for r in rows], rates, [s["ci95"][0] for s in scores], [s["ci95"][1] for s in scores])


def metric_curve(run: Run, folder: str, metric: str) -> Curve:
    """A metric against updates, pre-training left of 0."""
    logged = run.logs[f"{folder}/metrics"]
    # Cal-QL's loss has the conservative term in it; its TD error alone compares with the other losses.
    name = "critic/td" if metric == "critic/loss" and any("critic/td" in row for row in logged) else metric
    rows = [row for row in logged if isinstance(row.get(name), NUMBER)]
    offline = run.logs["pretrain/metrics"]
    shift = offline[-1]["updates"] if folder == "pretrain" and offline else 0
    return thinned([r["updates"] - shift for r in rows], [r[name] for r in rows])


def trend(rows: Sequence[Mapping[str, Any]]) -> Curve:
    """Running success of training episodes, from the first full window on."""
    wins = np.cumsum([0, *(row["success"] for row in rows)])
    mean = (wins[TREND_EPISODES:] - wins[:-TREND_EPISODES]) / TREND_EPISODES
    return thinned([row["env_steps"] for row in rows][TREND_EPISODES - 1 :], mean.tolist())


def last_step(run: Run, method: str) -> int:
    """Environment steps at the last evaluation; of a finished run, all that it took."""
    if run.result is not None:
        return run.result["env_steps"]
    return max((row["env_steps"] for row in run.logs[f"{method}/scores"]), default=0)


def acting(runs: Sequence[Run], mode: str) -> str:
    return MODES[mode] + (" (headline)" if mode == runs[0].headline else "")


def interval(score: Mapping[str, Any]) -> str:
    low, high = score["ci95"]
    return f"95\u00a0%: {100 * low:.0f}–{100 * high:.0f}\u00a0%"


def clock(result: Mapping[str, Any]) -> str:
    seconds = result.get("wall_s")
    return f"{seconds // 60:.0f} min {seconds % 60:.0f} s" if isinstance(seconds, NUMBER) else "unknown time"


def esc(value: Any) -> str:
    return escape(str(value))


def num(value: Any) -> str:
    return f"{value:,}" if isinstance(value, NUMBER) else "–" if value is None else esc(value)


def share(value: Any) -> str:
    return f"{value:.2f}" if isinstance(value, NUMBER) else "–"


def small(text: str) -> str:
    return f'<span class="small">{esc(text)}</span>'


def key(names: Mapping[str, str], kind: str = "") -> str:
    return "".join(f'<span class="key {kind} {name}">{esc(said)}</span>' for name, said in names.items())


def tr(cells: Sequence[str], kind: str = "") -> str:
    return f'<tr class="{kind}">' + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def table(head: Sequence[str], rows: Sequence[str]) -> str:
    top = "".join(f"<th>{esc(name)}</th>" for name in head)
    return f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
