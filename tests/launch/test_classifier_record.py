"""Labelled frames from the twin: as many as asked for, of the kinds that matter, labelled by the truth."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from launch import classifier_record
from launch.classifier_record import MOST, SHARES, Moment, check_recordable, choose, quotas, record
from launch.tasks import find_task
from robot_env.tasks import Scene

TASK = find_task("peg_insertion_image")
KINDS = ["success", *SHARES]


@pytest.fixture(scope="module")
def recorded():
    told = []
    return record(TASK, 9, 20, 0, told.append), told


def test_frames_are_as_many_and_of_the_kinds_asked_for(recorded):
    data, told = recorded
    assert Counter(data.kind.tolist()) == {"success": 9, "far": 4, "rim": 8, "inside": 8}
    assert (data.label == (data.kind == "success")).all()
    assert data.cameras == TASK.cameras
    assert data.frame_shape == (128, 128, 3)
    assert told[-1] == len(data) == 29
    assert max(Counter(zip(data.episode.tolist(), data.kind.tolist(), strict=True)).values()) <= MOST
    assert len(np.unique(data.episode[data.label])) >= 3
    assert len({frame.tobytes() for frame in data.frames["wrist_1"]}) > 25  # no two alike, or hardly


def test_labels_are_what_a_picture_shows(recorded):
    """The deeper the peg, the lower the yellow frame around the hole stands in the picture."""
    data, _ = recorded
    frames = data.frames["wrist_1"].astype(int)
    yellow = (frames[..., 0] > 200) & (frames[..., 1] > 150) & (frames[..., 2] < 100)
    rows = np.array([np.nonzero(picture.any(1))[0].min() if picture.any() else 0 for picture in yellow])
    down = rows[data.kind == "success"]
    assert np.ptp(down) <= 8
    assert np.median(rows[data.kind == "inside"]) < np.median(down)
    assert rows[data.kind == "rim"].max() < down.min()


def test_a_seed_decides_everything(recorded):
    data, _ = recorded
    again = record(TASK, 9, 20, 0)
    assert again.episode.tolist() == data.episode.tolist()
    assert again.step.tolist() == data.step.tolist()
    np.testing.assert_array_equal(again.frames["wrist_2"], data.frames["wrist_2"])


def test_what_never_comes_ends_the_recording(monkeypatch):
    monkeypatch.setattr(classifier_record, "FRUITLESS", 2)
    monkeypatch.setattr(classifier_record, "HAND_STEPS", 3)  # never enough to insert
    with pytest.raises(ValueError, match=r"no frame of kind success.* in 2 episodes"):
        record(TASK, 1, 1, 0)


@pytest.mark.parametrize("name", ["peg_insertion", "door-binary", "narrow_passage"])
def test_a_task_without_cameras_is_refused(name):
    with pytest.raises(ValueError, match="it has no cameras; give one that has"):
        check_recordable(find_task(name))


def test_a_task_without_a_script_is_refused():
    with pytest.raises(ValueError, match="there is no script for it"):
        check_recordable(replace(TASK, scene=Scene()))


@given(st.integers(1, 500), st.integers(1, 500))
def test_quotas_add_up_to_what_was_asked_for(positives, negatives):
    wanted = quotas(positives, negatives)
    assert wanted["success"] == positives
    assert sum(wanted.values()) == positives + negatives
    assert min(wanted.values()) >= 0


@pytest.mark.parametrize("numbers", [(0, 5), (5, 0), (-1, 5)])
def test_frames_of_one_label_are_refused(numbers):
    with pytest.raises(ValueError, match="give at least 1 of each"):
        quotas(*numbers)


@given(
    st.lists(st.sampled_from(KINDS), max_size=40),
    st.fixed_dictionaries({kind: st.integers(0, 9) for kind in KINDS}),
    st.integers(0, 9),
)
def test_of_an_episode_only_what_is_wanted_is_taken_and_the_first_success_with_it(kinds, wanted, seed):
    moments = [Moment({}, step, kind) for step, kind in enumerate(kinds)]
    chosen = choose(moments, wanted, np.random.default_rng(seed))
    counts = Counter(moment.kind for moment in chosen)
    for kind in KINDS:
        assert counts[kind] == min(MOST, wanted[kind], kinds.count(kind))
    assert len({moment.step for moment in chosen}) == len(chosen)
    if counts["success"]:
        assert kinds.index("success") in {moment.step for moment in chosen}
