"""The wire, measured through the real classes in real processes: transitions, and how late parameters come."""

import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import numpy as np
import zmq

from agent.policy import PolicyParams
from agent.replay.entry import Begin, Entry, Layout, Step, encode
from agent.replay.journal import Journal, JournalInfo, JournalReader
from agent.replay.record import ArraySpec
from agent.types import Normalizer, Transition
from launch.actor import new_session
from launch.address import Address
from launch.link import Link
from launch.orders import Governor, Order
from launch.receiver import Receiver
from launch.sockets import ActorSockets, LearnerSockets
from launch.spool import Spool
from launch.wire import encode_params

HOST = "127.0.0.1"
STATE: dict[str, ArraySpec] = {"state": ("<f4", (19,))}
IMAGES: dict[str, ArraySpec] = {**STATE, "wrist_1": ("|u1", (128, 128, 3)), "wrist_2": ("|u1", (128, 128, 3))}
ACTION_DIM = 6
EPISODE = 45  # steps
SPOOL_BYTES = 8 << 30
PATIENCE_S = 60.0
READ_AT_ONCE = 512
AGENTLACE = 407  # transitions/s of two 128x128 frames, measured on the same kind of machine
PARAMS_FLOATS = 2_500_000  # 10 MB: what a policy with a small image encoder has
PUBLISH_EVERY_S = 0.05
RECIPE: dict[str, Any] = {"run": "bench"}


class Counting:
    """Takes records and writes nothing: the wire without a journal."""

    def __init__(self) -> None:
        self.count: dict[int, int] = {}

    def next(self, session: int) -> int:
        """See `launch.receiver.Sink`."""
        return self.count.get(session, 0)

    def append(self, entry: Entry, record: bytes | memoryview) -> bool:
        """See `launch.receiver.Sink`."""
        if entry.number != self.next(entry.session):
            return False
        self.count[entry.session] = entry.next
        return True

    def sync(self) -> None:
        """There is nothing to make last."""


def transitions(layout: Layout, session: int, count: int) -> Iterator[Entry]:
    """A session of noise in episodes."""
    rng = np.random.default_rng(0)

    def frame(spec: ArraySpec) -> np.ndarray:
        return rng.integers(0, 256, spec[1], np.uint8) if spec[0] == "|u1" else rng.standard_normal(spec[1], np.float32)

    # Few, so that making them costs nothing.
    frames = [{name: frame(spec) for name, spec in layout.obs.items()} for _ in range(8)]
    action = np.zeros(layout.action_dim, np.float32)
    yield Entry(session, 0, Begin(0, "bench", ""))
    for i in range(count):
        over = i % EPISODE == EPISODE - 1
        now, following = frames[i % 8], frames[(i + 1) % 8]
        transition = Transition(now, action, action, -1.0, following, False, over, session=session, sequence=i)
        yield Entry(session, i + 1, Step(transition, i % EPISODE == 0))


def tell_all(port: int, folder: str, obs: dict[str, ArraySpec], count: int) -> None:
    """An actor's process that tells `count` transitions as fast as they are taken."""
    layout, session = Layout(obs, ACTION_DIM), new_session()
    with (
        closing(Spool(Path(folder), SPOOL_BYTES, "stop")) as spool,
        closing(Link(ActorSockets(Address(HOST, port), None), spool, 0, PATIENCE_S)) as link,
    ):
        link.join(session)
        link.begin(layout, {})
        for entry in transitions(layout, session, count):
            link.tell(entry)
        link.flush()


def bench_info(layout: Layout) -> JournalInfo:
    return JournalInfo(
        task="bench", discount=0.99, reward_scale=1.0, reward_shift=0.0, truncation_value=0.0, layout=layout
    )


