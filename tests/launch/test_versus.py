"""An evaluation against an earlier one: figures by hand, and what is refused."""

import json

import pytest

from launch.evaluate import Trial, score_of
from launch.versus import RESULT, compare, kind_of, read_earlier, versus

WON, LOST = [True] * 10 + [True] * 8 + [False] + [False], [True] * 10 + [False] * 8 + [True] + [False]
ABOUT = {
    "task": "peg",
    "arm": "twin",
    "arm_kind": "twin",
    "scene": {"clearance_m": 0.0004},
    "max_steps": 45,
    "hz": 10.0,
}
ABOUT |= {"resets": "fixed", "seed": 0, "reward": None}


def result(outcomes, mode="mode", **about):
    trials = [Trial(i, won, 20, None, float(won)) for i, won in enumerate(outcomes)]
    starts = [{"seed": 10_000 + i, "offset": [0.1 * i] * 6} for i in range(len(trials))]
    return {**ABOUT, mode: score_of(mode, trials).to_json(), "starts": starts, **about}


@pytest.fixture
def earlier(tmp_path):
    """Writes an earlier evaluation; returns its folder."""

    def write(value):
        (tmp_path / RESULT).write_text(value if isinstance(value, str) else json.dumps(value))
        return tmp_path

    return write


def test_the_same_trials_are_compared_one_by_one(earlier):
    found = compare(result(WON), read_earlier(earlier(result(LOST)), ABOUT, ("mode",)))
    assert found["mode"]["sentence"] == (
        "18/20 against 11/20: better with probability 0.99 (the same trials: 8 won, 1 lost, p = 0.039); "
        "success rate +0.35 (95% +0.07 to +0.57)"
    )
    assert found["mode"]["pairs"] == {"both": 10, "only_this": 8, "only_that": 1, "neither": 1}
    assert (found["mode"]["method"], found["warnings"]) == ("pairs", [])
    assert found["mode"]["p_value"] == pytest.approx(20 / 512)


def test_other_trials_are_compared_as_independent_rates_and_it_is_said(earlier):
    drawn = result(LOST, resets="drawn", seed=3, starts=[{"seed": i, "offset": None} for i in range(20)])
    found = compare(result(WON), read_earlier(earlier(drawn), ABOUT, ("mode",)))
    one = found["mode"]
    assert (one["method"], one["pairs"], one["p_value"]) == ("independent", None, None)
    assert one["better"] == pytest.approx(0.9926, abs=1e-4)
    assert "better with probability 0.99 (other trials: independent rates, uniform priors)" in one["sentence"]
    assert found["warnings"] == ["its starts and scenes (drawn, seed 3) are other ones than here (fixed, seed 0)"]


def test_another_judge_is_said_and_more_trials_are_compared_as_far_as_both_have_them(earlier):
    longer = result([*LOST, True, True], reward="judge")
    found = compare(result(WON), read_earlier(earlier(longer), ABOUT, ("mode", "sample")))
    assert found["mode"]["other_trials"] == 20
    assert found["warnings"] == ["it was judged by judge, this one by the task's geometry"]
    assert "sample" not in found


def test_what_is_beyond_doubt_is_not_called_certain():
    assert "probability above 0.99" in versus([True] * 40, [False] * 40, True).sentence
    assert "probability below 0.01" in versus([False] * 40, [True] * 40, False).sentence


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (result(LOST, task="plug"), "its task is plug, this one's is peg"),
        (result(LOST, arm_kind="franky"), "its arm is franky, this one's is twin"),
        (result(LOST, scene={"clearance_m": 0.001}), "its scene.clearance_m is 0.001, this one's is 0.0004"),
        (result(LOST, scene={}), "its scene.clearance_m is None"),
        (result(LOST, max_steps=500), "its max_steps is 500, this one's is 45"),
        (result(LOST, "sample"), "it acted by sample, this one by mode; give --modes sample"),
        (result(LOST, starts=None), "damaged or of another version"),
        (result(LOST) | {"mode": {"outcomes": []}}, "damaged or of another version"),
        (result(LOST) | {"mode": {"outcomes": [3]}}, "damaged or of another version"),
        ([], "damaged or of another version"),
        ("{", "is not JSON"),
    ],
)
def test_what_cannot_be_compared_is_refused_by_name(earlier, value, said):
    with pytest.raises(ValueError, match=r"--against|is not JSON") as refused:
        read_earlier(earlier(value), ABOUT, ("mode",))
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_kinds_of_arms():
    arms = ("twin", "franky:172.16.0.2", "franky", "serl:http://127.0.0.1:5000,simulated")
    assert [kind_of(arm) for arm in arms] == ["twin", "franky", "franky", "serl, simulated"]
