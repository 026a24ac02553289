"""Several seeds as one program: each is what it would be alone, an interrupted run goes on, and a comparison of them."""

import json
from dataclasses import replace

import jax
import numpy as np
import pytest
from rich.progress import Progress

from agent.heads import Networks
from agent.methods import find_method
from agent.program import program
from agent.replay.entry import Step
from agent.replay.journal import JournalReader
from agent.replay.rings import Rings
from agent.types import Phase
from launch.build import networks_of, obs_shapes_of, online_plan
from launch.checkpoint import Checkpoints
from launch.compare import combinations, compare_stage
from launch.evaluation import Assessment, evaluate
from launch.finetune import finetune_stage, normalizer_of
from launch.fleet import make_fleet
from launch.policies import load_policy
from launch.population import Crew, Population, member, seeds_program, stack
from launch.recipes import (
    Collect,
    CollectRecipe,
    CompareRecipe,
    Evaluation,
    FinetuneRecipe,
    Learning,
    Offline,
    Online,
    PretrainRecipe,
)
from launch.runs import progress_bar
from launch.seeds import finetune_seeds, pretrain_seeds
from launch.stages import collect_stage, load_state, pretrain_stage
from launch.tasks import find_task
from tests.agent.tiny import assert_same, random_batch, tiny_nets, tiny_state

TASK = "narrow_passage"
LEARNING = Learning(Networks((16,), (16,), critics=2), temperature=0.1)
OFFLINE = Offline("calql", {"sampled_actions": 2, "backup_actions": 1}, updates=60, batch_size=16)
ONLINE = Online(
    "sac",
    bridge="warm_up",
    bridge_settings={"steps": 30},
    env_steps=150,
    utd=1,
    batch_size=16,
    replay_capacity=150,
    block=1,
)
EVALUATION = Evaluation(trials=3, every_env_steps=50)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    recipe = CollectRecipe(TASK, 0, Collect(transitions=400, good_share=0.5))
    with progress_bar() as progress:
        return str(collect_stage(recipe, tmp_path_factory.mktemp("passage") / "data", progress))


@pytest.fixture(scope="module")
def pretrained(data, tmp_path_factory):
    """Seeds 3 and 4, pre-trained together."""
    folder = tmp_path_factory.mktemp("passage") / "offline"
    with progress_bar() as progress:
        pretrain_seeds(PretrainRecipe(data, TASK, 3, LEARNING, OFFLINE, 2), EVALUATION, folder, progress)
    return folder


def finetune_recipe(data, pretrained, seed=3, online=ONLINE, **changes):
    changes = {"seeds": 2, **changes}
    return FinetuneRecipe(
        str(pretrained), data, TASK, seed=seed, learning=LEARNING, online=online, evaluation=EVALUATION, **changes
    )


def assert_close(one, other, tolerance):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance), one, other)


def test_a_seed_pre_trained_among_others_is_what_it_is_alone(data, pretrained, tmp_path):
    with progress_bar() as progress:
        pretrain_stage(PretrainRecipe(data, TASK, 4, LEARNING, OFFLINE), tmp_path / "alone", progress)
    task = find_task(TASK)
    alone, _ = load_state(tmp_path / "alone", task, LEARNING)
    among, _ = load_state(pretrained / "seed_4", task, LEARNING)
    other, _ = load_state(pretrained / "seed_3", task, LEARNING)
    assert int(alone.update_count) == int(among.update_count) == 60
    assert_close(alone.params, among.params, 1e-4)
    kernel = "kernel_0"
    assert np.abs(np.asarray(other.params["critic"][kernel]) - np.asarray(among.params["critic"][kernel])).max() > 0.1


