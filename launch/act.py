"""The actor's process: acts for a learner that is elsewhere, and goes on while it is away."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launch.actor import Performer, make_performer, new_session
from launch.address import Address
from launch.attendant import Attendant
from launch.build import fine_tuning_phases, journal_info, networks_of, statistics_of
from launch.judging import make_judged_env
from launch.keys import Keys
from launch.link import Link
from launch.recipe_files import structure
from launch.recipes import FinetuneRecipe
from launch.rig import Rig
from launch.sockets import ActorSockets
from launch.spool import Full, Spool
from launch.tasks import Environment, find_task
from launch.wire import params_specs
from robot_env.tasks import Task

PAUSE_S = 0.05  # between two looks while the learner catches up
NO_RIG = Rig()


@dataclass(frozen=True)
class Acting:
    """How an actor's process acts.

    Attributes:
        actor_id: its number among the run's actors.
        realtime: hold the task's control rate, as an arm does; otherwise as fast as the twin goes.
        patience_s: how long to wait for a learner that does not answer, before the run begins and, in lockstep, at each order.
        spool_mb: megabytes of undelivered data to keep on the disk.
        spool_full: what to do when that is reached: stop, or drop the oldest data and count it.
        parent_pid: stop when this process, which must have started this one, is gone; 0 for none.
    """

    actor_id: int = 0
    realtime: bool = False
    patience_s: float = 60.0
    spool_mb: int = 20_000
    spool_full: Full = "stop"
    parent_pid: int = 0

    def __post_init__(self) -> None:
        for name, low in (("actor_id", 0), ("patience_s", 0.1), ("spool_mb", 1), ("parent_pid", 0)):
            if not getattr(self, name) >= low:
                raise ValueError(f"actor: {name} is {getattr(self, name)}; give at least {low}")


def act(
    address: Address, keys: Keys | None, folder: Path, acting: Acting, peer: str | None = None, rig: Rig = NO_RIG
) -> dict[str, Any]:
    """Joins a learner, acts until its run is finished, and returns what was done.

    Raises:
        LearnerAway: the learner does not answer; what was not delivered is in the spool.
        SpoolFull: the learner has been away for too long.
        ArmFault: a fault waits for a human.
    """
    spool = Spool(folder / "spool", acting.spool_mb << 20, acting.spool_full)
    with closing(spool):
        sockets = ActorSockets(address, keys, peer)
        with closing(Link(sockets, spool, acting.actor_id, acting.patience_s, acting.parent_pid)) as link:
            session = new_session()
            recipe = structure(link.join(session), FinetuneRecipe)
            task = find_task(recipe.task)
            with equipped_env(recipe, acting.realtime, rig) as (env, attendant):
                nets, phases = networks_of(task, recipe.learning), fine_tuning_phases(recipe.online)
                statistics = statistics_of(task, recipe.learning.vision)
                link.begin(journal_info(task, "").layout, params_specs(nets, phases, statistics))
                performer = make_performer(recipe, nets, phases, env, attendant, link.tell, acting.actor_id, session)
                (run_free if recipe.online.pace == "free" else run_lockstep)(link, performer)
                link.flush()
        return summary(performer, spool)


@contextmanager
def equipped_env(recipe: FinetuneRecipe, realtime: bool, rig: Rig) -> Iterator[tuple[Environment, Attendant]]:
    """The environment of a run with what stands beside its arm, and who attends it; closed at the end, with the devices.

    Raises:
        ValueError: the task has no use for what is there.
        ConnectionError: a device cannot be opened.
    """
    task = find_task(recipe.task)
    rig.check(task)
    human = rig.human(task) if isinstance(task, Task) else None
    try:
        # A human needs time to pass as it does on an arm.
        env = make_judged_env(
            task, recipe.arm, recipe.reward, recipe.learning.vision, realtime or rig.by_hand, rig.cameras, human
        )
        with closing(env):
            yield env, rig.attendant(recipe.arm, human)
    finally:
        if human is not None:
            human.close()


def run_lockstep(link: Link, performer: Performer) -> None:
    """Carries out one order after the other, each at its place in the stream."""
    placed = False
    while True:
        ordered = link.wait_order(performer.position)
        if ordered is None:
            return
        order, now = ordered
        if not placed:
            performer.place(order.place)
            placed = True
        performer.perform(order, now, link.check)


def run_free(link: Link, performer: Performer) -> None:
    """Acts with the newest parameters until the run is finished.

    Between episodes it evaluates where that is due, and waits where it is as far ahead of the learner as the governor allows.
    While the learner is away, an actor with a rate of its own goes on. A twin without one would be hours ahead in a minute: it
    waits.
    """
    placed, realtime = False, performer.actor.env.pace is not None
    while True:
        newest = link.newest()
        if newest is None:
            link.await_first_order()
            continue
        order, now, current = newest
        if not placed:
            performer.place(order.place)
            placed = True
        if performer.actor.between_episodes:
            if order.finished:
                return
            if order.evaluation > performer.evaluations:
                if current:
                    performer.evaluate(order.evaluation, now, link.check)
                else:
                    link.pause(PAUSE_S)
                continue
            if performer.position - order.after >= order.steps and (not realtime or link.learner_is_there):
                link.pause(PAUSE_S)
                continue
        performer.step(now, order.phase, link.check)


def summary(performer: Performer, spool: Spool) -> dict[str, Any]:
    """What an actor did, and how well it held the control rate in training and evaluations, where it had one."""
    actor = performer.actor
    done: dict[str, Any] = {"actor_id": actor.actor_id, "session": f"{actor.session:016x}"}
    done |= {"env_steps": actor.sequence, "evaluations": performer.evaluations, "dropped": spool.dropped}
    return done if actor.env.pace is None else {**done, **actor.env.pace.summary()}
