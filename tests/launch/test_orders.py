"""Pace: the governor keeps its ratio whatever arrives."""

import time
from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st

from launch.orders import Governor, Stopwatch

UTD = st.integers(1, 20)


@given(UTD, st.integers(0, 30), st.lists(st.tuples(st.booleans(), st.integers(1, 25)), max_size=60))
def test_neither_side_is_ever_further_ahead_than_the_tolerance(utd, extra, turns):
    """Whoever takes a turn, and in whatever portions."""
    governor, total = Governor(utd, utd + extra), 200
    env_steps = updates = 0
    for learns, portion in turns:
        if learns:
            updates += utd * governor.may_learn(env_steps, updates, total, portion)
            assert updates - utd * env_steps <= governor.tolerance
        else:
            env_steps += min(portion, governor.may_act(env_steps, updates))
            assert utd * env_steps - updates <= governor.tolerance
        assert updates <= utd * total


@given(UTD, st.integers(1, 300))
def test_learning_ends_with_exactly_the_phases_updates(utd, total):
    governor, updates = Governor(utd, 3 * utd), 0
    while steps := governor.may_learn(total + 7, updates, total, 10):
        updates += steps * utd
    assert updates == utd * total


def test_nothing_is_learned_before_the_first_transition():
    assert Governor(4, 400).may_learn(0, 0, 100, 10) == 0
    assert Governor(4, 400).may_learn(1, 0, 100, 10) == 10


def test_one_side_is_always_free_to_go_on():
    """No deadlock: where actors must wait, there is something to learn."""
    for utd in range(1, 12):
        for tolerance in range(utd, 40):
            governor = Governor(utd, tolerance)
            for env_steps in range(1, 30):
                for updates in range(0, 30 * utd, utd):
                    may_act = governor.may_act(env_steps, updates)
                    assert may_act or governor.may_learn(env_steps, updates, 30, 1)


def test_a_stopwatch_adds_up_also_when_something_raises():
    watch = Stopwatch()
    with suppress(KeyError), watch():
        time.sleep(0.01)
        raise KeyError
    with watch():
        time.sleep(0.01)
    assert watch.total_s >= 0.02
