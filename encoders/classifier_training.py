"""Training of a reward classifier: folds of whole episodes, a head for each that stops early, and what is chosen then."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy.special import expit, logit

from encoders.augment import crops
from encoders.classifier import HeadShape, head_logits, init_params, members_logits
from encoders.classifier_scores import choose_threshold, fit_temperature

# Of a changed copy: moved by up to so much each way; each channel brighter or darker by up to this.
SHIFT_PX, GAIN = 2, 0.2
COPIES = 2  # of each frame to train on
FOLDS = 5  # of the episodes; there are as many members
# Of a channel's deviation, in parts of the mean one: one that is nearly constant would be noise blown up.
STD_FLOOR = 0.1


@dataclass(frozen=True)
class Fit:
    """How a head is trained.

    Attributes:
        updates: minibatches at most.
        batch_size: frames in each, half of each label.
        learning_rate, weight_decay: of AdamW.
        every: updates between two looks at the loss on the frames to stop by.
        patience: so many looks without a lower loss, and training stops.
        precision, recall: what the threshold is chosen for, see `choose_threshold`.
    """

    updates: int = 800
    batch_size: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    every: int = 25
    patience: int = 12
    precision: float = 0.99
    recall: float = 0.97


def deal_folds(label: np.ndarray, episode: np.ndarray, seed: int) -> np.ndarray:
    """The fold `(N,)` of each frame, 0 to `FOLDS` - 1: whole episodes are dealt out at random; each fold has both labels.

    Args:
        label: `(N,)` bool.
        episode: `(N,)` int.

    Raises:
        ValueError: fewer than `FOLDS` episodes have frames of a label.
    """
    episodes, place = np.unique(episode, return_inverse=True)
    won, lost = (np.isin(episodes, episode[rows]) for rows in (label, ~label))
    for what, there in (("success", won), ("failure", lost)):
        if there.sum() < FOLDS:
            raise ValueError(
                f"classifier: {there.sum()} episodes have frames of {what}; record at least {FOLDS}, so that some can be "
                "held out in turn"
            )
    rng, both, fold = np.random.default_rng([seed, 0]), won & lost, np.empty(len(episodes), int)
    # Those of one label are dealt out from where those of both ended, so that no fold is without a label.
    for kind, start in ((both, 0), (won & ~lost, both.sum()), (~won, both.sum())):
        drawn = rng.permutation(np.flatnonzero(kind))
        fold[drawn] = (np.arange(len(drawn)) + start) % FOLDS
    return fold[place]


@dataclass(frozen=True)
class Trained:
    """What training gives.

    Attributes:
        params: of the members, stacked `(FOLDS, ...)`.
        temperature, threshold: chosen on all frames, each as judged by the member that stopped on it.
        held_out_logits: `(N,)`, of each frame by the member that has never seen its episode.
        held_out_scores: `(N,)`, the same calibrated, and moved so that `threshold` stands for the one chosen without its fold.
        losses: for each member `(updates, loss in training, loss on the frames to stop by)` at each look.
    """

    params: dict[str, Any]
    temperature: float
    threshold: float
    held_out_logits: np.ndarray
    held_out_scores: np.ndarray
    losses: tuple[tuple[tuple[int, float, float], ...], ...]


def changed(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A copy of frames `(N, H, W, 3)` uint8, each shifted by a few pixels, with the edge repeated, and in another light.

    A camera is never mounted twice alike and no two days have one light: without such copies recall fell to
    0.62 to 0.74 under such changes, with them it was 0.84 to 0.93 (two seeds, 100 successes each).
    """
    shifted = crops(frames, rng.integers(2 * SHIFT_PX + 1, size=(2, len(frames))).T[:, None], SHIFT_PX)[:, 0]
    gain = rng.uniform(1.0 - GAIN, 1.0 + GAIN, (len(frames), 1, 1, 4))
    return np.clip(shifted * (gain[..., :3] * gain[..., 3:]), 0.0, 255.0).astype(np.uint8)


