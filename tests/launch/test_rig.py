"""Fine-tuning with a human beside the arm, played by a file: who acted, what is discarded, and evaluations without help."""

import json

import numpy as np
import pytest

from agent.replay.entry import Scores, Step
from agent.replay.episodes import episodes
from agent.replay.journal import JournalReader
from agent.types import SOURCES
from launch.learner import Learner
from launch.recipe_files import read_recipe
from launch.rig import Played
from tests.launch.test_cli import TINY_FLAGS, refused

SIDE = [0.3, 0, 0, 0, 0, 0]
FLAGS = (*TINY_FLAGS, "--online.bridge", "rlpd", "--online.env-steps", "40", "--online.batch-size", "16")
FLAGS += ("--online.utd", "1", "--evaluation.trials", "1", "--evaluation.every-env-steps", "40")


@pytest.fixture
def script(tmp_path):
    """Four policy steps, three of the human, and then: an episode ends by key, one is discarded."""
    lines = (
        [{}] * 4 + [{"action": SIDE}] * 3 + [{"verdict": "success"}] + [{"action": SIDE}] * 5 + [{"verdict": "discard"}]
    )
    path = tmp_path / "hand.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return f"script:{path}"


def test_a_humans_steps_are_marked_and_what_they_discard_is_not_learned_from(
    script, data_file, segue, tmp_path, monkeypatch
):
    shares, run = [], tmp_path / "run"
    its_own = Learner._sources
    monkeypatch.setattr(Learner, "_sources", lambda self, steps: shares.append(its_own(self, steps)) or shares[-1])
    flags = ["--data", data_file, "--intervene", script, "--online.human-share", "0.25"]
    code, _, said = segue("finetune", *flags, *FLAGS, "--out", run)
    assert code == 0, said
    reader = JournalReader(run / "journal")
    entries = [entry.event for entry in reader.read(1000)]
    reader.close()
    steps = [event for event in entries if isinstance(event, Step)]
    sources = [SOURCES[step.transition.source] for step in steps[:15]]
    assert sources == ["policy"] * 4 + ["human"] * 3 + ["policy"] + ["human"] * 5 + ["policy"] * 2
    np.testing.assert_allclose([step.transition.action for step in steps[4:7]], [SIDE] * 3, rtol=1e-6)
    assert (steps[7].success, steps[7].transition.terminated) == (True, True)
    assert (steps[13].discarded, steps[13].transition.terminated, steps[13].transition.truncated) == (True, False, True)
    kept = list(episodes(run / "journal"))
    assert len(kept[0].transitions) == 8
    assert len(list(episodes(run / "journal", tombstoned=True))) == len(kept) + 1
    assert list(shares[-1]) == ["offline", "online", "human"]
    ring, size = shares[-1]["human"]
    assert int((ring.source[: int(size)] == SOURCES.index("human")).sum()) == 3  # the five of the other episode are out
    # The script stood still in the evaluations: its first action came right after the four of the policy.
    assert sum(isinstance(event, Scores) for event in entries) >= 2
    assert read_recipe(run / "recipe.json").online.human_share == 0.25


def test_what_makes_no_sense_is_refused(segue, data_file, script, tmp_path):
    run = ["finetune", "--data", data_file, "--online.bridge", "rlpd", "--out", tmp_path / "x"]
    refused(segue(*run, "--intervene", "mouse"), "device 'mouse'")
    refused(segue(*run, "--camera", "wrist_1=opencv:0"), "task 'peg_insertion' has the cameras none")
    refused(segue(*run, "--online.human-share", "0.6"), "the whole replay has 0.5 of it")
    refused(segue(*run, "--online.human-share", "0.1", "--seeds", "2"), "--online.human-share: no human acts")
    refused(segue(*run, "--intervene", script, "--seeds", "2"), "--camera, --intervene: several seeds")
    hopper = ["finetune", "--task", "hopper", "--data", data_file, "--online.bridge", "rlpd", "--out", tmp_path / "x"]
    refused(segue(*hopper, "--intervene", script), "--intervene: task 'hopper' is simulated without an arm")
    assert not (tmp_path / "x").exists()


def test_a_file_goes_on_by_a_line_a_step_and_in_a_pause_by_a_line_a_period():
    side = np.array(SIDE)
    played = Played([(side, None), (None, "pause"), (None, None), (side, None), (None, "pause"), (None, "success")])
    asked = []
    for calls in (1, 4, 1, 1):
        acted = played.action({}, []) is not None
        asked.append((acted, [played.verdict() for _ in range(calls)]))
    assert asked == [(True, [None]), (False, ["pause", None, None, "pause"]), (False, ["success"]), (False, [None])]
    assert played.verdict() is None  # nobody acts: an evaluation goes by without a line
    ends = Played([(None, "pause"), (None, None)])
    ends.action({}, [])
    assert [ends.verdict() for _ in range(3)] == ["pause", None, "stop"]
