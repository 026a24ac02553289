"""Records: what is encoded is decoded, and any other bytes are refused, in one way and at no cost."""

import math
import tracemalloc
import zlib
from dataclasses import replace
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from agent.replay.entry import Begin, Entry, Gap, Layout, Scores, Step, decode, encode
from agent.replay.record import DTYPES, MAGIC, MAX_HEADER_BYTES, PREFIX, RecordError, pack, record_size, unpack
from agent.types import Transition
from tests.agent.entries import INFO, LAYOUT, SCORES, story, told

INT = st.integers(0, (1 << 63) - 1)
SHAPES = arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
NAMES = st.text(st.characters(codec="utf-8"), max_size=8)


def array(dtype: str, shape: tuple[int, ...]) -> st.SearchStrategy[np.ndarray]:
    options = {"allow_nan": False, "allow_infinity": False} if "f" in dtype else {}
    return arrays.arrays(dtype, shape, elements=arrays.from_dtype(np.dtype(dtype), **options))


@st.composite
def steps(draw) -> tuple[Layout, Entry]:
    """A layout, and a transition that fits it."""
    specs = draw(st.dictionaries(NAMES, st.tuples(st.sampled_from(DTYPES), SHAPES), max_size=3))
    layout = Layout(specs, draw(st.integers(0, 5)))
    obs, next_obs = ({name: draw(array(*spec)) for name, spec in specs.items()} for _ in range(2))
    action, executed = (draw(array("<f4", (layout.action_dim,))) for _ in range(2))
    session, reward = draw(st.integers(1, (1 << 63) - 1)), draw(st.floats(allow_nan=False, allow_infinity=False))
    flags = {"terminated": draw(st.booleans()), "truncated": draw(st.booleans())}
    numbers = {name: draw(INT) for name in ("policy_version", "actor_id", "sequence")}
    source = draw(st.integers(0, 2))
    transition = Transition(obs, action, executed, reward, next_obs, **flags, source=source, session=session, **numbers)
    fault = draw(st.none() | st.text(max_size=20))
    control = draw(st.dictionaries(NAMES, st.floats(allow_nan=False, allow_infinity=False) | INT, max_size=3))
    step = Step(transition, draw(st.booleans()), draw(st.booleans()), fault, control)
    return layout, Entry(session, draw(INT), step)


@given(drawn=steps())
def test_a_transition_comes_back_bit_for_bit(drawn):
    layout, entry = drawn
    record = encode(entry)
    assert len(record) % 8 == 0
    assert record_size(record) == len(record) <= layout.max_bytes
    found = decode(record, layout, entry.event.transition.obs)
    assert told([found]) == told([entry])
    first = entry.event.first
    assert bool(decode(record, layout).event.transition.obs) == (first and bool(layout.obs))
    assert encode(found) == record


@pytest.mark.parametrize("event", [Begin(3, "fr3", "2026"), SCORES, Gap(9, -1, "full"), Gap(8, 0, "")])
def test_every_other_event_comes_back(event):
    entry = Entry(5, 7, event)
    assert decode(encode(entry), LAYOUT) == entry
    assert entry.next == (event.to if isinstance(event, Gap) else 8)


@given(header=st.dictionaries(NAMES, INT | st.text() | st.none()), data=st.data())
def test_any_header_and_arrays_come_back(header, data):
    specs = data.draw(st.dictionaries(NAMES, st.tuples(st.sampled_from(DTYPES), SHAPES), max_size=5))
    packed = {name: data.draw(array(*spec)) for name, spec in specs.items()}
    found, unpacked = unpack(pack({**header, "kind": "any"}, packed))
    assert {name: found[name] for name in header if name not in ("version", "arrays", "kind")} == {
        name: x for name, x in header.items() if name not in ("version", "arrays", "kind")
    }
    assert list(unpacked) == list(packed)
    for name, x in packed.items():
        assert not unpacked[name].flags.writeable
        np.testing.assert_array_equal(unpacked[name], x, strict=True)


@pytest.mark.parametrize(
    "x",
    [
        np.array([None], object),
        np.array(["text"]),
        np.zeros(2, ">f4"),
        np.zeros(2, "<c8"),
        np.zeros(2, [("a", "<f4")]),
        np.zeros((1,) * 9, np.float32),
        np.array(0, "<M8[s]"),
    ],
)
def test_an_array_that_could_not_be_read_is_not_written(x):
    with pytest.raises(RecordError, match="array 'x'"):
        pack({"kind": "any"}, {"x": x})


@pytest.mark.parametrize(
    "header", [{"a": np.float32(1)}, {"a": 1 << 64}, {"a": "\ud800"}, {"a": "x" * MAX_HEADER_BYTES}]
)
def test_a_header_that_could_not_be_read_is_not_written(header):
    with pytest.raises(RecordError):
        pack({"kind": "any", **header}, {})


