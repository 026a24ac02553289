"""Streams: what was written is read, whatever cut the writing off; and nothing is read that was not written."""

import errno
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.replay import stream_reader
from agent.replay.record import RecordError, pack
from agent.replay.segment import pieces, segment_path, segments
from agent.replay.stream import StreamWriter
from agent.replay.stream_reader import StreamReader

ROOT = Path(__file__).resolve().parents[2]


def record(number: int, size: int = 0, to: int | None = None) -> bytes:
    """A record with an array of `size` bytes; a gap where `to` is given."""
    header = {"kind": "made up", "number": number} if to is None else {"kind": "gap", "number": number, "to": to}
    return pack(header, {"x": np.full(size, number % 251, np.uint8)})


def fill(folder: Path, count: int, every: int = 5, size: int = 0, segment_bytes: int = 1 << 30) -> list[bytes]:
    """A closed stream of `count` records whose episodes are `every` records long."""
    writer, records = StreamWriter(folder, segment_bytes), [record(n, size) for n in range(count)]
    for number, data in enumerate(records):
        writer.append(number, data, number + 1, (number + 1) % every == 0)
    writer.close()
    return records


def read_all(reader: StreamReader, count: int = 7) -> list[bytes]:
    found = []
    while records := reader.read(count):
        assert len(records) <= count
        found += map(bytes, records)
    return found


@pytest.fixture
def folder():
    with TemporaryDirectory() as made:
        yield Path(made) / "stream"


@given(sizes=st.lists(st.integers(0, 300), max_size=60), every=st.integers(1, 9), count=st.integers(1, 20))
def test_what_was_written_is_read_in_order(sizes, every, count):
    with TemporaryDirectory() as made:
        writer, records = StreamWriter(Path(made), 500), [record(n, size) for n, size in enumerate(sizes)]
        for number, data in enumerate(records):
            writer.append(number, data, number + 1, (number + 1) % every == 0)
        assert read_all(StreamReader(Path(made)), count) == records
        assert writer.nbytes == sum(map(len, records)) == sum(path.stat().st_size for path in Path(made).iterdir())
        assert all(first % every == 0 for first in segments(Path(made)))  # segments begin where episodes do
        writer.close()


def test_a_record_larger_than_what_is_read_at_once(folder):
    records = fill(folder, 7, size=3 << 20)
    assert read_all(StreamReader(folder), 2) == records


def test_a_segment_ends_with_the_first_episode_past_its_size(folder):
    fill(folder, 40, every=4, segment_bytes=len(record(0)) * 6)
    assert segments(folder) == [0, 8, 16, 24, 32]


def test_only_the_next_record_may_be_appended(folder):
    writer = StreamWriter(folder, first=5)
    assert (writer.first, writer.next) == (5, 5)
    writer.append(5, record(5), 6, True)
    for number, data, after in [(5, record(5), 6), (7, record(7), 8), (6, record(6)[:-8], 7), (6, record(6), 8)]:
        with pytest.raises(ValueError, match="record"):
            writer.append(number, data, after, True)
    writer.append(6, record(6, to=20), 20, True)
    writer.append(20, record(20), 21, True)
    assert read_all(StreamReader(folder)) == [record(5), record(6, to=20), record(20)]
    writer.close()
    assert StreamWriter(folder).next == 21


@given(kept=st.integers(0, 2000), size=st.integers(0, 100))
def test_a_file_cut_anywhere_gives_back_every_whole_record_and_goes_on(kept, size):
    with TemporaryDirectory() as made:
        folder = Path(made)
        records = fill(folder, 12, size=size)
        path, length = segment_path(folder, 0), len(records[0])
        kept = min(kept, 12 * length)
        os.truncate(path, kept)
        whole = kept // length
        assert read_all(StreamReader(folder)) == records[:whole]  # a reader needs no writer to have cut it
        writer = StreamWriter(folder)
        assert (writer.next, writer.cut_bytes, writer.nbytes) == (whole, kept % length, whole * length)
        for number in range(whole, 15):
            writer.append(number, record(number, size), number + 1, False)
        assert read_all(StreamReader(folder)) == [*records[:whole], *(record(n, size) for n in range(whole, 15))]
        writer.close()


@pytest.mark.parametrize("tail", [b"\0" * 4096, b"SGR1", os.urandom(999)], ids=["zeros", "magic", "noise"])
def test_what_a_power_cut_leaves_behind_the_last_record_is_cut(folder, tail):
    records = fill(folder, 3)
    with segment_path(folder, 0).open("ab") as file:
        file.write(tail)
    writer = StreamWriter(folder)
    assert (writer.next, writer.cut_bytes) == (3, len(tail))
    assert read_all(StreamReader(folder)) == records
    writer.close()


