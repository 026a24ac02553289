"""A run as its journal tells it: taken up anywhere, in both paces, with gaps and with what an operator removed."""

import hashlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agent.replay.entry import Begin, Entry, Event, Gap, Scores, Step, encode
from agent.replay.episodes import Tombstones, episodes
from agent.replay.returns import discounted_returns
from agent.types import Transition
from launch import training as module
from launch.build import journal_info
from launch.finetune import open_training
from launch.learner import Learner
from launch.orders import Order, Place
from launch.recipes import FinetuneRecipe
from launch.runs import progress_bar, read_lines
from launch.training import Training
from robot_env.tasks import find_task
from tests.agent.entries import story
from tests.launch.conftest import TINY

PEG = find_task("peg_insertion")
LAYOUT = journal_info(PEG, "").layout
STATE = LAYOUT.obs["state"][1]
SCALE = 1024  # a state tells its place in its session in units of 1 / SCALE, small and exact
LENGTH = 13  # of an episode, so that neither blocks nor evaluations end with one by themselves
MANY = 5000  # turns of a driven run: more than any takes


def transition(session: int, sequence: int, end: str = "", actor_id: int = 0) -> Transition:
    """One of the peg task that tells its place: its states begin with `[sequence, session]`; its reward is its own."""

    def obs(at: int) -> dict[str, np.ndarray]:
        state = np.zeros(STATE, np.float32)
        state[:2] = np.array([at, session]) / SCALE
        return {"state": state}

    action = np.full(LAYOUT.action_dim, np.sin(sequence + session), np.float32) / 2
    ends = {"terminated": end == "terminated", "truncated": end == "truncated"}
    reward, who = -1 - sequence / SCALE, {"actor_id": actor_id, "session": session, "sequence": sequence}
    return Transition(obs(sequence), action, action, reward, obs(sequence + 1), **ends, **who)


def told(*events: str | Event, session: int = 1, actor_id: int = 0) -> list[Entry]:
    """`tests.agent.entries.story` in transitions of the peg task."""

    def of_peg(event: Event) -> Event:
        match event:
            case Begin():
                return replace(event, actor_id=actor_id)
            case Step(t):
                end = "terminated" if t.terminated else "truncated" if t.truncated else ""
                return replace(event, transition=transition(session, t.sequence, end, actor_id))
        return event

    return [replace(entry, event=of_peg(entry.event)) for entry in story(*events, session=session)]


def scores(number: int) -> Scores:
    return Scores(number, 40 * number, {mode: {"success": 1, "trials": 2} for mode in ("mode", "sample")})


def append(training: Training, entries: Sequence[Entry]) -> None:
    for entry in entries:
        assert training.journal.append(entry, encode(entry))


@contextmanager
def opened(recipe: FinetuneRecipe, folder: Path) -> Iterator[Training]:
    """The run in a folder, begun or taken up."""
    with progress_bar() as progress, open_training(recipe, folder, progress, resume=True) as training:
        assert training is not None
        yield training


def catch_up(training: Training) -> Training:
    """Takes all that the journal holds."""
    for _ in range(MANY):
        if not training.work():
            return training
    raise AssertionError("there is always something to do")


