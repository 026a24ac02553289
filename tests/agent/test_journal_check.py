"""Verifying and repairing a journal: damage is found where it is, and what is good stays."""

import json
import os
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.replay import journal as journal_module
from agent.replay.entry import Entry, Gap, decode, encode
from agent.replay.journal import Journal, JournalReader
from agent.replay.journal_check import Finding, verify
from agent.replay.journal_index import build_index, index_path, read_index
from agent.replay.journal_info import session_folders
from agent.replay.journal_repair import repair
from agent.replay.segment import pieces, segment_path, segments
from tests.agent.entries import INFO, LAYOUT, SCORES, SESSION, story, told, write

LONG = story("---T", "-t", "----T", SCORES, "--.", "-T", "------t", "T", "T", "----T")
OTHER = story("--T", "-t", session=7)


@pytest.fixture(autouse=True, scope="module")
def small_segments():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal_module, "SEGMENT_BYTES", 1800)
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory, small_segments):
    folder = tmp_path_factory.mktemp("whole") / "journal"
    write(folder, LONG, OTHER)
    return folder


def copied(whole: Path, to: str | Path) -> Path:
    return Path(shutil.copytree(whole, Path(to) / "journal"))


@pytest.fixture
def folder(whole, tmp_path):
    return copied(whole, tmp_path)


def places(folder: Path) -> list[tuple[Path, int, int]]:
    """Segment, offset and size of each record of the first session."""
    path = session_folders(folder)[SESSION]
    return [(segment_path(path, n), p.offset, p.size) for n in segments(path) for p in pieces(segment_path(path, n))]


def spoil(path: Path, offset: int, bit: int = 0) -> None:
    broken = bytearray(path.read_bytes())
    broken[offset] ^= 1 << bit
    path.write_bytes(broken)


def raw(folder: Path, session: int = SESSION) -> list[Entry]:
    """What stands in a session, each transition as its record tells it."""
    path = session_folders(folder)[session]
    records = [p.record for n in segments(path) for p in pieces(segment_path(path, n))]
    return [decode(record, LAYOUT) for record in records]


def bare(entries: list[Entry]) -> list[Entry]:
    return [decode(encode(entry), LAYOUT) for entry in entries]


def test_a_whole_journal_is_ok_and_counted(folder):
    report = verify(folder)
    assert report.ok
    assert report.findings == report.repairs == []
    first, other = report.sessions
    assert (first.session, first.records, first.transitions) == (SESSION, len(LONG), len(LONG) - 2)
    assert (first.complete, first.open, first.gaps, first.lost) == (8, 1, 0, 0)
    assert first.nbytes == sum(size for _, _, size in places(folder))
    assert (other.session, other.records, other.complete) == (7, 6, 2)
    files = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert repair(folder).repairs == []
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == files


def test_gaps_are_counted_and_are_no_damage(tmp_path):
    write(tmp_path, story("--T", Gap(9, 4, "full"), "--T", Gap(20, 7, "full")))
    report = verify(tmp_path)
    assert report.ok
    assert (report.sessions[0].gaps, report.sessions[0].lost) == (2, 11)


