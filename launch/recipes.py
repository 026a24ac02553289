"""Recipes: everything that decides a run, as frozen dataclasses that are saved with it and can be run again."""

from dataclasses import dataclass, field
from typing import Literal

from agent.adopt import make_nets
from agent.bridges import find_bridge
from agent.heads import Networks
from agent.methods import find_method
from agent.optim import Adam
from agent.plan import plan
from agent.policy import SAMPLE
from agent.types import Nets, Phase
from robot_env.env import make_spaces
from robot_env.tasks import Task


@dataclass(frozen=True)
class Learning:
    """Networks and optimisers, the same in every phase of a run.

    Attributes:
        networks: sizes and kinds.
        actor_lr, critic_lr, temperature_lr: Adam's learning rates.
        tau: step of the moving targets.
        temperature: its initial value.
        target_entropy: nats; None is minus the number of action dimensions.
    """

    networks: Networks = field(default_factory=Networks)
    actor_lr: float = 3e-4
    critic_lr: float = 3e-4
    temperature_lr: float = 3e-4
    tau: float = 0.005
    temperature: float = 1.0
    target_entropy: float | None = None


@dataclass(frozen=True)
class Collect:
    """Offline data of mixed quality from scripts, in a wider box than the task's, as in WSRL's appendix J.

    Attributes:
        transitions: how many at least; the last episode is finished.
        good_share: share of episodes by a mildly noisy script; the rest by a bad one.
        widen: factor on the box and on the range of starts.
    """

    transitions: int = 8000
    good_share: float = 0.5
    widen: float = 1.2


@dataclass(frozen=True)
class Offline:
    """Pre-training.

    Attributes:
        method: its name.
        coef: overrides of the method's coefficients.
        updates: minibatches.
        batch_size: transitions in each.
    """

    method: str = "calql"
    coef: dict[str, float] = field(default_factory=dict)
    updates: int = 40_000
    batch_size: int = 256


@dataclass(frozen=True)
class Online:
    """Fine-tuning.

    Attributes:
        method: its name.
        coef: overrides of the method's coefficients.
        bridge: how offline meets online.
        bridge_settings: the bridge's own numbers, such as `steps` of `warm_up`.
        env_steps: in all, warm-up included.
        utd: minibatches per environment step.
        batch_size: transitions in each minibatch.
        replay_capacity: transitions kept.
        replay: where the replay lives; `device` is faster, `host` holds more.
        block: environment steps between two rounds of updates, at most; an episode's end makes a round shorter.
    """

    method: str = "sac"
    coef: dict[str, float] = field(default_factory=dict)
    bridge: str = "warm_up"
    bridge_settings: dict[str, float] = field(default_factory=dict)
    env_steps: int = 20_000
    utd: int = 4
    batch_size: int = 256
    replay_capacity: int = 200_000
    block: int = 10


@dataclass(frozen=True)
class Evaluation:
    """When and how often to test on the task's fixed trials.

    Attributes:
        trials: fixed initial poses.
        every_env_steps: between two evaluations while fine-tuning; the first is before any step, the last at the end.
        headline: which way of acting the headline figures use; both are always reported.
    """

    trials: int = 20
    every_env_steps: int = 500
    headline: Literal["mode", "sample"] = "mode"


def networks_of(task: Task, learning: Learning) -> Nets:
    """The networks of a run on a task."""
    obs_space, _ = make_spaces(task)
    return make_nets(
        obs_shapes={"state": obs_space["state"].shape or ()},
        action_dim=task.action_dim,
        networks=learning.networks,
        optimizer={
            "actor": Adam(learning.actor_lr),
            "critic": Adam(learning.critic_lr),
            "temperature": Adam(learning.temperature_lr),
        },
        discount=task.discount,
        tau=learning.tau,
        temperature=learning.temperature,
        target_entropy=learning.target_entropy,
    )


def offline_phase(offline: Offline) -> Phase:
    """The pre-training phase. Raises `ValueError` for an unknown method or coefficient."""
    return Phase(
        "offline",
        find_method(offline.method),
        updates=offline.updates,
        batch_size=offline.batch_size,
        shares={"offline": 1.0},
        coef=offline.coef,
    )


def online_plan(offline: Offline, online: Online) -> tuple[Phase, ...]:
    """The checked phases of an experiment. Raises `ValueError` in one sentence where they make no sense."""
    phase = Phase(
        "online",
        find_method(online.method),
        env_steps=online.env_steps,
        utd=online.utd,
        batch_size=online.batch_size,
        collect=SAMPLE,
        coef=online.coef,
    )
    return plan(offline_phase(offline), find_bridge(online.bridge, online.bridge_settings), phase)