def test_a_seed_fine_tuned_among_others_takes_the_steps_and_learns_what_it_would_alone(data, pretrained, tmp_path):
    """By the bridge of the most parts: a phase that collects, one that learns without acting, a replay with priorities."""
    settings = {"steps": 30, "updates": 20, "kappa_steps": 50}
    online = replace(ONLINE, bridge="pretrain", bridge_settings=settings)
    alone_recipe = finetune_recipe(data, pretrained / "seed_4", seed=4, seeds=1, online=online)
    with progress_bar() as progress:
        finetune_stage(alone_recipe, tmp_path / "alone", progress, in_process=True)
        result = finetune_seeds(finetune_recipe(data, pretrained, online=online), tmp_path / "both", progress)
    entries = JournalReader(tmp_path / "alone" / "journal").read(10_000)
    steps = [entry.event.transition for entry in entries if isinstance(entry.event, Step)]
    with_replay = Checkpoints(tmp_path / "both" / "checkpoint")
    meta = with_replay.meta()
    with_replay.close()
    assert meta["inserted"] == len(steps) >= 150
    alone, among = load_policy(tmp_path / "alone")[0], load_policy(tmp_path / "both" / "seed_4")[0]
    assert alone.version == among.version == 60 + 20 + 120
    assert_close(alone.params, among.params, 1e-3)
    assert result["env_steps"] == [0, 50, 100, 150]
    assert np.shape(result["mode"]["success"]) == np.shape(result["sample"]["return"]) == (2, 4)
    assert {"sqor", "policy_kl", "td_offline", "q_online"} <= set(result["diagnostics"])
    again = evaluate(tmp_path / "both" / "seed_3", Assessment(trials=EVALUATION.trials))
    assert again["updates"] == 200
    returns = [trial["raw_return"] for trial in again["mode"]["outcomes"]]
    assert np.mean(returns) == pytest.approx(result["mode"]["return"][0][-1])  # the same trials, one after the other


def test_what_follows_a_cut_episode_is_its_own_last_observation_and_not_the_next_ones_first():
    """Random actions reach no goal: all episodes are cut, after 60 steps, in the middle of a block."""
    task = find_task(TASK)
    nets, phases = (
        networks_of(task, LEARNING),
        online_plan(replace(ONLINE, bridge="scratch", bridge_settings={"steps": 140})),
    )
    rings = Rings(2, 150, {"state": (4,)}, 2, task.discount, task.truncation_value)
    population = Population(nets, phases, normalizer_of(None, obs_shapes_of(task)), None, [0, 1], rings)
    crew = Crew(population, make_fleet(task, 2))
    for _ in range(5):
        crew.perform(25)
    obs, following = (np.asarray(getattr(rings.columns, kind)["state"]) for kind in ("obs", "next_obs"))
    within = [i for i in range(124) if i not in (59, 119)]
    np.testing.assert_array_equal(following[:, within], obs[:, [i + 1 for i in within]])
    for last in (59, 119):
        assert np.abs(following[:, last, :2] - obs[:, last, :2]).max() <= 0.1  # one step away
        assert (obs[:, last + 1, 2:] == 0.0).all()  # the next episode begins at rest
        assert (np.abs(following[:, last, 2:]).max(axis=1) > 0.0).all()


class Cut(Exception):
    """What ends a run in its middle."""


class Interrupting(Progress):
    """A progress bar at which a run ends, once it has got so far."""

    def __init__(self, at: int) -> None:
        super().__init__(disable=True)
        self._at = at

    def update(self, task_id, *, completed=None, **changes):
        if completed is not None and completed >= self._at:
            raise Cut


def test_an_interrupted_run_goes_on_from_its_last_evaluation_and_a_finished_one_is_left_as_it_is(
    data, pretrained, tmp_path
):
    recipe, folder = finetune_recipe(data, pretrained), tmp_path / "run"
    with pytest.raises(Cut):
        finetune_seeds(recipe, folder, Interrupting(120))
    assert not (folder / "result.json").exists()
    with pytest.raises(ValueError, match="already holds a run; give --resume"):
        finetune_seeds(recipe, folder, Interrupting(10**9))
    result = finetune_seeds(recipe, folder, Interrupting(10**9), resume=True)
    assert result["env_steps"] == [0, 50, 100, 150]
    assert load_policy(folder / "seed_3")[0].version == 180  # every update was made once, none twice
    before = (folder / "result.json").read_bytes()
    again = finetune_seeds(recipe, folder, Interrupting(1), resume=True)  # would raise at its first step
    assert again == json.loads(before)
    with pytest.raises(ValueError, match="its run has seeds"):
        finetune_seeds(replace(recipe, seeds=1), folder, Interrupting(1), resume=True)


