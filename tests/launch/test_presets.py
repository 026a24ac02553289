"""What the papers' presets hold is what the papers and WSRL's public code say, and everything made of them can be run."""

import math
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.bridges import bridge_names
from agent.methods import find_method
from agent.types import at_step
from launch.build import networks_of, offline_phase, online_plan
from launch.compare import CompareRecipe, combinations
from launch.paper_presets import PAPER_PRESETS
from launch.presets import PRESETS, find_preset, preset_for
from launch.recipe_files import read_recipe, to_json
from launch.recipes import FinetuneRecipe, PretrainRecipe
from launch.runs import write_json
from launch.tasks import find_task, task_names

WSRL = ("wsrl/antmaze", "wsrl/adroit", "wsrl/kitchen", "wsrl/locomotion")
# Name: domain whose networks are WSRL's, task, lambda_0, T_lambda, T_alpha, offline updates, alpha_0 (SOAR, Table 1).
SOAR = {
    "soar/antmaze-large-diverse": ("wsrl/antmaze", "antmaze-large-diverse", 0.75, 40_000, 80_000, 1_000_000, 5.0),
    "soar/antmaze-large-play": ("wsrl/antmaze", "antmaze-large-play", 0.25, 40_000, 80_000, 1_000_000, 5.0),
    "soar/antmaze-ultra-diverse": ("wsrl/antmaze", "antmaze-ultra-diverse", 0.25, 40_000, 40_000, 1_000_000, 5.0),
    "soar/adroit-door": ("wsrl/adroit", "door-binary", 0.25, 20_000, 40_000, 40_000, 1.0),
    "soar/adroit-pen": ("wsrl/adroit", "pen-binary", 0.75, 40_000, 80_000, 40_000, 1.0),
    "soar/kitchen-partial": ("wsrl/kitchen", "kitchen-partial", 0.9, 80_000, 160_000, 250_000, 5.0),
    "soar/kitchen-mixed": ("wsrl/kitchen", "kitchen-mixed", 0.75, 20_000, 160_000, 250_000, 5.0),
}
every_preset = pytest.mark.parametrize("name", list(PRESETS))
every_paper_preset = pytest.mark.parametrize("name", [preset.name for preset in PAPER_PRESETS])


def coef_of(name: str, method: str) -> dict:
    """All coefficients of a method under a preset."""
    return {**find_method(method).coef, **find_preset(name).coef.get(method, {})}


def test_the_papers_presets_are_these():
    assert [preset.name for preset in PAPER_PRESETS] == [*WSRL, *SOAR]


@every_preset
def test_a_preset_says_what_it_is_for_and_where_it_is_from(name):
    preset = PRESETS[name]
    assert preset.name == name
    assert re.fullmatch(r"[a-z]+/[a-z0-9-]+", name)
    assert preset.source
    assert preset.tasks
    assert len(set(preset.tasks)) == len(preset.tasks)
    assert set(preset.tasks) <= set(task_names())


@every_paper_preset
def test_what_all_the_papers_presets_share(name):
    preset = find_preset(name)
    learning = preset.learning
    assert (learning.actor_lr, learning.critic_lr, learning.temperature_lr) == (1e-4, 3e-4, 1e-4)
    assert (learning.tau, learning.temperature, learning.target_entropy) == (0.005, 1.0, None)
    networks = learning.networks
    assert (networks.critics, networks.members_per_target, networks.layer_norm) == (10, 2, True)
    assert preset.online.replay_capacity == 2_000_000
    assert (preset.evaluation.trials, preset.evaluation.every_env_steps, preset.evaluation.headline) == (
        20,
        20_000,
        "mode",
    )
    assert {find_task(task).discount for task in preset.tasks} == {0.99}
    # 10 uniform actions, 10 of the policy here and 10 there; offline the target takes the best of 10.
    for method in ("cql", "calql", "cql_lagrange", "calql_lagrange"):
        assert (coef_of(name, method)["sampled_actions"], coef_of(name, method)["backup_actions"]) == (10, 10)


