"""Runs of an on-policy method: which steps a rollout holds, wherever it is interrupted, and whose it refuses."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from agent.replay.entry import Entry, Step
from agent.replay.episodes import Tombstones
from agent.replay.rollout import newest
from agent.types import SOURCES
from launch import training as module
from launch.build import online_plan
from launch.learner import Learner
from launch.orders import Order
from launch.recipes import FinetuneRecipe, Online
from tests.launch.test_training import (
    LENGTH,
    SCALE,
    Toy,
    append,
    catch_up,
    discard,
    drive,
    online,
    opened,
    scores,
    seen,
    timeless,
    told,
)

R = 50  # steps of a rollout: no multiple of an episode's 13
# Four rollouts, of two passes of three minibatches, and ten steps that are left.
WARM_UP, STEPS, PASSES, EACH = 30, 240, 2, 3


@pytest.fixture
def recipe(tiny_finetune: FinetuneRecipe) -> FinetuneRecipe:
    """PPO after a warm-up; the replay holds a rollout and a little, and is written over."""
    settings = {"bridge": "warm_up", "bridge_settings": {"steps": WARM_UP}, "env_steps": STEPS, "replay_capacity": 64}
    return online(tiny_finetune, method="ppo", block=R, utd=PASSES, batch_size=20, **settings)


@pytest.fixture
def learned(monkeypatch: pytest.MonkeyPatch) -> dict[int, list[tuple[int, int]]]:
    """What is learned from, as `(session, sequence)`, by the rollout's first step; updates are counted, nothing is computed."""
    found = {}

    def compiled(learner: Learner, phase, method):
        def run(state, sources, start, steps):
            columns, place = sources["online"]
            rows = int(place[1])
            assert steps == phase.minibatches_of(rows)
            places = np.asarray(newest(columns, place, rows, jax.random.key(0)).obs["state"])[:, :2] * SCALE
            found[int(start)] = [(int(session), int(sequence)) for sequence, session in places]
            return state, {}

        return run

    monkeypatch.setattr(Learner, "_compile", compiled)
    return found


def steps_of(session: int, first: int, end: int) -> list[tuple[int, int]]:
    return [(session, n) for n in range(first, end)]


def test_what_is_interrupted_in_the_middle_of_a_rollout_goes_on_as_if_it_had_not_been(recipe, tmp_path, monkeypatch):
    """From a checkpoint within the second rollout, and from one before the first with all of the journal behind it."""
    monkeypatch.setattr(module, "SAVE_EVERY_S", 1e9)

    def run(folder: Path, stops: Sequence[int], saves: Sequence[int]) -> list:
        toy, turns = Toy(7), []

        def look(order: Order) -> None:
            turns.append((order, seen(training)))
            if len(turns) in saves:
                training.save(finished=False)

        for stop in stops:
            with opened(recipe, folder) as training:
                drive(training, toy, 4, lambda stop=stop: training.finished or training.journal.next(7) >= stop, look)
                if training.finished:
                    turns.append(seen(training))
        return turns

    whole, cut = run(tmp_path / "whole", [1000], []), run(tmp_path / "cut", [60, 130, 170, 1000], [2, 12])
    assert len(whole) == len(cut)
    for mine, other in zip(whole, cut, strict=True):
        assert mine == other
    assert f"'updates': {4 * PASSES * EACH}" in whole[-1][1]
    states = dict.fromkeys(turn[1][-1] for turn in whole[:-1])
    assert len(states) == 2 + 4  # as it came, with a value, and after each rollout
    assert timeless(tmp_path / "whole", "episodes") == timeless(tmp_path / "cut", "episodes")


def test_a_rollout_is_so_many_steps_of_its_phase_and_is_learned_from_once(recipe, tmp_path, learned):
    toy, versions = Toy(7), []
    with opened(recipe, tmp_path / "run") as training:
        drive(training, toy, 7, lambda: training.finished, lambda order: versions.append(order.publication))
        assert learned == {R * i: steps_of(7, WARM_UP + R * i, WARM_UP + R * (i + 1)) for i in range(4)}
        learner = training.learner
        assert (learner.updates, learner.phase_env_steps, training.ledger.env_steps) == (24, STEPS - WARM_UP, STEPS)
        assert learner.updates == online_plan(recipe.online)[-1].minibatches
        assert (learner.owed, learner.remaining) == (0, 0)  # the last ten steps stay
    assert max(order.steps for order in toy.obeyed) == R