PPO = replace(ONLINE, method="ppo", bridge="direct", bridge_settings={}, block=40, utd=2, batch_size=15)


def test_a_seed_among_others_rolls_out_and_learns_what_it_would_alone(data, pretrained, tmp_path):
    with progress_bar() as progress:
        alone_recipe = finetune_recipe(data, pretrained / "seed_4", seed=4, seeds=1, online=PPO)
        finetune_stage(replace(alone_recipe, data=None), tmp_path / "alone", progress, in_process=True)
        result = finetune_seeds(finetune_recipe(data, pretrained, online=PPO), tmp_path / "both", progress)
    assert result["diagnostics"] == {}  # they are about critics
    alone, among = load_policy(tmp_path / "alone")[0], load_policy(tmp_path / "both" / "seed_4")[0]
    assert alone.version == among.version == 60 + 3 * 2 * 3  # three rollouts, two passes of three minibatches
    assert_close(alone.params, among.params, 1e-3)
    before = load_policy(pretrained / "seed_4")[0].params
    moved = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), alone.params, before)
    assert max(jax.tree.leaves(moved)) > 3e-3


def test_seeds_that_are_interrupted_within_a_rollout_go_on_with_it(data, pretrained, tmp_path, monkeypatch):
    """Nothing is computed: what learning is given is looked at."""
    given = []

    def compiled(population, phase, method):
        def run(state, filled, sizes, start, steps):
            given.append((int(start), *sizes["online"].tolist(), steps))
            return state, {}

        return run

    monkeypatch.setattr(Population, "_compile", compiled)
    online = replace(PPO, replay_capacity=60)
    recipe, folder = finetune_recipe(data, pretrained, online=online), tmp_path / "run"
    with pytest.raises(Cut):
        finetune_seeds(recipe, folder, Interrupting(90))
    finetune_seeds(recipe, folder, Interrupting(10**9), resume=True)
    # First step, row of the next insertion, rows, minibatches. The second was begun at 40, saved at 50, and is made again.
    assert given == [(0, 40, 40, 6), (40, 20, 40, 6), (40, 20, 40, 6), (80, 0, 40, 6)]


def test_a_folder_of_several_seeds_is_no_run_but_names_one(pretrained, data, tmp_path):
    with pytest.raises(ValueError, match=r"it holds several seeds; give the folder of one, such as .*seed_3"):
        evaluate(pretrained, Assessment(trials=1))


def test_a_run_that_a_prior_rolled_in_is_a_start_for_the_next(data, pretrained, tmp_path):
    online = replace(ONLINE, bridge="jump_start", bridge_settings={"steps": 50}, env_steps=40, block=10)
    first = replace(finetune_recipe(data, pretrained / "seed_3", online=online, seeds=1), data=None)
    with progress_bar() as progress:
        finetune_stage(first, tmp_path / "first", progress, in_process=True)
    state, _ = load_state(tmp_path / "first", find_task(TASK), LEARNING)
    assert set(state.params) == {"actor", "critic", "temperature"}


