"""What a run's journal says about the run: a fold over its entries, the same when they arrive and when they are read again."""

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from agent.replay.entry import Begin, Entry, Gap, Scores, Step
from launch.orders import Place
from robot_env.pace import summary


@dataclass(frozen=True)
class Episode:
    """How an episode of training went: its length in env_steps, whether it succeeded, and the fault that cut it, if any.

    Also how many commands went out late, and for how many control periods the arm was held for its cameras' sake.
    """

    env_steps: int
    success: bool
    fault: str | None
    late_steps: int = 0
    held_steps: int = 0


@dataclass
class Session:
    """One run of an actor.

    Attributes:
        actor_id: which actor.
        place: where its earlier sessions had ended.
        steps: environment steps of the episode under way; 0 between episodes.
        episodes: of this session, begun.
        late_steps, held_steps: of the episode under way, see `Episode`.
    """

    actor_id: int
    place: Place
    steps: int = 0
    episodes: int = 0
    late_steps: int = 0
    held_steps: int = 0


@dataclass
class Ledger:
    """Counts of a run.

    Attributes:
        sessions: by session number, in the order they began.
        positions: by session, the number of the record that follows the last one taken.
        env_steps: in all.
        evaluations: made.
        last_score: env_steps at the last evaluation, None before the first.
        best: by way of acting, the highest score of an evaluation: the mean normalised one where the task has it, else the
            share of successes.
        improved: the ways of acting in which the last evaluation was better than all before.
        lost: transitions that no longer exist (a full spool, damage); -1 in a gap counts as 1, for nobody knows.
        paced_steps, late_steps: control steps that had a time to begin at, and those of them that came late.
    """

    sessions: dict[int, Session] = field(default_factory=dict)
    positions: dict[int, int] = field(default_factory=dict)
    env_steps: int = 0
    evaluations: int = 0
    last_score: int | None = None
    best: dict[str, float] = field(default_factory=dict)
    improved: tuple[str, ...] = ()
    lost: int = 0
    paced_steps: int = 0
    late_steps: int = 0
    _steps_s: deque[float] = field(default_factory=lambda: deque(maxlen=100_000))
    _places: dict[int, Place] = field(default_factory=dict)

    def take(self, entry: Entry) -> Episode | None:
        """Counts an entry; returns how an episode went where it ends one."""
        self.positions[entry.session] = entry.next
        if entry.session not in self.sessions and not isinstance(entry.event, Begin):
            # Its beginning is among what was lost.
            actor_id = entry.event.transition.actor_id if isinstance(entry.event, Step) else 0
            self.sessions[entry.session] = Session(actor_id, self._places.get(actor_id, Place()))
        session = self.sessions.get(entry.session)
        match entry.event:
            case Begin(actor_id):
                self.sessions[entry.session] = Session(actor_id, self._places.get(actor_id, Place()))
            case Step() as step if session is not None:
                return self._step(step, session)
            case Scores(number, calls, scores) if session is not None:
                self.evaluations, self.last_score, session.steps = max(number, self.evaluations), self.env_steps, 0
                found = {mode: _score(score) for mode, score in scores.items()}
                self.improved = tuple(m for m, value in found.items() if value > self.best.get(m, -math.inf))
                self.best |= {mode: found[mode] for mode in self.improved}
                place = self._places.get(session.actor_id, Place())
                self._places[session.actor_id] = replace(place, evaluation_calls=calls)
            case Gap(_, transitions) if session is not None:
                self.lost, session.steps = self.lost + abs(transitions), 0
        return None

    def _step(self, step: Step, session: Session) -> Episode | None:
        begins = step.first or session.steps == 0
        self.env_steps, session.steps = self.env_steps + 1, 1 if begins else session.steps + 1
        session.episodes += begins
        self._control(step.control, session, begins)
        place = self._places.get(session.actor_id, Place())
        self._places[session.actor_id] = replace(place, episodes=place.episodes + begins, env_steps=place.env_steps + 1)
        if not step.ends_episode:
            return None
        length, session.steps = session.steps, 0
        return Episode(length, step.success, step.fault, session.late_steps, session.held_steps)

    def _control(self, control: Mapping[str, float], session: Session, begins: bool) -> None:
        if begins:
            session.late_steps = session.held_steps = 0
        late = control.get("late_s", 0.0) > 0.0
        self.paced_steps, self.late_steps = self.paced_steps + ("late_s" in control), self.late_steps + late
        session.late_steps, session.held_steps = (
            session.late_steps + late,
            session.held_steps + int(control.get("held_steps", 0)),
        )
        if "step_s" in control:
            self._steps_s.append(control["step_s"])

    def rate(self) -> dict[str, Any]:
        """How well actors held their control rate, see `robot_env.pace.summary`."""
        return summary(self.paced_steps, self.late_steps, self._steps_s)

    @property
    def current(self) -> int | None:
        """The session that began last."""
        return next(reversed(self.sessions), None)

    def sessions_of(self, actor_id: int | None) -> list[int]:
        """The sessions of an actor, or of all."""
        return [n for n, session in self.sessions.items() if actor_id in (None, session.actor_id)]


def _score(score: Mapping[str, Any]) -> float:
    normalized = score.get("normalized")
    return score["success"] / score["trials"] if normalized is None else normalized
