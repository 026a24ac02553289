"""What numpy's pickles say, taken down by stand-ins that run nothing, and made into arrays from plain bytes."""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import numpy as np

MAX_RANK = 8
NUMBERS = re.compile(r"([<>=|]?)(b1|[iu][1248]|f[248]|[SU]\d{1,6})")
ADVICE = "save it again as plain numpy arrays, numbers, lists and dicts"
Plain = Callable[[Any], Any]
"""Turns notes into the value that they tell of."""


class Refusal(ValueError):
    """What is wrong with a pickle that is otherwise whole."""


class Stand:
    """In the place of what a pickle names. It is made anew for each place, so nothing that is done to it lasts."""

    __slots__ = ("arguments", "name", "state")

    def __init__(self, name: str) -> None:
        self.name, self.arguments, self.state = name, None, None

    def __call__(self, *arguments: Any) -> Any:
        made = type(self)(self.name)
        made.arguments = arguments
        return made

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def value(self, plain: Plain) -> Any:
        raise Refusal(f"it holds {self.name} itself; {ADVICE}")

    def given(self, *counts: int) -> tuple[Any, ...]:
        """What it was called with, that many of them."""
        if self.arguments is None or len(self.arguments) not in counts:
            raise Refusal(f"it calls {self.name} as numpy does not; copy it again")
        return self.arguments


class _Ndarray(Stand):
    """numpy.ndarray, which pickles name and never call."""

    __slots__ = ()

    def __call__(self, *arguments: Any) -> NoReturn:
        raise Refusal(f"it calls {self.name}; {ADVICE}")


class _Dtype(Stand):
    __slots__ = ()

    def value(self, plain: Plain) -> np.dtype:
        spec, *_ = self.given(1, 2, 3)
        spec = spec.decode("latin1") if isinstance(spec, bytes) else spec
        match = NUMBERS.fullmatch(spec) if isinstance(spec, str) else None
        if match is None:
            raise Refusal(f"it holds numpy data of dtype {_words(spec)}, not of numbers; {ADVICE}")
        order = match[1] or "="
        if self.state is not None:
            order, *parts = _tuple(self.state)[1:5]  # of (version, order, subarray, names, fields, ...)
            order = order.decode("latin1") if isinstance(order, bytes) else order
            if order not in ("<", ">", "=", "|") or any(part is not None for part in parts):
                raise Refusal(f"it holds numpy data of dtype {spec!r} with fields; {ADVICE}")
        return np.dtype(match[2]).newbyteorder(str(order))  # type: ignore[arg-type]


class _Array(Stand):
    """numpy.core.multiarray._reconstruct: its state tells all."""

    __slots__ = ()

    def value(self, plain: Plain) -> np.ndarray:
        kind, *_ = self.given(3)
        if not isinstance(kind, _Ndarray):
            raise Refusal(f"it holds an array of a class of its own ({_called(kind)}); {ADVICE}")
        *_, shape, dtype, fortran, data = (None, *_tuple(self.state))[-5:]  # numpy's first versions gave no version
        return _array(data, dtype, shape, "F" if fortran else "C", plain)


class _OnDevice(Stand):
    """jax._src.array._reconstruct_array: a numpy array's call, its arguments and its state, then what jax keeps of its own."""

    __slots__ = ()

    def value(self, plain: Plain) -> np.ndarray:
        kind, arguments, state, _ = self.given(4)
        if not isinstance(kind, _Array):
            raise Refusal(f"it makes an array of {_called(kind)}; {ADVICE}")
        array = kind(*_tuple(arguments))
        array.__setstate__(state)
        return array.value(plain)


class _Buffer(Stand):
    """numpy.core.numeric._frombuffer, of protocol 5."""

    __slots__ = ()

    def value(self, plain: Plain) -> np.ndarray:
        data, dtype, shape, order, *axes = self.given(4, 5)
        array = _array(data, dtype, shape, "F" if order == "F" else "C", plain)
        return array.transpose(_tuple(axes[0])) if order == "K" and axes and axes[0] is not None else array


class _Scalar(Stand):
    __slots__ = ()

    def value(self, plain: Plain) -> Any:
        dtype, data = self.given(2)
        return _array(data, dtype, (), "C", plain)[()]


class _Bytes(Stand):
    """_codecs.encode and builtins.bytes, with which protocols below 3 tell bytes."""

    __slots__ = ()

    def value(self, plain: Plain) -> bytes:
        text, *encoding = self.given(0, 1, 2) or ("", "latin1")
        text = plain(text) if isinstance(text, bytes | _Bytes) else text
        if isinstance(text, bytes) and not encoding:
            return text
        if not isinstance(text, str) or [e for e in encoding if e not in ("latin1", "latin-1")]:
            raise Refusal(f"it calls {self.name} for something else than latin1 bytes; {ADVICE}")
        return text.encode("latin1")


class _Ordered(Stand):
    """collections.OrderedDict; what is set in it comes one key at a time."""

    __slots__ = ()

    def __call__(self, *arguments: Any) -> dict:
        return dict(*arguments[:1])


STAND_INS: Mapping[tuple[str, str], type[Stand]] = {
    ("numpy", "ndarray"): _Ndarray,
    ("numpy", "dtype"): _Dtype,
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy.core.multiarray", "scalar"): _Scalar,
    ("numpy.core.numeric", "_frombuffer"): _Buffer,
    ("jax._src.array", "_reconstruct_array"): _OnDevice,
    ("_codecs", "encode"): _Bytes,
    ("__builtin__", "bytes"): _Bytes,
    ("builtins", "bytes"): _Bytes,
    ("__builtin__", "bytearray"): _Bytes,
    ("builtins", "bytearray"): _Bytes,
    ("collections", "OrderedDict"): _Ordered,
}


def _array(data: Any, dtype: Any, shape: Any, order: str, plain: Plain) -> np.ndarray:
    """An array `shape` of exactly the bytes that are there."""
    kind = plain(dtype)
    data = plain(data) if isinstance(data, Stand | bytearray) else data
    data = data.encode("latin1") if isinstance(data, str) else data  # of Python 2
    sizes = _tuple(shape)
    if not isinstance(kind, np.dtype) or not isinstance(data, bytes):
        raise Refusal(f"it holds an array of {_called(data)} of {_called(dtype)}; {ADVICE}")
    if len(sizes) > MAX_RANK or any(type(n) is not int or n < 0 for n in sizes):
        raise Refusal(f"it holds an array whose shape is not up to {MAX_RANK} whole numbers; {ADVICE}")
    if math.prod(sizes) * kind.itemsize != len(data):
        raise Refusal(f"it holds an array of shape {sizes} and {kind} in {len(data)} bytes; copy it again")
    return np.frombuffer(data, kind).reshape(sizes, order="F" if order == "F" else "C")


def _tuple(value: Any) -> tuple[Any, ...]:
    if not isinstance(value, tuple):
        raise Refusal(f"it describes an array with {_called(value)}, not with a tuple; copy it again")
    return value


def _called(value: Any) -> str:
    return value.name if isinstance(value, Stand) else type(value).__name__


def _words(value: Any) -> str:
    """What it is, never in full: a nest of tuples can be written out at a length without end."""
    return f"{value!r:.80}" if isinstance(value, str) else _called(value)