def online(recipe: FinetuneRecipe, **changed) -> FinetuneRecipe:
    return replace(recipe, online=replace(recipe.online, **changed))


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Learning that counts its updates and computes nothing, where a test is about who may do what."""
    monkeypatch.setattr(Learner, "_compile", lambda *_: lambda state, sources, start, steps: (state, {}))


@dataclass
class Toy:
    """An actor in a process of its own: carries out each order of lockstep once, at its place, and delivers in portions.

    Attributes:
        session, actor_id: its name.
        length: of its episodes.
        outbox: told, and not yet in the journal.
        obeyed: orders carried out.
    """

    session: int
    actor_id: int = 0
    length: int = LENGTH
    position: int = 0
    sequence: int = 0
    in_episode: int = 0
    outbox: list[Entry] = field(default_factory=list)
    obeyed: list[Order] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._tell(Begin(self.actor_id, "toy", ""))

    @property
    def live(self) -> dict[int, int]:
        return {self.session: self.position}

    def obey(self, order: Order | None) -> None:
        if order is None or order.after != self.position or order.finished:
            return
        self.obeyed.append(order)
        if order.evaluation:
            self.evaluate(order.evaluation)
        for _ in range(order.steps):
            if self.step():
                break

    def step(self) -> bool:
        """One step; whether it ended an episode."""
        first, self.in_episode = self.in_episode == 0, (self.in_episode + 1) % self.length
        over = self.in_episode == 0
        end = "" if not over else "terminated" if self.sequence % 2 else "truncated"
        made = transition(self.session, self.sequence, end, self.actor_id)
        self.sequence += 1
        self._tell(Step(made, first, success=end == "terminated"))
        return over

    def evaluate(self, number: int) -> None:
        self.in_episode = 0
        self._tell(scores(number))

    def deliver(self, training: Training, count: int | None = None) -> None:
        now, self.outbox = self.outbox[:count], self.outbox[len(self.outbox) if count is None else count :]
        append(training, now)

    def _tell(self, event: Event) -> None:
        self.outbox.append(Entry(self.session, self.position, event))
        self.position += 1


def drive(training: Training, toy: Toy, portion: int, until: Callable[[], bool], look: Callable[[Order], None]) -> None:
    """Lockstep with an actor that is elsewhere; `look` sees each order that is carried out just before it is."""
    for _ in range(MANY):
        if until():
            return
        if training.work():
            continue
        if toy.outbox:
            toy.deliver(training, portion)
            continue
        order = training.orders(toy.live).get(toy.session)
        if order is not None and order.after == toy.position and not order.finished:
            look(order)
        toy.obey(order)
    raise AssertionError(f"the run hangs at {training.ledger}")


def rows(training: Training) -> np.ndarray:
    """What the ring holds, a transition a row in the order of insertion: all columns beside each other."""
    ring = training.learner.ring
    order = np.arange(max(ring.inserted - ring.capacity, 0), ring.inserted) % ring.capacity
    columns = [np.asarray(x).reshape(ring.capacity, -1) for x in jax.tree.leaves(ring.columns)]
    return np.concatenate(columns, axis=1)[order]


def places(training: Training) -> list[tuple[int, int]]:
    """`(session, sequence)` of the transitions in the ring, in the order of insertion."""
    ring = training.learner.ring
    order = np.arange(max(ring.inserted - ring.capacity, 0), ring.inserted) % ring.capacity
    state = np.asarray(ring.columns.obs["state"])[order] * SCALE
    return [(int(session), int(sequence)) for sequence, session in state[:, :2]]


def column_of(training: Training, name: str) -> Any:
    ring = training.learner.ring
    return jax.tree.map(lambda x: np.asarray(x)[: len(ring)], getattr(ring.columns, name))


def seen(training: Training) -> tuple[str, ...]:
    """All that decides how a run goes on."""
    learner = training.learner
    state = learner.state.replace(key=jax.random.key_data(learner.state.key))
    digest = hashlib.sha256(b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(state))).hexdigest()
    numbers = {**learner.numbers(), "inserted": learner.ring.inserted, "publication": training.publication}
    return repr(training.ledger), repr(numbers), hashlib.sha256(rows(training).tobytes()).hexdigest(), digest


def timeless(folder: Path, name: str) -> list[dict]:
    return [{k: v for k, v in row.items() if k != "wall_s"} for row in read_lines(folder / f"{name}.jsonl")]


@pytest.mark.parametrize(("place", "length", "saves"), [("device", LENGTH, True), ("host", 20, False)])
def test_what_was_appended_a_moment_ago_and_what_is_read_after_a_restart_are_the_same(
    place, length, saves, tiny_finetune, tmp_path, monkeypatch
):
    """From a checkpoint in the middle with a rest of the journal behind it, and from the journal alone.

    The learner stops in the middle of blocks, while the actor goes on; the replay of 200 is full by the end.
    """
    monkeypatch.setattr(module, "SAVE_EVERY_S", 1e9)
    recipe = online(tiny_finetune, replay=place)

    def run(folder: Path, stops: Sequence[int]) -> list:
        toy, turns = Toy(7, length=length), []

        def look(order: Order) -> None:
            turns.append((order, seen(training)))
            if saves and len(turns) in (8, 21) and folder.name == "cut":
                training.save(finished=False)

        for stop in stops:
            with opened(recipe, folder) as training:
                assert (training.ledger.env_steps > 0) == (saves and len(turns) > 8)
                drive(training, toy, 4, lambda stop=stop: training.finished or training.journal.next(7) >= stop, look)
                if training.finished:
                    turns.append(seen(training))
        return turns

    whole, cut = run(tmp_path / "whole", [1000]), run(tmp_path / "cut", [111, 215, 1000])
    for mine, other in zip(whole, cut, strict=False):
        assert mine == other
    assert len(whole) == len(cut)
    assert "'updates': 640" in whole[-1][1]  # four for each of 240 steps but the warm-up's 80
    for name in ("scores", "episodes"):
        assert timeless(tmp_path / "whole", name) == timeless(tmp_path / "cut", name)
    assert sum(row["length"] for row in timeless(tmp_path / "cut", "episodes")) == 240 // length * length


def test_a_restart_in_the_middle_fills_the_replay_as_it_was(tiny_finetune, tmp_path, monkeypatch):
    """At once, from the checkpoint's places in the journal: open episodes, returns and all; and no further than they say."""
    monkeypatch.setattr(module, "SAVE_EVERY_S", 1e9)
    toy = Toy(7)
    with opened(tiny_finetune, tmp_path / "run") as training:
        drive(training, toy, 10, lambda: training.learner.phase_updates >= 160, lambda _: None)
        training.save(finished=False)
        there, before = places(training), seen(training)
        append(training, told("--T", session=8))  # and is not learned from before the end
    assert there[0] == (7, 0)
    assert len(there) % LENGTH, "no episode is open"
    with opened(tiny_finetune, tmp_path / "run") as training:
        assert places(training) == there
        assert seen(training) == before
        assert training.policy_params().version == 60 + training.learner.updates >= 60 + 160
        catch_up(training)
        assert training.ledger.env_steps == len(there) + 3


