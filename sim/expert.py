"""DAPG's expert policies: small networks that were trained to solve the Adroit tasks."""

import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

LAYERS = 3
VECTORS = ("in_shift", "in_scale", "out_shift", "out_scale", "log_std")
# What numpy and zipfile raise on a file that is damaged or something else.
UNREADABLE = (OSError, ValueError, TypeError, AttributeError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True)
class Expert:
    """A tanh network of two hidden layers, with a Gaussian about what it says.

    With x = (obs - in_shift) / (in_scale + 1e-8) it acts by (w2 tanh(w1 tanh(w0 x + b0) + b1) + b2) * out_scale + out_shift.

    Attributes:
        weights: `(H, D)`, `(H, H)`, `(A, H)`.
        biases: `(H,)`, `(H,)`, `(A,)`.
        in_shift, in_scale: `(D,)`; out_shift, out_scale, log_std: `(A,)`.
    """

    weights: tuple[np.ndarray, ...]
    biases: tuple[np.ndarray, ...]
    in_shift: np.ndarray
    in_scale: np.ndarray
    out_shift: np.ndarray
    out_scale: np.ndarray
    log_std: np.ndarray

    @classmethod
    def load(cls, path: Path) -> "Expert":
        """The expert of an npz file with the arrays `w0 b0 w1 b1 w2 b2` and those of the attributes' names.

        Raises:
            ValueError: the file is not there, cannot be read, or is not of such a policy.
        """
        arrays = read_arrays(path, [f"{kind}{layer}" for layer in range(LAYERS) for kind in "wb"] + list(VECTORS))
        _check(path, arrays)
        arrays = {name: array.astype(np.float64) for name, array in arrays.items()}
        weights = tuple(arrays[f"w{layer}"] for layer in range(LAYERS))
        biases = tuple(arrays[f"b{layer}"] for layer in range(LAYERS))
        return cls(weights, biases, **{name: arrays[name] for name in VECTORS})

    def act(self, obs: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
        """Actions `(..., A)` for observations `(..., D)`: the mean, or a sample where `rng` is given; they may pass -1..1.

        Raises:
            ValueError: the observation has another size than the policy was trained on.
        """
        if np.shape(obs)[-1:] != self.in_shift.shape:
            raise ValueError(
                f"expert: an observation has {self.in_shift.size} numbers, not shape {np.shape(obs)}; give it its task's"
            )
        hidden = (obs - self.in_shift) / (self.in_scale + 1e-8)
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            hidden = np.tanh(hidden @ weight.T + bias)
        action = (hidden @ self.weights[-1].T + self.biases[-1]) * self.out_scale + self.out_shift
        return action if rng is None else action + np.exp(self.log_std) * rng.standard_normal(action.shape)


def read_arrays(path: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """The arrays of those names in an npz file. Raises `ValueError` where there is no such file or it lacks one of them."""
    try:
        # Opened here, for numpy leaves a file that it cannot read open.
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            return {name: file[name] for name in names}
    except FileNotFoundError:
        raise ValueError(f"{path}: there is no such file; give an npz file with {', '.join(names)}") from None
    except KeyError as error:
        raise ValueError(f"{path}: {error.args[0]}; give an npz file with {', '.join(names)}") from None
    except UNREADABLE as error:
        raise ValueError(f"{path} cannot be read ({error}); give an npz file with {', '.join(names)}") from None


def _check(path: Path, arrays: dict[str, np.ndarray]) -> None:
    weights = [arrays[f"w{layer}"] for layer in range(LAYERS)]
    if any(weight.ndim != 2 for weight in weights):
        raise ValueError(f"{path}: a weight is not a matrix; give the file of a policy")
    sizes = [weights[0].shape[1], *(weight.shape[0] for weight in weights)]  # observation, hidden, hidden, action
    wanted = {f"w{layer}": (sizes[layer + 1], sizes[layer]) for layer in range(LAYERS)}
    wanted |= {f"b{layer}": (sizes[layer + 1],) for layer in range(LAYERS)}
    wanted |= {name: (sizes[0 if name.startswith("in_") else -1],) for name in VECTORS}
    for name, shape in wanted.items():
        found = arrays[name]
        if found.shape != shape or found.dtype.kind != "f" or not np.isfinite(found).all():
            raise ValueError(
                f"{path}: {name} is {found.dtype} {found.shape}, not {shape} finite floats; correct the file"
            )
