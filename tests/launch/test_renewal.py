"""Groups that are renewed while a run goes on: at its best evaluations, or at an interval; taken up again; seed by seed."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import jax
import numpy as np
import pytest

from agent.adopt import first_state
from agent.methods import sac
from agent.replay.entry import Scores
from agent.replay.rings import Rings
from launch import training as module
from launch.build import networks_of, obs_shapes_of, online_plan
from launch.finetune import normalizer_of
from launch.learner import Learner
from launch.population import Population
from launch.recipes import FinetuneRecipe, Learning, Online
from launch.seeds_run import best_so_far
from launch.tasks import find_task
from launch.training import Training
from tests.launch.conftest import TINY
from tests.launch.test_training import Toy, drive, opened, seen

SETTINGS = {"reevaluation_updates": 1, "alignment_updates": 1}


@dataclass
class Scored(Toy):
    """An actor whose evaluations have these many successes of ten, sampling; as its mode, one more each time."""

    found: Sequence[int] = ()

    def evaluate(self, number: int) -> None:
        self.in_episode = 0
        found = {"sample": self.found[number - 1], "mode": number}
        scores = {mode: {"success": count, "trials": 10} for mode, count in found.items()}
        self._tell(Scores(number, 0, scores))


@pytest.fixture
def marking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Learning that only counts: the policy's parameters are the updates of the run."""

    def compiled(learner: Learner, phase, method):
        def train(state, sources, start, steps):
            count = state.update_count + steps * phase.minibatches_per_step
            actor = jax.tree.map(lambda x: np.full(x.shape, count, x.dtype), state.params["actor"])
            return state.replace(params={**state.params, "actor": actor}, update_count=count), {}

        return train

    monkeypatch.setattr(Learner, "_compile", compiled)
    monkeypatch.setattr(module, "SAVE_EVERY_S", 1e9)


@pytest.fixture
def recipe(tiny_finetune: FinetuneRecipe, data_file: Path) -> FinetuneRecipe:
    """The headline is of sampled actions."""
    online = replace(tiny_finetune.online, bridge="reconstruct", bridge_settings=SETTINGS)
    return replace(tiny_finetune, data=str(data_file), online=online)


def with_settings(recipe: FinetuneRecipe, **settings: float) -> FinetuneRecipe:
    return replace(recipe, online=replace(recipe.online, bridge_settings={**SETTINGS, **settings}))


def mark_of(training: Training, group: str) -> int:
    return int(np.asarray(jax.tree.leaves(training.learner.state.params[group])[0]).flat[0])


def references(recipe: FinetuneRecipe, folder: Path, stops: Sequence[int]) -> list:
    """At each turn of a run of 240 steps, evaluated every 100: steps taken, and how many updates the reference has behind it.

    The run is interrupted where the journal has so many records; in its middle it is saved.
    """
    toy, turns = Scored(7, found=(3, 5, 5, 4)), []
    for stop in stops:
        with opened(recipe, folder) as training:

            def look(_, training=training) -> None:
                turns.append((training.ledger.env_steps, mark_of(training, "reference"), seen(training)))
                if len(turns) in (9, 20) and len(stops) > 1:
                    training.save(finished=False)

            drive(training, toy, 4, lambda stop=stop: training.finished or training.journal.next(7) >= stop, look)
            if training.finished:
                turns.append((training.ledger.env_steps, mark_of(training, "reference"), seen(training)))
    return turns


def test_the_best_evaluation_of_a_run_makes_the_reference(recipe, tmp_path, marking):
    """3, 5, 5 and 4 successes of 10: at the first and the second, and not by what the mode achieves, which rises on."""
    turns = references(recipe, tmp_path / "run", [1000])
    begun = turns[0][1]
    found = [mark for _, mark, _ in turns]
    assert found == sorted(found)
    late = [steps for steps, mark, _ in turns if mark > begun]
    assert len({mark for mark in found if mark > begun}) == 1
    updates = found[-1] - begun
    utd = TINY.online.utd
    assert updates % utd == 0
    assert 100 <= updates // utd == late[0]  # of the policy that was evaluated
    assert updates // utd < 120


