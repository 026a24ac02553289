"""The wire, end to end over real sockets: whatever is lost, doubled, cut or foreign, each record arrives once and in order."""

import itertools
import os
import socket
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
import zmq
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.policy import PolicyParams
from agent.replay.entry import Entry, Gap, Layout, Scores, Step, encode
from agent.replay.journal import Journal, JournalReader
from agent.replay.record import pack, unpack
from agent.types import Normalizer
from launch import receiver as receiver_module
from launch.address import Address
from launch.delivery import Delivery
from launch.evaluate import Score, Trial
from launch.link import LearnerAway, Link
from launch.orders import Order
from launch.receiver import REASONS, Receiver
from launch.sockets import ActorSockets, LearnerSockets
from launch.spool import Outgoing, Spool, SpoolFull
from launch.wire import (
    Bye,
    Heartbeat,
    Hello,
    Message,
    Refused,
    Status,
    Welcome,
    decode_message,
    encode_message,
    encode_params,
)
from tests.agent.entries import INFO, LAYOUT, SESSION, story
from tests.launch.kills import read_streams
from tests.launch.waiting import eventually

RUN, RECIPE = "run-a", {"command": "finetune", "seed": 3}
LIMIT = 64 << 20
PLENTY = 1 << 30
PARAMS = PolicyParams(
    {"actor": {"w": np.ones(3, np.float32)}},
    Normalizer({"x": np.zeros(2, np.float32)}, {"x": np.ones(2, np.float32)}),
    5,
)
SPECS = {0: {"params/actor/w": ("<f4", (3,)), "mean/x": ("<f4", (2,)), "std/x": ("<f4", (2,))}}


def episodes(count: int, session: int = SESSION, steps: int = 20) -> list[Entry]:
    """A begin and so many episodes."""
    return story(*["-" * (steps - 1) + "t"] * count, session=session)


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    """Closes what a test opens, the last first."""
    with ExitStack() as stack:
        yield stack


class Learner:
    """A receiver on a journal, that can be closed and opened again at the same port."""

    def __init__(
        self, folder: Path, one_actor: bool = False, journal: type[Journal] = Journal, run: str = RUN, port: int = 0
    ) -> None:
        self.folder, self.one_actor, self.port, self._kind, self._run = (
            folder / "journal",
            one_actor,
            port,
            journal,
            run,
        )
        self.open()

    def open(self) -> None:
        self.journal = self._kind.open(self.folder, INFO)
        sockets = LearnerSockets(Address("127.0.0.1", self.port), None, LAYOUT.max_bytes)
        self.port = sockets.address.port
        self.receiver = Receiver(sockets, self.journal, LAYOUT, self._run, RECIPE, self.one_actor)

    def close(self) -> None:
        self.receiver.close()
        self.journal.close()

    @property
    def sessions(self) -> dict[int, list[Entry]]:
        found: dict[int, list[Entry]] = {}
        with closing(JournalReader(self.folder)) as reader:
            while entries := reader.read(512):
                for entry in entries:
                    found.setdefault(entry.session, []).append(entry)
        return found

    def numbers(self, session: int = SESSION) -> list[int]:
        return [entry.number for entry in self.sessions.get(session, [])]


@pytest.fixture
def learner(opened: ExitStack, tmp_path: Path) -> Learner:
    return opened.enter_context(closing(Learner(tmp_path)))


@pytest.fixture
def strict(opened: ExitStack, tmp_path: Path) -> Learner:
    """One that takes a single actor."""
    return opened.enter_context(closing(Learner(tmp_path, one_actor=True)))


class Peer:
    """A bare socket, which may say anything."""

    def __init__(self, learner: Learner) -> None:
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.DEALER)
        self.socket.set(zmq.LINGER, 0)
        self.socket.connect(f"tcp://127.0.0.1:{learner.port}")

    def say(self, *messages: Message | Entry | bytes) -> None:
        for message in messages:
            data = encode(message) if isinstance(message, Entry) else message
            self.socket.send(data if isinstance(data, bytes) else encode_message(data))

    def hears(self, kind: type[Message], seconds: float = 10.0, **fields: Any) -> Any:
        """The next message of that kind with those fields; others are passed over."""
        end_s = time.monotonic() + seconds
        while (left_s := end_s - time.monotonic()) > 0 and self.socket.poll(int(1000 * left_s) + 1):
            message = decode_message(unpack(self.socket.recv())[0])
            if isinstance(message, kind) and all(getattr(message, name) == value for name, value in fields.items()):
                return message
        raise AssertionError(f"no {kind.__name__} with {fields} in {seconds} s")

    def all_heard(self) -> list[Message]:
        """What is there by the time a heartbeat of the session is answered."""
        self.say(Heartbeat(SESSION, -1, 0, 9999, 0.0, 0))
        heard: list[Message] = []
        with suppress(zmq.Again):
            while self.socket.poll(500):
                heard.append(decode_message(unpack(self.socket.recv())[0]))
        return heard

    def close(self) -> None:
        self.context.destroy(0)


@pytest.fixture
def join(opened: ExitStack) -> Callable[[Learner], Peer]:
    """Makes bare peers."""
    return lambda learner: opened.enter_context(closing(Peer(learner)))


def hello(session: int = SESSION, actor_id: int = 0, replaces: int = 0, first: int = 0, acting: bool = True) -> Hello:
    return Hello(session, "", actor_id, replaces, first, acting)


def beat(session: int = SESSION, **fields: Any) -> Heartbeat:
    return Heartbeat(**{**vars(Heartbeat(session, -1, 0, 0, 0.0, 0)), **fields})


# A delivery by itself, over a channel as bad as can be.


