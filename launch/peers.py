"""Who is there: the sessions of actors that a learner knows, and which of them may act."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

from launch.orders import Order
from launch.wire import SILENCE_S, Heartbeat, Hello


@dataclass
class Peer:
    """An actor's session as the learner knows it.

    Attributes:
        identity: its socket's; another one after it has connected anew.
        actor_id, acting: as it said.
        left: it has said goodbye, or is replaced.
        heard_s: when.
        safe: records before this one are on the disk.
        told: the record that was expected when the last status was sent.
        asked: the record that it was last asked to go on from, -1 for none.
        heartbeat: the newest.
        order: that it was sent.
    """

    identity: bytes
    actor_id: int
    acting: bool
    heard_s: float
    safe: int
    told: int = 0
    asked: int = -1
    heartbeat: Heartbeat | None = None
    order: Order | None = None
    left: bool = False

    @property
    def is_there(self) -> bool:
        return not self.left and time.monotonic() - self.heard_s < SILENCE_S

    @property
    def is_live(self) -> bool:
        return self.acting and self.is_there


class Peers:
    """The sessions that have been let in. One thread changes them; another may look.

    Args:
        run: the run's name, by which an actor knows whether what it still has belongs here.
        one_actor: whether a second actor is refused.
    """

    def __init__(self, run: str, one_actor: bool) -> None:
        self._run_name, self._one_actor = run, one_actor
        self._peers: dict[int, Peer] = {}

    def get(self, session: object) -> Peer | None:
        """A session's peer; None for one that was not let in, or has left."""
        peer = self._peers.get(session) if isinstance(session, int) else None
        return None if peer is None or peer.left else peer

    def __iter__(self) -> Iterator[tuple[int, Peer]]:
        """All that were ever let in."""
        return iter(list(self._peers.items()))

    def live(self) -> dict[int, int]:
        """By session of the actors that are there: the place in its stream at which it waits, or -1."""
        beats = {session: peer.heartbeat for session, peer in self if peer.is_live}
        return {session: -1 if beat is None else beat.waiting for session, beat in beats.items()}

    def why_not(self, hello: Hello) -> str | None:
        """Why an actor may not join; None where it may. What it replaces has left either way."""
        gone = self._peers.get(hello.replaces)
        if gone is not None:
            gone.left = True
        if hello.run not in ("", self._run_name):
            return (
                f"session {hello.session:016x} belongs to run {hello.run}, and this is {self._run_name}; start the learner of "
                "that run, with --resume, to deliver it, or give the actor another --out"
            )
        others = [p for s, p in self if s != hello.session and p.is_live] if hello.acting else []
        if any(p.actor_id == hello.actor_id for p in others):
            return f"actor {hello.actor_id} is there already; give this one another --actor-id, or wait till that one is gone"
        if others and self._one_actor:
            return f"a run in lockstep takes one actor and has actor {others[0].actor_id}; start it with --online.pace free"
        return None

    def admit(self, hello: Hello, identity: bytes, expected: int) -> None:
        """Lets an actor in that may join; the record `expected` comes next."""
        for session, peer in self:
            same = self._one_actor or peer.actor_id == hello.actor_id
            if session != hello.session and hello.acting and peer.acting and same:
                peer.left = True  # its place is given away: when it is back, it must ask for one
        known = self._peers.get(hello.session)
        safe = 0 if known is None else known.safe
        self._peers[hello.session] = Peer(identity, hello.actor_id, hello.acting, time.monotonic(), safe, expected)
