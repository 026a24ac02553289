"""The journal: what was told is there, once, in order, whatever happens in between."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.replay import journal as journal_module
from agent.replay.entry import Gap, Layout, Step, decode, encode
from agent.replay.journal import MAX_OPEN, Journal, JournalReader
from agent.replay.journal_index import build_index, index_path, read_index
from agent.replay.journal_info import JournalInfo, session_folders, session_name, session_number
from agent.replay.record import RecordError
from agent.replay.segment import pieces, segment_path, segments
from tests.agent.entries import INFO, LAYOUT, SCORES, SESSION, story, told, write

ROOT = Path(__file__).resolve().parents[2]
LONG = story("---T", "-t", "----T", SCORES, "--.", "-T", "------t", "T", "T", "----T")


@pytest.fixture(autouse=True, scope="module")
def small_segments():
    """Segments end after about four transitions."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal_module, "SEGMENT_BYTES", 1800)
        yield


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "run" / "journal"


def read_all(folder, count: int = 5, **options):
    reader, entries = JournalReader(folder), []
    while found := reader.read(count, **options):
        assert len(found) <= count
        entries += found
    assert reader.orphans == 0
    return entries


@pytest.mark.parametrize("count", [1, 3, 1000])
def test_what_was_told_is_read_with_every_observation(folder, count):
    other = story("--T", session=7)
    write(folder, LONG, other)
    assert told(read_all(folder, count)) == told([*LONG, *other])
    with closing(Journal.open(folder, None)) as journal:
        assert journal.info == INFO
        assert journal.sessions == [SESSION, 7]
        assert [journal.next(session) for session in (SESSION, 7, 8)] == [len(LONG), len(other), 0]
        assert journal.cuts == []


def test_sessions_stand_in_the_order_of_their_first_records(folder):
    for session in (900, 5, 77):
        write(folder, story("T", session=session))
    assert list(session_folders(folder)) == [900, 5, 77]
    assert [path.name for path in session_folders(folder).values()] == [
        "0000-0000000000000384",
        "0001-0000000000000005",
        "0002-000000000000004d",
    ]
    assert [e.session for e in read_all(folder, sessions=[77, 1, 5])] == [77, 77, 5, 5]


def test_segments_begin_with_episodes_and_each_but_the_last_has_its_index(folder):
    write(folder, LONG)
    path = session_folders(folder)[SESSION]
    firsts = segments(path)
    assert len(firsts) > 3
    for first in firsts:
        record = next(pieces(segment_path(path, first))).record
        event = decode(record, LAYOUT).event
        assert not isinstance(event, Step) or event.first
    for first in firsts[:-1]:
        index = read_index(path, first)
        assert index is not None
        assert index == build_index(path, first)
    assert not index_path(path, firsts[-1]).exists()
    index_path(path, firsts[1]).unlink()
    assert read_index(path, firsts[1]) is None
    Journal.open(folder, None).close()
    assert read_index(path, firsts[1]) == build_index(path, firsts[1])


@settings(max_examples=15)
@given(deliveries=st.lists(st.integers(0, len(LONG) - 1), max_size=60))
def test_records_are_taken_once_and_in_order_however_they_are_delivered(deliveries):
    with TemporaryDirectory() as made:
        folder, records = Path(made), [encode(entry) for entry in LONG]
        journal = Journal.open(folder, INFO)
        for at in [*deliveries, *range(len(LONG))]:
            expected = journal.next(SESSION)
            if at > expected:
                with pytest.raises(ValueError, match=f"brings record {at} where {expected} is next"):
                    journal.append(LONG[at], records[at])
            else:
                assert journal.append(LONG[at], memoryview(records[at])) == (at == expected)
        journal.close()
        assert told(read_all(folder)) == told(LONG)


def test_a_record_that_is_not_its_entry_is_refused(folder):
    with closing(Journal.open(folder, INFO)) as journal:
        with pytest.raises(ValueError, match="record 0 says it is 1"):
            journal.append(LONG[0], encode(LONG[1]))
        assert journal.append(LONG[0], encode(LONG[0]))


def test_a_gap_is_taken_where_records_will_never_come(folder):
    told_of = story("--T", Gap(9, 3, "full"), "--T")
    with closing(Journal.open(folder, INFO)) as journal:
        for entry in [*told_of, *told_of]:
            journal.append(entry, encode(entry))
        late = replace(told_of[4], number=2, event=Gap(30, 1, "full"))
        with pytest.raises(ValueError, match="brings record 2 where 12 is next"):
            journal.append(late, encode(late))
    assert told(read_all(folder)) == told(told_of)


