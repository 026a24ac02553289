"""Fine-tuning in real time: late steps reach the run's own files from whichever process acts."""

import json
import time

import pytest

from agent.replay.entry import Step
from agent.replay.journal import JournalReader
from launch.recipes import Collect, CollectRecipe
from launch.runs import progress_bar, read_json, read_lines
from launch.stages import collect_stage

HZ, STEPS = 125.0, 40
SMALL = [
    "--learning.networks.actor-hidden=16",
    "--learning.networks.critic-hidden=16",
    "--learning.networks.critics=2",
    "--online.batch-size=16",
    "--online.utd=1",
    "--online.bridge=rlpd",
    f"--online.env-steps={STEPS}",
    "--evaluation.trials=1",
]


@pytest.fixture(scope="module")
def hopping(tmp_path_factory):
    """Data of a task with a fast rate, whose untrained episodes are short."""
    recipe = CollectRecipe(task="hopper", collect=Collect(transitions=200, behavior="random"))
    with progress_bar() as progress:
        return collect_stage(recipe, tmp_path_factory.mktemp("hopping") / "data", progress)


@pytest.mark.parametrize("where", [["--in-process"], []], ids=["one process", "two processes"])
def test_a_run_in_real_time_tells_of_its_late_steps(where, hopping, segue, tmp_path):
    start_s = time.monotonic()
    flags = ["--realtime", *SMALL, *where]
    code, _, said = segue("finetune", "--task", "hopper", "--data", hopping, "--out", tmp_path / "run", *flags)
    assert code == 0, said
    assert time.monotonic() - start_s > STEPS / HZ
    rate, episodes = read_json(tmp_path / "run" / "realtime.json"), read_lines(tmp_path / "run" / "episodes.jsonl")
    reader = JournalReader(tmp_path / "run" / "journal")
    steps = [entry.event for entry in reader.read(1000) if isinstance(entry.event, Step)]
    reader.close()
    late = [step.control["late_s"] > 0 for step in steps]
    assert rate["paced_steps"] == len(steps) == STEPS
    assert rate["late_steps"] == sum(late)
    whole = sum(row["length"] for row in episodes)
    assert sum(row["late_steps"] for row in episodes) == sum(late[:whole])
    assert rate["period_p50_ms"] >= 0.9 * 1000 / HZ
    assert f"late: {rate['late_steps']} of {STEPS} control steps" in " ".join(said.split())


def test_an_evaluation_in_real_time_says_how_well_it_held_its_rate(hopping, segue, tmp_path):
    segue("finetune", "--task", "hopper", "--data", hopping, "--out", tmp_path / "run", "--in-process", *SMALL)
    assert not (tmp_path / "run" / "realtime.json").exists()
    code, out, said = segue("evaluate", tmp_path / "run", "--trials", "1", "--realtime", "--json")
    assert code == 0, said
    found = json.loads(out)
    steps = sum(found[mode]["outcomes"][0]["env_steps"] for mode in ("mode", "sample"))
    assert found["realtime"]["paced_steps"] == steps
    code, out, _ = segue("evaluate", tmp_path / "run", "--trials", "1", "--json")
    assert "realtime" not in json.loads(out)


def test_several_seeds_have_no_real_time(hopping, segue, tmp_path):
    code, _, said = segue(
        "finetune",
        "--task",
        "hopper",
        "--data",
        hopping,
        "--out",
        tmp_path / "run",
        "--seeds",
        "2",
        "--realtime",
        *SMALL,
    )
    assert code == 2
    assert "--realtime: the twins of several seeds" in " ".join(said.split())
