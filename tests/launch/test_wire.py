"""Messages: each comes through as it was, and whatever else arrives is refused with a reason and nothing more."""

from dataclasses import fields

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.policy import PolicyParams
from agent.replay.record import LIMIT, RecordError, unpack
from agent.types import Normalizer
from launch.build import fine_tuning_phases, networks_of, obs_shapes_of
from launch.orders import Order, Place
from launch.recipes import Online
from launch.wire import (
    KINDS,
    Heartbeat,
    Hello,
    Message,
    Status,
    Welcome,
    decode_message,
    decode_params,
    encode_message,
    encode_params,
    params_specs,
)
from robot_env.tasks import find_task
from tests.launch.conftest import TINY

SESSIONS = st.integers(1, LIMIT - 1)
COUNTS = st.integers(0, LIMIT - 1)
SECONDS = st.floats(0, 1e12)
PLACES = st.builds(Place, COUNTS, COUNTS, COUNTS)
ORDERS = st.builds(Order, COUNTS, COUNTS, COUNTS, COUNTS, COUNTS, finished=st.booleans(), place=PLACES)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 40), 1 << 40) | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=9,
)
PLAIN = st.dictionaries(st.text(max_size=9), JSON, max_size=4)
MESSAGES: dict[str, st.SearchStrategy[Message]] = {
    "hello": st.builds(Hello, SESSIONS, st.text(max_size=20), COUNTS, COUNTS, COUNTS, st.booleans()),
    "heartbeat": st.builds(Heartbeat, SESSIONS, st.integers(-1, LIMIT - 1), COUNTS, COUNTS, SECONDS, COUNTS),
    "bye": st.builds(KINDS["bye"], SESSIONS),
    "welcome": st.builds(Welcome, SESSIONS, SESSIONS, COUNTS, st.text(max_size=20), PLAIN),
    "status": st.builds(Status, COUNTS, SESSIONS, COUNTS, COUNTS, st.booleans(), st.none() | ORDERS),
    "refused": st.builds(KINDS["refused"], SESSIONS, st.text(max_size=50)),
}
ANYTHING = (
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats()
    | st.text(max_size=9)
    | st.binary(max_size=9)
    | st.lists(st.integers(), max_size=3)
    | st.dictionaries(st.text(max_size=5), st.integers(-9, 9), max_size=3)
)


def test_every_kind_of_message_is_tried():
    assert MESSAGES.keys() == KINDS.keys()


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_a_message_comes_through_as_it_was(kind, data):
    message = data.draw(MESSAGES[kind])
    header, arrays = unpack(encode_message(message))
    assert (header["kind"], arrays) == (kind, {})
    assert decode_message(header) == message


@settings(max_examples=200)
@given(data=st.data(), kind=st.sampled_from(sorted(KINDS)))
def test_a_message_with_one_wrong_field_is_refused_or_read_as_it_stands(data, kind):
    """A field may be replaced by anything that msgpack carries, left out, or be one too many."""
    header, _ = unpack(encode_message(data.draw(MESSAGES[kind])))
    name = data.draw(st.sampled_from([field.name for field in fields(KINDS[kind])] + ["extra"]))
    if data.draw(st.booleans()):
        header[name] = data.draw(ANYTHING)
    else:
        header.pop(name, None)
    try:
        message = decode_message(header)
    except RecordError as error:
        refusal = str(error)
    else:
        again, _ = unpack(encode_message(message))
        assert {n: x for n, x in again.items() if n in header} == header
        assert decode_message(again) == message
        return
    assert refusal.startswith(f"message: a {kind}")
    assert "\n" not in refusal
    assert len(refusal) < 300


@settings(max_examples=200)
@given(st.dictionaries(st.sampled_from(["kind", "session", "learner", "order", "next", "x"]), ANYTHING))
def test_no_header_does_more_than_be_refused(header):
    for kind in (*KINDS, "transition", "parameters", "", "order"):
        with pytest.raises(RecordError):
            decode_message({**header, "kind": kind, "version": 1, "arrays": []})


@pytest.mark.parametrize("kind", ["hello", "heartbeat", "bye"])
@pytest.mark.parametrize("session", [0, -1, LIMIT, (1 << 64) - 1])
def test_a_session_is_a_number_that_a_journal_can_hold(kind, session):
    """Else a hello of a session 0 would write a gap into the journal that nobody could read any more."""
    messages = {
        "hello": Hello(5, "", 0, 0, 3, True),
        "heartbeat": Heartbeat(5, -1, 0, 0, 0.0, 0),
        "bye": KINDS["bye"](5),
    }
    header, _ = unpack(encode_message(messages[kind]))
    assert decode_message(header) == messages[kind]
    with pytest.raises(RecordError, match="session"):
        decode_message({**header, "session": session})


@pytest.mark.parametrize("value", [-2, LIMIT, (1 << 64) - 1, float("nan"), float("inf"), True])
@pytest.mark.parametrize("name", ["first", "actor_id", "replaces"])
def test_numbers_of_a_hello_are_in_range(name, value):
    header, _ = unpack(encode_message(Hello(5, "", 0, 0, 3, True)))
    with pytest.raises(RecordError, match="hello"):
        decode_message({**header, name: value})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), "1.0", None])
