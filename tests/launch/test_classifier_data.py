"""Labelled frames: kept without loss, whole or not at all, and put together only where they belong together."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from launch.classifier_data import FILE, Labelled, load_labelled, merge_labelled, new_folder, save_labelled


def made(count=6, seed=0, size=8, cameras=("left", "right")) -> Labelled:
    rng = np.random.default_rng(seed)
    label = rng.uniform(size=count) < 0.5
    return Labelled(
        "peg",
        f"seed {seed}",
        {name: rng.integers(0, 256, (count, size, size, 3), np.uint8) for name in cameras},
        label,
        rng.integers(0, 3, count),
        np.arange(count, dtype=np.int64),
        np.where(label, "success", "rim"),
    )


def assert_same(a: Labelled, b: Labelled) -> None:
    assert (a.task, a.provenance, a.cameras) == (b.task, b.provenance, b.cameras)
    for name in a.cameras:
        np.testing.assert_array_equal(a.frames[name], b.frames[name])
    for name in ("label", "episode", "step", "kind"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


def test_frames_come_back_as_they_were(tmp_path):
    data = made(cameras=("wrist/1", "zweite Kamera", "a"))
    save_labelled(data, tmp_path / "new" / "frames")
    assert_same(load_labelled(tmp_path / "new" / "frames"), data)
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["frames"]


def test_what_is_there_is_never_written_over_and_what_fails_leaves_nothing(tmp_path):
    save_labelled(made(), tmp_path / "frames")
    with pytest.raises(ValueError, match="already there; give another folder"):
        save_labelled(made(seed=1), tmp_path / "frames")
    assert_same(load_labelled(tmp_path / "frames"), made())
    writing = new_folder(tmp_path / "other")
    (writing.__enter__() / "file").write_text("half")
    assert not writing.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert [p.name for p in tmp_path.iterdir()] == ["frames"]
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="cannot be made"):
        save_labelled(made(), tmp_path / "file" / "frames")


def test_damage_is_told_in_one_sentence(tmp_path):
    with pytest.raises(ValueError, match=r"there is no frames\.npz in it"):
        load_labelled(tmp_path)
    save_labelled(made(), tmp_path / "frames")
    path = tmp_path / "frames" / FILE
    whole = path.read_bytes()
    for part in (b"", whole[: len(whole) // 2], whole[:200] + b"\0" * 300 + whole[500:], b"PK" + b"\1" * 50):
        path.write_bytes(part)
        with pytest.raises(ValueError, match=r"cannot be read \(.*make them again") as told:
            load_labelled(tmp_path / "frames")
        assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    "wrong",
    [
        {"label": np.zeros(6, np.int64)},
        {"label": np.zeros(5, bool)},
        {"episode": np.zeros(6)},
        {"frames": {}},
        {"frames": {"left": np.zeros((6, 8, 8, 3), np.float32)}},
        {"frames": {"left": np.zeros((6, 8, 8, 4), np.uint8)}},
        {"frames": {"left": np.zeros((6, 8, 8, 3), np.uint8), "right": np.zeros((6, 9, 8, 3), np.uint8)}},
        {"frames": {"left": np.zeros((5, 8, 8, 3), np.uint8)}},
    ],
    ids=str,
)
def test_arrays_that_do_not_belong_together_are_refused(tmp_path, wrong):
    save_labelled(replace(made(), **wrong), tmp_path / "frames")
    with pytest.raises(ValueError, match="cannot be read"):
        load_labelled(tmp_path / "frames")


@given(st.lists(st.tuples(st.integers(1, 8), st.integers(0, 9)), min_size=1, max_size=4))
def test_merged_episodes_stay_apart_and_together_as_they_were(shapes):
    parts = [made(count, seed) for count, seed in shapes]
    whole = merge_labelled(parts, [str(i) for i in range(len(parts))])
    assert len(whole) == sum(map(len, parts))
    source = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    before = list(zip(source.tolist(), np.concatenate([part.episode for part in parts]).tolist(), strict=True))
    pairs = set(zip(before, whole.episode.tolist(), strict=True))
    assert len(pairs) == len(set(before)) == len(set(whole.episode.tolist()))
    np.testing.assert_array_equal(whole.frames["right"], np.concatenate([part.frames["right"] for part in parts]))


@pytest.mark.parametrize(
    ("other", "what"),
    [
        (replace(made(), task="door"), "task door, those of A have peg"),
        (made(cameras=("right", "left")), "cameras "),
        (made(size=9), "frame shape "),
    ],
)
def test_what_does_not_belong_together_is_not_merged(other, what):
    with pytest.raises(ValueError, match=f"labelled frames B: {what}"):
        merge_labelled([made(), other], ["A", "B"])


def test_some_rows():
    data = made(8)
    some = data.rows(np.array([5, 2]))
    assert (len(some), some.step.tolist(), some.counts()["episodes"]) == (
        2,
        [5, 2],
        len({*data.episode[[5, 2]].tolist()}),
    )
    np.testing.assert_array_equal(some.frames["left"], data.frames["left"][[5, 2]])
