"""Features of a data set, kept beside its journal; and rewards and features made again from its pictures."""

import json

import numpy as np
import pytest

from agent.replay.dataset import Dataset
from agent.replay.frames import FRAME
from agent.replay.journal_check import verify
from agent.replay.journal_write import write_journal
from encoders.classifier_training import Fit
from encoders.spatial import Vision
from launch import classifier_stages
from launch.build import sight_of
from launch.classifier_data import Labelled, save_labelled
from launch.classifier_stages import train_stage
from launch.features import FOLDER, check_memory, encoded
from launch.stages import load_dataset
from launch.tasks import find_task, info_of

NAME = "peg_insertion_image"
TASK = find_task(NAME)
CAMERAS = ("wrist_1", "wrist_2")
RNG = np.random.default_rng(0)
DARK, BRIGHT = (0, 90), (160, 250)


def frames(count: int, light: tuple[int, int]) -> np.ndarray:
    return RNG.integers(*light, (count, 128, 128, 3), np.uint8)


def data_set(bright: tuple[int, ...] = ()) -> Dataset:
    """Two episodes of three steps, the first one terminated; `bright` are the steps that lead to bright pictures."""
    pictures = {name: [frames(1, DARK)[0] for _ in range(8)] for name in CAMERAS}
    following = [1, 2, 3, 5, 6, 7]
    for name in CAMERAS:
        for step in bright:
            pictures[name][following[step]] = frames(1, BRIGHT)[0]
    state = RNG.normal(0.0, 0.1, (8, 19)).astype(np.float32)
    obs, next_obs = (
        {"state": state[at], **{name: np.stack([x[i] for i in at]) for name, x in pictures.items()}}
        for at in ([i - 1 for i in following], following)
    )
    ends = np.array([False, False, True])
    return Dataset.of(
        info_of(TASK, "a test"),
        obs,
        next_obs,
        np.zeros((6, 6), np.float32),
        np.full(6, -1.0),
        np.concatenate([ends, ~ends & False]),
        np.concatenate([~ends & False, ends]),
    )


@pytest.fixture(scope="module")
def journal(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "journal"
    write_journal(data_set(), folder)
    return folder


def test_features_are_computed_once_and_read_back(journal, monkeypatch):
    sight = sight_of(TASK, Vision(views=1))
    first = load_dataset(journal, TASK, sight)
    assert {name: x.shape for name, x in first.frames.items()} == dict.fromkeys(CAMERAS, (8, 2, 4, 4, 512))
    assert first.columns[f"obs/{FRAME}"].tolist() == [0, 1, 2, 4, 5, 6]
    assert first.columns[f"next_obs/{FRAME}"].tolist() == [1, 2, 3, 5, 6, 7]
    assert len(list((journal / FOLDER).glob(f"{sight.trunk.name}-1-*.safetensors"))) == 1
    assert not verify(journal).findings  # a journal with features beside it is still whole
    monkeypatch.setattr(type(sight), "encode", None)  # whoever computes again, fails
    again = load_dataset(journal, TASK, sight)
    for name in CAMERAS:
        np.testing.assert_array_equal(again.frames[name], first.frames[name])
    assert set(again.normalizer().mean) == {"state", *CAMERAS}


def test_a_file_that_was_cut_off_is_computed_again(journal):
    sight = sight_of(TASK, Vision())
    wanted = load_dataset(journal, TASK, sight)
    path = next((journal / FOLDER).glob(f"*-{sight.vision.views}-*"))
    path.write_bytes(path.read_bytes()[:100])
    found = load_dataset(journal, TASK, sight)
    np.testing.assert_array_equal(found.frames["wrist_2"], wanted.frames["wrist_2"])


def test_features_stand_for_the_pictures_of_their_rows(journal):
    sight, plain = sight_of(TASK, Vision()), load_dataset(journal, TASK)
    kept = encoded(plain, journal, sight)
    for part in ("obs", "next_obs"):
        wanted = sight.trunk.encode(plain.columns[f"{part}/wrist_1"])
        found = kept.frames["wrist_1"][kept.columns[f"{part}/{FRAME}"], 0]
        np.testing.assert_allclose(found, wanted, rtol=2e-3, atol=2e-2)


def test_what_does_not_fit_is_refused_with_its_size():
    sight = sight_of(TASK, Vision(memory_mb=10))
    check_memory(sight, data=50, rows=50)
    with pytest.raises(ValueError, match=r"--learning.vision.memory-mb 10: 50 pictures .* take \d+ MB; allow more"):
        check_memory(sight, data=50, rows=1000)


def test_relabelling_makes_features_of_another_encoder(segue, journal, tmp_path):
    relabel = ("data", "relabel", journal, "--task", NAME, "--json")
    code, out, _ = segue(*relabel, "--encoder", "resnet10@3", "--out", tmp_path / "new")
    assert code == 0, out
    assert json.loads(out)["transitions"] == 6
    trunk = sight_of(TASK, Vision(trunk="resnet10@3")).trunk
    assert [path.name.startswith(trunk.name) for path in (tmp_path / "new" / FOLDER).iterdir()] == [True]
    code, _, err = segue(
        "data", "relabel", journal, "--task", NAME, "--encoder", "resnet9@3", "--out", tmp_path / "other"
    )
    assert code == 2
    assert "resnet9" in err
    assert not (tmp_path / "other").exists()


def test_relabelling_with_a_classifier_gives_its_rewards(segue, tmp_path, monkeypatch):
    monkeypatch.setattr(classifier_stages, "FIT", Fit(updates=40, batch_size=16, learning_rate=1e-2, every=10))
    labelled = Labelled(
        NAME,
        "dark and bright",
        {name: np.concatenate([frames(20, DARK), frames(20, BRIGHT)]) for name in CAMERAS},
        np.arange(40) >= 20,
        np.arange(40) % 10,
        np.arange(40),
        np.where(np.arange(40) >= 20, "success", "far"),
    )
    save_labelled(labelled, tmp_path / "frames")
    train_stage([tmp_path / "frames"], "resnet10@0", tmp_path / "judge", 2, 0)
    # Bright once in the middle is no success, twice is; and once at an end that was terminal.
    write_journal(data_set(bright=(0, 2, 4, 5)), tmp_path / "data")
    relabel = ("data", "relabel", tmp_path / "data", "--task", NAME, "--json")
    code, out, err = segue(*relabel, "--classifier", tmp_path / "judge", "--out", tmp_path / "new")
    assert code == 0, out + err
    found = Dataset.load(tmp_path / "new").columns
    assert found["terminated"].tolist() == [False, False, True, False, False, True]
    assert found["reward"].tolist() == [0.0, 0.0, 1.0, 0.0, 0.0, 1.0]


def test_a_classifier_of_another_encoder_is_refused_by_name(segue, journal, tmp_path):
    code, _, err = segue(
        "data", "relabel", journal, "--task", NAME, "--classifier", tmp_path, "--out", tmp_path / "new"
    )
    assert code == 2
    assert "classifier" in err
    assert not (tmp_path / "new").exists()


def test_a_task_without_cameras_has_nothing_to_judge_by(segue, journal, tmp_path):
    finetune = ("finetune", "--task", "peg_insertion", "--online.bridge", "rlpd", "--data", journal)
    code, _, err = segue(*finetune, "--reward", tmp_path, "--out", tmp_path / "x")
    assert code == 2
    assert "has no cameras" in err