def train(
    views: np.ndarray,
    label: np.ndarray,
    fold: np.ndarray,
    seed: int,
    fit: Fit,
    shape: HeadShape = HeadShape(),  # noqa: B008 (frozen)
    progress: Callable[[int], None] = lambda n: None,
) -> Trained:
    """Trains `FOLDS` heads, which together are the classifier.

    Member m trains on all folds but two. On fold m + 1 it stops early, and from these frames' logits temperature and threshold
    are chosen; fold m is held out. So each frame has a logit to choose by and one that is held out, from two members. What is
    held out is judged with a temperature and a threshold that were chosen without its fold.

    Args:
        views: `(V, N, cameras, h, w, C)` features: of the frames as they are, then of V - 1 changed copies to train on.
        label: `(N,)` bool.
        fold: `(N,)`, see `deal_folds`.
        progress: called with the number of updates so far.
    """
    choose, held_out = np.empty(len(label), np.float32), np.empty(len(label), np.float32)
    members, losses = [], []
    for m in range(FOLDS):
        stop, held = fold == (m + 1) % FOLDS, fold == m
        params, told = _fit(
            views, label, ~(stop | held), stop, seed + m, shape, fit, lambda n: progress(len(members) * fit.updates + n)
        )
        choose[stop], held_out[held] = (head_logits(shape, params, views[0, rows])[0] for rows in (stop, held))
        members.append(params)
        losses.append(tuple(told))
    temperature, threshold = calibrated(choose, label, fit)
    scores = np.empty(len(label))
    for m in range(FOLDS):
        held = fold == m
        own_temperature, own_threshold = calibrated(choose[~held], label[~held], fit)
        scores[held] = expit(held_out[held] / own_temperature - logit(own_threshold) + logit(threshold))
    stacked = jax.tree.map(lambda *leaves: np.concatenate(leaves), *members)
    return Trained(stacked, temperature, threshold, held_out, scores, tuple(losses))


def calibrated(logits: np.ndarray, label: np.ndarray, fit: Fit) -> tuple[float, float]:
    """The temperature, and the threshold of calibrated scores."""
    temperature = fit_temperature(logits, label)
    return temperature, choose_threshold(expit(logits / temperature), label, fit.precision, fit.recall)


def _fit(
    views: np.ndarray,
    label: np.ndarray,
    train: np.ndarray,
    stop: np.ndarray,
    seed: int,
    shape: HeadShape,
    fit: Fit,
    progress: Callable[[int], None],
) -> tuple[dict[str, Any], list[tuple[int, float, float]]]:
    """A member's parameters with the lowest loss on the frames `stop`, and the losses on the way."""
    rng, key = np.random.default_rng([seed, 1]), jax.random.key(seed)
    params = first_params(views[0, train], shape, seed)
    opt = _optimizer(fit).init(params["head"])
    labels = [np.flatnonzero(train & (label == truth)) for truth in (True, False)]
    best, kept, losses, stale = np.inf, params, [], 0
    for update in range(1, fit.updates + 1):
        rows = np.concatenate([rng.choice(some, fit.batch_size // 2) for some in labels])
        batch = views[rng.integers(len(views), size=len(rows)), rows]
        params, opt, loss = _update(shape, fit, params, opt, batch, label[rows], jax.random.fold_in(key, update))
        if update % fit.every and update < fit.updates:
            continue
        chosen = balanced_loss(head_logits(shape, params, views[0, stop])[0], label[stop])
        losses.append((update, float(loss), chosen))
        best, kept, stale = (chosen, params, 0) if chosen < best else (best, kept, stale + 1)
        progress(update)
        if stale >= fit.patience:
            break
    return jax.tree.map(np.asarray, kept), losses


def first_params(features: np.ndarray, shape: HeadShape, seed: int) -> dict[str, Any]:
    """Of one untrained member, for features `(N, cameras, h, w, C)`, which it standardises by their mean and deviation."""
    x = features.astype(np.float32)
    std = x.std((0, 2, 3), keepdims=True)
    std = np.maximum(std, STD_FLOOR * std.mean((2, 3, 4), keepdims=True)) + 1e-6
    return {**init_params(shape, 1, features.shape[1:], seed), "mean": x.mean((0, 2, 3), keepdims=True), "std": std}


def balanced_loss(logits: np.ndarray, label: np.ndarray) -> float:
    """Log loss, both labels weighing the same however many frames they have."""
    losses = np.asarray(optax.sigmoid_binary_cross_entropy(jnp.asarray(logits), jnp.asarray(label, jnp.float32)))
    return float(np.mean([losses[label == truth].mean() for truth in (True, False)]))


def _optimizer(fit: Fit) -> optax.GradientTransformation:
    return optax.adamw(fit.learning_rate, weight_decay=fit.weight_decay)


@partial(jax.jit, static_argnums=(0, 1))
def _update(
    shape: HeadShape,
    fit: Fit,
    params: dict[str, Any],
    opt: Any,
    features: jax.Array,
    label: jax.Array,
    key: jax.Array,
) -> tuple[dict[str, Any], Any, jax.Array]:
    def loss(head: Any) -> jax.Array:
        logits = members_logits(shape, {**params, "head": head}, features, key)[0]
        return jnp.mean(optax.sigmoid_binary_cross_entropy(logits, label.astype(jnp.float32)))  # type: ignore[arg-type]

    value, gradient = jax.value_and_grad(loss)(params["head"])
    change, opt = _optimizer(fit).update(gradient, opt, params["head"])
    return {**params, "head": optax.apply_updates(params["head"], change)}, opt, value
