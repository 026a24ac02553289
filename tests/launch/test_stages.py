"""Whole runs, small: end to end, the same under a seed, and taken up again after an interruption."""

import json
from dataclasses import replace

import jax
import numpy as np
import pytest

from agent.replay.entry import Step
from launch import training
from launch.actor import Performer
from launch.finetune import finetune_stage
from launch.learner import Learner
from launch.policies import load_policy
from launch.recipe_files import read_recipe
from launch.recipes import FinetuneRecipe
from launch.rehearse import area, rehearse, shrunk
from launch.runs import progress_bar, read_lines
from tests.launch.conftest import TINY
from tests.launch.kills import read_streams


def run(recipe: FinetuneRecipe, folder, resume: bool = False) -> None:
    with progress_bar() as progress:
        finetune_stage(recipe, folder, progress, resume, in_process=True)


def timeless(folder, name: str) -> list[dict]:
    return [{k: v for k, v in row.items() if k != "wall_s"} for row in read_lines(folder / f"{name}.jsonl")]


def assert_same_run(a, b) -> None:
    for name in ("scores", "episodes"):
        assert timeless(a, name) == timeless(b, name)
    one, other = load_policy(a)[0], load_policy(b)[0]
    assert one.version == other.version
    jax.tree.map(np.testing.assert_array_equal, one.params, other.params)


def test_rehearsal_end_to_end(tmp_path):
    with progress_bar() as progress:
        result = rehearse(TINY, tmp_path / "run", progress, in_process=True)
    folder = tmp_path / "run"
    assert json.loads((folder / "result.json").read_text()) == result
    for name in ("offline", "finetuned", "rlpd"):
        assert result[name]["trials"] == 2
        low, high = result[name]["ci95"]
        assert 0 <= low <= result[name]["success"] / 2 <= high <= 1
    assert result["env_steps"] == 240
    assert result["updates"] == 60 + (240 - 80) * 4  # offline, then four for each step after the warm-up
    assert [row["env_steps"] for row in read_lines(folder / "rlpd" / "scores.jsonl")][-1] == 240
    assert "</html>" in (folder / "report.html").read_text()
    assert (folder / "before.mp4").stat().st_size > 1000
    assert (folder / "after.mp4").stat().st_size > 1000
    assert read_recipe(folder / "recipe.json") == TINY
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("checkpoint/*")}
    with progress_bar() as progress:  # a finished run has nothing left to do
        again = rehearse(TINY, folder, progress, resume=True, video=False, in_process=True)
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("checkpoint/*")} == before
    assert again["by_mode"] == result["by_mode"]


def test_a_run_is_the_same_under_its_seed_and_another_under_another(tiny_finetune, tmp_path):
    run(tiny_finetune, tmp_path / "a")
    run(tiny_finetune, tmp_path / "b")
    assert_same_run(tmp_path / "a", tmp_path / "b")
    run(replace(tiny_finetune, seed=1), tmp_path / "c")
    one, other = load_policy(tmp_path / "a")[0], load_policy(tmp_path / "c")[0]
    assert not np.array_equal(one.params["actor"]["mean"]["kernel"], other.params["actor"]["mean"]["kernel"])


class Cut(KeyboardInterrupt):
    """Where a test interrupts a run."""


def cut_when_an_episode_has_ended(monkeypatch: pytest.MonkeyPatch, who: str, after: int) -> None:
    """Interrupts after that many env steps, at an episode's end: the actor that has told it, or the learner that learns it."""
    step, learn, over = Performer.step, Learner.learn, []

    def acts(self: Performer, *arguments) -> Step:
        taken = step(self, *arguments)
        over[:] = [taken.ends_episode and self.actor.env_steps >= after]
        if who == "actor" and over[0]:
            raise Cut
        return taken

    def learns(self: Learner, steps: int):
        if who == "learner" and over[-1:] == [True]:
            raise Cut
        return learn(self, steps)

    monkeypatch.setattr(Performer, "step", acts)
    monkeypatch.setattr(Learner, "learn", learns)


