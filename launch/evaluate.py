"""Evaluation: the same fixed trials every time, with the policy's mode and with its samples."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal

import jax
import numpy as np
from scipy.stats import beta

from agent.policy import MODE, SAMPLE, Policy, PolicyParams
from agent.types import Behavior, Nets
from launch.attendant import Attendant, Watch, unwatched
from launch.tasks import Environment, begin_episode, normalized_score, offset_of, trial_starts

Mode = Literal["mode", "sample"]
MODES: tuple[Mode, ...] = ("mode", "sample")
PLAIN: Mapping[Mode, Behavior] = {"mode": MODE, "sample": SAMPLE}


@dataclass(frozen=True)
class Trial:
    """One trial: its number, success, length, the fault that ended it if any, its raw return, the normalised score where the
    task has one, of an arm the last offset from the target (m), and what the reward judged where the truth is known beside it:
    success is then the truth's."""

    number: int
    success: bool
    env_steps: int
    fault: str | None
    raw_return: float
    normalized: float | None = None
    final_offset_m: tuple[float, float, float] | None = None
    judged: bool | None = None


@dataclass(frozen=True)
class Score:
    """A set of trials.

    Attributes:
        mode: how actions were taken from the policy.
        success, trials: counts.
        normalized: mean normalised score, where the task has one.
        ci95: Clopper-Pearson interval of the success rate.
        outcomes: each trial.
        false_positives: trials that the reward judged to succeed and that did not, where the truth is known beside it.
    """

    mode: Mode
    success: int
    trials: int
    ci95: tuple[float, float]
    outcomes: tuple[Trial, ...]
    normalized: float | None = None
    false_positives: int | None = None

    @property
    def rate(self) -> float:
        return self.success / self.trials

    def to_json(self) -> dict:
        """Plain types."""
        return asdict(self)


def clopper_pearson(success: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """The exact interval of a success rate."""
    tail = (1.0 - confidence) / 2.0
    low = 0.0 if success == 0 else float(beta.ppf(tail, success, trials - success + 1))
    high = 1.0 if success == trials else float(beta.ppf(1.0 - tail, success + 1, trials - success))
    return low, high


class Evaluator:
    """Runs the fixed trials of a task.

    Args:
        env: the environment; no episode may be under way.
        nets: the run's networks.
        trials: how many.
        seed: of sampled actions; each evaluation uses fresh ones.
        attendant: looks at an arm that was stopped before the next trial.
        behaviors: how it acts in each mode: see `agent.plan.acting`.
    """

    def __init__(
        self,
        env: Environment,
        nets: Nets,
        trials: int,
        seed: int,
        attendant: Attendant,
        behaviors: Mapping[Mode, Behavior] = PLAIN,
    ) -> None:
        self.env, self.attendant = env, attendant
        self.starts = trial_starts(env.task, trials)
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
        outcomes = tuple(self.trial(now, mode, i, watch) for i in range(len(self.starts)))
        success = sum(t.success for t in outcomes)
        scores = [t.normalized for t in outcomes if t.normalized is not None]
        mean = float(np.mean(scores)) if scores else None
        told = [t.judged and not t.success for t in outcomes if t.judged is not None]
        wrong = sum(told) if told else None
        return Score(mode, success, len(outcomes), clopper_pearson(success, len(outcomes)), outcomes, mean, wrong)

    def both(self, now: PolicyParams, watch: Watch = unwatched) -> dict[str, Score]:
        """All trials with each way of acting, by its name; see `trial`."""
        return {mode: self(now, mode, watch) for mode in MODES}

    def trial(self, now: PolicyParams, mode: Mode, number: int, watch: Watch = unwatched) -> Trial:
        """One trial; `watch` is called before the first and after each step."""
        policy, start = self._policies[mode], self.starts[number]
        obs = begin_episode(self.env, self.attendant, start.seed, dict(start.options), watch)
        step, over, info, raw_return = 0, False, {}, 0.0
        while not over:
            watch()
            obs, _, terminated, truncated, info = self.env.step(policy(now, obs, step))
            step, over, raw_return = step + 1, terminated or truncated, raw_return + info["raw_reward"]
        watch()
        task, judged = self.env.task, bool(info["succeed"])
        success = bool(info.get("truth", judged))
        normalized = normalized_score(task, raw_return, success)
        verdict = judged if "truth" in info else None
        return Trial(number, success, step, info.get("fault"), raw_return, normalized, offset_of(task, obs), verdict)
