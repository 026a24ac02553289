"""What is wrong with data is found, where it is; what is right raises no alarm."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.replay.dataset import Dataset
from launch.data_check import check
from launch.data_order import order_doubt
from launch.data_tools import Source, bring_in, raw_info
from launch.tasks import find_task
from tests.d4rl_data import demonstration_data
from tests.launch.data_samples import walk, with_column

PEG, DOOR = "peg_insertion", "door-binary"
LIMIT = 45  # steps, of the peg's task: episodes are of rows 0..19, 20..64, 65..94 and 95..139
LENGTHS, WINS = [20, LIMIT, 30, LIMIT], [0, 2]


def found(dataset, words, severity=None):
    """The one finding that says these words."""
    said = check(Source(dataset, find_task(dataset.info.task)))
    match = [finding for finding in said if words in finding.what]
    assert len(match) == 1, said
    assert severity in (None, match[0].severity)
    return match[0]


def changed(name, where, value, dataset=None):
    """A sample with a value put somewhere."""
    dataset = walk(PEG, LENGTHS, WINS) if dataset is None else dataset
    values = dataset.columns[name].copy()
    values[where] = value
    return with_column(dataset, name, values)


@given(st.lists(st.integers(2, LIMIT), min_size=2, max_size=6), st.integers(0, 5))
def test_good_data_raises_no_alarm(lengths, seed):
    dataset = walk(PEG, lengths, [0], seed)
    said = [finding for finding in check(Source(dataset, find_task(PEG))) if finding.severity != "note"]
    assert said == []


def test_episodes_that_last_as_long_as_the_task_raise_no_alarm():
    for wins in (WINS, [0, 1, 2, 3]):  # success on the very last step is no time limit
        assert check(Source(walk(PEG, LENGTHS, wins), find_task(PEG))) == []


def test_a_short_episode_may_keep_an_action_at_its_edge():
    dataset = walk(PEG, [10, 45], [0])
    said = check(Source(changed("action", (slice(0, 10), 3), 1.0, dataset), find_task(PEG)))
    assert not [finding for finding in said if "edge" in finding.what]


def test_a_number_that_is_none_on_both_sides_joins_them():
    dataset = changed("next_obs/state", (24, 0), np.nan, changed("obs/state", (25, 0), np.nan))
    said = [finding.what for finding in check(Source(dataset, find_task(PEG)))]
    assert not [what for what in said if "follows" in what]


def test_every_finding_says_where_it_is_first():
    finding = found(changed("obs/state", (25, 3), np.nan), "obs/state is not finite", "error")
    assert (finding.count, finding.episode, finding.row) == (1, 1, 25)
    assert finding.plain()["first"] == "episode 1, row 25"
    assert finding.plain()["how many"] == "1 row"


@pytest.mark.parametrize(
    ("dataset", "words", "severity", "count", "row"),
    [
        (changed("action", (22, 1), np.inf), "action is not finite", "error", 1, 22),
        (changed("reward", 5, np.nan), "reward is not finite", "error", 1, 5),
        (changed("action", (7, 2), 1.2), "actions outside -1..1, up to 1.2", "warning", 1, 7),
        (changed("action", slice(None), 30.0), "rescale", "error", 140, 0),
        (changed("action", (slice(None), 3), 1.0), "never change", "warning", 1, None),
        (changed("action", (slice(20, 65), 3), -1.0), "at one edge for the whole episode", "note", 1, 64),
        (changed("next_obs/state", (24, 0), 9.0), "is not the one that follows", "error", 1, 24),
        (changed("obs/state", (slice(None), 4), 2.0), "obs/state dimensions 4 never change", "note", 1, None),
        (changed("executed", (9, 0), 0.5), "what was executed differs", "note", 1, 9),
        (changed("truncated", 139, False), "has no end mark", "warning", 1, 139),
        (changed("truncated", 110, True), "steps after a success", "warning", 0, None),
        (changed("reward", slice(None), 0.5), "every reward is 0.5", "warning", 140, 0),
        (changed("reward", 3, 0.25), "raw rewards such as 0.25", "error", 1, 3),
        (changed("reward", 3, 1.0), "steps after a success", "warning", 16, 4),
        (changed("terminated", [64, 139], True), "terminal at the time limit (45 steps", "error", 2, 64),
        (changed("terminated", 64, True), "terminal at the time limit (45 steps", "warning", 1, 64),
        (changed("terminated", 40, True), "terminal without success", "warning", 1, 40),
        (changed("terminated", 94, False), "has no end mark", "", 0, None),
    ],
)
def test_what_is_wrong_is_found(dataset, words, severity, count, row):
    said = [finding for finding in check(Source(dataset, find_task(PEG))) if words in finding.what]
    if not count:
        assert said == []
        return
    assert [(f.severity, f.count, f.row) for f in said] == [(severity, count, row)]


def test_a_stuck_component_needs_most_of_the_rows():
    action = walk(PEG, LENGTHS, WINS).columns["action"].copy()
    action[: int(0.95 * len(action)), 2] = 1.0
    assert found(changed("action", slice(None), action), "dimensions 2 stand at the edge", "warning").count == 1
    action[: int(0.2 * len(action)), 2] = 0.3
    said = check(Source(changed("action", slice(None), action), find_task(PEG)))
    assert not [finding for finding in said if "stand at the edge" in finding.what]


def test_the_same_episode_twice_is_found_and_a_similar_one_is_not():
    dataset = walk(PEG, LENGTHS, WINS)
    twice = dataset.rows(np.r_[0:140, 20:65])
    finding = found(twice, "the same episode stands before", "warning")
    assert (finding.count, finding.episode, finding.row) == (1, 4, 184)
    other = changed("action", (150, 0), 0.125, twice)
    assert not [f for f in check(Source(other, find_task(PEG))) if "same episode" in f.what]


def test_end_marks_that_stay_up_are_found():
    dataset = changed("terminated", slice(10, 20), True)
    assert found(dataset, "episodes of a single step", "warning").count == 9


@pytest.mark.parametrize(
    ("task", "scale", "shift", "words"),
    [
        (PEG, 1.0, -1.0, "scaled by 1 and shifted by -1 already"),
        (PEG, 1.0, 2.0, "shifted by +2"),
        (DOOR, 10.0, 5.0, "scaled by 10 and shifted by +5 already"),
        (DOOR, 1.0, 1.0, "shifted by +1"),
        (DOOR, 0.3, 0.0, "segue data relabel"),
    ],
)
def test_rewards_of_another_convention_are_named(task, scale, shift, words):
    dataset = walk(task, [20, 30], [0])
    other = with_column(dataset, "reward", scale * dataset.columns["reward"] + shift)
    assert words in found(other, "raw rewards such as", "error").what
    info = replace(dataset.info, reward_scale=scale, reward_shift=shift)
    said = check(Source(replace(other, info=info), find_task(task)))  # the same, said in the journal
    assert not [finding for finding in said if "raw rewards" in finding.what]


def test_rewards_and_observations_that_disagree_are_found():
    dataset = walk(DOOR, [20, 30], [0])
    assert found(changed("reward", 19, -1.0, dataset), "do not agree on success", "error").row == 19
    assert found(changed("reward", 4, 0.0, dataset), "do not agree on success", "error").row == 4
    assert found(changed("success", slice(40, 50), True, dataset), "success as the data has it", "warning").episode == 1
    untold = changed("success", 49, False, walk(DOOR, [20, 30], [0, 1]))
    assert found(untold, "success as the data has it", "warning").episode == 1
    cut = changed("truncated", 19, True, changed("terminated", 19, False, dataset))
    assert found(cut, "success is the last step and is not terminal", "warning").row == 19


def test_a_terminal_step_whose_observation_is_repeated_tells_nothing_of_success():
    dataset = walk(DOOR, [20, 30], [0])
    repeated = changed("next_obs/state", 19, dataset.columns["obs/state"][19], dataset)
    said = check(Source(repeated, find_task(DOOR)))
    assert not [finding for finding in said if finding.severity == "error"]


def test_sizes_that_are_not_the_tasks_are_found():
    short = with_column(walk(PEG, LENGTHS), "action", np.zeros((140, 4), np.float32))
    assert found(with_column(short, "executed", short.columns["action"]), "actions have 4 dimensions", "error")
    renamed = {name.replace("state", "observation"): x for name, x in walk(PEG, LENGTHS).columns.items()}
    words = "observations are observation (19), task 'peg_insertion' has state (19)"
    assert found(Dataset(walk(PEG, LENGTHS).info, renamed), words, "error")


def test_a_task_of_ones_own_is_checked_as_far_as_that_goes():
    dataset = replace(walk(PEG, [20, 20, 20, 9]), info=raw_info("mine", 0.9)[0])
    ended = changed("terminated", [19, 39, 59], True, dataset)
    said = check(Source(ended, None))
    assert [f.what.split(",")[0] for f in said if f.severity == "error"] == ["terminal at the time limit (20 steps"]
    assert [f.severity for f in said if "'mine' is not one of ours" in f.what] == ["note"]


@pytest.fixture(scope="module")
def swung():
    """What a door's twin observes under a policy that is not random: slow waves."""
    task = find_task("door")
    env, rows = task.make(), []
    for episode in range(3):
        rows.append(env.reset(seed=100 + episode)[0])
        waves = (np.sin(0.2 * step + np.arange(task.action_dim)) for step in range(60))
        rows += [env.step(wave)[0] for wave in waves]
    env.close()
    return np.array(rows)