def test_a_missing_seed_and_a_checkpoint_that_would_be_ignored_are_told(data, pretrained, tmp_path):
    with progress_bar() as progress:
        with pytest.raises(ValueError, match="it has no seed_5; pre-train that seed"):
            finetune_seeds(finetune_recipe(data, pretrained, seed=4), tmp_path / "a", progress)
        rlpd = replace(ONLINE, bridge="rlpd", bridge_settings={})
        with pytest.raises(ValueError, match="would ignore --checkpoint"):
            finetune_seeds(finetune_recipe(data, pretrained, online=rlpd), tmp_path / "a", progress)
        without = replace(finetune_recipe(data, pretrained, online=rlpd), checkpoint=None, data=None)
        with pytest.raises(ValueError, match="learns from offline data; give --data"):
            finetune_seeds(without, tmp_path / "a", progress)
        host = replace(ONLINE, replay="host")
        with pytest.raises(ValueError, match=r"leave --arm, --online\.pace"):
            finetune_seeds(finetune_recipe(data, pretrained, online=host), tmp_path / "a", progress)
        with pytest.raises(ValueError, match="starts from a pre-trained run"):
            finetune_seeds(replace(finetune_recipe(data, pretrained), checkpoint=None), tmp_path / "a", progress)
    assert not (tmp_path / "a").exists()


def test_a_comparison_shares_its_pre_training_leaves_nonsense_out_and_repeats_nothing(data, tmp_path):
    small = {"updates": 30, "env_steps": 80, "trials": 2, "seeds": 2}
    recipe = CompareRecipe(TASK, data, bridge=("direct", "rlpd"), online=("sac", "bc"), **small)
    cells, refused = combinations(recipe)
    assert [cell.folder for cell in cells] == ["calql+direct+sac", "none+rlpd+sac"]
    assert set(refused) == {"calql+direct+bc", "calql+rlpd+bc"}
    with progress_bar() as progress:
        told = compare_stage(recipe, tmp_path / "out", progress)
        files = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.json")}
        compare_stage(recipe, tmp_path / "out", progress, resume=True)
    assert told["cells"] == ["calql+direct+sac", "none+rlpd+sac"]
    assert [p for p in (tmp_path / "out").rglob("*.npz") if "seed" in p.name] == []
    assert all(path.stat().st_mtime_ns == when for path, when in files.items() if path.name == "result.json")
    assert len(list((tmp_path / "out" / "offline").iterdir())) == 1
    table = json.loads((tmp_path / "out" / "table.json").read_text())
    assert "calql" in json.dumps(table)
    for name in ("table.md", "curves.png", "summary.png"):
        assert (tmp_path / "out" / name).stat().st_size > 100


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"online": ("nothing",)}, "method 'nothing' is unknown"),
        ({"bridge": ("nothing",)}, "bridge 'nothing' is unknown"),
        ({"online": ("bc",)}, "nothing is left"),
        ({"task": "kitchen-mixed"}, "has no preset of ours"),
        ({"task": "kitchen"}, "task 'kitchen' is unknown"),
        ({"preset": "ours/none"}, "preset 'ours/none' is unknown"),
    ],
)
def test_a_comparison_that_makes_no_sense_is_refused_in_a_sentence(data, changes, words):
    recipe = replace(CompareRecipe(TASK, data), **changes)
    with pytest.raises(ValueError, match=words):
        combinations(recipe)


def test_one_seed_is_trained_without_the_axis_of_seeds_and_with_it_all_the_same():
    """Bit for bit what the plain program makes of the same state, with the axis put back."""
    nets = tiny_nets()
    phase = Phase("online", find_method("sac"), env_steps=10, batch_size=4, shares={"offline": 0.5, "online": 0.5})
    state, rows = tiny_state(nets, phase.method), random_batch(0, 12)
    columns = {"offline": rows, "online": jax.tree.map(lambda x: x[None], rows)}
    sizes = {"offline": 12, "online": 9}
    found, metrics = jax.jit(seeds_program(nets, phase, phase.method, 1))(stack([state]), columns, sizes, 2, 3)
    sources = {"offline": (rows, 12), "online": (rows, 9)}
    expected, plain = jax.jit(program(nets, phase, phase.method))(state, sources, 2, 3)
    assert_same(member(found, 0), expected)
    assert {name: x.shape for name, x in metrics.items()} == dict.fromkeys(plain, (1,))
