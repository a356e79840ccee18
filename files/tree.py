"""Nested lists, tuples and dictionaries of tensors and plain values, as named tensors and JSON, and back equal.

In the JSON plain values and lists stand for themselves, all else is an object with one of the keys "tensor", "tuple",
"dict" (a list of pairs) and "float" (what JSON has no number for). A tensor that is in the tree twice is stored once.
"""

import math
import re
from collections.abc import Callable

import torch
from torch import Tensor

MAX_DEPTH = 32
_MAX_BITS = 4096  # of an integer; Python refuses to read those of more than 4,300 digits
_AS_THEY_ARE = {
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.uint8,
    torch.bool,
}
_DTYPES = {  # quantized ones need a scale beside their bytes, and most of torch refuses tensors that have none
    str(value): value
    for value in vars(torch).values()
    if isinstance(value, torch.dtype) and not str(value).startswith(("torch.qint", "torch.quint"))
}
_FLOATS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


class UnstorableError(ValueError):
    """What in a value is neither a tensor nor plain."""


class TreeError(ValueError):
    """JSON that is no tree of ours, or that does not fit its tensors."""


class Bundle:
    """Gathers the tensors of several values under names of their own: `.tensors`, ready to be written."""

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self._seen: dict[int, tuple[Tensor, dict]] = {}  # by identity; the tensor is kept so that it stays its own

    def add(self, value: object, name: str) -> object:
        """The value's JSON; its tensors are in `tensors` from now on, named after `name`.

        Raises:
            UnstorableError: what the value has in it that cannot be stored; no tensor of it was taken.
        """
        before = dict(self.tensors), dict(self._seen)
        try:
            return self._plain(value, name, 0)
        except UnstorableError:
            self.tensors, self._seen = before
            raise

    def _plain(self, value: object, name: str, depth: int) -> object:
        if depth > MAX_DEPTH:
            raise UnstorableError(f"more than {MAX_DEPTH} levels, or one that contains itself")
        if value is None or isinstance(value, str | bool):
            return value
        if isinstance(value, int) and value.bit_length() <= _MAX_BITS:
            return int(value)
        if isinstance(value, float):
            return float(value) if math.isfinite(value) else {"float": str(float(value))}
        if isinstance(value, Tensor):
            return self._tensor(value, name)
        if isinstance(value, list | tuple):
            found = [self._plain(inner, f"{name}/{place}", depth + 1) for place, inner in enumerate(value)]
            return {"tuple": found} if isinstance(value, tuple) else found
        if isinstance(value, dict):
            return {
                "dict": [
                    [self._plain(key, name, depth + 1), self._plain(inner, f"{name}/{key}", depth + 1)]
                    for key, inner in value.items()
                ]
            }
        raise UnstorableError(f"an object of the kind {type(value).__name__}")

    def _tensor(self, tensor: Tensor, name: str) -> dict:
        if id(tensor) in self._seen:
            return self._seen[id(tensor)][1]
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta or tensor.is_nested:
            raise UnstorableError("a tensor that is not an ordinary, dense one")
        free, stored = self._free(name), tensor.detach().resolve_conj().resolve_neg()
        plain: dict[str, object] = {"tensor": free}
        if tensor.dtype not in _AS_THEY_ARE or not bool(tensor.isfinite().all()):
            # as bytes: what safetensors does not know, and NaN and infinity, which mean damage in a file of weights
            stored = stored.cpu().contiguous().reshape(-1).view(torch.uint8)
            plain |= {"dtype": str(tensor.dtype), "shape": list(tensor.shape)}
        self.tensors[free] = stored
        self._seen[id(tensor)] = tensor, plain
        return plain

    def _free(self, name: str) -> str:
        """The name with plain letters only, and a number where it is taken."""
        name = re.sub(r"[^A-Za-z0-9_/-]", "_", name)[:120]
        free, number = name, 2
        while free in self.tensors:
            free, number = f"{name}-{number}", number + 1
        return free


def restore(plain: object, tensor: Callable[[str], Tensor], depth: int = 0) -> object:
    """The value that `Bundle.add` was given; `tensor(name)` gives a tensor stored under a name.

    Raises:
        TreeError: this is no JSON of `Bundle.add`.
    """
    if depth > MAX_DEPTH:
        raise TreeError(f"it has more than {MAX_DEPTH} levels")
    if plain is None or isinstance(plain, str | bool | int | float):
        return plain
    if isinstance(plain, list):
        return [restore(inner, tensor, depth + 1) for inner in plain]
    match plain:
        case {"tensor": str(name), **facts}:
            return _tensor_back(name, tensor(name), facts)
        case {"float": "nan" | "inf" | "-inf" as text, **rest} if not rest:
            return _FLOATS[text]
        case {"tuple": list(inner), **rest} if not rest:
            return tuple(restore(value, tensor, depth + 1) for value in inner)
        case {"dict": list(pairs), **rest} if not rest and all(isinstance(p, list) and len(p) == 2 for p in pairs):
            found = [(restore(key, tensor, depth + 1), restore(value, tensor, depth + 1)) for key, value in pairs]
            try:
                return dict(found)
            except TypeError as error:  # a list as a key
                raise TreeError("a key in it is no plain value") from error
    raise TreeError(f"{str(plain)[:60]!r} in it is no value known here")


def _tensor_back(name: str, stored: Tensor, facts: dict[object, object]) -> Tensor:
    if not facts:
        return stored
    match facts:
        case {"dtype": str(dtype), "shape": list(shape), **rest} if not rest and dtype in _DTYPES:
            try:
                return stored.clone().view(_DTYPES[dtype]).reshape(shape)
            except (RuntimeError, TypeError) as error:
                raise TreeError(f"the bytes of {name!r} are no {dtype} of shape {shape}") from error
    whole = {"tensor": name} | facts
    raise TreeError(f"{str(whole)[:60]!r} in it is no tensor known here")
