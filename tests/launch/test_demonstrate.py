"""Demonstrations: by the task's script and by hand, kept as the human says, nothing lost, and learned from."""

import json
import os
import pty
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

from agent.replay.dataset import Dataset
from agent.replay.episodes import episodes
from agent.types import SOURCES
from launch.demonstrate import Demos, demos_stage
from launch.rig import Rig
from robot_env.keyboard import HOLD_S
from robot_env.tasks import find_task
from tests.launch.test_cli import TINY_FLAGS, refused
from tests.launch.waiting import eventually, started

PEG = find_task("peg_insertion")
DOWN, STILL = [0, 0, 0.5, 0, 0, 0], [0.0] * 6


def script(path, *lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return f"script:{path}"


def test_the_tasks_script_shows_it_and_the_data_is_learned_from(segue, tmp_path):
    folder = tmp_path / "demos"
    code, out, said = segue("record", "demos", "--intervene", "script", "--episodes", "3", "--out", folder, "--json")
    assert code == 0, said
    told = json.loads(out)
    data = Dataset.load(folder)
    assert (told["episodes"], told["success_rate"], told["transitions"]) == (3, 1.0, len(data))
    assert set(data.columns["source"]) == {SOURCES.index("human")}
    assert np.abs(data.columns["action"]).max() <= 1.0
    data.check({"state": (19,)}, 6, "peg_insertion")
    code, out, _ = segue("data", "info", folder, "--json")
    assert code == 0
    assert "demonstrations by the task's script on twin" in out
    flags = ["--offline.method", "bc", "--offline.updates", "20", "--offline.batch-size", "16", *TINY_FLAGS]
    code, _, said = segue("pretrain", "--data", folder, "--out", tmp_path / "bc", *flags)
    assert code == 0, said


def test_more_may_be_added_and_starts_are_others(segue, tmp_path):
    folder = tmp_path / "demos"
    flags = ["record", "demos", "--intervene", "script", "--out", folder, "--json"]
    segue(*flags, "--episodes", "1")
    refused(segue(*flags, "--episodes", "2"), "it already holds a run; give --resume")
    code, out, said = segue(*flags, "--episodes", "2", "--resume")
    assert code == 0, said
    assert json.loads(out)["episodes"] == 2
    kept = [each.transitions[0].obs["state"] for each in episodes(folder / "journal")]
    assert not np.array_equal(*kept)


def test_by_a_file_the_human_keeps_and_discards(tmp_path):
    rig = Rig(
        intervene=script(
            tmp_path / "hand.jsonl",
            {"action": DOWN},
            {"verdict": "success"},
            {"action": DOWN},
            {"action": DOWN},
            {"verdict": "discard"},
            {"verdict": "failure"},
            {"action": STILL, "verdict": "success"},
        )
    )
    folder = demos_stage(Demos(episodes=2), PEG, rig, tmp_path / "demos", False)
    data = Dataset.load(folder)
    assert [part.stop - part.start for part in data.episodes] == [2, 1]
    np.testing.assert_allclose(data.columns["action"], [DOWN, STILL, STILL])
    assert data.success_rate() == 1.0
    everything = [len(each.transitions) for each in episodes(folder / "journal", tombstoned=True)]
    assert everything == [2, 3, 1, 1]  # nothing is lost
    reasons = [
        json.loads(line)["reason"] for line in (folder / "journal" / "tombstones.jsonl").read_text().splitlines()
    ]
    assert reasons == ["discarded while it ran", "no success"]


def test_what_a_kill_cut_short_is_not_kept(tmp_path):
    rig = Rig(intervene=script(tmp_path / "hand.jsonl", {"verdict": "success"}, {}, {}, {"verdict": "success"}))
    folder = tmp_path / "demos"

    def cut(kept: int, note: str) -> None:
        if kept:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        demos_stage(Demos(episodes=9), PEG, rig, folder, False, progress=cut)
    found = list(episodes(folder / "journal", tombstoned=True))
    assert [(len(each.transitions), each.tombstoned) for each in found] == [(1, False)]
    demos_stage(Demos(episodes=2), PEG, rig, folder, True)
    assert [len(each.transitions) for each in episodes(folder / "journal")] == [1, 1]


def test_by_hand_the_human_is_asked_and_ctrl_c_in_mid_episode_leaves_a_data_set(tmp_path):
    ours, theirs = pty.openpty()
    folder, log = tmp_path / "demos", tmp_path / "said.txt"
    command = [sys.executable, "-m", "launch.cli", "record", "demos", "--intervene", "keyboard", "--out", str(folder)]
    command += ["--terminal", os.ttyname(theirs)]

    def asked(question: str, times: int) -> bool:
        return eventually(lambda: log.read_text().count(question) == times, 60.0)

    def press(keys: bytes) -> None:
        time.sleep(2 * HOLD_S)  # or the terminal would seem to repeat the key
        os.write(ours, keys)

    def largest() -> float:
        each = next(episodes(folder / "journal"))
        return max(float(np.linalg.norm(t.action)) for t in each.transitions)

    def lengths() -> list[int]:
        return [len(each.transitions) for each in episodes(folder / "journal", tombstoned=True)]

    with (
        open(log, "w") as said,
        started(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said) as process,
    ):
        try:
            assert asked("Enter begins", 1), log.read_text()
            press(b"\n")
            assert eventually(lambda: lengths() and lengths()[0] > 2, 30.0)
            # Half of a full move; again and again, as a held key is told.
            assert eventually(lambda: os.write(ours, b"w") and largest() == pytest.approx(0.5), 30.0)
            press(b"\n")
            assert asked("success after", 1)
            press(b"\n")
            assert asked("Enter begins", 2)
            press(b"\n")
            assert eventually(lambda: len(lengths()) == 2 and lengths()[1] > 2, 30.0)
            process.send_signal(signal.SIGINT)
            process.wait(30.0)
        finally:
            process.kill()
    os.close(ours)
    os.close(theirs)
    assert process.returncode == 130, log.read_text()
    data = Dataset.load(folder)
    assert len(data) == lengths()[0]
    assert data.success_rate() == 1.0


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([], ["--intervene", "give script, spacemouse"]),
        (["--intervene", "mouse"], ["device 'mouse'", "spacemouse, gamepad, keyboard"]),
        (["--intervene", "script", "--arm", "serl"], ["arm 'serl'"]),
        (["--intervene", "script", "--task", "hopper"], ["hopper", "see `segue collect`"]),
        (["--intervene", "script:none.jsonl"], ["none.jsonl: No such file"]),
        (["--intervene", "script", "--episodes", "0"], ["--episodes 0: give at least 1"]),
        (["--intervene", "gamepad:/dev/null/js0"], ["cannot be opened"]),
        (["--intervene", "script", "--camera", "wrist_1=opencv:0"], ["camera wrist_1=opencv:0", "cameras none"]),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_sentence(segue, tmp_path, flags, words):
    code, out, said = segue("record", "demos", *flags, "--out", tmp_path / "x")
    assert code in (1, 2)
    assert out == ""
    assert said.count("\n") == 1, said
    for word in words:
        assert word in said, (word, said)
    assert not (tmp_path / "x").exists()


def test_a_script_says_which_line_is_wrong(tmp_path):
    for line, what in [
        ({"action": [1, 2]}, "is not 6 finite numbers"),
        ({"verdict": "great"}, "verdict 'great' is unknown"),
        ({"verdict": ["stop"]}, "is unknown"),
        ([1], "it is no object"),
        ({"actoin": STILL}, "it is no object with action and verdict"),
        ({"action": "left"}, "could not convert"),
    ]:
        rig = Rig(intervene=script(tmp_path / "hand.jsonl", {"action": STILL}, line))
        with pytest.raises(ValueError, match=f"line 2: .*{what}"):
            rig.check(PEG)


def test_a_process_of_its_own_is_told_the_same_rig():
    rig = Rig(
        camera=("wrist_1=opencv:0", "wrist_2=file:a.mp4@0,0,9,9"), intervene="spacemouse@180", terminal="/dev/pts/9"
    )
    assert rig.flags == ["--camera", *rig.camera, "--intervene", "spacemouse@180", "--terminal", "/dev/pts/9"]
    assert replace(rig, camera=(), intervene="script:a.jsonl", terminal=None).flags == ["--intervene", "script:a.jsonl"]
