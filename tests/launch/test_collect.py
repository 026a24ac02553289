"""Collected data: mixed in exact shares, whole episodes, the same under a seed; by scripts, at random, by an expert."""

import numpy as np
import pytest

from launch.collect import check_collect, collect, is_good, widened
from launch.data_check import check
from launch.data_tools import Source
from launch.recipes import Collect
from launch.tasks import find_task, info_of
from tests.d4rl_data import demonstration_data

TASK = find_task("peg_insertion")


def test_same_seed_same_data_and_another_seed_other_data():
    a, b, c = (collect(TASK, Collect(transitions=150), seed) for seed in (1, 1, 2))
    for name, column in a.columns.items():
        np.testing.assert_array_equal(column, b.columns[name])
    assert len(a) != len(c) or not np.array_equal(a.columns["action"], c.columns["action"])


def test_episodes_are_whole_and_failures_are_truncated():
    data = collect(TASK, Collect(transitions=400, good_share=0.5), 0)
    end = data.columns["terminated"] | data.columns["truncated"]
    assert end[-1]
    assert sum(e.stop - e.start for e in data.episodes) == len(data) >= 400
    for episode in data.episodes:
        long = episode.stop - episode.start == Collect.max_steps
        assert data.columns["terminated"][episode.stop - 1] or long
    np.testing.assert_array_equal(data.columns["reward"], data.columns["terminated"] - 1.0)


def test_good_hands_succeed_more_often_than_bad_ones():
    good, bad = (collect(TASK, Collect(transitions=1500, good_share=share), 0) for share in (1.0, 0.0))
    assert good.success_rate() > bad.success_rate() + 0.3


def test_the_wider_box_is_wider_across_and_as_high():
    wide = widened(TASK, 1.5)
    np.testing.assert_allclose(np.array(wide.high)[[0, 1, 5]], 1.5 * np.array(TASK.high)[[0, 1, 5]])
    assert wide.low[2] == TASK.low[2]


@pytest.mark.parametrize("settings", [{"transitions": 0}, {"good_share": 1.5}, {"widen": 0.5}])
def test_what_makes_no_sense_is_refused(settings):
    with pytest.raises(ValueError, match=f"collect: {next(iter(settings))} is"):
        Collect(**settings)


PASSAGE = find_task("narrow_passage")


def test_the_passages_scripts_are_of_mixed_quality_and_validate():
    data = collect(PASSAGE, Collect(transitions=5000, good_share=0.3), 0)
    assert check(Source(data, PASSAGE)) == []
    assert 0.25 <= data.success_rate() <= 0.35
    assert data.info.provenance == "scripted in the twin, 30% good and 70% bad hands, seed 0"
    last = [e.stop - 1 for e in data.episodes]
    np.testing.assert_array_equal(np.flatnonzero(data.columns["terminated"] | data.columns["truncated"]), last)
    np.testing.assert_array_equal(data.columns["reward"], data.columns["terminated"] - 1.0)
    np.testing.assert_array_equal(PASSAGE.success_in(data.columns["next_obs/state"]), data.columns["terminated"])
    assert {e.stop - e.start for e in data.episodes if not data.columns["terminated"][e.stop - 1]} == {60}
    again = collect(PASSAGE, Collect(transitions=5000, good_share=0.3), 0)
    np.testing.assert_array_equal(again.columns["action"], data.columns["action"])


def test_good_hands_take_their_exact_share_of_turns():
    for share in (0.0, 0.25, 0.3, 1.0):
        assert sum(is_good(i, share) for i in range(1000)) == 1000 * share
    assert not is_good(0, 0.3)


def test_good_hands_pass_the_gap_and_bad_ones_seldom():
    good, bad = (collect(PASSAGE, Collect(transitions=1500, good_share=share), 1) for share in (1.0, 0.0))
    assert good.success_rate() >= 0.9
    assert bad.success_rate() <= 0.2


def test_random_actions_do_not_find_the_passage():
    data = collect(PASSAGE, Collect(transitions=300, behavior="random"), 0)
    assert set(data.columns["reward"]) == {-1.0}
    assert data.success_rate() == 0.0


DOOR = find_task("door-binary")


def test_random_actions_on_a_simulated_task_are_recorded_with_raw_rewards():
    data = collect(DOOR, Collect(transitions=250, behavior="random"), 3)
    assert [e.stop - e.start for e in data.episodes] == [200, 200]
    assert set(data.columns["reward"]) == {-1.0}
    assert (data.info.reward_scale, data.info.reward_shift) == (1.0, 0.0)
    assert data.info.truncation_value == pytest.approx(-100.0)
    action = data.columns["action"]
    assert np.abs(action).max() <= 1.0
    assert abs(action.mean()) < 0.02
    assert action.std() == pytest.approx(3**-0.5, abs=0.01)
    assert "random" in data.info.provenance
    trained = data.under(info_of(DOOR, ""))
    assert set(trained.columns["reward"]) == {-5.0}
    assert trained.batch().mc_return[0] == pytest.approx(-500.0, rel=1e-4)


def test_an_expert_opens_the_door_and_only_successes_are_kept():
    source = str(demonstration_data() / "dapg_expert_policy_door.npz")
    data = collect(DOOR, Collect(transitions=150, behavior="expert", source=source, only_successes=True), 0)
    assert data.success_rate() == 1.0
    end = [e.stop - 1 for e in data.episodes]
    np.testing.assert_array_equal(np.flatnonzero(data.columns["terminated"]), end)
    np.testing.assert_array_equal(np.flatnonzero(data.columns["reward"] == 0.0), end)
    assert "successful of" in data.info.provenance


def test_luck_at_first_does_not_make_it_go_on_for_ever(monkeypatch):
    played = []

    def episode(env, hand, number, seed):
        played.append(number)
        return [{"success": number == 0}]

    monkeypatch.setattr("launch.collect._episode", episode)
    with pytest.raises(ValueError, match="no success in 3 episodes"):
        collect(DOOR, Collect(transitions=10, behavior="random", only_successes=True, give_up_after=3), 0)
    assert played == [0, 1, 2, 3]


def test_the_last_episode_is_whole_and_success_is_never_found_by_chance():
    with pytest.raises(ValueError, match="no success in 2 episodes of 'door-binary'"):
        collect(DOOR, Collect(transitions=10, behavior="random", only_successes=True, give_up_after=2), 0)


@pytest.mark.parametrize(
    ("task", "settings", "words"),
    [
        ("hopper", {}, "collected with random, expert, policy"),
        ("peg_insertion", {"behavior": "random"}, "collected with scripted"),
        ("hopper", {"behavior": "policy"}, "collect.source None"),
        ("hopper", {"behavior": "random", "source": "x"}, "collect.source x"),
        ("narrow_passage", {"source": "x"}, "collect.source x"),
    ],
)
def test_what_cannot_be_collected_so_is_refused(task, settings, words):
    with pytest.raises(ValueError, match=words):
        check_collect(find_task(task), Collect(**settings))
