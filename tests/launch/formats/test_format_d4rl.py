"""D4RL's files: read as D4RL means them, written and read again with the same bits, and refused in words where damaged."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.replay.dataset import Dataset
from agent.replay.journal_write import write_journal
from launch.formats import READERS, WRITERS
from launch.formats.d4rl import read, write
from tests.d4rl_data import demonstration_data
from tests.launch.formats.samples import INFO, assert_same, dataset, datasets, refused, there_and_back

STATE = {"state": ("<f4", (3,))}


def plain(rows: int = 10, **others) -> dict[str, np.ndarray]:
    """Arrays as D4RL stores them; a terminal in row 3, a timeout in row 6, and the file ends in an open episode."""
    row = np.arange(rows, dtype=np.float32)
    arrays = {"observations": row[:, None] + np.zeros((1, 2), np.float32), "actions": row[:, None] / 10, "rewards": row}
    return {**arrays, "terminals": row == 3, "timeouts": row == 6, **others}


def as_file(path: Path, arrays: dict) -> Path:
    with h5py.File(path, "w") as file:
        for name, x in arrays.items():
            if x is not None:
                file.create_dataset(name, data=x, compression="gzip" if np.ndim(x) else None)
    return path


def by_the_book(a: dict, max_steps: int | None) -> list[tuple]:
    """D4RL's own rule a row at a time, with a terminal's next observation masked: what is learned from, in order."""
    out, step = [], 0
    for i in range(len(a["rewards"])):
        terminal = bool(a["terminals"][i])
        final = bool(a["timeouts"][i]) if "timeouts" in a else step == (max_steps or -1) - 1
        if not terminal and (final or i == len(a["rewards"]) - 1):
            step = 0
            continue
        following = None if terminal else tuple(a["observations"][i + 1])
        out.append((tuple(a["observations"][i]), tuple(a["actions"][i]), float(a["rewards"][i]), following, terminal))
        step = 0 if terminal or final else step + 1
    return out


@given(
    st.lists(st.sampled_from(["", "", "", "terminal", "timeout", "both"]), min_size=2, max_size=30),
    st.booleans(),
    st.one_of(st.none(), st.integers(2, 5)),
)
def test_rows_are_those_of_d4rls_own_data(ends, has_timeouts, max_steps):
    rows = len(ends)
    a = plain(rows, terminals=np.array([e in ("terminal", "both") for e in ends]))
    a["timeouts"] = np.array([e in ("timeout", "both") for e in ends])
    if not has_timeouts:
        del a["timeouts"]
    expected = by_the_book(a, max_steps)
    with TemporaryDirectory() as scratch:
        path = as_file(Path(scratch) / "data.hdf5", a)
        if not expected:
            with pytest.raises(ValueError, match="no step has a next observation; give"):
                read(path, INFO, max_steps)
            return
        c = read(path, INFO, max_steps).columns
    found = [
        (tuple(o), tuple(u), float(r), None if done else tuple(n), bool(done))
        for o, u, r, n, done in zip(
            c["obs/state"], c["action"], c["reward"], c["next_obs/state"], c["terminated"], strict=True
        )
    ]
    assert found == expected
    assert (c["next_obs/state"] == c["obs/state"])[c["terminated"]].all()  # never that of the episode after it
    ends_here = c["terminated"] | c["truncated"]
    follows = (c["next_obs/state"][:-1] == c["obs/state"][1:]).all(axis=1)
    assert (follows | ends_here[:-1]).all()  # an episode goes on only where the next row is what follows
    assert ends_here[-1]


def test_what_was_left_out_is_told(tmp_path):
    path = as_file(tmp_path / "data.hdf5", plain(**{"infos/qpos": np.zeros((10, 4)), "metadata/algorithm": 3}))
    told = read(path, INFO, 100).info
    assert told == replace(INFO, provenance=told.provenance)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert told.provenance == (
        f"Made up here. Read from data.hdf5, format d4rl, SHA-256 {digest}. Left out: infos/qpos, metadata/algorithm. "
        "2 last steps of episodes were left out: the file holds no observation after them."
    )


def test_a_time_limit_of_the_task_stands_in_for_timeouts(tmp_path):
    path = as_file(tmp_path / "data.hdf5", plain(12, timeouts=None, terminals=np.arange(12) == 7))
    data = read(path, INFO, 4)
    assert [(e.start, e.stop) for e in data.episodes] == [(0, 3), (3, 7), (7, 10)]
    assert data.columns["reward"].tolist() == [0, 1, 2, 4, 5, 6, 7, 8, 9, 10]
    assert data.columns["truncated"].nonzero()[0].tolist() == [2, 9]  # a terminal in the last step allowed is only that
    assert "after 4 steps, the task's limit" in data.info.provenance
    endless = read(path, INFO, None)
    assert [(e.start, e.stop) for e in endless.episodes] == [(0, 8), (8, 11)]
    assert "at terminals only" in endless.info.provenance


def test_a_time_limit_counts_from_where_an_episode_was_cut(tmp_path):
    following = plain()["observations"] + 1
    following[1] = 77.0
    a = plain(timeouts=None, terminals=np.zeros(10, bool), next_observations=following)
    data = read(as_file(tmp_path / "data.hdf5", a), INFO, 4)
    assert [(e.start, e.stop) for e in data.episodes] == [(0, 2), (2, 6), (6, 10)]


def test_a_terminal_at_the_time_limit_stays_what_the_file_says(tmp_path):
    ends = np.arange(10) == 4
    c = read(as_file(tmp_path / "data.hdf5", plain(terminals=ends, timeouts=ends)), INFO, 5).columns
    assert c["terminated"].nonzero()[0].tolist() == c["truncated"].nonzero()[0].tolist()[:1] == [4]


def test_next_observations_tell_where_an_episode_was_cut(tmp_path):
    a = plain()
    following = a["observations"] + 1
    following[5] = 77.0
    data = read(as_file(tmp_path / "data.hdf5", {**a, "next_observations": following}), INFO, None)
    assert len(data) == 10
    assert data.columns["truncated"].nonzero()[0].tolist() == [5, 6, 9]
    assert data.columns["next_obs/state"][5].tolist() == [77.0, 77.0]
    assert "2 episodes were cut" in data.info.provenance


def test_a_number_that_is_none_is_no_cut(tmp_path):
    """It is for `segue data validate` to find."""
    a = plain(timeouts=np.arange(10) == 9)
    a["observations"][6] = np.nan
    following = np.concatenate([a["observations"][1:], a["observations"][-1:]])
    data = read(as_file(tmp_path / "data.hdf5", {**a, "next_observations": following}), INFO, None)
    assert data.columns["truncated"].nonzero()[0].tolist() == [9]
    assert np.isnan(data.columns["obs/state"][6]).all()


def test_success_counts_from_then_on_within_its_episode(tmp_path):
    success = np.isin(np.arange(10), [1, 6])
    data = read(as_file(tmp_path / "data.hdf5", plain(**{"infos/success": success})), INFO, None)
    assert data.columns["success"].tolist() == [False, True, True, True] + [False] * 4
    assert "1 episodes succeed only in the step left out" in data.info.provenance


def test_dtypes_stay(tmp_path):
    for dtype in ("<f4", "<f8"):
        a = plain(observations=np.arange(20.0).reshape(10, 2).astype(dtype), actions=np.zeros((10, 1), dtype))
        c = read(as_file(tmp_path / f"{dtype[1:]}.hdf5", a), INFO, None).columns
        assert c["obs/state"].dtype == c["next_obs/state"].dtype == c["action"].dtype == np.dtype(dtype)
    big = plain(observations=np.arange(20.0).reshape(10, 2).astype(">f4"), rewards=np.arange(10.0)[:, None])
    c = read(as_file(tmp_path / "big.hdf5", big), INFO, None).columns
    assert c["obs/state"].dtype.str == "<f4"
    assert c["obs/state"][1].tolist() == [2.0, 3.0]
    assert c["reward"].shape == (len(c["action"]),)


def test_the_same_arrays_in_an_npz(tmp_path):
    np.savez(tmp_path / "data.npz", **plain())
    made = read(as_file(tmp_path / "data.hdf5", plain()), INFO, None)
    assert_same(read(tmp_path / "data.npz", INFO, None), made)


def test_human_demonstrations_of_the_door_task():
    path = demonstration_data() / "adroit_door_human25.npz"
    data = read(path, INFO, 200)
    with np.load(path) as file:
        whole = {name: file[name] for name in ("observations", "success", "timeouts")}
    assert (len(data), len(data.episodes)) == (6729 - 25, 25)
    assert np.array_equal(data.columns["obs/state"], whole["observations"][~whole["timeouts"]])
    episodes = np.split(whole["success"], whole["timeouts"].nonzero()[0][:-1] + 1)
    assert data.success_rate() == sum(e[:-1].any() for e in episodes) / 25 == 7 / 25
    assert "25 last steps" in data.info.provenance


@given(datasets(**STATE))
def test_journal_to_d4rl_and_back_keeps_every_bit(made):
    there_and_back(made, "d4rl", "data.hdf5")


@given(datasets(state=("<f8", (2,))), st.booleans(), st.booleans())
def test_a_file_with_next_observations_comes_back_as_it_was(made, has_timeouts, wide):
    """File, journal, file: the arrays are the same, and where the file lacks timeouts they are what it implies."""
    c = made.columns
    rewards = c["reward"] + (1e-3 if wide else 0.0)
    a = {"observations": c["obs/state"], "next_observations": c["next_obs/state"], "actions": c["action"]}
    a |= {"rewards": rewards, "terminals": c["terminated"], "infos/success": c["success"]}
    a |= {"timeouts": c["truncated"]} if has_timeouts else {}
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        data = read(as_file(folder / "given.hdf5", a), INFO, None)
        write_journal(data, folder / "journal")
        write(Dataset.load(folder / "journal"), folder / "again.hdf5")
        with h5py.File(folder / "again.hdf5") as file:
            for name in ("observations", "next_observations", "actions", "terminals", "infos/success"):
                assert file[name].dtype == a[name].dtype
                assert file[name][()].tobytes() == a[name].tobytes(), name
            assert np.array_equal(file["rewards"][()], rewards)
            assert np.array_equal(file["terminals"][()] | file["timeouts"][()], made_ends(made))


def made_ends(made: Dataset) -> np.ndarray:
    ends = made.columns["terminated"] | made.columns["truncated"]
    return ends | (np.arange(len(ends)) == len(ends) - 1)


def test_a_written_file_is_laid_out_as_d4rls_are(tmp_path):
    scaled = replace(INFO, reward_scale=2.0, reward_shift=-1.0, truncation_value=-30.0)
    made = dataset(0, [4, 3], ["terminated", "open"], STATE, "<f4", scaled)
    made.columns["reward"][:] = [-1, 1, -1, 1, -1, -1, 1]
    write(made, tmp_path / "data.hdf5")
    with h5py.File(tmp_path / "data.hdf5") as file:
        names = {
            "observations",
            "next_observations",
            "actions",
            "rewards",
            "terminals",
            "timeouts",
            "infos",
            "metadata",
        }
        assert set(file) == names
        assert file["rewards"].dtype == np.float32
        assert file["rewards"][()].tolist() == [0, 1, 0, 1, 0, 0, 1]  # raw, as the format has them
        assert file["timeouts"][()].tolist() == [False] * 6 + [True]
        assert file["observations"].compression == "gzip"
        told = json.loads(file["metadata"].attrs["segue"])
    assert (told["task"], told["reward_scale"], told["reward_shift"]) == ("reach", 1.0, 0.0)
    assert told["truncation_value"] == pytest.approx(-10.0)  # -1 for ever, as -3 was in the other scale


def test_writing_is_whole_or_not_at_all_and_never_over_another(tmp_path):
    made = dataset(0, [3], ["truncated"], STATE, "<f4")
    write(made, tmp_path / "data.hdf5")
    before = (tmp_path / "data.hdf5").read_bytes()
    with pytest.raises(ValueError, match=r"data\.hdf5: it is already there; give another name"):
        write(made, tmp_path / "data.hdf5")
    assert (tmp_path / "data.hdf5").read_bytes() == before
    with pytest.raises(ValueError, match="is not there; make it first"):
        write(made, tmp_path / "none" / "data.hdf5")
    with pytest.raises(ValueError, match="cannot be written"):
        write(made, tmp_path / ("x" * 252))
    two = dataset(0, [3], ["truncated"], {**STATE, "front": ("|u1", (2,))}, "<f4")
    with pytest.raises(
        ValueError, match="observations state, front, the format only one, state; write it with format minari"
    ):
        write(two, tmp_path / "two.hdf5")
    broken = Dataset(INFO, {**made.columns, "success": np.array([object()] * 3)})
    with pytest.raises(TypeError):
        write(broken, tmp_path / "broken.hdf5")
    assert [p.name for p in tmp_path.iterdir()] == ["data.hdf5"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rewards": None}, ["rewards is missing", "holds actions, observations, terminals, timeouts"]),
        ({"rewards": np.zeros(9)}, ["rewards has 9 rows, observations has 10"]),
        ({"rewards": np.zeros((10, 2))}, ["rewards has shape (10, 2)"]),
        ({"rewards": np.array([b"x"] * 10)}, ["rewards is of dtype", "no plain number"]),
        ({"observations": np.zeros(10)}, ["observations has shape (10,)"]),
        ({"observations": np.zeros((10, 0))}, ["observations has shape (10, 0)"]),
        ({"observations": np.zeros((10, 2), complex)}, ["observations is of dtype complex128"]),
        ({"actions": np.zeros((10, 1), int)}, ["actions are (10, 1) of int64", "real-valued"]),
        ({"actions": np.zeros(10)}, ["actions are (10,)"]),
        ({"terminals": np.full(10, 2)}, ["terminals holds 2 in row 0"]),
        ({"timeouts": np.full(10, np.nan)}, ["timeouts holds nan in row 0"]),
        ({"next_observations": np.zeros((10, 3), np.float32)}, ["next_observations are (3,)"]),
        ({"next_observations": np.zeros((9, 2), np.float32)}, ["has 9 rows"]),
        ({"success": np.zeros(3)}, ["success has 3 rows"]),
        ({name: x[:0] for name, x in plain().items()}, ["holds no step"]),
        ({name: x[:1] for name, x in plain().items()}, ["no step has a next observation"]),
    ],
)
def test_arrays_that_do_not_fit_are_refused(change, words, tmp_path):
    refused("d4rl", as_file(tmp_path / "data.hdf5", {**plain(), **change}), *words)


def test_objects_in_an_npz_are_refused_unread(tmp_path):
    np.savez(tmp_path / "data.npz", **{**plain(), "rewards": np.array([None] * 10, object)})
    refused("d4rl", tmp_path / "data.npz", "Object arrays cannot be loaded")


@given(st.data())
def test_damaged_files_are_refused_or_read_never_worse(data):
    with TemporaryDirectory() as scratch:
        hdf, npz = as_file(Path(scratch) / "data.hdf5", plain()), Path(scratch) / "data.npz"
        np.savez_compressed(npz, **plain())
        for path in (hdf, npz):
            whole = bytearray(path.read_bytes())
            places = data.draw(st.lists(st.integers(0, len(whole) - 1), max_size=4))
            for place in places if path == npz else []:  # the HDF5 library is no place to throw dice in
                whole[place] ^= data.draw(st.integers(1, 255))
            path.write_bytes(whole[: data.draw(st.sampled_from([len(whole), len(whole) // 2, 9, 0]))])
            try:
                READERS["d4rl"](path, INFO, None)
            except ValueError as error:
                assert path.name in str(error)  # noqa: PT017 - any of many refusals


def test_what_is_no_file_is_refused(tmp_path):
    refused("d4rl", tmp_path, "it is a folder")
    refused("d4rl", tmp_path / "none.hdf5", "there is none")
    refused("d4rl", tmp_path / ("x" * 300), "it cannot be opened (File name too long)")
    (tmp_path / "words.txt").write_text("words")
    refused("d4rl", tmp_path / "words.txt", "no whole HDF5 or npz file")
    whole = as_file(tmp_path / "data.hdf5", plain()).read_bytes()
    (tmp_path / "half.hdf5").write_bytes(whole[: len(whole) // 2])
    refused("d4rl", tmp_path / "half.hdf5", "no whole HDF5 or npz file", "truncated")


def test_all_formats_that_are_written_are_read():
    assert set(READERS) == {"d4rl", "minari", "dapg", "serl"}
    assert set(WRITERS) == {"d4rl", "minari"}
