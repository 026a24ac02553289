"""Pace: the governor keeps its ratio whatever arrives, and the metronome counts what is late."""

import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launch.orders import Governor, Metronome, Stopwatch

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


def test_a_metronome_holds_its_rate_and_counts_late_steps_once():
    metronome = Metronome(100.0)
    start_s = time.monotonic()
    for _ in range(21):
        metronome.wait()
    assert time.monotonic() - start_s >= 0.199
    before = metronome.late
    time.sleep(0.05)  # five periods gone: one late step, and no hurried ones after it
    metronome.wait()
    assert metronome.late == before + 1
    after_s = time.monotonic()
    metronome.wait()
    assert time.monotonic() - after_s >= 0.009


def test_a_reset_is_not_a_late_step():
    metronome = Metronome(100.0)
    metronome.wait()
    time.sleep(0.05)
    metronome.restart()
    metronome.wait()
    assert metronome.late == 0


@pytest.mark.parametrize("hz", [0.0, -1.0, float("nan"), float("inf")])
def test_a_rate_that_is_none_is_refused(hz):
    with pytest.raises(ValueError, match="positive"):
        Metronome(hz)


def test_a_stopwatch_adds_up_also_when_something_raises():
    watch = Stopwatch()
    with suppress(KeyError), watch():
        time.sleep(0.01)
        raise KeyError
    with watch():
        time.sleep(0.01)
    assert watch.total_s >= 0.02
