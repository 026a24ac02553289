"""`segue journal` and `segue keys`, as people use them."""

import json
import os
import re
import shutil
import stat

import pytest

from agent.replay.journal_info import session_folders
from launch.finetune import finetune_stage, open_training
from launch.recipes import FinetuneRecipe
from launch.runs import progress_bar
from tests.launch.conftest import TINY


@pytest.fixture(scope="module")
def finished(pretrained, tmp_path_factory):
    recipe = FinetuneRecipe(str(pretrained), learning=TINY.learning, online=TINY.online, evaluation=TINY.evaluation)
    folder = tmp_path_factory.mktemp("finished") / "run"
    with progress_bar() as progress:
        finetune_stage(recipe, folder, progress, in_process=True)
    return folder


@pytest.fixture
def run(finished, tmp_path):
    """A copy to damage."""
    return shutil.copytree(finished, tmp_path / "run")


def told(segue, *arguments):
    code, out, err = segue(*arguments, "--json")
    return code, json.loads(out) if out else None, err


def test_show_lists_every_episode(run, segue):
    code, facts, _ = told(segue, "journal", "show", run)
    assert code == 0
    assert facts["env_steps"] == 240 == sum(row["env_steps"] for row in facts["episodes"])
    assert facts["episodes"][-1]["ended"] == "unfinished"
    assert {row["ended"] for row in facts["episodes"][:-1]} <= {"time limit", "success"}
    code, out, _ = segue("journal", "show", run / "journal")
    assert code == 0
    assert facts["episodes"][0]["episode"] in out


def test_a_whole_journal_verifies_and_a_flipped_bit_is_found_and_repaired(run, segue):
    assert told(segue, "journal", "verify", run)[:2][0] == 0
    folder = next(iter(session_folders(run / "journal").values()))
    path = folder / "000000000000.seg"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)
    code, facts, _ = told(segue, "journal", "verify", run)
    assert code == 1
    assert not facts["whole"]
    place = re.search(r"000000000000\.seg, byte (\d+), record (\d+)", facts["findings"][0])
    assert place
    assert int(place[1]) <= len(data) // 2
    code, _, err = segue("learner", "--out", run, "--resume", "--checkpoint", "x")
    assert code == 2, err
    code, facts, _ = told(segue, "journal", "repair", run)
    assert code == 0
    assert facts["whole"]
    assert facts["repairs"]
    assert told(segue, "journal", "verify", run)[0] == 0


def test_a_discarded_episode_is_not_learned_from_and_comes_back(run, segue, tiny_finetune):
    (run / "checkpoint").rename(run / "gone")  # so that the run learns all of it again, from the journal

    def rows() -> int:
        with progress_bar() as progress, open_training(tiny_finetune, run, progress, resume=True) as training:
            assert training is not None
            while training.work():
                pass
            assert training.ledger.env_steps == 240
            return training.learner.ring.inserted

    code, facts, _ = told(segue, "journal", "show", run)
    victim = facts["episodes"][1]
    code, _, _ = segue("journal", "discard", run, "--episode", victim["episode"], "--reason", "camera covered")
    assert code == 0
    assert "discarded" in told(segue, "journal", "show", run)[1]["episodes"][1]["ended"]
    assert rows() == 240 - victim["env_steps"]
    assert segue("journal", "restore", run, "--episode", victim["episode"])[0] == 0
    assert rows() == 240


def test_a_running_learner_takes_a_tombstone_in(run, segue, tiny_finetune):
    (run / "checkpoint").rename(run / "gone")
    victim = told(segue, "journal", "show", run)[1]["episodes"][0]
    with progress_bar() as progress, open_training(tiny_finetune, run, progress, resume=True) as training:
        assert training is not None
        while training.work():
            pass
        assert not training.refresh_tombstones()
        assert segue("journal", "discard", run, "--episode", victim["episode"], "--reason", "x")[0] == 0
        assert training.refresh_tombstones()
        assert training.learner.ring.inserted == 240 - victim["env_steps"]
        assert not training.refresh_tombstones()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["show", "nowhere"], "there is none"),
        (["discard", "RUN"], "--episode"),
        (["discard", "RUN", "--episode", "abc"], "SESSION:NUMBER"),
        (["discard", "RUN", "--episode", "zz:1", "--reason", "x"], "hexadecimal"),
        (["discard", "RUN", "--episode", "0000000000000001:1", "--reason", "x"], "no session"),
        (["verify", "RUN", "--reason", "x"], "takes neither"),
    ],
)
def test_mistakes_end_in_a_sentence(arguments, words, run, segue):
    code, out, err = segue("journal", *[run if a == "RUN" else a for a in arguments])
    assert (code, out) == (2, "")
    assert words in err
    assert "Traceback" not in err


def test_keys_are_made_shown_and_trusted(tmp_path, segue):
    here, there = tmp_path / "here", tmp_path / "there"
    _, mine, _ = told(segue, "keys", "make", "--folder", here)
    _, its, _ = told(segue, "keys", "make", "--folder", there)
    secret = next(here.glob("*secret"))
    assert stat.S_IMODE(os.stat(secret).st_mode) == 0o600
    assert told(segue, "keys", "trust", "robot-pc", its["public key"], "--folder", here)[0] == 0
    assert told(segue, "keys", "show", "--folder", here)[1]["trusted"] == {"robot-pc": its["public key"]}
    code, out, _ = segue("keys", "show", "--folder", here)
    assert code == 0
    assert mine["public key"] in out.replace("\n", "")
    for wrong in (["make"], ["trust"], ["trust", "a/b", its["public key"]], ["trust", "x", "short"], ["show", "x"]):
        code, out, err = segue("keys", *wrong, "--folder", here)
        assert (code, out) == (2, ""), wrong
        assert err.count("\n") == 1, err


def test_a_public_bind_without_keys_is_refused_with_the_remedy(tmp_path, segue, pretrained, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "none"))
    code, _, err = segue("learner", "--out", tmp_path / "run", "--checkpoint", pretrained, "--bind", "0.0.0.0:0")
    assert code == 2
    assert "segue keys make" in err
    assert not (tmp_path / "run").exists()
    code, _, err = segue("actor", "--connect", "192.0.2.1:5555", "--out", tmp_path / "actor")
    assert code == 2
    assert "segue keys make" in err
