"""The actor turns what happens on an arm into transitions, and never lets a bad number through."""

import itertools

import numpy as np
import pytest

from agent.policy import PolicyParams
from agent.types import SOURCES
from launch.actor import Actor, episode_seed
from robot_env.env import RobotEnv
from robot_env.faults import ArmFault
from robot_env.intervention import ScriptedIntervention
from tests.robot_env.scripted_arm import TOY, ScriptedArm

NOW = PolicyParams({}, None, 7)  # type: ignore[arg-type]  (the scripted policy reads no parameters)


class Plays:
    """A policy that plays a list of actions over and over."""

    def __init__(self, *actions: np.ndarray) -> None:
        self.actions, self.calls = actions, 0

    def __call__(self, now, obs, step):
        self.calls += 1
        return self.actions[(self.calls - 1) % len(self.actions)]


def actor(*actions: np.ndarray, operator: str | None = "test", success=lambda state: False, **env_options) -> Actor:
    env = RobotEnv(TOY, ScriptedArm(), success=success, **env_options)
    return Actor(env, Plays(*(actions or (np.zeros(6, np.float32),))), seed=3, operator=operator, actor_id=5)  # type: ignore[arg-type]


def test_transitions_are_a_chain_that_ends_in_truncation_at_the_time_limit():
    acting = actor(np.full(6, 0.1, np.float32))
    first, nothing = acting.run(NOW, 8)
    assert nothing is None
    assert not acting.between_episodes
    rest, episode = acting.run(NOW, 100)
    steps = first + rest
    assert len(steps) == TOY.max_steps == episode.env_steps
    assert acting.between_episodes
    for a, b in itertools.pairwise(steps):
        np.testing.assert_array_equal(a.next_obs["state"], b.obs["state"])
    assert [t.sequence for t in steps] == list(range(TOY.max_steps))
    assert [t.truncated for t in steps] == [False] * (TOY.max_steps - 1) + [True]
    assert not any(t.terminated for t in steps)
    assert {(t.actor_id, t.policy_version, t.reward) for t in steps} == {(5, 7, TOY.reward_shift)}


def test_success_terminates():
    acting = actor(success=lambda state: True)
    steps, episode = acting.run(NOW, 10)
    assert [(t.terminated, t.truncated) for t in steps] == [(True, False)]
    assert episode.success
    assert steps[0].reward == TOY.reward_scale + TOY.reward_shift


def test_both_the_requested_and_the_executed_action_are_recorded():
    acting = actor(np.array([0, 0, 1, 0, 0, 0], np.float32))  # down, for ever: the floor of the box clips it
    steps, _ = acting.run(NOW, TOY.max_steps)
    assert all(t.action[2] == 1 for t in steps)
    assert abs(steps[0].executed[2] - 1) < 1e-6
    assert abs(steps[-1].executed[2]) < 0.5


def test_a_humans_action_replaces_the_policys():
    human = np.full(6, -0.2, np.float32)
    acting = actor(np.full(6, 0.3, np.float32), intervention=ScriptedIntervention([None, human]))
    steps, _ = acting.run(NOW, 3)
    assert [SOURCES[t.source] for t in steps] == ["policy", "human", "policy"]
    np.testing.assert_array_equal(steps[1].action, human)


def test_an_action_that_is_not_finite_ends_the_episode_and_never_reaches_the_replay():
    acting = actor(np.full(6, np.nan, np.float32))
    steps, episode = acting.run(NOW, 5)
    assert len(steps) == 1
    assert np.isfinite(steps[0].action).all()
    np.testing.assert_array_equal(steps[0].action, np.zeros(6))
    assert (steps[0].terminated, steps[0].truncated) == (False, True)
    assert "finite" in episode.fault
    acting.run(NOW, 1)  # acknowledged in the operator's name: the next episode begins


def test_without_an_operator_a_fault_waits_for_a_human():
    acting = actor(np.full(6, np.nan, np.float32), operator=None)
    acting.run(NOW, 5)
    with pytest.raises(ArmFault):
        acting.run(NOW, 1)


def test_a_fault_during_reset_is_acknowledged_and_tried_once_more():
    acting = actor()
    acting.env.arm.script_reads(TimeoutError("no reply"))
    steps, _ = acting.run(NOW, 1)
    assert len(steps) == 1
    assert acting.env.faults[0].acknowledged_by == "test"


def test_an_abandoned_episode_is_followed_by_a_new_one():
    acting = actor()
    acting.run(NOW, 4)
    acting.abandon()
    assert acting.between_episodes
    assert acting.episodes == 1
    steps, _ = acting.run(NOW, TOY.max_steps)
    assert len(steps) == TOY.max_steps


def test_resets_follow_from_the_seed_and_the_episodes_number():
    assert episode_seed(1, 2) == episode_seed(1, 2)
    assert len({episode_seed(s, e) for s in range(5) for e in range(5)}) == 25
    whole, resumed = actor(), actor()
    whole.run(NOW, TOY.max_steps)
    resumed.resume(episodes=1, env_steps=TOY.max_steps)
    one, other = whole.run(NOW, 1)[0][0], resumed.run(NOW, 1)[0][0]
    np.testing.assert_array_equal(one.obs["state"], other.obs["state"])
    assert one.sequence == other.sequence == TOY.max_steps
