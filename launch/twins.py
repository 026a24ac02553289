"""How true the simulated twins of D4RL's Adroit tasks are: human recordings replayed on them, and experts that act on them."""

from pathlib import Path
from typing import Any

import numpy as np

from sim.adroit_scenes import DOOR_OPEN_RAD
from sim.d4rl import D4RLEnv, D4RLTask
from sim.d4rl_tasks import find_d4rl_task
from sim.expert import Expert, read_arrays

DEMONSTRATIONS = "adroit_door_human25.npz"
EXPERTS = {"pen": "dapg_expert_policy_pen.npz", "door": "dapg_expert_policy_door.npz"}
STARTS = ("qpos", "qvel", "door_body_pos")
# Where an observation of the door task has what.
ARM_AND_HAND, DOOR_ANGLE, PALM = slice(0, 27), 28, slice(29, 32)
# What is wanted; sensitivity to contact keeps an open-loop replay on another version of MuJoCo from being exact.
LEAST_CORRELATION, MOST_DIFFERENCE_RAD = 0.95, 0.03
SCORES = (95.0, 110.0)  # D4RL's expert is 100
EPISODES = 400  # one in four fails on pen: the mean of 100 would have a standard error of 6 points, of 400 it is 3


def verify(data: Path, episodes: int = EPISODES) -> dict[str, Any]:
    """Measures the twins against recordings and policies from the original simulator.

    Args:
        data: the folder of DAPG's door demonstrations and of its pen and door experts.
        episodes: how many each expert plays, without noise.

    Returns:
        `checks`, each with `name`, `found`, `wanted` [least, most] and `ok`, an expert's also with `standard_error`,
        `mean_return`, `std_return`, `episodes` and `success`, the share that succeeded; and `ok` over all. Plain JSON types.

    Raises:
        ValueError: a file is missing or not what it should be, or there are no episodes to play.
    """
    if episodes < 1:
        raise ValueError(f"episodes is {episodes}; an expert has to play at least 1")
    for name in (DEMONSTRATIONS, *EXPERTS.values()):
        if not (data / name).is_file():
            raise ValueError(f"{data} has no {name}; give the folder of DAPG's demonstrations and policies")
    checks = _replay(data / DEMONSTRATIONS)
    for name, file in EXPERTS.items():
        checks += _play(find_d4rl_task(name), Expert.load(data / file), episodes)
    return {"checks": checks, "ok": all(check["ok"] for check in checks)}


def door_angles(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The widest door angle of each demonstration, rad: as recorded `(N,)`, and as reached `(N,)` by its actions on the twin.

    Raises:
        ValueError: the file cannot be read, or lacks what a replay needs.
    """
    names = ["observations", "actions", "episode_ends", *(f"init_{name}" for name in STARTS)]
    recording = read_arrays(path, names)
    stops = recording["episode_ends"] + 1  # the file has the number of each last row
    recorded, reached = [], []
    env = find_d4rl_task("door").make()
    for episode, (begin, stop) in enumerate(zip([0, *stops[:-1]], stops, strict=True)):
        seen = recording["observations"][begin:stop]
        angles = [_begin(env, {name: recording[f"init_{name}"][episode] for name in STARTS}, seen[0])[DOOR_ANGLE]]
        # As recorded: what was seen before each action, so not what the last one led to.
        angles += [env.step(action)[0][DOOR_ANGLE] for action in recording["actions"][begin : stop - 1]]
        recorded.append(seen[:, DOOR_ANGLE].max())
        reached.append(max(angles))
    env.close()
    return np.array(recorded), np.array(reached)


def expert_episodes(task: D4RLTask, expert: Expert, episodes: int) -> tuple[np.ndarray, np.ndarray]:
    """Of an expert's episodes without noise, seeds 0, 1, ...: returns `(N,)`, and whether each succeeded `(N,)` bool."""
    env, returns, successes = task.make(), [], []
    for seed in range(episodes):
        observation, _ = env.reset(seed=seed)
        total, success, over = 0.0, False, False
        while not over:
            observation, reward, terminated, truncated, info = env.step(expert.act(observation))
            total, success, over = total + reward, success or info["success"], terminated or truncated
        returns.append(total)
        successes.append(success)
    env.close()
    return np.array(returns), np.array(successes)


def _begin(env: D4RLEnv, start: dict[str, np.ndarray], seen: np.ndarray) -> np.ndarray:
    """Takes the door task to where a recording begins; the observation there.

    The recorded start has the arm at zero, where it was not: its joints are in the first observation `(39,)`, all but the
    slide, which follows from where the palm was.
    """
    start = {**start, "qpos": np.concatenate([[0.0], seen[ARM_AND_HAND], start["qpos"][28:]])}
    found, _ = env.reset(options={"state": start})
    start["qpos"][0] = (seen[PALM] - found[PALM]) @ env.data.joint("ARTz").xaxis
    return env.reset(options={"state": start})[0]


def _replay(path: Path) -> list[dict[str, Any]]:
    recorded, reached = door_angles(path)
    correlation = float(np.corrcoef(recorded, reached)[0, 1])
    difference_rad = float(np.mean(np.abs(recorded - reached)))
    opened = recorded >= DOOR_OPEN_RAD
    again = int(np.sum(reached[opened] >= DOOR_OPEN_RAD))
    return [
        _check("replay: correlation of door angles", correlation, LEAST_CORRELATION, 1.0),
        _check("replay: mean difference of door angles, rad", difference_rad, 0.0, MOST_DIFFERENCE_RAD),
        _check("replay: recorded successes that succeed again", again, int(opened.sum()), int(opened.sum())),
    ]


def _play(task: D4RLTask, expert: Expert, episodes: int) -> list[dict[str, Any]]:
    returns, successes = expert_episodes(task, expert, episodes)
    scores = [task.normalized(raw_return, success) for raw_return, success in zip(returns, successes, strict=True)]
    check = _check(f"expert: normalised score of {task.name}", float(np.mean(scores)), *SCORES)
    error = float(np.std(scores) / np.sqrt(episodes))
    spread = {"standard_error": error, "mean_return": float(returns.mean()), "std_return": float(returns.std())}
    return [{**check, **spread, "episodes": episodes, "success": float(successes.mean())}]


def _check(name: str, found: float, low: float, high: float) -> dict[str, Any]:
    return {"name": name, "found": found, "wanted": [low, high], "ok": bool(low <= found <= high)}