def test_damage_before_intact_records_is_never_cut(folder):
    records = fill(folder, 6)
    path = segment_path(folder, 0)
    broken = bytearray(path.read_bytes())
    broken[len(records[0]) * 2 + 40] ^= 1
    path.write_bytes(broken)
    with pytest.raises(RecordError, match=rf"{path}: damaged at byte {2 * len(records[0])} \(record 2\)"):
        StreamWriter(folder)
    assert path.read_bytes() == broken


@settings(max_examples=60)
@given(at=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_stops_the_reader_at_its_record_and_costs_one_piece(at, bit):
    with TemporaryDirectory() as made:
        folder, size = Path(made), 440  # such that a flipped size may lead to the beginning of another record
        records = fill(folder, 9, size=size)
        path, length = segment_path(folder, 0), len(records[0])
        assert length == 512
        broken = bytearray(path.read_bytes())
        offset = int(at * len(broken))
        broken[offset] ^= 1 << bit
        path.write_bytes(broken)
        reader, hit = StreamReader(folder), offset // length
        if hit:
            assert list(map(bytes, reader.read(100))) == records[:hit]
        for _ in range(2):
            if hit == 8 and int.from_bytes(broken[-512:][8:12], "little") > 512:
                assert reader.read(1) == []  # it looks like one that is being written
            else:
                with pytest.raises(RecordError, match=f"{path}: record {hit} at byte {hit * length}:"):
                    reader.read(1)
        found = list(pieces(path))
        assert [p.record for p in found] == [*records[:hit], None, *records[hit + 1 :]]
        assert sum(p.size for p in found) == len(broken)


@given(target=st.integers(0, 45), count=st.integers(1, 50))
def test_a_reader_goes_to_any_record_or_the_next_one_there_is(target, count):
    with TemporaryDirectory() as made:
        folder = Path(made)
        writer, numbers = StreamWriter(folder, 300), []
        while writer.next < 40:
            number = writer.next
            after = number + 6 if number % 10 == 3 else number + 1  # 4 to 8, 14 to 18, ... will never come
            writer.append(number, record(number, to=after if after > number + 1 else None), after, True)
            numbers.append(number)
        assert len(segments(folder)) > 3
        reader = StreamReader(folder, target)
        found = [n for n in numbers if n >= target][:count]
        assert [bytes(r) for r in reader.read(count)] == [record(n, to=n + 6 if n % 10 == 3 else None) for n in found]
        if found:
            assert reader.next == (found[-1] + 6 if found[-1] % 10 == 3 else found[-1] + 1)
        reader.seek(0)
        assert bytes(reader.read(1)[0]) == record(0)
        assert StreamReader(folder, 5).read(9, until=9) == []
        writer.close()


def test_until_is_never_read_past(folder):
    records = fill(folder, 20, segment_bytes=200)
    reader = StreamReader(folder)
    assert list(map(bytes, reader.read(100, until=13))) == records[:13]
    assert reader.read(100, until=13) == []
    assert list(map(bytes, reader.read(100, until=14))) == records[13:14]


def test_a_reader_that_is_ahead_waits_for_its_record(folder):
    reader = StreamReader(folder, 3)
    assert reader.read(5) == []  # not even a folder
    writer = StreamWriter(folder)
    for number in range(6):
        assert reader.read(5) == ([] if number < 4 else [record(number - 1)])
        writer.append(number, record(number), number + 1, True)
    assert reader.next == 5
    writer.close()


def test_a_reader_follows_a_writer_in_another_thread(folder):
    writer, records = StreamWriter(folder, 3000), [record(n, n % 400) for n in range(3000)]

    def write():
        for number, data in enumerate(records):
            writer.append(number, data, number + 1, number % 7 == 6)

    thread = threading.Thread(target=write)
    thread.start()
    bounded, free, found, seen = StreamReader(folder), StreamReader(folder), [], []
    while len(found) < len(records) or len(seen) < len(records):
        found += map(bytes, bounded.read(50, until=writer.next))
        seen += map(bytes, free.read(50))
    thread.join()
    writer.close()
    assert found == records
    assert seen == records


@pytest.mark.parametrize("half", [False, True])
def test_a_writer_may_run_ahead_while_a_reader_looks_around(folder, monkeypatch, half):
    """Between a reader's look at a segment and its look at the folder the segment grows, ends, and has successors."""
    writer, real = StreamWriter(folder, 500), stream_reader.segments
    for number in range(5):
        writer.append(number, record(number), number + 1, True)
    reader = StreamReader(folder)
    assert len(reader.read(100)) == 5
    if half:
        with segment_path(folder, 0).open("ab") as file:
            file.write(record(5)[:30])  # a write that is under way

    def looks(where):
        for number in range(writer.next, 40):
            writer.append(number, record(number), number + 1, True)
        return real(where)

    monkeypatch.setattr(stream_reader, "segments", looks)
    assert read_all(reader) == [record(n) for n in range(5, 40)]
    assert len(real(folder)) > 3
    writer.close()


def test_old_segments_are_dropped_whole_and_never_the_one_being_written(folder):
    writer = StreamWriter(folder, 1)
    for number in range(12):
        writer.append(number, record(number), number + 1, number % 3 == 2)
    assert segments(folder) == [0, 3, 6, 9]
    assert writer.drop_before(5) == 3
    assert (writer.first, writer.nbytes) == (3, 9 * len(record(0)))
    assert writer.drop_oldest() == (3, 6)
    assert writer.drop_before(100) == 3
    assert writer.drop_oldest() is None
    assert segments(folder) == [9]
    assert read_all(StreamReader(folder)) == [record(n) for n in (9, 10, 11)]
    writer.close()
    assert (StreamWriter(folder).first, StreamWriter(folder).next) == (9, 12)


@pytest.mark.parametrize("read", [0, 1, 4])
def test_a_reader_whose_place_was_dropped_goes_on_at_the_oldest_record_left(folder, read):
    writer = StreamWriter(folder, 1)
    for number in range(12):
        writer.append(number, record(number, 600_000), number + 1, number % 3 == 2)  # not two of them are read ahead
    reader = StreamReader(folder)
    reader.read(read)
    writer.drop_before(9)
    found = []
    while records := reader.read(5):
        found += [int(r[-10]) for r in records]
    assert found[-3:] == [9, 10, 11]
    assert reader.next == 12
    writer.close()


def test_a_missing_segment_is_not_the_end(folder):
    fill(folder, 20, segment_bytes=1)
    segment_path(folder, 5).unlink()
    reader = StreamReader(folder)
    assert len(reader.read(100)) == 5
    with pytest.raises(RecordError, match=r"record 5 .* the next one begins at record 10"):
        reader.read(1)


@pytest.mark.parametrize("taken", [0, 40])
def test_a_full_disk_leaves_the_stream_as_it_was(folder, monkeypatch, taken):
    writer, real = StreamWriter(folder), os.pwrite
    writer.append(0, record(0, 500), 1, False)
    before = segment_path(folder, 0).read_bytes()

    def pwrite(file, data, offset):
        if not (now := takes.pop(0)):
            raise OSError(errno.ENOSPC, "no space left")
        return real(file, data[:now], offset)

    monkeypatch.setattr(os, "pwrite", pwrite)
    takes = [taken, 0] if taken else [0]
    with pytest.raises(OSError, match="no space left"):
        writer.append(1, record(1, 500), 2, False)
    assert segment_path(folder, 0).read_bytes() == before
    assert (writer.next, writer.nbytes) == (1, len(before))
    takes = [100] * 9  # one short write after another is no failure
    writer.append(1, record(1, 500), 2, False)
    assert read_all(StreamReader(folder)) == [record(0, 500), record(1, 500)]
    writer.close()


LIMITED = """
import resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from tests.agent.test_stream import record
from agent.replay.stream import StreamWriter
writer = StreamWriter(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
for number in range(100):
    try:
        writer.append(number, record(number, 900), number + 1, False)
    except OSError:
        print(number)
        break
assert writer.next == number
"""


def test_a_file_that_may_not_grow_holds_whole_records(folder):
    done = subprocess.run([sys.executable, "-c", LIMITED, folder, ROOT], capture_output=True, text=True, check=True)
    number, length = int(done.stdout), len(record(0, 900))
    assert number == 20_000 // length
    assert segment_path(folder, 0).stat().st_size == number * length
    assert StreamWriter(folder).cut_bytes == 0


def test_open_files_do_not_grow_with_segments(folder):
    writer, reader = StreamWriter(folder, 1), StreamReader(folder)
    before = len(os.listdir("/proc/self/fd"))
    for number in range(200):
        writer.append(number, record(number), number + 1, True)
        assert bytes(reader.read(1)[0]) == record(number)
        assert len(os.listdir("/proc/self/fd")) <= before + 1
    assert len(segments(folder)) == 200
    writer.close()
    assert len(os.listdir("/proc/self/fd")) <= before


def test_a_small_record_costs_little_to_read(folder):
    fill(folder, 20_000, segment_bytes=1 << 20)
    reader, begin_s = StreamReader(folder), time.perf_counter()
    while reader.read(64):
        pass
    assert reader.next == 20_000
    assert time.perf_counter() - begin_s < 20_000 * 100e-6  # it takes 3 us; a busy machine may take 30 times as long
