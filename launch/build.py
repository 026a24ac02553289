"""From recipes to what `agent` works with: networks, phases and plans."""

import numpy as np

from agent.adopt import make_nets
from agent.bridges import find_bridge
from agent.methods import find_method
from agent.optim import Adam
from agent.plan import check_phase, plan
from agent.policy import exploration
from agent.replay.entry import Layout
from agent.replay.journal import JournalInfo
from agent.types import Nets, Phase
from launch.recipes import Learning, Offline, Online
from launch.tasks import AnyTask, info_of, spaces_of


def obs_shapes_of(task: AnyTask) -> dict[str, tuple[int, ...]]:
    """Shape of one observation by name."""
    return {"state": spaces_of(task)[0]["state"].shape or ()}


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
        },
        discount=task.discount,
        tau=learning.tau,
        temperature=learning.temperature,
        target_entropy=learning.target_entropy,
    )


def offline_phase(offline: Offline) -> Phase:
    """The pre-training phase. Raises `ValueError` for an unknown method or coefficient."""
    method = find_method(offline.method)
    if method.not_offline:
        raise ValueError(f"--offline.method {offline.method}: {method.not_offline}; choose another method")
    phase = Phase(
        "offline",
        method,
        updates=offline.updates,
        batch_size=offline.batch_size,
        shares={"offline": 1.0},
        coef=offline.coef,
    )
    check_phase(phase)
    return phase


def online_plan(online: Online, offline: Phase | None = None) -> tuple[Phase, ...]:
    """The checked phases of an experiment. Raises `ValueError` in one sentence where they make no sense.

    Args:
        offline: the offline phase; by default a stand-in for one that a checkpoint has behind it.
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
        coef=online.coef,
        rollout=0 if method.rollout is None else online.block,
    )
    return plan(offline or offline_phase(Offline()), find_bridge(online.bridge, online.bridge_settings), phase)


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
    phases = online_plan(online)
    return phases if phases[0].env_steps else phases[1:]


def starts_from_nothing(online: Online) -> bool:
    """Whether the bridge leaves the offline result aside. Raises `ValueError` where the combination makes no sense."""
    return len(fine_tuning_phases(online)) == len(online_plan(online))


def journal_info(task: AnyTask, provenance: str) -> JournalInfo:
    """What a journal of the task says of itself."""
    observed = spaces_of(task)[0].spaces
    obs = {name: (np.dtype(space.dtype).str, tuple(space.shape or ())) for name, space in observed.items()}
    return JournalInfo(**vars(info_of(task, provenance)), layout=Layout(obs, task.action_dim))
