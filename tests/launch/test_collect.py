"""Collected data: mixed in exact shares, whole episodes, the same under a seed."""

import numpy as np
import pytest

from launch.collect import collect, widened
from launch.recipes import Collect
from robot_env.tasks import find_task

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