@pytest.mark.parametrize(
    ("name", "method", "updates", "critic", "actor", "std", "retained"),
    [
        ("wsrl/antmaze", "calql_lagrange", 1_000_000, (256,) * 4, (256,) * 2, "vector", 0.5),
        ("wsrl/adroit", "calql", 20_000, (512,) * 3, (512,) * 2, "state", 0.5),
        ("wsrl/kitchen", "calql", 250_000, (512,) * 3, (512,) * 3, "state", 0.25),
        ("wsrl/locomotion", "cql", 250_000, (256,) * 2, (256,) * 2, "state", 0.5),
    ],
)
def test_wsrls_numbers(name, method, updates, critic, actor, std, retained):
    preset = find_preset(name)
    networks = preset.learning.networks
    assert (networks.critic_hidden, networks.actor_hidden, networks.std) == (critic, actor, std)
    assert (preset.offline.method, preset.offline.updates, preset.offline.batch_size) == (method, updates, 256)
    online = preset.online
    assert (online.method, online.bridge, online.utd, online.batch_size) == ("sac_min", "warm_up", 4, 256)
    assert online.env_steps == 300_000
    assert preset.bridges["retain"] == {"offline_share": retained}
    assert preset.bridges["rlpd"] == {"offline_share": 0.5}
    assert preset.bridges["jump_start"] == {"probability": 0.5, "steps": 100_000, "gamma": 0.99}


@pytest.mark.parametrize(
    ("domain", "expectile", "inverse_temperature"),
    [("antmaze", 0.9, 10.0), ("adroit", 0.7, 0.5), ("kitchen", 0.7, 0.5), ("locomotion", 0.7, 3.0)],
)
def test_iqls_numbers(domain, expectile, inverse_temperature):
    found = [name for name in (*WSRL, *SOAR) if domain in name]
    assert found
    for name in found:
        coef = coef_of(name, "iql")
        assert (coef["expectile"], coef["inverse_temperature"]) == (expectile, inverse_temperature), name


@pytest.mark.parametrize(
    ("name", "methods", "coef", "value"),
    [
        ("wsrl/antmaze", ("cql_lagrange", "calql_lagrange"), "target_gap", 0.8),
        ("wsrl/adroit", ("cql", "calql"), "conservative", 1.0),
        ("wsrl/kitchen", ("cql", "calql"), "conservative", 5.0),
        ("wsrl/locomotion", ("cql", "calql"), "conservative", 5.0),
        *((name, ("cql", "calql"), "conservative", row[6]) for name, row in SOAR.items()),
    ],
)
def test_the_weight_of_the_penalty(name, methods, coef, value):
    """Under the preset, and in the pre-training that it stands for."""
    preset = find_preset(name)
    assert preset.offline.method in methods
    assert preset.offline.coef[coef] == value
    for method in methods:
        assert preset.offline_with(method).coef[coef] == value
        assert preset.online_with(method, "retain").coef[coef] == value


@pytest.mark.parametrize("name", SOAR)
def test_soars_numbers(name):
    wsrl, task, share, share_steps, weight_steps, updates, _ = SOAR[name]
    preset = find_preset(name)
    assert preset.tasks == (task,)
    assert preset.learning == find_preset(wsrl).learning
    assert (preset.offline.method, preset.offline.updates, preset.offline.batch_size) == ("cql", updates, 512)
    online = preset.online
    assert (online.method, online.bridge, online.utd, online.batch_size) == ("cql", "anneal", 1, 512)
    assert online.env_steps == 400_000
    assert online.bridge_settings == {
        "share": share,
        "share_steps": share_steps,
        "rate": 5.0,
        "weight_steps": weight_steps,
        "warm_up": 5_000,
    }
    assert ("blank" in preset.source) == (name in ("soar/adroit-pen", "soar/kitchen-mixed"))  # r in the print


