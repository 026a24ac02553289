"""Random shifts: every result is a picture moved by whole pixels, and every move comes up."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from encoders.augment import random_shift, shifted_views

SHIFT = jax.jit(random_shift, static_argnums=2)
CASES = [((3, 7, 5, 3), 2), ((2, 1, 4, 1), 1), ((2, 6, 6, 3), 0)]  # shape and pad; few: each is compiled


def moved(frame: np.ndarray, down: int, right: int) -> np.ndarray:
    """Pixel `(i, j)` is what lies at `(i + down, j + right)`, or at the nearest edge."""
    rows = np.clip(np.arange(frame.shape[0]) + down, 0, frame.shape[0] - 1)
    columns = np.clip(np.arange(frame.shape[1]) + right, 0, frame.shape[1] - 1)
    return frame[rows][:, columns]


def moves(frame: np.ndarray, found: np.ndarray, pad: int) -> set[tuple[int, int]]:
    steps = range(-pad, pad + 1)
    return {(i, j) for i in steps for j in steps if np.array_equal(moved(frame, i, j), found)}


@given(
    st.sampled_from(CASES).flatmap(lambda case: st.tuples(hnp.arrays(np.uint8, case[0]), st.just(case[1]))),
    st.sampled_from([np.uint8, np.float32, np.float16]),
    st.integers(0, 2**32 - 1),
)
def test_each_picture_is_moved_within_the_pad(case, dtype, seed):
    frames, pad = case[0].astype(dtype), case[1]
    for found in (
        np.asarray(SHIFT(jax.random.key(seed), jnp.asarray(frames), pad)),
        shifted_views(frames, 1, np.random.default_rng(seed), pad)[:, 1],
    ):
        assert found.shape == frames.shape
        assert found.dtype == frames.dtype
        assert all(moves(before, after, pad) for before, after in zip(frames, found, strict=True))


@pytest.mark.parametrize("kind", ["device", "host"])
def test_every_move_comes_up_about_as_often_and_pictures_move_apart(kind):
    frames = np.random.default_rng(0).integers(0, 256, (1000, 6, 5, 1), np.uint8)
    if kind == "device":
        found = np.asarray(SHIFT(jax.random.key(0), jnp.asarray(frames), 1))
    else:
        found = shifted_views(frames, 1, np.random.default_rng(0), 1)[:, 1]
    counts: dict[tuple[int, int], int] = {}
    for before, after in zip(frames, found, strict=True):
        (move,) = moves(before, after, 1)
        counts[move] = counts.get(move, 0) + 1
    assert len(counts) == 9
    assert 70 < min(counts.values()) <= max(counts.values()) < 160  # of 111 on average


def test_a_key_is_a_draw():
    frames = jnp.asarray(np.random.default_rng(0).integers(0, 256, (8, 16, 16, 3), np.uint8))
    once, again, other = (np.asarray(SHIFT(jax.random.key(seed), frames, 4)) for seed in (0, 0, 1))
    assert np.array_equal(once, again)
    assert not np.array_equal(once, other)


@pytest.mark.parametrize("views", [0, 1, 8])
def test_the_first_view_is_the_frame_itself_and_the_rest_differ(views):
    frames = np.random.default_rng(0).integers(0, 256, (4, 16, 12, 3), np.uint8)
    kept = frames.copy()
    found = shifted_views(frames, views, np.random.default_rng(1))
    assert found.shape == (4, 1 + views, 16, 12, 3)
    assert found.dtype == np.uint8
    assert np.array_equal(found[:, 0], kept)
    assert np.array_equal(frames, kept)
    for frame, row in zip(frames, found[:, 1:], strict=True):
        assert all(moves(frame, view, 4) for view in row)
        assert len({view.tobytes() for view in row}) >= min(views, 4)
    again = shifted_views(frames, views, np.random.default_rng(1))
    assert np.array_equal(found, again)


def test_no_frames_have_no_views():
    assert shifted_views(np.zeros((0, 8, 8, 3), np.uint8), 2, np.random.default_rng(0)).shape == (0, 3, 8, 8, 3)