def test_only_the_newest_session_is_ordered_and_only_at_its_place(tiny_finetune, tmp_path, counting):
    with opened(tiny_finetune, tmp_path / "run") as training:
        assert training.orders({}) == {}
        assert training.orders({1: 0}) == {}, "nothing of it is in the journal yet"
        append(training, told(scores(1), "--", session=1))
        append(training, told(session=2))
        catch_up(training)
        assert training.orders({1: 4}) == {}
        assert training.orders({}) == {}
        orders = training.orders({1: 4, 2: 1})
        assert list(orders) == [2]
        assert (orders[2].after, orders[2].steps, orders[2].evaluation, orders[2].finished) == (1, 10, 0, False)
        assert orders[2].place == Place(episodes=1, env_steps=2, evaluation_calls=40)
        assert training.orders({2: -1}) == {2: orders[2]}, "an order stands while it is carried out"


def test_a_block_that_its_actor_made_shorter_is_learned_from_once_it_waits(tiny_finetune, tmp_path, counting):
    with opened(online(tiny_finetune, bridge_settings={"steps": 1}), tmp_path / "run") as training:
        append(training, told(scores(1), "----", session=1))
        catch_up(training)
        training.orders({1: 3})  # the warm-up is over with its one step; three are pending
        assert training.learner.updates == 0
        assert training.orders({1: -1}) == {}, "it may be in the middle of its block"
        assert training.learner.updates == 0
        order = training.orders({1: 6})[1]
        assert training.learner.updates == 3 * 4
        assert (order.after, order.steps) == (6, 10)
        append(training, told(scores(1), "----------------T", session=1)[6:])
        catch_up(training)
        assert training.learner.updates == 16 * 4, "the block of ten, and what the episode's end cut short"