class Model:
    """The receiver's rule and the channel: records and statuses are lost, doubled and overtaken; the learner restarts."""

    def __init__(self, stream: Outgoing) -> None:
        self.way: deque[bytes] = deque()
        self.taken: list[int] = []
        self.expected = self.safe = 0
        self.resend = False
        self.room = 0
        self.delivery = Delivery(stream, True, self._send)

    def _send(self, record: Any) -> bool:
        if self.room < 1:
            return False
        self.room -= 1
        self.way.append(bytes(record))
        return True

    def receive(self, position: int) -> None:
        if not self.way:
            return
        self.way.rotate(-(position % len(self.way)))
        number = unpack(self.way.popleft())[0]["number"]
        if number == self.expected:
            self.taken.append(number)
            self.expected += 1
        elif number > self.expected:
            self.resend = True

    def report(self) -> None:
        if self.delivery.report(self.expected, self.safe, self.resend):
            self.expected = self.delivery.stream.first  # a heartbeat tells what it will never get: a gap
        self.resend = False

    def crash(self, keep: int) -> None:
        """The learner is back with what was on its disk: all that was safe, and maybe some more."""
        self.expected = min(self.safe + keep, self.expected)
        self.taken = [number for number in self.taken if number < self.expected]
        self.way.clear()
        self.delivery.rewind(self.expected)
        self.report()


TURNS = st.lists(
    st.tuples(
        st.sampled_from(["tell", "deliver", "receive", "lose", "double", "report", "commit", "crash", "drop"]),
        st.integers(0, 30),
    ),
    max_size=80,
)


@settings(max_examples=60)
@given(turns=TURNS)
def test_whatever_the_channel_does_all_arrives_once_and_in_order(turns, tmp_path_factory):
    folder = tmp_path_factory.mktemp("stream")
    entries, told, gone = episodes(12, steps=4), 0, 0
    with pytest.MonkeyPatch.context() as patch, closing(Outgoing(folder / "s", SESSION, 500, RUN)) as stream:
        patch.setattr("launch.delivery.STALL_S", 0.0)
        model = Model(stream)
        for turn, amount in turns:
            match turn:
                case "tell":
                    for entry in entries[told : told + amount]:
                        stream.append(entry, encode(entry))
                    told = min(told + amount, len(entries))
                case "deliver":
                    model.room = amount
                    model.delivery.deliver()
                case "receive":
                    for _ in range(amount):
                        model.receive(amount)
                case "lose" if model.way:
                    del model.way[amount % len(model.way)]
                case "double" if model.way:
                    model.way.append(model.way[amount % len(model.way)])
                case "report":
                    model.report()
                case "commit":
                    model.safe = model.expected
                    model.report()
                case "crash":
                    model.crash(amount)
                case "drop":
                    stream.drop_oldest()
                    gone = max(gone, stream.first)
            assert all(b > a for a, b in zip(model.taken, model.taken[1:], strict=False))
        for _ in range(100):  # from now on nothing is lost
            model.room = 1000
            model.delivery.deliver()
            while model.way:
                model.receive(0)
            model.safe = model.expected
            model.report()
            if model.delivery.complete:
                break
        assert model.delivery.complete
        assert model.taken == sorted(set(model.taken))
        assert set(range(told)) - set(model.taken) <= set(range(gone))


def test_a_window_is_sent_and_no_more_before_some_of_it_is_safe(tmp_path, monkeypatch):
    entries = episodes(20, steps=4)
    size = len(encode(entries[1]))
    monkeypatch.setattr("launch.delivery.WINDOW_BYTES", 10 * size)
    sent: list[int] = []
    with closing(Outgoing(tmp_path / "s", SESSION, 10**6, RUN)) as stream:
        for entry in entries:
            stream.append(entry, encode(entry))
        delivery = Delivery(stream, True, lambda record: sent.append(unpack(record)[0]["number"]) is None)
        delivery.deliver()
        before = len(sent)
        sizes = [len(encode(entry)) for entry in entries[:before]]
        assert sum(sizes[:-1]) < 10 * size <= sum(sizes)
        delivery.deliver()
        delivery.report(before, 0, False)  # arrived, but not on the disk yet
        delivery.deliver()
        assert len(sent) == before
        delivery.report(before, before, False)
        delivery.deliver()
        assert before < len(sent) < len(entries)
        assert sent == list(range(len(sent)))


def test_what_waited_before_it_was_sent_has_not_stalled(tmp_path, monkeypatch):
    """An actor that has said nothing for long is not taken for one whose record is lost a moment after it is sent."""
    monkeypatch.setattr("launch.delivery.STALL_S", 0.3)
    entries, sent = episodes(2, steps=4), []
    with closing(Outgoing(tmp_path / "s", SESSION, 10**6, RUN)) as stream:
        delivery = Delivery(stream, True, lambda record: sent.append(unpack(record)[0]["number"]) is None)
        for number, entry in enumerate(entries):
            stream.append(entry, encode(entry))
            delivery.deliver()
            delivery.report(number, number, False)  # a status that was on its way already
            assert sent == list(range(number + 1))
            delivery.report(number + 1, number + 1, False)
            if number == 3:
                time.sleep(0.4)


# The receiver, and peers that say anything.


def test_a_stream_is_journaled_acknowledged_and_in_the_journal_when_it_is_said_to_be_safe(learner, join):
    peer, entries = join(learner), episodes(2)
    peer.say(hello())
    welcome = peer.hears(Welcome, session=SESSION)
    assert (welcome.next, welcome.run, welcome.recipe, welcome.learner) == (0, RUN, RECIPE, learner.receiver.learner)
    peer.say(*entries)
    peer.hears(Status, next=len(entries), safe=len(entries), resend=False)
    assert learner.numbers() == list(range(len(entries)))
    assert learner.receiver.arrived.is_set()
    assert not learner.receiver.refused


