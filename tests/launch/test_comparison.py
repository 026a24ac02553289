"""A comparison: what a cell must hold, the numbers made of it, and the files that show them."""

import copy
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from launch import comparison
from launch.comparison import estimates, interquartile_mean, merge_cells, write_comparison
from launch.comparison_cells import Cell
from launch.comparison_plots import BRIDGES, Estimate, Line, Row, curves_picture, looks, summary_picture

ENV_STEPS = [0, 100, 200, 300, 400, 500, 600, 700, 800, 900, 1000]
CURVE = [0.5, 0.1, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.7, 0.9]
FILES = ["curves.png", "summary.png", "table.json", "table.md"]
scores = arrays(np.float64, st.tuples(st.integers(1, 12), st.integers(1, 4)), elements=st.floats(0, 1))


def raw(bridge: str = "warm_up", offline: str = "calql", lift=(0.0,), **changes) -> dict:
    """A cell as it is written: `CURVE` for each seed, lifted by a number of its own; sampled actions do 0.1 worse."""
    success = np.clip(np.array(CURVE)[None, :] + np.array(lift)[:, None], 0, 1)
    acting = [
        {"success": rates.tolist(), "normalized": (100 * rates).tolist(), "return": (50 * rates - 60).tolist()}
        for rates in (success, np.maximum(success - 0.1, 0))
    ]
    return {
        "offline": offline,
        "bridge": bridge,
        "online": "sac",
        "task": "narrow_passage",
        "seeds": list(range(len(lift))),
        "env_steps": ENV_STEPS,
        "mode": acting[0],
        "sample": acting[1],
        "trials": 50,
        "wall_s": 61.2,
        "data": {"mean_score": 0.3, "mean_return": -40.1},
        "diagnostics": {"sqor": [0.25] * len(lift)},
        **changes,
    }


def cell(*args, **kwargs) -> Cell:
    return Cell.from_json(raw(*args, **kwargs), Path("result.json"))


def written(cells, out, headline="mode") -> dict:
    write_comparison(cells, out, headline)
    return json.loads((out / "table.json").read_text())


@pytest.mark.parametrize(
    ("values", "middle"),
    [
        ([0.7], 0.7),
        ([0.0, 0.3, 0.9], 0.4),  # nothing to cut from three
        ([0.9, 0.1, 0.2, 0.4], 0.3),
        ([0.0, 0.2, 0.3, 0.7, 0.9], 0.4),
        ([0.0, 0.1, 0.2, 0.3, 0.4, 0.7, 0.8, 1.0], 0.4),
    ],
)
def test_the_interquartile_mean_of_known_values(values, middle):
    assert interquartile_mean(np.array(values)[:, None]) == pytest.approx([middle])


@given(scores)
def test_the_interquartile_mean_is_rliables(values):
    from rliable.metrics import aggregate_iqm

    assert interquartile_mean(values) == pytest.approx([aggregate_iqm(column) for column in values.T])


def test_intervals_of_known_values():
    """Of two seeds' means a quarter is the lower, half the middle, a quarter the higher; equal seeds leave no doubt."""
    middle, low, high = estimates(np.array([[0.0, 0.6], [1.0, 0.6]]))
    assert (middle.tolist(), low.tolist(), high.tolist()) == ([0.5, 0.6], [0.0, 0.6], [1.0, 0.6])


def test_an_interval_is_that_of_a_bootstrap_written_out():
    values = np.random.default_rng(1).random((30, 1))
    middle, low, high = estimates(values)
    for i, column in enumerate(values.T):
        again = np.random.default_rng(2).choice(column, (5_000, 30))
        expected = np.quantile(interquartile_mean(again.T), [0.025, 0.975])
        assert [low[i], high[i]] == pytest.approx(expected, abs=0.01)
        assert low[i] < middle[i] < high[i]


