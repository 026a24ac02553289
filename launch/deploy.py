"""`segue deploy`: a checkpoint acts on an arm, and nobody learns."""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax

from agent.policy import Policy, PolicyParams
from agent.types import SOURCES
from launch.act import equipped_env
from launch.actor import Actor
from launch.attendant import nobody
from launch.evaluate import Mode
from launch.policies import acting_recipe, load_policy, ways_of_acting
from launch.rates import wilson
from launch.recipes import check_seed
from launch.rig import Rig

HUMAN = SOURCES.index("human")


@dataclass(frozen=True)
class Deployment:
    """How a checkpoint acts.

    Attributes:
        arm: Which arm: `twin`, or NAME:ADDRESS such as serl:http://127.0.0.1:5000; `,simulated` after it for a twin there.
        episodes: How many; 0 goes on until Ctrl-C.
        mode: The most likely action of the policy, or a sampled one.
        reward: Folder of a classifier that judges success; by default the task's geometry does.
        seed: Of the start poses and of sampled actions.
    """

    arm: str = "twin"
    episodes: int = 0
    mode: Mode = "mode"
    reward: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_seed(self.seed)
        if self.episodes < 0:
            raise ValueError(f"--episodes {self.episodes}: give at least 1, or 0 to go on until Ctrl-C")


@dataclass(frozen=True)
class Episode:
    """What came of one.

    Attributes:
        number: from 0.
        success: as the judge, or the human, had it.
        env_steps: control steps.
        human_steps: of these, the steps in which a human acted.
        fault: why the arm was stopped, if it was.
    """

    number: int
    success: bool
    env_steps: int
    human_steps: int
    fault: str | None


def deploy(
    folder: Path,
    deployment: Deployment,
    realtime: bool,
    rig: Rig,
    told: Callable[[Episode], None],
    record: Path | None = None,
) -> dict[str, Any]:
    """Acts, episode after episode, until there are enough, Ctrl-C, or a fault that waits for a human; returns the counts.

    Args:
        folder: of a pretrain or finetune run.
        realtime: hold the task's control rate.
        told: takes each episode as it ends. One that the human discards does not count.
        record: a file that a JSON line for each episode is added to.

    Raises:
        ValueError: the checkpoint, the arm or what stands beside it makes no sense.
        ArmFault: the arm was stopped while it was brought to a start pose.
    """
    now, nets, meta = load_policy(folder)
    recipe = acting_recipe(meta, deployment.arm, deployment.reward)
    policy = Policy(nets, ways_of_acting(meta)[deployment.mode], jax.random.key(deployment.seed))
    done: list[Episode] = []
    with equipped_env(recipe, realtime, rig) as (env, attendant):
        actor = Actor(env, {0: policy}, deployment.seed, attendant)
        try:
            for episode in _act(actor, now, deployment.episodes, attendant is not nobody):
                done.append(episode)
                told(episode)
                if record is not None:
                    _add(record, episode)
        except KeyboardInterrupt:
            pass  # this is how it ends; the arm is closed and the counts are told
        pace = {} if env.pace is None else {"realtime": env.pace.summary()}
    success, stopped = sum(episode.success for episode in done), done[-1].fault if done else None
    return {
        "episodes": len(done),
        "success": success,
        "ci95": [*wilson(success, len(done))],
        "stopped": stopped,
        **pace,
    }


def _act(actor: Actor, now: PolicyParams, wanted: int, attended: bool) -> Iterator[Episode]:
    """Episodes; the last one is the one in which a fault waits for a human."""
    number = 0
    while wanted == 0 or number < wanted:
        env_steps = human_steps = 0
        while True:
            step = actor.step(now)
            env_steps, human_steps = env_steps + 1, human_steps + (step.transition.source == HUMAN)
            if step.ends_episode:
                break
        if not step.discarded:
            yield Episode(number, step.success, env_steps, human_steps, step.fault)
            number += 1
        if step.fault is not None and not attended:
            return


def _add(path: Path, episode: Episode) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps(asdict(episode)) + "\n")
