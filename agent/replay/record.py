"""Records: the one form of everything an actor tells, the same bytes in its spool, on the wire and in the journal.

A record is one block of bytes, all numbers little-endian:

| bytes | what |
|---|---|
| 0:4 | `SGR1` |
| 4:8 | size of the header, u32 |
| 8:12 | size of the whole record, u32, a multiple of 8 |
| 12:16 | CRC-32 of all other bytes |
| 16: | header, msgpack; zeros to a multiple of 8 |
| then | each array's raw bytes in the header's order, each followed by zeros to a multiple of 8 |

The header is a map with `kind`, `version`, `arrays` (a list of `[name, dtype, shape]`) and what the kind needs; `entry.py` says
what that is.
"""

import math
from collections.abc import Mapping
from struct import Struct
from typing import Any

import msgpack
import numpy as np
from isal.isal_zlib import crc32

MAGIC, VERSION = b"SGR1", 1
PREFIX = Struct("<4sIII")
MAX_HEADER_BYTES = 1 << 18
MAX_RECORD_BYTES = (1 << 32) - 8
DTYPES = ("|b1", "|u1", "|i1", "<u2", "<i2", "<f2", "<u4", "<i4", "<f4", "<u8", "<i8", "<f8")
MAX_RANK = 8
MAX_ARRAYS = 4096  # of parameters there may be hundreds
MAX_DEPTH = 32  # of a header; recipes and scores are nested less than half as deep
LIMIT = 1 << 63  # integers of a header are below it

ArraySpec = tuple[str, tuple[int, ...]]
"""dtype as in `DTYPES`, and shape."""


class RecordError(ValueError):
    """Bytes that are not the record they should be; the message says what was found."""


def pack(header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> bytes:
    """One record. Raises `RecordError` for what `unpack` would refuse, and for a record of 4 GB or more."""
    contiguous = {name: np.ascontiguousarray(x).reshape(np.shape(x)) for name, x in arrays.items()}
    listed = [[name, x.dtype.str, list(x.shape)] for name, x in contiguous.items()]
    _specs(listed)
    try:
        head: bytes = msgpack.packb({**header, "version": VERSION, "arrays": listed}) or b""
    except (TypeError, ValueError, OverflowError) as error:
        raise RecordError(f"record: its header holds what cannot be told ({error})") from error
    parts: list[Any] = [head, bytes(-len(head) % 8)]
    for x in contiguous.values():
        parts += [x.reshape(-1).view(np.uint8).data, bytes(-x.nbytes % 8)]
    size = PREFIX.size + sum(len(part) for part in parts)
    if size > MAX_RECORD_BYTES or len(head) > MAX_HEADER_BYTES:
        raise RecordError(f"record: {size} bytes with a header of {len(head)}; keep observations smaller")
    crc = crc32(PREFIX.pack(MAGIC, len(head), size, 0)[:12])
    for part in parts:
        crc = crc32(part, crc)
    return b"".join([PREFIX.pack(MAGIC, len(head), size, crc), *parts])


def record_size(prefix: bytes | memoryview) -> int:
    """The size that a record's first 16 bytes announce. Raises `RecordError` where they are no prefix."""
    if len(prefix) < PREFIX.size:
        raise RecordError(f"record: {len(prefix)} bytes are fewer than a prefix's {PREFIX.size}")
    magic, head, size, _ = PREFIX.unpack_from(prefix)
    if magic != MAGIC or size % 8 or head > MAX_HEADER_BYTES or size < PREFIX.size + head:
        raise RecordError("record: does not begin as a record of this program")
    return size


def unpack(data: bytes | memoryview) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Header and arrays of one whole record; the arrays are read-only views of `data`.

    Nothing is allocated for an array before sizes, dtypes and shapes agree with the bytes that are there.

    Raises:
        RecordError: anything is not as it should be.
    """
    data = memoryview(data).toreadonly()
    size = record_size(data)
    if size != len(data):
        raise RecordError(f"record: announces {size} bytes, {len(data)} are there")
    _, head_size, _, crc = PREFIX.unpack_from(data)
    if crc32(data[PREFIX.size :], crc32(data[:12])) != crc:
        raise RecordError("record: its checksum does not match its bytes")
    header = _header(data[PREFIX.size : PREFIX.size + head_size])
    arrays: dict[str, np.ndarray] = {}
    offset = PREFIX.size + head_size + (-head_size % 8)
    for name, dtype, shape in _specs(header.get("arrays")):
        count = math.prod(shape)
        nbytes = count * np.dtype(dtype).itemsize
        if name in arrays or offset + nbytes > len(data):
            raise RecordError(f"record: array {name!r:.80} is there twice or longer than the record")
        arrays[name] = np.frombuffer(data, dtype, count, offset).reshape(shape)
        if dtype == "|b1" and arrays[name].view(np.uint8).max(initial=0) > 1:
            raise RecordError(f"record: array {name!r} holds what is neither true nor false")
        offset += nbytes + (-nbytes % 8)
    if offset != len(data):
        raise RecordError(f"record: its arrays end at byte {offset} of {len(data)}")
    return header, arrays


def _header(data: memoryview) -> dict[str, Any]:
    try:
        header = msgpack.unpackb(data)
    except Exception as error:  # msgpack raises a dozen kinds, each for bytes that are not msgpack
        raise RecordError(f"record: its header is not msgpack ({error or type(error).__name__})") from error
    if _is_deep(header):
        raise RecordError(f"record: its header is nested deeper than {MAX_DEPTH}")
    if not isinstance(header, dict) or not isinstance(header.get("kind"), str):
        raise RecordError("record: its header names no kind")
    if type(header.get("version")) is not int or header["version"] != VERSION:
        raise RecordError(f"record: version {header.get('version')!r:.80}, this program speaks {VERSION}")
    return header


def _is_deep(value: Any) -> bool:
    """Whether it is nested deeper than `MAX_DEPTH`: more than any function here that looks into it can take."""
    level = [value]
    for _ in range(MAX_DEPTH):
        containers = [x for x in level if isinstance(x, list | dict)]
        level = [x for c in containers for x in ((*c, *c.values()) if isinstance(c, dict) else c)]
        if not level:
            return False
    return True


def _specs(listed: Any) -> list[tuple[str, str, tuple[int, ...]]]:
    if not isinstance(listed, list) or len(listed) > MAX_ARRAYS:
        raise RecordError("record: its list of arrays is malformed")
    specs = []
    for entry in listed:
        if not (isinstance(entry, list) and len(entry) == 3 and isinstance(entry[2], list)):
            raise RecordError("record: its list of arrays is malformed")
        name, dtype, shape = entry
        sized = len(shape) <= MAX_RANK and all(type(n) is int and 0 <= n < LIMIT for n in shape)
        # numpy refuses an empty array whose other axes are too long, though it takes no memory.
        sized = sized and math.prod(n for n in shape if n) < 1 << 32
        if not isinstance(name, str) or dtype not in DTYPES or not sized:
            raise RecordError(f"record: array {name!r:.80} has dtype {dtype!r:.80} and shape {shape!r:.80}")
        specs.append((name, dtype, tuple(shape)))
    return specs
