"""PyTorch's files of tensors, read without PyTorch, and without running anything that they hold.

`torch.save` writes a zip archive: `NAME/data.pkl` is a pickle whose tensors say in which storage they lie, and how, and
`NAME/data/KEY` is the bytes of one storage.
"""

import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from launch.formats.pickles import Vocabulary, parse_pickle
from launch.formats.source import existing_file
from launch.formats.stand_ins import MAX_RANK, STAND_INS, Plain, Refusal, Stand

ADVICE = "save the network's state_dict() with torch.save"
DTYPES = {
    "torch.FloatStorage": "<f4",
    "torch.DoubleStorage": "<f8",
    "torch.HalfStorage": "<f2",
    "torch.LongStorage": "<i8",
    "torch.IntStorage": "<i4",
    "torch.ShortStorage": "<i2",
    "torch.CharStorage": "<i1",
    "torch.ByteStorage": "<u1",
    "torch.BoolStorage": "|b1",
}


def load_torch(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a state dict by name, as arrays that are read-only.

    Raises:
        ValueError: in one sentence, where the file holds anything else, of which nothing has run.
    """
    where = f"torch file {existing_file(path, 'torch')}"
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{where}: it is no archive as PyTorch writes since version 1.6; load it there and {ADVICE}")
    with path.open("rb") as file:
        try:
            archive = _Archive(zipfile.ZipFile(file))
            data = archive.read("data.pkl")
        except Exception as error:  # a damaged archive makes the reader raise nearly anything
            raise ValueError(f"{where}: it is damaged ({error}); copy it again") from error
        found = parse_pickle(data, f"in {path}", Vocabulary(NAMES, ADVICE, archive.storage))
    if not isinstance(found, dict):
        raise ValueError(f"{where}: it holds a {type(found).__name__}, not a state dict; {ADVICE}")
    for name, x in found.items():
        if not isinstance(name, str) or not isinstance(x, np.ndarray):
            raise ValueError(f"{where}: its {name!r} is a {type(x).__name__}, not a tensor; {ADVICE} alone")
    return found


class _Archive:
    """The entries of a file, whose common folder may have any name."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        pickles = [name for name in archive.namelist() if name.endswith("/data.pkl") and name.count("/") == 1]
        if len(pickles) != 1:
            raise zipfile.BadZipFile(f"{len(pickles)} entries are called data.pkl")
        self._archive, self._folder = archive, pickles[0].removesuffix("data.pkl")
        self._storages: dict[str, _Storage] = {}
        if f"{self._folder}byteorder" in archive.namelist() and self.read("byteorder") != b"little":
            raise zipfile.BadZipFile("its bytes are in another order than little-endian")

    def read(self, name: str) -> bytes:
        """An entry, as long as it says, and no longer than the file: PyTorch compresses none."""
        info = self._archive.getinfo(self._folder + name)
        if info.compress_type != zipfile.ZIP_STORED:
            raise zipfile.BadZipFile(f"entry {name[:40]} is compressed")
        return self._archive.read(info)

    def storage(self, pid: Any) -> "_Storage":
        """What `("storage", its type, key, device, number of elements)` tells of, the same each time."""
        if not isinstance(pid, tuple) or len(pid) != 5 or pid[0] != "storage" or not isinstance(pid[2], str):
            raise Refusal(f"it keeps something elsewhere that is no storage; {ADVICE}")
        _, kind, key, _, elements = pid
        dtype = DTYPES.get(kind.name) if isinstance(kind, _StorageType) else None
        if dtype is None:
            raise Refusal(f"it keeps a storage of no type that is known; {ADVICE}")
        if key not in self._storages:
            self._storages[key] = _Storage(self, key, dtype, elements)
        return self._storages[key]


class _Storage(Stand):
    __slots__ = ("_archive", "_dtype", "_elements")

    def __init__(self, archive: _Archive, key: str, dtype: str, elements: Any) -> None:
        super().__init__(key)
        self._archive, self._dtype, self._elements = archive, np.dtype(dtype), elements

    def value(self, plain: Plain) -> np.ndarray:
        """Its elements `(N,)`."""
        try:
            data = self._archive.read(f"data/{self.name}")
        except KeyError:
            raise Refusal(f"storage {self.name[:40]} is not in the file; copy it again") from None
        if self._elements * self._dtype.itemsize != len(data):
            raise Refusal(f"storage {self.name} is {len(data)} bytes, not {self._elements} elements; copy it again")
        return np.frombuffer(data, self._dtype)


class _StorageType(Stand):
    """torch.FloatStorage and the like, which files name and never call."""

    __slots__ = ()


class _Tensor(Stand):
    """torch._utils._rebuild_tensor_v2: storage, offset, sizes and strides in elements, and what training needs."""

    __slots__ = ()

    def value(self, plain: Plain) -> np.ndarray:
        storage, offset, sizes, strides, *_ = self.given(6, 7)
        elements = plain(storage) if isinstance(storage, _Storage) else None
        numbers = (offset, *sizes, *strides)
        if elements is None or len(sizes) != len(strides) or len(sizes) > MAX_RANK:
            raise Refusal("it holds a tensor that lies in no storage; copy it again")
        if any(type(n) is not int or n < 0 for n in numbers):
            raise Refusal("it holds a tensor whose place is not told in whole numbers; copy it again")
        last = offset + sum((n - 1) * step for n, step in zip(sizes, strides, strict=True))
        if math.prod(sizes) > len(elements) or (math.prod(sizes) and last >= len(elements)):
            raise Refusal(f"it holds a tensor of shape {sizes} outside of its storage; copy it again")
        step = elements.itemsize
        return as_strided(elements[offset:], sizes, [s * step for s in strides], writeable=False)


class _Parameter(Stand):
    """torch._utils._rebuild_parameter: a tensor, whether it is trained, and hooks."""

    __slots__ = ()

    def value(self, plain: Plain) -> Any:
        return plain(self.given(3)[0])


class _StateDict(dict):
    """Modules hang `_metadata` on it, which says nothing of weights."""

    def __setstate__(self, state: Any) -> None:
        pass


class _Ordered(Stand):
    __slots__ = ()

    def __call__(self, *arguments: Any) -> _StateDict:
        return _StateDict(*arguments[:1])


NAMES = {
    **STAND_INS,
    **{("torch", name.removeprefix("torch.")): _StorageType for name in DTYPES},
    ("torch._utils", "_rebuild_tensor_v2"): _Tensor,
    ("torch._utils", "_rebuild_parameter"): _Parameter,
    ("collections", "OrderedDict"): _Ordered,
}
