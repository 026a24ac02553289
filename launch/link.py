"""The actor's end of the wire: a thread that delivers the spool, and keeps the newest order and parameters."""

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import jax
import jax.numpy as jnp
import zmq
from rich.markup import escape

from agent.policy import PolicyParams
from agent.replay.entry import Entry, Layout
from agent.replay.record import ArraySpec, RecordError, unpack
from launch.delivery import Delivery
from launch.orders import Order, Stopwatch
from launch.runs import console
from launch.sockets import ActorSockets
from launch.spool import Outgoing, Spool
from launch.wake import drain, wake_pair
from launch.wire import (
    HEARTBEAT_S,
    SILENCE_S,
    Bye,
    Heartbeat,
    Hello,
    Message,
    Published,
    Refused,
    Status,
    Welcome,
    decode_message,
    decode_params,
    encode_message,
)

SYNC_S = 1.0  # how long a record may be in the spool before it is sure to survive a power cut
TICK_MS = 50
REMIND_S = 60.0  # between two warnings that the learner is away


class LearnerAway(RuntimeError):
    """The learner has not been heard for longer than the actor was to wait."""


class Link:
    """Joins an actor to its learner. The methods are for the actor's thread; of them `join`, `wait_order` and `flush` wait.

    Args:
        sockets: connected.
        spool: of this actor.
        actor_id: this actor's number.
        patience_s: how long those may wait without a word from the learner.
        parent: process id that this process must be a child of, 0 for any: it stops when that one is gone.
    """

    def __init__(self, sockets: ActorSockets, spool: Spool, actor_id: int, patience_s: float, parent: int = 0) -> None:
        self._sockets, self._spool, self._actor_id = sockets, spool, actor_id
        self._patience_s, self._parent = patience_s, parent
        self._changed = threading.Condition()
        self._deliveries = deque(Delivery(stream, False, self._send_bytes) for stream in spool.old)
        self._acting: Outgoing | None = None
        self._replaces = spool.old[-1].session if spool.old else 0
        self._session = self._learner = 0
        self._greeted = False
        self._said_s = self._synced_s = 0.0
        self._heard_s = self._moved_s = time.monotonic()
        self._recipe: dict[str, Any] | None = None
        self._run_name, self._pinned = "", False  # once joined, no other run will do
        self._specs: Mapping[int, Mapping[str, ArraySpec]] = {}
        self._order: Order | None = None
        self._published: Published | None = None
        self._now: PolicyParams | None = None
        self._refusal: str | None = None  # why the learner does not take this actor
        self._misfit: str | None = None  # what is wrong with its newest parameters
        self._reason_s = 0.0  # since when there is one of them
        self._nonsense: str | None = None  # the last message that was dropped, and why
        self._error: BaseException | None = None
        self._waiting, self._stop = -1, False
        self._away_said_s = 0.0  # when that was said last; 0 while it is there
        self.waited, self.refused = Stopwatch(), 0
        self._wake_in, self._wake_out = wake_pair(sockets.context)
        self._thread = threading.Thread(target=self._run, name="link", daemon=True)
        self._thread.start()

    # For the actor's thread.

    def join(self, session: int) -> dict[str, Any]:
        """Delivers what earlier sessions left, announces this one, and returns the run's recipe.

        Raises:
            LearnerAway: nobody answered, or the learner refused; the message says why.
        """
        with self._changed:
            self._session = session
            self._wake()
            self._await(lambda: self._recipe is not None and not self._deliveries and self._greeted, "does not answer")
            assert self._recipe is not None
            self._pinned = True
            return self._recipe

    def begin(self, layout: Layout, specs: Mapping[int, Mapping[str, ArraySpec]]) -> None:
        """The session's stream begins; parameters must be of these dtypes and shapes."""
        with self._changed:
            self._acting, self._specs = self._spool.begin(self._session, layout, self._run_name), specs
            self._deliveries.append(Delivery(self._acting, True, self._send_bytes))
            self._wake()

    def tell(self, entry: Entry) -> None:
        """Keeps an entry in the spool, from where it is delivered. Raises `SpoolFull`."""
        self.check()
        self._spool.append(entry)
        self._wake()

    def wait_order(self, position: int) -> tuple[Order, PolicyParams] | None:
        """In lockstep: the order for this place in the stream and the parameters that belong to it; None: the run is finished.

        Raises:
            LearnerAway: nothing was heard for `patience_s`.
        """

        def there() -> bool:
            order, published = self._order, self._published
            if order is None or order.after != position:
                return False
            if order.finished:
                return True
            key = (self._learner, order.publication)
            return published is not None and (published.learner, published.publication) == key

        with self._changed, self.waited():
            self._waiting = position
            self._await(there, "gives no order")
            self._waiting = -1
            return None if self._order is None or self._order.finished else self._ready()

    def newest(self) -> tuple[Order, PolicyParams, bool] | None:
        """Running free: newest order and parameters, and whether these are the order's or newer; None before there are any."""
        with self._changed:
            self.check()
            if self._order is None or self._published is None:
                return None
            order, now = self._ready()
            current = self._published.learner == self._learner and self._published.publication >= order.publication
            return order, now, current

    def await_first_order(self) -> None:
        """Running free: returns when there is an order and parameters. Raises `LearnerAway`."""
        with self._changed:
            self._await(lambda: self._order is not None and self._published is not None, "gives no order")

    def pause(self, seconds: float) -> None:
        """Lets the learner catch up for a while, at most until something changes. Raises `LearnerAway`."""
        with self._changed, self.waited():
            self.check()
            if time.monotonic() - self._heard_s > self._patience_s:
                raise LearnerAway(self._complaint("does not answer"))
            self._changed.wait(seconds)

    @property
    def learner_is_there(self) -> bool:
        """Whether the learner was heard lately."""
        return time.monotonic() - self._heard_s < SILENCE_S

    def flush(self) -> None:
        """Returns when all that was told is safe. Raises `LearnerAway`."""
        with self._changed:
            self._await(lambda: all(delivery.complete for delivery in self._deliveries), "takes no data")

    def close(self) -> None:
        """Says goodbye where all is told, ends the thread, and closes the sockets; the spool keeps what is not safe."""
        if self._wake_in.closed:
            return
        self._stop = True
        self._wake()
        self._thread.join()
        for delivery in self._deliveries:
            if delivery.complete:
                self._spool.done(delivery.stream)
        self._wake_in.close()
        self._wake_out.close()

    def _ready(self) -> tuple[Order, PolicyParams]:
        assert self._order is not None
        assert self._published is not None
        now = self._now = self._now or jax.tree.map(jnp.asarray, self._published.now)
        return self._order, now

    def _await(self, ready: Callable[[], bool], what: str) -> None:
        """Waits for a condition, with the lock held, as long as the learner is heard or patience lasts."""
        since_s = time.monotonic()
        while not ready():
            self.check()
            silent_s = time.monotonic() - max(self._heard_s, since_s)
            if silent_s > self._patience_s:
                raise LearnerAway(self._complaint(what))
            self._changed.wait(0.2)

    def _complaint(self, what: str) -> str:
        silent = f"learner at {self._sockets.address} {what}"
        if self._nonsense is not None:
            silent += f"; the last message that came from there was dropped: {self._nonsense}"
        why = self._refusal or self._misfit or self._sockets.why_not_connected() or silent
        rest = (
            f"; {self._kept} records are kept in {self._spool.folder}, start again with the same --out to deliver them"
        )
        return why + (rest if self._kept else "")

    @property
    def _kept(self) -> int:
        """Records that are not safe yet."""
        return sum(delivery.stream.next - delivery.safe for delivery in list(self._deliveries))

    def check(self) -> None:
        """Raises what the thread has met, and `LearnerAway` where this actor has been refused for long."""
        if self._error is not None:
            raise self._error
        reason = self._refusal or self._misfit
        if reason is not None and time.monotonic() - self._reason_s > self._patience_s:
            raise LearnerAway(self._complaint(reason))

    def _wake(self) -> None:
        with suppress(zmq.Again):  # it is awake already
            self._wake_in.send(b"", zmq.NOBLOCK)

    # For the thread.

    def _run(self) -> None:
        try:
            while not self._stop:
                self._turn()
            if self._greeted and self._head is not None and self._head.complete:
                self._send(Bye(self._head.stream.session))
                time.sleep(0.1)  # sockets are closed without lingering: let it out
        except BaseException as error:
            self._error = error
        finally:
            self._sockets.close()
            with self._changed:
                self._changed.notify_all()

    def _turn(self) -> None:
        head = self._head
        sending = zmq.POLLOUT if self._greeted and head is not None and head.has_more else 0
        poller = zmq.Poller()
        poller.register(self._sockets.data, zmq.POLLIN | sending)
        poller.register(self._sockets.parameters, zmq.POLLIN)
        poller.register(self._wake_out, zmq.POLLIN)
        events = dict(poller.poll(TICK_MS))
        for _ in drain(self._wake_out) if self._wake_out in events else ():
            pass
        for socket in (self._sockets.data, self._sockets.parameters):
            for data in drain(socket) if events.get(socket, 0) & zmq.POLLIN else ():
                self._hear(data)
        if self._parent and os.getppid() != self._parent:
            raise LearnerAway(f"process {self._parent}, which started this actor, is gone")
        self._greet()
        if self._greeted and self._head is not None:
            self._head.deliver()
            for done in self._head.stream.mended:
                console.print(f"[yellow]spool: {escape(done)}[/yellow]", soft_wrap=True)
            self._head.stream.mended.clear()
        now_s = time.monotonic()
        if self._acting is not None and now_s - self._synced_s > SYNC_S:
            self._acting.sync()
            self._synced_s = now_s

    def _hear(self, data: memoryview) -> None:
        """One message of the learner; what is none is counted and left."""
        message = published = header = None
        try:
            header, arrays = unpack(data)
            if header["kind"] != "parameters":
                message = decode_message(header)
            elif self._specs:
                published = decode_params(header, arrays, self._specs)
        except RecordError as error:
            self.refused, self._nonsense = self.refused + 1, str(error)
            if header is not None and header["kind"] == "parameters":
                self._since_now()
                self._misfit = str(error)  # of other networks: those that fit will never come
            return
        with self._changed:
            self._heard_s = time.monotonic()
            if published is not None:
                self._published, self._now, self._misfit = published, None, None
            elif message is not None:
                self._obey(message)
            self._changed.notify_all()

    def _obey(self, message: Message) -> None:
        head = self._head
        if getattr(message, "session", 0) != (self._session if head is None else head.stream.session):
            return
        match message:
            case Welcome(run=run) if self._pinned and run != self._run_name:
                self._since_now()
                self._refusal = (
                    f"learner at {self._sockets.address} has begun another run, {run}; start this actor again"
                )
            case Welcome(learner, _, number, run, recipe):
                self._learner, self._recipe, self._run_name = learner, recipe, run
                self._greeted, self._refusal = True, None
                if head is not None:
                    head.rewind(number)
            case Refused(_, reason):
                self._since_now()
                if reason != self._refusal:
                    console.print(f"[yellow]{escape(reason)}[/yellow]", soft_wrap=True)
                self._refusal, self._greeted = reason, False
            case Status() if message.learner != self._learner:
                self._greeted = False  # a new learner: it knows nothing of what was on its way
            case Status() if head is not None:
                if head.report(message.next, message.safe, message.resend):
                    self._heartbeat(head)  # tells what it will never get
                if head.acting:
                    self._order = message.order or self._order
                elif head.complete:
                    self._deliveries.popleft()
                    self._spool.done(head.stream)
                    self._greeted = False

    def _since_now(self) -> None:
        if self._refusal is None and self._misfit is None:
            self._reason_s = time.monotonic()

    @property
    def _head(self) -> Delivery | None:
        """The stream under way."""
        return self._deliveries[0] if self._deliveries else None

    def _greet(self) -> None:
        """Announces the stream under way until it is welcome; from then on tells now and then how things stand."""
        head, now_s = self._head, time.monotonic()
        if now_s - self._said_s < (HEARTBEAT_S if self._greeted else HEARTBEAT_S / 5):
            return
        self._said_s = now_s
        self._sockets.keep_connected()
        self._say_who_is_there()
        if self._greeted and head is not None:
            self._heartbeat(head)
        elif head is not None:
            stream = head.stream
            self._send(Hello(stream.session, stream.run, self._actor_id, self._replaces, stream.first, head.acting))
        elif self._session:
            run = self._run_name if self._pinned else ""
            self._send(Hello(self._session, run, self._actor_id, self._replaces, 0, True))

    def _say_who_is_there(self) -> None:
        """Tells the people at the arm when the learner goes away, again each minute, and when it is back."""
        now_s, there = time.monotonic(), self.learner_is_there
        if there and self._away_said_s:
            self._away_said_s = 0.0
            console.print("the learner is there again")
        elif not there and now_s - self._away_said_s > REMIND_S:
            self._away_said_s = now_s
            why = self._sockets.why_not_connected() or f"learner at {self._sockets.address} says nothing"
            kept = f"{self._kept} records are kept in {self._spool.folder}"
            away = f"{escape(why)}; away for {now_s - self._heard_s:.0f} s, {kept}"
            console.print(f"[yellow]{away}[/yellow]", soft_wrap=True)

    def _heartbeat(self, head: Delivery) -> None:
        published = self._published
        held = published.publication if published is not None and published.learner == self._learner else 0
        waiting = self._waiting if head.acting else -1
        first, waited_s = head.stream.first, self.waited.total_s
        self._send(Heartbeat(head.stream.session, waiting, first, held, waited_s, self._spool.dropped))

    def _send(self, message: Message) -> None:
        self._send_bytes(encode_message(message))

    def _send_bytes(self, data: bytes | memoryview) -> bool:
        try:
            self._sockets.data.send(data, zmq.NOBLOCK)
        except zmq.Again:  # nobody there yet, or the queue is full
            return False
        return True
