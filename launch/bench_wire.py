"""The wire, measured through the real classes in real processes: transitions, parameters, and a learner that goes away."""

import multiprocessing
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from agent.replay.journal import JournalReader
from agent.replay.record import Begin, Entry, Layout, Step
from agent.types import Transition
from launch.actor import new_session
from launch.link import Link
from launch.sockets import ActorSockets, Address
from launch.spool import Spool

IMAGES = {"state": ("<f4", (19,)), "wrist_1": ("|u1", (128, 128, 3)), "wrist_2": ("|u1", (128, 128, 3))}
STATE = {"state": ("<f4", (19,))}
EPISODE = 45  # steps
SPOOL_BYTES = 8 << 30
AGENTLACE = 407  # transitions/s of two 128x128 frames, measured on the same kind of machine
PARAMS_FLOATS = 2_500_000  # 10 MB: what a policy with a small image encoder has
NOTHING: dict[str, Any] = {"run": "bench"}


class Counting:
    """Takes records and writes nothing: the wire without a journal."""

    def __init__(self) -> None:
        self.count: dict[int, int] = {}

    def next(self, session: int) -> int:
        return self.count.get(session, 0)

    def append(self, entry: Entry, record: bytes | memoryview) -> bool:
        if entry.number != self.next(entry.session):
            return False
        self.count[entry.session] = entry.next
        return True

    def sync(self) -> None:
        """There is nothing to make last."""


def transitions(layout: Layout, session: int, count: int) -> Iterator[Entry]:
    """A session of noise in episodes."""
    rng = np.random.default_rng(0)
    frames = []
    for _ in range(8):  # few, so that making them costs nothing
        frames.append(
            {
                name: rng.integers(0, 256, shape, np.uint8) if dtype == "|u1" else rng.standard_normal(shape, np.float32)
                for name, (dtype, shape) in layout.obs.items()
            }
        )
    action = np.zeros(layout.action_dim, np.float32)
    yield Entry(session, 0, Begin(0, "bench", ""))
    for i in range(count):
        over = i % EPISODE == EPISODE - 1
        now, following = frames[i % 8], frames[(i + 1) % 8]
        transition = Transition(now, action, action, -1.0, following, False, over, session=session, sequence=i)
        yield Entry(session, i + 1, Step(transition, i % EPISODE == 0))


def tell_all(port: int, folder: str, obs: dict, count: int) -> None:
    """An actor's process that tells `count` transitions as fast as they are taken."""
    layout = Layout(obs, 6)
    with closing(Spool(Path(folder), SPOOL_BYTES, "stop")) as spool:
        link = Link(ActorSockets(Address("127.0.0.1", port), None), spool, 0, 60.0)
        with closing(link):
            session = new_session()
            link.join(session)
            link.begin(layout, {})
            for entry in transitions(layout, session, count):
                link.tell(entry)
            link.flush()


def throughput(obs: dict, count: int, journaled: bool) -> dict[str, float]:
    """Transitions per second from `Link.tell` in one process to decoded entries in another."""
    layout = Layout(obs, 6)
    with tempfile.TemporaryDirectory() as name, closing_receiver(layout, Path(name), journaled) as (receiver, sink):
        spawn = multiprocessing.get_context("spawn")
        child = spawn.Process(target=tell_all, args=(receiver.port, f"{name}/spool", obs, count))
        reader = JournalReader(Path(name) / "journal") if journaled else None
        child.start()
        start_s, got = 0.0, 0
        while got < count + 1:
            receiver.arrived.wait(0.1)
            receiver.arrived.clear()
            receiver.live()
            if reader is not None:
                got += len(reader.read(512))
            else:
                got = sum(sink.count.values())
            start_s = start_s or (time.perf_counter() if got else 0.0)
        seconds = time.perf_counter() - start_s
        child.join()
        written = sum(path.stat().st_size for path in (Path(name) / "journal").rglob("*.seg")) if journaled else 0
    return {"per_s": count / seconds, "bytes_per_transition": written / count}
