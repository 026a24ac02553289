"""The reward classifier: whether the task is done, from features of a frozen trunk of several cameras' frames."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open
from scipy.special import expit

from encoders.classifier_scores import Counts
from encoders.files import write_arrays
from encoders.trunk import Trunk, flattened, unflattened

FILE, FORMAT = "classifier.safetensors", "segue classifier 1"
AT_ONCE = 256  # frames whose scores are worked out at once
AGAIN = "train it again with `segue classifier train`"


@dataclass(frozen=True)
class HeadShape:
    """Sizes of a head.

    Attributes:
        bottleneck: spatial embeddings of all cameras' maps together.
        dropout: share of the features, and of the bottleneck, that is left out in training.
    """

    bottleneck: int = 32
    dropout: float = 0.2


class Head(nn.Module):
    """`(B, cameras, h, w, C)` standardised features -> `(B,)` logits of success.

    One learned weight for each channel at each place of each camera's map, summed: a spatial embedding that also mixes channels
    and cameras. Where something is in the map tells a peg that is down from one that is nearly down. Measured beside it,
    embeddings of each channel and a spatial softmax showed no clear difference on one split; this is the simplest.
    """

    shape: HeadShape

    @nn.compact
    def __call__(self, x: jax.Array, training: bool = False) -> jax.Array:
        # Channels are left out of a whole map: single places would give them away, and cost more to draw than all the rest.
        x = nn.Dropout(self.shape.dropout, broadcast_dims=(2, 3), deterministic=not training)(x)
        x = x.reshape(len(x), -1)
        x = nn.relu(nn.LayerNorm()(nn.Dense(self.shape.bottleneck)(x)))
        x = nn.Dropout(self.shape.dropout, deterministic=not training)(x)
        return nn.Dense(1)(x)[:, 0]


@dataclass(frozen=True)
class About:
    """What a classifier was trained on and how good it is.

    Attributes:
        task: its name.
        cameras: whose frames it takes, in order.
        frame_shape: `(H, W, 3)` of them.
        trunk, fingerprint: name and fingerprint of the trunk whose features it takes.
        threshold: a calibrated score above it is a success.
        temperature: logits are divided by it.
        consecutive: so many steps in a row above the threshold make a success of an episode.
        provenance: of the frames.
        held_out: the confusion matrix of frames judged by members that have not seen their episodes; None where there is none.
        head: sizes of the network.
    """

    task: str
    cameras: tuple[str, ...]
    frame_shape: tuple[int, ...]
    trunk: str
    fingerprint: str
    threshold: float
    temperature: float
    consecutive: int
    provenance: str
    held_out: Counts | None = None
    head: HeadShape = field(default_factory=HeadShape)

    @property
    def precision(self) -> float | None:
        """Held out, per frame."""
        return None if self.held_out is None else self.held_out.precision

    @property
    def recall(self) -> float | None:
        """Held out, per frame."""
        return None if self.held_out is None else self.held_out.recall


@dataclass(frozen=True, eq=False)
class Classifier:
    """Trained heads that judge together.

    Attributes:
        about: see `About`.
        params: of M heads, stacked: `head` `(M, ...)`, and the features' `mean`, `std` `(M, cameras, 1, 1, C)`.
    """

    about: About
    params: Mapping[str, Any] = field(repr=False)

    def logits(self, features: np.ndarray) -> np.ndarray:
        """The members' mean `(N,)`, before the temperature, of features `(N, cameras, h, w, C)`."""
        return head_logits(self.about.head, self.params, features).mean(0)

    def scores(self, features: np.ndarray) -> np.ndarray:
        """Calibrated probabilities of success `(N,)` of features `(N, cameras, h, w, C)`."""
        return expit(self.logits(features) / self.about.temperature)


def head_logits(shape: HeadShape, params: Mapping[str, Any], features: np.ndarray) -> np.ndarray:
    """`(M, N)` float32 logits of M heads, of features `(N, cameras, h, w, C)`, a part at a time."""
    found = np.empty((len(params["mean"]), len(features)), np.float32)
    for start in range(0, len(features), AT_ONCE):
        part = features[start : start + AT_ONCE]
        size = 1 << (len(part) - 1).bit_length()  # few programs are compiled
        padded = np.concatenate([part, np.zeros((size - len(part), *part.shape[1:]), part.dtype)])
        found[:, start : start + len(part)] = np.asarray(_logits(shape, dict(params), padded))[:, : len(part)]
    return found


def members_logits(
    shape: HeadShape, params: Mapping[str, Any], features: jax.Array, key: jax.Array | None = None
) -> jax.Array:
    """`(M, B)` logits of features `(B, cameras, h, w, C)`; with a key of dropout, as in training."""
    x = features.astype(jnp.float32)
    rngs = None if key is None else {"dropout": key}

    def one(head: Any, mean: jax.Array, std: jax.Array) -> jax.Array:
        standard = (x - mean[None]) / std[None]
        return Head(shape).apply({"params": head}, standard, training=key is not None, rngs=rngs)  # type: ignore[return-value]

    return jax.vmap(one)(params["head"], params["mean"], params["std"])


_logits = jax.jit(members_logits, static_argnums=0)