def test_evaluations_come_first_between_episodes_when_due_and_last(tiny_finetune, tmp_path, counting):
    toy, evaluated = Toy(7), []
    with opened(tiny_finetune, tmp_path / "run") as training:

        def look(order: Order) -> None:
            assert bool(order.steps) != bool(order.evaluation)
            if order.evaluation:
                evaluated.append((order.evaluation, training.ledger.env_steps))

        drive(training, toy, 10, lambda: training.finished, look)
        assert evaluated == [(1, 0), (2, 104), (3, 208), (4, 240)]  # every 100, at ends of episodes of 13
        assert training.orders(toy.live)[7].finished
        assert toy.sequence == training.ledger.env_steps == 240
        assert training.learner.updates == 640
    assert [row["env_steps"] for row in timeless(tmp_path / "run", "scores")] == [0, 104, 208, 240]


def test_a_new_session_is_given_the_evaluation_that_the_last_one_did_not_make(tiny_finetune, tmp_path, counting):
    with opened(tiny_finetune, tmp_path / "run") as training:
        append(training, told(session=1))
        catch_up(training)
        assert training.orders({1: 1})[1].evaluation == 1
        append(training, told(session=2))
        catch_up(training)
        assert training.orders({1: 1, 2: 1})[2].evaluation == 1


@pytest.mark.parametrize("lost", ["block", "evaluation"])
def test_after_a_gap_that_swallowed_what_was_ordered_there_is_another_order(lost, tiny_finetune, tmp_path, counting):
    """The actor waits where the gap ends: an order for any other place is none."""
    with opened(tiny_finetune, tmp_path / "run") as training:
        append(training, told(*([scores(1)] if lost == "block" else []), session=1))
        catch_up(training)
        after = training.ledger.positions[1]
        given = training.orders({1: after})[1]
        assert (given.after, bool(given.steps)) == (after, lost == "block")
        append(training, [Entry(1, after, Gap(after + 10, 10, "full"))])
        catch_up(training)
        assert training.orders({1: after + 10})[1].after == after + 10


def test_a_gap_is_counted_and_no_transition_in_the_replay_spans_it(tiny_finetune, tmp_path, counting):
    """Nor does a return: what was before it has none, and what follows has one of what follows."""
    with opened(tiny_finetune, tmp_path / "run") as training:
        append(training, told(scores(1), "---", Gap(12, 7, "full"), "--T", Gap(16, -1, "damaged"), "-T", session=1))
        toy_end = training.journal.next(1)
        catch_up(training)
        training.orders({1: toy_end})
        assert (training.ledger.lost, training.ledger.env_steps) == (7 + 1, 8)
        assert places(training) == [(1, n) for n in (0, 1, 2, 10, 11, 12, 13, 14)]
        learner, states = training.learner, rows(training)
        assert len(states) == 8
        obs, after = (column_of(training, name)["state"][:, 0] * SCALE for name in ("obs", "next_obs"))
        np.testing.assert_array_equal(after - obs, 1)
        np.testing.assert_array_equal(column_of(training, "has_return"), [0, 0, 0, 1, 1, 1, 1, 1])
        rewards = column_of(training, "reward").astype(float)
        want = [discounted_returns(rewards[part], 0.0, PEG.discount) for part in (slice(3, 6), slice(6, 8))]
        np.testing.assert_allclose(column_of(training, "mc_return")[3:], np.concatenate(want), rtol=1e-6)
        assert learner.phase_env_steps == 8


def test_a_transition_whose_observation_was_lost_is_left_out_and_its_actor_still_ordered(
    tiny_finetune, tmp_path, counting
):
    """After a repair: a gap, and behind it one that took its observation from what is gone, the end of its episode."""
    orphan = Entry(1, 9, Step(transition(1, 7, "terminated"), first=False))
    with opened(tiny_finetune, tmp_path / "run") as training:
        append(training, [*told(scores(1), "---", Gap(9, 4, "damaged"), session=1), orphan])
        catch_up(training)
        order = training.orders({1: 10})[1]
        assert places(training) == [(1, 0), (1, 1), (1, 2)]
        assert order.after == 10