def throughput(
    obs: dict[str, ArraySpec], count: int, journaled: bool, look: Callable[[int, int | None], None] | None = None
) -> dict[str, float]:
    """Transitions per second from `Link.tell` in one process to decoded entries in another.

    Args:
        look: called all the while with the number of entries so far and the actor's process id.
    """
    layout = Layout(obs, ACTION_DIM)
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder, sink, reader = Path(name) / "journal", Counting(), None
        if journaled:
            sink = stack.enter_context(closing(Journal.open(folder, bench_info(layout))))
            reader = JournalReader(folder)
        sockets = stack.enter_context(closing(LearnerSockets(Address(HOST, 0), None, layout.max_bytes)))
        receiver = stack.enter_context(closing(Receiver(sockets, sink, layout, "bench", RECIPE, one_actor=True)))
        arguments = (sockets.address.port, f"{name}/spool", obs, count)
        child = multiprocessing.get_context("spawn").Process(target=tell_all, args=arguments)
        child.start()
        start_s, got = 0.0, 0
        while got < count + 1:
            receiver.arrived.wait(0.05)
            receiver.arrived.clear()
            receiver.live()  # which raises what the thread has met
            while reader is not None and (entries := reader.read(READ_AT_ONCE)):
                got += len(entries)
            if isinstance(sink, Counting):
                got = sum(sink.count.values())
            start_s = start_s or (time.perf_counter() if got else 0.0)
            if look is not None:
                look(got, child.pid)
        seconds = time.perf_counter() - start_s
        child.join()
        written = sum(path.stat().st_size for path in folder.rglob("*.seg"))
    return {"per_s": count / seconds, "bytes": written / count}


def raw_socket(count: int) -> float:
    """Messages of a transition's size per second over a bare pair of sockets, nothing done with them: the wire's ceiling."""
    message = encode(next(e for e in transitions(Layout(IMAGES, ACTION_DIM), 1, 3) if e.number == 2))
    with zmq.Context() as context, context.socket(zmq.PULL) as inlet:
        port = inlet.bind_to_random_port(f"tcp://{HOST}")
        child = multiprocessing.get_context("spawn").Process(target=push, args=(port, message, count))
        child.start()
        inlet.recv()
        start_s = time.perf_counter()
        for _ in range(count - 1):
            inlet.recv(copy=False)
        seconds = time.perf_counter() - start_s
        child.join()
    return (count - 1) / seconds


def push(port: int, message: bytes, count: int) -> None:
    """The other end of `raw_socket`."""
    with zmq.Context() as context, context.socket(zmq.PUSH) as outlet:
        outlet.connect(f"tcp://{HOST}:{port}")
        for _ in range(count):
            outlet.send(message)


def raw_disk(count: int) -> float:
    """Transitions per second that the disk takes in plain writes with an fsync at the end: the journal's ceiling."""
    message = encode(next(e for e in transitions(Layout(IMAGES, ACTION_DIM), 1, 3) if e.number == 2))
    with tempfile.NamedTemporaryFile() as file:
        start_s = time.perf_counter()
        for _ in range(count):
            file.write(message)
        file.flush()
        os.fsync(file.fileno())
        return count / (time.perf_counter() - start_s)


def hear_params(port: int, folder: str, last: int, results: Any) -> None:
    """An actor's process that notes when it holds which parameters."""
    one: ArraySpec = ("<f4", (1,))
    specs = {0: {"params/actor/kernel": ("<f4", (PARAMS_FLOATS,)), "mean/state": one, "std/state": one}}
    session, heard = new_session(), {}
    with (
        closing(Spool(Path(folder), SPOOL_BYTES, "stop")) as spool,
        closing(Link(ActorSockets(Address(HOST, port), None), spool, 0, PATIENCE_S)) as link,
    ):
        link.join(session)
        link.begin(Layout(STATE, ACTION_DIM), specs)
        link.tell(Entry(session, 0, Begin(0, "bench", "")))
        while last not in heard:
            newest = link.newest()
            if newest is not None:
                heard.setdefault(newest[1].version, time.monotonic())
            link.pause(1.0)
    results.put(heard)


