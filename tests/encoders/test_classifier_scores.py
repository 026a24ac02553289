"""Counts, curves, thresholds and calibration of scores with labels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit

from encoders.classifier_scores import calibration_error, choose_threshold, count, curve, fit_temperature

pairs = st.lists(st.tuples(st.integers(0, 40), st.booleans()), min_size=1, max_size=40)
shares = st.floats(0.0, 1.0)


def judged(rows):
    """Scores with many ties, and labels with at least one success."""
    score = np.array([x for x, _ in rows], float) / 40.0
    label = np.array([y for _, y in rows])
    label[0] = True
    return score, label


def test_a_confusion_matrix_by_hand():
    score, label = np.array([0.9, 0.8, 0.5, 0.4, 0.1]), np.array([True, False, True, True, False])
    counts = count(score, label, 0.5)  # a score at the threshold is not above it
    assert (counts.true_positives, counts.false_positives, counts.false_negatives, counts.true_negatives) == (
        1,
        1,
        2,
        1,
    )
    assert (counts.precision, counts.recall) == (0.5, pytest.approx(1 / 3))


def test_what_cannot_be_told_is_none():
    nothing = count(np.array([0.1, 0.2]), np.array([False, False]), 0.5)
    assert (nothing.precision, nothing.recall) == (None, None)


@given(pairs)
def test_the_curve_tells_what_counting_at_its_thresholds_tells(rows):
    score, label = judged(rows)
    thresholds, precision, recall = curve(score, label)
    assert (np.diff(thresholds) > 0).all()
    for t, p, r in zip(thresholds, precision, recall, strict=True):
        counts = count(np.clip(score, 1e-12, 1 - 1e-12), label, t)
        assert (counts.precision, counts.recall) == (pytest.approx(p), pytest.approx(r))
    assert recall[0] == 1.0


@given(pairs, shares, shares, shares)
def test_a_threshold_rises_with_the_precision_asked_for_and_as_less_recall_is(rows, precision, recall, other):
    score, label = judged(rows)
    here = choose_threshold(score, label, precision, recall)
    more, less = choose_threshold(score, label, max(precision, other), recall), min(recall, other)
    assert 0.0 < here <= more < 1.0
    assert here <= choose_threshold(score, label, precision, less)


@given(pairs, shares, shares)
def test_a_threshold_gives_the_precision_asked_for_where_that_can_be_had(rows, precision, recall):
    score, label = judged(rows)
    best = curve(score, label)[1].max()
    found = count(np.clip(score, 1e-12, 1 - 1e-12), label, choose_threshold(score, label, precision, recall))
    if choose_threshold(score, label, precision, recall) == choose_threshold(score, label, precision, 1.0):
        assert found.precision is not None
        assert found.precision >= min(precision, best) - 1e-12
    else:  # it was drawn higher, for as much recall as may be given up
        assert found.recall is not None
        assert found.recall >= recall - 1e-12


def test_where_both_labels_are_apart_spare_recall_buys_a_margin():
    score = np.r_[np.linspace(0.01, 0.1, 50), np.linspace(0.5, 0.99, 100)]
    label = np.arange(150) >= 50
    assert 0.1 < choose_threshold(score, label, 0.99, 1.0) < 0.5
    assert count(score, label, choose_threshold(score, label, 0.99, 0.97)).false_negatives == 3


def test_without_a_success_there_is_no_curve():
    with pytest.raises(ValueError, match="none of the frames is a success"):
        curve(np.array([0.5]), np.array([False]))


@pytest.mark.parametrize("heat", [0.4, 1.0, 5.0])
def test_the_temperature_takes_back_what_made_logits_too_sure_or_not_sure_enough(heat):
    rng = np.random.default_rng(0)
    logits = 2.0 * rng.standard_normal(20_000)
    label = rng.uniform(size=len(logits)) < expit(logits)
    assert fit_temperature(heat * logits, label) == pytest.approx(heat, rel=0.05)
    before, after = (calibration_error(expit(heat * logits / t), label) for t in (1.0, heat))
    assert after < 0.01
    assert heat == 1.0 or before > 3 * after


def test_a_few_frames_that_are_all_right_are_not_taken_for_certainty():
    logits = np.array([3.0, 4.0, -3.0, -4.0])
    assert 1.0 < fit_temperature(logits, logits > 0) < 20.0


@given(pairs)
def test_a_calibration_error_is_a_share(rows):
    score, label = judged(rows)
    assert 0.0 <= calibration_error(score, label) <= 1.0
    assert calibration_error(label.astype(float), label) == 0.0