def test_numbers_of_numpy_are_as_good_as_others():
    step = story("T")[1].event
    own = replace(step.transition, reward=np.float32(-5), terminated=np.bool_(True), truncated=np.bool_(False))
    found = decode(encode(Entry(own.session, 1, replace(step, transition=own))), LAYOUT).event.transition
    assert (found.reward, found.terminated, found.truncated) == (-5.0, True, False)
    whole = replace(step, transition=replace(own, reward=-5))
    assert decode(encode(Entry(own.session, 1, whole)), LAYOUT).event.transition.reward == -5.0


def test_what_is_not_known_of_the_control_loop_takes_no_room():
    """So a record of a run without a pace is what it was before there was one, and one from then is still read."""
    step = story("T")[1].event
    plain, paced = (
        encode(Entry(step.transition.session, 1, replace(step, control=control))) for control in ({}, {"late_s": 0.25})
    )
    assert "control" not in parts(plain)[0]
    assert decode(plain, LAYOUT).event.control == {}
    assert decode(paced, LAYOUT).event.control == {"late_s": 0.25}


def test_a_transition_of_another_session_is_not_written():
    with pytest.raises(RecordError, match="session"):
        encode(Entry(1, 0, story("T")[1].event))


RECORDS = [encode(entry) for entry in story("-T", SCORES, Gap(9, 2, "full"))]


def refused(data: bytes) -> None:
    """The bytes are refused by `RecordError`, whose message is short, or are a record of the task."""
    tracemalloc.start()
    try:
        decode(data, LAYOUT)
    except RecordError as error:
        message = str(error)
        assert len(message) < 1000
        assert message.startswith("record: ")
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 100_000 + 30 * len(data)  # small lists take 20 times their bytes


@settings(max_examples=200)
@given(data=st.binary(max_size=200) | st.binary(max_size=100).map(lambda tail: MAGIC + tail))
def test_any_bytes_are_refused(data):
    refused(data)
    with pytest.raises(RecordError):
        decode(data, LAYOUT)


@settings(max_examples=300)
@given(record=st.sampled_from(RECORDS), at=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_every_flipped_bit_is_refused(record, at, bit):
    broken = bytearray(record)
    broken[int(at * len(broken))] ^= 1 << bit
    with pytest.raises(RecordError):
        decode(broken, LAYOUT)


@given(record=st.sampled_from(RECORDS), data=st.data())
def test_a_record_cut_short_or_continued_is_refused(record, data):
    with pytest.raises(RecordError):
        decode(record[: data.draw(st.integers(0, len(record) - 1))], LAYOUT)
    with pytest.raises(RecordError):
        decode(record + data.draw(st.binary(min_size=1, max_size=30)), LAYOUT)


def forged(header: Any, body: bytes = b"") -> bytes:
    """A record of any header, packed or not, with a checksum that is right."""
    head = header if isinstance(header, bytes) else msgpack.packb(header)
    rest = head + bytes(-len(head) % 8) + body
    prefix = PREFIX.pack(MAGIC, len(head), PREFIX.size + len(rest), 0)[:12]
    return prefix + zlib.crc32(rest, zlib.crc32(prefix)).to_bytes(4, "little") + rest


def parts(record: bytes) -> tuple[dict[str, Any], bytes]:
    size = int.from_bytes(record[4:8], "little")
    return msgpack.unpackb(record[16 : 16 + size]), record[16 + size + -size % 8 :]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.floats() | st.text() | st.binary(),
    lambda x: st.lists(x, max_size=4) | st.dictionaries(st.text(max_size=5), x, max_size=3),
    max_leaves=8,
)


@settings(max_examples=300)
@given(record=st.sampled_from(RECORDS), data=st.data())
def test_a_forged_header_is_refused_or_harmless(record, data):
    header, body = parts(record)
    name = data.draw(st.sampled_from(sorted(header)))
    if data.draw(st.booleans()):
        del header[name]
    else:
        header[name] = data.draw(JSON)
    refused(forged(header, body))


@settings(max_examples=200)
@given(head=st.binary(max_size=60) | JSON.map(msgpack.packb), body=st.binary(max_size=40))
def test_anything_in_the_place_of_a_header_is_refused(head, body):
    with pytest.raises(RecordError):
        decode(forged(head, body), LAYOUT)


SIDES = st.lists(
    st.sampled_from([0, 1, 2, 3, 255, 1 << 31, 1 << 32, 1 << 62, (1 << 63) - 1, 1 << 63, -1, True, 1.0, "2"])
)
SPEC = st.tuples(
    st.sampled_from(["obs/x", "action", "x", 3, None]), st.sampled_from([*DTYPES, "|O", ">f4", "<f3", 3]), SIDES
)


@settings(max_examples=400)
@given(listed=st.lists(SPEC.map(list) | JSON, max_size=4) | JSON, words=st.integers(0, 9))
def test_a_forged_list_of_arrays_is_refused_or_harmless(listed, words):
    refused(forged({"kind": "any", "version": 1, "arrays": listed}, bytes(8 * words)))
    refused(forged({**parts(RECORDS[1])[0], "arrays": listed}, bytes(8 * words)))


