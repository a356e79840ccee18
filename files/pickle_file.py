"""PyTorch's own files (zip and the older kind): tensors only, through torch.load(weights_only=True), never otherwise.

torch's messages carry terminal codes and advise to switch the check off: none of them reaches the user.
"""

import contextlib
import pickle
import re
import struct
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from .contents import Contents, size_text
from .errors import FileFormatError
from .sniff import TORCH_ZIP, check_zip, regular_file_size

MAX_PICKLE_BYTES = 64 * 2**20
_WRAPPERS = ("state_dict", "model_state_dict", "params_ema", "params", "model", "module", "weights")
_LEFTOVERS = ("optimizer", "lr_schedulers", "callbacks", "epoch", "global_step", "loss")
_MAX_DEPTH = 6
_TERMINAL_CODE = re.compile(r"\x1b\[[0-9;]*m")
_FORBIDDEN = (
    re.compile(r"GLOBAL (\S+)"),
    re.compile(r"(?:Trying to (?:call|access|load)[a-z ]*|find_class|reduce)[: ]+[`'\"]?([\w.]+)"),
)


class _Stub:
    """Stands for a training library's bookkeeping object; keeps nothing, does nothing."""

    def __setstate__(self, state):
        pass


class _ParameterDict(dict):
    """Stands for torch.nn.ParameterDict, in which the first textual inversions lie: keeps its tensors, nothing else.

    They are its `_parameters`, in old torch and new (A1111's textual_inversion.py reads those of 1.11 there, too).
    """

    def __setstate__(self, state):
        parameters = state.get("_parameters") if isinstance(state, dict) else None
        self.update(parameters if isinstance(parameters, dict) else {})


def pickle_contents(path: Path, kind: str) -> Contents:
    """The tensors of a .pt, .pth, .ckpt or .bin file; in the zip kind their data stay on disk until read."""
    size = regular_file_size(path)
    if kind == TORCH_ZIP:
        for record in check_zip(path):
            if record.filename.endswith("/data.pkl") and record.file_size > MAX_PICKLE_BYTES:
                raise FileFormatError(path, f"its pickle has {size_text(record.file_size)}, and 64 MiB is the limit")
    document = _load(path, kind)
    tensors, metadata, ignored = _tensors(path, document)
    for name, tensor in tensors.items():
        _check_tensor(path, name, tensor, size)

    def load(names: Iterable[str]) -> dict[str, Tensor]:
        return {name: tensors[name].clone(memory_format=torch.contiguous_format) for name in names}

    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    return Contents(shapes, {name: tensor.dtype for name, tensor in tensors.items()}, load, metadata, ignored)


