"""A fine-tuning run as the learner sees it: whatever the journal holds is put into the replay, learned from, and counted.

There is one way in. Entries are read from the journal whether an actor appended them a moment ago or before the last three
restarts, so a run that is taken up again does with the rest of its journal what it would have done when it arrived.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from agent.plan import acting
from agent.policy import PolicyParams
from agent.replay.entry import Begin, Entry, Gap, Scores, Step
from agent.replay.episodes import Tombstones
from agent.replay.journal import Journal, JournalReader
from agent.replay.journal_info import session_name
from agent.types import ENCODER, Phase, State, Transition
from launch.checkpoint import Checkpoints
from launch.learner import OFFLINE_BLOCK, Learner
from launch.ledger import Episode, Ledger
from launch.orders import Governor, Order
from launch.recipe_files import to_plain
from launch.recipes import FinetuneRecipe
from launch.runs import RunLog, console

SAVE_EVERY_S = 30.0  # seconds of learning that an interruption may cost; it costs no data
READ_AT_ONCE = 512  # entries between two looks at the clock


class Training:
    """Learns from a journal that grows, gives orders to actors, and saves itself.

    Args:
        recipe: of the run.
        learner: at the beginning of its plan.
        journal: of the run; others may append to it.
        checkpoints: of the run; the newest is taken up.
        log: of the run, rewound to that checkpoint.
    """

    def __init__(
        self, recipe: FinetuneRecipe, learner: Learner, journal: Journal, checkpoints: Checkpoints, log: RunLog
    ) -> None:
        self.recipe, self.learner, self.journal, self.checkpoints, self.log = recipe, learner, journal, checkpoints, log
        self.free = recipe.online.pace == "free"
        self.ledger = Ledger()
        self.publication = 1
        self._taken: list[tuple[int, int]] = []  # what was taken, in this order: of a session, up to a record
        self._pending: list[tuple[Transition, bool]] = []  # and whether it may be learned from
        self._order: Order | None = None
        self._examiner: int | None = None  # the session that evaluates, running free
        self._block, self._saved_s = 0, log.wall_s
        self._tombstones = Tombstones(journal.folder)
        self._reader = JournalReader(journal.folder)
        self._restore()
        self._advance()

    @property
    def finished(self) -> bool:
        """Whether the plan is carried out and its last evaluation made."""
        return self._complete and not self._pending and not self._evaluation()

    def work(self) -> bool:
        """Takes what is new in the journal and learns what is due; False where there was nothing to do."""
        entries = self._reader.read(READ_AT_ONCE)
        for entry in entries:
            self._take(entry)
            if isinstance(entry.event, Step) and entry.event.discarded and self._forget():
                break  # what follows it is read again
        learned = False
        if self.free:
            self._absorb()
            learned = self._learn(self._may_learn())
        self._save_now_and_then()
        return bool(entries) or learned

    def orders(self, live: Mapping[int, int]) -> dict[int, Order]:
        """What the actors that are there are to do, by session; in lockstep only the newest has anything to do.

        Args:
            live: by session, the place in its stream at which the actor waits for an order; -1 where it does not wait.
        """
        sessions = [s for s in self.ledger.sessions if s in live]
        if self.free:
            each, due = -(-self._may_act() // max(len(sessions), 1)), self._evaluation()
            if not due or self._examiner not in sessions:  # who has begun an evaluation ends it
                self._examiner = min(sessions, key=lambda s: self.ledger.sessions[s].actor_id, default=None)
            return {s: self._order_of(s, steps=each, evaluation=due if s == self._examiner else 0) for s in sessions}
        current = self.ledger.current
        if current not in live or current is None:
            return {}
        if self._pending and live[current] == self._reader.positions[current]:
            self._absorb()  # it waits, so its block is over, whatever made it shorter than was ordered
        order = self._lockstep(current)
        return {} if order is None else {current: order}

    def policy_params(self) -> PolicyParams:
        """What actors need now."""
        return self.learner.policy_params()

    def save(self, finished: bool) -> None:
        """Saves all that the journal does not hold, as one unit, with what it had taken from the journal."""
        self.journal.sync()
        numbers = {
            **self.learner.numbers(),
            "finished": finished,
            "wall_s": self.log.wall_s,
            "rows": dict(self.log.rows),
        }
        numbers |= {"taken": self._taken, "env_steps": self.ledger.env_steps, "publication": self.publication}
        state = self.learner.state
        meta = meta_of(self.recipe, self.recipe.online.method, state, numbers)
        self.checkpoints.save({"state": state}, saved_policy(state, self.learner.phases), meta)
        self._saved_s = self.log.wall_s

    def _save_now_and_then(self) -> None:
        if self.log.wall_s - self._saved_s >= SAVE_EVERY_S and not self._pending:
            self.save(finished=False)

    def refresh_tombstones(self) -> bool:
        """Fills the replay again where an operator removed an episode or put one back; whether that was so.

        Between two blocks; but a block that is a rollout is long, and nothing is learned within it.
        """
        if (self._pending and not self.learner.phase.rollout) or not self._tombstones.refresh():
            return False
        self._absorb()
        self._refill(self._taken, self.ledger.env_steps)
        return True

    def close(self) -> None:
        """Closes the reader."""
        self._reader.close()

    def _take(self, entry: Entry) -> None:
        """One entry: noted, logged, and in lockstep learned from where it ends a block."""
        episode = self._note(entry, self._absorb)
        if episode is not None:
            self.log.episode(self.ledger.env_steps, episode)
        match entry.event:
            case Step(discarded=discarded):
                if discarded and episode is not None:
                    self._discard(entry.session, episode.env_steps)
                mine = sum(t.session == entry.session for t, _ in self._pending)
                if not self.free and entry.session == self.ledger.current and (episode or mine >= self._block):
                    self._absorb()
            case Scores(_, _, scores):
                self.log.scored(self.ledger.env_steps, scores)
                self.learner.evaluated(best=self.recipe.evaluation.headline in self.ledger.improved)
                self._order = None
            case Begin() | Gap():
                self._order = None

    def _note(self, entry: Entry, flush: Callable[[], None]) -> Episode | None:
        """Counts an entry and closes the episodes that it cuts; `flush` first puts what is pending into the replay."""
        ring = self.learner.ring
        if not isinstance(entry.event, Step):
            flush()
        if isinstance(entry.event, Begin):
            for session in self.ledger.sessions_of(entry.event.actor_id if self.free else None):
                ring.abandon(session)
        elif isinstance(entry.event, Gap | Scores):
            ring.abandon(entry.session)
        episode = self.ledger.take(entry)
        if self._taken and self._taken[-1][0] == entry.session:
            self._taken.pop()
        self._taken.append((entry.session, entry.next))
        if isinstance(entry.event, Step):
            self._pending.append((entry.event.transition, self._is_learned_from(entry)))
        return episode

    def _is_learned_from(self, entry: Entry) -> bool:
        """Not what an operator removed; and for a rollout, not what an earlier session delivers late."""
        late = self.learner.phase.rollout and entry.session != self.ledger.current
        return not late and not self._is_removed(entry)

    def _is_removed(self, entry: Entry) -> bool:
        return (entry.session, self.ledger.sessions[entry.session].episodes - 1) in self._tombstones

    def _discard(self, session: int, length: int) -> None:
        """Gives the episode that a session has just ended a tombstone; what the replay has not of it yet stays out."""
        for i in reversed(range(len(self._pending))):
            if length and self._pending[i][0].session == session:
                self._pending[i], length = (self._pending[i][0], False), length - 1
        number = self.ledger.sessions[session].episodes - 1
        if (session, number) not in self._tombstones:
            Tombstones.discard(self.journal.folder, session, number, "discarded while it ran", "the arm's operator")

    def _forget(self) -> bool:
        """Takes an episode that was just discarded out of the replay; False where that has to wait, as in a rollout."""
        if self.free:
            self._absorb()
        return self.refresh_tombstones()

    def _absorb(self) -> None:
        """Puts what is pending into the replay, phase by phase, and in lockstep learns from it."""
        learner = self.learner
        while self._pending:
            count = learner.portion(len(self._pending))
            now, self._pending = self._pending[:count], self._pending[count:]
            learner.ingest([t for t, kept in now if kept], len(now))
            due = learner.owed if not self.free or learner.remaining <= 0 else 0
            if not self._learn(due):
                self._tell({})
            self._advance()

    def _learn(self, steps: int) -> bool:
        if steps < 1:
            return False
        metrics = self.learner.learn(steps)
        self.publication += 1
        self._tell(metrics)
        return True

    def _tell(self, metrics: Mapping[str, Any]) -> None:
        self.log.trained(self.learner.phase.name, self.ledger.env_steps, self.learner.updates, dict(metrics))

    def _advance(self) -> None:
        """Carries out the phases without an actor, enters those that are due, and plans the next block."""
        learner = self.learner
        while True:
            while not learner.phase.env_steps and learner.remaining > 0:
                self._learn(min(OFFLINE_BLOCK, learner.remaining))
                self._save_now_and_then()
            if learner.remaining > 0 or learner.is_last_phase:
                break
            learner.enter_next()
            self.publication += 1
        self._order, self._block = None, min(learner.portion(self.recipe.online.block), max(learner.remaining, 0))

    @property
    def _complete(self) -> bool:
        stop, best = self.recipe.online.stop_score, self.ledger.best.get(self.recipe.evaluation.headline)
        if stop is not None and best is not None and best >= stop:
            return True
        return self.learner.is_last_phase and self.learner.remaining <= 0 and self.learner.owed <= 0

    def _evaluation(self) -> int:
        """The number of the evaluation that is due, 0 for none."""
        last, now, every = self.ledger.last_score, self.ledger.env_steps, self.recipe.evaluation.every_env_steps
        end = sum(phase.env_steps for phase in self.learner.phases)
        due = last is None or last // every != now // every
        if self._complete:  # the last one is of what came of the whole plan
            due = last is None or last < min(end, now)
        elif now >= end:
            due = False
        return self.ledger.evaluations + 1 if due else 0

    def _lockstep(self, session: int) -> Order | None:
        """The order for the block that begins here; the one already given while it is carried out."""
        if self._order is None and not self._pending:
            evaluation = self._evaluation()
            if evaluation and (self._complete or not self.ledger.sessions[session].steps):
                self._order = self._order_of(session, evaluation=evaluation)
            else:
                self._order = self._order_of(session, steps=self._block)
        return self._order

    def _order_of(self, session: int, steps: int = 0, evaluation: int = 0) -> Order:
        return Order(
            publication=self.publication,
            phase=self.learner.phase_index,
            after=self._reader.positions[session],
            steps=steps,
            evaluation=evaluation,
            finished=self.finished,
            place=self.ledger.sessions[session].place,
        )

    def _may_learn(self) -> int:
        learner, phase = self.learner, self.learner.phase
        if not learner.can_learn or not phase.env_steps:
            return 0
        governor = Governor(phase.utd, self.recipe.online.tolerance)
        block = self.recipe.online.block
        return governor.may_learn(learner.phase_env_steps, learner.phase_updates, phase.env_steps, block)

    def _may_act(self) -> int:
        """Environment steps that all actors together may be ahead, none beyond the end of the phase."""
        learner, phase = self.learner, self.learner.phase
        if phase.collect is None or learner.remaining <= 0:
            return 0
        if not learner.can_learn:
            return learner.remaining
        governor = Governor(phase.utd, self.recipe.online.tolerance)
        return min(learner.remaining, governor.may_act(learner.phase_env_steps, learner.phase_updates))

    def _restore(self) -> None:
        if self.checkpoints.newest is None:
            return
        meta = self.checkpoints.meta()
        while self.learner.phase_index < meta["phase"]:
            self.learner.enter_next()
        state = self.checkpoints.arrays({"state": self.learner.state})["state"]
        self.learner.restore(state, meta)
        self.publication = meta["publication"]
        self._refill([(session, until) for session, until in meta["taken"]], meta["env_steps"])

    def _refill(self, taken: Sequence[tuple[int, int]], env_steps: int) -> None:
        """Fills replay and ledger from the journal, in the order in which it was taken, without what an operator removed.

        Args:
            env_steps: as many were taken; the journal may have lost the last.
        """
        newest: deque[tuple[Transition, bool]] = deque(maxlen=self.learner.open_steps)

        def add() -> None:
            newest.extend(self._pending)
            self.learner.ring.add([t for t, kept in self._pending if kept])
            self._pending = []

        ring, self.ledger, self._taken = self.learner.ring, Ledger(), []
        ring.begin_at(0)
        self._reader.close()
        self._reader = JournalReader(self.journal.folder)
        for session, until in taken:
            while entries := self._reader.read(READ_AT_ONCE, {session: until}, [session]):
                for entry in entries:
                    self._note(entry, add)
                if len(self._pending) >= READ_AT_ONCE:
                    add()
        add()
        lost = env_steps - self.ledger.env_steps
        self.learner.reopen([t for t, kept in list(newest)[lost:] if kept])
        for session, until in dict(taken).items():
            there = self._reader.positions.get(session, 0)
            if not there:
                raise ValueError(
                    f"journal {self.journal.folder}: session {session_name(session)} is not there, and the checkpoint has "
                    "learned from it; put the run's own journal back, or begin a new run"
                )
            if there < until:
                short = (
                    f"session {session_name(session)} ends at record {there}, the checkpoint has learned from {until}"
                )
                console.print(f"[yellow]journal {self.journal.folder}: {short}; going on without them[/yellow]")


def meta_of(recipe: Any, method: str, state: State, numbers: Mapping[str, Any]) -> dict[str, Any]:
    """What a checkpoint says of itself; its version counts the minibatches behind the policy, pre-training included."""
    version = int(state.update_count)
    about = {"task": recipe.task, "learning": to_plain(recipe.learning), "method": method, "version": version}
    if isinstance(recipe, FinetuneRecipe):
        about["online"] = to_plain(recipe.online)
    return {**about, "groups": sorted(state.params), **numbers}


def saved_policy(state: State, phases: Sequence[Phase]) -> dict[str, Any]:
    """The policy part of a checkpoint: what the plan's policy acts with, as far as it is there yet."""
    groups = {group for behavior in acting(phases).values() for group in behavior.groups} | {ENCODER}
    params = {group: state.params[group] for group in sorted(groups) if group in state.params}
    return {"params": params, "normalizer": {"mean": state.normalizer.mean, "std": state.normalizer.std}}