def test_another_meaning_is_refused_by_name(folder):
    Journal.open(folder, INFO).close()
    Journal.open(folder, replace(INFO, provenance="told otherwise")).close()
    other = Layout({"x": ("<f4", (3,)), "image": ("|u1", (2, 3))}, 1)
    wrong = {
        "task": replace(INFO, task="insert"),
        "discount": replace(INFO, discount=0.9),
        "reward_scale": replace(INFO, reward_scale=1.0),
        "layout.obs.x": replace(INFO, layout=other),
        "layout.action_dim": replace(INFO, layout=replace(LAYOUT, action_dim=2)),
        "layout.obs.y": replace(INFO, layout=replace(LAYOUT, obs={**LAYOUT.obs, "y": ("<f4", ())})),
    }
    for name, info in wrong.items():
        with pytest.raises(ValueError, match=f"its {name} is .*; use a new folder"):
            Journal.open(folder, info)
    Journal.open(folder, None).close()  # what was refused does not hold it


@pytest.mark.parametrize("text", ["", "[]", '{"format": 2}', '{"format": 2, "layout": {"obs": 3}}', "\xff", None])
def test_a_journal_that_says_nothing_of_itself_is_refused(folder, text):
    folder.mkdir(parents=True)
    if text is not None:
        (folder / "journal.json").write_text(text, encoding="latin-1")
    for call in (lambda: Journal.open(folder, None), lambda: JournalReader(folder)):
        with pytest.raises(ValueError, match=r"journal .*;") as refusal:
            call()
        assert "\n" not in str(refusal.value)


def test_another_format_is_refused(folder):
    INFO_FILE = folder / "journal.json"
    Journal.open(folder, INFO).close()
    assert JournalInfo.read(folder) == INFO
    INFO_FILE.write_text(INFO_FILE.read_text().replace('"format": 2', '"format": 1'))
    with pytest.raises(ValueError, match="its format is 1"):
        Journal.open(folder, INFO)


HOLD = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from agent.replay.journal import Journal
try:
    Journal.open(Path(sys.argv[1]), None)
except ValueError as error:
    print(error)
"""


def test_two_processes_cannot_write_one_journal(folder):
    journal = Journal.open(folder, INFO)
    with pytest.raises(ValueError, match="another process uses it"):
        Journal.open(folder, INFO)
    done = subprocess.run([sys.executable, "-c", HOLD, folder, ROOT], capture_output=True, text=True, check=True)
    assert done.stdout == f"journal {folder}: another process uses it; stop that one first\n"
    journal.close()


@given(start=st.integers(0, len(LONG) + 3), until=st.integers(0, len(LONG) + 3), count=st.integers(1, 40))
def test_a_reader_begins_anywhere_and_stops_anywhere(long_journal, start, until, count):
    reader = JournalReader(long_journal, {SESSION: start})
    entries = []
    while found := reader.read(count, until={SESSION: until, 99: 3}):
        entries += found
    assert told(entries) == told(LONG[start:until])
    assert reader.orphans == 0
    assert JournalReader(long_journal).read(count, until={}) == []
    if entries:
        assert reader.positions == {SESSION: min(until, len(LONG))}


@pytest.fixture(scope="module")
def long_journal(tmp_path_factory):
    folder = tmp_path_factory.mktemp("long") / "journal"
    write(folder, LONG)
    return folder


def test_a_reader_follows_what_other_threads_append(folder):
    stories = [story("--T", "---t", "-T", session=session) for session in range(1, 30)]
    journal, stop = Journal.open(folder, INFO), threading.Event()

    def append():
        for entries in stories:
            for entry in entries:
                journal.append(entry, encode(entry))
        stop.set()

    thread = threading.Thread(target=append)
    thread.start()
    reader, free, found, seen, stopped = JournalReader(folder), JournalReader(folder), [], [], False
    while not stopped:
        stopped = stop.is_set()
        journal.sync()
        while entries := reader.read(7, until={session: journal.next(session) for session in journal.sessions}):
            found += entries
        seen += free.read(10_000)
    thread.join()
    journal.close()
    for entries in (found, seen):
        assert sorted(told(entries), key=lambda line: line[:2]) == told(e for entries in stories for e in entries)


def test_what_follows_a_gap_without_its_observation_is_left_out_and_counted(folder):
    whole = story("-----T", "--T")
    lost = [*whole[:3], replace(whole[3], event=Gap(4, -1, "damaged")), *whole[4:]]
    write(folder, lost)
    reader = JournalReader(folder)
    found = reader.read(100)
    assert told(found) == told([*lost[:4], *whole[5:]])  # 5 has the next_obs of 4 for its obs again
    assert reader.orphans == 1
    later = JournalReader(folder, {SESSION: 5})
    assert told(later.read(100)) == told(whole[5:])
    assert later.orphans == 0


def test_a_reader_gives_what_is_before_the_damage_then_names_it(folder):
    other = story("T", session=7)
    write(folder, LONG, other)
    path = session_folders(folder)[7]
    broken = bytearray(segment_path(path, 0).read_bytes())
    broken[-1] ^= 1
    segment_path(path, 0).write_bytes(broken)
    reader = JournalReader(folder)
    assert told(reader.read(100)) == told([*LONG, other[0]])
    for _ in range(2):
        with pytest.raises(RecordError, match=f"{path}/000000000000.seg: record 1 at byte"):
            reader.read(1)


def test_a_record_of_another_task_is_named(folder):
    write(folder, LONG)
    replace(INFO, layout=replace(LAYOUT, action_dim=2)).write(folder)
    reader = JournalReader(folder)
    assert len(reader.read(100)) == 1
    for _ in range(2):
        with pytest.raises(RecordError, match=r"record 1: array 'action' .*; run `segue journal repair`"):
            reader.read(100)


@settings(max_examples=20)
@given(kept=st.floats(0, 1))
def test_a_session_cut_anywhere_is_a_prefix_and_goes_on(kept):
    with TemporaryDirectory() as made:
        folder = Path(made)
        write(folder, LONG, story("--T", session=7))
        path = session_folders(folder)[SESSION]
        last = segment_path(path, segments(path)[-1])
        size = last.stat().st_size
        os.truncate(last, int(kept * size))
        before = read_all(folder)
        journal = Journal.open(folder, INFO)
        begin = journal.next(SESSION)
        assert told(before) == told([*LONG[:begin], *story("--T", session=7)])
        assert len(journal.cuts) == (last.stat().st_size < int(kept * size))
        if journal.cuts:
            assert f"{last}: cut {int(kept * size) - last.stat().st_size} bytes" in journal.cuts[0]
        for entry in LONG:
            assert journal.append(entry, encode(entry)) == (entry.number >= begin)
        journal.close()
        assert told(read_all(folder, sessions=[SESSION])) == told(LONG)
        for first in segments(path)[:-1]:
            assert read_index(path, first) == build_index(path, first)


KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from agent.replay import journal
from agent.replay.entry import encode
from tests.agent.entries import INFO, story
journal.SEGMENT_BYTES = 20_000
entries = story(*["----T"] * 500)
records = [encode(entry) for entry in entries]
opened = journal.Journal.open(Path(sys.argv[1]), INFO)
safe = 0
for entry, record in zip(entries, records):
    if opened.append(entry, record) and entry.number % 100 == 99:
        opened.sync()
        print(opened.next(entry.session), flush=True)
print("all")
"""


