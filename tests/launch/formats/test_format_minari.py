"""Minari's data sets: those that its own library collects are read, and those that are written it reads itself."""

import json
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import gymnasium
import h5py
import minari
import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given, settings

from agent.replay.dataset import Dataset
from launch.formats.minari_format import read, write
from tests.launch.formats.samples import INFO, dataset, datasets, refused, there_and_back

NESTED = {
    "arm/joints": ("<f8", (3,)),
    "arm/force": ("<f4", (2,)),
    "front": ("|u1", (32, 32, 3)),
}  # from 32 on, Minari takes it for a picture


class Counter(gymnasium.Env):
    """Counts its steps: ends of itself after three, or is cut after two, in turn."""

    observation_space = spaces.Dict(
        {
            "place": spaces.Box(-9, 9, (1,), np.float32),
            "arm": spaces.Dict({"x": spaces.Box(-np.inf, np.inf, (2,), np.float64)}),
        }
    )
    action_space = spaces.Box(-1, 1, (2,), np.float32)

    def __init__(self) -> None:
        self.episode, self.steps = -1, 0

    def _seen(self):
        return {"place": np.full(1, self.steps, np.float32), "arm": {"x": np.full(2, self.episode, np.float64)}}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.episode, self.steps = self.episode + 1, 0
        return self._seen(), {"success": False, "extra": 0.0}

    def step(self, action):
        self.steps += 1
        odd = bool(self.episode % 2)
        info = {"success": self.steps == 2, "extra": 1.0}
        return self._seen(), float(self.steps), not odd and self.steps == 3, odd and self.steps == 2, info


@pytest.fixture
def store(tmp_path, monkeypatch) -> Path:
    """An empty local store in place of the user's."""
    folder = tmp_path / "store"
    folder.mkdir()
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(folder))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return folder