class Watched(Journal):
    """A journal that knows what is on the disk for certain."""

    def sync(self) -> None:
        self.synced = {**getattr(self, "synced", {}), **{s: self.next(s) for s in self.sessions}}
        super().sync()


def test_nothing_is_said_to_be_safe_before_it_is_on_the_disk(opened, tmp_path, join, monkeypatch):
    """Also not to an actor that has connected anew between an append and the next sync."""
    monkeypatch.setattr(receiver_module, "COMMIT_S", 1.0)
    learner = opened.enter_context(closing(Learner(tmp_path, journal=Watched)))
    peer, entries = join(learner), episodes(2)
    peer.say(hello(), *entries[:10])
    peer.hears(Status, next=10, safe=10)
    peer.say(*entries[10:20], beat())
    assert peer.hears(Status, next=20).safe == 10
    again = join(learner)
    again.say(hello(), beat())
    status = again.hears(Status, next=20)
    assert status.safe <= learner.journal.synced[SESSION]
    again.hears(Status, next=20, safe=20)
    assert learner.journal.synced[SESSION] == 20


def test_what_comes_again_is_counted_and_not_written(learner, join):
    peer, entries = join(learner), episodes(1)
    peer.say(hello(), *entries, *entries[3:9])
    assert eventually(lambda: learner.receiver.duplicates == 6)
    assert learner.numbers() == list(range(len(entries)))


def test_a_hole_is_asked_for_once_until_there_is_news(learner, join):
    peer, entries = join(learner), episodes(1)
    peer.say(hello(), *entries[:3], *entries[5:12])
    asked = [m for m in peer.all_heard() if isinstance(m, Status) and m.resend]
    assert [status.next for status in asked] == [3]
    peer.say(*entries[6:9])  # the heartbeat was news: it is asked again, once
    asked = [m for m in peer.all_heard() if isinstance(m, Status) and m.resend]
    assert [status.next for status in asked] == [3]
    peer.say(*entries[3:])
    peer.hears(Status, next=len(entries))
    assert learner.numbers() == list(range(len(entries)))


def test_records_of_an_unknown_session_are_answered_with_a_question(learner, join):
    peer, entries = join(learner), episodes(1)
    peer.say(entries[0])
    assert peer.hears(Status).learner == 0
    peer.say(beat())
    assert peer.hears(Status).learner == 0
    assert not learner.sessions
    peer.say(hello(), *entries)
    peer.hears(Status, safe=len(entries))


def raw(header: dict[str, Any], version: int = 1) -> bytes:
    """A record with any header and a right checksum."""
    head = msgpack.packb({"arrays": [], **header, "version": version})
    body = head + bytes(-len(head) % 8)
    prefix = b"SGR1" + len(head).to_bytes(4, "little") + (16 + len(body)).to_bytes(4, "little")
    return prefix + zlib.crc32(body, zlib.crc32(prefix)).to_bytes(4, "little") + body


FOREIGN = Layout({"x": ("<f4", (7,)), "image": ("|u1", (2, 3))}, 1)


def foreign_step() -> bytes:
    """A transition of a task with another observation."""
    header, arrays = unpack(encode(episodes(1)[1]))
    wide = {name: np.zeros(7, np.float32) if name.endswith("/x") else x for name, x in arrays.items()}
    return pack({name: value for name, value in header.items() if name not in ("version", "arrays")}, wide)


MARKUP = {"[/x]": {"success": 1, "trials": 2}, "sample": {"success": 1, "trials": 2}}


def nested(depth: int) -> Any:
    """A list in a list in a list."""
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


BAD: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "noise": lambda: os.urandom(333),
    "pickle": lambda: b"\x80\x04\x95\x1c\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94.",
    "cut short": lambda: encode(episodes(1)[1])[:-8],
    "a flipped bit": lambda: (lambda d: d[:99] + bytes([d[99] ^ 4]) + d[100:])(encode(episodes(1)[1])),
    "another version": lambda: raw({"kind": "bye", "session": SESSION}, version=9),
    "unknown kind": lambda: raw({"kind": "dance"}),
    "the learner's words": lambda: encode_message(Status(1, SESSION, 3, 3, False, None)),
    "no such field": lambda: raw({"kind": "bye", "session": SESSION, "now": True}),
    "a session that is none": lambda: raw({"kind": "hello", **vars(hello()), "session": 0, "first": 4}),
    "a session beyond all": lambda: raw({"kind": "hello", **vars(hello()), "session": 1 << 63, "first": 4}),
    "a first beyond all": lambda: raw({"kind": "hello", **vars(hello()), "first": 1 << 63}),
    "other spaces": foreign_step,
    "scores that are none": lambda: encode(Entry(SESSION, 3, Scores(1, 0, {"mode": 5}))),
    "scores of nothing": lambda: encode(Entry(SESSION, 3, Scores(1, 0, {}))),
    "scores of a mode that is markup": lambda: encode(Entry(SESSION, 3, Scores(1, 0, MARKUP))),
    "a header nested too deep": lambda: raw({"kind": "hello", **vars(hello()), "run": nested(300)}),
    "a session nested too deep": lambda: raw({"kind": "bye", "session": nested(900)}),
    "a session that is a list": lambda: raw({"kind": "transition", "session": []}),
    "a session that is a map": lambda: raw({"kind": "scores", "session": {}}),
}


