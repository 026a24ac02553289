"""Segments: files of whole records back to back, named by the number of their first record, and how to read damaged ones."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import msgpack
from isal.isal_zlib import crc32

from agent.replay.record import MAGIC, MAX_HEADER_BYTES, PREFIX, RecordError, record_size

BLOCK_BYTES = 1 << 20  # what a read asks for at least: large against a system call, small against memory
SEGMENT = re.compile(r"(\d{12,19})\.seg")
WHAT_TO_DO = "run `segue journal repair DIR` on its journal"
Bytes = bytes | memoryview


def segments(folder: Path) -> list[int]:
    """The numbers by which the segments of a stream are named, in order; none where there is no such folder."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    return sorted(int(found[1]) for found in map(SEGMENT.fullmatch, names) if found)


def segment_path(folder: Path, first: int) -> Path:
    """The segment whose first record is number `first`."""
    return folder / f"{first:012d}.seg"


def header(record: Bytes) -> dict[str, Any]:
    """The header of an intact record, without a look at the rest. Raises `RecordError` where it is none."""
    size = int.from_bytes(record[4:8], "little")
    try:
        found = msgpack.unpackb(record[PREFIX.size : PREFIX.size + size])
    except Exception as error:  # msgpack raises a dozen kinds
        raise RecordError(f"record: its header is not msgpack ({error or type(error).__name__})") from error
    if not isinstance(found, dict):
        raise RecordError("record: its header is no map")
    return found


def following(record: Bytes, number: int) -> int:
    """The number that follows an intact record: one more than its own, or where its gap ends."""
    size = int.from_bytes(record[4:8], "little")
    if b"gap" not in bytes(record[PREFIX.size : PREFIX.size + size]):  # 30 times cheaper than reading every header
        return number + 1
    found = header(record)
    to = found.get("to") if found.get("kind") == "gap" else number + 1
    if type(to) is not int or to <= number:
        raise RecordError(f"record: a gap from {number} to {to!r}")
    return to


def intact(data: Bytes) -> memoryview | None:
    """The whole record at the beginning of `data`, or None where none is or its checksum is not its own."""
    if len(data) < PREFIX.size:
        return None
    data = memoryview(data)
    magic, head, size, crc = PREFIX.unpack_from(data)
    if magic != MAGIC or size > len(data) or size % 8 or head > MAX_HEADER_BYTES or size < PREFIX.size + head:
        return None
    record = data[:size]
    return record if crc32(record[PREFIX.size :], crc32(record[:12])) == crc else None


def holds_record(data: memoryview) -> bool:
    """Whether an intact record begins behind the first byte of `data`."""
    raw = bytes(data)
    at = raw.find(MAGIC, 1)
    while at >= 0 and intact(data[at:]) is None:
        at = raw.find(MAGIC, at + 1)
    return at >= 0


@dataclass(frozen=True)
class Piece:
    """A stretch of a segment's file: an intact record, or bytes that are none (`record` is None)."""

    offset: int
    size: int
    record: memoryview | None


def pieces(path: Path) -> Iterator[Piece]:
    """A segment's file from its beginning to its present end, without a byte left out and a record at a time in memory.

    After bytes that are no record it goes on where the next intact record begins. A damaged size is not trusted to tell:
    one flipped bit of 512 leads past two good records.
    """
    with open(path, "rb", buffering=BLOCK_BYTES) as file:
        end, offset = os.fstat(file.fileno()).st_size, 0
        while offset < end:
            record = _record_at(file, offset, end)
            size = len(record) if record is not None else _next_record(file, offset, end) - offset
            yield Piece(offset, size, record)
            offset += size


def _record_at(file: IO[bytes], offset: int, end: int) -> memoryview | None:
    file.seek(offset)
    prefix = file.read(PREFIX.size)
    try:
        size = record_size(prefix)
    except RecordError:
        return None
    return intact(prefix + file.read(size - PREFIX.size)) if offset + size <= end else None


def _next_record(file: IO[bytes], damaged: int, end: int) -> int:
    """The offset of the first intact record after the damage, or the end of the file."""
    offset = damaged + 1
    while offset < end:
        file.seek(offset)
        block = file.read(BLOCK_BYTES)
        found = block.find(MAGIC)
        if found < 0:
            offset += max(len(block) - len(MAGIC) + 1, 1)
        elif _record_at(file, offset + found, end) is not None:
            return offset + found
        else:
            offset += found + 1
    return end


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder last."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_whole(path: Path, data: bytes) -> None:
    """Writes a small file whole or not at all, and makes it last."""
    part = path.with_name(path.name + ".part")
    with open(part, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    sync_folder(path.parent)
