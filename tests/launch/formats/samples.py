"""Random data sets, and what a round trip through a public format has to keep."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import strategies as st

from agent.replay.dataset import Dataset, DatasetInfo
from agent.replay.journal_write import write_journal
from launch.formats import READERS, WRITERS

INFO = DatasetInfo(
    task="reach",
    discount=0.9,
    reward_scale=1.0,
    reward_shift=0.0,
    truncation_value=-10.0,
    reward="-1 until the goal",
    provenance="Made up here.",
)
LEARNED = ("action", "reward", "terminated", "truncated", "success")
ENDS = ("terminated", "truncated", "both")
CORNERS = (0.0, -0.0, 1.0, -1.0, 1e-40, 3e38, 1 / 3)  # as float32; the one before the last but one is subnormal


def trajectory(rng: np.random.Generator, rows: int, spec: tuple[str, tuple[int, ...]]) -> np.ndarray:
    """`(rows, ...)` values of any size, with corner cases among them."""
    dtype, shape = np.dtype(spec[0]), (rows, *spec[1])
    if dtype.kind == "u":
        return rng.integers(0, 256, shape).astype(dtype)
    values = (rng.standard_normal(shape) * 10.0 ** rng.integers(-9, 9, shape)).astype(dtype)
    return np.where(rng.random(shape) < 0.2, rng.choice(np.asarray(CORNERS, dtype), shape), values)


def dataset(seed: int, lengths: list[int], ends: list[str], specs: dict, action: str, info=INFO) -> Dataset:
    """Episodes of those lengths that end so; `open` is none, and may only be the last."""
    rng = np.random.default_rng(seed)
    parts: list[dict] = []
    for length, end in zip(lengths, ends, strict=True):
        paths = {name: trajectory(rng, length + 1, spec) for name, spec in specs.items()}
        last = np.arange(length) == length - 1
        part = {f"obs/{name}": x[:-1] for name, x in paths.items()}
        part |= {f"next_obs/{name}": x[1:] for name, x in paths.items()}
        part |= {"action": trajectory(rng, length, (action, (2,))), "reward": trajectory(rng, length, (action, ()))}
        part |= {
            "terminated": last & (end in ("terminated", "both")),
            "truncated": last & (end in ("truncated", "both")),
        }
        part["success"] = np.arange(length) >= rng.integers(0, 2 * length)
        parts.append(part)
    c = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    obs, following = ({name: c[f"{kind}/{name}"] for name in specs} for kind in ("obs", "next_obs"))
    return Dataset.of(info, obs, following, *(c[name] for name in LEARNED))


@st.composite
def datasets(draw: st.DrawFn, **specs: tuple[str, tuple[int, ...]]) -> Dataset:
    """Any data set with these observations; the last episode may be open."""
    lengths = draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
    ends = [draw(st.sampled_from(ENDS)) for _ in lengths[:-1]] + [draw(st.sampled_from((*ENDS, "open")))]
    return dataset(draw(st.integers(0, 2**32)), lengths, ends, specs, draw(st.sampled_from(("<f4", "<f8"))))


def assert_same(found: Dataset, made: Dataset) -> None:
    """All that a learner reads has the same bits."""
    names = [name for name in made.columns if name.startswith(("obs/", "next_obs/"))]
    assert sorted(n for n in found.columns if n.startswith(("obs/", "next_obs/"))) == sorted(names)
    for name in (*names, *LEARNED):
        mine, its = made.columns[name], found.columns[name]
        assert its.dtype == mine.dtype, name
        assert its.shape == mine.shape, name
        assert its.tobytes() == mine.tobytes(), name


def there_and_back(made: Dataset, kind: str, name: str) -> None:
    """Journal, public format, journal: the same numbers."""
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_journal(made, folder / "before")
        before = Dataset.load(folder / "before")
        WRITERS[kind](before, folder / name)
        assert sorted(p.name for p in folder.iterdir()) == sorted(["before", name])
        write_journal(READERS[kind](folder / name, INFO, None), folder / "after")
        assert_same(Dataset.load(folder / "after"), before)


def refused(kind: str, path: Path, *words: str) -> None:
    """The reader refuses the path in one sentence with the file, the words, and what to do."""
    with pytest.raises(ValueError) as refusal:  # noqa: PT011 - the words are compared below
        READERS[kind](path, INFO, None)
    said = str(refusal.value)
    assert "\n" not in said
    for word in (*words, path.name[:40], ";"):
        assert word in said, said
