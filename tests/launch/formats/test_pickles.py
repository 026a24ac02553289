"""Pickles: what public code saves is read, and nothing that a pickle asks for is ever run."""

import collections
import io
import os
import pickle
import sys
from fractions import Fraction
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from launch.formats.pickles import load_pickle, parse_pickle

PROTOCOLS = range(6)
NUMBERS = st.sampled_from(["?", "i1", "u1", "i2", "i4", "i8", "u8", "f2", "f4", "f8", ">f4", ">i2", "S3", "U3"]).map(
    np.dtype
)
ARRAYS = NUMBERS.flatmap(
    lambda kind: hnp.arrays(kind, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))
)
VALUES = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.binary(max_size=5),
        st.binary(max_size=3).map(bytearray), ARRAYS, ARRAYS.map(np.asfortranarray), NUMBERS,
        hnp.arrays("f4", (2, 3, 2)).map(lambda x: x.transpose(1, 0, 2)), st.floats(width=32).map(np.float32),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.tuples(inner, inner), st.dictionaries(st.text(max_size=3), inner, max_size=3),
        st.dictionaries(st.text(max_size=3), inner, max_size=3).map(collections.OrderedDict),
    ),
    max_leaves=6,
)  # fmt: skip
FORBIDDEN = {
    "import",
    "exec",
    "compile",
    "open",
    "os.system",
    "subprocess.Popen",
    "pickle.find_class",
    "object.__setattr__",
}

heard: list[str] = []
listening = False


def _hear(event: str, _arguments: tuple) -> None:
    if listening and event in FORBIDDEN:
        heard.append(event)


sys.addaudithook(_hear)  # it stays, and hears only while `listening`


def watched(data: bytes):
    """The value, or None where it is refused in one sentence; fails if anything at all was run on the way."""
    global listening
    heard.clear()
    listening = True
    try:
        return parse_pickle(data, "test.pkl")
    except ValueError as error:
        assert str(error).startswith("pickle test.pkl: ")  # noqa: PT017 - any of many refusals
        return None
    finally:
        listening = False
        assert not heard


def same(found, made) -> bool:
    if isinstance(made, np.ndarray):
        alike = found.dtype == made.dtype and found.shape == made.shape
        return alike and found.tobytes() == made.tobytes()
    if isinstance(made, dict):
        return type(found) is dict and list(found) == list(made) and all(same(found[k], made[k]) for k in made)
    if isinstance(made, list | tuple):
        return type(found) is type(made) and len(found) == len(made) and all(map(same, found, made))
    if isinstance(made, bytearray):
        return found == bytes(made)
    return type(found) is type(made) and (found == made or found != found)


@settings(max_examples=150)
@given(VALUES, st.sampled_from(PROTOCOLS))
def test_plain_values_come_back(value, protocol):
    data = pickle.dumps(value, protocol)
    assert same(watched(data), value)
    if protocol < 4:  # as numpy 1 writes it; later protocols count the letters of a name
        assert same(watched(data.replace(b"numpy._core", b"numpy.core")), value)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_arrays_of_jax_come_as_numpys(protocol):
    made = {
        "a": jnp.arange(6.0).reshape(2, 3).T,
        "b": jnp.float32(2),
        "c": jnp.zeros((0, 2), "int8"),
        "d": jnp.asarray(1),
    }
    data = pickle.dumps(made, protocol)
    assert same(watched(data), {name: np.asarray(x) for name, x in made.items()})
    name = b"jax._src.array\n_reconstruct_array\n"
    for bad in (b"N", b"ccollections\nOrderedDict\n"):  # in the place of numpy's call
        with pytest.raises(ValueError, match="it makes an array of"):
            parse_pickle(b"\x80\x02c" + name + b"(" + bad + b"))}tR.", "x")


def test_pickles_of_python_2_are_read():
    """As cPickle of Python 2 and numpy 1 write `[{"x": np.array([1, 2], "f4"), "n": 3L}]`, protocols 2 and 0."""
    second = (
        b"\x80\x02]q\x01}q\x02(U\x01xcnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\nq\x04K\x00\x85U\x01b\x87Rq\x05"
        b"(K\x01K\x02\x85cnumpy\ndtype\nq\x06U\x02f4K\x00K\x01\x87Rq\x07(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xff"
        b"K\x00tb\x89U\x08\x00\x00\x80?\x00\x00\x00@tbU\x01n\x8a\x01\x03ua."
    )
    zeroth = (
        b"(lp1\n(dp2\nS'x'\ncnumpy.core.multiarray\n_reconstruct\np3\n(cnumpy\nndarray\np4\n(I0\ntS'b'\ntRp5\n(I1\n(I2\nt"
        b"cnumpy\ndtype\np6\n(S'f4'\nI0\nI1\ntRp7\n(I3\nS'<'\nNNNI-1\nI-1\nI0\ntbI00\n"
        b"S'\\x00\\x00\\x80?\\x00\\x00\\x00@'\ntbsS'n'\nL3L\nsa."
    )
    for data in (second, zeroth):
        (found,) = watched(data)
        assert found["n"] == 3
        assert found["x"].dtype == np.float32
        assert found["x"].tolist() == [1.0, 2.0]