BOMBS = {
    "lists in lists": b"\xdd\x00\x03\xff\x00" * 1000 + b"\xc0" * 200_000,
    "maps in maps": b"\xdf\x00\x01\xff\x00" * 1000 + b"\xc0" * 200_000,
    "deep": b"\x91" * 200_000 + b"\xc0",
    "wide": b"\xdd\x00\x03\xff\x00" + b"\xc0" * 0x3FF00,
    "many arrays": {"kind": "any", "version": 1, "arrays": [[str(i), "|u1", [0]] for i in range(20_000)]},
    "a long name": {"kind": "any", "version": 1, "arrays": [["x" * 200_000, "|O", [1]]]},
    "a long kind": {"kind": "x" * 200_000, "version": 1, "arrays": []},
    "a long shape": {"kind": "any", "version": 1, "arrays": [["x", "|u1", list(range(60_000))]]},
    "an empty giant": {"kind": "any", "version": 1, "arrays": [["x", "<f8", [0, 1 << 62, 1 << 62]]]},
    "a giant": {"kind": "any", "version": 1, "arrays": [["x", "<f8", [1 << 62] * 8]]},
}


@pytest.mark.parametrize("kind", BOMBS)
def test_a_header_made_to_take_memory_takes_little(kind):
    data = forged(BOMBS[kind])
    refused(data)
    with pytest.raises(RecordError):
        decode(data, LAYOUT)


def changed(record: bytes, body: bytes | None = None, **fields: Any) -> bytes:
    header, own = parts(record)
    return forged({**header, **fields}, own if body is None else body)


TRANSITION = RECORDS[1]
WRONG = {
    "two arrays of one name": changed(TRANSITION, bytes(16), arrays=[["x", "<f4", [2]], ["x", "<f4", [2]]]),
    "an array too few": changed(TRANSITION, arrays=parts(TRANSITION)[0]["arrays"][:-1]),
    "no fault": forged({k: x for k, x in parts(TRANSITION)[0].items() if k != "fault"}, parts(TRANSITION)[1]),
    "version": changed(TRANSITION, version=2),
    "a truth for a version": changed(TRANSITION, version=True),
    "no arrays": forged({"kind": "gap", "version": 1}),
    "kind": changed(TRANSITION, kind="other"),
    "a kind that is none": changed(TRANSITION, kind=["transition"]),
    "session 0": changed(TRANSITION, session=0),
    "number below 0": changed(TRANSITION, number=-1),
    "number too large": changed(TRANSITION, number=1 << 63),
    "a truth for a number": changed(TRANSITION, number=True),
    "a number for a truth": changed(TRANSITION, terminated=1),
    "reward not a number": changed(TRANSITION, reward=math.nan),
    "reward without end": changed(TRANSITION, reward=math.inf),
    "a truth for a reward": changed(TRANSITION, reward=True),
    "source": changed(TRANSITION, source=3),
    "sequence": changed(TRANSITION, sequence=0.0),
    "fault": changed(TRANSITION, fault=1),
    "control of no name": changed(TRANSITION, control=[0.1]),
    "control not a number": changed(TRANSITION, control={"late_s": math.inf}),
    "a truth for a control": changed(TRANSITION, control={"late_s": True}),
    "a text for a control": changed(TRANSITION, control={"late_s": "soon"}),
    "control in control": changed(TRANSITION, control={"late_s": {"late_s": 0.1}}),
    "obs not a number": changed(TRANSITION, np.float32([np.nan, 0]).tobytes() + parts(TRANSITION)[1][8:]),
    "gap back": changed(RECORDS[-1], to=1),
    "scores not a number": changed(RECORDS[-2], scores={"a": math.nan}),
    "scores that are bytes": changed(RECORDS[-2], scores={"a": b"x"}),
    "scores of another time": changed(RECORDS[-2], scores={"a": msgpack.Timestamp(1, 2)}),
    "scores without a name": changed(RECORDS[-2], scores={b"a": 1}),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_record_is_refused(case):
    assert decode(TRANSITION, LAYOUT)
    with pytest.raises(RecordError):
        decode(WRONG[case], LAYOUT)
    refused(WRONG[case])


def test_a_truth_is_0_or_1():
    record = pack({"kind": "any"}, {"x": np.array([True])})
    with pytest.raises(RecordError, match="neither true nor false"):
        unpack(changed(record, b"\2" + bytes(7)))


def test_a_record_of_another_task_is_refused():
    other = Layout({**INFO.layout.obs, "x": ("<f4", (3,))}, 1)
    with pytest.raises(RecordError, match=r"next_obs/x.*\(2,\).*\(3,\)"):
        decode(TRANSITION, other)
    assert Scores is type(decode(RECORDS[-2], other).event)
