"""The bytes of the control interface: places that the clients were seen to read, and bytes that are nothing."""

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launch.robots.fci_wire import (
    COMMAND_BYTES,
    HEADER,
    REQUESTS,
    BadMessage,
    RequestReader,
    parse_command,
    state_layout,
)

VERSIONS = (5, 10)
PLACES = {  # of fields in a state, as the unmodified clients read them
    5: {"q": 1184, "dq": 1296, "theta": 2168, "generator": 2280, "errors": 2282, "robot_mode": 2364},
    10: {"q": 596, "dq": 652, "theta": 1088, "generator": 1288, "errors": 1290, "robot_mode": 1372},
}


@pytest.mark.parametrize("version", VERSIONS)
def test_a_state_is_laid_out_as_the_clients_read_it(version):
    layout = state_layout(version)
    assert layout.itemsize == {5: 2373, 10: 1377}[version]
    assert {name: layout.fields[name][1] for name in PLACES[version]} == PLACES[version]


requests = st.sampled_from(VERSIONS).flatmap(
    lambda version: st.tuples(
        st.just(version),
        st.lists(
            st.sampled_from(sorted(REQUESTS[version])).flatmap(
                lambda command: st.tuples(
                    st.just(command),
                    st.integers(0, 2**32 - 1),
                    st.binary(min_size=REQUESTS[version][command][1], max_size=REQUESTS[version][command][1]),
                )
            ),
            max_size=4,
        ),
        st.lists(st.integers(1, 60), min_size=1, max_size=5),
    )
)


@given(requests)
def test_requests_are_cut_out_of_any_stream_of_pieces(drawn):
    version, sent, pieces = drawn
    stream = b"".join(HEADER.pack(command, i, HEADER.size + len(p)) + p for command, i, p in sent)
    reader, found, at, turn = RequestReader(version), [], 0, 0
    while at < len(stream):
        size = pieces[turn % len(pieces)]
        found += reader.feed(stream[at : at + size])
        at, turn = at + size, turn + 1
    assert [(r.command, r.command_id, r.payload) for r in found] == sent
    for request in found:
        answer = request.reply(0, b"more")
        assert HEADER.unpack_from(answer) == (request.command, request.command_id, len(answer))


@given(st.sampled_from(VERSIONS), st.lists(st.binary(max_size=64), max_size=6))
def test_any_bytes_are_requests_or_refused(version, pieces):
    reader, found = RequestReader(version), []
    with contextlib.suppress(BadMessage):
        for piece in pieces:
            found += reader.feed(piece)
    for request in found:
        assert len(request.payload) == REQUESTS[version][request.command][1]


@given(st.sampled_from(VERSIONS), st.binary(max_size=400))
def test_a_command_of_another_length_is_refused(version, data):
    if len(data) == COMMAND_BYTES[version]:
        parse_command(data, version)
    else:
        with pytest.raises(BadMessage, match="instead of"):
            parse_command(data, version)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_command_s_numbers_stand_where_the_clients_put_them(version):
    data = bytearray(COMMAND_BYTES[version])
    struct.pack_into("<Q", data, 0, 77)
    struct.pack_into("<7d", data, 8, *range(1, 8))
    struct.pack_into("<7d", data, 64, *range(11, 18))
    data[313] = 1
    struct.pack_into("<7d", data, 314, *range(21, 28))
    command = parse_command(bytes(data), version)
    assert command.message_id == 77
    assert command.q == tuple(range(1, 8))
    assert command.dq == tuple(range(11, 18))
    assert command.torque == tuple(range(21, 28))
    assert (command.motion_finished, command.torque_finished) == (True, False)
    if version == 10:
        data[370] = 1
        assert parse_command(bytes(data), version).torque_finished
