"""The replays of several seeds, against single ones that are given the same."""

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.replay.ring import Ring
from agent.replay.rings import Rings
from tests.agent.tiny import transition

MEMBERS, DISCOUNT, CUT = 2, 0.5, -8.0


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(*[st.sampled_from(["", "", "terminated", "truncated"])] * MEMBERS), min_size=1, max_size=24),
    st.sampled_from([4, 8, 32]),
    st.integers(1, 4),
)
def test_each_is_what_a_ring_of_its_own_would_be(ends, capacity, block):
    many = Rings(MEMBERS, capacity, {"x": (1,)}, 1, DISCOUNT, CUT)
    single = [Ring(capacity, {"x": (1,)}, 1, DISCOUNT, CUT) for _ in range(MEMBERS)]
    rows = [
        [replace(transition(reward=float(i - 3 * m), end=end, x=float(i + m))) for i, end in enumerate(column)]
        for m, column in enumerate(zip(*ends, strict=True))
    ]
    for start in range(0, len(ends), block):
        part = [member[start : start + block] for member in rows]
        for ring, transitions in zip(single, part, strict=True):
            ring.add(transitions)

        def column(name, part=part):
            return np.asarray([[getattr(t, name) for t in member] for member in part])

        obs, after = (np.asarray([[getattr(t, kind)["x"] for t in m] for m in part]) for kind in ("obs", "next_obs"))
        names = ("action", "reward", "terminated", "truncated")
        many.add({"x": obs}, {"x": after}, **{name: column(name) for name in names})
    assert len(many) == len(single[0])
    for m, ring in enumerate(single):
        for name in ("action", "reward", "mask", "mc_return", "has_return", "source"):
            np.testing.assert_array_equal(getattr(many.columns, name)[m], getattr(ring.columns, name), err_msg=name)
        np.testing.assert_array_equal(many.columns.obs["x"][m], ring.columns.obs["x"])
        np.testing.assert_array_equal(many.columns.next_obs["x"][m], ring.columns.next_obs["x"])


def test_an_episode_that_was_left_gets_no_return():
    rings = Rings(1, 8, {"x": (1,)}, 1, DISCOUNT, CUT)

    def add(reward, terminated):
        x = np.zeros((1, 1, 1))
        rings.add({"x": x}, {"x": x}, x, np.asarray([[reward]]), np.asarray([[terminated]]), np.asarray([[False]]))

    add(1.0, False)
    rings.abandon()
    add(2.0, True)
    assert np.asarray(rings.columns.has_return[0]).tolist() == [0, 1, 0, 0, 0, 0, 0, 0]
    assert rings.columns.mc_return[0, 1] == 2.0