def _load(path: Path, kind: str) -> object:
    """torch.load with its safety on; its many errors become one sentence each."""
    try:
        with _known_bookkeeping(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if kind == TORCH_ZIP and path.suffix != ".safetensors":
                return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
            with open(path, "rb") as file:  # given the name, torch takes a renamed file for what its name says
                return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        message = _TERMINAL_CODE.sub("", str(error))
        if "persistent_load" in message:  # only storages are fetched from outside the pickle, and in old files modules
            raise FileFormatError(
                path,
                "it is of PyTorch's oldest kind and holds whole modules with their source, "
                "not only tensors; nothing was run; get the .safetensors version",
            ) from None
        found = next((match[1] for pattern in _FORBIDDEN if (match := pattern.search(message))), None)
        if found is None:
            raise FileFormatError(
                path,
                "it begins like a PyTorch file, but its pickle is damaged or holds more than "
                "tensors; nothing was run; get the .safetensors version",
            ) from None
        raise FileFormatError(
            path,
            f"its pickle asks for {found.strip('`')!r}, which is code and not a tensor; "
            "nothing was run; get the .safetensors version",
        ) from None
    except (
        RuntimeError,
        OSError,
        EOFError,
        ValueError,
        TypeError,
        AttributeError,
        LookupError,
        MemoryError,
        ArithmeticError,
        AssertionError,
        struct.error,
    ):  # torch raises any of these
        raise FileFormatError(
            path,
            "it begins like a PyTorch file but cannot be read to its end: it is damaged, or the download was cut short",
        ) from None


@contextlib.contextmanager
def _known_bookkeeping() -> Iterator[None]:
    """Allow what old files hold beside or round their tensors: inert stubs, and NumPy's numbers as ComfyUI does."""
    import numpy

    core = numpy._core if hasattr(numpy, "_core") else numpy.core
    allowed: list = [
        (_Stub, "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint"),
        (_ParameterDict, "torch.nn.modules.container.ParameterDict"),
        (core.multiarray.scalar, "numpy.core.multiarray.scalar"),
        (core.multiarray.scalar, "numpy._core.multiarray.scalar"),
        numpy.dtype,
        type(numpy.dtype("float64")),
        type(numpy.dtype("float32")),
        type(numpy.dtype("int64")),
    ]
    import _codecs

    with torch.serialization.safe_globals([*allowed, _codecs.encode]):
        yield


def _tensors(path: Path, document: object) -> tuple[dict[str, Tensor], dict[str, str], tuple[str, ...]]:
    """Strip the wrappers ({"state_dict": {...}}, one key over a dict), name what is nested, keep texts as metadata."""
    metadata: dict[str, str] = {}
    ignored: list[str] = []
    for _ in range(_MAX_DEPTH):
        inner = _wrapping_key(document)
        if inner is None or not isinstance(document, Mapping):
            break
        outside = {key: value for key, value in document.items() if key != inner}
        metadata |= _texts(outside)
        ignored += [str(key) for key in outside if str(key) not in metadata]
        document = document[inner]
    tensors: dict[str, Tensor] = {}
    _flatten(path, document, "", tensors, metadata, ignored, 0)
    if not tensors:
        raise FileFormatError(
            path, f"it is a PyTorch file without one tensor in it (it holds a {type(document).__name__})"
        )
    return tensors, metadata, tuple(ignored)


def _wrapping_key(document: object) -> str | None:
    """The key under which the tensors really are, or None when they are here."""
    if not isinstance(document, Mapping) or any(isinstance(value, Tensor) for value in document.values()):
        return None
    names = [name for name in _WRAPPERS if isinstance(document.get(name), Mapping) and document[name]]
    if names:
        return names[0]
    if len(document) == 1 and isinstance(next(iter(document.values())), Mapping):
        return next(iter(document))
    return None


def _texts(values: Mapping) -> dict[str, str]:
    return {str(key): str(value) for key, value in values.items() if isinstance(value, (str, int, float))}


def _flatten(
    path: Path,
    value: object,
    name: str,
    tensors: dict[str, Tensor],
    metadata: dict[str, str],
    ignored: list[str],
    depth: int,
) -> None:
    """Put tensors under dotted names, short texts and numbers into the metadata, all else into `ignored`."""
    if isinstance(value, Tensor):
        if name in tensors:
            raise FileFormatError(path, f"two of its tensors have the name {name!r}")
        tensors[name or "tensor"] = value.detach()
    elif depth and isinstance(value, (str, int, float)):
        metadata[name] = str(value)
    elif depth == 1 and name in _LEFTOVERS or depth >= _MAX_DEPTH:
        ignored.append(name)
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            _flatten(path, inner, f"{name}.{key}" if name else str(key), tensors, metadata, ignored, depth + 1)
    elif isinstance(value, (list, tuple)) and all(
        isinstance(inner, (Tensor, Mapping) if not depth else Tensor) for inner in value
    ):
        for index, inner in enumerate(value):
            _flatten(path, inner, f"{name}.{index}" if name else str(index), tensors, metadata, ignored, depth + 1)
    elif name:
        ignored.append(name)


def _check_tensor(path: Path, name: str, tensor: Tensor, size: int) -> None:
    """An ordinary, dense tensor whose data can be in a file of this size."""
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
        raise FileFormatError(
            path, f"tensor {name!r} is sparse, quantised or without data; only ordinary, dense tensors are read here"
        )
    if tensor.numel() * tensor.element_size() > size:
        raise FileFormatError(
            path,
            f"tensor {name!r} of shape {list(tensor.shape)} claims "
            f"{size_text(tensor.numel() * tensor.element_size())} in a file of "
            f"{size_text(size)}: the file was made to mislead",
        )