class Runs:
    """Pickled, it asks for a call."""

    def __init__(self, *call) -> None:
        self.call = call

    def __reduce__(self):
        return self.call[0], self.call[1:]


class Thing:
    def __init__(self) -> None:
        self.x = 1


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("value", "words"),
    [
        (Runs(os.system, "touch ran"), "posix.system"),
        (Runs(eval, "open('ran', 'w')"), "eval"),
        (Runs(getattr, os, "system"), "getattr"),
        (Runs(np.load, "ran"), "load"),
        (Runs(np.ndarray, (10**13,), "u1"), "calls numpy.ndarray"),
        (Runs(np.frombuffer, b"x"), "frombuffer"),
        ({"a": [np.float32(1), Runs(os.getcwd)]}, "posix.getcwd"),
        (Fraction(1, 2), "Fraction"),
        (Path("ran"), "Posix"),
        (len, "len"),
        (np.ndarray, "numpy.ndarray itself"),
        (np.array([1, None], object), "dtype 'O8'"),
        (np.zeros(2, [("a", "f4")]), "dtype 'V4'"),
        (np.zeros(2, "M8[s]"), "dtype 'M8'"),
        (np.zeros(2, complex), "dtype 'c16'"),
        (np.ma.zeros(2), "numpy.ma"),
        ({1, 2}, "set"),
        ({(1, 2): 3}, "a dict whose keys"),
        (np.zeros((1,) * 9), "up to 8 whole numbers"),
    ],
)
def test_all_else_is_refused_by_name(value, words, protocol, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    try:
        data = pickle.dumps(value, protocol)
    except TypeError:  # modules
        data = pickle.dumps(value.call[0], protocol)
    path = tmp_path / "data.pkl"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=words) as refusal:
        load_pickle(path)
    assert str(path) in str(refusal.value)
    assert ";" in str(refusal.value)
    assert [p.name for p in tmp_path.iterdir()] == ["data.pkl"]


def test_classes_made_without_a_call_are_refused():
    for protocol in PROTOCOLS:
        with pytest.raises(ValueError, match=r"NEWOBJ|_reconstructor"):
            parse_pickle(pickle.dumps(Thing(), protocol), "x")
    for data in (b"(iposix\nsystem\n.", b"(cposix\nsystem\no.", b"\x82\x01.", b"Pid\n.", b"Nq\x00Q."):
        with pytest.raises(ValueError, match="makes an object of a class"):
            parse_pickle(data, "x")


def test_data_kept_elsewhere_is_refused():
    data = pickle.dumps(np.zeros(4), 5, buffer_callback=lambda buffer: None)
    with pytest.raises(ValueError, match="not in the file"):
        parse_pickle(data, "x")


def array(shape: bytes, data: bytes, dtype: bytes = b"X\x02\x00\x00\x00f4") -> bytes:
    """A pickle of an array that claims that shape; both as instructions."""
    kind = b"cnumpy\ndtype\n" + dtype + b"\x89\x88\x87R"
    made = b"cnumpy._core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R"
    return b"\x80\x03" + made + b"(K\x01" + shape + kind + b"\x89" + data + b"tb."


HUGE = b"\x8a\x06" + (10**13).to_bytes(6, "little")


def test_the_form_that_the_next_test_breaks_is_whole():
    assert watched(array(b"K\x02\x85", b"C\x08" + bytes(8))).tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    "data",
    [
        array(HUGE + b"\x85", b"C\x08" + bytes(8)),
        array(HUGE + b"\x85", b"]"),
        array(b"J\xff\xff\xff\xff\x85", b"C\x08" + bytes(8)),
        array(b"K\x03\x85", b"C\x08" + bytes(8)),
        array(b"K\x02\x85", b"K\x08"),
        array(b"K\x02", b"C\x08" + bytes(8)),
        array(b"K\x01\x85", b"]N\x61", b"X\x01\x00\x00\x00O"),
        array(b"K\x01\x85", b"C\x08" + bytes(8), b"X\x01\x00\x00\x00O"),
        array(b"K\x01\x85", b"C\x08" + bytes(8), b"N"),
        b"\x80\x03cnumpy\ndtype\n.",
        b"\x80\x03cnumpy._core.multiarray\nscalar\n)R.",
        b"\x80\x03ccollections\nOrderedDict\n)R}}\x86b.",
        b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.",  # 8 EB of bytes
        b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7fN.",
        pickle.dumps(1) + b"more",
        b"(" * 1000 + b"t" * 999 + b".",
        b"",
    ],
)
def test_bombs_and_nonsense_are_refused_at_once(data):
    assert watched(data) is None


