"""A lab's own task, in a file of its own: found by its path, and refused in one sentence where it is none."""

import os

import pytest

from robot_env.make import make_env
from robot_env.preflight import preflight
from robot_env.tasks import find_task, name_of, task_names, task_reference

MINE = """
from dataclasses import replace
from robot_env.tasks import find_task

TASK = replace(find_task("peg_insertion"), name={name!r}, max_steps=7)
"""


def written(folder, name="mine", text=None):
    path = folder / f"{name}.py"
    path.write_text(MINE.format(name=name) if text is None else text)
    return str(path)


def test_a_file_is_a_task_wherever_a_name_is(tmp_path, monkeypatch):
    path = written(tmp_path)
    task = find_task(path)
    preflight(task)
    assert (task.name, task.max_steps) == ("mine", 7)
    assert make_env(path).task == task
    monkeypatch.chdir(tmp_path)
    assert find_task("mine.py") is find_task("./mine.py") is task  # read once
    assert task_reference("sub/../mine.py") == path
    assert name_of(path) == "mine"
    assert "mine" not in task_names()
    with pytest.raises(ValueError, match=r"task 'mine' is unknown; .* or give a FILE\.py"):
        find_task("mine")


def test_a_name_is_its_own_reference():
    assert task_reference("peg_insertion") == name_of("peg_insertion") == "peg_insertion"


def test_one_file_may_build_on_another(tmp_path):
    first = written(tmp_path)
    second = (
        f"from dataclasses import replace\nfrom robot_env.tasks import find_task\nTASK = replace(find_task({first!r}), "
    )
    assert find_task(written(tmp_path, "next", second + 'name="next")')).max_steps == 7


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("mine", "", "it defines no TASK that is a robot_env.tasks.Task"),
        ("mine", "TASK = 3", "it defines no TASK"),
        ("mine", "TASK = nothing", r"reading it failed \(NameError: name 'nothing' is not defined\); correct it"),
        ("mine", "TASK = (", r"reading it failed \(SyntaxError: "),
        ("mine", "raise SystemExit(3)", r"reading it failed \(SystemExit: 3\)"),
        ("mine", "raise OSError('two\\nlines')", r"reading it failed \(OSError: two lines\)"),
        ("yours", MINE.format(name="mine"), "its task is named 'mine'; name it as its file, 'yours'"),
        ("peg_insertion", None, "there is a task 'peg_insertion' already"),
    ],
)
def test_what_is_no_task_is_refused_in_one_sentence(tmp_path, name, text, words):
    path = written(tmp_path, name, text)
    with pytest.raises(ValueError, match=words) as refusal:
        find_task(path)
    assert str(refusal.value).startswith(f"task file {path}: ")
    assert "\n" not in str(refusal.value)


def test_what_is_not_there_or_no_file_is_refused(tmp_path):
    (tmp_path / "folder.py").mkdir()
    (tmp_path / "folder.py" / "__main__.py").write_text("TASK = 1")
    (tmp_path / "bytes.py").write_bytes(b"\xff\x00\xfe")
    for name, words in (
        ("gone", "there is no such file"),
        ("folder", "there is no such file"),
        ("bytes", "reading it failed"),
    ):
        with pytest.raises(ValueError, match=words):
            find_task(os.path.join(tmp_path, f"{name}.py"))
