"""`segue evaluate`: what is kept, a kill in the middle, films, a human's keys, and what is refused."""

import json
import os
import pty
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import replace

import cv2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from launch.attendant import nobody
from launch.evaluate import Trial
from launch.evaluation import TRIALS, Assessment, Keeping, TrialLog, check, evaluate
from launch.rig import Rig
from launch.runs import read_lines
from launch.tasks import find_task
from robot_env.keyboard import HOLD_S
from tests.launch.kills import ROOT, environment
from tests.launch.test_cli import refused
from tests.launch.waiting import eventually

RESULT = "evaluation.json"


@pytest.fixture(scope="module")
def tested(pretrained, tmp_path_factory):
    """An evaluation of two trials of each kind, as it is left."""
    folder = tmp_path_factory.mktemp("tested") / "evaluation"
    evaluate(pretrained, Assessment(trials=2), Keeping(out=folder))
    return folder


def test_what_is_told_is_what_is_kept(segue, pretrained, tmp_path):
    out = tmp_path / "new" / "evaluation"
    code, told, said = segue("evaluate", pretrained, "--trials", "2", "--modes", "sample", "--out", out, "--json")
    result = json.loads(told)
    assert code == 0, said
    assert result == json.loads((out / RESULT).read_text())
    assert "mode" not in result
    assert (result["arm"], result["seed"], result["resets"], result["task"]) == ("twin", 0, "fixed", "peg_insertion")
    assert result["versions"]["segue"]
    assert [start["seed"] for start in result["starts"]] == [10_000, 10_001]
    rows = read_lines(out / TRIALS)
    assert [row["trial"] for row in rows] == result["sample"]["outcomes"]
    assert rows[-1]["calls"] == sum(row["trial"]["env_steps"] for row in rows)
    assert said.count("sample 0: ") == said.count("sample 1: ") == 1
    assert {path.name for path in out.iterdir()} == {RESULT, TRIALS, "recipe.json"}


def test_a_killed_evaluation_goes_on_and_ends_as_one_that_was_not(segue, pretrained, tmp_path):
    command = ["evaluate", pretrained, "--trials", "40", "--modes", "sample"]
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    program = [sys.executable, "-m", "launch.cli", *map(str, command), "--out", str(killed)]
    with subprocess.Popen(program, cwd=ROOT, env=environment(tmp_path / "compiled")) as running:
        assert eventually(lambda: len(read_lines(killed / TRIALS)) >= 2, 120)
        running.send_signal(signal.SIGKILL)
    before = len(read_lines(killed / TRIALS))
    assert 2 <= before < 40
    assert not (killed / RESULT).exists()
    refused(segue(*command, "--out", killed), "already holds a run", "--resume")
    code, told, said = segue(*command, "--out", killed, "--resume", "--json")
    assert code == 0, said
    assert said.count("sample ") == 40 - before
    code, again, _ = segue(*command, "--out", whole, "--json")
    assert code == 0
    assert json.loads(told) == json.loads(again)
    assert (killed / TRIALS).read_bytes() == (whole / TRIALS).read_bytes()
    assert (killed / RESULT).read_bytes() == (whole / RESULT).read_bytes()


def test_trials_and_ways_of_acting_may_be_added(segue, pretrained, tmp_path):
    out, whole = tmp_path / "grown", tmp_path / "whole"
    for more in (["--trials", "1", "--modes", "sample"], ["--trials", "2", "--modes", "mode", "sample", "--resume"]):
        code, _, said = segue("evaluate", pretrained, "--out", out, *more)
        assert code == 0, said
    segue("evaluate", pretrained, "--out", whole, "--trials", "2")
    assert (out / RESULT).read_bytes() == (whole / RESULT).read_bytes()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--seed", "1"], "its run has seed 0, this one 1"),
        (["--resets", "drawn"], "its run has resets fixed, this one drawn"),
        (["--realtime"], "its run has realtime False, this one True"),
    ],
)
def test_another_evaluation_is_not_gone_on_with(segue, pretrained, tested, flags, said):
    refused(segue("evaluate", pretrained, "--out", tested, "--resume", *flags), said, "another folder")


