"""`segue evaluate`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.table import Table
from rich.text import Text

from launch.evaluate import MODES, Mode, Trial
from launch.evaluation import Assessment, Keeping, evaluate
from launch.options import Flat, Json, Realtime
from launch.rig import Rig
from launch.runs import console, progress_bar, results
from launch.show import show

ASKED, KEEPING, RIG = Assessment(), Keeping(), Rig()


def evaluate_(
    checkpoint: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DIR")],
    asked: Annotated[Assessment, Flat] = ASKED,
    keeping: Annotated[Keeping, Flat] = KEEPING,
    realtime: Realtime = False,
    rig: Annotated[Rig, Flat] = RIG,
    json: Json = False,
) -> None:
    """Test a trained policy on its task's trials, with its mode and with its samples.

    With --intervene a human's keys say success, failure, pause, discard (the trial is run again) and stop; nobody takes over.

    Args:
        checkpoint: Folder of a pretrain or finetune run.
    """
    if rig.by_hand:
        console.print(f"nobody takes over in an evaluation; the keys are: {rig.help}", markup=False, highlight=False)
    with progress_bar() as progress:
        bar = progress.add_task("evaluate", total=asked.trials * len(asked.modes), note="")

        def tell(mode: Mode, trial: Trial) -> None:
            console.print(f"{mode} {trial.number}: {said(trial)}", markup=False, highlight=False, soft_wrap=True)
            before = asked.trials * asked.modes.index(mode)
            progress.update(bar, completed=before + trial.number + 1)

        result = evaluate(checkpoint, asked, keeping, realtime, rig, tell)
    if json:
        show(True, result)
        return
    results.print(table_of(result))
    for line in lines_of(result):
        results.print(line, markup=False, highlight=False, soft_wrap=True)


def said(trial: Trial) -> str:
    """How a trial went."""
    if trial.fault is not None:
        return f"stopped: {trial.fault}, after {trial.env_steps} steps"
    judged = "; it was judged to succeed" if trial.judged and not trial.success else ""
    score = "" if trial.normalized is None else f", normalised score {trial.normalized:.1f}"
    took = f"success after {trial.success_s:.1f} s" if trial.success_s is not None else "no success"
    return f"{took}, {trial.env_steps} steps{score}{judged}"


def table_of(result: Mapping[str, Any]) -> Table:
    """A row for each way of acting."""
    scores = {mode: result[mode] for mode in MODES if mode in result}
    about = f"{result['task']} on {result['arm']}, {result['updates']} updates, {result['resets']} trials"
    table = Table(title=Text(f"{result['checkpoint']}: {about}"))
    columns = ["acting", "success", "95% (Wilson)", "seconds: median (quartiles)", "failed trials"]
    shown = {"normalised": "normalized", "judged wrongly": "false_positives"}
    extra = [name for name, key in shown.items() if any(score[key] is not None for score in scores.values())]
    for column in (*columns, *extra):
        table.add_column(column)
    for mode, score in scores.items():
        low, high = score["ci95"]
        rate = (f"{score['success']}/{score['trials']}", f"{low:.2f} to {high:.2f}")
        rest = [f"{score[shown[name]]:.4g}" for name in extra]
        table.add_row(mode, *rate, _quartiles(score["success_s"]), _failed(score["outcomes"]), *rest)
    return table


def lines_of(result: Mapping[str, Any]) -> list[str]:
    """What is said below the table."""
    lines, rate, against = [], result.get("realtime"), result.get("against")
    if rate is not None:
        lines.append(f"late: {rate['late_steps']} of {rate['paced_steps']} control steps")
    if against is not None:
        told = {mode: against[mode]["sentence"] for mode in MODES if mode in against}
        lines += [f"{mode}, against {against['folder']}: {sentence}" for mode, sentence in told.items()]
        lines += [f"warning: {against['folder']}: {warning}" for warning in against["warnings"]]
    return lines


def _quartiles(seconds: Sequence[float] | None) -> str:
    return "none" if seconds is None else f"{seconds[1]:.1f} ({seconds[0]:.1f} to {seconds[2]:.1f})"


def _failed(outcomes: Sequence[Mapping[str, Any]]) -> Text:
    """Numbers of the trials that failed, and which of them a fault ended."""
    failed = [f"{t['number']}{' (fault)' if t['fault'] else ''}" for t in outcomes if not t["success"]]
    return Text(", ".join(failed) or "none")
