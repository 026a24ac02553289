"""Data sets: one checked file, whole or not at all, and what is refused."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.replay.dataset import ACTION_LIMIT, Dataset, DatasetInfo
from tests.agent.tiny import assert_same, transition

INFO = DatasetInfo("reach", reward_scale=2.0, reward_shift=-1.0, discount=0.5, provenance="made up here")
SHAPES = {"x": (1,)}


def dataset(*episodes: str, rest: int = 0) -> Dataset:
    """Episodes of three steps that end as told, and `rest` steps of an open one; rewards 0, 1, 2, ... throughout."""
    ends = [end for how in episodes for end in ("", "", how)] + [""] * rest
    return Dataset.from_transitions(
        [transition(reward=float(i), end=end, x=float(i), action=i / 10) for i, end in enumerate(ends)], INFO
    )


TWO = dataset("terminated", "truncated")


def changed(name: str, values) -> Dataset:
    """`TWO` with one column replaced, or dropped where `values` is None."""
    columns = {k: v for k, v in TWO.columns.items() if k != name}
    return Dataset(INFO, columns if values is None else {**columns, name: values})


def test_a_file_gives_back_every_bit(tmp_path):
    rng = np.random.default_rng(0)
    made = Dataset(
        INFO, {**TWO.columns, "obs/x": rng.normal(size=(6, 1)).astype(np.float32), "obs/y": rng.normal(size=(6, 2, 3))}
    )
    made.save(tmp_path / "new" / "data.npz")
    found = Dataset.load(tmp_path / "new" / "data.npz")
    assert found.info == INFO
    assert set(found.columns) == set(made.columns)
    for name, column in made.columns.items():
        assert found.columns[name].dtype == column.dtype
        np.testing.assert_array_equal(found.columns[name], column)
    assert len(found) == 6


class Unwritable:
    """Breaks while it is being written, as a full disk would."""

    def __array__(self, *args, **options):
        raise OSError("no space left")


def test_a_file_that_could_not_be_written_leaves_the_old_one(tmp_path):
    path = tmp_path / "data.npz"
    TWO.save(path)
    before = path.read_bytes()
    with pytest.raises(OSError, match="no space left"):
        Dataset(INFO, {"obs/x": Unwritable(), **{k: v for k, v in TWO.columns.items() if k != "obs/x"}}).save(path)
    assert path.read_bytes() == before
    TWO.save(path)  # what the broken one left is no obstacle
    assert Dataset.load(path).info == INFO


def refuse(call, *words):
    """The call is refused in one sentence that holds the words."""
    with pytest.raises(ValueError) as refusal:  # noqa: PT011 - the words are compared below
        call()
    assert "\n" not in str(refusal.value)
    for word in (*words, "data set", ";"):  # what is wrong; what to do
        assert word in str(refusal.value)


def test_a_missing_file_is_refused(tmp_path):
    refuse(lambda: Dataset.load(tmp_path / "none.npz"), "none.npz", "there is no such file", "segue collect")
    refuse(lambda: Dataset.load(tmp_path), "there is no such file")


def one_array(path):
    with path.open("wb") as file:
        np.save(file, np.zeros(3))


def other_files():
    text = json.dumps({"task": "reach", "speed": 1})
    return {
        "garbage": lambda p: p.write_bytes(b"\x00garbage" * 50),
        "empty": lambda p: p.write_bytes(b""),
        "one array": one_array,
        "pickled objects": lambda p: np.savez(p, info=np.array([{"task": "reach"}], object)),
        "no info": lambda p: np.savez(p, reward=np.zeros(3)),
        "other info": lambda p: np.savez(p, info=text, reward=np.zeros(3)),
        "info that is no text of a table": lambda p: np.savez(p, info="[1, 2]", reward=np.zeros(3)),
    }


@pytest.mark.parametrize("kind", other_files())
def test_other_files_are_refused(tmp_path, kind):
    path = tmp_path / "data.npz"
    other_files()[kind](path)
    refuse(lambda: Dataset.load(path), "data.npz", "segue collect")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "data.npz"
    TWO.save(path)
    return path, path.read_bytes()


@given(kept=st.floats(0.0, 0.999))
def test_a_file_cut_short_is_refused(saved, kept):
    path, whole = saved
    path.write_bytes(whole[: int(kept * len(whole))])
    refuse(lambda: Dataset.load(path), "segue collect")


@settings(max_examples=300)
@given(at=st.floats(0.0, 1.0, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_is_refused_or_harmless(saved, at, bit):
    path, whole = saved
    broken = bytearray(whole)
    broken[int(at * len(whole))] ^= 1 << bit
    path.write_bytes(broken)
    try:
        found = Dataset.load(path)
    except ValueError as refusal:
        message = str(refusal)
        assert "\n" not in message
    else:
        for name in set(found.columns) & set(TWO.columns):
            np.testing.assert_array_equal(found.columns[name], TWO.columns[name])


@pytest.mark.parametrize(("offset", "value"), [(8, 1), (10, 99)], ids=["says it is encrypted", "unknown compression"])
def test_a_broken_table_of_contents_is_refused(saved, offset, value):
    path, whole = saved
    broken = bytearray(whole)
    broken[whole.index(b"PK\x01\x02") + offset] = value
    path.write_bytes(broken)
    refuse(lambda: Dataset.load(path), "segue collect")


def test_data_that_fits_passes_the_check():
    TWO.check(SHAPES, 1, "reach")


WRONG = {
    "task": (lambda: TWO.check(SHAPES, 1, "insert"), ["'reach'", "'insert'"]),
    "action": (lambda: TWO.check(SHAPES, 2, "reach"), ["action has shape (6, 1)", "(6, 2)"]),
    "observation": (lambda: TWO.check({"x": (4,)}, 1, "reach"), ["obs/x has shape (6, 1)", "(6, 4)"]),
    "other observation": (lambda: TWO.check({"y": (1,)}, 1, "reach"), ["'obs/y' is missing"]),
    "fewer rows": (lambda: changed("action", np.zeros((5, 1))).check(SHAPES, 1, "reach"), ["(5, 1)", "(6, 1)"]),
    "no column": (lambda: changed("terminated", None).check(SHAPES, 1, "reach"), ["'terminated' is missing"]),
    "no rewards": (lambda: changed("reward", None).check(SHAPES, 1, "reach"), ["'reward' is missing"]),
    "one reward": (lambda: changed("reward", np.float32(1.0)).check(SHAPES, 1, "reach"), ["reward"]),
    "no rows": (
        lambda: Dataset(INFO, {k: v[:0] for k, v in TWO.columns.items()}).check(SHAPES, 1, "reach"),
        ["no transitions"],
    ),
    "nothing to save": (lambda: Dataset.from_transitions([], INFO), ["no transitions", "at least one episode"]),
}


@pytest.mark.parametrize("case", WRONG)
def test_data_that_does_not_fit_is_refused_in_one_sentence(case):
    call, words = WRONG[case]
    refuse(call, *words)


@pytest.mark.parametrize("name", ["obs/x", "next_obs/x", "action", "reward"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_the_first_row_that_is_no_number_is_named(name, value):
    column = TWO.columns[name].copy()
    column[[4, 5]] = value
    refuse(lambda: changed(name, column).check(SHAPES, 1, "reach"), name, "row 4", "remove that episode")


def test_one_bad_entry_among_many_is_found():
    wide = np.zeros((6, 3), np.float32)
    wide[2, 1] = np.nan
    refuse(lambda: changed("obs/x", wide).check({"x": (3,)}, 1, "reach"), "row 2")


def test_returns_run_over_whole_episodes_in_order():
    batch = dataset("terminated", "truncated", rest=2).batch()
    # Terminated 0, 1, 2: 2; 1 + 1 = 2; 0 + 1 = 1.
    # Truncated 3, 4, 5 with -1 / (1 - 0.5) = -2 to follow: 5 - 1 = 4; 4 + 2 = 6; 3 + 3 = 6. Then an open one: none.
    np.testing.assert_array_equal(batch.mc_return, [1.0, 2.0, 2.0, 6.0, 6.0, 4.0, 0.0, 0.0])
    np.testing.assert_array_equal(batch.has_return, [1, 1, 1, 1, 1, 1, 0, 0])
    np.testing.assert_array_equal(batch.mask, [1, 1, 0, 1, 1, 1, 1, 1])
    np.testing.assert_array_equal(batch.source, [2] * 8)
    np.testing.assert_array_equal(batch.reward, np.arange(8.0))


def test_a_batch_holds_what_was_recorded_with_actions_a_policy_can_reach():
    column = np.float32([[1.0], [-1.0], [0.5], [0.0], [2.0], [0.1]])
    batch = changed("action", column).batch()
    np.testing.assert_allclose(batch.action[:, 0], [ACTION_LIMIT, -ACTION_LIMIT, 0.5, 0.0, ACTION_LIMIT, 0.1])
    np.testing.assert_array_equal(batch.obs["x"], TWO.columns["obs/x"])
    np.testing.assert_array_equal(batch.next_obs["x"], TWO.columns["next_obs/x"])


def test_success_counts_whole_episodes():
    assert dataset("terminated", "truncated", "terminated", "truncated", rest=1).success_rate() == 0.5
    assert dataset(rest=2).success_rate() == 0.0


def test_statistics_standardise_this_data_and_centre_what_never_varies():
    made = changed("obs/x", np.float32([[1.0], [2.0], [3.0], [1.0], [2.0], [3.0]]))
    still = Dataset(INFO, {**made.columns, "obs/still": np.full((6, 2), 7.0, np.float32)})
    normalizer = still.normalizer()
    # Mean 2, variance 2/3.
    np.testing.assert_allclose(normalizer.mean["x"], [2.0])
    np.testing.assert_allclose(normalizer.std["x"], [np.sqrt(2 / 3)], rtol=1e-6)
    np.testing.assert_array_equal(normalizer.std["still"], 1.0)
    rows = normalizer({"x": np.float32([[2.0 + np.sqrt(2 / 3)]]), "still": np.float32([[7.0, 7.0]])})
    np.testing.assert_allclose(rows, [[0.0, 0.0, 1.0]], atol=1e-5)  # in the order of the names


def test_statistics_do_not_lose_precision_far_from_zero():
    far = 1e4 + np.random.default_rng(0).normal(size=(6, 1))
    normalizer = changed("obs/x", far.astype(np.float32)).normalizer()
    np.testing.assert_allclose(normalizer.std["x"], far.astype(np.float32).astype(np.float64).std(axis=0), rtol=1e-5)


def test_the_statistics_of_a_data_set_are_its_own(tmp_path):
    TWO.save(tmp_path / "a.npz")
    assert_same(Dataset.load(tmp_path / "a.npz").normalizer(), TWO.normalizer())
    assert replace(INFO, task="other") != INFO