def test_another_checkpoint_is_not_gone_on_with(segue, pretrained, tested, tmp_path):
    os.symlink(pretrained, tmp_path / "same")
    code, _, said = segue("evaluate", tmp_path / "same", "--trials", "2", "--out", tested, "--resume")
    assert code == 0, said  # another name for it
    recipe = tmp_path / "other" / "recipe.json"
    recipe.parent.mkdir()
    recipe.write_text((tested / "recipe.json").read_text().replace(str(pretrained.resolve()), "/elsewhere"))
    (recipe.parent / TRIALS).write_text("")
    refused(segue("evaluate", pretrained, "--out", recipe.parent, "--resume"), "checkpoint /elsewhere, this one")


def test_drawn_trials_are_others_for_each_seed(segue, pretrained, tmp_path):
    found = {}
    for seed in ("1", "2"):
        flags = ["--resets", "drawn", "--seed", seed, "--modes", "mode", "--trials", "2", "--json"]
        found[seed] = json.loads(segue("evaluate", pretrained, *flags)[1])
    assert found["1"]["starts"] != found["2"]["starts"]
    ends = [[trial["final_offset_m"] for trial in each["mode"]["outcomes"]] for each in found.values()]
    assert ends[0] != ends[1]


def test_against_itself_nothing_is_better(segue, pretrained, tested):
    code, told, said = segue("evaluate", pretrained, "--trials", "2", "--against", tested, "--json")
    against = json.loads(told)["against"]
    assert code == 0, said
    for mode in ("mode", "sample"):
        assert (against[mode]["better"], against[mode]["p_value"]) == (0.5, 1.0)
    assert against["warnings"] == []
    code, told, _ = segue("evaluate", pretrained, "--trials", "2", "--against", tested)
    plain = " ".join(told.split())
    assert "better with probability 0.50 (the same trials: 0 won, 0 lost, p = 1)" in plain
    for word in ("acting", "success", "Wilson", "failed trials", "peg_insertion on twin"):
        assert word in plain


def test_each_trial_is_filmed_and_its_film_says_how_it_went(segue, pretrained, tmp_path):
    out = tmp_path / "films"
    command = ["evaluate", pretrained, "--trials", "1", "--modes", "mode", "--out", out, "--video"]
    code, _, said = segue(*command)
    assert code == 0, said
    (trial,) = json.loads((out / RESULT).read_text())["mode"]["outcomes"]
    name = f"mode_000_{'success' if trial['success'] else 'failure'}.mp4"
    assert [path.name for path in out.glob("*.mp4")] == [name]
    film, frames = cv2.VideoCapture(str(out / name)), 0
    while film.read()[0]:
        frames += 1
    assert frames == trial["env_steps"] + 1 + 15
    (out / "mode_000_fault.mp4").write_bytes(b"of a trial that was killed before its line was written")
    (out / TRIALS).write_text("")
    code, _, said = segue(*command, "--resume")
    assert code == 0, said
    assert [path.name for path in out.glob("*.mp4")] == [name]


@contextmanager
def typed(key: bytes):
    """A terminal into which a key is typed again and again, slowly enough not to seem held."""
    ours, theirs = pty.openpty()
    done = threading.Event()

    def write() -> None:
        while not done.wait(2 * HOLD_S):
            os.write(ours, key)

    typist = threading.Thread(target=write)
    typist.start()
    yield ["--intervene", "keyboard", "--terminal", os.ttyname(theirs)]
    done.set()
    typist.join()
    os.close(theirs)
    os.close(ours)


