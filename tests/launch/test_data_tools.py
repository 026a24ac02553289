"""Data is brought in whole or not at all, with what its numbers mean; and given away again."""

from dataclasses import replace

import numpy as np
import pytest

from agent.replay.dataset import Dataset
from agent.replay.episodes import Tombstones
from agent.replay.journal_info import session_folders
from agent.replay.journal_write import write_journal
from launch.data_tools import Source, bring_in, export, judged, open_journal, open_source, raw_info
from launch.tasks import find_task
from tests.launch.data_samples import episode_bytes, walk, with_column

PEG, DOOR = "peg_insertion", "door-binary"


@pytest.fixture
def file(tmp_path):
    """A door's file in D4RL's format, with two successes in three episodes."""
    export(Source(walk(DOOR, [5, 6, 7], [0, 2]), None), "d4rl", tmp_path / "door.hdf5")
    return tmp_path / "door.hdf5"


@pytest.mark.parametrize("form", ["d4rl", "minari"])
def test_what_goes_out_comes_back(form, tmp_path):
    dataset = walk(DOOR, [5, 6, 7], [0, 2])
    dataset = with_column(dataset, "source", np.full(18, 2, np.int32))
    write_journal(dataset, tmp_path / "journal")
    export(open_journal(tmp_path / "journal"), form, tmp_path / "out.hdf5")
    back = bring_in(tmp_path / "out.hdf5", form, DOOR, tmp_path / "back").dataset
    assert episode_bytes(back) == episode_bytes(dataset)
    assert episode_bytes(Dataset.load(tmp_path / "back")) == episode_bytes(dataset)
    info = back.info
    assert (info.task, info.reward_scale, info.reward_shift, info.discount) == (DOOR, 1.0, 0.0, 0.99)
    assert info.truncation_value == pytest.approx(-100.0)
    assert info.reward == find_task(DOOR).reward
    assert "out.hdf5" in info.provenance


def test_rewards_for_training_go_out_raw(tmp_path):
    dataset = walk(DOOR, [5, 6], [0])
    trained = dataset.under(replace(dataset.info, reward_scale=10.0, reward_shift=5.0, truncation_value=-500.0))
    export(Source(trained, None), "d4rl", tmp_path / "door.hdf5")
    back = open_source(tmp_path / "door.hdf5", "d4rl", DOOR).dataset
    np.testing.assert_array_equal(back.columns["reward"], dataset.columns["reward"])


@pytest.mark.parametrize(
    ("task", "tail"), [("door", 0.0), (DOOR, -100.0), ("antmaze-umaze", 0.0), (PEG, 0.0), ("kitchen-mixed", 0.0)]
)
def test_what_raw_rewards_of_a_cut_episode_end_in(task, tail):
    info, found = raw_info(task)
    assert found == find_task(task)
    assert (info.reward_scale, info.reward_shift) == (1.0, 0.0)
    assert info.truncation_value == pytest.approx(tail)
    # Converted for training it is what the task itself says, where that is not nothing.
    if found.truncation_value:
        each = found.reward_scale * tail * (1.0 - info.discount) + found.reward_shift
        assert each / (1.0 - info.discount) == pytest.approx(found.truncation_value)


@pytest.mark.parametrize(
    ("form", "task", "discount", "words"),
    [
        (None, None, None, "it is no journal; say what it is with --format"),
        ("d4rl", "mine", None, "or give --discount for one of your own"),
        ("d4rl", "mine", 1.5, "not above 0 and at most 1"),
        ("d4rl", DOOR, 0.9, "has 0.99; leave it out"),
    ],
)
def test_sources_that_cannot_be_opened(form, task, discount, words, file):
    with pytest.raises(ValueError, match=words) as refused:
        open_source(file, form, task, discount)
    assert "\n" not in str(refused.value)


def test_a_journal_speaks_for_itself(tmp_path):
    write_journal(walk(PEG, [3]), tmp_path / "run" / "journal")
    assert open_source(tmp_path / "run", None).task == find_task(PEG)
    for arguments in (("d4rl", None), (None, PEG)):
        with pytest.raises(ValueError, match="leave out"):
            open_source(tmp_path / "run", *arguments)
    with pytest.raises(ValueError, match="there is no journal"):
        open_source(tmp_path / "nothing", None)


def test_a_file_of_another_size_is_refused_and_nothing_is_written(file, tmp_path):
    with pytest.raises(ValueError, match=r"observations are state \(39\), task 'pen' has state \(45\)"):
        bring_in(file, "d4rl", "pen", tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["door.hdf5"]
    (tmp_path / "there").mkdir()
    with pytest.raises(ValueError, match="already there"):  # before anything is read
        bring_in(tmp_path / "nothing", "d4rl", DOOR, tmp_path / "there")


def test_a_task_of_ones_own_takes_any_size(file, tmp_path):
    source = bring_in(file, "d4rl", "mine", tmp_path / "out", discount=0.9)
    assert source.task is None
    info = Dataset.load(tmp_path / "out").info
    assert (info.task, info.discount, info.truncation_value) == ("mine", 0.9, 0.0)


def test_numbers_that_are_none_are_refused_or_left_out(tmp_path):
    dataset = walk(DOOR, [5, 6, 7], [0, 2])
    reward = dataset.columns["reward"].copy()
    reward[6] = np.nan
    export(Source(with_column(dataset, "reward", reward), None), "d4rl", tmp_path / "door.hdf5")
    with pytest.raises(ValueError, match=r"1 rows hold numbers that are not finite; .* --finite"):
        bring_in(tmp_path / "door.hdf5", "d4rl", DOOR, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    kept = bring_in(tmp_path / "door.hdf5", "d4rl", DOOR, tmp_path / "out", finite=True).dataset
    assert len(kept) == 12
    assert "1 episodes with numbers that are not finite were left out." in kept.info.provenance


def test_success_is_judged_where_the_data_does_not_tell():
    dataset = walk(DOOR, [5, 6], [0])
    untold = with_column(dataset, "success", np.zeros(11, bool))
    following = dataset.columns["next_obs/state"].copy()
    following[7, 28] = 1.5  # for one step: it has succeeded from there on
    told = judged(with_column(untold, "next_obs/state", following), find_task(DOOR))
    assert np.flatnonzero(told.columns["success"]).tolist() == [4, 7, 8, 9, 10]
    assert told.info.provenance.endswith("Success is judged by the observations.")
    peg = walk(PEG, [5, 6], [1])
    told = judged(with_column(peg, "success", np.zeros(11, bool)), find_task(PEG))
    assert np.flatnonzero(told.columns["success"]).tolist() == [10]
    assert judged(dataset, find_task(DOOR)) is dataset
    assert judged(untold, None) is untold


def test_discarded_and_unfinished_episodes_are_told_of(tmp_path):
    dataset = walk(PEG, [3, 4, 5])
    write_journal(with_column(dataset, "truncated", np.isin(np.arange(12), [2, 6])), tmp_path / "journal")
    session = next(iter(session_folders(tmp_path / "journal")))
    Tombstones.discard(tmp_path / "journal", session, 1, "camera covered", "someone")
    source = open_journal(tmp_path / "journal")
    assert (len(source.dataset), source.discarded, source.unfinished) == (8, 1, 1)
    assert source.remarks == ["1 discarded episodes were left out", "1 unfinished episodes count as truncated"]
    Tombstones.discard(tmp_path / "journal", session, 2, "cut off", "someone")
    assert open_journal(tmp_path / "journal").remarks == ["2 discarded episodes were left out"]
