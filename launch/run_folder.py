"""A rehearsal's run folder, read and checked: what a report is made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launch.runs import read_json, read_lines

NUMBER = (int, float)
STAGES = {"offline": "offline Cal-QL", "finetuned": "WSRL", "rlpd": "RLPD"}
METHODS = {"wsrl": "WSRL", "rlpd": "RLPD"}
MODES = {"mode": "mode", "sample": "sampled"}

# What must be there, and of which type.
RECIPE = {"command": str, "task": str, "preset": str, "seed": int, "online": dict, "evaluation": dict}
RESULT = {"by_mode": dict, "headline_mode": str, "area": dict, "env_steps": int}
COUNT = {"success": int, "trials": int, "ci95": list}
WAITED = {"wall_s": NUMBER, "learner_waited_s": NUMBER, "actors_waited_s": NUMBER}
LOST = {"sessions": int, "transitions_lost": int, "duplicates_dropped": int, "messages_refused": dict}
PACE = {"pace": str, "env_steps": int, "updates": int, **WAITED, **LOST}
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
        pace: by method, how learner and actor kept pace; of those that had a process each.
    """

    folder: Path
    recipe: Mapping[str, Any]
    result: Mapping[str, Any] | None
    logs: Mapping[str, list[dict[str, Any]]]
    pace: Mapping[str, Mapping[str, Any]]

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
    paths = {method: folder / method / "pace.json" for method in METHODS}
    pace = {m: need(read_json(path), PACE, path, folder) for m, path in paths.items() if path.exists()}
    return Run(folder, recipe, result, {name: read_log(folder, name) for name in LOGS}, pace)


def read_log(folder: Path, name: str) -> list[dict[str, Any]]:
    """The rows of a log such as `wsrl/scores`, each with what a report needs of it."""
    path = folder / f"{name}.jsonl"
    rows = read_lines(path)
    for number, row in enumerate(rows, 1):
        where = f"{path}:{number}"
        need(row, LINES[name.split("/")[1]], where, folder)
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
