"""`segue evaluate`: a checkpoint's trials, each told, written down and filmed as it comes."""

import json
import os
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from agent.policy import PolicyParams
from launch.act import NO_RIG, equipped_env
from launch.evaluate import MODES, Evaluator, Mode, Trial, score_of
from launch.policies import acting_recipe, load_policy, ways_of_acting
from launch.recipes import check_seed
from launch.rig import SCRIPT, Rig
from launch.runs import prepare, read_lines, versions, write_json
from launch.tasks import AnyTask, Resets, TrialStart, find_task
from launch.versus import RESULT, compare, kind_of, read_earlier
from launch.video import record_trial
from robot_env.faults import ArmFault
from robot_env.make import parse_arm
from robot_env.tasks import Task

TRIALS = "trials.jsonl"


@dataclass(frozen=True)
class Assessment:
    """How a checkpoint is tested.

    Attributes:
        trials: How many, with each way of acting.
        modes: Ways of acting: by the policy's most likely action, or by sampled ones.
        arm: Which arm: `twin`, or NAME:ADDRESS such as serl:http://127.0.0.1:5000; `,simulated` after it for a twin there.
        resets: `fixed`: the task's own start poses and hidden scenes, the same for every checkpoint and seed, so that any two
            evaluations compare trial by trial. `drawn`: others for each --seed, a second opinion, which compares trial by trial
            with one of the same seed only.
        reward: Folder of a classifier that judges success; by default the task's geometry, which in a twin stays the truth.
        seed: Of sampled actions, and of drawn trials.
    """

    trials: int = 20
    modes: tuple[Mode, ...] = MODES
    arm: str = "twin"
    resets: Resets = "fixed"
    reward: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_seed(self.seed)
        if self.trials < 1:
            raise ValueError(f"--trials {self.trials}: give at least 1")
        if not self.modes or len(set(self.modes)) < len(self.modes):
            raise ValueError(f"--modes {' '.join(self.modes)}: name each way of acting once, of {', '.join(MODES)}")


@dataclass(frozen=True)
class Keeping:
    """What is kept of the trials, and held against them.

    Attributes:
        out: Folder for evaluation.json, and trials.jsonl with each trial as soon as it is over.
        resume: Go on after the last trial that --out holds.
        video: Film each trial into --out: the twin's scene, or what the arm's cameras see.
        against: The --out of an earlier evaluation that this one is compared with.
    """

    out: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    resume: tyro.conf.FlagCreatePairsOff[bool] = False
    video: tyro.conf.FlagCreatePairsOff[bool] = False
    against: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None

    def __post_init__(self) -> None:
        for name in ("resume", "video"):
            if getattr(self, name) and self.out is None:
                raise ValueError(f"--{name}: it needs a folder; give --out DIR")


NOTHING = Keeping()
Told = Callable[[Mode, Trial], None]


def evaluate(
    folder: Path,
    asked: Assessment,
    keeping: Keeping = NOTHING,
    realtime: bool = False,
    rig: Rig = NO_RIG,
    told: Told = lambda mode, trial: None,
) -> dict[str, Any]:
    """Runs a checkpoint's trials and returns the result: by mode its score, and what it was of.

    Args:
        folder: of a pretrain or finetune run.
        realtime: hold the task's control rate, and say how well.
        rig: cameras beside the arm, and a human's keys; nobody takes over.
        told: takes each trial as it ends. One that the human discards is run again.

    Raises:
        ValueError: the checkpoint, the arm, what stands beside it, the folder or the earlier evaluation does not fit.
        ArmFault: a fault waits for a human; the trials before are in the folder.
    """
    now, nets, meta = load_policy(folder)
    task = find_task(meta["task"])
    about = about_of(folder, meta, task, asked, realtime or rig.by_hand)
    check(task, asked, keeping, rig)
    earlier = None if keeping.against is None else read_earlier(keeping.against, about, asked.modes)
    with equipped_env(acting_recipe(meta, asked.arm, asked.reward), realtime, rig) as (env, attendant):
        ways = ways_of_acting(meta)
        evaluator = Evaluator(env, nets, asked.trials, asked.seed, attendant, ways, asked.resets)
        if keeping.out is not None:
            prepare(keeping.out, about, keeping.resume)
        with closing(TrialLog(None if keeping.out is None else keeping.out / TRIALS)) as log:
            _run(evaluator, now, asked, keeping, log, told)
        rate = {} if env.pace is None else {"realtime": env.pace.summary()}
    scores = {mode: score_of(mode, log.trials[mode][: asked.trials]).to_json() for mode in asked.modes}
    starts = [_plain(start) for start in evaluator.starts]
    command = {name: x for name, x in about.items() if name not in ("command", "checkpoint", "realtime")}
    result = {"checkpoint": str(folder), **command, **scores, **rate, "starts": starts, "versions": versions()}
    if earlier is not None:
        result["against"] = {"folder": str(keeping.against), **compare(result, earlier)}
    if keeping.out is not None:
        write_json(keeping.out / RESULT, result)
    return result


