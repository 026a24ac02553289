"""The watchdog: what it does when commands cease, and when, on a clock that the test moves."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot_env.watchdog import Watchdog

STEP_S = 1 / 32  # of which sums are exact


class Rig:
    """A watchdog on a clock that is moved by hand, and what it did, with the time."""

    def __init__(self, hold=lambda: None) -> None:
        self.now_s, self.done = 0.0, []
        self.watchdog = Watchdog(self._hold, self._stop, 0.5, 5.0, lambda: self.now_s)
        self._fails = hold

    def _hold(self) -> None:
        self._fails()
        self.done.append(("hold", self.now_s))

    def _stop(self, reason: str) -> None:
        self.done.append(("stop", self.now_s))

    def pass_time(self, seconds: float) -> None:
        for _ in range(round(seconds / STEP_S)):
            self.now_s += STEP_S
            self.watchdog.check()


def test_commands_that_cease_hold_the_arm_and_then_stop_it_for_a_latched_reason():
    rig = Rig()
    rig.pass_time(20.0)  # nothing was sent yet: nothing is due
    rig.watchdog.feed()
    rig.pass_time(20.0)
    assert rig.done == [("hold", 20.5), ("stop", 25.0)]
    with pytest.raises(TimeoutError, match=r"no command came for 5\.00 s"):
        rig.watchdog.require_alive()
    rig.watchdog.clear()
    rig.watchdog.require_alive()
    rig.pass_time(20.0)
    assert len(rig.done) == 2


def test_a_command_ends_a_hold():
    rig = Rig()
    rig.watchdog.feed()
    rig.pass_time(1.0)
    assert rig.watchdog.held
    rig.watchdog.feed()
    assert not rig.watchdog.held
    rig.pass_time(1.0)
    assert [what for what, _ in rig.done] == ["hold", "hold"]
    rig.watchdog.require_alive()


def test_an_arm_that_rests_is_left_alone():
    rig = Rig()
    rig.watchdog.feed()
    rig.watchdog.rest()
    rig.pass_time(60.0)
    assert rig.done == []


def test_an_arm_that_cannot_be_held_is_stopped_at_once():
    rig = Rig(hold=lambda: 1 // 0)
    rig.watchdog.feed()
    rig.pass_time(3.0)
    assert rig.done == [("stop", 0.5)]
    with pytest.raises(TimeoutError, match="could not be held: ZeroDivisionError"):
        rig.watchdog.require_alive()


@given(gaps=st.lists(st.floats(0.0, 8.0), max_size=12))
def test_it_never_acts_within_its_deadlines_and_always_after_them(gaps):
    rig = Rig()
    for gap in gaps:
        if rig.watchdog.reason is None:
            rig.watchdog.feed()
        else:
            rig.watchdog.clear()
            rig.watchdog.feed()
        rig.done.clear()
        rig.pass_time(gap)
        waited = round(gap / STEP_S) * STEP_S
        expected = [what for what, after_s in (("hold", 0.5), ("stop", 5.0)) if waited >= after_s]
        assert [what for what, _ in rig.done] == expected


def test_its_thread_looks_by_itself_and_keeps_out_of_a_call_of_the_driver():
    held, stopped = threading.Event(), threading.Event()
    watchdog = Watchdog(held.set, lambda reason: stopped.set(), 1e-3, 2e-3)
    with watchdog.lock:  # a call of the driver is under way
        watchdog.feed()
        watchdog.open()
        watchdog.open()
        assert not stopped.wait(0.15)
    assert stopped.wait(10.0)
    watchdog.close()
    watchdog.close()
    assert watchdog.reason is not None


@pytest.mark.parametrize(("hold", "stop"), [(0.0, 5.0), (1.0, 0.5), (float("nan"), 1.0), (1.0, float("inf"))])
def test_deadlines_that_are_none_are_refused(hold, stop):
    with pytest.raises(ValueError, match="are no deadlines"):
        Watchdog(lambda: None, lambda reason: None, hold, stop)
