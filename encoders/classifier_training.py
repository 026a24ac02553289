"""Training of a reward classifier: the split by episode, the head's fit with early stopping, and what is chosen afterwards."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from encoders.classifier import Head, HeadShape, head_logits, init_params, sigmoid, standardised
from encoders.classifier_scores import choose_threshold, fit_temperature

SHIFT_PX, GAIN = (
    2,
    0.2,
)  # of a changed copy: moved by up to so much each way; each channel brighter or darker by up to this
COPIES = 2  # of each frame to train on
DEAL = (0, 1, 2, 0, 0)  # how episodes are dealt out: three of five to train on, one to choose by, one to hold out
STD_FLOOR = (
    0.1  # of a channel's deviation, in parts of the mean one: one that is nearly constant would be noise blown up
)


@dataclass(frozen=True)
class Fit:
    """How a head is trained.

    Attributes:
        updates: minibatches at most.
        batch_size: frames in each, half of each label.
        learning_rate, weight_decay: of AdamW.
        every: updates between two looks at the loss on the frames to choose by.
        patience: so many looks without a lower loss, and training stops.
        precision, recall: what the threshold is chosen for, see `choose_threshold`.
    """

    updates: int = 1500
    batch_size: int = 64
    learning_rate: float = 5e-4
    weight_decay: float = 1e-2
    every: int = 25
    patience: int = 12
    precision: float = 0.99
    recall: float = 0.98


@dataclass(frozen=True)
class Split:
    """Rows of the frames of three sets of episodes, `(n,)` each: no episode is in two."""

    train: np.ndarray
    choose: np.ndarray
    held_out: np.ndarray


def split_episodes(label: np.ndarray, episode: np.ndarray, seed: int) -> Split:
    """Divides frames by whole episodes, drawn at random; frames of both labels are in each part.

    Args:
        label: `(N,)` bool.
        episode: `(N,)` int.

    Raises:
        ValueError: fewer than three episodes have frames of a label, so that not every part would have both.
    """
    episodes = np.unique(episode)
    won, lost = (np.isin(episodes, episode[rows]) for rows in (label, ~label))
    for what, there in (("success", won), ("failure", lost)):
        if there.sum() < 3:
            raise ValueError(
                f"classifier: {there.sum()} episodes have frames of {what}; record at least 3, so that some can be held out"
            )
    rng, both = np.random.default_rng([seed, 0]), won & lost
    parts: tuple[list[int], ...] = ([], [], [])
    # Those of one label are dealt out from where those of both ended, so that no part is without a label.
    for kind, start in ((both, 0), (won & ~lost, both.sum()), (~won, both.sum())):
        for place, drawn in enumerate(rng.permutation(episodes[kind]), int(start)):
            parts[DEAL[place % len(DEAL)]].append(drawn)
    return Split(*(np.flatnonzero(np.isin(episode, part)) for part in parts))


@dataclass(frozen=True)
class Trained:
    """What training gives.

    Attributes:
        params: of the head, with the features' mean and deviation.
        temperature, threshold: chosen on the frames to choose by.
        updates: the kept parameters are those after so many.
        losses: `(updates, loss in training, loss on the frames to choose by)` at each look.
    """

    params: dict[str, Any]
    temperature: float
    threshold: float
    updates: int
    losses: tuple[tuple[int, float, float], ...]


def changed(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A copy of frames `(N, H, W, 3)` uint8, each shifted by a few pixels, with the edge repeated, and in another light.

    A camera is never mounted twice alike and no two days have one light: without such copies a classifier that is right here misses
    a third of the successes there (`docs/classifier.md`).
    """
    padded = np.pad(frames, ((0, 0), (SHIFT_PX, SHIFT_PX), (SHIFT_PX, SHIFT_PX), (0, 0)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, frames.shape[1:3], axis=(1, 2))
    places = rng.integers(2 * SHIFT_PX + 1, size=(2, len(frames)))
    shifted = np.moveaxis(windows[np.arange(len(frames)), places[0], places[1]], 1, -1)
    gain = rng.uniform(1.0 - GAIN, 1.0 + GAIN, (len(frames), 1, 1, 4))
    return np.clip(shifted * (gain[..., :3] * gain[..., 3:]), 0.0, 255.0).astype(np.uint8)


def train(
    features: np.ndarray,
    copies: np.ndarray,
    label: np.ndarray,
    split: Split,
    seed: int,
    shape: HeadShape | None = None,
    fit: Fit | None = None,
    progress: Callable[[int], None] = lambda n: None,
) -> Trained:
    """Trains a head, and chooses temperature and threshold; the frames held out are not looked at.

    Args:
        features: `(N, cameras, h, w, C)`, of all frames.
        copies: `(V, n, cameras, h, w, C)`, of V changed copies of the n frames of `split.train`; V may be 0.
        label: `(N,)` bool.
        progress: called with the number of updates so far.
    """
    shape, fit = shape or HeadShape(), fit or Fit()
    views = np.concatenate([features[None, split.train], copies])
    chosen, truth = features[split.choose], label[split.choose]
    params = first_params(features[split.train], shape, seed)

    def loss(params: dict[str, Any]) -> float:
        return balanced_loss(head_logits(shape, params, chosen), truth)

    params, losses = _fit(params, views, label[split.train], loss, seed, shape, fit, progress)
    logits = head_logits(shape, params, chosen)
    temperature = fit_temperature(logits, truth)
    threshold = choose_threshold(sigmoid(logits / temperature), truth, fit.precision, fit.recall)
    best = min(losses, key=lambda row: row[2])[0]
    return Trained(params, temperature, threshold, best, tuple(losses))


def _fit(
    params: dict[str, Any],
    views: np.ndarray,
    label: np.ndarray,
    loss_to_choose_by: Callable[[dict[str, Any]], float],
    seed: int,
    shape: HeadShape,
    fit: Fit,
    progress: Callable[[int], None],
) -> tuple[dict[str, Any], list[tuple[int, float, float]]]:
    """The parameters with the lowest loss to choose by, and the losses on the way."""
    rng, key = np.random.default_rng([seed, 1]), jax.random.key(seed)
    optimizer = optax.adamw(fit.learning_rate, weight_decay=fit.weight_decay)
    opt = optimizer.init(params["head"])
    best, kept, losses, stale = np.inf, params, [], 0
    for update in range(1, fit.updates + 1):
        rows = np.concatenate([rng.choice(np.flatnonzero(x), fit.batch_size // 2) for x in (label, ~label)])
        batch = views[rng.integers(len(views), size=len(rows)), rows]
        params, opt, loss = _update(shape, optimizer, params, opt, batch, label[rows], jax.random.fold_in(key, update))
        if update % fit.every and update < fit.updates:
            continue
        chosen = loss_to_choose_by(params)
        losses.append((update, float(loss), chosen))
        best, kept, stale = (chosen, params, 0) if chosen < best else (best, kept, stale + 1)
        progress(update)
        if stale >= fit.patience:
            break
    return jax.tree.map(np.asarray, kept), losses


def first_params(features: np.ndarray, shape: HeadShape, seed: int) -> dict[str, Any]:
    """Of an untrained head, for features `(N, cameras, h, w, C)`: they are standardised with their own mean and deviation."""
    x = features.astype(np.float32)
    std = x.std((0, 2, 3), keepdims=True)[0]
    std = np.maximum(std, STD_FLOOR * std.mean((1, 2, 3), keepdims=True)) + 1e-6
    mean = x.mean((0, 2, 3), keepdims=True)[0]
    return {**init_params(shape, features.shape[1:], seed), "mean": mean, "std": std}


def balanced_loss(logits: np.ndarray, label: np.ndarray) -> float:
    """Log loss, both labels weighing the same however many frames they have."""
    losses = np.asarray(optax.sigmoid_binary_cross_entropy(jnp.asarray(logits), jnp.asarray(label, jnp.float32)))
    return float(np.mean([losses[label == truth].mean() for truth in (True, False)]))


@partial(jax.jit, static_argnums=(0, 1))
def _update(
    shape: HeadShape,
    optimizer: optax.GradientTransformation,
    params: dict[str, Any],
    opt: Any,
    features: jax.Array,
    label: jax.Array,
    key: jax.Array,
) -> tuple[dict[str, Any], Any, jax.Array]:
    x = standardised(params, features)

    def loss(head: Any) -> jax.Array:
        logits = Head(shape).apply({"params": head}, x, training=True, rngs={"dropout": key})
        return jnp.mean(optax.sigmoid_binary_cross_entropy(logits, label.astype(jnp.float32)))  # type: ignore[arg-type]

    value, gradient = jax.value_and_grad(loss)(params["head"])
    change, opt = optimizer.update(gradient, opt, params["head"])
    return {**params, "head": optax.apply_updates(params["head"], change)}, opt, value
