"""Evaluation: the same fixed trials every time, with the policy's mode and with its samples."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import jax
import numpy as np

from agent.policy import MODE, SAMPLE, Policy, PolicyParams
from agent.types import Behavior, Nets
from launch.attendant import Attendant, Watch, program, unwatched
from launch.rates import wilson
from launch.tasks import Environment, Resets, begin_episode, normalized_score, offset_of, trial_starts

Mode = Literal["mode", "sample"]
MODES: tuple[Mode, ...] = ("mode", "sample")
PLAIN: Mapping[Mode, Behavior] = {"mode": MODE, "sample": SAMPLE}


@dataclass(frozen=True)
class Trial:
    """One trial: its number, success, length, the fault that ended it if any, its raw return, the normalised score where the
    task has one, of an arm the last offset from the target (m), and what the reward judged where the truth is known beside it:
    success is then the truth's. With success, how many seconds it took: of control steps, or by the clock where time passes by
    itself."""

    number: int
    success: bool
    env_steps: int
    fault: str | None
    raw_return: float
    normalized: float | None = None
    final_offset_m: tuple[float, float, float] | None = None
    judged: bool | None = None
    success_s: float | None = None


@dataclass(frozen=True)
class Score:
    """A set of trials.

    Attributes:
        mode: how actions were taken from the policy.
        success, trials: counts.
        normalized: mean normalised score, where the task has one.
        ci95: Wilson's interval of the success rate; scores of earlier versions hold Clopper and Pearson's.
        outcomes: each trial.
        false_positives: trials that the reward judged to succeed and that did not, where the truth is known beside it.
        success_s: quartiles of the seconds to success: a quarter of the successes, half and three quarters took no longer.
    """

    mode: Mode
    success: int
    trials: int
    ci95: tuple[float, float]
    outcomes: tuple[Trial, ...]
    normalized: float | None = None
    false_positives: int | None = None
    success_s: tuple[float, float, float] | None = None

    @property
    def rate(self) -> float:
        return self.success / self.trials

    def to_json(self) -> dict:
        """Plain types."""
        return asdict(self)


def score_of(mode: Mode, outcomes: Sequence[Trial]) -> Score:
    """What trials come to, of which there is at least one."""
    success = sum(t.success for t in outcomes)
    scores = [t.normalized for t in outcomes if t.normalized is not None]
    told = [t.judged and not t.success for t in outcomes if t.judged is not None]
    took_s = [t.success_s for t in outcomes if t.success_s is not None]
    return Score(
        mode,
        success,
        len(outcomes),
        wilson(success, len(outcomes)),
        tuple(outcomes),
        float(np.mean(scores)) if scores else None,
        sum(told) if told else None,
        tuple(np.percentile(took_s, (25, 50, 75)).tolist()) if took_s else None,  # type: ignore[arg-type]
    )


class Evaluator:
    """Runs the trials of a task.

    Args:
        env: the environment; no episode may be under way.
        nets: the run's networks.
        trials: how many.
        seed: of sampled actions, each evaluation using fresh ones, and of drawn trials.
        attendant: looks at an arm that was stopped before the next trial.
        behaviors: how it acts in each mode: see `agent.plan.acting`.
        resets: which trials; see `trial_starts`.
    """

    def __init__(
        self,
        env: Environment,
        nets: Nets,
        trials: int,
        seed: int,
        attendant: Attendant,
        behaviors: Mapping[Mode, Behavior] = PLAIN,
        resets: Resets = "fixed",
    ) -> None:
        self.env, self.attendant = env, attendant
        self.starts = trial_starts(env.task, trials, resets, seed)
        self._policies = {m: Policy(nets, b, jax.random.key(seed + 1)) for m, b in behaviors.items()}

    @property
    def calls(self) -> int:
        """Sampled actions so far; set it when a run is taken up again."""
        return self._policies["sample"].calls

    @calls.setter
    def calls(self, value: int) -> None:
        self._policies["sample"].calls = value

    def __call__(self, now: PolicyParams, mode: Mode, watch: Watch = unwatched) -> Score:
        """All trials with one way of acting; see `trial`."""
        return score_of(mode, [self.trial(now, mode, i, watch) for i in range(len(self.starts))])

    def both(self, now: PolicyParams, watch: Watch = unwatched) -> dict[str, Score]:
        """All trials with each way of acting, by its name; see `trial`."""
        return {mode: self(now, mode, watch) for mode in MODES}

    def trial(self, now: PolicyParams, mode: Mode, number: int, watch: Watch = unwatched) -> Trial:
        """One trial, again where a human discards it; see `attempt`."""
        while (trial := self.attempt(now, mode, number, watch)) is None:
            pass
        return trial

    def attempt(self, now: PolicyParams, mode: Mode, number: int, watch: Watch = unwatched) -> Trial | None:
        """One trial, None where a human discards it; `watch` is called before the first and after each step."""
        policy, start = self._policies[mode], self.starts[number]
        obs = begin_episode(self.env, self.attendant, start.seed, dict(start.options), watch)
        step, held, over, info, raw_return = 0, 0, False, {}, 0.0
        begun_s = time.monotonic()
        while not over:
            watch()
            obs, _, terminated, truncated, info = self.env.step(policy(now, obs, step))
            step, over, raw_return = step + 1, terminated or truncated, raw_return + info["raw_reward"]
            held += info.get("held_steps", 0)
        took_s = self._seconds(step, held, time.monotonic() - begun_s)
        watch()
        if info.get("discarded"):
            return None
        task, judged = self.env.task, bool(info["succeed"])
        success = bool(info.get("truth", judged))
        normalized = normalized_score(task, raw_return, success)
        verdict = judged if "truth" in info else None
        offset, success_s = offset_of(task, obs), took_s if success else None
        return Trial(number, success, step, info.get("fault"), raw_return, normalized, offset, verdict, success_s)

    def _seconds(self, steps: int, held: int, wall_s: float) -> float:
        """How long a trial took, without the periods in which the arm was held still for an operator or its cameras."""
        passes = self.env.pace is not None or self.attendant is not program  # a robot's time passes by itself
        hz = self.env.task.hz
        return round(max(wall_s - held / hz, 0.0), 3) if passes else steps / hz
