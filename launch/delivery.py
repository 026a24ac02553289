"""Sending a stream so that all of it arrives: a window of records on their way, and back to the first that was lost."""

import time
from collections import deque
from collections.abc import Callable

from agent.replay.segment import following, header
from launch.spool import Outgoing

WINDOW_BYTES = 128 << 20  # sent and not yet safe: what a second brings at full speed, and what a loss sends again
READ_AT_ONCE = 64  # records
STALL_S = 2.0  # without progress for so long, what was on its way counts as lost


class Delivery:
    """Sends one stream.

    Args:
        stream: from the spool.
        acting: whether its session goes on; otherwise it only has to be delivered.
        send: takes a record; False where it cannot just now.

    Attributes:
        safe: records before this one are in the learner's journal.
    """

    def __init__(self, stream: Outgoing, acting: bool, send: Callable[[bytes | memoryview], bool]) -> None:
        self.stream, self.acting, self._send = stream, acting, send
        self.safe = self._arrived = stream.first
        self._outbox: deque[tuple[int, memoryview]] = deque()
        self._on_way: deque[tuple[int, int]] = deque()  # number and bytes
        self._on_way_bytes = 0
        self._sent = stream.first  # the record that is sent next
        self._moved_s = time.monotonic()

    @property
    def has_more(self) -> bool:
        """Whether something may be sent now."""
        return self._sent < self.stream.next and self._on_way_bytes < WINDOW_BYTES

    @property
    def complete(self) -> bool:
        """Whether all that was told is safe."""
        return self.safe >= self.stream.next

    def deliver(self) -> None:
        """Sends what may be sent, as far as the socket takes it."""
        while self.has_more:
            if not self._outbox and not self._read():
                return
            number, record = self._outbox[0]
            if self._sent == self._arrived:
                self._moved_s = time.monotonic()  # nothing was on its way, so nothing has stalled
            if not self._send(record):
                return
            self._outbox.popleft()
            self._sent = following(record, number)
            self._on_way.append((number, len(record)))
            self._on_way_bytes += len(record)

    def _read(self) -> bool:
        records = self.stream.read(READ_AT_ONCE)
        self._outbox.extend((header(record)["number"], record) for record in records)
        return bool(records)

    def report(self, arrived: int, safe: int, resend: bool) -> bool:
        """What the learner says of the stream; whether it expects records that exist no more.

        Args:
            arrived: the record that it expects.
            safe: see `Delivery`.
            resend: something was lost on the way.
        """
        now_s = time.monotonic()
        if arrived != self._arrived:
            self._arrived, self._moved_s = arrived, now_s
        self.safe = safe
        self.stream.drop_before(safe)
        while self._on_way and self._on_way[0][0] < safe:
            self._on_way_bytes -= self._on_way.popleft()[1]
        if resend or (arrived < self._sent and now_s - self._moved_s > STALL_S):
            self.rewind(arrived)
        return arrived < self.stream.first

    def rewind(self, number: int) -> None:
        """Goes on from `number`, or the first record after it that still exists."""
        self._sent = max(number, self.stream.first)
        self.stream.reader.seek(self._sent)
        self._outbox.clear()
        self._on_way.clear()
        self._on_way_bytes, self._moved_s = 0, time.monotonic()