def about_of(folder: Path, meta: Mapping[str, Any], task: AnyTask, asked: Assessment, realtime: bool) -> dict[str, Any]:
    """What an evaluation is of, plain: it goes on with the same only. Trials and ways of acting may be added."""
    plain = {name: x for name, x in vars(asked).items() if name not in ("trials", "modes")}
    scene = json.loads(json.dumps(asdict(task.scene))) if isinstance(task, Task) else {}
    facts = {"task": task.name, "scene": scene, "max_steps": task.max_steps, "hz": task.hz}
    whose = {"checkpoint": str(folder.resolve()), "updates": meta["version"]}
    return {"command": "evaluate", **whose, **facts, **plain, "arm_kind": kind_of(asked.arm), "realtime": realtime}


def check(task: AnyTask, asked: Assessment, keeping: Keeping, rig: Rig) -> None:
    """Raises `ValueError` where a human or a film is asked for that there cannot be; opens nothing."""
    if rig.intervene is not None and not rig.by_hand:
        raise ValueError(
            f"--intervene {rig.intervene}: nobody takes over in an evaluation, so that a {SCRIPT} has nothing to say; "
            "give a device with keys, or leave it out"
        )
    if keeping.video and not isinstance(task, Task):
        raise ValueError(f"--video: task {task.name!r} is simulated without an arm; leave it out")
    if keeping.video and parse_arm(asked.arm).name != "twin" and not rig.camera:
        raise ValueError(f"--video: arm {asked.arm!r} has no cameras of its own; give --camera, or leave it out")


def _run(
    evaluator: Evaluator, now: PolicyParams, asked: Assessment, keeping: Keeping, log: "TrialLog", told: Told
) -> None:
    """The trials that the log does not hold yet."""
    evaluator.calls = log.calls
    try:
        for mode in asked.modes:
            for number in range(len(log.trials[mode]), asked.trials):
                trial = _one(evaluator, now, mode, number, keeping)
                log.add(mode, trial, evaluator.calls)
                told(mode, trial)
    except ArmFault as error:
        fault = evaluator.env.fault
        if keeping.out is None or fault is None:
            raise
        raise ArmFault(
            f"the arm was stopped: {fault.reason}; look at it, then `segue robot home --acknowledge NAME` and the same command "
            f"with --resume: {sum(map(len, log.trials.values()))} trials are in {keeping.out}"
        ) from error


def _one(evaluator: Evaluator, now: PolicyParams, mode: Mode, number: int, keeping: Keeping) -> Trial:
    """One trial, filmed where that is wanted; the film's name says which and how it went."""
    if keeping.out is None or not keeping.video:
        return evaluator.trial(now, mode, number)
    name = f"{mode}_{number:03d}"
    for old in keeping.out.glob(f"{name}*.mp4"):  # of a trial that was killed before it was written down
        old.unlink()
    path, trial = keeping.out / f"{name}.mp4", None
    while trial is None:
        trial = record_trial(evaluator, now, mode, number, path, f"{mode}, trial {number}")
    path.replace(keeping.out / f"{name}_{outcome_of(trial)}.mp4")
    return trial


def outcome_of(trial: Trial) -> str:
    """In a word."""
    return "success" if trial.success else "failure" if trial.fault is None else "fault"


class TrialLog:
    """The trials of an evaluation, on the disk as soon as each is over.

    Args:
        path: of the file, which may hold trials already; without one they are only remembered.

    Attributes:
        trials: by mode, in order.
        calls: sampled actions up to the last of them.

    Raises:
        ValueError: a line of the file is no trial, or not the next one.
    """

    def __init__(self, path: Path | None) -> None:
        self.trials: dict[Mode, list[Trial]] = {mode: [] for mode in MODES}
        self.calls, self._file = 0, None
        if path is None:
            return
        rows = read_lines(path)
        for line, row in enumerate(rows, 1):
            try:
                self._take(row["mode"], Trial(**row["trial"]), row["calls"])
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(
                    f"{path}:{line} is not the next trial ({error}); remove it and what follows"
                ) from error
        part = path.with_suffix(".part")  # a last line that was torn goes, so that the next one begins anew
        part.write_text("".join(json.dumps(row) + "\n" for row in rows))
        part.replace(path)
        self._file = path.open("a")

    def add(self, mode: Mode, trial: Trial, calls: int) -> None:
        """A trial is over; `calls` are the sampled actions up to now."""
        self._take(mode, trial, calls)
        if self._file is not None:
            self._file.write(json.dumps({"mode": mode, "calls": calls, "trial": asdict(trial)}) + "\n")
            self._file.flush()
            os.fsync(self._file.fileno())

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _take(self, mode: Mode, trial: Trial, calls: int) -> None:
        if trial.number != len(self.trials[mode]):
            raise ValueError(f"{mode} has trial {trial.number} where {len(self.trials[mode])} follows")
        self.trials[mode].append(trial)
        self.calls = calls


def _plain(start: TrialStart) -> dict[str, Any]:
    """Where a trial begins: its seed and, of an arm, the offset from the target (m, rad)."""
    offset = start.options.get("offset")
    return {"seed": start.seed, "offset": None if offset is None else offset.tolist()}
