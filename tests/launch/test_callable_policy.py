"""A policy of one's own: what is loaded, and what is refused in a sentence."""

import numpy as np
import pytest

from agent.bridges import find_bridge
from launch.build import bridge_of
from launch.callable_policy import CallablePolicy
from launch.recipes import Online

SHAPES = {"state": (4,)}


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "import numpy as np\n\n"
        "def half(obs):\n    return 0.5 * np.ones((len(obs['state']), 2))\n\n"
        "def far(obs):\n    return 3.0 * np.ones((len(obs['state']), 2))\n\n"
        "def one(obs):\n    return np.zeros(2)\n\n"
        "def broken(obs):\n    return obs['picture']\n\n"
        "number = 3\n"
    )
    return path


def test_a_function_in_a_file_acts_on_batches(file):
    policy = CallablePolicy(f"{file}:half")
    policy.check(SHAPES, 2)
    actions = policy({"state": np.zeros((5, 4), np.float32)})
    assert actions.dtype == np.float32
    np.testing.assert_array_equal(actions, np.full((5, 2), 0.5))


def test_a_function_in_a_module_is_found_too():
    CallablePolicy("tests.launch.test_callable_policy:zeros").check(SHAPES, 2)


def zeros(obs):
    return np.zeros((len(obs["state"]), 2))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("far", r"makes \(2, 2\) numbers up to 3; the task wants actions \(2, 2\) in -1..1"),
        ("one", r"makes \(2,\) numbers"),
        ("broken", "made it fail: KeyError: 'picture'; correct it"),
        ("number", "has no function 'number'; correct the name"),
        ("absent", "has no function 'absent'; correct the name"),
    ],
)
def test_what_is_no_policy_is_refused(file, name, words):
    with pytest.raises(ValueError, match=words) as error:
        CallablePolicy(f"{file}:{name}").check(SHAPES, 2)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("nothing", "give FILE.py:NAME"),
        (":f", "give FILE.py:NAME"),
        ("absent.py:f", "importing absent.py failed: there is no such file"),
        ("no_such_module:f", "importing no_such_module failed"),
    ],
)
def test_where_it_is_has_to_be_said(where, words):
    with pytest.raises(ValueError, match=words):
        CallablePolicy(where).check(SHAPES, 2)


def test_a_file_that_fails_is_refused(tmp_path):
    (tmp_path / "bad.py").write_text("1 / 0\n")
    with pytest.raises(ValueError, match=r"importing .*bad.py failed: division by zero"):
        CallablePolicy(f"{tmp_path}/bad.py:f").check(SHAPES, 2)


def test_only_a_bridge_that_clones_takes_one():
    with pytest.raises(ValueError, match="bridge 'warm_up' takes no policy"):
        bridge_of(Online(policy="mine.py:half"))
    assert bridge_of(Online()) == find_bridge("warm_up")
