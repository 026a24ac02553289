"""DAPG's expert policies: the network is the one its authors describe, and a file that holds none is refused."""

import contextlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.expert import Expert


def arrays(obs_dim: int = 3, hidden: int = 4, action_dim: int = 2, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    shapes = {"w0": (hidden, obs_dim), "b0": (hidden,), "w1": (hidden, hidden), "b1": (hidden,)}
    shapes |= {"w2": (action_dim, hidden), "b2": (action_dim,), "in_shift": (obs_dim,), "in_scale": (obs_dim,)}
    shapes |= dict.fromkeys(("out_shift", "out_scale", "log_std"), (action_dim,))
    return {name: rng.uniform(0.5, 1.5, shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """Writes arrays to a file and says where."""
    path = tmp_path_factory.mktemp("experts") / "expert.npz"

    def write(content: dict[str, np.ndarray]):
        np.savez(path, **content)
        return path

    return write


def test_an_action_by_hand(file):
    content = {
        "w0": [[0.5]],
        "b0": [0.5],
        "w1": [[2.0]],
        "b1": [0.0],
        "w2": [[3.0]],
        "b2": [1.0],
        "in_shift": [1.0],
        "in_scale": [2.0],
        "out_shift": [-0.5],
        "out_scale": [0.1],
        "log_std": [-1.0],
    }
    expert = Expert.load(file({name: np.array(value) for name, value in content.items()}))
    # (2 - 1) / 2 = 0.5; tanh(0.75) = 0.635149; tanh(1.270298) = 0.853878; (3 x 0.853878 + 1) x 0.1 - 0.5 = -0.143837
    assert expert.act(np.array([2.0])) == pytest.approx(np.array([-0.143837]), abs=1e-6)


@given(obs_dim=st.integers(1, 6), hidden=st.integers(1, 6), action_dim=st.integers(1, 6), seed=st.integers(0, 99))
def test_a_batch_is_its_observations_one_by_one(file, obs_dim, hidden, action_dim, seed):
    expert = Expert.load(file(arrays(obs_dim, hidden, action_dim, seed)))
    observations = np.random.default_rng(seed).normal(size=(5, obs_dim))
    batch = expert.act(observations)
    assert batch.shape == (5, action_dim)
    np.testing.assert_allclose(batch, [expert.act(observation) for observation in observations], rtol=1e-9)


def test_samples_scatter_about_the_mean_as_far_as_log_std_says(file):
    content = arrays()
    content["log_std"] = np.log([0.1, 2.0])
    expert = Expert.load(file(content))
    observations = np.ones((20_000, 3))
    samples = expert.act(observations, np.random.default_rng(0))
    np.testing.assert_allclose(samples.mean(axis=0), expert.act(observations[0]), atol=0.06)
    np.testing.assert_allclose(samples.std(axis=0), [0.1, 2.0], rtol=0.03)
    again = expert.act(observations, np.random.default_rng(0))
    np.testing.assert_array_equal(samples, again)


def test_an_observation_of_another_task_is_refused(file):
    with pytest.raises(ValueError, match=r"^expert: an observation has 3 numbers, not shape \(4,\); .*$"):
        Expert.load(file(arrays())).act(np.zeros(4))


@given(
    name=st.sampled_from(sorted(arrays())),
    spoil=st.sampled_from(["missing", "nan", "longer", "scalar", "text", "object"]),
)
def test_a_file_with_a_wrong_array_is_refused(file, name, spoil):
    content = arrays()
    value = content.pop(name)
    spoiled = {
        "nan": np.full_like(value, np.nan),
        "longer": np.concatenate([value, value[:1]]),
        "scalar": np.array(1.0),
        "text": np.array("text"),
        "object": np.array([None, {}], dtype=object),
    }
    if spoil != "missing":
        content[name] = spoiled[spoil]
    with pytest.raises(ValueError, match=r"^\S*expert\.npz(:| cannot be read) [^\n]*; (give|correct) [^\n]*$"):
        Expert.load(file(content))


@given(cut=st.floats(0.0, 0.99), noise=st.binary(max_size=30))
def test_a_part_of_a_file_is_refused(file, cut, noise):
    path = file(arrays())
    whole = path.read_bytes()
    path.write_bytes(whole[: int(cut * len(whole))] + noise)
    with pytest.raises(ValueError, match=r"expert\.npz cannot be read "):
        Expert.load(path)


@settings(max_examples=200)
@given(place=st.floats(0.0, 1.0, exclude_max=True), byte=st.integers(0, 255))
def test_a_damaged_file_is_refused_or_read(file, place, byte):
    path = file(arrays())
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] = byte
    path.write_bytes(content)
    with contextlib.suppress(ValueError):
        assert np.all(np.isfinite(Expert.load(path).act(np.zeros(3))))


def test_a_file_that_is_not_there_or_a_single_array_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"^\S*none\.npz: there is no such file; give an npz file with w0, .*$"):
        Expert.load(tmp_path / "none.npz")
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(ValueError, match=r"^\S*one\.npy cannot be read"):
        Expert.load(tmp_path / "one.npy")
    with pytest.raises(ValueError, match=r"^\S* cannot be read"):
        Expert.load(tmp_path)
