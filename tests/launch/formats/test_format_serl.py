"""SERL's transitions: stitched into whole episodes, whatever the files are called and wherever they were split."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.types import SOURCES
from launch.formats.serl import read
from tests.launch.formats.samples import INFO, refused


def observation(episode: int, step: int, stacked: bool) -> dict[str, np.ndarray]:
    """Of one camera and the arm, with SERL's stacking axis or without."""
    state = np.array([episode, step, 0.5], np.float32)
    picture = np.full((4, 4, 3), 10 * episode + step, np.uint8)
    return {"state": state[None], "wrist_1": picture[None]} if stacked else {"state": state, "wrist_1": picture}


def transition(episode: int, step: int, end: str = "", stacked: bool = True, **others) -> dict:
    """As SERL's actor records one; an end is `success`, `done` (without a mask of 0), `fault` (unmarked) or none."""
    terminal = end == "success"
    return {
        "observations": observation(episode, step, stacked),
        "actions": np.array([step, -episode], np.float32) / 50,
        "next_observations": observation(episode, step + 1, stacked),
        "rewards": float(terminal),
        "masks": 1.0 - terminal,
        "dones": terminal or end == "done",
        **others,
    }


def episodes(lengths, ends, **others) -> list[dict]:
    return [
        transition(e, i, end if i == n - 1 else "", **others)
        for e, (n, end) in enumerate(zip(lengths, ends, strict=True))
        for i in range(n)
    ]


def as_folder(folder: Path, held: list[dict], each: int, protocol: int = 4, name="transitions_{}.pkl") -> Path:
    """Files of so many transitions each, as a run dumps them; called by the step that they end at."""
    folder.mkdir()
    for start in range(0, len(held), each):
        part = held[start : start + each]
        (folder / name.format(start + each)).write_bytes(pickle.dumps(part, protocol))
    return folder


@settings(max_examples=25)
@given(
    story=st.lists(st.tuples(st.integers(1, 5), st.sampled_from(["success", "done", "fault"])), min_size=1, max_size=6),
    each=st.sampled_from([1, 2, 3, 9]),
    protocol=st.sampled_from([2, 3, 4, 5]),
    stacked=st.booleans(),
)
def test_episodes_are_whole_wherever_files_were_split(story, each, protocol, stacked, tmp_path_factory):
    lengths, ends = zip(*story, strict=True)
    held = episodes(lengths, ends, stacked=stacked)
    folder = as_folder(tmp_path_factory.mktemp("serl") / "buffer", held, each, protocol)
    data = read(folder, INFO, None)
    c = data.columns
    assert [e.stop - e.start for e in data.episodes] == list(lengths)
    last = np.cumsum(lengths) - 1
    assert c["terminated"].nonzero()[0].tolist() == [i for i, end in zip(last, ends, strict=True) if end == "success"]
    assert c["truncated"].nonzero()[0].tolist() == [i for i, end in zip(last, ends, strict=True) if end != "success"]
    assert np.array_equal(c["success"], c["terminated"])
    plain = episodes(lengths, ends, stacked=False)
    for name in ("state", "wrist_1"):
        for kind, key in (("obs", "observations"), ("next_obs", "next_observations")):
            expected = np.stack([t[key][name] for t in plain])
            assert c[f"{kind}/{name}"].dtype == expected.dtype
            assert np.array_equal(c[f"{kind}/{name}"], expected)
    assert np.array_equal(c["action"], np.stack([t["actions"] for t in plain]))
    assert set(c["source"]) == {SOURCES.index("offline")}
    assert ("first axis" in data.info.provenance) == stacked
    cut = ends.count("fault")
    assert (f"{cut} episodes were cut where" in data.info.provenance) == bool(cut)


def test_files_are_in_the_order_of_their_numbers(tmp_path):
    """As text, 10000 comes before 9000."""
    held = episodes([20], ["success"])
    folder = as_folder(tmp_path / "buffer", held, 1, name="transitions_{}000.pkl")
    data = read(folder, INFO, None)
    assert data.columns["obs/state"][:, 1].tolist() == list(range(20))
    assert len(data.episodes) == 1
    assert "buffer (20 files), format serl" in data.info.provenance


def test_a_single_file_of_demonstrations_with_infos(tmp_path):
    """HIL-SERL's record_demos keeps `infos`, and the action of a human only where there was one."""
    held = episodes([4, 2], ["success", "success"])
    for i, t in enumerate(held):
        t["infos"] = {"succeed": i in (3, 5), "left": False}
        t["infos"] |= {"intervene_action": np.zeros(2)} if i in (1, 2) else {}
        t["grasp_penalty"] = -0.02
    held[5]["rewards"] = np.float64(0.0)
    held[2]["infos"]["episode"] = {"r": np.float32(1), "l": 4}
    path = tmp_path / "peg_2_demos_2024-01-01.pkl"
    path.write_bytes(pickle.dumps(held))
    data = read(path, INFO, None)
    human, offline = SOURCES.index("human"), SOURCES.index("offline")
    assert data.columns["source"].tolist() == [offline, human, human, offline, offline, offline]
    assert data.columns["success"].tolist() == [False, False, False, True, False, True]
    assert "Left out: grasp_penalty, infos." in data.info.provenance