@given(name=st.sampled_from(list(SOAR)), step=st.integers(0, 200_000))
def test_soars_schedules_are_algorithm_1s(name, step):
    _, _, share, share_steps, weight_steps, _, weight = SOAR[name]
    warm_up, online = online_plan(find_preset(name).online)[1:]
    assert (warm_up.method, warm_up.env_steps, online.env_steps) == (None, 5_000, 395_000)
    shares = at_step(online.shares, step)
    assert float(shares["offline"]) == pytest.approx(max(0.0, share * (1 - step / share_steps)), abs=1e-6)
    decayed = weight * math.exp(-5.0 * step / weight_steps) if step < weight_steps else 0.0
    assert float(at_step(online.coef, step)["conservative"]) == pytest.approx(decayed, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("name", WSRL)
def test_wsrls_plan_collects_frozen_then_learns_without_the_data(name):
    warm_up, online = online_plan(find_preset(name).online)[1:]
    assert (warm_up.method, warm_up.env_steps, warm_up.minibatches) == (None, 5_000, 0)
    assert (online.env_steps, online.minibatches) == (295_000, 4 * 295_000)
    assert at_step(online.shares, 0) == {"online": 1.0}


@pytest.mark.parametrize(
    ("domain", "scale", "shift", "limits"),
    [
        ("antmaze", 10.0, -5.0, {700, 1000, 2000}),
        ("adroit", 10.0, 5.0, {100, 200}),
        ("kitchen", 1.0, -4.0, {280}),
        ("locomotion", 1.0, 0.0, {1000}),
    ],
)
def test_rewards_and_limits_of_the_tasks(domain, scale, shift, limits):
    tasks = [find_task(task) for preset in PAPER_PRESETS if domain in preset.name for task in preset.tasks]
    assert {(task.reward_scale, task.reward_shift) for task in tasks} == {(scale, shift)}
    assert {task.max_steps for task in tasks} == limits


@every_preset
def test_all_that_a_preset_names_can_be_run(name):
    """Its own methods, every other that it has numbers for, and every bridge, with or without numbers of its own."""
    preset = PRESETS[name]
    offline = offline_phase(preset.offline)
    for task in preset.tasks:
        nets = networks_of(find_task(task), preset.learning)
        assert set(offline.method.updated) <= set(nets.modules)
    for method, coef in preset.coef.items():
        if not find_method(method).not_offline:
            assert offline_phase(preset.offline_with(method)).coef == coef
        if not find_method(method).not_online:
            phase = online_plan(preset.online_with(method, "warm_up"), offline)[-1]
            assert at_step(phase.coef, 0) == pytest.approx(dict(coef))  # where it begins: some fall from there
    for method in preset.online_of:
        assert online_plan(preset.online_with(method, "warm_up"), offline)[-1].minibatches > 0
    assert set(preset.bridges) <= set(bridge_names())
    for bridge in bridge_names():
        online_plan(preset.online_with(preset.online.method, bridge), offline)


def test_ppos_numbers():
    """Schulman et al. 2017, Table 3; shorter rollouts where a run is short."""
    paper = find_preset("wsrl/locomotion").online_with("ppo", "direct")
    assert (paper.block, paper.utd, paper.batch_size, paper.env_steps) == (2048, 10, 64, 300_000)
    (phase,) = online_plan(preset_for("narrow_passage").online_with("ppo", "direct"))[1:]
    assert (phase.rollout, phase.utd, phase.batch_size, phase.minibatches) == (500, 10, 125, 20 * 10 * 4)
    coef = find_method("ppo").coef
    assert (coef["clip"], coef["gae_lambda"], coef["entropy"]) == (0.2, 0.95, 0.0)


@every_preset
def test_a_preset_can_be_compared(name):
    preset = PRESETS[name]
    methods = {"offline": (preset.offline.method,), "online": (preset.online.method,)}
    recipe = CompareRecipe(preset.tasks[0], "data", preset=name, bridge=tuple(bridge_names()), **methods)
    cells, refused = combinations(recipe)
    assert not refused
    assert {cell.bridge for cell in cells} == set(bridge_names())


@every_paper_preset
def test_a_papers_own_methods_asked_for_by_name_are_the_papers(name):
    preset = find_preset(name)
    assert preset.online_with(preset.online.method, preset.online.bridge) == preset.online
    assert preset.offline_with(preset.offline.method) == preset.offline


@every_preset
def test_its_recipes_are_saved_and_read_again(name, tmp_path):
    preset = PRESETS[name]
    pretrain = PretrainRecipe("data", preset.tasks[0], 0, preset.learning, preset.offline)
    finetune = FinetuneRecipe(
        task=preset.tasks[0], learning=preset.learning, online=preset.online, evaluation=preset.evaluation
    )
    for recipe in (pretrain, finetune):
        write_json(tmp_path / "recipe.json", to_json(recipe))
        assert read_recipe(tmp_path / "recipe.json") == recipe


def test_no_preset_changes_another():
    """What a preset is made into may be edited; the preset stays."""
    preset = find_preset("wsrl/adroit")
    before = replace(preset, coef={name: dict(coef) for name, coef in preset.coef.items()})
    preset.online_with("cql", "retain").coef["conservative"] = 7.0
    preset.online_with("cql", "retain").bridge_settings["offline_share"] = 0.9
    preset.offline_with("cql").coef["conservative"] = 7.0
    assert preset == before


def test_an_unknown_preset_is_refused_with_the_names():
    with pytest.raises(ValueError, match=r"preset 'wsrl/doors' is unknown; .*wsrl/adroit.*soar/kitchen-mixed"):
        find_preset("wsrl/doors")


def test_a_papers_preset_is_never_taken_unasked():
    assert preset_for("narrow_passage").name == "segue/passage"
    with pytest.raises(
        ValueError, match=r"task 'kitchen-mixed' has no preset of ours; give --preset, one of .*wsrl/kitchen"
    ):
        preset_for("kitchen-mixed")
