"""Who may import whom, read from the source."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("agent", "encoders", "robot_env", "sim", "launch")
OURS = {*FOLDERS, "tests"}
MAY_IMPORT = {
    "agent": {"agent", "encoders"},
    "encoders": {"encoders"},
    "robot_env": {"robot_env"},
    "sim": {"sim", "robot_env"},
    "launch": {"launch", "agent", "encoders", "robot_env", "sim"},
}
SIMULATORS_AND_SOCKETS = {"gymnasium", "mujoco", "zmq"}
ARGUMENTS_LOGS_AND_SOCKETS = {
    "argparse",
    "tyro",
    "logging",
    "rich",
    "tensorboardX",
    "socket",
    "socketserver",
    "zmq",
    "http",
    "requests",
    "uvicorn",
    "fastapi",
    "starlette",
}
SERL_CLIENT = {ROOT / "robot_env" / "serl_http.py"}  # an arm that speaks to its own server


def files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def imported(tree: ast.AST) -> set[str]:
    """Full names of the modules that a piece of code imports, wherever in it."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: write the import from the top, not relative"
            found.add(node.module or "")
    return found


def imports(path: Path) -> set[str]:
    """Top-level names that a file imports."""
    return {name.split(".")[0] for name in imported(ast.parse(path.read_text()))}


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_imports_only_the_folders_it_may(folder):
    assert files(folder), f"{folder} holds no file: this test would prove nothing"
    for path in files(folder):
        assert imports(path) & OURS <= MAY_IMPORT[folder], path


def test_learning_knows_no_simulator_and_no_socket():
    for path in files("agent"):
        assert not imports(path) & SIMULATORS_AND_SOCKETS, path


def test_the_robot_side_needs_only_numpy_scipy_and_gymnasium():
    from robot_env.make import ARMS

    drivers = {ROOT / f"{module.replace('.', '/')}.py" for module, _ in ARMS.values()}  # bring their own library
    drivers |= SERL_CLIENT
    shared = set(files("robot_env")) - drivers
    assert len(shared) > 8
    for path in shared:
        assert imports(path) <= {"robot_env", "numpy", "scipy", "gymnasium"} | sys.stdlib_module_names, path


def test_the_twin_is_named_not_imported():
    make = ROOT / "robot_env" / "make.py"
    assert "sim" not in imports(make)
    assert '"sim.' in make.read_text()


@pytest.mark.parametrize("folder", [f for f in FOLDERS if f != "launch"])
def test_only_launch_parses_arguments_logs_or_opens_sockets(folder):
    for path in set(files(folder)) - SERL_CLIENT:
        assert not imports(path) & ARGUMENTS_LOGS_AND_SOCKETS, path
        calls = {
            n.func.id
            for n in ast.walk(ast.parse(path.read_text()))
            if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)
        }
        assert "print" not in calls, path


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("import sim.twin_arm as arm", {"sim.twin_arm"}),
        ("from agent.types import Batch", {"agent.types"}),
        ("def f():\n    import zmq", {"zmq"}),
        ("x = 'import zmq'", set()),
    ],
)
def test_the_reader_sees_every_import(code, names):
    assert imported(ast.parse(code)) == names
