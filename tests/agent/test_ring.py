"""The replay, on the device and on the host, against a plain list that remembers everything."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.replay.dataset import ACTION_LIMIT
from agent.replay.returns import discounted_returns, episode_slices
from agent.replay.ring import Ring
from tests.agent.tiny import assert_same, transition

DISCOUNT, CUT = 0.5, -8.0
PLACES = pytest.mark.parametrize("place", ["device", "host"])


def ring_of(capacity: int, place: str) -> Ring:
    return Ring(capacity, {"x": (1,)}, 1, DISCOUNT, CUT, place)


def rows_of(ring: Ring):
    """Every row, filled or not, as numpy."""
    return jax.tree.map(np.asarray, ring.columns)


@st.composite
def streams(draw):
    """Transitions of up to three sessions, interleaved, each with its own episodes, the last ones open; and how they come."""
    sent = []
    for i in range(draw(st.integers(1, 40))):
        end = draw(st.sampled_from(["", "", "", "terminated", "truncated"]))
        sent.append(transition(reward=draw(st.integers(-4, 4)), end=end, session=draw(st.integers(0, 2)), x=float(i)))
    cuts = sorted(draw(st.lists(st.integers(0, len(sent)), max_size=4)))
    return [sent[a:b] for a, b in zip([0, *cuts], [*cuts, len(sent)], strict=True)]


def naive_returns(sent):
    """Return of each transition, or None in an open episode: forward sums, each written out."""
    found = [None] * len(sent)
    for session in {t.session for t in sent}:
        episode = []
        for i in (i for i, t in enumerate(sent) if t.session == session):
            episode.append(i)
            if sent[i].terminated or sent[i].truncated:
                for start, row in enumerate(episode):
                    rest = [sent[j].reward for j in episode[start:]] + [0.0 if sent[i].terminated else CUT]
                    found[row] = sum(DISCOUNT**k * r for k, r in enumerate(rest))
                episode = []
    return found


@PLACES
@settings(max_examples=40)
@given(chunks=streams(), capacity=st.sampled_from([1, 3, 8, 64]))
def test_rows_and_returns_are_those_of_the_newest_transitions(place, chunks, capacity):
    ring = ring_of(capacity, place)
    for chunk in chunks:
        ring.add(chunk)
    sent = [t for chunk in chunks for t in chunk]
    returns, rows = naive_returns(sent), rows_of(ring)
    assert len(ring) == min(len(sent), capacity)
    for i in range(max(0, len(sent) - capacity), len(sent)):
        row = i % capacity
        assert rows.obs["x"][row, 0] == i
        assert rows.next_obs["x"][row, 0] == i + 1
        assert rows.reward[row] == sent[i].reward
        assert rows.mask[row] == 1.0 - sent[i].terminated
        assert rows.has_return[row] == (returns[i] is not None)
        assert rows.mc_return[row] == pytest.approx(returns[i] or 0.0, abs=1e-5)


@PLACES
def test_an_open_episode_has_no_return_until_it_ends(place):
    ring = ring_of(8, place)
    ring.add([transition(reward=1.0), transition(reward=2.0)])
    assert not rows_of(ring).has_return.any()
    ring.add([transition(reward=4.0, end="terminated")])
    rows = rows_of(ring)
    # 4; 2 + 0.5 * 4 = 4; 1 + 0.5 * 4 = 3.
    np.testing.assert_array_equal(rows.mc_return[:3], [3.0, 4.0, 4.0])
    np.testing.assert_array_equal(rows.has_return, [1, 1, 1, 0, 0, 0, 0, 0])


@PLACES
def test_what_follows_a_cut_counts_and_what_follows_an_end_does_not(place):
    ring = ring_of(4, place)
    ring.add([transition(reward=1.0, end="truncated"), transition(reward=1.0, end="terminated")])
    rows = rows_of(ring)
    np.testing.assert_array_equal(rows.mc_return[:2], [1.0 + 0.5 * CUT, 1.0])
    np.testing.assert_array_equal(rows.mask[:2], [1.0, 0.0])


@PLACES
def test_success_on_the_very_last_step_is_an_end_not_a_cut(place):
    ring = ring_of(4, place)
    ring.add([replace(transition(reward=1.0, end="terminated"), truncated=True)])
    rows = rows_of(ring)
    assert (rows.mc_return[0], rows.mask[0]) == (1.0, 0.0)


@PLACES
def test_a_late_return_does_not_touch_rows_written_over(place):
    ring = ring_of(4, place)
    ring.add([transition(reward=1.0, session=0, x=0.0)])
    ring.add([transition(reward=9.0, session=1, x=10.0 + i) for i in range(4)])  # row 0 now belongs to session 1
    ring.add([transition(reward=1.0, session=0, end="terminated", x=1.0)])  # closes the episode that began in row 0
    rows = rows_of(ring)
    np.testing.assert_array_equal(rows.obs["x"][:, 0], [13.0, 1.0, 11.0, 12.0])
    np.testing.assert_array_equal(rows.has_return, [0, 1, 0, 0])


@PLACES
def test_an_abandoned_episode_is_never_stitched_to_the_next(place):
    ring = ring_of(8, place)
    ring.add([transition(reward=5.0), transition(reward=5.0)])
    ring.abandon(0)
    ring.abandon(7)  # a session that never sent anything
    ring.add([transition(reward=1.0, end="terminated")])
    rows = rows_of(ring)
    np.testing.assert_array_equal(rows.has_return[:3], [0, 0, 1])
    assert rows.mc_return[2] == 1.0


@PLACES
def test_actions_stay_inside_what_a_tanh_policy_can_reach(place):
    ring = ring_of(4, place)
    ring.add([transition(action=a) for a in (1.0, -1.0, 0.5, 7.0)])
    np.testing.assert_allclose(rows_of(ring).action[:, 0], [ACTION_LIMIT, -ACTION_LIMIT, 0.5, ACTION_LIMIT])


@PLACES
@settings(max_examples=25)
@given(chunks=streams(), capacity=st.sampled_from([3, 16]), data=st.data())
def test_a_ring_filled_again_is_the_ring_that_it_was(place, chunks, capacity, data):
    """From the beginning, or from any transition on after which it is filled; in whatever portions; and it goes on."""
    sent = [t for chunk in chunks for t in chunk]
    start = data.draw(st.integers(0, len(sent) - capacity)) if len(sent) >= capacity else 0
    ring, other = ring_of(capacity, place), ring_of(capacity, place)
    for chunk in chunks:
        ring.add(chunk)
    other.add([transition(reward=3.0, session=2, x=99.0)])  # an open episode that is forgotten
    other.begin_at(start)
    other.add(sent[start:])
    more = [transition(reward=2.0, x=77.0), transition(reward=2.0, end="terminated", x=78.0)]
    for these in ([], more):
        ring.add(these)
        other.add(these)
        assert (len(other), other.inserted) == (len(ring), ring.inserted)
        assert_same(*(jax.tree.map(lambda x: x[: len(ring)], rows_of(filled)) for filled in (ring, other)))


def test_nothing_fits_into_a_ring_of_no_rows():
    with pytest.raises(ValueError, match="capacity is 0"):
        ring_of(0, "host")


def test_both_places_hold_the_same():
    rings = [ring_of(16, place) for place in ("device", "host")]
    rng = np.random.default_rng(0)
    sent = [
        transition(rng.normal(), "terminated" if i % 7 == 6 else "", i % 2, rng.normal(), rng.normal())
        for i in range(40)
    ]
    for ring in rings:
        for i in range(0, 40, 3):
            ring.add(sent[i : i + 3])
    assert_same(*(rows_of(ring) for ring in rings))


def test_taking_rows_of_a_host_ring_copies_them():
    ring = ring_of(4, "host")
    ring.add([transition(reward=float(i)) for i in range(4)])
    taken = ring.take(np.array([[3, 1], [0, 0]]), np.random.default_rng(0))
    ring.add([transition(reward=50.0)] * 4)
    np.testing.assert_array_equal(taken.reward, [[3.0, 1.0], [0.0, 0.0]])
    assert taken.obs["x"].shape == (2, 2, 1)


@given(
    rewards=st.lists(st.floats(-10, 10), min_size=1, max_size=30), discount=st.floats(0.5, 1.0), tail=st.floats(-5, 5)
)
def test_a_return_is_the_reward_and_the_discounted_next_return(rewards, discount, tail):
    found = discounted_returns(np.float32(rewards), tail, discount)
    after = np.append(found[1:].astype(np.float64), tail)
    np.testing.assert_allclose(found, np.float32(rewards) + discount * after, rtol=1e-4, atol=1e-4)


def test_a_failed_sparse_episode_is_worth_failing_forever():
    # Reward -5 at each step, cut after three: -5 / (1 - 0.9) = -50 from every step.
    np.testing.assert_allclose(discounted_returns(np.full(3, -5.0), -5.0 / 0.1, 0.9), -50.0, rtol=1e-6)


@given(st.lists(st.booleans(), max_size=30))
def test_episodes_cover_all_but_the_open_one_in_order(ends):
    slices = episode_slices(np.array(ends, bool))
    covered = [i for s in slices for i in range(s.start, s.stop)]
    assert covered == list(range(len(covered)))
    assert len(slices) == sum(ends)
    assert all(ends[s.stop - 1] and not any(ends[s.start : s.stop - 1]) for s in slices)
    assert not any(ends[len(covered) :])