def test_running_free_the_steps_are_divided_and_the_lowest_actor_evaluates(tiny_finetune, tmp_path, counting):
    with opened(online(tiny_finetune, pace="free", tolerance=40), tmp_path / "run") as training:
        for session, actor_id in ((1, 4), (2, 2), (3, 9)):
            append(training, told(session=session, actor_id=actor_id))
        catch_up(training)
        waiting = {1: -1, 2: -1, 3: -1}

        def share(live: dict[int, int]) -> dict[int, tuple[int, int]]:
            return {session: (order.steps, order.evaluation) for session, order in training.orders(live).items()}

        assert share(waiting) == {1: (27, 0), 2: (27, 1), 3: (27, 0)}  # of 80 of the warm-up
        assert share({1: -1, 3: -1}) == {1: (40, 1), 3: (40, 0)}
        assert share({3: -1, 5: -1}) == {3: (80, 1)}, "the journal has nothing of the other yet"
        assert share(waiting) == {1: (27, 0), 2: (27, 0), 3: (27, 1)}, "who has begun an evaluation ends it"
        assert share({}) == {}
        append(training, [Entry(2, 1, scores(1))])
        append(training, told("-" * 79 + "T", session=1, actor_id=4)[1:])
        catch_up(training)
        assert share(waiting) == {1: (4, 0), 2: (4, 0), 3: (4, 0)}  # learning begins: 40 minibatches are ten steps
        orders = training.orders(waiting)
        assert {s: o.after for s, o in orders.items()} == training.ledger.positions
        append(training, told("-" * 19 + "T", session=3, actor_id=9)[1:])
        assert training.work()
        assert training.learner.updates == 10 * 4  # a block at a time
        assert share(waiting) == {1: (0, 0), 2: (0, 2), 3: (0, 0)}, "ten steps behind, and past 100"
        catch_up(training)
        assert training.learner.updates == 20 * 4 + 40, "as far ahead as it may be"
        assert share({1: -1}) == {1: (20, 2)}


TURNS = st.lists(st.tuples(st.integers(0, 2), st.integers(1, 60), st.integers(0, 3)), max_size=40)


@settings(max_examples=12)
@given(st.integers(1, 3), st.sampled_from([1, 5, LENGTH]), st.integers(1, 6), st.integers(0, 40), TURNS)
@example(1, 1, 4, 0, [(0, 60, 0)] * 5)  # actors only
@example(2, 5, 4, 36, [(1, 60, 0), (0, 60, 3)] * 8)
def test_neither_side_is_further_ahead_than_the_tolerance_whatever_arrives(
    free_training, actors, length, utd, extra, turns
):
    """Actors act in portions of any size as far as their newest order lets them; the learner works as often as it likes.

    An episode that has begun is finished, and a share is rounded up: each actor may be so much further ahead.
    """
    with free_training(utd=utd, tolerance=utd + extra) as training:
        toys = [Toy(session, session, length) for session in range(1, actors + 1)]
        slack = actors * (length - 1) + actors - 1
        for toy in toys:
            toy.deliver(training)

        def turn(toy: Toy, portion: int, works: int) -> None:
            order = training.orders(dict.fromkeys(range(1, actors + 1), -1)).get(toy.session)
            while order is not None and portion > 0:
                if not toy.in_episode and order.evaluation > training.ledger.evaluations:
                    toy.evaluate(order.evaluation)
                    break
                if not toy.in_episode and toy.position - order.after >= order.steps:
                    break
                toy.step()
                portion -= 1
            toy.deliver(training)
            for _ in range(works):
                training.work()
            learner = training.learner
            if not learner.is_last_phase:
                assert sum(toy.sequence for toy in toys) <= 30 + slack
                return
            ahead = utd * learner.phase_env_steps - learner.phase_updates
            assert -ahead <= utd + extra, "learning is ahead"
            total = sum(toy.sequence for toy in toys) - 30
            assert utd * total - learner.phase_updates <= utd + extra + utd * slack, "acting is ahead"
            assert total <= 60 + slack

        training.work()
        for who, portion, works in turns:
            turn(toys[who % actors], portion, works)
        for _ in range(MANY):
            if training.finished:
                break
            for toy in toys:
                turn(toy, 7, 1)
        assert training.finished
        assert training.learner.updates == utd * 60


