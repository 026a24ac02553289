"""From recipes to what `agent` works with: networks, phases and plans."""

import math
from collections.abc import Callable
from dataclasses import fields, replace
from functools import cache
from typing import Any

import numpy as np

from agent.adopt import make_nets
from agent.bridges import find_bridge
from agent.bridges.parts import linear
from agent.heads import Networks
from agent.methods import find_method
from agent.optim import Adam
from agent.plan import check_phase, plan, prepared, with_human_share
from agent.policy import exploration
from agent.replay.entry import Layout
from agent.replay.journal import JournalInfo
from agent.types import ENCODER, Method, Nets, Phase, Scheduled
from encoders.sight import Sight
from encoders.spatial import Vision
from encoders.trunk import Trunk, trunk_from
from launch.callable_policy import CallablePolicy
from launch.recipes import Learning, Offline, Online
from launch.tasks import AnyTask, cameras_of, info_of, spaces_of


def obs_shapes_of(task: AnyTask) -> dict[str, tuple[int, ...]]:
    """Shape of one observation by name, of vectors."""
    return {"state": spaces_of(task)[0]["state"].shape or ()}


def sight_of(task: AnyTask, vision: Vision) -> Sight | None:
    """What a run sees with; None where its task has no cameras. Raises `ValueError` where the trunk cannot be had."""
    cameras = cameras_of(task)
    return Sight(vision, cameras, _trunk(vision.trunk, vision.mixtures)) if cameras else None


@cache
def _trunk(text: str, mixtures: int = 0) -> Trunk:
    return replace(_trunk(text), mixtures=mixtures) if mixtures else trunk_from(text)


def statistics_of(task: AnyTask, vision: Vision) -> dict[str, tuple[int, ...]]:
    """Shape of the statistics of each observation that has some."""
    sight = sight_of(task, vision)
    return obs_shapes_of(task) if sight is None else {**obs_shapes_of(task), **sight.statistics}


def learning_with(method: str, learning: Learning) -> Learning:
    """The networks that an offline method is made for, where the run's are as they are by default.

    Raises:
        ValueError: the method is unknown, or its networks do not go with the run's.
    """
    plain = Networks()
    wanted = {
        name: x
        for name, x in find_method(method).networks.items()
        if getattr(learning.networks, name) == getattr(plain, name)
    }
    return replace(learning, networks=replace(learning.networks, **wanted))


def networks_of(task: AnyTask, learning: Learning) -> Nets:
    """The networks of a run on a task."""
    return make_nets(
        obs_shapes=obs_shapes_of(task),
        action_dim=task.action_dim,
        networks=learning.networks,
        optimizer={
            "actor": Adam(learning.actor_lr),
            "critic": Adam(learning.critic_lr),
            "value": Adam(learning.critic_lr),
            "temperature": Adam(learning.temperature_lr),
            ENCODER: Adam(learning.critic_lr),
        },
        discount=task.discount,
        tau=learning.tau,
        temperature=learning.temperature,
        target_entropy=learning.target_entropy,
        sight=sight_of(task, learning.vision),
    )


def offline_phases(offline: Offline) -> tuple[Phase, ...]:
    """Pre-training, after what its method learns first. Raises `ValueError` for an unknown method or coefficient."""
    return prepared([offline_phase(offline)])


def offline_phase(offline: Offline) -> Phase:
    """The pre-training phase. Raises `ValueError` for an unknown method or coefficient."""
    method = find_method(offline.method)
    if method.not_offline:
        raise ValueError(f"--offline.method {offline.method}: {method.not_offline}; choose another method")
    if not 0 < offline.rate < math.inf or (offline.rate != 1 and not method.optimizer):
        wanted = (
            "give a positive number" if method.optimizer else "the method brings no learning rates along, leave it out"
        )
        raise ValueError(f"--offline.rate {offline.rate}: {wanted}")
    own = {g: replace(o, learning_rate=offline.rate * o.learning_rate) for g, o in method.optimizer.items()}
    method = replace(method, optimizer=own)
    phase = Phase(
        "offline",
        method,
        updates=offline.updates,
        batch_size=offline.batch_size,
        shares={"offline": 1.0},
        coef=offline.coef,
        before_updates=offline.before_updates,
    )
    check_phase(phase)
    return phase


