"""DAPG's demonstrations: never terminal, cut at their end, and refused in words where they are not what they should be."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launch.formats.dapg import read
from tests.d4rl_data import demonstration_data
from tests.launch.formats.samples import INFO, refused


def demonstration(seed: int, steps: int, observed: int, **others) -> dict:
    """As DAPG's recorder keeps one."""
    rng = np.random.default_rng(seed)
    state = {"qpos": rng.random(3), "qvel": rng.random(3)}
    arrays = {"observations": rng.standard_normal((observed, 4)), "actions": rng.standard_normal((steps, 2))}
    return {**arrays, "rewards": rng.random(steps), "init_state_dict": state, **others}


def as_file(folder: Path, held, protocol: int = 2) -> Path:
    path = folder / "demos.pickle"
    path.write_bytes(pickle.dumps(held, protocol))
    return path


@settings(max_examples=20)
@given(
    lengths=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    extra=st.booleans(),
    protocol=st.sampled_from([0, 2, 3, 4, 5]),
)
def test_every_step_with_a_next_observation_is_kept(lengths, extra, protocol, tmp_path_factory):
    held = [demonstration(i, n, n + extra) for i, n in enumerate(lengths)]
    path = as_file(tmp_path_factory.mktemp("demos"), held, protocol)
    if not extra and max(lengths) == 1:
        refused("dapg", path, "no step has a next observation")
        return
    data = read(path, INFO, None)
    c, kept = data.columns, [n if extra else n - 1 for n in lengths]
    assert [e.stop - e.start for e in data.episodes] == [n for n in kept if n]
    assert not c["terminated"].any()
    for name, key, first in (("obs/state", "observations", 0), ("next_obs/state", "observations", 1)):
        expected = np.concatenate([d[key][first : first + n] for d, n in zip(held, kept, strict=True)])
        assert c[name].tobytes() == expected.tobytes()
    for name, key in (("action", "actions"), ("reward", "rewards")):
        assert c[name].tobytes() == np.concatenate([d[key][:n] for d, n in zip(held, kept, strict=True)]).tobytes()
    assert "Left out: init_state_dict." in data.info.provenance
    assert (f"{len(lengths)} last steps of demonstrations" in data.info.provenance) == (not extra)


def test_success_is_what_the_recorder_kept(tmp_path):
    infos = {"goal_achieved": np.array([False, True, False, False])}
    held = [demonstration(0, 4, 4, env_infos=infos, terminated=True), demonstration(1, 2, 2)]
    data = read(as_file(tmp_path, held), INFO, None)
    assert data.columns["success"].tolist() == [False, True, True, False]
    assert not data.columns["terminated"].any()
    assert "Left out: env_infos, init_state_dict, terminated." in data.info.provenance


def test_dtypes_stay(tmp_path):
    held = [{name: demonstration(0, 3, 3)[name].astype(np.float32) for name in ("observations", "actions", "rewards")}]
    c = read(as_file(tmp_path, held), INFO, None).columns
    assert {c[name].dtype for name in ("obs/state", "next_obs/state", "action")} == {np.dtype(np.float32)}


def test_the_door_demonstrations_as_a_pickle_are_those_in_the_npz(tmp_path):
    with np.load(demonstration_data() / "adroit_door_human25.npz") as file:
        cuts = file["episode_ends"][:-1] + 1
        arrays = {name: np.split(file[name], cuts) for name in ("observations", "actions", "rewards")}
    held = [{name: x[i] for name, x in arrays.items()} for i in range(25)]
    data = read(as_file(tmp_path, held, 0), INFO, None)
    assert (len(data), len(data.episodes)) == (6729 - 25, 25)
    assert np.array_equal(data.columns["obs/state"], np.concatenate([x[:-1] for x in arrays["observations"]]))


GOOD = demonstration(0, 3, 3)


@pytest.mark.parametrize(
    ("held", "words"),
    [
        ({}, ["it holds a dict"]),
        ([], ["it holds an empty list"]),
        ([GOOD, 3], ["demonstration 1", "it holds a int"]),
        ([{}], ["demonstration 0", "it holds nothing"]),
        ([{"observations": 1, "actions": 2}], ["it holds observations, actions", "rewards"]),
        ([{**GOOD, "observations": GOOD["observations"][:2]}], ["observations have 2 rows for 3 actions"]),
        ([{**GOOD, "rewards": GOOD["rewards"][:2]}], ["rewards has 2 rows, actions has 3"]),
        ([{**GOOD, "actions": np.zeros((3, 2), int)}], ["actions are (3, 2) of int64"]),
        ([{**GOOD, "rewards": [None] * 3}], ["rewards is of dtype object"]),
        ([{**GOOD, "rewards": ["a"] * 3}], ["rewards is of dtype <U1"]),
        ([{**GOOD, "observations": [[1.0], [1.0, 2.0], [3.0]]}], ["observations holds lists of different lengths"]),
        ([GOOD, {**GOOD, "observations": np.zeros((3, 5))}], ["obs is (5,) of float64 in demonstration 1, (4,) of"]),
        ([GOOD, {**GOOD, "actions": np.zeros((3, 2), "f4")}], ["action is (2,) of float32 in demonstration 1"]),
        ([{**GOOD, "env_infos": {"goal_achieved": np.ones(2)}}], ["goal_achieved has 2 rows"]),
        ([{name: x[:0] for name, x in GOOD.items() if name != "init_state_dict"}], ["holds no step"]),
        ([{**GOOD, "actions": np.array([None] * 3)}], ["dtype 'O8'"]),
    ],
)
def test_what_is_no_demonstration_is_refused(held, words, tmp_path):
    refused("dapg", as_file(tmp_path, held), *words)


def test_what_is_no_file_is_refused(tmp_path):
    refused("dapg", tmp_path, "it is a folder")
    refused("dapg", tmp_path / "none.pickle", "there is none")
    path = as_file(tmp_path, [GOOD])
    path.write_bytes(path.read_bytes()[:100])
    refused("dapg", path, "it is damaged")
