"""The report of a rehearsal: one page that stands alone, beside the two videos. Here its frame and its headline."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from launch.markup import esc, key, num, share, small, table, tr
from launch.plots import STYLE, Curve, success_curves
from launch.rates import wilson
from launch.report_sections import COLOUR, data, faults, inside, judge, pace, provenance, shrunk, trials, videos
from launch.run_folder import METHODS, MODES, NUMBER, STAGES, Run, check_alike, read_run
from robot_env.tasks import name_of

# WSRL (Zhou et al.), Table 1: a real arm, 20 initial poses.
PAPER = {"offline": "13/20", "finetuned": "20/20", "rlpd": "0/20"}
PAPER_COST = {
    "offline": "40k updates",
    "finetuned": "5k warm-up + 3k actor steps, 18 min",
    "rlpd": "20k actor steps, 50 min",
}
MODE_SAID = {"mode": "the policy's most likely action (mode)", "sample": "actions drawn from the policy (sampled)"}
TITLES = {"offline": "Before: offline Cal-QL", "finetuned": "After: WSRL", "rlpd": "Baseline: RLPD"}


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


def page(runs: Sequence[Run], out: Path) -> str:
    """The whole document."""
    recipe, task = runs[0].recipe, name_of(runs[0].recipe["task"]).replace("_", " ")
    seeds = "seed " + str(recipe["seed"]) if len(runs) == 1 else f"{len(runs)} seeds"
    sections = {
        "Beside the paper": paper_table(runs),
        "Learning curves": curves(runs),
        "Every trial": trials(runs),
        "The classifier": judge(runs),
        "Before and after": videos(runs, out),
        "Inside the training": inside(runs),
        "Data": data(runs),
        "What was shrunk": shrunk(runs),
        "Faults": faults(runs),
        "Learner and actor": pace(runs),
        "Recipe and versions": provenance(runs),
    }
    sections = {name: text for name, text in sections.items() if text}
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
        " start from the same fixed poses each time. Shaded bars are 95 % Wilson intervals: with 20 trials,"
        " a few successes more or less are chance.</p>"
    )


def card(runs: Sequence[Run], mode: str, stage: str) -> str:
    scores = [(run.label, score) for run in runs if (score := run.score(mode, stage))]
    bars = ""
    for label, score in scores:
        low, high, rate = *(100 * v for v in interval_of(score)), 100 * score["success"] / max(score["trials"], 1)
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


def total(runs: Sequence[Run], mode: str, stage: str) -> tuple[int, int] | None:
    """Successes and trials of all runs that have them."""
    scores = [score for run in runs if (score := run.score(mode, stage))]
    return (sum(s["success"] for s in scores), sum(s["trials"] for s in scores)) if scores else None


def score_curve(run: Run, method: str, mode: str) -> Curve:
    rows = run.logs[f"{method}/scores"]
    scores = [row[mode] for row in rows]
    rates = [s["success"] / max(s["trials"], 1) for s in scores]
    lows, highs = zip(*map(interval_of, scores), strict=True) if scores else ((), ())
    return Curve([r["env_steps"] for r in rows], rates, list(lows), list(highs))


def last_step(run: Run, method: str) -> int:
    """Environment steps at the last evaluation; of a finished run, all that it took."""
    if run.result is not None:
        return run.result["env_steps"]
    return max((row["env_steps"] for row in run.logs[f"{method}/scores"]), default=0)


def acting(runs: Sequence[Run], mode: str) -> str:
    return MODES[mode] + (" (headline)" if mode == runs[0].headline else "")


def interval_of(score: Mapping[str, Any]) -> tuple[float, float]:
    """From the counts: earlier versions wrote other intervals into their scores."""
    return wilson(score["success"], score["trials"])


def interval(score: Mapping[str, Any]) -> str:
    low, high = interval_of(score)
    return f"95\u00a0%: {100 * low:.0f}–{100 * high:.0f}\u00a0%"


def clock(result: Mapping[str, Any]) -> str:
    seconds = result.get("wall_s")
    return f"{seconds // 60:.0f} min {seconds % 60:.0f} s" if isinstance(seconds, NUMBER) else "unknown time"
