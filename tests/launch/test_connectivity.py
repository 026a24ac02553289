"""How policies are connected: what a line and a plane say is what each policy does alone."""

import json
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path

import cv2
import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.adopt import first_state
from agent.diagnostics import line
from agent.heads import Networks
from agent.methods import find_method
from agent.types import Normalizer
from launch import connectivity
from launch.attendant import nobody
from launch.build import networks_of, obs_shapes_of
from launch.checkpoint import Checkpoints
from launch.connectivity import between, connect, read_policies, survey
from launch.evaluate import Evaluator
from launch.policies import load_policy
from launch.recipes import Learning
from launch.tasks import find_task, make_env

HOPPER, PASSAGE = "hopper", "narrow_passage"  # a random hopper's score tells policies apart
LEARNING = Learning(Networks((8,), (8,), critics=2), temperature=0.1)
TRIALS = 2


def write_run(
    folder: Path, seed=0, actor=None, task=HOPPER, learning=LEARNING, method="sac", mean=0.0, seeds=()
) -> Path:
    """A run's folder with an untrained policy, or with the parameters `actor`."""
    shapes, nets = obs_shapes_of(find_task(task)), networks_of(find_task(task), learning)
    normalizer = Normalizer(
        {name: np.full(shape, mean) for name, shape in shapes.items()},
        {name: np.ones(shape) for name, shape in shapes.items()},
    )
    if actor is None:
        actor = first_state(nets, find_method("bc"), normalizer, jax.random.key(seed)).params["actor"]
    meta = {"task": task, "learning": asdict(learning), "method": method, "version": 1, "finished": True}
    checkpoints = Checkpoints(folder / "checkpoint")
    saved = {"params": {"actor": actor}, "normalizer": {"mean": normalizer.mean, "std": normalizer.std}}
    checkpoints.save({"nothing": np.zeros(1)}, saved, json.loads(json.dumps(meta)))
    checkpoints.close()
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> list[Path]:
    """Three random policies of one task."""
    folder = tmp_path_factory.mktemp("runs")
    return [write_run(folder / "abc"[i] / "run", i) for i in range(3)]


def actor_of(folder: Path):
    return load_policy(folder)[0].params["actor"]


def alone(folder: Path) -> tuple[float, float]:
    """Score and return of one policy's most likely actions, as `segue evaluate` has them."""
    now, nets, _ = load_policy(folder)
    with closing(make_env(find_task(HOPPER))) as env:
        found = Evaluator(env, nets, TRIALS, 0, nobody)(now, "mode")
    return found.normalized / 100, float(np.mean([trial.raw_return for trial in found.outcomes]))


def coloured(path: Path) -> float:
    """The share of a picture that is not grey."""
    picture = cv2.imread(str(path)).astype(int)
    return float(np.mean(np.ptp(picture, axis=-1) > 30))


def test_a_line_holds_what_each_of_its_policies_does_alone(runs, segue, tmp_path):
    a, b, _ = runs
    code, out, _ = segue("connect", a, b, "--out", tmp_path / "x.png", "--points", 5, "--trials", TRIALS, "--json")
    found = json.loads(out)
    assert code == 0
    assert [row["t"] for row in found["line"]] == [0.0, 0.25, 0.5, 0.75, 1.0]
    quarter = jax.tree.map(lambda x, y: 0.75 * x + 0.25 * y, actor_of(a), actor_of(b))
    mixed = write_run(tmp_path / "mixed", actor=quarter)
    scores = []
    for row, folder in ((0, a), (1, mixed), (4, b)):
        assert (found["line"][row]["score"], found["line"][row]["return"]) == pytest.approx(alone(folder), rel=1e-3)
        scores.append(found["line"][row]["score"])
    assert len({round(score, 4) for score in scores}) == 3
    score = np.array([row["score"] for row in found["line"]])
    assert {name: found[name] for name in ("barrier", "barrier_t", "valley")} == between(np.linspace(0, 1, 5), score)
    assert coloured(tmp_path / "x.png") > 0.002
    assert [path.name for path in tmp_path.glob("*.png")] == ["x.png"]


def test_a_plane_holds_what_each_of_its_policies_does_alone(runs, tmp_path, monkeypatch):
    monkeypatch.setattr(connectivity, "TOGETHER", 4)  # seven places: rounds of four, with one place more
    found = connect(runs, tmp_path / "x.png", connectivity.POINTS, 2, TRIALS, "mode")
    for point, folder in zip(found["points"], runs, strict=True):
        assert (point["score"], point["return"]) == pytest.approx(alone(folder), rel=1e-3)
    flat = [np.concatenate([np.ravel(x) for x in jax.tree.leaves(actor_of(run))]).astype(float) for run in runs]
    u, w = flat[1] - flat[0], flat[2] - flat[0]
    along = w @ u / (u @ u)
    assert [(point["x"], point["y"]) for point in found["points"]] == [(0, 0), (1, 0), (pytest.approx(along), 1)]
    assert found["length"] == pytest.approx([np.linalg.norm(u), np.linalg.norm(w - along * u)], rel=1e-4)
    low, high = min(0.0, along), max(1.0, along)
    assert found["x"] == pytest.approx([low - 0.2 * (high - low), high + 0.2 * (high - low)], rel=1e-5)
    assert found["y"] == pytest.approx([-0.2, 1.2])
    x, y = found["x"][1], found["y"][0]
    leaves = [jax.tree.leaves(actor_of(run)) for run in runs]
    mixed = [a + x * (b - a) + y * (c - a - along * (b - a)) for a, b, c in zip(*leaves, strict=True)]
    mixed = jax.tree.unflatten(jax.tree.structure(actor_of(runs[0])), [np.float32(leaf) for leaf in mixed])
    there = alone(write_run(tmp_path / "mixed", actor=mixed))
    assert (found["score"][0][1], found["return"][0][1]) == pytest.approx(there, rel=1e-3)
    assert len({round(score, 4) for score in np.ravel(found["score"])}) == 4
    assert coloured(tmp_path / "x.png") > 0.2


