"""The actor turns what happens on an arm into transitions, never lets a bad number through, and carries out each order once."""

import itertools

import numpy as np
import pytest

from agent.policy import PolicyParams
from agent.replay.entry import Begin, Entry, Scores, Step
from agent.types import SOURCES
from launch.actor import Actor, Performer, episode_seed, new_session
from launch.attendant import TWINS_RUNNER, Attendant, nobody, program
from launch.orders import Order, Place
from robot_env.env import RobotEnv
from robot_env.faults import ArmFault
from robot_env.intervention import ScriptedIntervention
from robot_env.pace import Pace
from tests.robot_env.scripted_arm import TOY, Judge, ScriptedArm

NOW = PolicyParams({}, None, 7)  # type: ignore[arg-type]  (the scripted policy reads no parameters)


class Plays:
    """A policy that plays a list of actions over and over, by the number of its call."""

    def __init__(self, *actions: np.ndarray) -> None:
        self.actions, self.calls = actions, 0
        self.asked: list[int] = []

    def __call__(self, now, obs, step):
        self.asked.append(self.calls)
        return self.actions[self.calls % len(self.actions)]


def actor(*actions: np.ndarray, attendant: Attendant = program, judge=lambda state: False, **env_options) -> Actor:
    env = RobotEnv(TOY, ScriptedArm(), success=Judge(judge), **env_options)
    plays = Plays(*(actions or (np.zeros(6, np.float32),)))
    return Actor(env, {0: plays, 1: plays}, 3, attendant, actor_id=5, session=9)  # type: ignore[dict-item]


def run(acting: Actor, steps: int) -> list[Step]:
    """So many control steps, fewer where an episode ends."""
    taken: list[Step] = []
    while len(taken) < steps and not (taken and taken[-1].ends_episode):
        taken.append(acting.step(NOW))
    return taken


def test_transitions_are_a_chain_that_ends_in_truncation_at_the_time_limit():
    acting = actor(np.full(6, 0.1, np.float32))
    first = run(acting, 8)
    assert len(first) == 8
    assert not acting.between_episodes
    told = first + run(acting, 100)
    steps = [step.transition for step in told]
    assert len(steps) == TOY.max_steps
    assert acting.between_episodes
    for a, b in itertools.pairwise(steps):
        np.testing.assert_array_equal(a.next_obs["state"], b.obs["state"])
    assert [step.first for step in told] == [True] + [False] * (TOY.max_steps - 1)
    assert [t.sequence for t in steps] == list(range(TOY.max_steps))
    assert [t.truncated for t in steps] == [False] * (TOY.max_steps - 1) + [True]
    assert not any(t.terminated for t in steps)
    assert {(t.actor_id, t.session, t.policy_version, t.reward) for t in steps} == {(5, 9, 7, TOY.reward_shift)}


def test_success_terminates():
    (step,) = run(actor(judge=lambda state: True), 10)
    assert (step.transition.terminated, step.transition.truncated) == (True, False)
    assert step.success
    assert step.transition.reward == TOY.reward_scale + TOY.reward_shift


def test_both_the_requested_and_the_executed_action_are_recorded():
    acting = actor(np.array([0, 0, 1, 0, 0, 0], np.float32))  # down, for ever: the floor of the box clips it
    steps = [step.transition for step in run(acting, TOY.max_steps)]
    assert all(t.action[2] == 1 for t in steps)
    assert abs(steps[0].executed[2] - 1) < 1e-6
    assert abs(steps[-1].executed[2]) < 0.5


def test_a_humans_action_replaces_the_policys():
    human = np.full(6, -0.2, np.float32)
    acting = actor(np.full(6, 0.3, np.float32), intervention=ScriptedIntervention([None, human]))
    steps = [step.transition for step in run(acting, 3)]
    assert [SOURCES[t.source] for t in steps] == ["policy", "human", "policy"]
    np.testing.assert_array_equal(steps[1].action, human)


def test_an_action_that_is_not_finite_ends_the_episode_and_never_reaches_the_replay():
    acting = actor(np.full(6, np.nan, np.float32))
    (step,) = run(acting, 5)
    np.testing.assert_array_equal(step.transition.action, np.zeros(6))
    assert (step.transition.terminated, step.transition.truncated) == (False, True)
    assert "finite" in (step.fault or "")
    assert acting.step(NOW).first  # acknowledged by the program: the next episode begins


def test_without_an_attendant_a_fault_waits_for_a_human():
    acting = actor(np.full(6, np.nan, np.float32), attendant=nobody)
    run(acting, 5)
    with pytest.raises(ArmFault):
        acting.step(NOW)


