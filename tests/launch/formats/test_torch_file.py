"""PyTorch's files: what torch.save writes is read without it, and nothing that a file asks for is ever run."""

import io
import os
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from launch.formats.torch_file import load_torch

TENSORS = (
    st.sampled_from(["f4", "f8", "f2", "i8", "i4", "i2", "i1", "u1", "?"])
    .flatmap(lambda kind: hnp.arrays(np.dtype(kind), hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=3)))
    .map(lambda x: torch.from_numpy(np.array(x)))
)


def refused(path: Path, *words: str) -> None:
    before = sorted(path.parent.iterdir())
    with pytest.raises(ValueError) as refusal:  # noqa: PT011 - the words are compared below
        load_torch(path)
    said = str(refusal.value)
    assert "\n" not in said
    for word in (*words, str(path), ";"):
        assert word in said, said
    assert sorted(path.parent.iterdir()) == before


@given(tensors=st.dictionaries(st.text(max_size=4), TENSORS, max_size=4), ordered=st.booleans())
def test_what_is_saved_comes_back(tensors, ordered, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "tensors.pth"
    torch.save(OrderedDict(tensors) if ordered else tensors, path)
    found = load_torch(path)
    assert list(found) == list(tensors)
    for name, x in tensors.items():
        assert found[name].dtype == x.numpy().dtype
        assert found[name].shape == tuple(x.shape)
        assert found[name].tobytes() == x.numpy().tobytes()


def test_tensors_that_share_a_storage_or_lie_in_it_otherwise_come_back(tmp_path):
    whole = torch.arange(24.0).reshape(2, 3, 4)
    made = {
        "turned": whole.permute(2, 0, 1),
        "part": whole[1, 1:, ::2],
        "same": whole,
        "spread": torch.ones(3).expand(1, 3),
        "trained": torch.nn.Parameter(torch.ones(2)),
    }
    torch.save(made, tmp_path / "a.pt")
    found = load_torch(tmp_path / "a.pt")
    assert {name: x.tolist() for name, x in found.items()} == {name: x.tolist() for name, x in made.items()}
    assert np.shares_memory(found["turned"], found["same"])
    assert not found["same"].flags.writeable


def test_a_state_dict_with_what_modules_hang_on_it_is_read(tmp_path):
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 2), torch.nn.BatchNorm2d(4))
    torch.save(module.state_dict(), tmp_path / "a.pth")
    assert {n: x.tolist() for n, x in load_torch(tmp_path / "a.pth").items()} == {
        n: x.tolist() for n, x in module.state_dict().items()
    }


class Runs:
    """Pickled, it asks for a call."""

    def __init__(self, *call) -> None:
        self.call = call

    def __reduce__(self):
        return self.call[0], self.call[1:]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"a": Runs(os.system, "touch ran")}, "posix.system"),
        ({"a": Runs(eval, "open('ran', 'w')")}, "eval"),
        (torch.nn.Linear(2, 2), "save the network's state_dict()"),
        ({"model": {"a": torch.ones(1)}}, "its 'model' is a dict, not a tensor"),
        ({"epoch": 3, "a": torch.ones(1)}, "its 'epoch' is a int"),
        ({1: torch.ones(1)}, "its 1 is"),
        ([torch.ones(1)], "it holds a list, not a state dict"),
        (torch.ones(1), "it holds a ndarray"),
        ({"a": torch.ones(2, dtype=torch.bfloat16)}, "torch.BFloat16Storage"),
        ({"a": torch.ones(2, 2).to_sparse()}, "torch"),
        ({"a": np.array([None])}, "O8"),
    ],
)
def test_all_else_is_refused_by_name(value, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(value, tmp_path / "a.pth")
    refused(tmp_path / "a.pth", words)


def test_files_of_other_kinds_are_refused(tmp_path):
    torch.save({"a": torch.ones(1)}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    refused(tmp_path / "old.pth", "since version 1.6")
    (tmp_path / "text.pth").write_text("weights")
    refused(tmp_path / "text.pth", "no archive")
    refused(tmp_path / "none.pth", "there is none")
    refused(tmp_path, "it is a folder")
    np.savez(tmp_path / "a.npz", a=np.zeros(2))
    refused((tmp_path / "a.npz").rename(tmp_path / "a.pth"), "0 entries are called data.pkl")


def rewritten(path: Path, changes: dict[str, bytes | None], compression: int = zipfile.ZIP_STORED) -> Path:
    """The same archive with entries changed, or left out."""
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    folder = next(iter(entries)).split("/")[0]
    entries |= {f"{folder}/{name}": data for name, data in changes.items()}
    out = path.with_name("changed.pth")
    with zipfile.ZipFile(out, "w", compression) as archive:
        for name, data in entries.items():
            if data is not None:
                archive.writestr(name, data)
    return out


@pytest.fixture
def saved(tmp_path) -> Path:
    torch.save({"a": torch.arange(6.0).reshape(2, 3)}, tmp_path / "a.pth")
    return tmp_path / "a.pth"


def test_the_archive_that_the_next_tests_break_is_whole(saved):
    assert load_torch(rewritten(saved, {}))["a"].tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data/0": None}, "storage 0 is not in the file"),
        ({"data/0": b"1234"}, "storage 0 is 4 bytes, not 6 elements"),
        ({"data/0": bytes(25)}, "storage 0 is 25 bytes"),
        ({"byteorder": b"big"}, "another order"),
        ({"data.pkl": None}, "0 entries are called data.pkl"),
        ({"data.pkl": b""}, "it has no end"),
        ({"data.pkl": b"(."}, "it is damaged"),
    ],
)
def test_entries_that_do_not_fit_are_refused(saved, changes, words):
    refused(rewritten(saved, changes), words)