def test_sampled_actions_draw_the_same_numbers_at_every_place(runs, monkeypatch):
    monkeypatch.setattr(connectivity, "TOGETHER", 2)
    policies = read_policies(runs[:2], "sample")
    assert policies.names == ("a/run", "b/run")
    found = survey(policies, lambda some: line(*policies.actors, some), np.zeros(3), TRIALS, "sample")
    assert found[1].tolist() == pytest.approx([found[1][0]] * 3, rel=1e-6)
    assert found[1][0] != pytest.approx(alone(runs[0])[1], rel=1e-2)


@given(
    ends=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    dents=st.lists(st.floats(0, 1), min_size=1, max_size=8),
)
def test_the_barrier_is_the_deepest_dent_below_the_straight_line(ends, dents):
    ts = np.linspace(0, 1, len(dents) + 2)
    straight = ends[0] + ts * (ends[1] - ends[0])
    found = between(ts, straight - np.array([0.0, *dents, 0.0]))
    assert found["barrier"] == pytest.approx(max(dents), abs=1e-9)
    assert [0.0, *dents, 0.0][round(found["barrier_t"] * (len(dents) + 1))] == pytest.approx(max(dents), abs=1e-9)
    above = between(ts, straight + np.array([0.0, *dents, 0.0]))
    assert 0.0 <= above["barrier"] <= 1e-9
    assert above["valley"] == pytest.approx(0.0, abs=1e-9)


def test_a_score_that_only_rises_has_no_valley_but_may_have_a_barrier():
    found = between(np.linspace(0, 1, 5), np.array([0.2, 0.2, 0.3, 0.4, 1.0]))
    assert found == {"barrier": pytest.approx(0.4), "barrier_t": 0.75, "valley": 0.0}
    fallen = between(np.linspace(0, 1, 3), np.array([0.5, 0.1, 0.9]))
    assert fallen == {"barrier": pytest.approx(0.6), "barrier_t": 0.5, "valley": pytest.approx(0.4)}


def refused(outcome, *words: str) -> None:
    code, out, err = outcome
    assert (code, out, err.count("\n")) == (2, "", 1), outcome
    assert all(word in err for word in words), err


OTHERS = {
    "of tasks 'narrow_passage' and 'hopper": {"task": PASSAGE},
    "networks.actor_hidden [9] and [8]": {"learning": replace(LEARNING, networks=Networks((9,), (8,), critics=2))},
    "different observation statistics": {"mean": 0.5},
    "hold the same policy": {},
    "explore in different ways": {"method": "td3"},
}


@pytest.mark.parametrize("words", OTHERS)
def test_runs_that_do_not_fit_are_refused(words, runs, segue, tmp_path):
    other = write_run(tmp_path / "other", actor=actor_of(runs[0]), **OTHERS[words])
    refused(segue("connect", runs[0], other, "--out", tmp_path / "x.png", "--acting", "sample"), words, str(other))
    assert not (tmp_path / "x.png").exists()


def test_three_policies_on_one_line_are_refused(runs, segue, tmp_path):
    a, b, _ = runs
    beyond = jax.tree.map(lambda x, y: 2 * y - x, actor_of(a), actor_of(b))
    third = write_run(tmp_path / "third", actor=beyond)
    refused(segue("connect", a, b, third, "--out", tmp_path / "x.png"), "lie on one line", "third")


@pytest.mark.parametrize(
    ("count", "flags", "words"),
    [
        (1, (), "names 1 runs"),
        (4, (), "names 4 runs"),
        (2, ("--points", 1), "--points 1"),
        (3, ("--grid", 1), "--grid 1"),
        (2, ("--grid", 5), "--grid: it is not used with 2 runs"),
        (3, ("--points", 5), "--points: it is not used with 3 runs"),
        (2, ("--trials", 0), "--trials 0"),
        (2, ("--out", "x.pdf"), "ends in .png"),
        (2, ("--out", "none/x.png"), "is not there"),
    ],
)
def test_a_command_that_makes_no_sense_is_refused(count, flags, words, runs, segue, tmp_path):
    folders = [*runs, tmp_path][:count]
    out = () if "--out" in flags else ("--out", tmp_path / "x.png")
    refused(segue("connect", *folders, *out, *flags), words)


def test_a_folder_without_a_run_is_refused(runs, segue, tmp_path):
    refused(segue("connect", runs[0], tmp_path, "--out", tmp_path / "x.png"), str(tmp_path), "no folder 'checkpoint'")
