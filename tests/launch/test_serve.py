"""The learner's process: who comes late is heard all the same."""

import socket
import threading
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from agent.replay.entry import Entry, Scores, Step
from agent.replay.journal import JournalReader
from launch import serve
from launch.address import Address
from launch.build import journal_info
from launch.finetune import finetune_stage, learner_stage, open_training
from launch.link import LearnerAway, Link
from launch.policies import load_policy
from launch.recipe_files import structure, to_plain
from launch.recipes import FinetuneRecipe
from launch.runs import progress_bar, read_lines
from launch.serve import run_name
from launch.sockets import ActorSockets
from launch.spool import Spool
from robot_env.tasks import find_task
from tests.launch.kills import free_port, read_streams
from tests.launch.waiting import eventually

LATE = 77  # the session that was told and never delivered


def listens(port: int) -> bool:
    """Whether a learner is there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def told_late(run: Path, count: int) -> list[Entry]:
    """What another session would have told: the run's own first transitions."""
    with closing(JournalReader(run / "journal")) as reader:
        events = [entry.event for entry in reader.read(2 * count) if not isinstance(entry.event, Scores)][:count]
    moved = [replace(e, transition=replace(e.transition, session=LATE)) if isinstance(e, Step) else e for e in events]
    return [Entry(LATE, number, event) for number, event in enumerate(moved)]


def test_a_finished_run_takes_what_an_actor_still_has_and_stays_as_it_is(tiny_finetune, tmp_path, monkeypatch):
    """Its actor was dead when it came to its end. Robot time is not thrown away because the plan is carried out."""
    monkeypatch.setattr(serve, "LATE_S", 5.0)
    run, port = tmp_path / "run", free_port()
    with progress_bar() as progress:
        finetune_stage(tiny_finetune, run, progress, in_process=True)
        policy, scores = load_policy(run)[0], read_lines(run / "scores.jsonl")
        with closing(Spool(tmp_path / "spool", 1 << 20, "stop")) as spool:
            spool.begin(LATE, journal_info(find_task(tiny_finetune.task), "").layout, run_name(run))
            for entry in told_late(run, 60):
                spool.append(entry)
        address = Address("127.0.0.1", port)
        late = threading.Thread(target=learner_stage, args=(tiny_finetune, run, progress, True, address, None))
        late.start()
        with (
            closing(Spool(tmp_path / "spool", 1 << 20, "stop")) as spool,
            closing(Link(ActorSockets(address, None), spool, 0, 20.0)) as link,
        ):
            link.join(LATE + 1)
            assert not spool.old
        late.join(30)
    assert not late.is_alive()
    assert [number for number, _ in read_streams(run / "journal")[LATE]] == list(range(60))
    assert read_lines(run / "scores.jsonl") == scores
    jax.tree.map(np.testing.assert_array_equal, load_policy(run)[0].params, policy.params)
    assert load_policy(run)[2]["finished"]


def test_an_actor_of_another_run_is_told_which_one(tiny_finetune, tmp_path, monkeypatch):
    """And keeps what it has."""
    monkeypatch.setattr(serve, "LATE_S", 4.0)
    run, port = tmp_path / "run", free_port()
    with progress_bar() as progress:
        finetune_stage(tiny_finetune, run, progress, in_process=True)
        address = Address("127.0.0.1", port)
        late = threading.Thread(target=learner_stage, args=(tiny_finetune, run, progress, True, address, None))
        with closing(Spool(tmp_path / "spool", 1 << 20, "stop")) as spool:
            spool.begin(LATE, journal_info(find_task(tiny_finetune.task), "").layout, "another-run")
            for entry in told_late(run, 5):
                spool.append(entry)
        late.start()
        assert eventually(lambda: listens(port))  # its programs may take longer than the patience below
        with (
            closing(Spool(tmp_path / "spool", 1 << 20, "stop")) as spool,
            closing(Link(ActorSockets(address, None), spool, 0, 1.0)) as link,
            pytest.raises(LearnerAway, match=r"belongs to run another-run, .*5 records are kept"),
        ):
            link.join(LATE + 1)
        late.join(30)
    assert not late.is_alive()
    assert LATE not in read_streams(run / "journal")
    assert [number for number, _ in read_streams(tmp_path / "spool")[LATE]] == list(range(5))


def test_a_journal_that_was_moved_away_is_missed(tiny_finetune, tmp_path):
    """Else the run would go on with an empty replay, and count its steps from 0."""
    run = tmp_path / "run"
    with progress_bar() as progress:
        finetune_stage(tiny_finetune, run, progress, in_process=True)
        (run / "journal").rename(tmp_path / "moved")
        with (
            pytest.raises(ValueError, match="is not there, and the checkpoint has learned from it"),
            open_training(tiny_finetune, run, progress, resume=True, finished_too=True),
        ):
            pass


def test_an_actor_of_another_version_says_so():
    plain = {**to_plain(FinetuneRecipe("x")), "new_field": 1}
    with pytest.raises(ValueError, match=r"new_field.*install the same version on both"):
        structure(plain, FinetuneRecipe)
