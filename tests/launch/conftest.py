"""Recipes small enough to run in seconds, and the command line in this process."""

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

import robot_env.tasks
from agent.heads import Networks
from launch import cli
from launch.recipes import Collect, CollectRecipe, Evaluation, FinetuneRecipe, Learning, Offline, Online, PretrainRecipe
from launch.rehearse import QUICK
from launch.runs import progress_bar
from launch.stages import collect_stage, pretrain_stage

TINY = replace(
    QUICK,
    preset="tiny",
    learning=Learning(Networks((16, 16), (16, 16), critics=3), temperature=0.1),
    collect=Collect(transitions=600),
    offline=Offline("calql", {"conservative": 1.0, "sampled_actions": 2}, updates=60, batch_size=32),
    online=Online(bridge_settings={"steps": 80}, env_steps=240, batch_size=32, replay_capacity=200),
    evaluation=Evaluation(trials=2, every_env_steps=100),
)


@pytest.fixture(scope="session", autouse=True)
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where compiled programs are kept, of all test processes: every run of a test compiles the same ones again."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "compiled"
    folder.mkdir(exist_ok=True)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    compilation_cache.reset_cache()  # it is opened at the first compilation, and stays as it was then
    yield folder
    jax.config.update("jax_compilation_cache_dir", None)
    compilation_cache.reset_cache()


@pytest.fixture(scope="package", autouse=True)
def compiled_in_a_hurry() -> Iterator[None]:
    """Programs of this folder are small and run for seconds, here and in the processes that tests start: half of that time was
    their optimisation. Those of `tests/agent` compute, and are compiled as a user's are."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
        before = jax.config.read("jax_disable_most_optimizations")
        jax.config.update("jax_disable_most_optimizations", True)
        yield
        jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture(scope="session")
def data_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small data set."""
    with progress_bar() as progress:
        return collect_stage(CollectRecipe(collect=TINY.collect), tmp_path_factory.mktemp("data") / "data", progress)


@pytest.fixture(scope="session")
def pretrained(data_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pre-trained run."""
    folder = tmp_path_factory.mktemp("pretrained") / "pretrain"
    recipe = PretrainRecipe(str(data_file), learning=TINY.learning, offline=TINY.offline)
    with progress_bar() as progress:
        pretrain_stage(recipe, folder, progress)
    return folder


@pytest.fixture
def tiny_finetune(pretrained: Path) -> FinetuneRecipe:
    """A fine-tuning that takes a few seconds."""
    return FinetuneRecipe(str(pretrained), learning=TINY.learning, online=TINY.online, evaluation=TINY.evaluation)


@pytest.fixture
def segue(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs a command: `(exit code, standard output, standard error)`."""

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["segue", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def _extra_task(name: str, line: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (folder / f"{name}.py").write_text(
        "from dataclasses import replace\n\nfrom robot_env.tasks.peg_insertion import TASK as PEG\n\n"
        f"TASK = replace(PEG, name={name!r}, {line})\n"
    )
    monkeypatch.setattr(robot_env.tasks, "__path__", [*robot_env.tasks.__path__, str(folder)])
    return name


@pytest.fixture
def another_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The name of a task that is one new file: a shorter peg insertion."""
    yield _extra_task("quick_peg", "max_steps=40", tmp_path, monkeypatch)
    sys.modules.pop("robot_env.tasks.quick_peg", None)


@pytest.fixture
def upside_down_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The name of a task whose box has its low corner above its high one."""
    yield _extra_task("upside_down", "low=PEG.high, high=PEG.low", tmp_path, monkeypatch)
    sys.modules.pop("robot_env.tasks.upside_down", None)