def params_latency(count: int) -> list[float]:
    """Seconds from `Receiver.publish` to parameters that can act, in another process, of each of `count` publications."""
    layout, spawn = Layout(STATE, ACTION_DIM), multiprocessing.get_context("spawn")
    tree, one = {"actor": {"kernel": np.zeros(PARAMS_FLOATS, np.float32)}}, {"state": np.zeros(1, np.float32)}
    sent: dict[int, float] = {}
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        sockets = stack.enter_context(closing(LearnerSockets(Address(HOST, 0), None, layout.max_bytes)))
        receiver = stack.enter_context(closing(Receiver(sockets, Counting(), layout, "bench", RECIPE, one_actor=True)))
        results = spawn.Queue()
        child = spawn.Process(target=hear_params, args=(sockets.address.port, f"{name}/spool", count, results))
        child.start()
        while not (live := receiver.live()):
            receiver.arrived.wait(0.05)
        receiver.order({session: Order(1, 0) for session in live})
        for version in range(1, count + 1):
            message = encode_params(receiver.learner, version, 0, PolicyParams(tree, Normalizer(one, one), version))
            sent[version] = time.monotonic()
            receiver.publish(version, message)
            time.sleep(PUBLISH_EVERY_S)
        heard = results.get(timeout=PATIENCE_S)
        child.join()
    return sorted(heard[version] - sent[version] for version in heard)


def governor_us(calls: int = 20_000) -> float:
    """Microseconds of one decision whether to learn and whether to act."""
    governor = Governor(4, 400)
    start_s = time.perf_counter()
    for i in range(calls):
        governor.may_learn(i, 4 * i, calls, 10)
        governor.may_act(i, 4 * i)
    return 1e6 * (time.perf_counter() - start_s) / calls


def wire(repeats: int = 5, count: int = 6_000) -> dict[str, Any]:
    """Transitions per second with two 128x128 RGB frames and with none, with and without the journal; parameters' latency."""
    plain, journaled, small, raw, written = [], [], [], [], []
    for _ in range(repeats):  # in turn, so that a drift of the machine meets all alike
        raw.append(raw_socket(count))
        written.append(raw_disk(count))
        plain.append(throughput(IMAGES, count, journaled=False))
        journaled.append(throughput(IMAGES, count, journaled=True))
        small.append(throughput(STATE, 3 * count, journaled=True))
    latency = params_latency(40 * repeats)
    p50, p99 = (1000 * latency[min(int(share * len(latency)), len(latency) - 1)] for share in (0.5, 0.99))
    return {
        "transitions": [
            _row("two frames, no journal", plain, raw, "bare socket"),
            _row("two frames, journaled", journaled, written, "bare disk writes"),
            _row("19 numbers, journaled", small, None, ""),
        ],
        "agentlace_per_s": AGENTLACE,
        "needed_per_s": {"without a journal": 3000, "journaled, ten times ten actors at 10 Hz": 1000},
        "parameters": {
            "MB": 4e-6 * PARAMS_FLOATS,
            "p50_ms": round(p50, 2),
            "p99_ms": round(p99, 2),
            "count": len(latency),
        },
        "governor_us": round(governor_us(), 2),
    }


def _row(what: str, runs: list[dict[str, float]], ceiling: list[float] | None, ceiling_of: str) -> dict[str, Any]:
    rates = [run["per_s"] for run in runs]
    row: dict[str, Any] = {"what": what, "per_s": round(statistics.median(rates))}
    row |= {"min": round(min(rates)), "max": round(max(rates)), "bytes_written_each": round(runs[0]["bytes"])}
    if ceiling is not None:
        share = statistics.median(rate / top for rate, top in zip(rates, ceiling, strict=True))
        row |= {"ceiling": ceiling_of, "ceiling_per_s": round(statistics.median(ceiling)), "share": round(share, 2)}
    return row
