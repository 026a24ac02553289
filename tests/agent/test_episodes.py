"""Episodes of a journal: where they begin and end, which are discarded, and what a data set takes from them."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.replay import journal as journal_module
from agent.replay.dataset import Dataset
from agent.replay.entry import Gap, Step, encode
from agent.replay.episodes import Tombstones, episodes
from agent.replay.journal import JournalReader
from agent.replay.journal_index import build_index, spans
from agent.replay.journal_info import session_folders
from agent.replay.journal_repair import repair
from agent.replay.segment import segment_path, segments
from tests.agent.entries import INFO, SCORES, SESSION, Entry, story, write

LONG = story("---T", "-t", SCORES, "--.", "-T", "T", "-", SCORES, "---T", "-")
LENGTHS = [4, 2, 3, 2, 1, 1, 4, 1]


@pytest.fixture(autouse=True, scope="module")
def small_segments():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal_module, "SEGMENT_BYTES", 1800)
        yield


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "journal", LONG, story("--T", session=7))
    return tmp_path / "journal"


def test_an_episode_is_what_belongs_together(folder):
    found = list(episodes(folder))
    mine = [e for e in found if e.session == SESSION]
    assert [(e.number, len(e.transitions)) for e in mine] == list(enumerate(LENGTHS))
    assert [e.complete for e in mine] == [True, True, False, True, True, False, True, False]
    assert [e.success for e in mine] == [True, False, False, True, True, False, True, False]
    assert (found[-1].session, found[-1].number, found[-1].first, found[-1].next) == (7, 0, 1, 4)
    steps = [e for e in LONG if isinstance(e.event, Step)]
    at = 0
    for episode in mine:
        assert (episode.first, episode.next) == (steps[at].number, steps[at + len(episode.transitions) - 1].next)
        for transition in episode.transitions:
            assert transition.sequence == at
            np.testing.assert_array_equal(transition.obs["x"], steps[at].event.transition.obs["x"])
            at += 1


EVENTS = st.lists(st.sampled_from(["T", "t", "-T", "--t", "-.", "-", ".", SCORES, "gap", "----T"]), max_size=12)


@given(events=EVENTS, drop=st.sets(st.integers(1, 25), max_size=3))
def test_the_index_and_every_reader_agree_on_episodes(events, drop):
    """Also where records were damaged and transitions that follow have lost their observation."""
    entries = story(*(Gap(100 * i + 100, -1, "full") if e == "gap" else e for i, e in enumerate(events)))
    for at in drop & set(range(len(entries))):
        entries[at] = Entry(SESSION, entries[at].number, Gap(entries[at].next, -1, "damaged"))
    with TemporaryDirectory() as made:
        folder = Path(made)
        write(folder, entries)
        found, by_index = list(episodes(folder)), spans(session_folders(folder)[SESSION])
        assert [(e.first, e.next, len(e.transitions)) for e in found] == [(s.first, s.next, s.steps) for s in by_index]
        for episode, span in zip(found, by_index, strict=True):
            last = episode.transitions[-1]
            assert (span.terminated, span.truncated) == (last.terminated, last.truncated)
            assert span.reward_sum == sum(t.reward for t in episode.transitions)
            sequences = [t.sequence for t in episode.transitions]
            assert sequences == list(range(sequences[0], sequences[0] + len(sequences)))
        # As a learner counts them from what a reader gives it.
        begun, steps = [], 0
        for entry in JournalReader(folder).read(1000):
            if isinstance(entry.event, Step):
                if entry.event.first or not steps:
                    begun.append(entry.number)
                steps = 0 if entry.event.ends_episode else steps + 1
            else:
                steps = 0
        assert begun == [e.first for e in found]
        for number in segments(session_folders(folder)[SESSION]):
            assert build_index(session_folders(folder)[SESSION], number).first == number


def test_a_discarded_episode_is_left_out_until_it_is_restored(folder):
    tombstones = Tombstones(folder)
    assert not tombstones.refresh()
    for episode in (2, 6):
        Tombstones.discard(folder, SESSION, episode, reason="the gripper was loose", by="ada")
    assert (SESSION, 2) not in tombstones
    assert tombstones.refresh()
    assert not tombstones.refresh()
    assert (SESSION, 2) in tombstones
    assert (7, 0) not in tombstones
    assert Tombstones.read(folder) == {(SESSION, 2), (SESSION, 6)}
    assert [e.number for e in episodes(folder) if e.session == SESSION] == [0, 1, 3, 4, 5, 7]
    assert [e.tombstoned for e in episodes(folder, tombstoned=True)] == [n in (2, 6) for n in range(9)]
    Tombstones.restore(folder, SESSION, 2, by="bob")
    assert Tombstones.read(folder) == {(SESSION, 6)}
    assert tombstones.refresh()
    lines = [json.loads(line) for line in (folder / "tombstones.jsonl").read_text().splitlines()]
    assert [(line["session"], line["episode"], line["restored"], line["by"]) for line in lines] == [
        ("0000000000000abc", 2, False, "ada"),
        ("0000000000000abc", 6, False, "ada"),
        ("0000000000000abc", 2, True, "bob"),
    ]
    assert lines[0]["reason"] == "the gripper was loose"


def test_an_episode_that_goes_on_stays_discarded(folder):
    Tombstones.discard(folder, SESSION, 7, "an accident", "ada")
    write_more(folder, "---T-T")
    assert Tombstones.read(folder) == {(SESSION, 7)}
    assert [(e.number, len(e.transitions)) for e in episodes(folder) if e.session == SESSION][-2:] == [(6, 4), (8, 2)]


def write_more(folder, events):
    longer = story("---T", "-t", SCORES, "--.", "-T", "T", "-", SCORES, "---T", "-" + events)
    journal = journal_module.Journal.open(folder, INFO)
    for entry in longer[len(LONG) :]:
        assert journal.append(entry, encode(entry))
    journal.close()


def test_a_repair_that_renumbers_episodes_moves_no_tombstone(folder):
    Tombstones.discard(folder, SESSION, 3, "wrong", "ada")
    want = [(e.first, e.next) for e in episodes(folder, tombstoned=True) if e.tombstoned]
    path = segment_path(session_folders(folder)[SESSION], 0)
    broken = bytearray(path.read_bytes())
    broken[900] ^= 1  # in the middle of the first episode
    path.write_bytes(broken)
    assert repair(folder).ok
    found = [e for e in episodes(folder, tombstoned=True) if e.tombstoned]
    assert [(e.first, e.next) for e in found] == want
    assert Tombstones.read(folder) == {(SESSION, found[0].number)}


def test_what_is_not_there_cannot_be_discarded(folder):
    wrong = {
        "it has no session 0000000000000005": lambda: Tombstones.discard(folder, 5, 0, "", "ada"),
        "has 8 episodes and no number 8": lambda: Tombstones.discard(folder, SESSION, 8, "", "ada"),
        "has 8 episodes and no number -1": lambda: Tombstones.restore(folder, SESSION, -1, "ada"),
        "episode 2 of 0000000000000abc is not discarded": lambda: Tombstones.restore(folder, SESSION, 2, "ada"),
    }
    for words, call in wrong.items():
        with pytest.raises(ValueError, match=words) as refusal:
            call()
        assert "\n" not in str(refusal.value)
    assert not (folder / "tombstones.jsonl").exists()


def test_a_line_that_was_not_finished_was_never_there(folder):
    path = folder / "tombstones.jsonl"
    Tombstones.discard(folder, SESSION, 0, "a", "ada")
    first = path.read_bytes()
    Tombstones.discard(folder, SESSION, 1, "b", "ada")
    path.write_bytes(path.read_bytes()[:-5])
    assert Tombstones.read(folder) == {(SESSION, 0)}
    Tombstones.discard(folder, 7, 0, "c", "ada")
    assert path.read_bytes().startswith(first)
    assert Tombstones.read(folder) == {(SESSION, 0), (7, 0)}
    path.write_bytes(b"{}\n" + path.read_bytes())
    with pytest.raises(ValueError, match="line 1 is no tombstone"):
        list(episodes(folder))


@pytest.mark.parametrize("inside", [False, True])
def test_a_journal_is_a_data_set(folder, inside):
    Tombstones.discard(folder, SESSION, 1, "b", "ada")
    found = Dataset.load(folder.parent if inside else folder)
    assert vars(found.info) == {name: x for name, x in vars(INFO).items() if name not in ("layout", "transitions")}
    kept = [t for e in episodes(folder) for t in e.transitions]
    assert len(found) == len(kept) == sum(LENGTHS) - 2 + 3
    np.testing.assert_array_equal(found.columns["obs/x"], [t.obs["x"] for t in kept])
    assert found.columns["next_obs/image"].dtype == np.uint8
    np.testing.assert_array_equal(found.columns["reward"], [t.reward for t in kept])
    # Episodes that were left or cut off end where they were, truncated.
    lengths = [4, 3, 2, 1, 1, 4, 1, 3]
    assert [e.stop - e.start for e in found.episodes] == lengths
    ends = np.cumsum(lengths) - 1
    np.testing.assert_array_equal(found.columns["terminated"][ends], [1, 0, 1, 1, 0, 1, 0, 1])
    np.testing.assert_array_equal(found.columns["truncated"][ends], [0, 1, 0, 0, 1, 0, 1, 0])
    found.check({"x": (2,), "image": (2, 3)}, 1, "reach")
    assert found.batch().has_return.all()


def test_a_journal_without_data_or_with_damage_is_no_data_set(folder, tmp_path):
    write(tmp_path / "empty")
    with pytest.raises(ValueError, match="no transition that may be learned from"):
        Dataset.load(tmp_path / "empty")
    path = segment_path(session_folders(folder)[SESSION], 0)
    path.write_bytes(path.read_bytes()[:300] + b"x" + path.read_bytes()[301:])
    with pytest.raises(
        ValueError, match=r"data set .*record 1 at byte 120: .*; run `segue journal repair DIR` on its journal"
    ):
        Dataset.load(folder)
