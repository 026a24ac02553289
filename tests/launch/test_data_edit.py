"""Edits give whole episodes, say what was done, and leave what they were given as it was."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.replay.dataset import Dataset
from agent.replay.journal_write import write_journal
from launch.data_edit import Keep, filtered, merged, relabelled, split, write_all
from launch.data_facts import normalized_scores
from launch.data_scan import Scan
from launch.data_tools import Source, judged, raw_info, stretches
from launch.tasks import find_task
from tests.d4rl_data import demonstration_data
from tests.launch.data_samples import episode_bytes, walk, with_column

lengths = st.lists(st.integers(1, 7), min_size=1, max_size=8)
PEG, DOOR = "peg_insertion", "door-binary"


def some_walk(draw_lengths, data, task=PEG):
    wins = data.draw(st.sets(st.integers(0, len(draw_lengths) - 1)))
    return walk(task, draw_lengths, sorted(wins), seed=data.draw(st.integers(0, 3)))


@given(lengths, st.data())
def test_a_filter_keeps_whole_episodes_in_order_and_exactly_those_asked_for(sizes, data):
    dataset = some_walk(sizes, data)
    keep = Keep(
        min_length=data.draw(st.none() | st.integers(1, 7)),
        max_length=data.draw(st.none() | st.integers(1, 7)),
        min_return=data.draw(st.none() | st.sampled_from([0.0, 1.0])),
        successful=data.draw(st.booleans()),
        source=data.draw(st.none() | st.sampled_from(["policy", "human", "offline"])),
    )
    before, parts = episode_bytes(dataset), stretches(dataset)
    names = ("policy", "human", "offline")
    want = [
        whole
        for number, (whole, part) in enumerate(zip(before, parts, strict=True))
        if (keep.min_length or 0) <= sizes[number] <= (keep.max_length or 99)
        and (keep.min_return is None or dataset.columns["reward"][part].sum() >= keep.min_return)
        and (not keep.successful or dataset.columns["success"][part][-1])
        and (keep.source is None or names[number % 3] == keep.source)
    ]
    if keep == Keep() or not want:
        with pytest.raises(ValueError, match="data filter: "):
            filtered(dataset, keep)
    else:
        out = filtered(dataset, keep)
        assert episode_bytes(out) == want
        assert out.info.provenance.startswith("A random walk. Kept ")
    assert episode_bytes(dataset) == before


def test_a_least_return_of_nothing_is_a_bound_too():
    dataset = walk(PEG, [3, 4], [1])
    assert len(filtered(dataset, Keep(min_return=0.0))) == 7
    assert Keep(min_return=0.0, successful=True).words == "min return 0, successful"


def test_returns_are_of_raw_rewards():
    dataset = walk(PEG, [3, 4], [1])
    trained = dataset.under(replace(dataset.info, reward_scale=10.0, reward_shift=-5.0))
    assert len(filtered(trained, Keep(min_return=1.0))) == 4


@given(st.lists(st.integers(1, 6), min_size=2, max_size=9), st.floats(0.01, 0.99), st.integers(0, 5))
def test_the_parts_of_a_split_merge_to_the_same_episodes(sizes, share, seed):
    dataset = walk(PEG, sizes, [0])
    first, rest = split(dataset, share, seed)
    whole = merged([first, rest], ["a", "b"])
    assert sorted(episode_bytes(whole)) == sorted(episode_bytes(dataset))
    assert len(episode_bytes(first)) == min(max(round(share * len(sizes)), 1), len(sizes) - 1)
    for part in (first, rest):  # each in the order that it had
        places = [episode_bytes(dataset).index(whole) for whole in episode_bytes(part)]
        assert places == sorted(places)
    assert episode_bytes(split(dataset, share, seed)[0]) == episode_bytes(first)


def test_an_episode_without_an_end_is_truncated_before_another_follows():
    dataset = walk(PEG, [3, 4])
    open_end = with_column(dataset, "truncated", np.arange(7) == 2)
    whole = merged([open_end, dataset], ["a", "b"])
    assert [part.stop - part.start for part in stretches(whole)] == [3, 4, 3, 4]
    assert not open_end.columns["truncated"][-1]


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (walk(DOOR, [3]), "has task door-binary, a has peg_insertion"),
        (with_column(walk(PEG, [3]), "action", np.zeros((3, 6))), "has actions"),
    ],
)
def test_what_differs_is_not_merged(other, words):
    with pytest.raises(ValueError, match=words):
        merged([walk(PEG, [3]), other], ["a", "b"])


@given(lengths, st.booleans(), st.data())
def test_relabelling_ends_at_the_first_success_and_changes_nothing_the_second_time(sizes, only, data):
    dataset = walk(DOOR, sizes)
    angle = data.draw(st.lists(st.sampled_from([0.0, 1.2, 1.35, 1.5]), min_size=len(dataset), max_size=len(dataset)))
    following = dataset.columns["next_obs/state"].copy()
    following[:, 28] = angle
    dataset = with_column(dataset, "next_obs/state", following)
    seen = following[:, 28] >= 1.35
    wins = [part for part in stretches(dataset) if seen[part].any()]
    if only and not wins:
        with pytest.raises(ValueError, match="none of"):
            relabelled(dataset, DOOR, only)
        return
    out = relabelled(dataset, DOOR, only)
    parts = stretches(out)
    assert len(parts) == (len(wins) if only else len(sizes))
    for part in parts:
        won = out.columns["next_obs/state"][part][:, 28] >= 1.35
        assert not won[:-1].any()
        np.testing.assert_array_equal(out.columns["reward"][part], np.where(won, 0.0, -1.0))
        np.testing.assert_array_equal(out.columns["terminated"][part], won)
        np.testing.assert_array_equal(out.columns["success"][part], won)
        assert bool(out.columns["truncated"][part][-1]) != bool(won[-1])
    again = relabelled(out, DOOR, only)
    assert episode_bytes(again) == episode_bytes(out)
    assert out.info.truncation_value == pytest.approx(-100.0)


def test_a_failure_that_was_terminal_is_truncated_in_a_sparse_task():
    dataset = walk(DOOR, [3, 4])
    ended = with_column(dataset, "terminated", dataset.columns["truncated"])
    out = relabelled(ended, DOOR)
    assert not out.columns["terminated"].any()
    assert np.flatnonzero(out.columns["truncated"]).tolist() == [2, 6]


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ("door", "dense"),
        ("antmaze-umaze", "do not tell of success"),
        ("pen-binary", r"state \(39\), task 'pen-binary' has state \(45\)"),
        ("nothing", "unknown"),
    ],
)
def test_a_reward_that_cannot_be_told_is_refused(task, words):
    with pytest.raises(ValueError, match=words):
        relabelled(walk(DOOR, [3]), task)


def test_the_human_door_demonstrations_succeed_seven_times():
    data = np.load(demonstration_data() / "adroit_door_human25.npz")
    ends = np.zeros(len(data["rewards"]), bool)
    ends[data["episode_ends"]] = True
    state = data["observations"]
    following = np.concatenate([state[1:], state[-1:]])
    info = walk(DOOR, [1]).info
    columns = ({"state": state}, {"state": following}, data["actions"], data["rewards"], np.zeros_like(ends), ends)
    dataset = Dataset.of(info, *columns)
    out = relabelled(dataset, DOOR, only_successes=True)
    won = [data["success"][part] for part in stretches(dataset) if data["success"][part].any()]
    assert len(won) == 7
    # The step that leads to the first observation of success is the last one.
    assert [part.stop - part.start for part in stretches(out)] == [int(np.argmax(each)) for each in won]


def test_several_journals_are_written_all_or_none(tmp_path):
    good = walk(PEG, [3])
    bad = with_column(good, "reward", np.full(3, np.nan))
    with pytest.raises(ValueError, match="reward nan"):
        write_all([good, bad], [tmp_path / "a", tmp_path / "b"])
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="given twice"):
        write_all([good, good], [tmp_path / "a", tmp_path / "a"])
    write_all([good, good], [tmp_path / "a", tmp_path / "b"])
    assert episode_bytes(Dataset.load(tmp_path / "b")) == episode_bytes(good)
    with pytest.raises(ValueError, match="already there"):
        write_all([good, good], [tmp_path / "c", tmp_path / "b"])
    assert not (tmp_path / "c").exists()


def test_no_journal_is_written_within_another(tmp_path):
    made = walk(PEG, [3, 2])
    write_journal(made, tmp_path / "whole")
    for folders, words in [
        ([tmp_path / "whole" / "inner"], "lie within the journal"),
        ([tmp_path / "a", tmp_path / "a" / "rest"], "lie within the journal"),
        ([tmp_path / "a", tmp_path / "x" / ".." / "a"], "given twice"),
    ]:
        with pytest.raises(ValueError, match=words):
            write_all([made] * len(folders), folders)
    assert [p.name for p in tmp_path.iterdir()] == ["whole"]


@pytest.mark.parametrize("bound", [np.nan, np.inf])
def test_a_bound_that_is_no_number_is_refused(bound):
    with pytest.raises(ValueError, match="min-return is"):
        filtered(walk(PEG, [3, 2]), Keep(min_return=bound))


def test_a_kitchen_is_scored_by_what_is_complete():
    """D4RL's files, and our own, record the running count: its sum over an episode is no score."""
    task = find_task("kitchen-complete")
    counts = np.array([0, 1, 1, 2, 3, 3, 0, 2, 4], float)
    ends = np.zeros(9, bool)
    ends[[5, 8]] = True
    obs = np.zeros((9, 60), np.float32)
    info = raw_info("kitchen-complete")[0]
    action = np.zeros((9, 9), np.float32)
    made = Dataset.of(info, {"state": obs}, {"state": obs}, action, counts, ends & (counts == 4), ends & (counts < 4))
    source = Source(judged(made, task), task)
    np.testing.assert_array_equal(normalized_scores(source, Scan(source.dataset, task)), [75.0, 100.0])
    assert source.dataset.success_rate() == 0.5
