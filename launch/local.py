"""Learner and actor in one process, in lockstep: exact updates per environment step, the same every time under a seed."""

from agent.replay.entry import Entry, encode
from launch.actor import Performer, make_performer
from launch.attendant import Attendant
from launch.tasks import Environment
from launch.training import Training


def finetune(training: Training, env: Environment, attendant: Attendant) -> None:
    """Carries out the rest of a run on an environment of this process."""

    def tell(entry: Entry) -> None:
        training.journal.append(entry, encode(entry))

    learner, recipe = training.learner, training.recipe
    while training.work():
        pass  # what an earlier process left in the journal
    performer: Performer = make_performer(recipe, learner.nets, learner.phases, env, attendant, tell)
    session, placed = performer.actor.session, False
    while not training.finished:
        if training.work():
            continue
        order = training.orders({session: performer.position})[session]
        if not placed:
            performer.place(order.place)
            placed = True
        performer.perform(order, training.policy_params())