def pretrained(online: Online) -> Phase:
    """A stand-in for the pre-training that a checkpoint has behind it."""
    return Phase("offline", find_method(online.after), updates=1, shares={"offline": 1.0})


def online_plan(online: Online, offline: Phase | None = None) -> tuple[Phase, ...]:
    """The checked phases of an experiment. Raises `ValueError` in one sentence where they make no sense.

    Args:
        offline: the offline phase; by default a stand-in.
    """
    method = find_method(online.method)
    if method.not_online:
        raise ValueError(f"--online.method {online.method}: {method.not_online}; choose another method")
    if method.rollout is not None:
        _check_rollouts(online)
    phase = Phase(
        "online",
        method,
        env_steps=online.env_steps,
        utd=online.utd,
        batch_size=online.batch_size,
        collect=exploration(method),
        coef={**_cooling(method, online), **{k: v for k, v in online.coef.items() if k not in method.cools}},
        before_updates=online.before_updates,
        rollout=0 if method.rollout is None else online.block,
    )
    return plan(offline or pretrained(online), with_human(bridge_of(online), online.human_share), phase)


def with_human(bridge: Any, share: float) -> Callable[[Phase, Phase], tuple[Phase, ...]]:
    """The bridge, whose online phases draw a share of each batch from what humans did. Raises `ValueError` as they are made."""
    return lambda offline, online: with_human_share(bridge(offline, online), share)


def bridge_of(online: Online) -> Any:
    """The recipe's bridge. Raises `ValueError` for an unknown name or setting, or a policy that it has no use for."""
    bridge = find_bridge(online.bridge, online.bridge_settings)
    if online.policy is None:
        return bridge
    if not any(field.name == "policy" for field in fields(bridge)):
        raise ValueError(
            f"bridge {online.bridge!r} takes no policy; leave --online.policy out, or choose the bridge clone"
        )
    return replace(bridge, policy=CallablePolicy(online.policy))


def _cooling(method: Method, online: Online) -> dict[str, Scheduled]:
    start = {**method.coef, **online.coef}
    return {name: linear(start[name], share * start[name], online.env_steps) for name, share in method.cools.items()}


def _check_rollouts(online: Online) -> None:
    """Raises `ValueError` where an on-policy method would not find the whole of a rollout, or not of its own policy."""
    where = f"--online.method {online.method}: it learns on-policy"
    if online.pace == "free":
        raise ValueError(f"{where}, and running free, actors act with older policies; leave out --online.pace free")
    if online.replay == "host":
        raise ValueError(f"{where}, from rollouts that are put in order on the device; leave out --online.replay host")
    if online.replay_capacity < online.block:
        raise ValueError(
            f"{where}, from rollouts of {online.block} steps, and the replay holds {online.replay_capacity}; "
            "give a larger --online.replay-capacity or a smaller --online.block"
        )


def fine_tuning_phases(online: Online) -> tuple[Phase, ...]:
    """The phases that are left after pre-training: all of them where the bridge starts from nothing."""
    offline = pretrained(online)
    phases = online_plan(online, offline)
    behind = next((i for i, phase in enumerate(phases) if phase is offline), -1)
    return phases[behind + 1 :]


def starts_from_nothing(online: Online) -> bool:
    """Whether the bridge leaves the offline result aside. Raises `ValueError` where the combination makes no sense."""
    return len(fine_tuning_phases(online)) == len(online_plan(online))


def journal_info(task: AnyTask, provenance: str) -> JournalInfo:
    """What a journal of the task says of itself."""
    observed = spaces_of(task)[0].spaces
    obs = {name: (np.dtype(space.dtype).str, tuple(space.shape or ())) for name, space in observed.items()}
    return JournalInfo(**vars(info_of(task, provenance)), layout=Layout(obs, task.action_dim))