@pytest.fixture(scope="module")
def free_training(pretrained: Path, tmp_path_factory: pytest.TempPathFactory):
    """Opens a short run at free pace that only counts its updates: 30 steps of warm-up and 60 of learning."""

    @contextmanager
    def begin(**changed) -> Iterator[Training]:
        settings = {"bridge_settings": {"steps": 30}, "env_steps": 90, "pace": "free", **changed}
        recipe = online(FinetuneRecipe(str(pretrained), learning=TINY.learning, online=TINY.online), **settings)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Learner, "_compile", lambda *_: lambda state, sources, start, steps: (state, {}))
            with opened(recipe, tmp_path_factory.mktemp("free") / "run") as training:
                yield training

    return begin


def free_run(training: Training, toys: Sequence[Toy], steps: int) -> None:
    """Lets actors take turns of an episode, as far as they may, until the journal holds so many steps or the run is over."""
    for _ in range(MANY):
        if training.finished or sum(toy.sequence for toy in toys) >= steps:
            catch_up(training)
            return
        for toy in toys:
            order = training.orders({toy.session: -1 for toy in toys}).get(toy.session)
            if order is None or order.finished:
                pass
            elif order.evaluation > training.ledger.evaluations:
                toy.evaluate(order.evaluation)
            elif toy.position - order.after < order.steps:
                while not toy.step():
                    pass
            toy.deliver(training)
            training.work()
    raise AssertionError(f"the run hangs at {training.ledger}")