def test_a_humans_keys_say_how_it_went(segue, pretrained):
    with typed(b"\n") as keys:
        code, told, said = segue("evaluate", pretrained, "--trials", "2", "--modes", "mode", *keys, "--json")
    assert code == 0, said
    score = json.loads(told)["mode"]
    assert (score["success"], score["trials"]) == (2, 2)
    assert all(0.0 <= trial["success_s"] < 4.0 for trial in score["outcomes"])
    assert "Enter success" in said


def test_a_robots_fault_ends_it_and_what_was_done_is_kept(segue, pretrained, tmp_path, monkeypatch):
    out = tmp_path / "evaluation"
    command = ["evaluate", pretrained, "--trials", "3", "--modes", "mode", "--out", out]
    monkeypatch.setattr(Rig, "attendant", lambda rig, arm, human: nobody)
    with typed(b" ") as keys:
        code, _, said = segue(*command, *keys)
    assert code == 1
    assert "the operator stopped the arm; look at it" in " ".join(said.split())
    assert "--resume: 1 trials are in" in " ".join(said.split())
    assert [row["trial"]["fault"] for row in read_lines(out / TRIALS)] == ["the operator stopped the arm"]
    with typed(b"\n") as keys:
        code, told, said = segue(*command, *keys, "--resume")
    assert code == 0, said
    score = json.loads((out / RESULT).read_text())["mode"]
    assert [trial["success"] for trial in score["outcomes"]] == [False, True, True]
    assert "0 (fault)" in told


TRIAL = Trial(0, True, 20, None, 1.0, None, (0.1, 0.2, 0.3), None, 2.0)


@given(count=st.integers(0, 4), data=st.data())
def test_a_log_that_was_torn_anywhere_goes_on_with_the_whole_lines(tmp_path_factory, count, data):
    path = tmp_path_factory.mktemp("log") / TRIALS

    def add(first: int) -> None:
        log = TrialLog(path)
        assert len(log.trials["mode"]) == first
        for number in range(first, 4):
            log.add("mode", replace(TRIAL, number=number), number)
        log.close()

    add(0)
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    kept = b"".join(lines[:count])
    torn = lines[count][: data.draw(st.integers(0, len(lines[count]) - 1))] if count < 4 else b""
    path.write_bytes(kept + torn)
    complete = count + (torn == lines[count][:-1]) if count < 4 else 4  # only its line end was torn off
    add(complete)
    assert path.read_bytes() == whole


@pytest.mark.parametrize("line", ['{"mode": "mode", "calls": 0, "trial": {}}', '{"mode": "x"}', "[1]", "{}"])
def test_a_log_with_a_line_that_is_no_trial_names_it(tmp_path, line):
    (tmp_path / TRIALS).write_text(f"{line}\n")
    with pytest.raises(ValueError, match=r"trials.jsonl:1 is not the next trial"):
        TrialLog(tmp_path / TRIALS)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--trials", "0"], ["--trials 0", "at least 1"]),
        (["--modes", "mode", "mode"], ["--modes mode mode", "once"]),
        (["--seed", "-1"], ["--seed -1"]),
        (["--resume"], ["--resume", "--out DIR"]),
        (["--video"], ["--video", "--out DIR"]),
        (["--arm", "nonesuch"], ["nonesuch", "twin"]),
        (["--reward", "nowhere"], ["nowhere", "no cameras"]),
        (["--against", "nowhere"], ["--against nowhere", "holds no evaluation.json"]),
        (["--intervene", "script:nowhere"], ["script:nowhere", "nobody takes over"]),
        (["--arm", "franky", "--video", "--out", "unmade"], ["--video", "no cameras of its own"]),
    ],
)
def test_mistakes_end_in_a_sentence(segue, pretrained, flags, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused(segue("evaluate", pretrained, *flags), *words)
    assert list(tmp_path.iterdir()) == []


def test_a_simulation_without_an_arm_is_not_filmed(tmp_path):
    with pytest.raises(ValueError, match="--video: task 'narrow_passage' is simulated without an arm"):
        check(find_task("narrow_passage"), Assessment(), Keeping(out=tmp_path, video=True), Rig())