@settings(max_examples=25)
@given(at=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_every_flipped_bit_is_found_at_its_record_and_repair_keeps_all_others(whole, at, bit):
    with TemporaryDirectory() as made:
        folder = copied(whole, made)
        where = places(folder)
        offset = int(at * sum(size for *_, size in where))
        number = next(n for n in range(len(where)) if offset < sum(size for *_, size in where[: n + 1]))
        path, begin, _ = where[number]
        spoil(path, begin + offset - sum(size for *_, size in where[:number]), bit)
        damaged = path.read_bytes()

        report = verify(folder)
        assert [(f.file, f.offset, f.number) for f in report.findings] == [(path, begin, number)]
        last = number == len(LONG) - 1
        assert ("torn tail" in report.findings[0].what) == last
        mended = repair(folder)
        assert mended.ok
        assert mended.sessions[0].gaps == (0 if last else 1)
        assert mended.repairs
        found = raw(folder)
        gap = [] if last else [Entry(SESSION, number, Gap(number + 1, -1, "it was damaged on the disk"))]
        assert told(found) == told([*bare(LONG[:number]), *gap, *bare(LONG[number + 1 :])])
        kept = next(path.parent.glob(f"{path.name}.torn" if last else f"{path.name}.damaged")).read_bytes()
        assert kept == (damaged[begin:] if last else damaged)
        assert told(raw(folder, 7)) == told(bare(OTHER))
        for first in segments(path.parent)[:-1]:
            assert read_index(path.parent, first) == build_index(path.parent, first)
        goes_on(folder, len(LONG) - last)
        assert len(JournalReader(folder).read(1000)) >= len(LONG) - 2 + len(OTHER)


def goes_on(folder: Path, number: int) -> None:
    """The journal can be opened and takes what comes next."""
    journal = Journal.open(folder, INFO)
    assert journal.cuts == []
    assert journal.next(SESSION) == number
    gap = Entry(SESSION, number, Gap(number + 5, -1, "full"))
    assert journal.append(gap, encode(gap))
    journal.close()


@settings(max_examples=20)
@given(kept=st.floats(0, 1), rest=st.sampled_from([b"", b"\xff", b"\xff" * 40, b"\xffSGR1" * 9]))
def test_a_torn_tail_is_found_cut_and_kept(whole, kept, rest):
    with TemporaryDirectory() as made:
        folder = copied(whole, made)
        path, first = places(folder)[-1][0], segments(session_folders(folder)[SESSION])[-1]
        mine = [(offset, size) for file, offset, size in places(folder) if file == path]
        os.truncate(path, int(kept * path.stat().st_size))
        with path.open("ab") as file:
            file.write(rest)
        count = sum(offset + size <= int(kept * sum(s for _, s in mine)) for offset, size in mine)
        end = sum(size for _, size in mine[:count])
        torn = path.read_bytes()[end:]
        report = verify(folder)
        what = [Finding(path, end, first + count, f"a torn tail of {len(torn)} bytes")] if torn else []
        assert report.findings == what
        mended = repair(folder)
        assert mended.ok
        assert len(mended.repairs) == len(what)
        assert told(raw(folder)) == told(bare(LONG[: first + count]))
        assert [p.read_bytes() for p in path.parent.glob("*.torn")] == ([torn] if torn else [])
        goes_on(folder, first + count)


@given(seed=st.integers(0, 1 << 30))
@settings(max_examples=20)
def test_any_damage_is_survived(whole, seed):
    """Segments are cut, doubled, lost and overwritten; nothing that is intact and in its place goes away."""
    rng = np.random.default_rng(seed)
    with TemporaryDirectory() as made:
        folder = copied(whole, made)
        path = session_folders(folder)[SESSION]
        for first in rng.choice(segments(path), rng.integers(1, 4), replace=False):
            file = segment_path(path, first)
            data = file.read_bytes()
            at, length = rng.integers(len(data) + 1), rng.integers(400)
            match rng.integers(5):
                case 0:
                    file.write_bytes(data[:at] + data[at + length :])
                case 1:
                    file.write_bytes(data[:at] + rng.bytes(length) + data[at + length :])
                case 2:
                    file.write_bytes(data + data[:at])
                case 3:
                    file.unlink()
                case 4:
                    index_path(path, first).write_text("{}")
        there = {e.number for e in raw_intact(folder)}
        verify(folder)
        mended = repair(folder)
        assert mended.findings == []
        found = raw(folder)
        assert [e.number for e in found] == [0, *(e.next for e in found[:-1])]
        good = {e.number for e in found if not isinstance(e.event, Gap)}
        assert good == there
        assert told(e for e in found if e.number in good) == told(e for e in bare(LONG) if e.number in good)
        assert repair(folder).repairs == []
        JournalReader(folder).read(1000)


def raw_intact(folder: Path) -> list[Entry]:
    path = session_folders(folder)[SESSION]
    found = [p.record for n in segments(path) for p in pieces(segment_path(path, n))]
    return [decode(record, LAYOUT) for record in found if record is not None]


def test_a_lost_segment_becomes_a_gap(folder):
    path = session_folders(folder)[SESSION]
    firsts = segments(path)
    for first in (firsts[0], firsts[2]):
        segment_path(path, first).unlink()
    report = verify(folder)
    assert [f.number for f in report.findings] == [0, firsts[2]]
    mended = repair(folder)
    assert mended.ok
    found = raw(folder)
    assert [(e.number, e.next) for e in found if isinstance(e.event, Gap)] == [(0, firsts[1]), (firsts[2], firsts[3])]
    assert mended.sessions[0].lost == firsts[1] - 1 + firsts[3] - firsts[2] - sum(
        e.event == SCORES for e in LONG[firsts[2] : firsts[3]]
    )


def test_a_missing_or_stale_index_is_found_and_rebuilt(folder):
    path = session_folders(folder)[SESSION]
    firsts = segments(path)
    index_path(path, firsts[0]).unlink()
    index_path(path, firsts[1]).write_bytes(index_path(path, firsts[0] or firsts[2]).read_bytes())
    stale = json.loads(index_path(path, firsts[2]).read_text())
    stale["episodes"][0]["steps"] += 1
    index_path(path, firsts[2]).write_text(json.dumps(stale))
    report = verify(folder)
    assert [f.file for f in report.findings] == [index_path(path, first) for first in firsts[:3]]
    assert repair(folder).ok
    for first in firsts[:-1]:
        assert read_index(path, first) == build_index(path, first)


def test_what_is_intact_but_wrong_is_found(tmp_path):
    """Records that a faulty program appended: of another session, twice, not whole; and a lost transition."""
    folder = tmp_path / "journal"
    write(folder, story("--T"))
    path = segment_path(session_folders(folder)[SESSION], 0)
    entries = story("--T", "--T")
    torn_off = encode(entries[5])[:-8]
    wrong = [encode(OTHER[4]), encode(entries[2]), torn_off, encode(entries[6])]
    with path.open("ab") as file:
        file.write(b"".join(wrong))
    report = verify(folder)
    assert len(report.findings) == 3
    assert "of session 0000000000000007" in str(report.findings[0])
    assert "record 2 stands there, out of order or twice" in str(report.findings[1])
    assert repair(folder).ok
    assert [e.number for e in raw(folder)] == [0, 1, 2, 3, 4, 6]
    write(tmp_path / "lost", [*story("--T", Gap(9, 0, "full"))])
    path = segment_path(session_folders(tmp_path / "lost")[SESSION], 0)
    with path.open("ab") as file:
        file.write(encode(story("-" * 20)[12]))
    assert [(f.number, f.what) for f in verify(tmp_path / "lost").findings] == [(9, "record 12 stands there")]
    jump = story("--T")
    for number, entry in enumerate(jump[1:], 1):
        object.__setattr__(entry.event.transition, "sequence", 2 * number)
    write(tmp_path / "jump", jump)
    assert [f.number for f in verify(tmp_path / "jump").findings] == [1, 2, 3]


def test_what_belongs_to_no_session_is_looked_at_too(folder):
    (folder / "tombstones.jsonl").write_text('{"session": 3}\n')
    info = (folder / "journal.json").read_text()
    (folder / "journal.json").write_text("{")
    spoil(*places(folder)[2][:2])
    report = verify(folder)
    assert [f.file.name for f in report.findings] == ["journal.json", "000000000000.seg", "tombstones.jsonl"]
    assert all("\n" not in str(finding) for finding in report.findings)
    with pytest.raises(ValueError, match="cannot be read"):
        repair(folder)
    (folder / "journal.json").write_text(info)
    assert [f.file.name for f in repair(folder).findings] == ["tombstones.jsonl"]
    with pytest.raises(ValueError, match="no such folder"):
        verify(folder / "none")


def test_a_journal_in_use_is_not_repaired(folder):
    journal = Journal.open(folder, INFO)
    with pytest.raises(ValueError, match="another process uses it"):
        repair(folder)
    journal.close()


def test_damage_that_was_kept_is_never_written_over(folder):
    for _ in range(3):
        path, offset, _ = places(folder)[2]
        spoil(path, offset + 20)
        assert repair(folder).ok
    assert sorted(p.name for p in path.parent.glob(f"{path.name}.*")) == [
        f"{path.name}.{kind}" for kind in ("damaged", "damaged2", "damaged3")
    ]
