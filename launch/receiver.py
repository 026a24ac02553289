"""The learner's end of the wire: a thread that takes records into the journal, acknowledges them, and passes orders on."""

import secrets
import threading
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Protocol

import zmq
from rich.markup import escape

from agent.replay.entry import Entry, Gap, Layout, encode, entry_of
from agent.replay.record import RecordError, unpack
from launch.orders import Order
from launch.peers import Peer, Peers
from launch.runs import console
from launch.sockets import LearnerSockets
from launch.wake import drain, wake_pair
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
)

COMMIT_S = 0.25  # a record waits so long at most until it is on the disk
AT_ONCE = 256  # messages between two looks at everything else
STATUS_EVERY = 128  # records of a session between two statuses, so that a sender need not wait for a commit
REPUBLISH_S = 0.1
REASONS = 50  # for refusals that are told apart; whoever sends nonsense must not fill the memory with it


class Sink(Protocol):
    """Where records go: the journal."""

    def next(self, session: int) -> int:
        """The record that may come next."""
        ...

    def append(self, entry: Entry, record: bytes | memoryview) -> bool:
        """Takes a record; False where it was there already."""
        ...

    def sync(self) -> None:
        """Returns when all that was taken is on the disk."""
        ...


class Receiver:
    """Owns the learner's sockets. What its thread and the learner's share is replaced whole, never changed in place.

    Args:
        sockets: bound.
        sink: the journal.
        layout: what records hold.
        run: its name, by which an actor knows whether what it still has belongs here.
        recipe: of the run, as plain JSON, for actors that join.
        one_actor: whether a second actor is refused.

    Attributes:
        learner: number of this process of the learner.
        arrived: set when records came, or the thread has failed.
        refused: messages that were dropped, by reason.
        duplicates: records that came again.
    """

    def __init__(
        self, sockets: LearnerSockets, sink: Sink, layout: Layout, run: str, recipe: Mapping[str, Any], one_actor: bool
    ) -> None:
        self._sockets, self._sink, self._layout = sockets, sink, layout
        self._run_name, self._recipe = run, dict(recipe)
        self.learner = secrets.randbelow((1 << 63) - 1) + 1
        self.arrived = threading.Event()
        self.refused: Counter[str] = Counter()
        self.duplicates = 0
        self._peers = Peers(run, one_actor)
        self._orders: Mapping[int, Order] = {}
        self._params: tuple[int, bytes] | None = None
        self._published, self._published_s, self._dirty_since_s = 0, 0.0, 0.0
        self._error: BaseException | None = None
        self._stop = False
        self._wake_in, self._wake_out = wake_pair(sockets.context)
        self._thread = threading.Thread(target=self._run, name="receiver", daemon=True)
        self._thread.start()

    # For the learner's thread.

    def live(self) -> dict[int, int]:
        """By session of the actors that are there: the place in its stream at which it waits, or -1."""
        if self._error is not None:
            raise self._error
        return self._peers.live()

    @property
    def is_alone(self) -> bool:
        """Whether nobody is there, neither to act nor to deliver."""
        return not any(peer.is_there for _, peer in self._peers)

    @property
    def newest_refusal(self) -> str | None:
        """Why a peer was not let in; None while all were."""
        return self._sockets.newest_refusal

    def order(self, orders: Mapping[int, Order]) -> None:
        """What each session is to do, from now on."""
        if orders != self._orders:
            self._orders = dict(orders)
            self._wake()

    def publish(self, publication: int, message: bytes) -> None:
        """The newest parameters; older ones that are still on their way are forgotten."""
        self._params = (publication, message)
        self._wake()

    def heartbeats(self) -> dict[int, Heartbeat]:
        """The newest of each session so far."""
        return {s: peer.heartbeat for s, peer in self._peers if peer.heartbeat is not None}

    def close(self) -> None:
        """Commits, ends the thread and closes the sockets; closing again does nothing."""
        if self._wake_in.closed:
            return
        self._stop = True
        self._wake()
        self._thread.join()
        self._wake_in.close()
        self._wake_out.close()

    def _wake(self) -> None:
        with suppress(zmq.Again):  # it is awake already
            self._wake_in.send(b"", zmq.NOBLOCK)

    # For the thread.

    def _run(self) -> None:
        poller = zmq.Poller()
        poller.register(self._sockets.data, zmq.POLLIN)
        poller.register(self._wake_out, zmq.POLLIN)
        try:
            while not self._stop:
                self._turn(poller)
            self._commit()
        except BaseException as error:
            self._error = error
            self.arrived.set()
        finally:
            self._sockets.close()

    def _turn(self, poller: zmq.Poller) -> None:
        wait_s = max(0.0, self._dirty_since_s + COMMIT_S - time.monotonic()) if self._dirty_since_s else COMMIT_S
        events = dict(poller.poll(int(1000 * wait_s) + 1))
        if self._wake_out in events:
            for _ in drain(self._wake_out):
                pass
        if self._sockets.data in events:
            self._receive()
        if self._dirty_since_s and time.monotonic() - self._dirty_since_s >= COMMIT_S:
            self._commit()
        self._pass_on()

    def _receive(self) -> None:
        took = False
        for _ in range(AT_ONCE):
            try:
                parts = self._sockets.data.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                break
            if len(parts) != 2:
                self._refuse(f"a message of {len(parts) - 1} parts")
                continue
            try:
                took |= self._hear(parts[0].bytes, parts[1].buffer)
            except RecordError as error:
                self._refuse(str(error))
        if took:
            self.arrived.set()

    def _hear(self, identity: bytes, data: memoryview) -> bool:
        """One message; whether it brought a record."""
        header, arrays = unpack(data)
        if header["kind"] in ("transition", "begin", "scores", "gap"):
            try:
                entry = entry_of(header, arrays, self._layout)
            except RecordError as error:
                if (
                    self._peers.get(session := header.get("session", 0)) is not None
                ):  # or it would be sent again for ever
                    self._send(identity, Refused(session, str(error)))
                raise
            return self._record(identity, entry, data)
        self._message(identity, decode_message(header))
        return False

    def _record(self, identity: bytes, entry: Entry, data: memoryview) -> bool:
        peer = self._peers.get(entry.session)
        if peer is None:
            self._send(identity, who_are_you(entry.session))
            return False
        peer.identity, peer.heard_s = identity, time.monotonic()
        expected = self._sink.next(entry.session)
        if entry.number > expected:
            if peer.asked != expected:
                self._tell(entry.session, peer, resend=True)
            return False
        if not self._sink.append(entry, data):
            self.duplicates += 1
            return False
        self._dirty_since_s = self._dirty_since_s or time.monotonic()
        if entry.next - peer.told >= STATUS_EVERY:
            self._tell(entry.session, peer)
        return True

    def _message(self, identity: bytes, message: Message) -> None:
        match message:
            case Hello():
                self._hello(identity, message)
            case Heartbeat(session):
                peer = self._peers.get(session)
                if peer is None:
                    self._send(identity, who_are_you(session))
                else:
                    self._beat(identity, message, peer)
            case Bye(session):
                peer = self._peers.get(session)
                if peer is not None:
                    peer.left = True
            case _:
                raise RecordError("message: one that only a learner sends")

    def _beat(self, identity: bytes, beat: Heartbeat, peer: Peer) -> None:
        peer.identity, peer.heartbeat, peer.heard_s, peer.asked = identity, beat, time.monotonic(), -1
        self._gap(beat.session, beat.first)
        self._tell(beat.session, peer)
        if self._params is not None and peer.acting and beat.publication != self._params[0]:
            self._published = 0  # lost on its way, or it joined later: say it again

    def _hello(self, identity: bytes, hello: Hello) -> None:
        reason = self._peers.why_not(hello)
        if reason is not None:
            self._send(identity, Refused(hello.session, reason))
            return
        self._gap(hello.session, hello.first)
        expected = self._sink.next(hello.session)
        self._peers.admit(hello, identity, expected)
        self._send(identity, Welcome(self.learner, hello.session, expected, self._run_name, self._recipe))
        self._dirty_since_s = self._dirty_since_s or time.monotonic()  # what stands there is safe after the next sync
        self._published = 0

    def _gap(self, session: int, first: int) -> None:
        """Records before `first` exist no more: notes those that never came."""
        expected = self._sink.next(session)
        if first > expected:
            entry = Entry(session, expected, Gap(first, first - expected, "the actor's spool was full"))
            self._sink.append(entry, encode(entry))
            self._dirty_since_s = self._dirty_since_s or time.monotonic()
            self.arrived.set()

    def _commit(self) -> None:
        self._sink.sync()
        self._dirty_since_s = 0.0
        for session, peer in self._peers:
            safe = self._sink.next(session)
            if safe != peer.safe or peer.told != safe:
                peer.safe = safe
                self._tell(session, peer)

    def _pass_on(self) -> None:
        """Parameters and orders that are new."""
        now_s = time.monotonic()
        params = self._params
        again = self._published != 0 or now_s - self._published_s > REPUBLISH_S
        if params is not None and params[0] != self._published and again:
            self._sockets.parameters.send(params[1], zmq.NOBLOCK, copy=False)
            self._published, self._published_s = params[0], now_s
        orders = self._orders
        for session, peer in self._peers:
            if peer.acting and orders.get(session) not in (None, peer.order):
                self._tell(session, peer)

    def _tell(self, session: int, peer: Peer, resend: bool = False) -> None:
        expected, order = self._sink.next(session), self._orders.get(session)
        peer.told, peer.order, peer.asked = expected, order, expected if resend else -1
        self._send(peer.identity, Status(self.learner, session, expected, peer.safe, resend, order))

    def _send(self, identity: bytes, message: Message) -> None:
        self._sockets.data.send_multipart([identity, encode_message(message)], zmq.NOBLOCK)

    def _refuse(self, reason: str) -> None:
        reason = reason if reason in self.refused or len(self.refused) < REASONS else "of many more kinds"
        self.refused[reason] += 1
        if self.refused[reason] == 1:
            console.print(f"[yellow]dropped: {escape(reason)}[/yellow]")


def who_are_you(session: int) -> Status:
    """Makes an actor say hello: of no learner that it knows."""
    return Status(0, session, 0, 0, False, None)
