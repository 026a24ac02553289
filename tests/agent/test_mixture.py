"""Minibatches from several sources: exact shares, filled rows only."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.replay.mixture import draw, draw_on_host, split
from agent.replay.ring import Ring
from agent.types import SOURCES
from tests.agent.tiny import batch, transition


@given(parts=st.lists(st.integers(1, 100), min_size=1, max_size=5), batch_size=st.integers(1, 2048))
def test_shares_add_up_exactly_and_stay_within_one_of_their_due(parts, batch_size):
    shares = {str(i): part / sum(parts) for i, part in enumerate(parts)}
    counts = split(shares, batch_size)
    assert sum(counts.values()) == batch_size
    for name, share in shares.items():
        assert abs(counts.get(name, 0) - share * batch_size) < 1.0 + 1e-6
    assert all(counts.values())


@pytest.mark.parametrize(
    ("shares", "batch_size", "counts"),
    [
        ({"offline": 0.5, "online": 0.5}, 256, {"offline": 128, "online": 128}),
        ({"offline": 0.5, "online": 0.5}, 5, {"offline": 3, "online": 2}),
        ({"offline": 0.25, "online": 0.75}, 10, {"offline": 3, "online": 7}),  # 2.5 and 7.5: the tie goes by order
        ({"offline": 0.0, "online": 1.0}, 7, {"online": 7}),
    ],
)
def test_counts_of_a_minibatch(shares, batch_size, counts):
    assert split(shares, batch_size) == counts


def table(first: float, rows: int):
    """Row i has reward `first + i`."""
    rewards = first + np.arange(rows)
    return batch(np.zeros((rows, 1)), np.zeros((rows, 1)), rewards, np.zeros((rows, 1)))


def test_each_source_gives_its_share_of_every_minibatch_from_filled_rows_only():
    sources = {"offline": (table(0.0, 10), jnp.int32(10)), "online": (table(100.0, 10), jnp.int32(3))}
    shares = {"offline": 0.25, "online": 0.75}
    drawn = jax.jit(lambda key: draw(sources, shares, key, jnp.int32(0), jnp.int32(0), 50, 8))
    reward = np.asarray(drawn(jax.random.key(0)).reward)
    assert reward.shape == (50, 8)
    assert set(reward[:, :2].ravel()) == set(range(10))
    assert set(reward[:, 2:].ravel()) == {100.0, 101.0, 102.0}
    assert not np.array_equal(reward, drawn(jax.random.key(1)).reward)


def test_the_two_sources_are_drawn_independently():
    sources = {name: (table(0.0, 1000), jnp.int32(1000)) for name in ("offline", "online")}
    reward = draw(sources, {"offline": 0.5, "online": 0.5}, jax.random.key(0), jnp.int32(0), jnp.int32(0), 4, 32).reward
    assert not np.array_equal(reward[:, :16], reward[:, 16:])


def test_minibatches_drawn_on_the_host_are_taken_step_by_step():
    ring = Ring(8, {"x": (1,)}, 1, 0.9, 0.0, "host")
    ring.add([transition(reward=float(i)) for i in range(5)])
    shares = {"offline": 0.5, "online": 0.5}
    on_host = draw_on_host(ring, shares, np.random.default_rng(0), 40, 3, 4)
    assert on_host.reward.shape == (40, 3, 2)
    assert set(np.ravel(on_host.reward)) == {0.0, 1.0, 2.0, 3.0, 4.0}  # the three empty rows hold 0 too, so see below
    assert np.mean(on_host.reward == 0.0) < 0.35  # a fifth, not half
    sources = {"offline": (table(100.0, 4), jnp.int32(4)), "online": (jax.tree.map(jnp.asarray, on_host), None)}
    for step in (0, 7):
        drawn = draw(sources, shares, jax.random.key(0), jnp.int32(step), jnp.int32(0), 3, 4)
        np.testing.assert_array_equal(drawn.reward[:, 2:], on_host.reward[step])
        assert (drawn.reward[:, :2] >= 100.0).all()


# What humans did


def replay(place: str, humans: set[int], rows: int = 20, capacity: int = 32) -> Ring:
    """A replay whose row i has reward i, and where a human acted in some."""
    ring = Ring(capacity, {"x": (1,)}, 1, 0.9, 0.0, place)
    ring.add([replace(transition(reward=float(i)), source=SOURCES.index("human") * (i in humans)) for i in range(rows)])
    return ring


def drawn_from(ring: Ring, shares: dict[str, float], batch_size: int, minibatches: int = 200) -> np.ndarray:
    """Rewards `(U, B)` of minibatches."""
    if ring.on_device:
        sources = {name: (ring.columns, jnp.int32(len(ring))) for name in shares}
        now = jnp.int32(0)
        return np.asarray(draw(sources, shares, jax.random.key(3), now, now, minibatches, batch_size).reward)
    parts = [
        draw_on_host(ring, shares, np.random.default_rng(i), 1, minibatches, batch_size, name).reward[0]
        for i, name in enumerate(shares)
    ]
    return np.concatenate(parts, axis=1)


@pytest.mark.parametrize("place", ["device", "host"])
@pytest.mark.parametrize("humans", [{19}, {3, 4, 11}])
def test_the_human_share_of_each_batch_is_what_humans_did_drawn_evenly(place, humans):
    reward = drawn_from(replay(place, humans), {"online": 0.75, "human": 0.25}, 16)
    assert reward.shape == (200, 16)
    assert set(reward[:, 12:].ravel()) == humans
    counts = np.bincount(reward[:, 12:].ravel().astype(int), minlength=20)[sorted(humans)]
    expected = 800 / len(humans)
    assert np.abs(counts - expected).max() < 5 * np.sqrt(expected)
    assert set(reward[:, :12].ravel()) == set(range(20))


@pytest.mark.parametrize("place", ["device", "host"])
def test_while_no_human_has_acted_their_share_is_drawn_from_the_whole_replay(place):
    assert set(drawn_from(replay(place, set()), {"online": 0.5, "human": 0.5}, 8)[:, 4:].ravel()) == set(range(20))


@pytest.mark.parametrize("place", ["device", "host"])
def test_what_was_written_over_is_not_drawn_any_more(place):
    ring = replay(place, {0, 1, 30}, rows=40, capacity=16)  # rows 24 to 39 are left
    assert set(drawn_from(ring, {"online": 0.5, "human": 0.5}, 8)[:, 4:].ravel()) == {30.0}