@pytest.mark.parametrize("data", [b"Nr\xff\xff\xff\xff.", b"Nr\x00\x00\x10\x00.", b"Np99999999999\n.", b"Np-1\n."])
def test_a_memo_of_many_gigabytes_is_never_made(data):
    with pytest.raises(ValueError, match="places; copy it again"):  # by the look ahead, not by the unpickler
        parse_pickle(data, "x")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (array(HUGE + b"\x85", b"C\x08" + bytes(8)), r"of shape \(10000000000000,\) and float32 in 8 bytes"),
        (array(b"J\xff\xff\xff\xffJ\xfe\xff\xff\xff\x86", b"C\x08" + bytes(8)), "up to 8 whole numbers"),
        (array(b"K\x02\x85", b"C\x08" + bytes(8)).replace(b"ndarray", b"dtype"), "class of its own"),
        (
            b"\x80\x03cnumpy\ndtype\nX\x02\x00\x00\x00f4\x85R(K\x03X\x01\x00\x00\x00<N)NK\x04K\x01K\x00tb.",
            "with fields",
        ),
    ],
)
def test_a_description_that_does_not_fit_is_refused_before_an_array_is_made(data, words):
    with pytest.raises(ValueError, match=words):
        parse_pickle(data, "x")


def test_a_list_that_holds_itself_is_refused():
    with pytest.raises(ValueError, match="contains itself; save plain lists"):
        parse_pickle(b"]q\x00h\x00a.", "x")


def test_a_nest_without_end_is_neither_followed_nor_written_out():
    """A tuple of twice the tuple before, a hundred times: a repr of it, or a walk, would never end."""
    nest = b"N" + b"\x86".join([b"2"] * 100) + b"\x86"
    for data in (b"\x80\x03" + nest + b"0.", array(nest, b"C\x08" + bytes(8)), array(b"K\x02\x85", b"C\x00", nest)):
        assert watched(data) is None
    found = watched(b"\x80\x03" + nest + b".")
    assert found[0] is found[1]


def test_doing_things_to_what_is_named_lasts_no_longer_than_the_pickle():
    """An instruction that sets attributes must not reach anything that the next pickle meets."""
    for name in (b"cnumpy\nndarray\n", b"cnumpy._core.multiarray\nscalar\n", b"ccollections\nOrderedDict\n"):
        state = b"}X\x05\x00\x00\x00valueNs"
        for data in (name + state + b"b.", name + b"N" + state + b"\x86b."):
            watched(b"\x80\x03" + data)
    assert watched(pickle.dumps(np.float32(3), 2)) == 3


SEEDS = [
    pickle.dumps([{"a": np.arange(6.0).reshape(2, 3), "b": np.float32(1), "c": (1, "x", b"y", None)}], p)
    for p in PROTOCOLS
]
SEEDS += [pickle.dumps(Runs(os.system, "exit 1"), p) for p in (0, 2, 4)]


@settings(max_examples=300)
@given(st.binary(max_size=60))
def test_random_bytes_run_nothing(data):
    watched(data)
    watched(b"\x80\x04" + data + b".")


@settings(max_examples=300)
@given(
    st.sampled_from(SEEDS),
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=6),
    st.data(),
)
def test_damaged_pickles_run_nothing(data, changes, draws):
    changed = bytearray(data)
    for place, value in changes:
        changed[place % len(changed)] = value
    cut = draws.draw(st.integers(0, len(changed)))
    watched(bytes(changed))
    watched(bytes(changed[cut:] + changed[:cut]))
    watched(bytes(changed[:cut]))


def test_what_is_no_file_is_refused(tmp_path):
    for path, words in ((tmp_path / "none.pkl", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(ValueError, match=words):
            load_pickle(path)


def test_the_test_would_hear_what_is_run():
    """The other tests prove nothing if the plain unpickler went unheard here."""
    global listening
    heard.clear()
    listening = True
    try:
        pickle.Unpickler(io.BytesIO(pickle.dumps(Runs(len, "x")))).load()
    finally:
        listening = False
    assert "pickle.find_class" in heard
