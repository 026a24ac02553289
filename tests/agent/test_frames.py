"""Pictures in a replay: each is kept once, and every row finds its own, whatever was written over."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.replay import frames
from agent.replay.frames import FRAME, FrameStore, room, rows_of, with_pictures
from agent.replay.mixture import draw, draw_on_host
from agent.replay.ring import Ring
from agent.types import Batch
from tests.agent.pictures import CAMERAS, look, picture, sight_of

RAW = sight_of(train_trunk=True)
PLACES = pytest.mark.parametrize("place", ["device", "host"])


def ring_of(capacity: int, place: str = "device", sight=RAW) -> Ring:
    return Ring(capacity, {"x": (1,)}, 1, 0.5, -8.0, place, sight)


def numbers(batch: Batch, part: str) -> dict[str, np.ndarray]:
    """What each row's pictures tell, by camera."""
    return {camera: np.asarray(getattr(batch, part)[camera])[..., 0, 0, 0] for camera in CAMERAS}


@st.composite
def streams(draws):
    """Transitions of two sessions, interleaved: episodes as short as one step, in chunks."""
    found, next_number = [], {0: 0, 1: 50}
    for _ in range(draws(st.integers(1, 45))):
        session = draws(st.integers(0, 1))
        end = draws(st.sampled_from(["", "", "terminated", "truncated"]))
        found.append(look(next_number[session], end=end, session=session, reward=1.0))
        next_number[session] += 2 if end else 1
    cuts = sorted(draws(st.lists(st.integers(0, len(found)), max_size=3)))
    return [found[a:b] for a, b in zip([0, *cuts], [*cuts, len(found)], strict=True) if b > a]


@PLACES
@settings(max_examples=30, deadline=None)
@given(chunks=streams(), capacity=st.sampled_from([1, 7, 30]))
def test_every_row_finds_its_own_pictures(place, chunks, capacity):
    ring = ring_of(capacity, place)
    sent = [t for chunk in chunks for t in chunk]
    for chunk in chunks:
        ring.add(chunk)
    index = np.arange(len(ring))
    columns = ring.columns
    stores = {camera: np.asarray(store) for camera, store in ring.columns.frames.items()} if place == "device" else None
    batch = (
        ring.take(index, np.random.default_rng(0))
        if stores is None
        else jax.tree.map(np.asarray, columns.replace(frames=None))
    )
    for part, ahead in (("obs", 0), ("next_obs", 1)):
        x = np.asarray(getattr(batch, part)["x"])[: len(ring), 0]
        for camera in CAMERAS:
            if stores is None:
                seen = np.asarray(getattr(batch, part)[camera])[:, 0, 0, 0]
            else:
                seen = stores[camera][np.asarray(getattr(batch, part)[FRAME])[: len(ring)], 0, 0, 0, 0]
            np.testing.assert_array_equal(seen, [picture(value, camera)[0, 0, 0] for value in x])
        assert {float(value) - ahead for value in x} <= {float(t.obs["x"][0]) for t in sent[-capacity:]}


def test_a_row_whose_pictures_were_written_over_becomes_a_copy_of_the_newest(monkeypatch):
    monkeypatch.setattr(frames, "LEAST_SPARE", 1)
    ring = ring_of(8)
    assert ring._store.capacity == room(8) == 9
    ring.add([look(2 * i, end="terminated", reward=float(i)) for i in range(6)])  # 12 pictures, of which 9 are there
    reward = np.asarray(ring.columns.reward)[:6]
    assert reward.tolist() == [5.0, 5.0, 2.0, 3.0, 4.0, 5.0]
    assert np.asarray(ring.columns.mask)[:6].tolist() == [0.0] * 6


def test_pictures_that_follow_each_other_are_kept_once():
    ring = ring_of(10)
    ring.add([look(i, end="truncated" if i == 4 else "") for i in range(5)])
    assert ring._store.inserted == 6
    ring.abandon(0)
    ring.add([look(20), look(21)])
    assert ring._store.inserted == 9


def test_the_memory_told_is_the_memory_taken():
    sight = sight_of(views=2)
    ring = ring_of(10, "host", sight)
    assert sum(x.nbytes for x in ring._store.frames.values()) == sight.bytes_per_frame * room(10)
    assert sight.bytes_per_frame == 2 * 3 * 512 * 2


@PLACES
def test_draws_give_pictures_and_shift_raw_ones(place):
    ring = ring_of(16, place)
    ring.add([look(i) for i in range(12)])
    if place == "device":
        sources = {"online": (ring.columns, jnp.int32(12))}
    else:
        sources = {
            "online": (jax.device_put(draw_on_host(ring, {"online": 1.0}, np.random.default_rng(0), 1, 2, 4)), None)
        }
    now = jnp.int32(0)
    batch = draw(sources, {"online": 1.0}, jax.random.key(0), now, now, 2, 4)
    assert set(batch.obs) == {"x", *CAMERAS}
    for part, ahead in (("obs", 0), ("next_obs", 0)):
        assert getattr(batch, part)["left"].shape == (2, 4, 32, 32, 3)
        x = np.asarray(getattr(batch, part)["x"])[..., 0] - ahead
        for camera, seen in numbers(batch, part).items():
            np.testing.assert_array_equal(seen, 2 * x + (camera == "right"))


def test_raw_pictures_are_moved_and_features_are_not():
    rng = np.random.default_rng(0)
    base = {"x": jnp.zeros((3, 1)), FRAME: jnp.arange(3)}
    rows = ring_of(3).columns.replace(obs=base, next_obs=base, frames=None)
    raw = {"left": jnp.asarray(rng.integers(0, 256, (3, 1, 32, 32, 3)), jnp.uint8)}
    moved = with_pictures(rows, raw, jax.random.key(0)).obs["left"]
    assert moved.dtype == jnp.uint8
    assert (np.asarray(moved) != np.asarray(raw["left"][:, 0])).any()
    kept = {"left": jnp.asarray(rng.normal(size=(3, 1, 1, 1, 4)), jnp.float16)}
    same = with_pictures(rows, kept, jax.random.key(0)).obs["left"]
    np.testing.assert_array_equal(np.asarray(same), np.asarray(kept["left"][:, 0]))


def test_each_view_is_drawn_about_as_often():
    obs = {"x": jnp.zeros((1, 1)), FRAME: jnp.zeros(1, jnp.int32)}
    columns = ring_of(1).columns.replace(obs=obs, next_obs=obs)
    columns = columns.replace(frames={"left": jnp.arange(3.0).reshape(1, 3, 1, 1, 1).astype(jnp.float16)})
    drawn = rows_of(columns, jnp.zeros(3000, jnp.int32), jax.random.key(1))
    for part in (drawn.obs, drawn.next_obs):
        count = np.bincount(np.asarray(part["left"]).ravel().astype(int), minlength=3)
        assert (abs(count - 1000) < 150).all()
    assert (np.asarray(drawn.obs["left"]) != np.asarray(drawn.next_obs["left"])).any()


def test_a_store_takes_more_pictures_at_once_than_it_holds():
    store = FrameStore(1, RAW.shapes, RAW.dtype, RAW.encode, on_device=True)
    many = {camera: np.stack([picture(i % 100, camera) for i in range(150)]) for camera in CAMERAS}
    at = store.add(many)
    assert at.tolist() == list(range(150))
    assert store.oldest == 150 - store.capacity
    np.testing.assert_array_equal(np.asarray(store.frames["right"])[149 % store.capacity, 0], picture(49, "right"))