def test_of_a_rollout_with_a_removed_episode_the_rest_is_learned_from(recipe, tmp_path, learned):
    """Removed while it is under way, and before the run is taken up again; the steps were taken all the same."""
    toy, gone = Toy(7), {*range(LENGTH * 3, LENGTH * 4), *range(LENGTH * 7, LENGTH * 8)}

    def rest(first: int, end: int) -> list[tuple[int, int]]:
        return [place for place in steps_of(7, first, end) if place[1] not in gone]

    with opened(recipe, tmp_path / "run") as training:
        drive(training, toy, 7, lambda: training.ledger.env_steps >= 65, lambda _: None)
        discard(training, 7, 3)
        assert training.refresh_tombstones()
        drive(training, toy, 7, lambda: training.ledger.env_steps == LENGTH * 9, lambda _: None)
        training.save(finished=False)
        discard(training, 7, 7)
    with opened(recipe, tmp_path / "run") as training:
        drive(training, toy, 7, lambda: training.finished, lambda _: None)
        assert training.ledger.env_steps == STEPS
        assert training.learner.updates == PASSES * (2 + 2 + 3 + 3)  # of 37, 37, 50 and 50 rows
    assert learned == {R * i: rest(WARM_UP + R * i, WARM_UP + R * (i + 1)) for i in range(4)}
    assert [len(rows) for rows in learned.values()] == [37, 37, 50, 50]


def test_a_rollout_of_which_nothing_is_left_is_passed_over(recipe, tmp_path, learned):
    toy = Toy(7, length=R)
    with opened(online(recipe, bridge="direct", bridge_settings={}, env_steps=3 * R), tmp_path / "run") as training:
        drive(training, toy, 7, lambda: training.ledger.env_steps >= R + 10, lambda _: None)
        discard(training, 7, 1)
        training.refresh_tombstones()
        drive(training, toy, 7, lambda: training.finished, lambda _: None)
        assert training.learner.updates == 2 * PASSES * EACH
    assert learned == {0: steps_of(7, 0, R), 2 * R: steps_of(7, 2 * R, 3 * R)}


def test_what_an_earlier_session_delivers_late_is_in_no_rollout(recipe, tmp_path, learned):
    """Its actor had gone, another one has begun; were it taken, episodes would be mixed."""
    with opened(online(recipe, bridge="direct", bridge_settings={}), tmp_path / "run") as training:
        old = told(scores(1), "-" * 20, session=1)
        for part in (old[:12], told("-" * 20, session=2), old[12:], told("-" * 40, session=2)[21:]):
            append(training, part)
            catch_up(training)
        training.orders({2: training.journal.next(2)})
    assert learned == {0: [*steps_of(1, 0, 10), *steps_of(2, 0, 30)]}  # 50 steps, of which ten came late


def with_a_human(entries: list[Entry], number: int) -> list[Entry]:
    """The entries, one of whose actions a human gave."""
    step = entries[number].event
    assert isinstance(step, Step)
    human = replace(step, transition=replace(step.transition, source=SOURCES.index("human")))
    return [*entries[:number], replace(entries[number], event=human), *entries[number + 1 :]]


def test_a_human_s_action_is_refused_and_the_run_goes_on_without_its_episode(recipe, tmp_path, learned):
    """In the warm-up, which nothing is learned from, it may be."""
    signs = ("-" * 12 + "T") * 10
    entries = with_a_human(with_a_human(told(scores(1), signs, session=1), 10), 2 + 3 * LENGTH + 5)
    for _ in range(2):  # it stays refused
        with opened(recipe, tmp_path / "run") as training:
            append(training, entries[training.journal.next(1) :])
            with pytest.raises(ValueError, match=r"session 0000000000000001: action 44 is of source 'human'.* discard"):
                catch_up(training)
            assert training.journal.next(1) == len(entries), "all of it is kept"
    Tombstones.discard(tmp_path / "run" / "journal", 1, 3, "a human helped", "a test")
    with opened(recipe, tmp_path / "run") as training:
        catch_up(training)
        assert training.ledger.env_steps == 130
        training.save(finished=False)
        Tombstones.restore(training.journal.folder, 1, 3, "a test")
        assert training.refresh_tombstones()  # its rollout is over
    assert learned == {0: [place for place in steps_of(1, 30, 80) if place[1] // LENGTH != 3], R: steps_of(1, 80, 130)}


def test_a_human_s_episode_that_is_put_back_into_a_rollout_is_refused(recipe, tmp_path, learned):
    entries = with_a_human(told(scores(1), ("-" * 12 + "T") * 5, session=1), 2 + 3 * LENGTH + 5)
    with opened(recipe, tmp_path / "run") as training:
        append(training, entries)
        discard(training, 1, 3)
        training.refresh_tombstones()
        catch_up(training)
        training.orders({1: training.journal.next(1)})
        Tombstones.restore(training.journal.folder, 1, 3, "a test")
        with pytest.raises(ValueError, match="is of source 'human'"):
            training.refresh_tombstones()
    assert not learned


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"pace": "free"}, r"on-policy, and running free, actors act with older policies; leave out --online\.pace"),
        ({"replay": "host"}, r"leave out --online\.replay host"),
        ({"replay_capacity": 400}, r"rollouts of 500 steps, and the replay holds 400; give a larger"),
        ({"block": 20}, r"a rollout of 20 steps does not hold a minibatch of 125"),
        ({"env_steps": 400}, r"or does not fit the phase's 400 steps"),
    ],
)
def test_where_a_rollout_could_not_be_whole_it_is_refused_in_a_sentence(changed, words):
    with pytest.raises(ValueError, match=words) as refusal:
        online_plan(Online("ppo", bridge="direct", **{"block": 500, "batch_size": 125, **changed}))
    assert "\n" not in str(refusal.value)
