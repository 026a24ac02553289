"""`segue classifier ...`, as people use it."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest

from encoders.classifier import load_classifier
from encoders.classifier_training import FOLDS, Fit
from encoders.trunk import trunk_from
from launch import classifier_stages
from launch.classifier_data import load_labelled, save_labelled
from launch.classifier_report import false_by_kind, sheet
from tests.launch.test_classifier_data import made

TASK = "peg_insertion_image"
CAMERAS = {"wrist_1": (128, 128, 3), "wrist_2": (128, 128, 3)}


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """Two folders of frames from the twin, made through the command line's own functions."""
    from launch.classifier_record import record
    from launch.tasks import find_task

    folder = tmp_path_factory.mktemp("recordings")
    for name, seed in (("first", 0), ("second", 1)):
        save_labelled(record(find_task(TASK), 12, 20, seed), folder / name)
    return folder


@pytest.fixture
def quick(monkeypatch):
    """Training that takes a moment, on fewer frames."""
    monkeypatch.setattr(classifier_stages, "FIT", Fit(updates=60, batch_size=32, learning_rate=2e-3, every=20))
    monkeypatch.setattr(classifier_stages, "COPIES", 1)


def test_the_whole_line(segue, quick, recordings, tmp_path):
    options = ["--task", TASK, "--out", tmp_path / "new", "--positives", "2", "--negatives", "5", "--seed", "7"]
    code, out, _ = segue("classifier", "record", *options, "--json")
    assert code == 0
    assert json.loads(out) | {"episodes": 0} == {
        "data": str(tmp_path / "new"),
        "positives": 2,
        "negatives": 5,
        "episodes": 0,
        "made by": load_labelled(tmp_path / "new").provenance,
    }
    both = [recordings / "first", recordings / "second"]
    code, out, err = segue("classifier", "train", *both, "--out", tmp_path / "c", "--consecutive", "3", "--json")
    assert code == 0, err
    told = json.loads(out)
    assert told["frames"]["positives"] == 24
    assert sum(told["confusion"].values()) == 64
    assert len(told["losses"]) == FOLDS
    assert json.loads((tmp_path / "c" / "report.json").read_text()).items() <= told.items()
    for path in told["pictures"]:
        assert cv2.imread(path).std() > 5.0
    found = load_classifier(tmp_path / "c", trunk_from("resnet10@0"), CAMERAS)
    about = found.about
    assert (about.task, about.consecutive, about.threshold) == (TASK, 3, told["threshold"])
    assert (about.precision, about.recall) == (told["precision"], told["recall"])
    assert "seed 0; scripted in the twin" in about.provenance
    assert "random weights, seed 0" in about.provenance

    code, out, _ = segue("classifier", "check", tmp_path / "c", tmp_path / "new", "--json", "--out", tmp_path / "k")
    checked = json.loads(out)
    assert code == 0
    assert checked["frames"]["positives"] == 2
    assert checked["threshold"] == told["threshold"]
    assert checked["false_by_kind"]["far"] == "0 of 1"
    assert sorted(p.name for p in (tmp_path / "k").iterdir()) == [
        "curves.png", "false_negatives.png", "false_positives.png", "report.json"
    ]  # fmt: skip
    code, out, _ = segue("classifier", "check", tmp_path / "c", tmp_path / "new")
    assert code == 0
    assert "precision" in out
    assert "losses" not in out

    code, _, err = segue("classifier", "check", tmp_path / "c", tmp_path / "new", "--encoder", "resnet10@1")
    assert code == 2
    assert (
        f"trained on features of encoder {trunk_from('resnet10@0').name}, these are of {trunk_from('resnet10@1').name}"
        in err
    )


def swapped(data):
    """The same frames from cameras of other names."""
    return replace(data, frames=dict(zip(("left", "right"), data.frames.values(), strict=True)))


def test_mistakes_are_one_sentence_and_leave_nothing(segue, quick, recordings, tmp_path):
    first = recordings / "first"
    save_labelled(swapped(load_labelled(first)), tmp_path / "left_right")
    few = load_labelled(first)
    save_labelled(few.rows(np.isin(few.episode, np.unique(few.episode[few.label])[:2])), tmp_path / "few")
    record, train = ("classifier", "record", "--task"), ("classifier", "train")
    out = ("--out", tmp_path / "out")
    for command, message in (
        ((*record, "peg_insertion", *out), "it has no cameras"),
        ((*record, "nothing", *out), "task 'nothing' is unknown"),
        ((*record, TASK, *out, "--positives", "0"), "give at least 1 of each"),
        ((*record, TASK, *out, "--seed", "-1"), "--seed -1"),
        ((*record, TASK, *out, "--labels", "x.csv"), "give its file with --camera"),
        ((*record, TASK, *out, "--camera", "wrist_1=opencv:0"), "has the cameras wrist_1, wrist_2"),
        ((*record, TASK, "--out", first), "already there"),
        ((*train, tmp_path / "none", *out), "there is no frames.npz"),
        ((*train, first, "--out", first), "already there"),
        ((*train, first, *out, "--consecutive", "0"), "--consecutive 0"),
        ((*train, first, *out, "--encoder", "resnet9@0"), "architecture 'resnet9' is unknown"),
        ((*train, first, tmp_path / "left_right", *out), "cameras ('left', 'right'), those of"),
        ((*train, tmp_path / "few", *out), "2 episodes have frames of success"),
        (("classifier", "check", tmp_path / "none", first), "there is no such file"),
    ):
        code, _, err = segue(*command)
        assert (code, err.count("\n")) == (2, 1), err
        assert message in err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["few", "left_right"]


def test_a_sheet_shows_the_worst_with_score_episode_and_step():
    data = made(30, size=32)
    score = np.linspace(0, 1, 30)
    empty, one, many = (sheet(data, score, np.arange(n), "title") for n in (0, 1, 30))
    assert (empty == 255).mean() > 0.95
    view = np.hstack([data.frames[name][0] for name in data.cameras])
    height, width = view.shape[:2]
    spots = [
        (y, x)
        for y in range(one.shape[0] - height)
        for x in range(one.shape[1] - width)
        if (one[y, x] == view[0, 0]).all() and (one[y : y + height, x : x + width] == view).all()
    ]
    assert len(spots) == 1
    assert many.shape[0] > one.shape[0]


def test_errors_are_told_by_kind():
    data = made(20)
    told = false_by_kind(data, data.label)
    assert set(told.values()) == {f"0 of {n}" for n in (data.label.sum(), (~data.label).sum())}
    assert false_by_kind(data, np.ones(20, bool))["rim"] == f"{(~data.label).sum()} of {(~data.label).sum()}"
