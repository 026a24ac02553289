"""The actor: acts on an arm as the learner orders, and tells what happens as entries of its session's stream."""

import secrets
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import jax
import numpy as np

from agent.plan import acting
from agent.policy import Policy, PolicyParams
from agent.replay.entry import Begin, Entry, Event, Scores, Step
from agent.types import SOURCES, Nets, Phase, Transition
from launch.attendant import Attendant, Watch, unwatched
from launch.evaluate import Evaluator
from launch.orders import Order, Place
from launch.recipes import FinetuneRecipe
from launch.tasks import Environment, begin_episode

CONTROL = ("late_s", "step_s", "held_steps")  # of an environment's `info`: how its control loop did


def new_session() -> int:
    """A random number for one run of an actor."""
    return secrets.randbelow((1 << 63) - 1) + 1


class Actor:
    """Steps an environment with the policy of the phase under way. An episode's reset seed is a function of the run's seed, the
    actor and the episode's number, so a run that is taken up again between two episodes goes on exactly as it would have.

    Args:
        env: the environment.
        policies: what acts, by phase of the plan; None where a phase does not act.
        seed: of the resets.
        attendant: looks at an arm that was stopped before the next episode.
        actor_id, session: its name and the number of its run, in every transition.
    """

    def __init__(
        self,
        env: Environment,
        policies: Mapping[int, Policy],
        seed: int,
        attendant: Attendant,
        actor_id: int = 0,
        session: int = 0,
    ) -> None:
        self.env, self._policies, self._seed, self._attendant = env, policies, seed, attendant
        self.actor_id, self.session = actor_id, session
        self.episodes = self.env_steps = self.sequence = 0
        self._obs: Mapping[str, np.ndarray] | None = None
        self._step = 0

    @property
    def between_episodes(self) -> bool:
        """Whether no episode is under way."""
        return self._obs is None

    def abandon(self) -> None:
        """Leaves the episode under way, if any, where it is; the next step begins a new one."""
        self._obs = None

    def step(self, now: PolicyParams, phase: int = 0, watch: Watch = unwatched) -> Step:
        """One control step, after a reset where no episode is under way; `watch` is called while an arm that was stopped waits.

        Raises:
            ArmFault: a fault waits for a human, and there is none.
            ConnectionError: the arm could not be reached.
        """
        first = self._obs is None
        if first:
            seed = episode_seed(self._seed, self.episodes, self.actor_id)
            self._obs = begin_episode(self.env, self._attendant, seed, watch=watch)
            self._step, self.episodes = 0, self.episodes + 1
        obs: Mapping[str, np.ndarray] = self._obs  # type: ignore[assignment]
        policy = self._policies[phase]
        policy.calls = self.env_steps
        next_obs, reward, terminated, truncated, info = self.env.step(policy(now, obs, self._step))
        human = info.get("intervene_action")
        asked = info["requested_action"] if human is None else human
        transition = Transition(
            obs=obs,
            # What is not finite was never sent: the arm held still, and that is what the replay may learn from.
            action=asked if np.isfinite(asked).all() else info["executed_action"],
            executed=info["executed_action"],
            reward=float(reward),
            next_obs=next_obs,
            terminated=terminated,
            truncated=truncated,
            source=SOURCES.index("policy" if human is None else "human"),
            policy_version=now.version,
            actor_id=self.actor_id,
            session=self.session,
            sequence=self.sequence,
        )
        over = terminated or truncated
        self._obs, self._step = None if over else next_obs, self._step + 1
        self.env_steps, self.sequence = self.env_steps + 1, self.sequence + 1
        control = {name: info[name] for name in CONTROL if name in info}
        return Step(transition, first, bool(info["succeed"]), info.get("fault"), control, info.get("discarded", False))


class Performer:
    """Carries out orders, and tells what comes of them as the entries of one session.

    Args:
        actor: steps the environment.
        evaluator: tests on the same environment.
        arm: its name, for the record.
        tell: takes each entry, at once.
    """

    def __init__(self, actor: Actor, evaluator: Evaluator, arm: str, tell: Callable[[Entry], None]) -> None:
        self.actor, self._evaluator, self._tell = actor, evaluator, tell
        self.position = self.evaluations = 0
        self._emit(Begin(actor.actor_id, arm, datetime.now(UTC).isoformat(timespec="seconds")))

    def place(self, place: Place) -> None:
        """Goes on counting, and drawing, where an earlier session left off."""
        self.actor.episodes, self.actor.env_steps = place.episodes, place.env_steps
        self._evaluator.calls = place.evaluation_calls

    def perform(
        self,
        order: Order,
        now: PolicyParams,
        watch: Watch = unwatched,
    ) -> None:
        """An order of lockstep: an evaluation; or control steps, up to the end of an episode.

        Args:
            watch: called at each step of an evaluation, and while an arm that was stopped waits.
        """
        if order.evaluation:
            self.evaluate(order.evaluation, now, watch)
        for _ in range(order.steps):
            if self.step(now, order.phase, watch).ends_episode:
                break

    def step(self, now: PolicyParams, phase: int, watch: Watch = unwatched) -> Step:
        """One control step; see `Actor.step`."""
        step = self.actor.step(now, phase, watch)
        self._emit(step)
        return step

    def evaluate(self, number: int, now: PolicyParams, watch: Watch = unwatched) -> None:
        """The fixed trials, with both ways of acting; an episode under way is left. `watch` is called at each step."""
        self.actor.abandon()
        scores = {mode: score.to_json() for mode, score in self._evaluator.both(now, watch).items()}
        self.evaluations = number
        self._emit(Scores(number, self._evaluator.calls, scores))

    def _emit(self, event: Event) -> None:
        self._tell(Entry(self.actor.session, self.position, event))
        self.position += 1


def make_performer(
    recipe: FinetuneRecipe,
    nets: Nets,
    phases: tuple[Phase, ...],
    env: Environment,
    attendant: Attendant,
    tell: Callable[[Entry], None],
    actor_id: int = 0,
    session: int = 0,
) -> Performer:
    """Actor and evaluator of a run on one environment, in the session given or a new one."""
    key = jax.random.fold_in(jax.random.key(recipe.seed), 1 + actor_id)
    behaving = {i: phase.collect for i, phase in enumerate(phases) if phase.collect is not None}
    behaviors = {behavior: Policy(nets, behavior, key) for behavior in behaving.values()}
    policies = {i: behaviors[behavior] for i, behavior in behaving.items()}
    actor = Actor(env, policies, recipe.seed, attendant, actor_id, session or new_session())
    evaluator = Evaluator(env, nets, recipe.evaluation.trials, recipe.seed, attendant, acting(phases))
    return Performer(actor, evaluator, recipe.arm, tell)


def episode_seed(seed: int, episode: int, actor_id: int = 0) -> int:
    """The reset seed of one episode of a run."""
    numbers = [seed, episode, actor_id] if actor_id else [seed, episode]
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])
