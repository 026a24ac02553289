"""Pickles of numbers, read without running any of them.

A pickle is a program, so nothing that it names is ever called. What numpy needs is answered by stand-ins that only take notes;
arrays are then built here from plain bytes whose dtype, shape and number agree.
"""

import pickle
import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from launch.formats.stand_ins import ADVICE, STAND_INS, Refusal, Stand

REFUSED = {"INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4", "PERSID", "BINPERSID"}
OUT_OF_BAND = {"NEXT_BUFFER", "READONLY_BUFFER"}
OPCODES = {opcode.code: opcode for opcode in pickletools.opcodes}
PLAIN = (str, bytes, int, float, complex, bool, type(None))


@dataclass(frozen=True)
class Vocabulary:
    """What a kind of pickle may ask for.

    Attributes:
        names: the stand-in of each module's name.
        advice: what to do about a file that asks for anything else.
        elsewhere: the stand-in of what a pickle says it keeps elsewhere; where there is none, that is refused.
    """

    names: Mapping[tuple[str, str], type[Stand]]
    advice: str
    elsewhere: Callable[[Any], Stand] | None = None


NUMPY = Vocabulary(STAND_INS, ADVICE)


def load_pickle(path: Path) -> Any:
    """What a pickle of numpy arrays, scalars, dtypes and plain containers holds; of Python 2 or 3, of numpy 1 or 2.

    Arrays of jax come as numpy's. Arrays may be read-only. An ordered dict becomes a dict.

    Raises:
        ValueError: in one sentence, for anything else, of which nothing has run.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(f"pickle {path}: it cannot be read ({error.strerror or error}); give a file") from error
    return parse_pickle(data, str(path))


def parse_pickle(data: bytes, name: str, vocabulary: Vocabulary = NUMPY) -> Any:
    """What the bytes of a pickle hold. See `load_pickle`.

    Args:
        name: of where they come from, for what errors say.
        vocabulary: what it may ask for.
    """
    where = f"pickle {name}"
    try:
        end = _scan(data, vocabulary)
        if end != len(data):
            raise Refusal(f"{len(data) - end} bytes follow its end; save one object in one file")
        return _Plain().of(_Notes(data, vocabulary).load())
    except Refusal as error:
        raise ValueError(f"{where}: {error}") from error.__cause__
    except Exception as error:  # a damaged pickle makes the unpickler raise nearly anything
        raise ValueError(f"{where}: it is damaged ({type(error).__name__}: {error}); copy it again") from error


def _scan(data: bytes, vocabulary: Vocabulary) -> int:
    """Reads every instruction before any is followed; where the pickle ends."""
    file, puts = BytesIO(data), 0
    refused = REFUSED - {"BINPERSID"} if vocabulary.elsewhere else REFUSED
    while code := file.read(1):
        position, opcode = file.tell() - 1, OPCODES.get(code.decode("latin1"))
        if opcode is None:
            raise Refusal(f"there is no instruction {code!r}, as at byte {position}; give a pickle that is whole")
        name, argument = opcode.name, None
        if name == "STRING":
            file.readline()  # Python 2's need not be ASCII, as pickletools would have it
        elif opcode.arg is not None:
            argument = opcode.arg.reader(file)
        if name in refused:
            raise Refusal(f"instruction {name} at byte {position} makes an object of a class; {vocabulary.advice}")
        if name in OUT_OF_BAND:
            raise Refusal(
                f"instruction {name} at byte {position} wants data that is not in the file; {vocabulary.advice}"
            )
        if name in ("PUT", "BINPUT", "LONG_BINPUT"):
            puts += 1
            if not 0 <= int(argument or 0) <= puts:  # a huge one would claim as much memory; Python 2 counts from 1
                raise Refusal(f"instruction {name} at byte {position} wants {argument} places; copy it again")
        if name == "STOP":
            return position + 1
    raise Refusal("it has no end; copy it again")


class _Notes(pickle.Unpickler):
    """Answers every name that a pickle asks for with a stand-in, or refuses it."""

    def __init__(self, data: bytes, vocabulary: Vocabulary) -> None:
        super().__init__(BytesIO(data), encoding="latin1")
        self._vocabulary = vocabulary

    def find_class(self, module: str, name: str) -> Stand:
        kind = self._vocabulary.names.get((module.replace("numpy._core", "numpy.core"), name))
        if kind is None:
            advice = self._vocabulary.advice
            raise Refusal(f"it asks for {module}.{name}, which is no array, number or container; {advice}")
        return kind(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> Stand:
        if self._vocabulary.elsewhere is None:
            raise Refusal(f"it keeps something elsewhere; {self._vocabulary.advice}")
        return self._vocabulary.elsewhere(pid)


class _Plain:
    """Turns notes into values, each object once."""

    def __init__(self) -> None:
        self._done: dict[int, Any] = {}
        self._under_way: set[int] = set()

    def of(self, found: Any) -> Any:
        if isinstance(found, PLAIN):
            return found
        if id(found) in self._under_way:
            raise Refusal("it holds a container that contains itself; save plain lists and dicts")
        if id(found) not in self._done:
            self._under_way.add(id(found))
            self._done[id(found)] = self._new(found)
            self._under_way.remove(id(found))
        return self._done[id(found)]

    def _new(self, found: Any) -> Any:
        match found:
            case list():
                return [self.of(x) for x in found]
            case tuple():
                return tuple(self.of(x) for x in found)
            case dict():
                if not all(isinstance(key, PLAIN) for key in found):
                    raise Refusal(f"it holds a dict whose keys are no words or numbers; {ADVICE}")
                return {key: self.of(x) for key, x in found.items()}
            case bytearray():
                return bytes(found)
            case Stand():
                return found.value(self.of)
        raise Refusal(f"it holds a {type(found).__name__}; {ADVICE}")
