"""Data sets: journals as columns, whole or not at all, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.replay.dataset import ACTION_LIMIT, Dataset
from agent.replay.entry import Gap
from agent.replay.episodes import Tombstones, episodes
from agent.replay.journal_check import verify
from agent.replay.journal_info import DatasetInfo
from agent.replay.journal_write import write_journal
from agent.replay.stream_reader import StreamReader
from tests.agent import entries
from tests.agent.tiny import assert_same

INFO = DatasetInfo(
    task="reach",
    reward_scale=2.0,
    reward_shift=-1.0,
    discount=0.5,
    truncation_value=-2.0,
    reward="1 at the goal",
    provenance="made up here",
)
SHAPES = {"x": (1,)}


def dataset(*kinds: str, rest: int = 0) -> Dataset:
    """Episodes of three steps that end as told, and `rest` steps of an open one; rewards 0, 1, 2, ... throughout."""
    ends = np.array([end for how in kinds for end in ("", "", how)] + [""] * rest)
    place = np.arange(len(ends), dtype=np.float32)
    obs, following = place[:, None], np.where(ends != "", place + 0.5, place + 1)[:, None].astype(np.float32)
    terminated, truncated = ends == "terminated", ends == "truncated"
    return Dataset.of(INFO, {"x": obs}, {"x": following}, obs / 10, place, terminated, truncated, terminated)


TWO = dataset("terminated", "truncated")


def changed(name: str, values) -> Dataset:
    """`TWO` with one column replaced, or dropped where `values` is None."""
    columns = {k: v for k, v in TWO.columns.items() if k != name}
    return Dataset(INFO, columns if values is None else {**columns, name: values})


def refuse(call, *words):
    """The call is refused in one sentence that holds the words."""
    with pytest.raises(ValueError) as refusal:  # noqa: PT011 - the words are compared below
        call()
    assert "\n" not in str(refusal.value)
    for word in (*words, "data set", ";"):  # what is wrong; what to do
        assert word in str(refusal.value)


def same(found: Dataset, made: Dataset) -> None:
    assert set(found.columns) == set(made.columns)
    for name, column in made.columns.items():
        assert found.columns[name].dtype == column.dtype, name
        np.testing.assert_array_equal(found.columns[name], column, err_msg=name)


@given(st.data())
def test_a_journal_gives_back_every_bit(tmp_path_factory, data):
    rows = data.draw(st.integers(1, 12))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    kinds = data.draw(st.sampled_from([np.float32, np.float64]))
    ends = rng.integers(0, 4, rows)
    ends[-1] = 1  # one that is open would come back as cut
    image = rng.integers(0, 256, (rows + 1, 2, 3), dtype=np.uint8)
    x = rng.normal(size=(rows, 2)).astype(kinds)
    made = Dataset.of(
        INFO,
        {"a/b": x, "image": image[:-1]},
        {
            "a/b": np.where((ends == 0)[:, None] & (np.arange(rows) < rows - 1)[:, None], np.roll(x, -1, 0), x),
            "image": image[1:],
        },
        rng.normal(size=(rows, 3)).astype(kinds),
        rng.normal(size=rows),
        ends == 1,
        ends == 2,
        rng.integers(0, 2, rows),
        source=rng.integers(0, 3, rows).astype(np.int32),
        policy_version=rng.integers(0, 1 << 40, rows),
    )
    # An observation that does not follow from the one before ends that episode: it was cut there.
    expected = {**made.columns}
    joined = (made.columns["obs/a/b"][1:] == made.columns["next_obs/a/b"][:-1]).all(axis=1)
    expected["truncated"] = expected["truncated"] | np.append(~joined & ~expected["terminated"][:-1], False)
    folder = tmp_path_factory.mktemp("journal") / "data"
    write_journal(made, folder)
    found = Dataset.load(folder)
    assert found.info == INFO
    same(found, Dataset(INFO, expected))


STORIES = st.lists(
    st.one_of(
        st.text("-Tt.", min_size=1, max_size=8),
        st.just(entries.SCORES),
        st.builds(lambda n: n, st.integers(1, 5)),  # a gap of so many records
    ),
    max_size=6,
)


@given(tales=st.lists(STORIES, min_size=1, max_size=3), buried=st.integers(0, 4))
def test_columns_are_what_episodes_are(tmp_path_factory, tales, buried):
    folder = tmp_path_factory.mktemp("journal") / "journal"
    told = []
    for number, tale in enumerate(tales, 1):
        events, at = [], 1
        for event in tale:
            if isinstance(event, int):
                event = Gap(at + event, event, "lost")
            at = event.to if isinstance(event, Gap) else at + (len(event) if isinstance(event, str) else 1)
            events.append(event)
        told.append(entries.story(*events, session=number))
    entries.write(folder, *told)
    all_of_them = list(episodes(folder))
    if buried < len(all_of_them):
        gone = all_of_them[buried]
        Tombstones.discard(folder, gone.session, gone.number, "bad", "a test")
    expected = []
    for episode in episodes(folder):
        *others, last = episode.transitions
        expected += [*others, last if episode.complete else replace(last, truncated=True)]
    if not expected:
        with pytest.raises(ValueError, match="no transition that may be learned from"):
            Dataset.load(folder)
        return
    found = Dataset.load(folder).columns
    assert len(found["reward"]) == len(expected)
    for i, t in enumerate(expected):
        for kind in ("obs", "next_obs"):
            for name, x in getattr(t, kind).items():
                np.testing.assert_array_equal(found[f"{kind}/{name}"][i], x)
        np.testing.assert_array_equal(found["action"][i], t.action)
        names = ("reward", "terminated", "truncated", "source", "policy_version")
        assert [found[name][i] for name in names] == [getattr(t, name) for name in names]


def test_what_could_not_be_written_leaves_nothing(tmp_path):
    bad = changed("reward", np.array([0, 1, 2, 3, np.nan, 5.0]))
    with pytest.raises(ValueError, match="reward nan"):
        write_journal(bad, tmp_path / "new" / "data")
    assert not list((tmp_path / "new").iterdir())
    write_journal(TWO, tmp_path / "new" / "data")
    with pytest.raises(ValueError, match="already there; give another folder"):
        write_journal(TWO, tmp_path / "new" / "data")
    same(Dataset.load(tmp_path / "new" / "data"), TWO)


def test_the_same_data_gives_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        write_journal(TWO, tmp_path / name)
    files = {p.relative_to(tmp_path / "a"): p.read_bytes() for p in (tmp_path / "a").rglob("*") if p.is_file()}
    assert files == {p.relative_to(tmp_path / "b"): p.read_bytes() for p in (tmp_path / "b").rglob("*") if p.is_file()}


def test_nothing_beside_the_folder_is_touched(tmp_path):
    (tmp_path / "data.part").mkdir()
    (tmp_path / "data.part" / "mine").write_text("x")
    write_journal(TWO, tmp_path / "data")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data", "data.part"]
    assert (tmp_path / "data.part" / "mine").read_text() == "x"


def test_a_journal_that_was_written_whole_and_is_not_any_more_is_refused(tmp_path):
    write_journal(TWO, tmp_path / "data")
    path = next((tmp_path / "data").rglob("*.seg"))
    reader = StreamReader(path.parent)
    sizes = [len(record) for record in reader.read(100)]
    path.write_bytes(path.read_bytes()[: sum(sizes[:4])])  # a begin and the first episode: nothing looks torn
    refuse(lambda: Dataset.load(tmp_path / "data"), "3 of its 6 transitions")
    report = verify(tmp_path / "data")
    assert not report.ok
    assert "3 of the 6 transitions" in str(report.findings[0])


def test_a_damaged_record_is_refused(tmp_path):
    write_journal(TWO, tmp_path / "data")
    path = next((tmp_path / "data").rglob("*.seg"))
    whole = path.read_bytes()
    for at in range(0, len(whole) - 700, 97):
        broken = bytearray(whole)
        broken[at] ^= 1
        path.write_bytes(broken)
        refuse(lambda: Dataset.load(tmp_path / "data"), "journal repair")


def test_another_convention_for_the_same_rewards():
    raw = replace(INFO, reward_scale=1.0, reward_shift=0.0, truncation_value=0.0, discount=0.9)
    found = TWO.under(raw)
    np.testing.assert_array_equal(found.columns["reward"], (np.arange(6) + 1.0) / 2.0)
    assert (found.info.reward_scale, found.info.truncation_value, found.info.discount) == (1.0, 0.0, 0.9)
    assert found.info.provenance == INFO.provenance
    same(found.under(INFO), TWO)
    assert TWO.under(replace(INFO, discount=0.9)).columns["reward"] is TWO.columns["reward"]


def test_success_is_what_the_task_said_and_not_every_end():
    assert dataset("terminated", "truncated").success_rate() == 0.5
    fallen = changed("success", np.zeros(6, bool))
    assert fallen.success_rate() == 0.0


def test_what_is_no_journal_is_refused(tmp_path):
    refuse(lambda: Dataset.load(tmp_path / "none"), "there is no journal", "segue collect", "segue data import")
    (tmp_path / "file.npz").write_bytes(b"x")
    refuse(lambda: Dataset.load(tmp_path / "file.npz"), "there is no journal")


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
    "no transitions": (
        lambda: Dataset.of(INFO, {}, {}, np.zeros((0, 1)), np.zeros(0), np.zeros(0), np.zeros(0)),
        ["no transitions", "at least one episode"],
    ),
    "uneven": (
        lambda: Dataset.of(INFO, {}, {}, np.zeros((2, 1)), np.zeros(3), np.zeros(3), np.zeros(3)),
        ["action has 2 rows, reward has 3"],
    ),
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
    write_journal(TWO, tmp_path / "a")
    assert_same(Dataset.load(tmp_path / "a").normalizer(), TWO.normalizer())
    assert replace(INFO, task="other") != INFO
