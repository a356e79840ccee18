"""A pickle as plain data: what it would import or call is written down, and nothing is imported or called.

Only the instructions that PyTorch's own C++ writer emits (torch/csrc/jit/serialization/pickler.cpp, of TorchScript
archives) are known; there is none among them whose meaning depends on the machine it is read on. Instructions are
taken apart by Python's `pickletools`, which does not execute them either.
"""

import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

_MAX_STEPS = 1_000_000  # ten times what the largest CLIP has
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_NUMBERS = {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE"}
_FIXED = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_MARK = object()
T = TypeVar("T")


class PickleError(ValueError):
    """An error of a pickle, without the name of its file."""


@dataclass(frozen=True)
class Global:
    """A class or function that the pickle would import (opcode GLOBAL), by its dotted name."""

    name: str


@dataclass
class Reduced:
    """A call that the pickle would make (opcode REDUCE) and the state it would set (BUILD); nothing is called."""

    maker: Global
    arguments: tuple
    state: object = None


@dataclass(frozen=True)
class PersistentId:
    """A reference to data outside the pickle (opcode BINPERSID), by its description."""

    description: object


def parse_pickle(data: bytes, may_name: Callable[[str], bool]) -> object:
    """Return the value in a pickle: plain values, lists, tuples and dicts of them, Global, Reduced and PersistentId.

    `may_name` says which dotted names are allowed in it; one that is not is refused wherever it stands.

    Raises:
        PickleError: it is damaged, has an instruction that PyTorch does not write, or a name that is not allowed.
    """
    reader = _Reader(may_name)
    try:
        for count, (instruction, argument, _) in enumerate(pickletools.genops(data)):
            if count > _MAX_STEPS:
                raise PickleError("its pickle has more instructions than a model needs")
            reader.step(instruction.name, argument)
        (value,) = reader.take(len(reader.stack))
        return value
    except PickleError:
        raise
    except (ValueError, LookupError, TypeError, OverflowError, MemoryError) as error:  # genops, and an empty stack
        raise PickleError("its pickle is damaged") from error


class _Reader:
    """The stack and the memory of a pickle that is read."""

    def __init__(self, may_name: Callable[[str], bool]):
        self.stack: list[object] = []
        self._memory: dict[object, object] = {}  # by their numbers
        self._may_name = may_name

    def step(self, name: str, argument: object) -> None:
        if name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _NUMBERS:
            self.stack.append(argument)
        elif name in _FIXED:
            self.stack.append(tuple(self.take(_FIXED[name])))
        elif name in ("BINPUT", "LONG_BINPUT"):
            (self._memory[argument],) = self.take(1)
            self.stack.append(self._memory[argument])
        elif name in ("BINGET", "LONG_BINGET"):
            self.stack.append(self._memory[argument])
        elif name in _STEPS:
            _STEPS[name](self, argument)
        else:
            raise PickleError(f"its pickle has the instruction {name}, which PyTorch does not write there")

    def take(self, count: int) -> list[object]:
        if count > len(self.stack) or any(value is _MARK for value in self.stack[-count:]):
            raise PickleError("its pickle is damaged")
        taken = self.stack[-count:]
        del self.stack[-count:]
        return taken

    def since_mark(self) -> list[object]:
        place = len(self.stack) - 1
        while self.stack[place] is not _MARK:
            place -= 1  # runs out of the stack, and is then a LookupError
        taken = self.stack[place + 1 :]
        del self.stack[place:]
        return taken

    def _named(self, argument: object) -> None:
        name = str(argument).replace(" ", ".", 1)
        if not self._may_name(name):
            raise PickleError(f"its pickle asks for {name[:80]!r}, which is code and not a tensor")
        self.stack.append(Global(name))

    def _made(self, _: object) -> None:
        maker, arguments = self.take(2)
        if not isinstance(maker, Global) or not isinstance(arguments, tuple):
            raise PickleError("its pickle is damaged")
        self.stack.append(Reduced(maker, arguments))

    def _filled(self, _: object) -> None:
        made, state = self.take(2)
        if not isinstance(made, Reduced) or made.state is not None:
            raise PickleError("its pickle is damaged")
        made.state = state
        self.stack.append(made)

    def _extend(self, _: object) -> None:
        values = self.since_mark()
        self._top(list).extend(values)

    def _append(self, _: object) -> None:
        (value,) = self.take(1)
        self._top(list).append(value)

    def _set_items(self, _: object) -> None:
        self._set(self.since_mark())

    def _set_item(self, _: object) -> None:
        self._set(self.take(2))

    def _set(self, pairs: list[object]) -> None:
        keys = pairs[::2]
        if len(pairs) % 2 or not all(isinstance(key, str | int) for key in keys):  # deep tuples break Python's hash()
            raise PickleError("its pickle is damaged")
        self._top(dict).update(zip(keys, pairs[1::2]))

    def _top(self, kind: type[T]) -> T:
        top = self.stack[-1]
        if not isinstance(top, kind):
            raise PickleError("its pickle is damaged")
        return top


_STEPS: dict[str, Callable[[_Reader, object], None]] = {
    "PROTO": lambda reader, _: None,
    "STOP": lambda reader, _: None,
    "MARK": lambda reader, _: reader.stack.append(_MARK),
    "EMPTY_DICT": lambda reader, _: reader.stack.append({}),
    "EMPTY_LIST": lambda reader, _: reader.stack.append([]),
    "EMPTY_TUPLE": lambda reader, _: reader.stack.append(()),
    "TUPLE": lambda reader, _: reader.stack.append(tuple(reader.since_mark())),
    "BINPERSID": lambda reader, _: reader.stack.append(PersistentId(*reader.take(1))),
    "GLOBAL": _Reader._named,
    "REDUCE": _Reader._made,
    "NEWOBJ": _Reader._made,
    "BUILD": _Reader._filled,
    "APPENDS": _Reader._extend,
    "APPEND": _Reader._append,
    "SETITEMS": _Reader._set_items,
    "SETITEM": _Reader._set_item,
}
