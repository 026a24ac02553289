"""What is measured on learning curves, by hand and against laws that any curve obeys."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.learning_curves import asymptote, catastrophic_failure, first_quarter, normalized_regret, regret

STEPS = [0, 100, 200, 400]
# One seed dips, one falls late, one only rises.
SUCCESS = [[0.8, 0.2, 0.5, 1.0], [0.6, 0.6, 0.4, 0.0], [0.1, 0.2, 0.3, 0.9]]
rate = st.floats(0.0, 1.0)


@st.composite
def curves(draw):
    """Steps that rise from anywhere and one to four seeds of at least two evaluations."""
    gaps = draw(st.lists(st.integers(1, 50_000), min_size=1, max_size=12))
    steps = draw(st.integers(0, 10_000)) + np.cumsum([0, *gaps])
    row = st.lists(rate, min_size=len(steps), max_size=len(steps))
    return steps, np.array(draw(st.lists(row, min_size=1, max_size=4)))


def test_catastrophic_failure_by_hand():
    np.testing.assert_allclose(catastrophic_failure(STEPS, SUCCESS, 200), [0.6, 0.2, 0.0])
    np.testing.assert_allclose(catastrophic_failure(STEPS, SUCCESS, 199), [0.6, 0.0, 0.0])
    np.testing.assert_allclose(catastrophic_failure(STEPS, SUCCESS, 400), [0.6, 0.6, 0.0])


def test_the_window_begins_at_the_first_evaluation():
    later = [n + 5000 for n in STEPS]
    np.testing.assert_allclose(catastrophic_failure(later, SUCCESS, 100), [0.6, 0.0, 0.0])


@pytest.mark.parametrize("window", [99, 0, -1, float("nan")])
def test_a_window_that_holds_nothing_is_refused_rather_than_called_no_failure(window):
    with pytest.raises(ValueError, match="no evaluation lies within"):
        catastrophic_failure(STEPS, SUCCESS, window)


def test_one_evaluation_says_nothing_about_failure():
    with pytest.raises(ValueError, match="no evaluation lies within"):
        catastrophic_failure([0], [[0.5]], 100_000)


@pytest.mark.parametrize(
    ("steps", "quarter"), [([0, 400_000], 100_000), ([1000, 2000, 5000], 1000), ([0, 10], 2), ([7], 0)]
)
def test_the_first_quarter(steps, quarter):
    assert first_quarter(steps) == quarter


@given(curves(), st.integers(1, 600_000), st.integers(0, 600_000))
def test_laws_of_catastrophic_failure(curve, window, more):
    steps, success = curve
    window += steps[1] - steps[0]
    found = catastrophic_failure(steps, success, window)
    assert found.shape == (len(success),)
    assert (found >= 0).all()
    assert (found <= success[:, 0]).all()
    assert (catastrophic_failure(steps, success, window + more) >= found).all()  # a longer window finds no less
    rising = np.sort(success, axis=1)
    assert not catastrophic_failure(steps, rising, window).any()
    np.testing.assert_array_equal(catastrophic_failure(steps, success[::-1], window), found[::-1])


def test_asymptote_by_hand():
    steps = np.arange(0, 1100, 100)
    success = np.arange(11)[None, :] / 10
    # The last tenth: 900 and 1000. The last half: 500 to 1000. The last hundredth: only the last.
    for share, expected in ((0.1, 0.95), (0.5, 0.75), (0.01, 1.0), (1.0, 0.5)):
        assert asymptote(steps, success, share) == pytest.approx([expected])
    assert asymptote(steps, success) == pytest.approx([0.95])


def test_the_last_share_is_one_of_steps_and_not_of_evaluations():
    # Seven of nine evaluations lie in the first tenth of the steps.
    steps = [0, 10, 20, 30, 40, 50, 60, 900, 1000]
    assert asymptote(steps, [[0.0] * 7 + [0.4, 0.8]], 0.5) == pytest.approx([0.6])


@pytest.mark.parametrize("percent", [1, 41, 57, 82])  # of 100 evaluations after the first; 0.57 * 400 rounds below 228
def test_an_evaluation_at_the_edge_of_the_last_share_counts(percent):
    success = np.zeros((1, 101))
    success[0, 100 - percent] = 1.0
    assert asymptote(np.arange(101) * 4, success, percent / 100) == pytest.approx([1 / (percent + 1)])


def test_the_last_share_is_one_of_the_run_wherever_it_begins():
    assert asymptote([10_000, 10_100, 10_200], [[0.0, 0.4, 0.8]], 0.5) == pytest.approx([0.6])


def test_soar_asymptote_is_that_of_its_last_50k_steps():
    steps = np.arange(0, 400_001, 25_000)
    success = np.where(steps >= 350_000, 0.9, 0.1)[None, :]
    assert asymptote(steps, success, 1 / 8) == pytest.approx([0.9])


@pytest.mark.parametrize("share", [0.0, -0.1, 1.1, float("nan")])
def test_an_impossible_share_is_refused(share):
    with pytest.raises(ValueError, match="share is"):
        asymptote(STEPS, SUCCESS, share)


@given(curves(), st.floats(1e-6, 1.0))
def test_laws_of_the_asymptote(curve, share):
    steps, success = curve
    found = asymptote(steps, success, share)
    assert found.shape == (len(success),)
    assert (found >= success.min(axis=1) - 1e-12).all()
    assert (found <= success.max(axis=1) + 1e-12).all()
    np.testing.assert_allclose(asymptote(steps, success, 1.0), success.mean(axis=1))
    np.testing.assert_allclose(asymptote(steps, np.full_like(success, 0.3), share), 0.3)


def test_regret_by_hand():
    # Misses 0.2, 0.8, 0.5, 0: trapezoids 50 + 65 + 50 = 165 of 400 steps.
    # Misses 0.4, 0.4, 0.6, 1: 40 + 50 + 160 = 250. Misses 0.9, 0.8, 0.7, 0.1: 85 + 75 + 80 = 240.
    np.testing.assert_allclose(regret(STEPS, SUCCESS), [165 / 400, 250 / 400, 240 / 400])


def test_regret_of_a_straight_rise_is_a_half_however_it_was_evaluated():
    for steps in ([0, 1000], [0, 10, 20, 1000], list(range(0, 1001, 50))):
        assert regret(steps, [np.array(steps) / 1000]) == pytest.approx([0.5])


def test_regret_of_one_evaluation_is_what_it_missed():
    np.testing.assert_allclose(regret([500], [[0.75], [0.0]]), [0.25, 1.0])


@given(curves(), st.integers(0, 10**6), st.sampled_from([2, 1000]))
def test_laws_of_regret(curve, shift, scale):
    steps, success = curve
    found = regret(steps, success)
    assert found.shape == (len(success),)
    assert (found >= (1 - success).min(axis=1) - 1e-12).all()
    assert (found <= (1 - success).max(axis=1) + 1e-12).all()
    # Neither the unit of steps nor where they begin matters, nor an evaluation that confirms what lies between its neighbours.
    np.testing.assert_allclose(regret(steps * scale + shift, success), found, atol=1e-9)
    middle = (steps[0] + steps[1]) / 2
    between = success[:, :2].mean(axis=1, keepdims=True)
    more = np.concatenate([success[:, :1], between, success[:, 1:]], axis=1)
    np.testing.assert_allclose(regret(np.insert(steps.astype(float), 1, middle), more), found, atol=1e-9)
    np.testing.assert_allclose(regret(steps, 1 - success), 1 - found, atol=1e-9)


def test_normalized_regret_by_hand():
    found = normalized_regret({"a": [0.2, 0.4], "b": [0.8], "c": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]})
    assert found == pytest.approx({"a": 0.0, "b": 1.0, "c": 0.1})


@given(st.dictionaries(st.text(max_size=3), st.lists(rate, min_size=1, max_size=4), min_size=1, max_size=6))
def test_laws_of_normalized_regret(regrets):
    found = normalized_regret(regrets)
    assert list(found) == list(regrets)
    means = np.array([np.mean(x) for x in regrets.values()])
    values = np.array(list(found.values()))
    assert (np.diff(values[np.argsort(means)]) >= 0).all()
    assert values.min() == 0.0
    assert values.max() == (1.0 if means.max() > means.min() else 0.0)


@pytest.mark.parametrize(
    ("regrets", "words"),
    [
        ({}, "there are none"),
        ({"a": []}, "'a'"),
        ({"a": [0.1], "b": 0.5}, "'b'"),
        ({"a": [[0.1]]}, "'a'"),
        ({"a": [0.1], "b": [0.5, float("nan")]}, "'b'"),
    ],
)
def test_regrets_that_cannot_be_compared_are_refused(regrets, words):
    with pytest.raises(ValueError, match=words) as refusal:
        normalized_regret(regrets)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("measure", [asymptote, regret, lambda x, y: catastrophic_failure(x, y, 300)])
@pytest.mark.parametrize(
    ("steps", "success", "words"),
    [
        ([], [[]], "at least one evaluation"),
        (3, [[0.5]], "at least one evaluation"),
        ([[0, 100]], [[0.5, 0.5]], "at least one evaluation"),
        ([0, 100], [0.5, 0.5], r"as \(S, T\)"),
        ([0, 100], [[0.5, 0.5, 0.5]], r"as \(S, T\)"),
        ([0, 100], [[0.5], [0.5]], r"as \(S, T\)"),
        ([0, 100], np.zeros((0, 2)), r"as \(S, T\)"),
        ([100, 0], [[0.5, 0.5]], "do not rise"),
        ([0, 100, 100], [[0.5, 0.5, 0.5]], "do not rise"),
        ([0, float("nan")], [[0.5, 0.5]], "do not rise"),
        ([0, float("inf")], [[0.5, 0.5]], "do not rise"),
        ([0, 100], [[0.5, 50.0]], "rates in 0..1"),
        ([0, 100], [[-0.1, 0.5]], "rates in 0..1"),
        ([0, 100], [[0.5, float("nan")]], "rates in 0..1"),
    ],
)
def test_a_malformed_curve_is_refused_in_one_sentence(measure, steps, success, words):
    with pytest.raises(ValueError, match=words) as refusal:
        measure(steps, success)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("steps", [[], [2, 1]])
def test_a_quarter_of_a_malformed_run_is_refused(steps):
    with pytest.raises(ValueError, match="learning curve"):
        first_quarter(steps)