def test_an_interval_neither_depends_on_nor_moves_other_random_numbers():
    values = np.random.default_rng(0).random((5, 3))
    found = []
    for seed in (1, 2):
        np.random.seed(seed)  # noqa: NPY002
        found.append(estimates(values))
        after = np.random.random()  # noqa: NPY002
        np.random.seed(seed)  # noqa: NPY002
        assert after == np.random.random()  # noqa: NPY002
    assert np.array_equal(found[0], found[1])


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_bounds_lie_among_the_seeds(seeds):
    values = np.random.default_rng(seeds).random((seeds, 6))
    _, low, high = estimates(values)
    rounding = 1e-12
    assert np.all((values.min(axis=0) <= low + rounding) & (low < high) & (high <= values.max(axis=0) + rounding))


def test_one_seed_has_no_interval():
    assert estimates(np.array([[0.2, 0.4]]))[1:] == (None, None)


def test_what_is_measured_on_a_known_curve(tmp_path):
    """The first quarter holds 0.5, 0.1, 0.3; the last tenth 0.7, 0.9; the trapezoids of 1 - success sum to 430 of 1000."""
    (found,) = written([cell(lift=(0.0, 0.05, -0.1))], tmp_path)["cells"]
    mode = found["mode"]
    assert mode["start"]["seeds"] == pytest.approx([0.5, 0.55, 0.4])
    assert mode["worst"]["seeds"] == pytest.approx([0.1, 0.15, 0.0])
    assert mode["early_drop"]["seeds"] == pytest.approx([0.4, 0.4, 0.4])
    assert mode["early_drop"]["interval"] == pytest.approx([0.4, 0.4])
    assert mode["asymptote"]["seeds"] == pytest.approx([0.8, 0.85, 0.7])
    assert mode["regret"]["seeds"] == pytest.approx([0.43, 0.38, 0.53])
    assert mode["regret"]["iqm"] == pytest.approx((0.43 + 0.38 + 0.53) / 3)
    assert mode["last_return"]["seeds"] == pytest.approx([-15.0, -12.5, -20.0])
    assert mode["last_normalized"]["seeds"] == pytest.approx([90.0, 95.0, 80.0])
    assert found["sample"]["start"]["seeds"] == pytest.approx([0.4, 0.45, 0.3])
    assert found["diagnostics"]["sqor"] == {"seeds": [0.25] * 3, "iqm": 0.25, "interval": [0.25, 0.25]}
    assert found["env_steps"] == 1000
    assert found["seeds"] == [0, 1, 2]
    assert (found["trials"], found["wall_s"]) == (50, 61.2)
    assert found["data"] == {"mean_score": 0.3, "mean_return": -40.1}


def test_regret_is_scaled_over_the_cells(tmp_path):
    lifts = {"direct": -0.1, "warm_up": 0.1, "anneal": 0.0}
    cells = written([cell(bridge, lift=(lift,)) for bridge, lift in lifts.items()], tmp_path)["cells"]
    assert [c["mode"]["normalized_regret"] for c in cells] == pytest.approx([1.0, 0.0, 0.5])


def test_a_cells_numbers_do_not_depend_on_the_others(tmp_path):
    lift = (0.0, 0.05, -0.1)
    alone = written([cell(lift=lift)], tmp_path)["cells"][0]
    beside = written([cell("direct", lift=(0.02, 0.01)), cell(lift=lift)], tmp_path)["cells"][1]
    for found in (alone, beside):
        del found["mode"]["normalized_regret"], found["sample"]["normalized_regret"]
    assert alone == beside


def test_the_table_for_people(tmp_path):
    write_comparison([cell("rlpd", "none"), cell(lift=(0.0, 0.1))], tmp_path, "mode")
    caption, _, head, _, *body = (tmp_path / "table.md").read_text().splitlines()
    assert "narrow_passage" in caption
    assert "1 or 2 seeds, 50 trials" in caption
    assert "its most likely action" in caption
    assert head == "| cell | seeds | start, % | worst, % | early drop, % | asymptote, % | regret, % |"
    assert body[0] == "| rlpd → sac | 1 | 50.0 | 10.0 | 40.0 | 80.0 | 43.0 |"
    assert body[1].startswith(
        "| calql → warm_up → sac | 2 | 55.0 [50.0, 60.0] | 15.0 [10.0, 20.0] | 40.0 [40.0, 40.0] |"
    )