def test_the_twins_own_order_is_not_doubted_and_others_are(swung):
    task = find_task("door")
    assert order_doubt(task, swung) is None
    assert order_doubt(task, swung[:30, ::-1]) is None  # too few to say
    rng = np.random.default_rng(0)
    for order in (np.roll(np.arange(39), 2), np.arange(39)[::-1], rng.permutation(39)):
        said = order_doubt(task, swung[:, order])
        assert said is not None
        assert "in another order" in said


def test_the_human_door_demonstrations_have_no_error(tmp_path):
    file = demonstration_data() / "adroit_door_human25.npz"
    source = bring_in(file, "d4rl", "door", tmp_path / "door")
    said = check(source)
    assert [(f.severity, f.count, f.unit) for f in said] == [("warning", 5478, "rows"), ("warning", 25, "episodes")]
    assert "up to 1.366" in said[0].what
    assert "longer than task 'door' lasts (200 steps), up to 299" in said[1].what
    assert source.dataset.success_rate() == 7 / 25


def test_rewards_that_a_dense_task_does_not_give_are_found():
    sparse = walk(DOOR, [20, 30], [0])
    as_door = replace(sparse, info=raw_info("door")[0])
    assert "every reward is -1 or 0, as of a sparse task" in found(as_door, "as of a sparse task", "warning").what
    assert not [f for f in check(Source(as_door, find_task("door"))) if f.severity == "error"]
    # A kitchen's rewards are whole numbers, and may be shifted for training.
    state, rng = np.zeros((40, 60)), np.random.default_rng(0)
    ends = np.arange(40) == 39
    columns = ({"state": state}, {"state": state}, rng.uniform(-0.9, 0.9, (40, 9)))
    for shift, errors in ((0.0, 0), (-4.0, 1)):
        reward = np.repeat([0.0, 1.0], 20) + shift
        kitchen = Dataset.of(raw_info("kitchen-mixed")[0], *columns, reward, np.zeros(40, bool), ends)
        said = [f.what for f in check(Source(kitchen, find_task("kitchen-mixed"))) if f.severity == "error"]
        assert len(said) == errors
        assert all("counts from 0 to 4" in what for what in said)


def test_a_failure_that_an_operator_called_is_a_reward_of_a_task_that_has_a_penalty_for_it():
    failed, dataset, last = replace(find_task(PEG), failure_penalty=5.0), walk(PEG, LENGTHS, [0]), 94
    changes = {"reward": -5.0, "terminated": True, "truncated": False}
    columns = {name: x.copy() for name, x in dataset.columns.items()}
    for name, value in changes.items():
        columns[name][last] = value
    dataset = replace(dataset, columns=columns)
    assert check(Source(dataset, failed)) == []
    assert found(dataset, "raw rewards such as -5", "error").count == 1