@contextmanager
def quiet() -> Iterator[None]:
    """Minari warns of every detail that is left open."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield


@pytest.fixture
def collected(store) -> Path:
    """A data set that Minari itself collected: two whole episodes, and one that was left after a step."""
    env = minari.DataCollector(Counter(), record_infos=True)
    for steps in (3, 2, 1):
        env.reset(seed=steps)
        for i in range(steps):
            env.step(np.array([i, -i], np.float32) / 4)
    emptied = env._tmp_dir
    with quiet():
        env.create_dataset("counter/small-v0")
    env.close()
    for scratch in (emptied, env._tmp_dir):  # which it leaves for the interpreter to warn of
        scratch.cleanup()
    return store / "counter" / "small-v0"


def test_what_minari_collected_is_read(collected):
    data = read(collected, INFO, None)
    c = data.columns
    assert [(e.start, e.stop) for e in data.episodes] == [(0, 3), (3, 5), (5, 6)]
    assert c["obs/place"][:, 0].tolist() == [0, 1, 2, 0, 1, 0]
    assert c["next_obs/place"][:, 0].tolist() == [1, 2, 3, 1, 2, 1]
    assert c["obs/arm/x"][:, 1].tolist() == [0, 0, 0, 1, 1, 2]
    assert (c["obs/place"].dtype, c["obs/arm/x"].dtype) == (np.float32, np.float64)
    assert c["action"][:3].tolist() == [[0, 0], [0.25, -0.25], [0.5, -0.5]]
    assert c["reward"].tolist() == [1, 2, 3, 1, 2, 1]
    assert c["terminated"].tolist() == [False, False, True, False, False, False]
    assert c["truncated"].tolist() == [False, False, False, False, True, True]
    assert c["success"].tolist() == [False, True, True, False, True, False]
    assert data.info.provenance.startswith("Made up here. Read from small-v0 (2 files), format minari, SHA-256 ")
    assert data.info.provenance.endswith("Left out: infos extra.")
    for path in (collected / "data", Path("counter/small-v0")):  # the store's name for it
        assert read(path, INFO, None).columns["reward"].tolist() == c["reward"].tolist()


@settings(max_examples=12)
@given(datasets(**NESTED))
def test_journal_to_minari_and_back_keeps_every_bit(made):
    there_and_back(made, "minari", "data set, with words")


@settings(max_examples=12)
@given(datasets(state=("<f4", (3,))))
def test_a_single_array_is_a_space_of_its_own(made):
    there_and_back(made, "minari", "one-v3")


def test_minari_loads_what_was_written(store):
    made = dataset(3, [4, 2], ["terminated", "open"], NESTED, "<f4")
    made.columns["action"][:] = np.clip(made.columns["action"], -1, 1)
    write(made, store / "arm-v7")
    assert not (store.parent / "home").exists()  # neither the user's store nor the network
    loaded = minari.load_dataset("arm-v7")
    assert (loaded.id, loaded.total_episodes, loaded.total_steps) == ("arm-v7", 2, 6)
    assert list(minari.list_local_datasets()) == ["arm-v7"]
    assert loaded.action_space == spaces.Box(-1, 1, (2,), np.float32)
    first, second = loaded.iterate_episodes()
    assert loaded.observation_space.contains({k: _row(v, 0) for k, v in first.observations.items()})
    assert first.observations["arm"]["joints"].shape == (5, 3)
    assert np.array_equal(first.observations["front"][:4], made.columns["obs/front"][:4])  # no JPEG
    assert (first.terminations[-1], first.truncations[-1]) == (True, False)
    assert (second.terminations[-1], second.truncations[-1]) == (False, True)
    told = loaded.storage.metadata
    assert told["description"] == INFO.provenance
    assert told["segue"]["task"] == "reach"


def _row(tree, i):
    return {k: _row(v, i) for k, v in tree.items()} if isinstance(tree, dict) else tree[i]


def test_actions_beyond_the_box_have_a_wider_space(tmp_path):
    made = dataset(3, [4], ["terminated"], {"state": ("<f4", (1,))}, "<f4")
    made.columns["action"][0] = 1.37
    write(made, tmp_path / "wide-v0")
    space = minari.MinariDataset(tmp_path / "wide-v0" / "data").action_space
    assert space.contains(made.columns["action"][0])


def test_writing_is_whole_or_not_at_all_and_never_over_another(tmp_path):
    made = dataset(0, [3], ["truncated"], NESTED, "<f4")
    (tmp_path / "there").mkdir()
    with pytest.raises(ValueError, match="there: it is already there; give another name"):
        write(made, tmp_path / "there")
    for names in (["a", "a/b"], ["a/b", "a"], ["a//b", "c"], [".", "c"]):
        bad = dataset(0, [3], ["truncated"], dict.fromkeys(names, ("<f4", (1,))), "<f4")
        with pytest.raises(ValueError, match=r"does not fit in with the others; rename it"):
            write(bad, tmp_path / "names")
    broken = Dataset(INFO, {**made.columns, "success": np.array([object()] * 3)})
    with pytest.raises(TypeError):
        write(broken, tmp_path / "broken")
    assert [p.name for p in tmp_path.iterdir()] == ["there"]


@pytest.fixture
def written(tmp_path) -> Path:
    write(dataset(0, [3, 2], ["truncated", "terminated"], NESTED, "<f4"), tmp_path / "small-v0")
    return tmp_path / "small-v0"


def changed(folder: Path, **fields) -> Path:
    """The data set with other fields in its metadata."""
    path = folder / "data" / "metadata.json"
    told = {**json.loads(path.read_text()), **fields}
    path.write_text(json.dumps({name: x for name, x in told.items() if x is not None}))
    return folder


def test_an_environment_is_never_made_for_its_spaces(written, tmp_path):
    """Minari makes one where spaces are missing, and so calls whatever the file names."""
    mark = tmp_path / "ran"
    spec = {
        "id": "Bad-v0",
        "entry_point": "pathlib:Path.touch",
        "kwargs": {"self": str(mark)},
        "additional_wrappers": [],
    }
    for name in ("observation_space", "action_space"):
        copy = tmp_path / f"without-{name}"
        shutil.copytree(written, copy)
        refused("minari", changed(copy, env_spec=json.dumps(spec), **{name: None}), "names no spaces")
    assert not mark.exists()


def test_damaged_and_foreign_data_sets_are_refused(written, tmp_path):
    cases = {
        "metadata.json is damaged": lambda f: (f / "data" / "metadata.json").write_text("{"),
        "of Minari 99.0": lambda f: changed(f, minari_version="99.0"),
        "cannot be opened": lambda f: changed(f, data_format="tapes"),
        "it is not whole": lambda f: (f / "data" / "main_data.hdf5").write_bytes(b"\x89HDF\r\n\x1a\n half"),
        "holds no step": lambda f: changed(f, total_episodes=0),
        "it is not whole (KeyError": lambda f: changed(f, total_episodes=3),
    }
    for words, damage in cases.items():
        copy = tmp_path / "copy"
        shutil.copytree(written, copy)
        damage(copy)
        refused("minari", copy, words)
        shutil.rmtree(copy)
    refused("minari", tmp_path, "there is no metadata.json")
    refused("minari", tmp_path / "none", "there is no metadata.json")
    refused("minari", written / "data" / "metadata.json", "it is a file")
    half = (written / "data" / "main_data.hdf5").read_bytes()
    (written / "data" / "main_data.hdf5").write_bytes(half[: len(half) // 2])
    refused("minari", written, "it is not whole")


@pytest.mark.parametrize(
    ("name", "space", "action", "words"),
    [
        ("discrete", spaces.Box(-1, 1, (1,)), spaces.Discrete(3), ["actions are (2,) of int64"]),
        ("text", spaces.Dict({"t": spaces.Text(5)}), spaces.Box(-1, 1, (1,)), ["observation t", "no plain number"]),
        ("tuple", spaces.Tuple([spaces.Box(-1, 1, (1,))]), spaces.Box(-1, 1, (1,)), ["observation state"]),
        ("count", spaces.Discrete(4), spaces.Box(-1, 1, (1,)), ["observation state has shape (3,)"]),
    ],
)
def test_spaces_of_other_kinds_are_refused(name, space, action, words, store):
    buffer = minari.data_collector.EpisodeBuffer(
        observations=_samples(space), actions=np.stack([action.sample() for _ in range(2)]), rewards=[0.0, 1.0],
        terminations=[False, True], truncations=[False, False],
    )  # fmt: skip
    with quiet():
        minari.create_dataset_from_buffers(f"{name}-v0", [buffer], action_space=action, observation_space=space)
    refused("minari", store / f"{name}-v0", *words)


def _samples(space):
    if isinstance(space, spaces.Dict):
        return {k: _samples(x) for k, x in space.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(_samples(x) for x in space)
    samples = [space.sample() for _ in range(3)]
    return samples if isinstance(space, spaces.Text) else np.stack(samples)


def test_an_episode_whose_end_is_not_marked_was_cut_there(written):
    with h5py.File(written / "data" / "main_data.hdf5", "a") as file:
        file["episode_0/truncations"][:] = False
    data = read(written, INFO, None)
    assert data.columns["truncated"].tolist() == [False, False, True, False, False]
    assert [(e.start, e.stop) for e in data.episodes] == [(0, 3), (3, 5)]


def test_episodes_that_are_not_alike_are_refused(tmp_path):
    write(dataset(0, [3, 2], ["truncated", "terminated"], {"state": ("<f4", (3,))}, "<f4"), tmp_path / "a-v0")
    with h5py.File(tmp_path / "a-v0" / "data" / "main_data.hdf5", "a") as file:
        del file["episode_1/observations"]
        file["episode_1/observations"] = np.zeros((3, 4), np.float32)
    refused("minari", tmp_path / "a-v0", "obs/state", "in episode 1", "in the first")
    with h5py.File(tmp_path / "a-v0" / "data" / "main_data.hdf5", "a") as file:
        del file["episode_1/observations"]
        file["episode_1/observations"] = np.zeros((2, 3), np.float32)
    refused("minari", tmp_path / "a-v0", "episode 1", "observation state has 2 rows for 2 actions")


def test_a_relative_path_is_a_path_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = dataset(0, [3, 2], ["truncated", "terminated"], {"state": ("<f4", (3,))}, "<f4")
    write(made, Path("near-v0"))
    found = read(Path("near-v0"), made.info, None)
    np.testing.assert_array_equal(found.columns["obs/state"], made.columns["obs/state"])
    assert [p.name for p in tmp_path.iterdir()] == ["near-v0"]
