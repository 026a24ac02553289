"""The report page: of run folders with made-up numbers, parsed and searched as a reader would."""

import json
import math
import random
from html.parser import HTMLParser

import numpy as np
import pytest
from scipy.stats import binomtest

from launch.plots import Curve, mean_curve, thinned
from launch.report import write_report
from launch.report_sections import TREND_EPISODES, metric_curve, trend
from launch.run_folder import STAGES, read_run

VOID = {"meta", "br", "img", "link", "input", "hr"}
WSRL, RLPD = (13, 12, 15, 18, 19, 20, 20), (0, 0, 1, 2, 2, 4, 4)


class Page(HTMLParser):
    """Checks that tags nest, and keeps text, tags and attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open, self.tags, self.ids, self.refs, self.words = [], [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.ids += [value for name, value in attrs if name == "id"]
        self.refs += [value for name, value in attrs if name in ("src", "href", "xlink:href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data)


def score(mode, success, trials=20, fault=None, seed=0):
    rng = random.Random(1000 * seed + success)
    won = set(rng.sample(range(trials), success))
    outcomes = [
        {
            "number": i,
            "success": i in won,
            "env_steps": rng.randint(20, 45) if i in won else 60,
            "fault": None if i in won or i != fault else "wrench 41.0 N is over 40.0 N",
            "final_offset_m": [
                rng.gauss(0, 0.006),
                rng.gauss(0, 0.006),
                0.001 if i in won else rng.uniform(0.02, 0.04),
            ],
        }
        for i in range(trials)
    ]
    return {
        "mode": mode,
        "success": success,
        "trials": trials,
        "ci95": [*binomtest(success, trials).proportion_ci()],  # Clopper and Pearson's, as old runs have it
        "outcomes": outcomes,
    }


def write_lines(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def make_run(folder, seed=0, finished=True, wsrl=WSRL, rlpd=RLPD, **recipe):
    """A run folder as `segue rehearse` leaves it, with numbers made up for the layout."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    full = {
        "command": "rehearse", "preset": "quick", "seed": seed, "task": "peg_insertion",
        "learning": {"networks": {"critics": 4}}, "collect": {"transitions": 8000},
        "offline": {"method": "calql", "updates": 3000},
        "online": {"env_steps": 3000, "utd": 4, "bridge_settings": {"steps": 500}},
        "evaluation": {"trials": 20, "every_env_steps": 500, "headline": "mode"}, **recipe,
    }  # fmt: skip
    (folder / "recipe.json").write_text(json.dumps(full))
    by_mode = {}
    for mode, less in (("mode", 0), ("sample", 2)):
        counts = {"offline": wsrl[0], "finetuned": wsrl[-1], "rlpd": rlpd[-1]}
        by_mode[mode] = {stage: score(mode, max(n - less, 0), seed=seed) for stage, n in counts.items()}
    for method, counts in (("wsrl", wsrl), ("rlpd", rlpd)):
        rows = []
        for i, n in enumerate(counts):
            step = 500 * i + int(rng.integers(0, 40)) * (0 < i < len(counts) - 1)
            scores = {"mode": score("mode", n, seed=seed), "sample": score("sample", max(n - 2, 0), fault=3, seed=seed)}
            rows.append({"env_steps": step, "wall_s": 2.0 * i, **scores})
        write_lines(folder / method / "scores.jsonl", rows)
        start, gain = (-22.0, 12.0) if method == "wsrl" else (-2.0, -14.0)
        write_lines(folder / method / "metrics.jsonl", [metric(rng, u, start, gain) for u in range(80, 10000, 80)])
        ends = range(45, 3000, 45)
        won = [bool(rng.random() < counts[min(int(e // 500), len(counts) - 1)] / 20) for e in ends]
        rows = [{"env_steps": e, "length": 45, "success": w, "fault": None} for e, w in zip(ends, won, strict=True)]
        write_lines(folder / method / "episodes.jsonl", rows)
    rows = [metric(rng, u, -3.0, -19.0, 3000) for u in range(100, 3001, 100)]
    write_lines(folder / "pretrain" / "metrics.jsonl", rows)
    if finished:
        result = {
            **by_mode["mode"], "headline_mode": "mode", "by_mode": by_mode, "area": {"wsrl": 0.8125, "rlpd": 0.0934},
            "env_steps": 3000, "updates": 13000, "wall_s": 312.5, "seed": seed, "preset": "quick", "task": "peg_insertion",
            "versions": {"segue": "0.1.0", "jax": "0.10.2", "mujoco": "3.11.0", "python": "3.11.9"},
            "data": {"transitions": 8012, "episodes": 190, "success_rate": 0.52, "provenance": "scripted in the twin"},
            "shrunk": [{"what": "critics", "paper": 10, "here": 4}, {"what": "warm-up steps", "paper": 5000, "here": 500}],
        }  # fmt: skip
        (folder / "result.json").write_text(json.dumps(result))
    return folder


def metric(rng, updates, start, gain, scale=4000):
    grown = 1 - math.exp(-2 * updates / scale)
    noise = rng.normal(0, 0.35)
    values = {"critic/q": start + gain * grown + noise, "critic/loss": 0.2 + 0.5 * (1 - grown) * rng.random()}
    return {
        "phase": "online",
        "env_steps": updates // 4,
        "updates": updates,
        **values,
        "actor/entropy": -6 * grown + noise,
    }


def read(path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


def test_the_page_holds_every_figure_of_a_run(tmp_path):
    run = make_run(tmp_path / "run")
    for name in ("before", "after"):
        (run / f"{name}.mp4").write_bytes(b"film")
    write_report([run], run / "report.html")
    page = read(run / "report.html")
    for words in (
        "succeeds in 13 of 20 trials", "it succeeds in 20 of 20", "succeeds in 4 of 20", "3,000 environment steps",
        "lowest evaluation on the way was 12 of 20", "5k warm-up + 3k actor steps, 18 min", "11/20 95 %: 34–74 %",
        "0.81 0.09", "8,012 190 0.52", "critics 10 4", "warm-up steps 5,000 500", "5 min 12 s",
        "wrench 41.0 N is over 40.0 N", "jax 0.10.2", '"utd": 4',
    ):  # fmt: skip
        assert words in page.text, words
    assert [a["src"] for t, a in page.tags if t == "video"] == ["before.mp4#t=0.01", "after.mp4#t=0.01"]
    assert sum(tag == "svg" for tag, _ in page.tags) == 2 + 4 + 3 + 4  # curves, trial grids, failures, inside
    cells = [a["class"] for t, a in page.tags if t == "rect" and "class" in a]
    assert len(cells) == 2 * 2 * 7 * 20
    assert cells.count("yes") == sum(max(n - less, 0) for n in WSRL + RLPD for less in (0, 2))


def test_the_page_stands_alone(tmp_path):
    run = make_run(tmp_path / "run")
    write_report([run], run / "report.html")
    page = read(run / "report.html")
    assert not {"script", "link", "img", "iframe"} & {tag for tag, _ in page.tags}
    assert all(ref.startswith("#") for ref in page.refs), page.refs
    assert len(set(page.ids)) == len(page.ids)
    assert {ref[1:] for ref in page.refs} <= set(page.ids)
    assert "Not there: before.mp4 (seed 0), after.mp4 (seed 0)" in page.text


def test_the_same_run_gives_the_same_page(tmp_path):
    run = make_run(tmp_path / "run")
    write_report([run], tmp_path / "a.html")
    write_report([run], tmp_path / "b.html")
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_what_files_say_is_escaped(tmp_path):
    evil = "<script>alert('x')</script>"
    run = make_run(tmp_path / "run", task=evil, preset=evil)
    result = json.loads((run / "result.json").read_text())
    result |= {"versions": {evil: evil}, "shrunk": [{"what": evil, "paper": evil, "here": evil}], "wall_s": evil}
    result |= {"data": {"provenance": evil, "transitions": evil}, "area": {"wsrl": evil, "rlpd": evil}}
    (run / "result.json").write_text(json.dumps(result))
    rows = (run / "wsrl/scores.jsonl").read_text().replace("wrench 41.0 N is over 40.0 N", evil)
    (run / "wsrl/scores.jsonl").write_text(rows)
    write_report([run], tmp_path / "page.html")
    assert "<script" not in (tmp_path / "page.html").read_text()
    assert read(tmp_path / "page.html").text.count(evil) >= 10


def test_several_seeds_stand_side_by_side(tmp_path):
    runs = [make_run(tmp_path / f"run {seed}", seed, wsrl=(*WSRL[:-1], 20 - seed)) for seed in range(3)]
    (runs[1] / "after.mp4").write_bytes(b"film")
    write_report(runs, tmp_path / "new" / "page.html")
    page = read(tmp_path / "new" / "page.html")
    for words in ("3 seeds", "39 of 60", "57 of 60", "Here, twin, seed 2", "Here, all 3 seeds", "12 of 60"):
        assert words in page.text, words
    assert [a["src"] for t, a in page.tags if t == "video"] == ["../run%201/after.mp4#t=0.01"]
    assert sum(a.get("class", "").startswith("grid") for t, a in page.tags if t == "svg") == 3 * 2 * 2


def test_an_unfinished_run_says_so_and_shows_what_there_is(tmp_path):
    run = make_run(tmp_path / "run", finished=False)
    with open(run / "wsrl/scores.jsonl", "a") as file:
        file.write('{"env_steps": 3500, "mode": {"succ')  # torn by an interruption
    with open(run / "wsrl/metrics.jsonl", "ab") as file:
        file.write(b'{"phase": "on\xc3')
    for path in (run / "rlpd").iterdir():
        path.unlink()
    write_report([run], tmp_path / "page.html")
    page = read(tmp_path / "page.html")
    for words in (
        "Unfinished.",
        "13 of 20",
        "20 of 20",
        "so far after 0 steps, succeeds in not tested yet",
    ):
        assert words in page.text, words


def test_a_run_without_a_drop_says_so(tmp_path):
    run = make_run(tmp_path / "run", wsrl=(13, 13, 15, 18, 19, 20, 20))
    write_report([run], tmp_path / "page.html")
    assert "No evaluation of WSRL fell below the 13 of 20 it began with." in read(tmp_path / "page.html").text


def test_a_run_that_has_only_begun_makes_a_page(tmp_path):
    run = make_run(tmp_path / "run", finished=False)
    for path in run.glob("*/*.jsonl"):
        path.unlink()
    write_report([run], tmp_path / "page.html")
    assert "not tested yet" in read(tmp_path / "page.html").text


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("recipe.json", "{", "recipe.json is not JSON"),
        ("recipe.json", '{"command": "pretrain"}', "recipe.json has no proper 'task'"),
        ("result.json", "[]", "result.json has no proper 'by_mode'"),
        ("wsrl/metrics.jsonl", '{"updates": 1}\n{"upd\n{"updates": 3}\n', "metrics.jsonl:2 is not JSON"),
        (
            "rlpd/scores.jsonl",
            '{"env_steps": 0, "mode": {}, "sample": {}}\n',
            "scores.jsonl:1: mode has no proper 'success'",
        ),
        ("wsrl/episodes.jsonl", '{"env_steps": "x"}\n', "episodes.jsonl:1 has no proper 'env_steps'"),
    ],
)
def test_a_broken_file_is_named_with_the_remedy(tmp_path, name, content, says):
    run = make_run(tmp_path / "run")
    (run / name).write_text(content)
    with pytest.raises(ValueError, match="segue rehearse") as caught:
        write_report([run], tmp_path / "page.html")
    assert says in str(caught.value)
    assert not (tmp_path / "page.html").exists()


def test_a_missing_folder_is_named_with_the_remedy(tmp_path):
    with pytest.raises(ValueError, match=r"holds no run; make one with `segue rehearse --out .*nowhere`"):
        write_report([tmp_path / "nowhere"], tmp_path / "page.html")
    with pytest.raises(ValueError, match="no run to report"):
        write_report([], tmp_path / "page.html")


def test_runs_of_different_recipes_or_one_seed_twice_are_refused(tmp_path):
    one, two = make_run(tmp_path / "1"), make_run(tmp_path / "2", 1, offline={"updates": 7})
    with pytest.raises(ValueError, match="in 'offline'"):
        write_report([one, two], tmp_path / "page.html")
    with pytest.raises(ValueError, match="seed 0 is there already"):
        write_report([one, one], tmp_path / "page.html")


def test_a_failure_keeps_the_old_page(tmp_path):
    run = make_run(tmp_path / "run")
    (tmp_path / "page.html").write_text("old")
    (tmp_path / ".page.html.part").mkdir()
    with pytest.raises(OSError, match="part"):
        write_report([run], tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text() == "old"


def test_the_mean_goes_as_far_as_every_seed_goes():
    mean = mean_curve([Curve([0, 10, 20], [0, 1, 2]), Curve([0, 5], [2, 2])])
    assert list(mean.x) == [0, 5]
    assert list(mean.y) == [1, 1.25]


def test_thinning_keeps_the_mean_and_the_trend_counts_full_windows():
    thin = thinned(range(1000), [float(i) for i in range(1000)])
    assert len(thin.x) <= 300
    assert np.isclose(np.mean(thin.y), 499.5)
    rows = [{"env_steps": i, "success": i >= 10} for i in range(TREND_EPISODES + 5)]
    assert list(trend(rows).y) == [0.5, 0.55, 0.6, 0.65, 0.7, 0.75]
    assert list(trend(rows).x) == [19, 20, 21, 22, 23, 24]
    assert trend(rows[:3]).x == []


def test_the_critic_loss_of_pre_training_is_its_td_error(tmp_path):
    run = make_run(tmp_path / "run")
    rows = [{"updates": 100 * i, "critic/loss": 9.0, "critic/td": 0.5} for i in range(4)]
    write_lines(run / "pretrain" / "metrics.jsonl", rows)
    curve = metric_curve(read_run(run), "pretrain", "critic/loss")
    assert (list(curve.x), list(curve.y)) == ([-300, -200, -100, 0], [0.5] * 4)
    assert metric_curve(read_run(run), "wsrl", "critic/loss").x[0] == 80


def test_a_metric_is_found_where_an_encoder_shares_the_loss(tmp_path):
    run = make_run(tmp_path / "run")
    rows = [{"updates": 100 * i, "critic+encoder/q": -3.0, "critic+encoder/td": 0.5, "actor/q": 1.0} for i in range(4)]
    write_lines(run / "wsrl" / "metrics.jsonl", rows)
    assert set(metric_curve(read_run(run), "wsrl", "critic/q").y) == {-3.0}
    assert set(metric_curve(read_run(run), "wsrl", "critic/loss").y) == {0.5}
    assert metric_curve(read_run(run), "wsrl", "value/loss").y == []


def test_the_page_says_how_the_classifier_judged(tmp_path):
    run = make_run(tmp_path / "run")
    write_report([run], run / "report.html")
    assert "called a success" not in read(run / "report.html").text
    result = json.loads((run / "result.json").read_text())
    counts = {"trials": 160, "called_success": 154, "false_positives": 3, "missed": 1}
    judged = {
        "held_out": {"precision": 0.984, "recall": 0.94},
        "wsrl": counts,
        "rlpd": {**counts, "false_positives": 7},
    }
    (run / "result.json").write_text(json.dumps({**result, "classifier": judged}))
    write_report([run], run / "report.html")
    page = read(run / "report.html")
    assert "seed 0, WSRL 0.98 0.94 160 154 3 1" in page.text
    assert "seed 0, RLPD 0.98 0.94 160 154 7 1" in page.text


def test_the_stages_are_those_of_a_result(tmp_path):
    result = json.loads((make_run(tmp_path / "run") / "result.json").read_text())
    assert set(STAGES) == set(result["by_mode"]["mode"])


PACE = {
    "pace": "free", "env_steps": 3018, "updates": 10000, "wall_s": 52.65, "learner_waited_s": 5.68, "actors_waited_s": 34.29,
    "sessions": 4, "transitions_lost": 17, "duplicates_dropped": 5,
    "messages_refused": {"version 9": 2, "a message of 3 parts": 1},
}  # fmt: skip


def test_the_page_says_which_side_waited_and_what_was_lost(tmp_path):
    run = make_run(tmp_path / "run")
    write_report([run], run / "report.html")
    assert "took turns in one process" in read(run / "report.html").text
    (run / "wsrl" / "pace.json").write_text(json.dumps(PACE))
    write_report([run], run / "report.html")
    page = read(run / "report.html")
    assert "seed 0, WSRL free 3.31 52.6 s 5.7 s 34.3 s 4 17 5 3" in page.text
    (run / "wsrl" / "pace.json").write_text(json.dumps({**PACE, "sessions": "many"}))
    with pytest.raises(ValueError, match=r"pace.json has no proper 'sessions'"):
        write_report([run], run / "report.html")
