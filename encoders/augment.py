"""Random shifts of pictures, as DrQ's (Kostrikov et al. 2021): pad with the edge's pixels, then crop anywhere."""

import jax
import jax.numpy as jnp
import numpy as np

PAD = 4  # pixels; DrQ's, of pictures of 84 x 84


def random_shift(key: jax.Array, frames: jax.Array, pad: int = PAD) -> jax.Array:
    """Frames `(B, H, W, C)` of any type, each moved by up to `pad` pixels in both directions; all its channels alike.

    To be part of a jitted program: a crop is one slice, which is several times faster on uint8 than on float32.
    """
    batch, *shape = frames.shape
    padded = jnp.pad(frames, ((0, 0), (pad, pad), (pad, pad), (0, 0)), mode="edge")
    corners = jax.random.randint(key, (batch, 2), 0, 2 * pad + 1)
    return jax.vmap(lambda x, corner: jax.lax.dynamic_slice(x, (corner[0], corner[1], 0), shape))(padded, corners)


def shifted_views(frames: np.ndarray, views: int, rng: np.random.Generator, pad: int = PAD) -> np.ndarray:
    """Each of frames `(N, H, W, 3)` as it is and then `views` times moved, `(N, 1 + views, H, W, 3)`; on the host."""
    count, height, width, channels = frames.shape
    found = np.empty((count, 1 + views, height, width, channels), frames.dtype)
    found[:, 0] = frames
    if views == 0:
        return found
    padded = np.pad(frames, ((0, 0), (pad, pad), (pad, pad), (0, 0)), mode="edge")
    corners = rng.integers(0, 2 * pad + 1, (count, views, 2))
    for n, view in np.ndindex(count, views):
        top, left = corners[n, view]
        found[n, 1 + view] = padded[n, top : top + height, left : left + width]
    return found