def test_times_are_finite(value):
    header, _ = unpack(encode_message(Heartbeat(5, -1, 0, 0, 0.0, 0)))
    with pytest.raises(RecordError, match="heartbeat"):
        decode_message({**header, "waited_s": value})


@given(PLACES, st.dictionaries(st.sampled_from(["episodes", "env_steps", "evaluation_calls"]), ANYTHING, min_size=1))
def test_numbers_within_an_order_are_in_range(place, wrong):
    header, _ = unpack(encode_message(Status(1, 5, 0, 0, False, Order(1, 0, place=place))))
    assert decode_message(header).order.place == place  # type: ignore[union-attr]
    header["order"]["place"] |= wrong
    fits = all(type(value) is int and 0 <= value < LIMIT for value in wrong.values())
    if not fits:
        with pytest.raises(RecordError, match="status"):
            decode_message(header)


TASK = find_task("peg_insertion")
NETS, PHASES = networks_of(TASK, TINY.learning), fine_tuning_phases(Online(bridge_settings={"steps": 80}))
SPECS = params_specs(NETS, PHASES, obs_shapes_of(TASK))


def policy(phase: int, version: int = 3) -> PolicyParams:
    """Parameters of the dtypes and shapes that the phase's behaviour names, all of them different numbers."""
    rng, tree = np.random.default_rng(0), {}
    for name, (dtype, shape) in SPECS[phase].items():
        node = tree
        *path, last = name.split("/")
        for part in path:
            node = node.setdefault(part, {})
        node[last] = jnp.asarray(rng.standard_normal(shape), dtype)
    return PolicyParams(tree["params"], Normalizer(tree["mean"], tree["std"]), version)


def test_both_phases_of_a_warm_up_have_parameters():
    assert list(SPECS) == [0, 1]
    assert {name.split("/")[0] for name in SPECS[0]} == {"params", "mean", "std"}


@pytest.mark.parametrize("phase", [0, 1])
def test_parameters_come_through_bit_for_bit(phase):
    now = policy(phase).replace(coef={"roll_in": 0.25})
    published = decode_params(*unpack(encode_params(77, 4, phase, now)), SPECS)
    assert (published.learner, published.publication, published.phase, published.now.version) == (77, 4, phase, 3)
    assert published.now.coef == {"roll_in": 0.25}
    sent, came = flat(now), flat(published.now)
    assert sent.keys() == came.keys()
    for name, x in sent.items():
        np.testing.assert_array_equal(x, came[name])


def flat(now: PolicyParams) -> dict[str, np.ndarray]:
    header, arrays = unpack(encode_params(1, 1, 0, now))
    assert header["kind"] == "parameters"
    return arrays


@pytest.mark.parametrize("coef", [None, [], {"roll_in": "much"}, {"roll_in": 1}, {"roll_in": float("nan")}])
def test_numbers_of_a_behaviour_that_are_none_are_refused(coef):
    header, arrays = unpack(encode_params(77, 4, 0, policy(0)))
    with pytest.raises(RecordError, match="does not say which they are"):
        decode_params({**header, "coef": coef}, arrays, SPECS)


@settings(max_examples=100)
@given(data=st.data())
def test_parameters_that_do_not_fit_are_refused(data):
    header, arrays = unpack(encode_params(77, 4, 0, policy(0)))
    arrays = dict(arrays)
    what = data.draw(st.sampled_from(["shape", "dtype", "missing", "extra", "kind", "field", "no field", "phase"]))
    name = data.draw(st.sampled_from(sorted(arrays)))
    field = data.draw(st.sampled_from(["learner", "publication", "phase", "policy_version"]))
    match what:
        case "shape":
            arrays[name] = np.zeros((*arrays[name].shape, 1), np.float32)
        case "dtype":
            arrays[name] = arrays[name].astype(np.float64)
        case "missing":
            del arrays[name]
        case "extra":
            arrays[data.draw(st.text())] = np.zeros(1, np.float32)
        case "kind":
            header["kind"] = "status"
        case "field":
            header[field] = data.draw(ANYTHING.filter(lambda x: type(x) is not int or not 0 <= x < LIMIT))
        case "no field":
            del header[field]
        case "phase":
            header["phase"] = data.draw(st.integers(2, LIMIT))
    with pytest.raises(RecordError, match="parameters"):
        decode_params(header, arrays, SPECS)


@settings(max_examples=100)
@given(junk=st.binary(max_size=200), flip=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_damaged_bytes_are_refused(junk, flip, bit):
    whole = encode_message(Status(1, 5, 7, 7, False, Order(1, 0, after=7, steps=10)))
    broken = bytearray(whole)
    broken[flip % len(whole)] ^= 1 << bit
    for data in (junk, bytes(broken), whole[: flip % len(whole)], whole + junk[:8] + b"\0"):
        with pytest.raises(RecordError):
            unpack(data)