def test_the_headline_is_what_people_see_and_the_numbers_hold_both(tmp_path):
    tables = [written([cell()], tmp_path / headline, headline) for headline in ("mode", "sample")]
    assert tables[0]["cells"] == tables[1]["cells"]
    assert "| 40.0 | 0.0 | 40.0 |" in (tmp_path / "sample" / "table.md").read_text()
    assert "sampled actions" in (tmp_path / "sample" / "table.md").read_text()
    for name in ("curves.png", "summary.png"):
        assert (tmp_path / "mode" / name).read_bytes() != (tmp_path / "sample" / name).read_bytes()


def test_files_are_whole_and_the_same_each_time(tmp_path):
    cells = [cell("direct", lift=(0.0, 0.1)), cell()]
    for name in ("a/b", "c"):
        write_comparison(cells, tmp_path / name, "mode")
        assert sorted(p.name for p in (tmp_path / name).iterdir()) == FILES
    for name in FILES:
        assert (tmp_path / "a/b" / name).read_bytes() == (tmp_path / "c" / name).read_bytes()
    for name in ("curves.png", "summary.png"):
        assert cv2.imread(str(tmp_path / "c" / name)) is not None


@pytest.mark.parametrize("broken", ["launch.comparison.summary_picture", "pathlib.Path.write_bytes"])
def test_what_stops_half_way_leaves_the_older_files(broken, tmp_path, monkeypatch):
    def full(path, content):
        if "summary" in str(path):
            raise OSError("no space left")
        with open(path, "wb") as file:
            file.write(content)

    def fails(*_):
        raise OSError("no space left")

    write_comparison([cell()], tmp_path, "mode")
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    monkeypatch.setattr(broken, full if "write" in broken else fails)
    with pytest.raises(OSError, match="no space left"):
        write_comparison([cell("direct", lift=(0.1,))], tmp_path, "mode")
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ([], "no finished cell"),
        ([raw(), raw()], "there twice"),
        ([raw(), raw("direct", task="door-binary")], r"\['door-binary', 'narrow_passage'\]; compare each task alone"),
        ([raw(env_steps=[0, *range(9_990, 10_000)])], "calql → warm_up → sac: .*no evaluation lies within 2499"),
    ],
)
def test_what_cannot_be_compared(cells, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        write_comparison([Cell.from_json(c, Path("x")) for c in cells], tmp_path / "out", "mode")
    assert not (tmp_path / "out").exists()


def broken(name: str, value) -> tuple[str, dict]:
    changed = copy.deepcopy(raw(lift=(0.0, 0.1)))
    *parents, last = name.split(".")
    place = changed
    for parent in parents:
        place = place[parent]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return name, changed


@pytest.mark.parametrize(
    ("name", "content"),
    [
        *[broken(name, None) for name in raw() if name not in ("mode", "sample", "data")],
        *[broken(f"mode.{name}", None) for name in ("success", "return")],
        *[broken(name, value) for name in ("offline", "bridge", "online", "task") for value in ("", 3)],
        *[broken("seeds", value) for value in ([], [0, 0], [0.5, 1.5], [True, False], 3, ["0", "1"])],
        *[broken("env_steps", value) for value in ([], [0, 100, 100, *ENV_STEPS[3:]], [-1, *ENV_STEPS[1:]], "0")],
        *[
            broken("sample.success", value)
            for value in ([CURVE], [CURVE, CURVE[1:]], [CURVE, [1.01] * 11], [CURVE, "x"], [[True] * 11] * 2)
        ],
        *[broken("mode.return", value) for value in ([[0] * 11, [float("nan")] * 11], [[0] * 10] * 2)],
        *[broken("mode.normalized", value) for value in ([[None] * 11] * 2, 3, "no")],
        *[broken("trials", value) for value in (0, 2.5, [50], "50")],
        *[broken("wall_s", value) for value in (-1, float("inf"))],
        *[broken("data.mean_score", value) for value in (None, 1.2, "0.3")],
        *[broken("data.mean_return", value) for value in (None, float("nan"))],
        *[broken("diagnostics.sqor", value) for value in ([0.1], [0.1, float("nan")], 0.1)],
    ],
)
def test_a_malformed_cell_is_refused_in_one_sentence(name, content):
    with pytest.raises(ValueError, match="run the cell again") as refused:
        Cell.from_json(content, Path("cells/a/result.json"))
    assert f"'{name}'" in str(refused.value)
    assert "cells/a/result.json" in str(refused.value)
    assert len(str(refused.value)) < 250
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("content", [None, [], 3, "cell", {}])
def test_what_is_no_cell_is_refused(content):
    with pytest.raises(ValueError, match="'seeds'"):
        Cell.from_json(content, Path("result.json"))


def test_a_cell_holds_what_was_written():
    read = cell(lift=(0.0, 0.1), seeds=[7, 3])
    assert (read.label, read.seeds, read.trials) == ("calql → warm_up → sac", (7, 3), 50)
    assert read.mode.success.shape == read.sample.returns.shape == (2, len(ENV_STEPS))
    assert (read.data_score, read.data_return) == (0.3, -40.1)
    unscored = raw()
    unscored["mode"]["normalized"] = None
    assert Cell.from_json(unscored, Path("x")).mode.normalized is None


def save(folder: Path, name: str, content: dict | None) -> None:
    (folder / "cells" / name).mkdir(parents=True)
    if content is not None:
        (folder / "cells" / name / "result.json").write_text(json.dumps(content))


def test_cells_of_several_folders_stand_together(tmp_path):
    save(tmp_path / "one", "b", raw("warm_up"))
    save(tmp_path / "one", "a", raw("direct"))
    save(tmp_path / "one", "c", None)
    save(tmp_path / "two", "a", raw("anneal"))
    save(tmp_path / "two", "d", None)
    (tmp_path / "two" / "cells" / "notes.txt").write_text("not a cell")
    cells, unfinished = merge_cells([tmp_path / "one", tmp_path / "two"])
    assert [c.bridge for c in cells] == ["direct", "warm_up", "anneal"]
    assert unfinished == 2


def test_what_cannot_be_merged(tmp_path):
    with pytest.raises(ValueError, match="empty has no folder cells"):
        merge_cells([tmp_path / "empty"])
    save(tmp_path / "one", "a", raw())
    save(tmp_path / "two", "b", raw())
    with pytest.raises(ValueError, match=r"two/cells/b/result.json is the same cell as .*one/cells/a/result.json"):
        merge_cells([tmp_path / "one", tmp_path / "two"])
    (tmp_path / "one/cells/a/result.json").write_text("{")
    with pytest.raises(ValueError, match="is not JSON"):
        merge_cells([tmp_path / "one"])


def line(panel: str = "calql → sac", bridge: str = "direct", seeds: int = 2, data_score: float = 0.3) -> Line:
    middle = np.array([0.2, 0.5, 0.9])
    bounds = (middle - 0.1, middle + 0.1) if seeds > 1 else ()
    return Line(
        panel, bridge, np.array([0, 50, 100]), Estimate(np.stack([middle] * seeds), middle, *bounds), data_score
    )


def pixels(picture: bytes) -> np.ndarray:
    found = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR)
    assert found is not None
    return found


