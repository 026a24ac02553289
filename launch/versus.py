"""An evaluation held against an earlier one of the same task on the same kind of arm."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from launch.evaluate import MODES, Mode
from launch.rates import Pairs, better, better_of_pairs, difference, mcnemar, pairs_of
from launch.runs import read_json
from robot_env.make import parse_arm

RESULT = "evaluation.json"
NEEDED = {"task": str, "arm_kind": str, "scene": dict, "max_steps": int, "hz": (int, float), "resets": str, "seed": int}


@dataclass(frozen=True)
class Comparison:
    """Two success rates.

    Attributes:
        success, trials: of this one.
        other_success, other_trials: of the earlier one.
        method: `pairs`: the same trials, one by one; `independent`: other trials.
        better: probability that this one is the better: see `launch.rates`, `better_of_pairs` and `better`.
        difference, difference_ci95: of the rates, this one's minus the earlier one's (Newcombe 1998).
        pairs: trials that both, only this one, only that one, or neither won; None where they are not the same trials.
        p_value: McNemar's, exact; None where they are not the same trials.
    """

    success: int
    trials: int
    other_success: int
    other_trials: int
    method: str
    better: float
    difference: float
    difference_ci95: tuple[float, float]
    pairs: Pairs | None = None
    p_value: float | None = None

    @property
    def sentence(self) -> str:
        """For people."""
        counts = f"{self.success}/{self.trials} against {self.other_success}/{self.other_trials}"
        how = "other trials: independent rates, uniform priors"
        if self.pairs is not None:
            how = f"the same trials: {self.pairs.only_this} won, {self.pairs.only_that} lost, p = {self.p_value:.2g}"
        low, high = self.difference_ci95
        gap = f"success rate {self.difference:+.2f} (95% {low:+.2f} to {high:+.2f})"
        return f"{counts}: better with probability {_probability(self.better)} ({how}); {gap}"


def versus(this: Sequence[bool], that: Sequence[bool], same: bool) -> Comparison:
    """Compares outcomes, at least one of each; where they are of the `same` trials, as many as both have."""
    if same:
        count = min(len(this), len(that))
        this, that = this[:count], that[:count]
    counts = (sum(this), len(this), sum(that), len(that))
    if not same:
        gap, *ci95 = difference(*counts)
        return Comparison(*counts, "independent", better(*counts), gap, (ci95[0], ci95[1]))
    pairs = pairs_of(this, that)
    gap, *ci95 = difference(*counts, pairs.phi)
    return Comparison(*counts, "pairs", better_of_pairs(pairs), gap, (ci95[0], ci95[1]), pairs, mcnemar(pairs))


def compare(result: Mapping[str, Any], earlier: Mapping[str, Any]) -> dict[str, Any]:
    """By mode the comparison of two evaluations, with its sentence; and what makes them less comparable."""
    count = min(len(result["starts"]), len(earlier["starts"]))
    same = result["starts"][:count] == earlier["starts"][:count]
    found: dict[str, Any] = {}
    for mode in MODES:
        if mode in result and mode in earlier:
            this, that = ([bool(t["success"]) for t in each[mode]["outcomes"]] for each in (result, earlier))
            one = versus(this, that, same)
            found[mode] = {**asdict(one), "sentence": one.sentence}
    warnings = []
    if not same:
        drawn = [f"{each['resets']}, seed {each['seed']}" for each in (earlier, result)]
        warnings.append(f"its starts and scenes ({drawn[0]}) are other ones than here ({drawn[1]})")
    if earlier.get("reward") != result["reward"]:
        judges = [each.get("reward") or "the task's geometry" for each in (earlier, result)]
        warnings.append(f"it was judged by {judges[0]}, this one by {judges[1]}")
    return {**found, "warnings": warnings}


def read_earlier(folder: Path, about: Mapping[str, Any], modes: Sequence[Mode]) -> dict[str, Any]:
    """The result in the folder of an earlier evaluation.

    Raises:
        ValueError: there is none, or it is of another task, kind of arm or scene, or acted otherwise.
    """
    path = folder / RESULT
    if not path.is_file():
        raise ValueError(f"--against {folder}: it holds no {RESULT}; give the --out of a finished `segue evaluate`")
    earlier = read_json(path)
    has = [mode for mode in MODES if isinstance(earlier, dict) and mode in earlier]
    if not has or not _is_result(earlier, has):
        raise ValueError(f"--against {folder}: its {RESULT} is damaged or of another version; evaluate that run again")
    for name, that, this in _facts(earlier, about):
        if that != this:
            raise ValueError(
                f"--against {folder}: its {name} is {that}, this one's is {this}; compare what differs in its policy only"
            )
    if not set(modes) & set(has):
        raise ValueError(
            f"--against {folder}: it acted by {', '.join(has)}, this one by {', '.join(modes)}; "
            f"give --modes {' '.join(has)}"
        )
    return earlier


def kind_of(arm: str) -> str:
    """Which kind of arm that is, wherever it stands."""
    written = parse_arm(arm)
    return f"{written.name}, simulated" if written.simulated and written.name != "twin" else written.name


def _facts(earlier: Mapping[str, Any], about: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """What must be alike: name, there and here."""
    pairs = [(name, earlier[key], about[key]) for key, name in (("task", "task"), ("arm_kind", "arm"))]
    there, here = earlier["scene"], about["scene"]
    pairs += [(f"scene.{name}", there.get(name), here.get(name)) for name in {**there, **here}]
    return pairs + [(name, earlier[name], about[name]) for name in ("max_steps", "hz")]


def _is_result(earlier: Mapping[str, Any], modes: Sequence[str]) -> bool:
    """Whether it holds what a comparison needs."""
    if not all(isinstance(earlier.get(name), kind) for name, kind in NEEDED.items()):
        return False
    if not isinstance(earlier.get("starts"), list):
        return False
    outcomes = [earlier[mode].get("outcomes") if isinstance(earlier[mode], dict) else None for mode in modes]
    return all(
        isinstance(each, list) and each and all(isinstance(t, dict) and "success" in t for t in each)
        for each in outcomes
    )


def _probability(value: float) -> str:
    return "above 0.99" if value > 0.995 else "below 0.01" if value < 0.005 else f"{value:.2f}"