def test_a_writer_that_is_killed_leaves_a_prefix_with_all_that_it_had_synced(folder):
    entries, synced, round_ = story(*["----T"] * 500), 0, 0
    for round_ in range(3):
        process = subprocess.Popen([sys.executable, "-c", KILLED, folder, ROOT], stdout=subprocess.PIPE, text=True)
        with process:
            assert process.stdout is not None
            line = process.stdout.readline()
            time.sleep(0.007 * round_)
            process.send_signal(signal.SIGKILL)
            rest = process.stdout.read().split()
        synced = int([line, *(word for word in rest if word.isdigit())][-1])
        found = read_all(folder, 1000)
        assert len(found) >= synced > 0
        assert told(found) == told(entries[: len(found)])
    with closing(Journal.open(folder, None)) as journal:
        assert journal.next(SESSION) == len(found)
        assert len(found) > 300


@pytest.mark.parametrize(("name", "times"), [("pwrite", len(LONG)), ("open", 4)])
def test_a_full_disk_leaves_the_journal_as_it_was(folder, monkeypatch, name, times):
    def full(*_):
        raise OSError("no space left")

    journal, failed = Journal.open(folder, INFO), 0
    for entry in LONG:
        with monkeypatch.context() as patch:
            patch.setattr(os, name, full)  # no record can be written; no segment can be begun
            try:
                journal.append(entry, encode(entry))
            except OSError:
                failed += 1
                assert journal.next(SESSION) == entry.number
        journal.append(entry, encode(entry))
    journal.close()
    assert failed == times
    assert told(read_all(folder)) == told(LONG)
    path = session_folders(folder)[SESSION]
    assert [read_index(path, first) for first in segments(path)[:-1]] == [build_index(path, n) for n in (0, 7, 18)]


def test_open_files_do_not_grow_with_sessions(folder):
    before = len(os.listdir("/proc/self/fd"))
    stories = [story("-T", session=session) for session in range(1, 60)]
    with closing(Journal.open(folder, INFO)) as journal:
        for place in range(3):
            for entries in stories:
                journal.append(entries[place], encode(entries[place]))
                assert len(os.listdir("/proc/self/fd")) <= before + MAX_OPEN + 1
    found = read_all(folder)
    assert len(os.listdir("/proc/self/fd")) == before
    assert told(found) == told(entry for entries in stories for entry in entries)


@given(session=st.integers(1, (1 << 63) - 1))
def test_a_session_has_one_name(session):
    assert session_number(session_name(session)) == session
    for name in (session_name(session)[1:], session_name(session).upper() + "g", "0" * 16, "f" * 16, ""):
        with pytest.raises(ValueError, match=f"session '{name}'"):
            session_number(name)