def share_of(picture: bytes, colour: str) -> float:
    """The share of pixels that have exactly a colour `#rrggbb`."""
    blue_green_red = [int(colour[i : i + 2], 16) for i in (5, 3, 1)]
    return float(np.mean(np.all(pixels(picture) == blue_green_red, axis=-1)))


def test_a_picture_has_a_line_a_band_and_the_data():
    plain = curves_picture("title", [line(seeds=1)])
    assert share_of(plain, BRIDGES["direct"][0]) > 0.001
    assert share_of(plain, BRIDGES["warm_up"][0]) == 0
    for other in ([line()], [line(seeds=1), line(bridge="warm_up", seeds=1)], [line(seeds=1, data_score=0.6)]):
        assert curves_picture("title", other) != plain
    assert share_of(curves_picture("title", [line(), line(bridge="warm_up")]), BRIDGES["warm_up"][0]) > 0.001


def test_a_line_stands_in_its_own_panel():
    both = curves_picture("title", [line("a", "direct"), line("b", "warm_up")])
    left = pixels(both)[:, : pixels(both).shape[1] // 3]
    for bridge, there in (("direct", True), ("warm_up", False)):
        blue_green_red = [int(BRIDGES[bridge][0][i : i + 2], 16) for i in (5, 3, 1)]
        assert np.any(np.all(left == blue_green_red, axis=-1)) == there


def test_a_line_of_many_evaluations_has_no_markers():
    def flat(evaluations: int) -> Line:
        middle = np.full(evaluations, 0.5)
        return Line("a", "direct", np.linspace(0, 100, evaluations), Estimate(middle[None, :], middle), 0.3)

    few, many = (share_of(curves_picture("title", [flat(n)]), BRIDGES["direct"][0]) for n in (30, 31))
    assert few > 1.1 * many > 0


def test_panels_stand_three_beside_one_another():
    sizes = [pixels(curves_picture("t", [line(f"{i}") for i in range(n)])).shape for n in (1, 3, 4)]
    assert sizes[0][0] == sizes[1][0] < sizes[2][0]
    assert sizes[0][1] < sizes[1][1] == sizes[2][1]


def test_a_bridge_looks_the_same_in_every_picture():
    few, many = looks(["warm_up", "new"]), looks(["another", "direct", "new", "warm_up"])
    assert few["warm_up"] == many["warm_up"] == BRIDGES["warm_up"]
    assert few["new"] not in BRIDGES.values()
    assert len({colour for colour, _ in many.values()}) == len(many)
    assert looks(["new", "other"]) == looks(["other", "new", "new"])


def test_the_bridges_there_are_have_a_look_of_their_own():
    from agent.bridges import bridge_names

    assert set(bridge_names()) <= set(BRIDGES)
    assert len({colour for colour, _ in BRIDGES.values()}) == len({m for _, m in BRIDGES.values()}) == len(BRIDGES)


def test_a_summary_grows_with_its_rows_and_shows_their_colours():
    def row(bridge: str, *bounds: float) -> Row:
        return Row(
            bridge, bridge, {"regret": Estimate(np.array([0.4, 0.6]), np.float64(0.5), *map(np.float64, bounds))}
        )

    columns = {"regret": "regret", "again": "again"}
    rows = [
        Row(r.label, r.bridge, {**r.measures, "again": r.measures["regret"]}) for r in (row("direct"), row("anneal"))
    ]
    one, two = (summary_picture("title", columns, rows[:n]) for n in (1, 2))
    assert pixels(one).shape[0] < pixels(two).shape[0]
    assert share_of(one, BRIDGES["anneal"][0]) == 0 < share_of(two, BRIDGES["anneal"][0])
    wide = [Row("direct", "direct", dict.fromkeys(columns, row("direct", 0.1, 0.9).measures["regret"]))]
    assert np.mean(np.any(pixels(summary_picture("title", columns, wide)) != pixels(one), axis=-1)) > 0.01


def test_what_starts_from_nothing_stands_in_every_panel_of_its_online_method(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(comparison, "curves_picture", lambda title, lines: seen.extend(lines) or b"")
    cells = [cell(), cell(offline="cql"), cell(offline="cql", online="td3"), cell("rlpd", "none")]
    write_comparison([*cells, cell("scratch", "none", online="ppo")], tmp_path, "sample")
    assert [(found.panel, found.bridge) for found in seen] == [
        ("calql → sac", "warm_up"),
        ("cql → sac", "warm_up"),
        ("cql → td3", "warm_up"),
        ("calql → sac", "rlpd"),
        ("cql → sac", "rlpd"),
        ("ppo", "scratch"),
    ]
    assert seen[0].score.middle == pytest.approx([rate - 0.1 for rate in CURVE])
    assert seen[0].score.low is None
    assert seen[0].data_score == 0.3