def test_compressed_entries_are_refused_unread(saved):
    """A thousand times as large inside as outside."""
    refused(rewritten(saved, {"data/0": bytes(1 << 20)}, zipfile.ZIP_DEFLATED), "is compressed")


STORAGE = ("storage", torch.FloatStorage, "0", "cpu", 6)


def tensor(offset: object, sizes: object, strides: object, pid: object = STORAGE, count: int = 1) -> bytes:
    """The pickle of a state dict of tensors that lie so in a storage of 6 numbers, or in what `pid` says."""
    here = Runs()

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj):
            return pid if obj is here else None

    made = Runs(torch._utils._rebuild_tensor_v2, here, offset, sizes, strides, False, {})
    file = io.BytesIO()
    Pickler(file, 2).dump({f"a{i}": made for i in range(count)})
    return file.getvalue()


def test_the_tensor_that_the_next_test_misplaces_is_whole(saved):
    found = load_torch(rewritten(saved, {"data.pkl": tensor(1, (2, 2), (3, 1), count=3)}))
    assert len(found) == 3
    assert found["a0"].tolist() == [[1, 2], [4, 5]]


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ((0, (7,), (1,)), "outside of its storage"),
        ((6, (1,), (1,)), "outside of its storage"),
        ((0, (2, 2), (5, 1)), "outside of its storage"),
        ((0, (10**6, 10**6), (0, 0)), "outside of its storage"),
        ((-1, (1,), (1,)), "not told in whole numbers"),
        ((0, (2,), (-1,)), "not told in whole numbers"),
        ((0, (1.0,), (1,)), "not told in whole numbers"),
        ((0, (2,), (1, 1)), "lies in no storage"),
        ((0, (1,) * 9, (1,) * 9), "lies in no storage"),
        ((0, (1,), (2**70,)), ""),
        ((0, 3, 1), ""),
        ((0, (1,), (1,), ("module", 1)), "no storage"),
        ((0, (1,), (1,), ("storage", None, "0", "cpu", 6)), "no type that is known"),
        ((0, (1,), (1,), 7), "no storage"),
    ],
)
def test_a_tensor_that_lies_elsewhere_is_refused(saved, place, words):
    refused(rewritten(saved, {"data.pkl": tensor(*place)}), words)


@settings(max_examples=150)
@given(
    changes=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=4),
    cut=st.integers(0, 2000),
    inside=st.booleans(),
)
def test_damaged_files_are_refused_or_hold_arrays(changes, cut, inside, tmp_path_factory):
    folder = tmp_path_factory.getbasetemp() / "damaged"
    folder.mkdir(exist_ok=True)
    torch.save({"a": torch.ones(2, 3), "b": torch.ones(2)}, folder / "a.pth")
    if inside:  # the pickle of a file whose check sums are right
        with zipfile.ZipFile(folder / "a.pth") as archive:
            data = bytearray(archive.read("a/data.pkl"))
    else:
        data = bytearray((folder / "a.pth").read_bytes())
    for place, value in changes:
        data[place % len(data)] = value
    path = folder / "changed.pth"
    if inside:
        rewritten(folder / "a.pth", {"data.pkl": bytes(data)})
    else:
        path.write_bytes(data[: len(data) - cut] if cut < 1000 else data)
    try:
        assert all(isinstance(x, np.ndarray) for x in load_torch(path).values())
    except ValueError as error:
        assert str(path) in str(error)  # noqa: PT017 - any of many refusals
        assert "\n" not in str(error)  # noqa: PT017