def test_a_fault_during_reset_is_acknowledged_and_tried_once_more():
    acting = actor()
    acting.env.arm.script_reads(TimeoutError("no reply"))
    assert acting.step(NOW).first
    assert acting.env.faults[0].acknowledged_by == TWINS_RUNNER


def test_an_abandoned_episode_is_followed_by_a_new_one():
    acting = actor()
    run(acting, 4)
    acting.abandon()
    assert acting.between_episodes
    assert acting.episodes == 1
    steps = run(acting, 100)
    assert len(steps) == TOY.max_steps
    assert steps[0].first
    assert steps[0].transition.sequence == 4


def test_resets_follow_from_the_seed_the_episodes_number_and_the_actor():
    assert episode_seed(1, 2) == episode_seed(1, 2) == episode_seed(1, 2, 0)
    assert len({episode_seed(s, e, a) for s in range(5) for e in range(5) for a in range(5)}) == 125
    one, other = actor(), actor()
    run(one, TOY.max_steps)
    other.episodes = 1  # as one that is taken up after its first episode
    np.testing.assert_array_equal(*(acting.step(NOW).transition.obs["state"] for acting in (one, other)))


def test_sessions_are_never_the_same():
    sessions = {new_session() for _ in range(100)}
    assert len(sessions) == 100
    assert all(0 < session < 1 << 63 for session in sessions)


class Trials:
    """Counts evaluations: each draws ten sampled actions."""

    def __init__(self) -> None:
        self.calls = 0

    def both(self, now, watch=None):
        self.calls += 10
        return {}


def performer(**how) -> tuple[Performer, list[Entry]]:
    told: list[Entry] = []
    return Performer(actor(**how), Trials(), "toy", told.append), told  # type: ignore[arg-type]


def test_a_session_is_a_stream_of_numbered_entries_that_begins_with_its_begin():
    performing, told = performer()
    performing.perform(Order(1, 0, after=1, steps=3), NOW)
    performing.perform(Order(1, 0, after=4, evaluation=1), NOW)
    performing.perform(Order(1, 1, after=5, steps=2), NOW)
    assert [entry.number for entry in told] == list(range(7))
    assert {entry.session for entry in told} == {9}
    kinds = [type(entry.event) for entry in told]
    assert kinds == [Begin, Step, Step, Step, Scores, Step, Step]
    assert performing.position == 7
    assert told[0].event.actor_id == 5
    assert told[4].event == Scores(1, 10, {})
    assert [entry.event.first for entry in told if isinstance(entry.event, Step)] == [True, False, False, True, False]


def test_a_block_ends_with_its_episode():
    performing, told = performer()
    performing.perform(Order(1, 0, after=1, steps=TOY.max_steps + 5), NOW)
    assert performing.position == len(told) == 1 + TOY.max_steps
    assert performing.actor.between_episodes


def test_a_new_session_goes_on_drawing_where_the_last_one_ended():
    """The draws of an action follow from the steps taken, of a reset from the episodes begun, of trials from their calls."""
    whole, told = performer(judge=lambda state: False)
    whole.perform(Order(1, 0, steps=TOY.max_steps), NOW)
    whole.evaluate(1, NOW)
    whole.perform(Order(1, 0, steps=2), NOW)
    later, told_later = performer(judge=lambda state: False)
    later.place(Place(episodes=1, env_steps=TOY.max_steps, evaluation_calls=10))
    later.perform(Order(1, 0, steps=2), NOW)
    assert later.actor._policies[0].asked == whole.actor._policies[0].asked[-2:] == [TOY.max_steps, TOY.max_steps + 1]
    for a, b in zip(told[-2:], told_later[-2:], strict=True):
        np.testing.assert_array_equal(a.event.transition.obs["state"], b.event.transition.obs["state"])
    later.evaluate(2, NOW)
    assert told_later[-1].event.calls == 20


def test_a_step_tells_how_the_control_loop_did():
    plain = run(actor(), 3)
    assert [step.control for step in plain] == [{}, {}, {}]
    acting, now_s = actor(pace=Pace(10.0, lambda: now_s[0], lambda s: now_s.append(now_s.pop() + s))), [0.0]
    told = [acting.step(NOW)]
    now_s[0] += 0.25
    told += [acting.step(NOW), acting.step(NOW)]
    assert told[0].control == {"late_s": 0.0}
    assert told[1].control == pytest.approx({"late_s": 0.15, "step_s": 0.25})
    assert told[2].control == pytest.approx({"late_s": 0.0, "step_s": 0.1})
