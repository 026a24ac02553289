"""Curves of experiments: which runs may stand in one picture, and that the picture shows them."""

import json

import cv2
import numpy as np
import pytest

from launch.curves import draw, read_results


def result(seed: int = 0, experiment: str = "adroit-door", rates=(0.1, 0.4, 0.9)) -> dict:
    curve = {"success": list(rates), "normalized": [100 * rate for rate in rates]}
    papers = {"papers_after_400000_steps": {"WSRL": 0.8}} if experiment == "adroit-door" else {}
    return {
        "experiment": experiment,
        "preset": "scaled",
        "seed": seed,
        "task": "door-binary",
        "env_steps": [0, 1000, 2000],
        "mode": curve,
        "sample": curve,
        **papers,
    }


def write(folder, content) -> None:
    folder.mkdir()
    (folder / "result.json").write_text(json.dumps(content))


@pytest.mark.parametrize("experiment", ["adroit-door", "hopper-replay"])
def test_a_picture_holds_every_seed(experiment, tmp_path):
    pictures = []
    for rates in [[(0.1, 0.4, 0.9)], [(0.1, 0.4, 0.9), (0.6, 0.2, 0.2)]]:
        path = tmp_path / f"{len(rates)}.png"
        draw([result(i, experiment, r) for i, r in enumerate(rates)], path)
        pictures.append(cv2.imread(str(path)))
    assert pictures[0].shape == pictures[1].shape
    assert np.mean(np.any(pictures[0] != pictures[1], axis=-1)) > 0.001
    assert sorted(p.name for p in tmp_path.iterdir()) == ["1.png", "2.png"]


def test_seeds_of_one_experiment_stand_together(tmp_path):
    for seed in (0, 1):
        write(tmp_path / str(seed), result(seed))
    found = read_results([tmp_path / "0", tmp_path / "1"])
    assert [r["seed"] for r in found] == [0, 1]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no result.json"),
        ({"experiment": "adroit-door"}, "no proper 'preset'"),
        ([1], "no proper 'experiment'"),
        (result(1, "hopper-replay"), "draw each alone"),
        (result(1) | {"env_steps": []}, "no proper curve of 'mode'"),
        (result(1) | {"sample": {}}, "no proper curve of 'sample'"),
        (result(1) | {"mode": {"success": [1, 1, 1], "normalized": [None, 1, 1]}}, "no proper curve of 'mode'"),
    ],
)
def test_what_is_no_result_or_another_is_refused_in_a_sentence(content, words, tmp_path, segue):
    write(tmp_path / "a", result())
    if content is not None:
        write(tmp_path / "b", content)
    code, out, err = segue("curves", tmp_path / "a", tmp_path / "b", "--out", tmp_path / "x.png")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert words in err
    assert not (tmp_path / "x.png").exists()


@pytest.mark.parametrize(("name", "words"), [("x.pdf", "ends in .png"), ("none/x.png", "is not there")])
def test_a_picture_that_cannot_be_is_refused(name, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        draw([result()], tmp_path / name)