@pytest.mark.parametrize("what", BAD)
def test_what_is_no_message_is_dropped_counted_and_named_and_nothing_else_happens(what, learner, join, capfd):
    peer, stranger, entries = join(learner), join(learner), episodes(2)
    peer.say(hello(), *entries[:3])
    peer.hears(Status, safe=3)
    stranger.say(BAD[what](), BAD[what]())
    assert eventually(lambda: learner.receiver.refused.total() == 2)
    (reason, *more) = learner.receiver.refused
    assert "\n" not in reason
    assert len(reason) < 300
    peer.say(*entries[3:])
    peer.hears(Status, safe=len(entries))
    assert learner.receiver.live() == {SESSION: -1}
    assert list(learner.sessions) == [SESSION]
    assert learner.numbers() == list(range(len(entries)))
    assert capfd.readouterr().err.count("dropped") == 1 + len(more)


@settings(max_examples=15)
@given(junk=st.lists(st.binary(max_size=400), max_size=20), data=st.data())
def test_no_bytes_do_more_than_be_dropped(junk, data, tmp_path_factory):
    entries = episodes(1)
    broken = []
    for entry in data.draw(st.lists(st.sampled_from(entries), max_size=5)):
        record = bytearray(encode(entry))
        record[data.draw(st.integers(0, len(record) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        broken.append(bytes(record))
    with closing(Learner(tmp_path_factory.mktemp("learner"))) as learner, closing(Peer(learner)) as peer:
        peer.say(hello(), *junk, *broken, *entries)
        peer.hears(Status, safe=len(entries))
        assert learner.receiver.refused.total() == len(junk) + len(broken)
        assert learner.numbers() == list(range(len(entries)))


def test_messages_of_many_parts_are_dropped(learner, join):
    peer, entries = join(learner), episodes(1)
    peer.say(hello())
    peer.socket.send_multipart([encode(entries[0]), encode(entries[1])])
    peer.socket.send_multipart([b"", encode(entries[0])])
    peer.say(*entries)
    peer.hears(Status, safe=len(entries))
    assert learner.receiver.refused == {"a message of 2 parts": 2}


def test_who_sends_too_much_is_cut_off_and_the_others_go_on(learner, join):
    peer, rude, entries = join(learner), join(learner), episodes(2)
    peer.say(hello(), *entries[:5])
    rude.say(hello(session=7, actor_id=1))
    rude.hears(Welcome)
    monitor = rude.socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
    rude.say(b"x" * (LAYOUT.max_bytes + 1))
    assert monitor.poll(10_000)
    rude.socket.disable_monitor()
    monitor.close(0)
    peer.say(*entries[5:])
    peer.hears(Status, safe=len(entries))
    rude.say(hello(session=7, actor_id=1))  # it connects anew, and may behave
    rude.hears(Welcome, session=7)


def test_a_flood_of_nonsense_neither_fills_the_memory_nor_the_terminal(learner, join, capfd):
    stranger = join(learner)
    for number in range(3 * REASONS):
        stranger.say(raw({"kind": f"dance {number} " + "x" * 1000}))
    assert eventually(lambda: learner.receiver.refused.total() == 3 * REASONS)
    assert len(learner.receiver.refused) <= REASONS + 1
    assert capfd.readouterr().err.count("dropped") <= REASONS + 1


def test_a_record_that_does_not_fit_is_answered_with_why(learner, join):
    """Or an actor of another version would send it again and again, and both would wait for ever."""
    peer = join(learner)
    peer.say(hello(), episodes(1)[0], foreign_step())
    assert "next_obs/x" in peer.hears(Refused, session=SESSION).reason


# Who may act.


def test_a_second_actor_is_refused_in_lockstep_and_let_in_when_the_first_has_left(strict, join):
    one, other = join(strict), join(strict)
    one.say(hello(session=1))
    one.hears(Welcome)
    other.say(hello(session=2, actor_id=1))
    assert "takes one actor and has actor 0" in other.hears(Refused, session=2).reason
    assert strict.receiver.live() == {1: -1}
    one.say(Bye(1))
    assert eventually(lambda: not strict.receiver.live())
    other.say(hello(session=2, actor_id=1))
    other.hears(Welcome, session=2)
    assert strict.receiver.live() == {2: -1}


def test_an_actor_may_deliver_what_it_has_while_another_acts(strict, join):
    one, other, entries = join(strict), join(strict), episodes(1, session=2)
    one.say(hello(session=1))
    one.hears(Welcome)
    other.say(hello(session=2, actor_id=1, acting=False), *entries)
    other.hears(Status, safe=len(entries))
    assert strict.receiver.live() == {1: -1}


def test_a_number_of_an_actor_is_taken_while_it_is_there(learner, join):
    one, other = join(learner), join(learner)
    one.say(hello(session=1))
    one.hears(Welcome)
    other.say(hello(session=2))
    assert "actor 0 is there already" in other.hears(Refused, session=2).reason
    other.say(hello(session=2, actor_id=1))
    other.hears(Welcome, session=2)
    assert learner.receiver.live() == {1: -1, 2: -1}


@pytest.mark.parametrize("lockstep", [True, False])
def test_who_replaces_its_own_session_is_let_in_at_once(lockstep, opened, tmp_path, join):
    learner = opened.enter_context(closing(Learner(tmp_path, one_actor=lockstep)))
    dead, again = join(learner), join(learner)
    dead.say(hello(session=1))
    dead.hears(Welcome)
    again.say(hello(session=2, replaces=1))
    again.hears(Welcome, session=2, seconds=1.0)
    assert learner.receiver.live() == {2: -1}


def test_the_place_of_one_who_is_silent_is_given_away_and_it_must_say_hello_when_it_is_back(strict, join, monkeypatch):
    """Else both would count as there, and the one that gets no orders would wait for ever."""
    monkeypatch.setattr("launch.peers.SILENCE_S", 0.3)
    silent, other, entries = join(strict), join(strict), episodes(1, session=1)
    silent.say(hello(session=1), *entries[:3])
    silent.hears(Status, session=1, safe=3)
    assert eventually(lambda: not strict.receiver.live())
    monkeypatch.setattr("launch.peers.SILENCE_S", 1e9)
    dict(strict.receiver._peers)[1].heard_s = -1e12
    other.say(hello(session=2, actor_id=1))
    other.hears(Welcome, session=2)
    silent.say(beat(session=1), *entries[3:5])
    assert silent.hears(Status, session=1, learner=0)
    silent.say(hello(session=1))
    silent.hears(Refused, session=1)
    assert strict.receiver.live() == {2: -1}


def test_a_stream_of_another_run_is_refused(learner, join):
    """A spool may hold what a run in another folder has not got yet."""
    peer = join(learner)
    peer.say(Hello(SESSION, "run-b", 0, 0, 0, False))
    reason = peer.hears(Refused).reason
    assert "run-b" in reason
    assert RUN in reason
    peer.say(Hello(SESSION, RUN, 0, 0, 0, False))
    peer.hears(Welcome)


def test_what_no_longer_exists_becomes_a_gap(learner, join):
    peer, entries = join(learner), episodes(2)
    peer.say(hello(), *entries[:5], beat(first=21), *entries[21:30])
    peer.hears(Status, next=30, safe=30)
    events = [entry.event for entry in learner.sessions[SESSION]]
    assert [event for event in events if isinstance(event, Gap)] == [Gap(21, 16, "the actor's spool was full")]
    assert [e.number for e in learner.sessions[SESSION]] == [*range(6), *range(21, 30)]


# Orders and parameters.


def test_an_order_comes_by_itself_and_again_with_each_heartbeat(learner, join):
    peer, order = join(learner), Order(1, 0, after=1, steps=10)
    peer.say(hello())
    peer.hears(Welcome)
    learner.receiver.order({SESSION: order})
    assert peer.hears(Status, order=order).session == SESSION
    peer.say(beat())
    peer.hears(Status, order=order)


def test_where_it_waits_comes_with_the_heartbeat(learner, join):
    peer = join(learner)
    peer.say(hello(), beat(waiting=7))
    assert eventually(lambda: learner.receiver.live() == {SESSION: 7})
    assert learner.receiver.heartbeats()[SESSION].waiting == 7


def publish(learner: Learner, publication: int) -> None:
    learner.receiver.publish(publication, encode_params(learner.receiver.learner, publication, 0, PARAMS))


# A link on a spool, and a learner that comes and goes.


class Joined:
    """An actor's end, on a spool in a folder."""

    def __init__(
        self,
        folder: Path,
        port: int,
        patience_s: float = 20.0,
        limit: int = LIMIT,
        full: Any = "stop",
        actor_id: int = 0,
    ) -> None:
        self.spool = Spool(folder, limit, full)
        self.link = Link(ActorSockets(Address("127.0.0.1", port), None), self.spool, actor_id, patience_s)

    def begin(self, session: int) -> "Joined":
        assert self.link.join(session) == RECIPE
        self.link.begin(LAYOUT, SPECS)
        return self

    def tell(self, entries: list[Entry]) -> "Joined":
        for entry in entries:
            self.link.tell(entry)
        return self

    def close(self) -> None:
        self.link.close()
        self.spool.close()


@pytest.fixture
def act(opened: ExitStack, tmp_path: Path) -> Callable[..., Joined]:
    """Makes an actor's end; the same spool each time unless told otherwise."""
    return lambda learner, name="spool", **how: opened.enter_context(
        closing(Joined(tmp_path / name, learner.port, **how))
    )


def test_what_is_told_is_in_the_journal_when_flush_returns_and_the_spool_is_empty_after(learner, act):
    entries = episodes(5)
    actor = act(learner).begin(SESSION).tell(entries)
    actor.link.flush()
    assert learner.numbers() == list(range(len(entries)))
    actor.close()
    assert [path.name for path in actor.spool.folder.iterdir()] == ["lock"]
    assert eventually(lambda: not learner.receiver.live(), 1.0)  # it has said goodbye


def test_records_told_while_the_learner_restarts_arrive_once(learner, act):
    """Three times, each time another process of the learner as the actor sees it."""
    entries = episodes(40)
    actor = act(learner).begin(SESSION)
    told = 0
    for stop in (150, 400, 600):
        actor.tell(entries[told:stop])
        assert eventually(lambda told=told: learner.journal.next(SESSION) > told)
        learner.close()
        actor.tell(entries[stop : stop + 50])  # while nobody is there
        told = stop + 50
        learner.open()
    actor.tell(entries[told:])
    actor.link.flush()
    assert learner.numbers() == list(range(len(entries)))


def test_a_restarted_actor_first_delivers_what_its_sessions_before_have_left(learner, act):
    first, second, third = (episodes(3, session=session) for session in (5, 6, 7))
    actor = act(learner).begin(5).tell(first[:20])
    actor.link.flush()
    learner.close()
    actor.tell(first[20:])
    actor.close()
    for session, entries in ((6, second), (7, third)):
        learner.open()
        actor = act(learner).begin(session)
        assert learner.numbers(5) == list(range(len(first)))
        learner.close()
        actor.tell(entries)
        actor.close()
        assert [len(found) for found in learner.sessions.values()] == [len(first)] + [len(second)] * (session - 6)
    learner.open()
    with closing(Joined(actor.spool.folder, learner.port)) as last:
        last.link.join(8)
        assert {s: len(e) for s, e in learner.sessions.items()} == {5: len(first), 6: len(second), 7: len(third)}


def test_a_learner_that_does_not_read_for_seconds_loses_nothing(opened, tmp_path, act):
    """Its disk is slow: queues fill, libzmq stops reading, hears no heartbeats, and cuts the connection."""

    class Slow(Journal):
        stalls = 2

        def sync(self) -> None:
            super().sync()
            if self.stalls and self.next(SESSION) > 200:
                type(self).stalls -= 1
                time.sleep(4.0)

    learner = opened.enter_context(closing(Learner(tmp_path, journal=Slow)))
    entries = episodes(400)
    actor = act(learner).begin(SESSION).tell(entries)
    actor.link.flush()
    assert Slow.stalls == 0
    assert learner.numbers() == list(range(len(entries)))


def test_two_actors_at_once_each_in_order(learner, act):
    streams = {session: episodes(20, session=session) for session in (5, 6)}
    actors = {session: act(learner, name=f"spool{session}", actor_id=session).begin(session) for session in streams}
    for pair in zip(*streams.values(), strict=True):
        for entry in pair:
            actors[entry.session].tell([entry])
    for actor in actors.values():
        actor.link.flush()
    for session, entries in streams.items():
        assert learner.numbers(session) == list(range(len(entries)))
        chain = [e.event.transition.sequence for e in learner.sessions[session] if isinstance(e.event, Step)]
        assert chain == list(range(len(chain)))


def test_an_order_is_taken_at_its_place_with_its_parameters(learner, act):
    actor = act(learner).begin(SESSION).tell(episodes(1)[:3])
    learner.receiver.order({SESSION: Order(1, 0, after=2, steps=4)})
    publish(learner, 1)
    learner.receiver.order({SESSION: Order(2, 0, after=3, steps=4)})
    with pytest.raises(LearnerAway):  # for the order's parameters are not there
        impatient(actor, lambda: actor.link.wait_order(3))
    publish(learner, 2)
    order, now = actor.link.wait_order(3)
    assert (order.after, order.publication, now.version) == (3, 2, 5)
    np.testing.assert_array_equal(now.params["actor"]["w"], np.ones(3))


def impatient(actor: Joined, wait: Callable[[], Any]) -> Any:
    """Waits as an actor does whose learner has not been heard for long."""
    patience_s, actor.link._patience_s = actor.link._patience_s, -1e9
    try:
        return wait()
    finally:
        actor.link._patience_s = patience_s


def test_a_finished_order_needs_no_parameters(learner, act):
    """A learner that comes back only to end a run has published nothing."""
    actor = act(learner).begin(SESSION).tell(episodes(1)[:3])
    learner.receiver.order({SESSION: Order(7, 0, after=3, finished=True)})
    assert actor.link.wait_order(3) is None


def test_running_free_the_newest_parameters_are_there_and_none_between(learner, act):
    """A slow actor finds the newest; one that joins later the current ones."""
    actor = act(learner).begin(SESSION).tell(episodes(1)[:1])
    learner.receiver.order({SESSION: Order(1, 0)})
    publish(learner, 1)
    actor.link.await_first_order()
    for publication in range(2, 200):
        publish(learner, publication)
    assert eventually(lambda: actor.link._published.publication == 199)
    late = act(learner, name="late", actor_id=1).begin(9).tell(episodes(1, session=9)[:1])
    learner.receiver.order({SESSION: Order(1, 0), 9: Order(1, 0)})
    start_s = time.monotonic()
    late.link.await_first_order()
    assert time.monotonic() - start_s < 2.0
    assert late.link._published.publication == 199


def test_parameters_of_a_learner_that_has_come_back_are_another_ones(learner, act):
    """Its publications are numbered from its checkpoint: the same number may hold other parameters."""
    actor = act(learner).begin(SESSION).tell(episodes(1)[:3])
    order = {SESSION: Order(4, 0, after=3, steps=1)}
    learner.receiver.order(order)
    publish(learner, 4)
    assert actor.link.wait_order(3)[1].version == 5
    learner.close()
    learner.open()
    assert eventually(lambda: SESSION in learner.receiver.live())
    learner.receiver.order(order)
    assert eventually(lambda: actor.link._learner == learner.receiver.learner)
    with pytest.raises(LearnerAway):
        impatient(actor, lambda: actor.link.wait_order(3))
    publish(learner, 4)
    assert actor.link.wait_order(3)[0].publication == 4


# Neither side hangs on the other.


@pytest.fixture
def nobody() -> Any:
    """A port at which nothing listens."""

    class Nobody:
        with closing(LearnerSockets(Address("127.0.0.1", 0), None, 1)) as sockets:
            port = sockets.address.port

    return Nobody()


def test_nobody_there_is_said_after_the_patience(nobody, act):
    actor = act(nobody, patience_s=0.5)
    start_s = time.monotonic()
    with pytest.raises(LearnerAway, match=r"nothing listens at 127\.0\.0\.1"):
        actor.link.join(SESSION)
    assert 0.4 < time.monotonic() - start_s < 5.0


@pytest.mark.parametrize("wait", ["flush", "order", "first order", "pause", "join"])
def test_no_wait_outlasts_the_patience_when_the_learner_has_gone(wait, learner, act):
    actor = act(learner, patience_s=1.0).begin(SESSION)
    learner.close()
    waits: dict[str, Callable[[], Any]] = {
        "flush": lambda: actor.tell(episodes(1)).link.flush(),
        "order": lambda: actor.link.wait_order(0),
        "first order": actor.link.await_first_order,
        "pause": lambda: [actor.link.pause(0.05) for _ in range(1000)],
        "join": lambda: act(learner, name="other", patience_s=1.0).link.join(9),
    }
    start_s = time.monotonic()
    with pytest.raises(LearnerAway, match="start again with the same --out" if wait == "flush" else "learner|listens"):
        waits[wait]()
    assert time.monotonic() - start_s < 6.0
    start_s = time.monotonic()
    actor.close()
    assert time.monotonic() - start_s < 2.0
    learner.open()


def test_an_actor_that_is_refused_says_why_after_its_patience(strict, act):
    act(strict, name="one").begin(5)
    other = act(strict, name="other", patience_s=0.5, actor_id=1)
    with pytest.raises(LearnerAway, match="takes one actor and has actor 0"):
        other.link.join(6)


def test_closing_a_learner_with_actors_there_takes_no_time(learner, act):
    actor = act(learner).begin(SESSION).tell(episodes(200))
    start_s = time.monotonic()
    learner.close()
    assert time.monotonic() - start_s < 2.0
    learner.open()
    actor.link.flush()
    assert learner.numbers() == list(range(len(episodes(200))))


def test_an_actor_whose_parent_is_gone_stops(opened, tmp_path, learner):
    spool = opened.enter_context(closing(Spool(tmp_path / "spool", LIMIT, "stop")))
    sockets = ActorSockets(Address("127.0.0.1", learner.port), None)
    link = opened.enter_context(closing(Link(sockets, spool, 0, 5.0, parent=1 << 22)))
    with pytest.raises(LearnerAway, match="which started this actor, is gone"):
        link.join(SESSION)


def test_a_disk_that_fails_stops_the_learner_with_its_reason(opened, tmp_path, act):
    class Full(Journal):
        def append(self, entry: Entry, record: Any) -> bool:
            if entry.number == 7:
                raise OSError(28, "No space left on device")
            return super().append(entry, record)

    learner = opened.enter_context(closing(Learner(tmp_path, journal=Full)))
    actor = act(learner, patience_s=1.0).begin(SESSION).tell(episodes(1))
    assert eventually(learner.receiver.arrived.is_set)

    def failed() -> bool:
        with suppress(OSError):
            learner.receiver.live()
            return False
        return True

    assert eventually(failed)
    with pytest.raises(LearnerAway):
        actor.link.flush()
    assert actor.link._head.safe <= 7  # what is not in the journal stays in the spool


class Impostor:
    """A learner that may say anything."""

    def __init__(self) -> None:
        self.sockets = LearnerSockets(Address("127.0.0.1", 0), None, LAYOUT.max_bytes)
        self.port = self.sockets.address.port
        self.identity = b""

    def serve(self, until: Callable[[], object]) -> bool:
        """Answers hellos and heartbeats until something holds."""

        def turn() -> object:
            while self.sockets.data.poll(5):
                self.identity, data = self.sockets.data.recv_multipart()
                header, _ = unpack(data)
                if header["kind"] == "hello":
                    self.say(encode_message(Welcome(1, SESSION, 0, RUN, RECIPE)))
                elif header["kind"] == "heartbeat":
                    self.say(encode_message(Status(1, SESSION, 0, 0, False, None)))
            return until()

        return eventually(turn)

    def say(self, *parts: bytes) -> None:
        self.sockets.data.send_multipart([self.identity, *parts])

    def close(self) -> None:
        self.sockets.close()


NONSENSE = [
    b"",
    os.urandom(99),
    encode_message(hello()),
    raw({"kind": "status", "session": SESSION}),
    encode(episodes(1)[0]),
]


def test_nonsense_from_a_learner_is_dropped_and_counted_and_changes_nothing(opened, act):
    impostor = opened.enter_context(closing(Impostor()))
    actor = act(impostor, patience_s=0.5)
    actor.link._session = SESSION
    assert impostor.serve(lambda: actor.link._greeted)
    actor.link.begin(LAYOUT, SPECS)
    for nonsense in NONSENSE:
        impostor.say(nonsense)
    impostor.say(b"a", b"b")
    impostor.sockets.parameters.send(b"no parameters")
    before_s = time.monotonic()
    assert impostor.serve(lambda: actor.link.refused >= len(NONSENSE) + 1)
    assert impostor.serve(lambda: time.monotonic() - before_s > 1.5)  # longer than the patience: still no complaint
    actor.tell(episodes(1))
    assert actor.link._greeted


def test_parameters_that_do_not_fit_stop_an_actor_that_waits_for_them(learner, act):
    """Of another version, or of other networks: they would never come."""
    actor = act(learner, patience_s=0.5).begin(SESSION).tell(episodes(1)[:1])
    wrong = PARAMS.replace(params={"actor": {"w": np.ones(4, np.float32)}})
    learner.receiver.order({SESSION: Order(1, 0)})
    learner.receiver.publish(1, encode_params(learner.receiver.learner, 1, 0, wrong))
    with pytest.raises(LearnerAway, match="params/actor/w is not what phase 0"):
        actor.link.await_first_order()


# A spool and its limit.


def test_a_full_spool_that_stops_has_kept_all_that_was_told(nobody, learner, act):
    """The step that fills it has been made by then: it is kept as well."""
    entries = episodes(60)
    actor = act(learner, limit=20_000).begin(SESSION)
    learner.close()
    told = 0

    def tell() -> None:
        nonlocal told
        for told, entry in enumerate(entries, 1):  # noqa: B007
            actor.link.tell(entry)

    with pytest.raises(SpoolFull, match="--spool-mb"):
        tell()
    assert told < len(entries)
    actor.close()
    learner.open()
    again = act(learner, limit=20_000)
    again.link.join(9)
    assert learner.numbers() == list(range(told))
    assert again.spool.dropped == 0


def test_a_full_spool_that_drops_counts_what_is_gone_and_the_run_goes_on(learner, act):
    entries = episodes(60)
    actor = act(learner, limit=20_000, full="drop").begin(SESSION).tell(entries[:30])
    actor.link.flush()
    learner.close()
    actor.tell(entries[30:-20])
    assert actor.spool.nbytes <= 20_000
    learner.open()
    actor.link.flush()
    actor.tell(entries[-20:]).link.flush()
    found = learner.sessions[SESSION]
    (gap,) = [entry for entry in found if isinstance(entry.event, Gap)]
    assert gap.number == 30
    assert gap.event.to - gap.number == gap.event.transitions == actor.spool.dropped > 500
    held = [entry.number for entry in found if entry is not gap]
    assert set(range(30)) | set(range(gap.event.to + 1, len(entries))) <= set(held)
    assert held == sorted(held)


def test_what_a_learner_would_refuse_never_gets_into_the_spool(learner, act):
    actor = act(learner).begin(SESSION)
    with pytest.raises(ValueError, match="next_obs/x"):
        actor.link.tell(Entry(SESSION, 0, unfit()))
    actor.tell(episodes(1)).link.flush()


def unfit() -> Step:
    step = episodes(1)[1].event
    assert isinstance(step, Step)
    from dataclasses import replace

    return replace(step, transition=replace(step.transition, next_obs={"x": np.zeros(3, np.float32)}))


@pytest.mark.parametrize("where", ["in the middle", "at the end", "at the beginning"])
def test_what_was_damaged_in_the_spool_becomes_a_gap_and_the_rest_arrives(where, learner, act, capfd):
    entries = episodes(20)
    actor = act(learner).begin(SESSION)
    learner.close()
    actor.tell(entries)
    actor.close()
    (segment,) = actor.spool.folder.rglob("*.seg")
    data = bytearray(segment.read_bytes())
    at = {"in the middle": len(data) // 2, "at the end": len(data) - 40, "at the beginning": 40}[where]
    data[at] ^= 16
    segment.write_bytes(data)
    learner.open()
    act(learner).link.join(9)
    found = read_streams(learner.folder)[SESSION]
    lost = {number for number, seen in found if seen.header["kind"] == "gap"}
    assert len(lost) == (where != "at the end")  # of the last one nobody can tell that it was there
    assert [number for number, _ in found] == list(range(len(entries) - (where == "at the end")))
    assert "spool" in capfd.readouterr().err


def test_scores_as_an_evaluator_gives_them_are_delivered(learner, act):
    """Their intervals are pairs."""
    score = Score("mode", 1, 2, (0.1, 0.9), (Trial(0, True, 5, None, (0.0, 0.0, 0.0)),)).to_json()
    entries = [*episodes(1), Entry(SESSION, 21, Scores(1, 0, {"mode": score, "sample": score}))]
    act(learner).begin(SESSION).tell(entries).link.flush()
    assert learner.numbers() == list(range(22))


def test_other_things_in_a_spool_are_left_alone(learner, act):
    actor = act(learner)
    (actor.spool.folder / "holiday").mkdir()
    (
        actor.spool.folder / "0003-00000000000000ff"
    ).mkdir()  # of a process that died before it had written the run's name
    actor.close()
    assert act(learner).spool.old == []


def test_a_learner_of_another_run_at_the_same_place_gets_nothing(learner, act, tmp_path, opened):
    """It was started there between the moment when the actor joined and its first step."""
    actor = act(learner, patience_s=0.5)
    actor.link.join(SESSION)
    learner.close()
    other = Learner(tmp_path / "other", run="run-b", port=learner.port)
    opened.enter_context(closing(other))
    actor.link.begin(LAYOUT, SPECS)
    actor.tell(episodes(1))
    with pytest.raises(LearnerAway, match="run-b"):
        actor.link.flush()
    assert not other.sessions


def test_publications_do_not_make_a_refused_actor_wait_for_ever(strict, act):
    one = act(strict, name="one").begin(5)
    strict.receiver.order({5: Order(1, 0)})
    other = act(strict, name="other", patience_s=1.0, actor_id=1)
    stop = threading.Event()

    def publishing() -> None:
        for publication in itertools.count(1):
            publish(strict, publication)
            if stop.wait(0.1):
                return

    thread = threading.Thread(target=publishing)
    thread.start()
    try:
        with pytest.raises(LearnerAway, match="takes one actor"):
            other.link.join(6)
    finally:
        stop.set()
        thread.join()
    assert one.link.learner_is_there


def test_idle_connections_are_cut(learner, join):
    """They take a descriptor each, and need no key."""
    idle = [socket.create_connection(("127.0.0.1", learner.port)) for _ in range(20)]
    for connection in idle:
        connection.settimeout(10.0)
        with suppress(ConnectionError):
            while connection.recv(100):  # libzmq's greeting, and then the end
                pass
        connection.close()
    peer = join(learner)
    peer.say(hello())
    peer.hears(Welcome)


def test_a_spool_is_for_one_process(learner, act, monkeypatch):
    monkeypatch.setattr("launch.spool.LOCK_S", 0.2)
    act(learner)
    with pytest.raises(ValueError, match="another actor uses it"):
        Spool(act(learner, name="other").spool.folder, LIMIT, "stop")


def test_nothing_is_left_open(tmp_path):
    def held() -> int:
        return len(os.listdir("/proc/self/fd"))

    def once(name: str) -> None:
        with (
            closing(Learner(tmp_path / name)) as learner,
            closing(Joined(tmp_path / name / "s", learner.port)) as actor,
        ):
            actor.begin(SESSION).tell(episodes(2)).link.flush()

    once("first")
    before = held()
    for name in "abc":
        once(name)
    assert eventually(lambda: held() <= before)