@pytest.mark.parametrize("settings", [{}, {"renew_every": 30}])
def test_a_run_that_is_taken_up_has_the_same_references(settings, recipe, tmp_path, marking):
    recipe = with_settings(recipe, **settings)
    whole = references(recipe, tmp_path / "whole", [1000])
    cut = references(recipe, tmp_path / "cut", [90, 190, 1000])
    assert len(cut) == len(whole)
    for mine, other in zip(whole, cut, strict=True):
        assert mine == other
    assert len({mark for _, mark, _ in whole}) > 1


def test_a_reference_of_an_interval_is_not_renewed_by_an_evaluation(recipe, tmp_path, marking):
    turns = references(with_settings(recipe, renew_every=60), tmp_path / "run", [1000])
    marks = sorted({mark for _, mark, _ in turns})
    behind = [(mark - marks[0]) // TINY.online.utd for mark in marks]
    assert len(marks) == 5  # 240 / 60, and the one that it began with
    assert all(0 <= 60 * i - steps <= TINY.online.block for i, steps in enumerate(behind))


TASK = find_task("narrow_passage")
LEARNING = Learning(replace(TINY.learning.networks, actor_hidden=(4,), critic_hidden=(4,)))


def population_of(**settings: float) -> Population:
    online = Online("sac", bridge="reconstruct", bridge_settings={**SETTINGS, **settings}, env_steps=50)
    nets = networks_of(TASK, LEARNING)
    rings = Rings(2, 40, {"state": (4,)}, 2, TASK.discount, TASK.truncation_value)
    normalizer = normalizer_of(None, obs_shapes_of(TASK))
    before = [first_state(nets, sac.METHOD, normalizer, jax.random.key(seed)) for seed in (0, 1)]
    phases = online_plan(online)[-1:]
    found = Population(nets, phases, normalizer, None, [0, 1], rings, before, sac.METHOD)
    actor = jax.tree.map(lambda x: x + 1.0, found.state.params["actor"])
    found.state = found.state.replace(params={**found.state.params, "actor": actor})
    return found


def same(population: Population) -> list[bool]:
    """Of which seeds the reference is the policy."""
    params = population.state.params
    pairs = zip(jax.tree.leaves(params["actor"]), jax.tree.leaves(params["reference"]), strict=True)
    each = [(np.asarray(a) == np.asarray(b)).reshape(2, -1).all(axis=1) for a, b in pairs]
    return np.all(each, axis=0).tolist()


def steps(count: int) -> dict:
    obs = {"state": np.zeros((2, count, 4), np.float32)}
    zero = np.zeros((2, count))
    ends = {"terminated": zero > 0, "truncated": zero > 0}
    return {"obs": obs, "next_obs": obs, "action": np.zeros((2, count, 2), np.float32), "reward": zero, **ends}


def test_every_seed_has_its_own_best():
    population = population_of()
    assert same(population) == [False, False]
    population.evaluated(np.array([False, False]))
    population.ingest(30, **steps(30))
    assert same(population) == [False, False]
    population.evaluated(np.array([False, True]))
    assert same(population) == [False, True]
    population.evaluated(np.array([True, False]))
    assert same(population) == [True, True]


def test_an_interval_is_that_of_all_seeds():
    population = population_of(renew_every=10)
    population.evaluated(np.array([True, True]))
    population.ingest(9, **steps(9))
    assert same(population) == [False, False]
    population.ingest(1, **steps(1))
    assert same(population) == [True, True]


def test_the_last_evaluation_is_compared_with_all_before_by_the_normalised_score_where_there_is_one():
    plain = [{"success": [[a], [b]], "normalized": None} for a, b in ((0.0, 0.4), (0.2, 0.6), (0.3, 0.6))]
    assert [best_so_far(plain[: i + 1]).tolist() for i in range(3)] == [[True, True], [True, True], [True, False]]
    scored = [{**row, "normalized": [[-x], [x]]} for x, row in enumerate(plain)]
    assert best_so_far(scored).tolist() == [False, True]