def test_only_human_steps_are_no_whole_episodes(tmp_path):
    """HIL-SERL's demo_buffer holds the steps of interventions alone."""
    held = [t for i, t in enumerate(episodes([9], ["success"])) if i in (1, 2, 5, 6, 8)]
    data = read(as_folder(tmp_path / "demo_buffer", held, 5), INFO, None)
    assert [(e.start, e.stop) for e in data.episodes] == [(0, 2), (2, 4), (4, 5)]
    assert data.columns["truncated"].tolist() == [False, True, False, True, False]
    assert "2 episodes were cut where" in data.info.provenance


def test_numbers_of_other_kinds_and_plain_observations(tmp_path):
    """A reset's observation may be float64, rewards int or arrays, and an action of a human float64."""
    held = episodes([3], ["done"])
    for i, t in enumerate(held):
        t["observations"] = t["observations"]["state"][0].astype(np.float64 if i == 0 else np.float32)
        t["next_observations"] = t["next_observations"]["state"][0]
        t["rewards"] = [0, np.float32(0.5), True][i]
        t["dones"] = [0, np.False_, np.array(True)][i]
    held[1]["actions"] = np.array([1 / 3, 0.0])
    path = tmp_path / "demo.pkl"
    path.write_bytes(pickle.dumps(held))
    c = read(path, INFO, None).columns
    assert c["obs/state"].dtype == c["next_obs/state"].dtype == np.float64
    assert c["action"][1, 0] == 1 / 3
    assert c["reward"].tolist() == [0.0, 0.5, 1.0]
    assert c["truncated"].tolist() == [False, False, True]


def test_an_observation_of_one_number_is_no_stack(tmp_path):
    held = episodes([2], ["done"])
    for t in held:
        t["observations"], t["next_observations"] = np.zeros(1, np.float32), np.ones(1, np.float32)
    data = read(as_folder(tmp_path / "buffer", held, 5), INFO, None)
    assert data.columns["obs/state"].shape == (2, 1)


def test_nested_observations_are_called_by_their_path(tmp_path):
    held = episodes([2], ["done"])
    for t in held:
        for kind in ("observations", "next_observations"):
            t[kind] = {"state": {"tcp_pose": t[kind]["state"]}, "images": {"wrist_1": t[kind]["wrist_1"]}}
    columns = read(as_folder(tmp_path / "buffer", held, 5), INFO, None).columns
    assert {name for name in columns if name.startswith("obs/")} == {"obs/state/tcp_pose", "obs/images/wrist_1"}


def changed(**fields) -> list[dict]:
    """Three transitions, with other fields in the second; without those that are None."""
    held = episodes([3], ["done"])
    held[1] = {name: x for name, x in {**held[1], **fields}.items() if x is not None}
    return held


@pytest.mark.parametrize(
    ("held", "words"),
    [
        ({}, ["it holds a dict", "give a list"]),
        ([], ["holds no transition"]),
        ([3], ["transition 0", "it is a int"]),
        (changed(masks=None), ["transition 1", "masks is missing"]),
        (changed(masks=0.5), ["masks holds 0.5 in row 1"]),
        (changed(dones=float("nan")), ["dones holds nan in row 1"]),
        (changed(actions=np.zeros(3)), ["transition 1", "actions has shape (3,), in the first (2,)"]),
        (changed(actions="left"), ["transition 1", "actions is a str"]),
        (changed(actions=np.array(["a", "b"])), ["actions is no number"]),
        (changed(rewards=None), ["rewards is missing"]),
        (changed(rewards=[1.0]), ["rewards is a list"]),
        (changed(observations={"state": np.zeros((1, 3))}), ["observations are state, in the first state, wrist_1"]),
        (changed(observations={}), ["hold nothing"]),
        (changed(observations={3: np.zeros(1)}), ["an observation is called 3"]),
        (changed(observations={"a/b": np.zeros(1)}), ["an observation is called 'a/b'"]),
        ([{**t, "actions": np.zeros(2, int)} for t in changed()], ["actions are (3, 2) of int64"]),
        ([{**t, "next_observations": {"state": np.zeros(2)}} for t in changed()], ["is not alike"]),
        (
            [{**t, "observations": 1.0, "next_observations": 1.0} for t in changed()],
            ["observations state has shape (3,)"],
        ),
    ],
)
def test_what_is_no_transition_is_refused(held, words, tmp_path):
    path = tmp_path / "data.pkl"
    path.write_bytes(pickle.dumps(held))
    refused("serl", path, *words)


def test_what_is_no_file_is_refused(tmp_path):
    refused("serl", tmp_path, "there is no *.pkl file in it")
    refused("serl", tmp_path / "none.pkl", "there is none")
    refused("serl", tmp_path / ("x" * 300), "it cannot be opened (File name too long)")
    (tmp_path / "a.pkl").mkdir()
    (tmp_path / "1.pkl").write_bytes(pickle.dumps(episodes([2], ["done"])))
    with pytest.raises(ValueError, match=r"a\.pkl: it is a folder; give the file"):
        read(tmp_path, INFO, None)
