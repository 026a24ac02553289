"""Checkpoints: whole or not at all, the newest whole one is chosen, and one that does not fit is refused by name."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from launch.checkpoint import KEPT, Checkpoints, open_checkpoint

META = {"task": "peg", "learning": {}, "method": "sac", "version": 3, "finished": True}


def tree(value: float = 1.0, width: int = 3) -> dict:
    return {"params": {"w": jnp.full((2, width), value)}, "key": jax.random.key(5), "n": jnp.int32(4)}


@pytest.fixture
def checkpoints(tmp_path):
    store = Checkpoints(tmp_path / "checkpoint")
    yield store
    store.close()


def test_round_trip_keeps_arrays_types_and_random_keys(checkpoints):
    checkpoints.save(tree(2.5), {"w": jnp.ones(2)}, META)
    found = checkpoints.arrays(tree())
    np.testing.assert_array_equal(found["params"]["w"], np.full((2, 3), 2.5))
    assert found["n"].dtype == jnp.int32
    np.testing.assert_array_equal(jax.random.uniform(found["key"], (3,)), jax.random.uniform(jax.random.key(5), (3,)))
    np.testing.assert_array_equal(checkpoints.policy()["w"], np.ones(2))
    assert checkpoints.meta()["task"] == "peg"


def test_the_newest_is_read_and_old_ones_are_pruned(checkpoints):
    for number in range(5):
        checkpoints.save(tree(number), tree(), {**META, "version": number})
    assert checkpoints.meta()["version"] == 4
    assert len([p for p in checkpoints.folder.iterdir() if p.is_dir()]) == KEPT


def test_a_half_written_checkpoint_is_never_chosen(checkpoints, tmp_path):
    checkpoints.save(tree(1.0), tree(), {**META, "version": 1})
    checkpoints.save(tree(2.0), tree(), {**META, "version": 2})
    checkpoints.close()
    whole = tmp_path / "checkpoint" / "2"
    whole.rename(tmp_path / "checkpoint" / "2.orbax-checkpoint-tmp")  # as it is called until it is whole
    reopened = open_checkpoint(tmp_path)
    assert reopened.meta()["version"] == 1
    np.testing.assert_array_equal(reopened.arrays(tree())["params"]["w"], np.ones((2, 3)))
    reopened.close()


def test_other_shapes_are_refused_by_name(checkpoints):
    checkpoints.save(tree(width=3), tree(), {})
    with pytest.raises(ValueError, match=r"params/w has shape \(2, 3\), this run needs shape \(2, 4\)"):
        checkpoints.arrays(tree(width=4))
    with pytest.raises(ValueError, match="extra has no such array"):
        checkpoints.arrays({**tree(), "extra": jnp.zeros(1)})


def test_nothing_there_is_said_in_a_sentence(checkpoints, tmp_path):
    with pytest.raises(ValueError, match="there is none; make one with"):
        checkpoints.meta()
    with pytest.raises(ValueError, match="holds no folder 'checkpoint'"):
        open_checkpoint(tmp_path / "elsewhere")