def test_a_free_run_of_two_actors_goes_on_where_it_was(tiny_finetune, tmp_path, counting, monkeypatch):
    """Its streams are read one after the other, not as they came in; what is counted and what is due stay the same."""
    monkeypatch.setattr(module, "SAVE_EVERY_S", 1e9)
    recipe = online(tiny_finetune, pace="free", replay_capacity=1000)
    toys = [Toy(1, 1), Toy(2, 0)]  # the one that evaluates is read last
    with opened(recipe, tmp_path / "run") as training:
        free_run(training, toys, 150)
        training.save(finished=False)
        before, there = training.ledger, places(training)
        due = {s: order.evaluation for s, order in training.orders({1: -1, 2: -1}).items()}
        updates = training.learner.updates
    with opened(recipe, tmp_path / "run") as training:
        assert sorted(places(training)) == sorted(there)
        assert training.learner.updates == updates
        now = training.ledger
        assert (now.env_steps, now.positions, now.evaluations) == (
            before.env_steps,
            before.positions,
            before.evaluations,
        )
        assert {s: order.evaluation for s, order in training.orders({1: -1, 2: -1}).items()} == due
        free_run(training, toys, 10_000)
        assert training.finished
        assert training.learner.updates == 640
    logged = timeless(tmp_path / "run", "scores")
    assert len(logged) == training.ledger.evaluations
    assert [row["env_steps"] // 100 for row in logged] == [0, 1, 2, 2]


def test_a_finished_free_run_is_finished_when_it_is_opened_again(tiny_finetune, tmp_path, counting):
    """The actor that evaluates began first, so its last evaluation is read before the other actor's steps."""
    recipe, toys = online(tiny_finetune, pace="free"), [Toy(1, 0), Toy(2, 1)]
    with opened(recipe, tmp_path / "run") as training:
        free_run(training, toys, 10_000)
        assert training.finished
        training.save(finished=False)
    with opened(recipe, tmp_path / "run") as training:
        assert training.finished
        assert catch_up(training).finished


def test_a_restart_leaves_the_newest_of_every_actor_in_a_replay_that_is_full(tiny_finetune, tmp_path, counting):
    """Not the last actor's alone, whose stream is the last to be read."""
    recipe, toys = online(tiny_finetune, pace="free", replay_capacity=60), [Toy(1, 0), Toy(2, 1)]
    with opened(recipe, tmp_path / "run") as training:
        free_run(training, toys, 10_000)
        before = {session for session, _ in places(training)}
        training.save(finished=False)
    with opened(recipe, tmp_path / "run") as training:
        assert before == {1, 2}
        assert {session for session, _ in places(training)} == before


STORY = (scores(1), "--T", "--", scores(2), "-t", "---", Gap(30, 5, "damaged"), "-T", "--.")  # seven episodes


def discard(training: Training, session: int, number: int) -> None:
    Tombstones.discard(training.journal.folder, session, number, "camera was covered", "a test")


@pytest.mark.parametrize("number", range(6))
def test_a_removed_episode_is_not_in_the_replay_and_counts_as_steps(number, tiny_finetune, tmp_path, counting):
    """Before the run is opened, and while it runs; episodes cut by an evaluation or a gap are numbered as the journal does."""
    folder = tmp_path / "run"
    with opened(tiny_finetune, folder) as training:
        append(training, told(*STORY, session=1))
        all_of_it = list(episodes(training.journal.folder))
        assert len(all_of_it) == 6
        gone = {(1, t.sequence) for t in all_of_it[number].transitions}
        discard(training, 1, number)

    def now(training: Training) -> tuple[list, int, int]:
        training.orders({1: training.journal.next(1)})
        return places(training), training.ledger.env_steps, training.learner.phase_env_steps

    everything = [(1, t.sequence) for each in all_of_it for t in each.transitions]
    rest = [place for place in everything if place not in gone]
    with opened(tiny_finetune, folder) as training:
        assert now(catch_up(training)) == (rest, len(everything), len(everything))
        Tombstones.restore(training.journal.folder, 1, number, "a test")
        assert training.refresh_tombstones()
        assert now(training) == (everything, len(everything), len(everything))
        assert not training.refresh_tombstones()
        returns = column_of(training, "mc_return")
        discard(training, 1, number)
        assert training.refresh_tombstones()
        assert now(training) == (rest, len(everything), len(everything))
        kept = [i for i, place in enumerate(everything) if place not in gone]
        np.testing.assert_array_equal(column_of(training, "mc_return"), returns[kept])


def test_an_episode_that_is_removed_while_it_is_under_way_stays_out_to_its_end(tiny_finetune, tmp_path, counting):
    with opened(online(tiny_finetune, pace="free"), tmp_path / "run") as training:
        entries = told(scores(1), "--T", "----T", "-T", session=1)
        append(training, entries[:7])
        catch_up(training)
        discard(training, 1, 1)
        assert training.refresh_tombstones()
        assert len(places(training)) == 3
        append(training, entries[7:])
        catch_up(training)
        assert places(training) == [(1, n) for n in (0, 1, 2, 8, 9)]
        assert training.ledger.env_steps == 10


@pytest.mark.parametrize("place", ["device", "host"])
@pytest.mark.parametrize("pace", ["lockstep", "free"])
def test_with_every_episode_removed_nothing_is_learned_and_the_run_still_ends(pace, place, tiny_finetune, tmp_path):
    recipe, toy = online(tiny_finetune, pace=pace, replay=place), Toy(1)
    for _ in range(240):
        toy.step()
    with opened(recipe, tmp_path / "run") as training:
        toy.deliver(training)
        for number in range(-(-240 // LENGTH)):
            discard(training, 1, number)
    with opened(recipe, tmp_path / "run") as training:
        before = training.policy_params()
        catch_up(training)
        for _ in range(20):
            order = training.orders(toy.live)[1]
            assert order.steps == 0
            if order.evaluation:
                toy.evaluate(order.evaluation)
            toy.deliver(training)
            catch_up(training)
        assert training.finished
        after = training.policy_params()
        assert (training.ledger.env_steps, training.learner.updates, len(places(training))) == (240, 0, 0)
        assert after.version == before.version == 60
        jax.tree.map(np.testing.assert_array_equal, after.params, before.params)
        assert all(np.isfinite(x).all() for x in jax.tree.leaves(after.params))
        training.save(finished=True)


@pytest.mark.parametrize("pace", ["lockstep", "free"])
def test_all_that_there_is_is_removed_in_the_middle_and_learning_goes_on_with_what_follows(
    pace, tiny_finetune, tmp_path, monkeypatch
):
    """What was learned stays as it was until then, and stays finite."""
    toy = Toy(1)
    with opened(online(tiny_finetune, pace=pace, tolerance=40), tmp_path / "run") as training:

        def ends(enough: Callable[[], bool]) -> None:
            if pace == "free":
                for _ in range(MANY):
                    if enough():
                        break
                    free_run(training, [toy], toy.sequence + 1)
            else:
                drive(training, toy, 10, enough, lambda _: None)

        ends(lambda: training.learner.phase_updates >= 40 and not toy.in_episode and not toy.outbox)
        catch_up(training)
        for number in range(toy.sequence // LENGTH):
            discard(training, 1, number)
        updates = training.learner.updates
        assert training.refresh_tombstones()
        assert not places(training)
        catch_up(training)
        assert training.learner.updates == updates, "learned from nothing"
        ends(lambda: training.finished)
        assert training.learner.updates == 640
        assert min(sequence for _, sequence in places(training)) >= 80 + 10
        assert all(np.isfinite(x).all() for x in jax.tree.leaves(training.policy_params().params))


def test_another_recipe_or_other_networks_are_refused_by_the_name_of_the_field(tiny_finetune, tmp_path):
    with opened(tiny_finetune, tmp_path / "run"):
        pass

    def refused(recipe: FinetuneRecipe, words: str) -> None:
        with pytest.raises(ValueError, match=words), opened(recipe, tmp_path / "run"):
            pass

    refused(replace(tiny_finetune, seed=3), r"its run has seed 0, this one 3")
    refused(online(tiny_finetune, utd=2), r"its run has online .*'utd': 4.* this one .*'utd': 2")
    wider = replace(TINY.learning, networks=replace(TINY.learning.networks, actor_hidden=(32, 16)))
    refused(replace(tiny_finetune, learning=wider), r"it has networks\.actor_hidden \[16, 16\], this run \[32, 16\]")
    more = replace(TINY.learning, networks=replace(TINY.learning.networks, critics=5))
    refused(
        replace(tiny_finetune, learning=more), r"networks\.critics 3, this run 5; give --learning\.networks\.critics 3"
    )


def test_a_checkpoint_that_came_from_other_networks_is_refused_by_the_name_of_an_array(data_file, tmp_path):
    """Its folder was copied into a run whose recipe says something else."""
    recipe = FinetuneRecipe(
        data=str(data_file), learning=TINY.learning, online=replace(TINY.online, bridge="rlpd", bridge_settings={})
    )
    wider = replace(TINY.learning, networks=replace(TINY.learning.networks, critic_hidden=(16, 32)))
    with opened(replace(recipe, learning=wider), tmp_path / "other") as training:
        training.save(finished=False)
    with opened(recipe, tmp_path / "run"):
        pass
    shutil.rmtree(tmp_path / "run" / "checkpoint")
    shutil.copytree(tmp_path / "other" / "checkpoint", tmp_path / "run" / "checkpoint")
    with (
        pytest.raises(ValueError, match=r"critic/\S+ has shape \(.*32.*\), this run needs shape"),
        opened(recipe, tmp_path / "run"),
    ):
        pass


def discarded_at(entries: Sequence[Entry], *numbers: int) -> list[Entry]:
    """The entries, of which the operator discarded the episodes that end at these records."""
    return [replace(e, event=replace(e.event, discarded=True)) if e.number in numbers else e for e in entries]


@pytest.mark.parametrize("pace", ["lockstep", "free"])
def test_an_episode_that_its_operator_discards_gets_a_tombstone_and_is_not_in_the_replay(
    pace, tiny_finetune, tmp_path, counting
):
    with opened(online(tiny_finetune, pace=pace), tmp_path / "run") as training:
        entries = discarded_at(told(scores(1), "--T", "----T", "-T", session=1), 9)
        append(training, entries)
        catch_up(training)
        training.refresh_tombstones()  # running free, the server looks every second
        assert places(training) == [(1, n) for n in (0, 1, 2, 8, 9)]
        assert (training.ledger.env_steps, training.learner.phase_env_steps) == (10, 10)
        found = [each.tombstoned for each in episodes(training.journal.folder, tombstoned=True)]
        assert found == [False, True, False]
        Tombstones.restore(training.journal.folder, 1, 1, "a test")  # whoever thinks better of it may have it back
        assert training.refresh_tombstones()
        assert len(places(training)) == 10
