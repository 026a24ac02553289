"""The ledger: what a run's journal says of it, whoever died in between."""

import numpy as np

from agent.replay.entry import Begin, Entry, Gap, Scores, Step
from agent.types import Transition
from launch.ledger import Episode, Ledger
from launch.orders import Place

ZERO = {"state": np.zeros(1, np.float32)}


def step(end: str = "", first: bool = False, actor_id: int = 0, **how) -> Step:
    action = np.zeros(1, np.float32)
    ends = {"terminated": end == "terminated", "truncated": end == "truncated"}
    return Step(Transition(ZERO, action, action, -1.0, ZERO, **ends, actor_id=actor_id), first, **how)


def told(ledger: Ledger, session: int, *events) -> list[Episode | None]:
    at = ledger.positions.get(session, 0)
    outcomes = []
    for event in events:
        entry = Entry(session, at, event)
        outcomes.append(ledger.take(entry))
        at = entry.next
    return outcomes


def begin(actor_id: int = 0) -> Begin:
    return Begin(actor_id, "twin", "")


def test_counts_steps_episodes_and_evaluations():
    ledger = Ledger()
    outcomes = told(
        ledger,
        5,
        begin(),
        Scores(1, 40, {}),
        step(first=True),
        step(),
        step("terminated", success=True),
        step(first=True),
    )
    assert outcomes[4] == Episode(3, True, None)
    assert (ledger.env_steps, ledger.evaluations, ledger.last_score) == (4, 1, 0)
    assert (ledger.positions, ledger.current) == ({5: 6}, 5)
    assert ledger.sessions[5].steps == 1
    assert ledger.sessions[5].episodes == 2


def test_a_new_session_goes_on_where_the_actors_last_one_ended():
    ledger = Ledger()
    told(ledger, 5, begin(), Scores(1, 40, {}), step(first=True), step("truncated", fault="x"), step(first=True))
    told(ledger, 6, begin(actor_id=1), step(first=True, actor_id=1))
    told(ledger, 7, begin())
    assert ledger.sessions[5].place == Place()
    assert ledger.sessions[6].place == Place()
    assert ledger.sessions[7].place == Place(episodes=2, env_steps=3, evaluation_calls=40)
    assert ledger.sessions_of(0) == [5, 7]
    assert ledger.sessions_of(None) == [5, 6, 7]


def test_an_evaluation_and_a_gap_end_the_episode_under_way():
    ledger = Ledger()
    told(ledger, 5, begin(), step(first=True), Scores(1, 0, {}), step(first=True), Gap(9, 3, "full"), step(first=True))
    assert ledger.lost == 3
    assert ledger.sessions[5].steps == 1
    assert ledger.sessions[5].episodes == 3
    assert ledger.positions[5] == 10


def test_the_best_score_is_the_normalised_one_or_else_the_share_of_successes():
    ledger = Ledger()

    def score(success: int, **more) -> dict:
        return {"success": success, "trials": 4, **more}

    told(ledger, 5, begin(), Scores(1, 0, {"mode": score(2), "sample": score(3, normalized=20.0)}))
    assert (ledger.best, ledger.improved) == ({"mode": 0.5, "sample": 20.0}, ("mode", "sample"))
    told(ledger, 5, Scores(2, 0, {"mode": score(2), "sample": score(0, normalized=30.0)}))
    assert (ledger.best, ledger.improved) == ({"mode": 0.5, "sample": 30.0}, ("sample",))
    told(ledger, 5, Scores(3, 0, {"mode": score(1), "sample": score(4, normalized=0.0)}))
    assert (ledger.best, ledger.improved) == ({"mode": 0.5, "sample": 30.0}, ())


def test_a_session_whose_beginning_was_lost_is_still_counted():
    ledger = Ledger()
    told(ledger, 5, Gap(4, 3, "full"), step(first=True, actor_id=2))
    assert ledger.env_steps == 1
    assert 5 in ledger.sessions


def test_a_fold_in_two_parts_is_the_fold_of_the_whole():
    events = [begin(), step(first=True), step("terminated"), Scores(1, 3, {}), step(first=True), step()]
    whole, parts = Ledger(), Ledger()
    told(whole, 5, *events)
    told(parts, 5, *events[:3])
    told(parts, 5, *events[3:])
    assert whole == parts


def test_late_steps_and_held_periods_are_counted_by_episode_and_session_and_in_all():
    late, timely = {"late_s": 0.25, "step_s": 0.35}, {"late_s": 0.0, "step_s": 0.1}
    ledger = Ledger()
    told(ledger, 5, begin(), step(first=True, control={"late_s": 0.0}), step(control=late))
    told(ledger, 6, begin(1), step(first=True, control=late, actor_id=1))
    (end,) = told(ledger, 5, step("terminated", success=True, control={**late, "held_steps": 4}))
    assert end == Episode(3, True, None, late_steps=2, held_steps=4)
    again = told(ledger, 5, step(first=True, control=timely), step("truncated", control=timely))
    assert again[-1] == Episode(2, False, None)
    left = told(ledger, 5, step(first=True, control=late), Scores(1, 0, {}), step("truncated", control=timely))
    assert left[-1] == Episode(1, False, None)
    rate = ledger.rate()
    assert (rate["paced_steps"], rate["late_steps"], rate["late_percent"]) == (8, 4, 50.0)
    assert (rate["period_p50_ms"], rate["period_max_ms"]) == (350.0, 350.0)


def test_a_run_without_a_pace_has_no_rate():
    ledger = Ledger()
    assert told(ledger, 5, begin(), step(first=True), step("terminated"))[-1] == Episode(2, False, None)
    assert ledger.rate() == {"paced_steps": 0, "late_steps": 0, "late_percent": 0.0}