@partial(jax.jit, static_argnums=(0, 1, 2))
def init_params(shape: HeadShape, members: int, features: tuple[int, ...], seed: int | jax.Array = 0) -> dict[str, Any]:
    """Of untrained heads for features `(cameras, h, w, C)`."""
    keys = jax.random.split(jax.random.key(seed), members)
    head = jax.vmap(lambda key: Head(shape).init(key, jnp.zeros((1, *features)))["params"])(keys)
    mean = jnp.zeros((members, features[0], 1, 1, features[3]))
    return {"head": dict(head), "mean": mean, "std": mean + 1.0}


def encode(trunk: Trunk, frames: Mapping[str, np.ndarray], cameras: Sequence[str]) -> np.ndarray:
    """Features `(N, cameras, h, w, C)` float16 of the frames `(N, H, W, 3)` uint8 of each camera."""
    return np.stack([trunk.encode(frames[name]) for name in cameras], axis=1)


def save_classifier(classifier: Classifier, path: Path) -> None:
    """Writes a safetensors file, whole or not at all."""
    about = {"format": FORMAT, "about": json.dumps(asdict(classifier.about))}
    write_arrays({n: np.asarray(x, np.float32) for n, x in flattened(classifier.params).items()}, path, about)


def load_classifier(path: Path, trunk: Trunk, cameras: Mapping[str, tuple[int, ...]]) -> Classifier:
    """The classifier in a file, or in a folder of `segue classifier train`, ready to be a reward.

    Args:
        trunk: whose features it will be given.
        cameras: the frame shape `(H, W, 3)` of each camera there is.

    Raises:
        ValueError: it cannot be read, was trained on another trunk's features, on other cameras or on frames of another size,
            or nobody knows how good it is on episodes that it did not see.
    """
    classifier = read_classifier(path)
    check_fits(classifier, path, trunk, cameras)
    about = classifier.about
    if about.precision is None:
        raise ValueError(
            f"classifier {path}: it has no held-out precision, so nobody knows what its reward is worth; {AGAIN} on more "
            "episodes"
        )
    return classifier


def check_fits(classifier: Classifier, path: Path, trunk: Trunk, cameras: Mapping[str, tuple[int, ...]]) -> None:
    """Raises `ValueError` that names the trunk, the cameras or the frame size that it was not trained on."""
    about = classifier.about
    _check_trunk_and_cameras(about, path, trunk, cameras)
    features = (len(cameras), *trunk.feature_shape(about.frame_shape))
    members = len(classifier.params.get("mean", ()))
    want = flattened(jax.eval_shape(lambda: init_params(about.head, members, features)))
    have = {name: np.shape(x) for name, x in flattened(classifier.params).items()}
    if have != {name: x.shape for name, x in want.items()}:
        raise ValueError(f"classifier {path}: its weights are not of the shapes that it names; {AGAIN}")


def _check_trunk_and_cameras(about: About, path: Path, trunk: Trunk, cameras: Mapping[str, tuple[int, ...]]) -> None:
    if about.fingerprint != trunk.fingerprint:
        raise ValueError(
            f"classifier {path}: it was trained on features of encoder {about.trunk}, these are of {trunk.name}; "
            f"give that encoder, or {AGAIN}"
        )
    if about.cameras != tuple(cameras):
        raise ValueError(
            f"classifier {path}: it was trained on the cameras {', '.join(about.cameras)}, these are "
            f"{', '.join(cameras) or 'none'}; give those, in that order, or {AGAIN}"
        )
    for name, shape in cameras.items():
        if about.frame_shape != tuple(shape):
            raise ValueError(
                f"classifier {path}: it was trained on frames of {about.frame_shape}, those of camera {name!r} are "
                f"{tuple(shape)}; give frames of that size, or {AGAIN}"
            )


def read_classifier(path: Path) -> Classifier:
    """What a file holds, whatever it is good for. Raises `ValueError` in one sentence."""
    path = path / FILE if path.is_dir() else path
    try:
        with safe_open(path, framework="numpy") as file:
            told = file.metadata() or {}
            if told.get("format") != FORMAT:
                raise ValueError(f"classifier {path}: it is a safetensors file of something else; {AGAIN}")
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        about = about_of(json.loads(told["about"]))
    except FileNotFoundError:
        raise ValueError(f"classifier {path}: there is no such file; make one with `segue classifier train`") from None
    except (OSError, SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"classifier {path} cannot be read ({error}); {AGAIN}") from error
    bad = next((name for name, x in sorted(arrays.items()) if not np.isfinite(x).all()), None)
    if bad is not None:
        raise ValueError(f"classifier {path}: {bad} holds numbers that are not finite; {AGAIN}")
    return Classifier(about, unflattened(arrays))


def about_of(plain: dict[str, Any]) -> About:
    """From JSON. Raises `TypeError` or `KeyError` for what is missing or too much."""
    named = {f.name for f in fields(About)}
    if named != set(plain):
        raise KeyError(f"{min(named ^ set(plain))} is missing, or unknown")
    told = {name: tuple(plain[name]) for name in ("cameras", "frame_shape")} | {"head": HeadShape(**plain["head"])}
    counts = plain["held_out"]
    about = About(**{**plain, **told, "held_out": None if counts is None else Counts(**counts)})
    if not (0.0 <= about.threshold <= 1.0 and about.temperature > 0.0 and about.consecutive >= 1):
        raise TypeError(
            f"threshold {about.threshold}, temperature {about.temperature}, consecutive {about.consecutive}"
        )
    return about