@pytest.mark.parametrize(("place", "who", "save_every_s"), [("device", "actor", 0.0), ("host", "learner", 0.5)])
def test_an_interrupted_run_ends_as_if_it_had_not_been(place, who, save_every_s, tiny_finetune, tmp_path, monkeypatch):
    """Taken up from a checkpoint at every turn, or from the journal alone."""
    recipe = replace(tiny_finetune, online=replace(tiny_finetune.online, replay=place))
    run(recipe, tmp_path / "whole")
    monkeypatch.setattr(training, "SAVE_EVERY_S", save_every_s)
    for after in (100, 180):
        with monkeypatch.context() as patch:
            cut_when_an_episode_has_ended(patch, who, after)
            with pytest.raises(Cut):
                run(recipe, tmp_path / "cut", resume=after > 100)
        with open(tmp_path / "cut" / "metrics.jsonl", "a") as file:
            file.write('{"phase": "online", "env_st')  # the line that was being written
    run(recipe, tmp_path / "cut", resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "cut")
    assert len(read_streams(tmp_path / "cut" / "journal")) == 3


def test_a_run_cut_in_an_episode_loses_no_transition_and_meets_its_budget(tiny_finetune, tmp_path, monkeypatch):
    """The arm moved on, so the rest of that episode is another one; what was told of it is learned from all the same."""
    step = Performer.step

    def cut(self: Performer, *arguments) -> Step:
        taken = step(self, *arguments)
        if self.actor.env_steps == 137:
            raise Cut
        return taken

    with monkeypatch.context() as patch:
        patch.setattr(Performer, "step", cut)
        with pytest.raises(Cut):
            run(tiny_finetune, tmp_path / "run")
    run(tiny_finetune, tmp_path / "run", resume=True)
    streams = read_streams(tmp_path / "run" / "journal")
    assert [sum(seen.sequence >= 0 for _, seen in rows) for rows in streams.values()] == [137, 240 - 137]
    policy, _, meta = load_policy(tmp_path / "run")
    assert (meta["env_steps"], meta["updates"], policy.version) == (240, (240 - 80) * 4, 60 + (240 - 80) * 4)


def test_exact_updates_per_environment_step(tiny_finetune, tmp_path):
    online = replace(tiny_finetune.online, utd=3, block=7)
    run(replace(tiny_finetune, online=online), tmp_path / "run")
    policy, _, meta = load_policy(tmp_path / "run")
    assert meta["updates"] == (240 - 80) * 3
    assert policy.version == 60 + (240 - 80) * 3
    assert sum(row["length"] for row in read_lines(tmp_path / "run" / "episodes.jsonl")) <= 240


def test_the_recipe_of_a_run_repeats_it(tiny_finetune, tmp_path, segue):
    run(tiny_finetune, tmp_path / "a")
    code, out, _ = segue("run", tmp_path / "a" / "recipe.json", "--out", tmp_path / "b", "--in-process", "--json")
    assert code == 0
    assert json.loads(out)["curve"][-1]["env_steps"] == 240
    assert_same_run(tmp_path / "a", tmp_path / "b")


def test_area_under_the_curve_by_hand():
    rows = [{"env_steps": s, "mode": {"success": n, "trials": 4}} for s, n in ((0, 0), (100, 4), (200, 2))]
    # (0 + 1) / 2 * 100 + (1 + 0.5) / 2 * 100 = 125, of 200
    assert area(rows, "mode", 200) == pytest.approx(0.625)


def test_what_was_shrunk_is_every_difference_and_no_more():
    named = {row["what"]: (row["paper"], row["here"]) for row in shrunk(TINY)}
    assert named["learning.networks.critics"] == (10, 3)
    assert named["online.bridge_settings.steps"] == (5000, 80)
    assert "online.utd" not in named
