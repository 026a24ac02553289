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
    if views == 0:
        return frames[:, None].copy()
    return np.concatenate(
        [frames[:, None], crops(frames, rng.integers(0, 2 * pad + 1, (len(frames), views, 2)), pad)], 1
    )


def crops(frames: np.ndarray, corners: np.ndarray, pad: int) -> np.ndarray:
    """Views `(N, V, H, W, C)` of frames `(N, H, W, C)` padded with their edges, from `corners (N, V, 2)`, 0 to 2 `pad`."""
    padded = np.pad(frames, ((0, 0), (pad, pad), (pad, pad), (0, 0)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, frames.shape[1:3], axis=(1, 2))
    return np.moveaxis(windows[np.arange(len(frames))[:, None], corners[..., 0], corners[..., 1]], 2, -1)
