"""Training: folds of whole episodes, what is held out, changed copies."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from encoders.classifier import HeadShape, head_logits
from encoders.classifier_scores import count
from encoders.classifier_training import FOLDS, GAIN, SHIFT_PX, Fit, changed, deal_folds, train

FIT = Fit(updates=150, batch_size=32, learning_rate=5e-3, every=25, patience=3)
SHAPE = HeadShape(bottleneck=8, dropout=0.1)


def made(seed=0, episodes=30, frames=8, told=True):
    """Features of two cameras `(1, N, 2, 2, 2, 3)`, in which each episode looks different, labels, and episodes. Where they are
    not `told` the label, only the episode gives it away."""
    rng = np.random.default_rng(seed)
    episode = np.repeat(np.arange(episodes), frames)
    label = rng.uniform(size=len(episode)) < 0.4 if told else np.repeat(rng.uniform(size=episodes) < 0.5, frames)
    features = rng.standard_normal((episodes, 2, 2, 2, 3))[episode] + 0.1 * rng.standard_normal(
        (len(label), 2, 2, 2, 3)
    )
    if told:
        features[:, 0, 1, 0, 2] = np.where(label, 3.0, -3.0) + rng.standard_normal(len(label))
    return features.astype(np.float16)[None], label, episode


@given(st.lists(st.tuples(st.integers(-5, 40), st.booleans()), max_size=120), st.integers(0, 5))
def test_no_two_folds_share_an_episode_and_each_has_both_labels(rows, seed):
    rows += [(100 + i, truth) for i in range(FOLDS) for truth in (True, False)]
    episode, label = np.array([e for e, _ in rows]), np.array([y for _, y in rows])
    fold = deal_folds(label, episode, seed)
    for one in np.unique(episode):
        assert len(np.unique(fold[episode == one])) == 1
    for part in range(FOLDS):
        assert label[fold == part].any()
        assert not label[fold == part].all()


@given(st.lists(st.sampled_from(["won", "lost", "both"]), min_size=1, max_size=25), st.integers(0, 3))
def test_folds_are_dealt_or_refused_by_how_many_episodes_have_a_label(kinds, seed):
    rows = [
        (i, truth)
        for i, kind in enumerate(kinds)
        for truth in (True, False)
        if kind in ("both", "won" if truth else "lost")
    ]
    episode, label = np.array([e for e, _ in rows]), np.array([y for _, y in rows])
    short = [w for w, k in (("success", "won"), ("failure", "lost")) if sum(x in (k, "both") for x in kinds) < FOLDS]
    if short:
        with pytest.raises(ValueError, match=f"episodes have frames of {short[0]}; record at least {FOLDS}"):
            deal_folds(label, episode, seed)
    else:
        fold = deal_folds(label, episode, seed)
        assert all(label[fold == part].any() and not label[fold == part].all() for part in range(FOLDS))


def test_it_learns_what_the_features_tell():
    views, label, episode = made()
    trained = train(views, label, deal_folds(label, episode, 0), 0, FIT, SHAPE)
    counts = count(trained.held_out_scores, label, trained.threshold)
    assert counts.precision is not None
    assert counts.recall is not None
    assert counts.precision > 0.95
    assert counts.recall > 0.9
    new, truth, _ = made(seed=1)
    together = head_logits(SHAPE, trained.params, new[0])
    assert together.shape == (FOLDS, len(truth))
    assert ((together.mean(0) > 0) == truth).mean() > 0.97


def test_what_is_held_out_was_never_seen():
    """The label is the episode's and nothing tells it but the episode itself: only a leak could do better than a coin."""
    views, label, episode = made(episodes=60, frames=5, told=False)
    trained = train(views, label, deal_folds(label, episode, 0), 0, FIT, SHAPE)
    assert abs(((trained.held_out_logits > 0) == label).mean() - 0.5) < 0.15
    seen = head_logits(SHAPE, trained.params, views[0]).mean(0)  # three of five have seen each frame
    assert ((seen > 0) == label).mean() > 0.8


def test_each_frame_is_held_out_from_the_member_that_judges_it():
    views, label, episode = made(episodes=12)
    fold = deal_folds(label, episode, 0)
    trained = train(views, label, fold, 0, FIT, SHAPE)
    each = head_logits(SHAPE, trained.params, views[0])
    np.testing.assert_allclose(trained.held_out_logits, each[fold, np.arange(len(fold))], rtol=1e-4, atol=1e-4)


def test_a_seed_decides_everything_and_a_stop_keeps_the_best():
    views, label, episode = made(episodes=12)
    fold = deal_folds(label, episode, 0)
    first, again = (train(views, label, fold, 3, FIT, SHAPE) for _ in range(2))
    np.testing.assert_array_equal(first.held_out_logits, again.held_out_logits)
    assert first.threshold == again.threshold != train(views, label, fold, 4, FIT, SHAPE).threshold
    for told in first.losses:
        lowest = min(range(len(told)), key=lambda i: told[i][2])
        assert told[-1][0] == FIT.updates or len(told) - 1 - lowest >= FIT.patience


def test_changed_copies_are_moved_and_lit_otherwise_but_no_further_than_said():
    frames = np.zeros((50, 16, 16, 3), np.uint8)
    frames[:, 8, 8] = 100
    before = frames.copy()
    copies = changed(frames, np.random.default_rng(0))
    assert (frames == before).all()
    assert copies.shape == frames.shape
    assert copies.dtype == np.uint8
    places = np.array([np.argwhere(copy.sum(2))[0] for copy in copies]) - 8
    assert (np.abs(places) <= SHIFT_PX).all()
    assert {(abs(y), abs(x)) for y, x in places.tolist()} >= {(0, 1), (SHIFT_PX, SHIFT_PX)}
    light = np.array([copy.max((0, 1)) for copy in copies]) / 100
    assert light.min() > (1 - GAIN) ** 2 - 0.02
    assert light.max() < (1 + GAIN) ** 2 + 0.02
    assert light.std() > 0.1
    assert np.ptp(light, axis=1).max() > 0.1  # colours too


def test_a_bright_picture_stays_bright():
    frames = np.full((20, 8, 8, 3), 255, np.uint8)
    assert changed(frames, np.random.default_rng(1)).min() > 255 * (1 - GAIN) ** 2 - 2
