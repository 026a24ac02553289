"""Learner and actor in one process, in lockstep: exact updates per environment step, the same every time under a seed."""

from typing import Protocol

from agent.types import Metrics
from launch.actor import Actor, Episode
from launch.evaluate import Evaluator, Score
from launch.learner import Learner

OFFLINE_BLOCK = 100  # minibatches per program of an offline phase: how often progress is seen


class Listener(Protocol):
    """What a run tells while it goes on."""

    def trained(self, phase: str, env_steps: int, updates: int, metrics: Metrics) -> None:
        """A block is done; `metrics` are still on the device and empty where the phase only collects."""

    def episode(self, env_steps: int, episode: Episode) -> None:
        """An episode of training ended."""

    def scored(self, env_steps: int, scores: dict[str, Score]) -> None:
        """The fixed trials were run, with both ways of acting."""

    def boundary(self, env_steps: int) -> None:
        """No episode is open: all that the run needs to go on from here can be saved."""


def run(
    learner: Learner,
    actor: Actor | None,
    evaluator: Evaluator | None,
    listener: Listener,
    block: int = 10,
    every_env_steps: int = 500,
    last_score: int | None = None,
) -> None:
    """Carries out the rest of the learner's plan.

    Args:
        actor: needed where a phase acts.
        evaluator: tests before the first environment step, then every `every_env_steps`, and at the end.
        block: environment steps between two rounds of updates, at most.
        last_score: env_steps of the last evaluation, when a run is taken up again.
    """
    while True:
        if learner.phase.env_steps:
            assert actor is not None
            last_score = _online(learner, actor, evaluator, listener, block, every_env_steps, last_score)
        else:
            _offline(learner, listener, 0 if actor is None else actor.env_steps)
        if learner.is_last_phase:
            break
        learner.enter_next()
    if actor is not None and evaluator is not None and last_score != actor.env_steps:
        _score(learner, actor, evaluator, listener)


def _offline(learner: Learner, listener: Listener, env_steps: int) -> None:
    while learner.remaining > 0:
        metrics = learner.learn(min(OFFLINE_BLOCK, learner.remaining))
        listener.trained(learner.phase.name, env_steps, learner.updates, metrics)


def _online(
    learner: Learner,
    actor: Actor,
    evaluator: Evaluator | None,
    listener: Listener,
    block: int,
    every: int,
    last_score: int | None,
) -> int | None:
    while learner.remaining > 0:
        if actor.between_episodes:
            due = last_score is None or actor.env_steps // every > last_score // every
            if evaluator is not None and due:
                last_score = _score(learner, actor, evaluator, listener)
            listener.boundary(actor.env_steps)
        transitions, episode = actor.run(learner.policy_params(), min(block, learner.remaining))
        learner.ingest(transitions)
        metrics = learner.learn(len(transitions))
        listener.trained(learner.phase.name, actor.env_steps, learner.updates, metrics)
        if episode is not None:
            listener.episode(actor.env_steps, episode)
    return last_score


def _score(learner: Learner, actor: Actor, evaluator: Evaluator, listener: Listener) -> int:
    actor.abandon()
    listener.scored(actor.env_steps, evaluator.both(learner.policy_params()))
    return actor.env_steps
