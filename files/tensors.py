"""Files of weights: what is in them without reading the data, the tensors asked for, and writing them back."""

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, suppress
from os import PathLike
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save as safetensors_bytes
from torch import Tensor

from .contents import Contents
from .errors import FileFormatError
from .folder import INDEX_SUFFIX, sharded_contents, weights_in_folder
from .pickle_file import pickle_contents
from .safetensors_file import safetensors_contents, write_stream
from .sniff import SAFETENSORS, TORCHSCRIPT, sniff
from .torchscript_file import torchscript_contents
from .writing import part_beside, write_whole

_WRAPPING_PREFIXES = ("module.", "_orig_mod.")  # DistributedDataParallel, torch.compile
_SCALES = (".scale_weight", ".weight_scale")
_PIECE = 2**20  # numbers of fp8 that are fp32 at one time
_PIECE_OF_16_BITS = 2**18  # numbers that stay in the cache
_MAY_BE_INFINITE = "attn_mask"  # open_clip stores its causal mask


class TensorFile:
    """An open file of tensors: names, shapes and dtypes at once, data only when `read` asks. A context manager.

    `path` is the file (of a folder: the file found in it), `metadata` its texts, `ignored` what is in it and is no
    tensor, `shards` which part of a sharded file each tensor lies in, `largest` the largest magnitude among the floats
    read so far. Names are without the wrappers `module.` and `_orig_mod.`.
    """

    def __init__(self, path: Path, contents: Contents):
        cut = _wrapping(contents.shapes)
        self.path = path
        self.metadata: dict[str, str] = dict(contents.metadata)
        self.shapes: dict[str, tuple[int, ...]] = {name[cut:]: shape for name, shape in contents.shapes.items()}
        self.dtypes: dict[str, torch.dtype] = {name[cut:]: dtype for name, dtype in contents.dtypes.items()}
        self.shards: dict[str, str] = {name[cut:]: shard for name, shard in contents.shards.items()}
        self.ignored = contents.ignored
        self.largest = 0.0
        self._stored = {name[cut:]: name for name in contents.shapes}
        self._contents: Contents | None = contents

    def __enter__(self) -> "TensorFile":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file; tensors read before stay valid, they are copies."""
        self._contents = None

    def read(self, names: Iterable[str], dtype: torch.dtype | None = None) -> dict[str, Tensor]:
        """The tensors named, on the CPU, in the order named; as stored, or floats cast to `dtype` (integers stay).

        Raises:
            FileFormatError: a name is not in the file, a value is NaN or infinite, or fp8 with a separate scale.
            ValueError: the file was closed.
        """
        if self._contents is None:
            raise ValueError(f"{self.path.name} was closed before it was read")
        wanted = list(dict.fromkeys(names))
        for name in wanted:
            self._check_name(name)
        try:
            loaded = self._contents.load([self._stored[name] for name in wanted])
        except OSError as error:
            raise FileFormatError(self.path, f"cannot be read any more: {error.strerror or error}") from error
        self.largest = max(self.largest, _largest(self.path, {name: loaded[self._stored[name]] for name in wanted}))
        result = {}
        for name in wanted:
            tensor = loaded.pop(self._stored[name])
            cast = dtype is not None and tensor.is_floating_point()
            result[name] = tensor.to(dtype) if cast else tensor
        return result

    def _check_name(self, name: str) -> None:
        if name not in self.shapes:
            raise FileFormatError(self.path, f"it has no tensor {name!r}; it has {len(self.shapes)} others")
        stem = name.removesuffix(".weight")
        if stem != name and any(stem + scale in self.shapes for scale in _SCALES):
            raise FileFormatError(
                self.path,
                f"tensor {name!r} is stored with a separate scale (scaled fp8), which is "
                "not read here; get the fp16 version",
            )


def open_tensors(path: str | PathLike) -> TensorFile:
    """Open .safetensors, .pt/.pth/.ckpt/.bin, a TorchScript archive, a sharded `*.safetensors.index.json`, or a folder
    with one of them.

    What it is, is decided by its bytes. No code in the file is ever run.

    Raises:
        FileFormatError: one sentence with the file's name, what it seems to be, and what was expected.
    """
    path = Path(path)
    try:
        if path.is_dir():
            path = weights_in_folder(path)
        if path.name.endswith(INDEX_SUFFIX):
            contents = sharded_contents(path)
        else:
            kind = sniff(path)
            readers = {SAFETENSORS: safetensors_contents, TORCHSCRIPT: torchscript_contents}
            contents = readers[kind](path) if kind in readers else pickle_contents(path, kind)
    except OSError as error:
        raise FileFormatError(path, f"cannot be read: {error.strerror or error}") from error
    if not contents.shapes:
        raise FileFormatError(path, "it is a proper file but has no tensors in it")
    return TensorFile(path, contents)


def write_tensors(path: str | PathLike, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a .safetensors file, whole or not at all.

    Raises:
        FileFormatError: the disk refused. ValueError: nothing to write, a NaN or infinity, metadata that is no text.
    """
    path = Path(path)
    if not tensors:
        raise ValueError(f"{path.name}: there are no tensors to write")
    for key, value in metadata.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise ValueError(f"{path.name}: metadata must be texts, and {key!r} is {type(value).__name__}")
    for name, tensor in tensors.items():
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta or name == "__metadata__":
            raise ValueError(f"{path.name}: {name!r} is not an ordinary, dense tensor and cannot be written")
        _check_finite(path, name, tensor)
    data = safetensors_bytes(_unshared(tensors), metadata or None)
    write_whole(path, lambda file: file.write(data))


class Spool:
    """A .safetensors file whose tensors are not known beforehand and come one after another, with the memory of one.

    A context manager. They lie in a hidden file beside `path` until `finish` writes the file itself, whole or not at
    all; what is left unfinished is removed. FileFormatError: the disk refused, a NaN or infinity.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._kinds: dict[str, tuple[torch.dtype, tuple[int, ...]]] = {}
        self._begins: dict[str, int] = {}
        self._open = ExitStack()

    def __enter__(self) -> "Spool":
        try:
            self._file = self._open.enter_context(open(self._open.enter_context(part_beside(self.path)), "w+b"))
        except OSError as error:
            raise FileFormatError(self.path, f"cannot be written: {error.strerror or error}") from error
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):  # has been said by the write
            self._open.close()

    def put(self, name: str, tensor: Tensor) -> None:
        """Take a tensor, which may be dropped afterwards; ValueError for a name that comes twice."""
        if name in self._kinds:
            raise ValueError(f"{self.path.name}: {name!r} comes twice")
        _check_finite(self.path, name, tensor)
        plain = tensor.detach().cpu().contiguous()
        self._kinds[name], self._begins[name] = (plain.dtype, tuple(plain.shape)), self._file.tell()
        try:
            self._file.write(plain.reshape(-1).view(torch.uint8).numpy().data)
        except OSError as error:
            raise FileFormatError(self.path, f"cannot be written: {error.strerror or error}") from error

    def finish(self, metadata: Mapping[str, str]) -> None:
        """Write the file with these texts in its header."""
        write_stream(self.path, self._kinds, self._back, metadata)

    def _back(self, name: str) -> Tensor:
        dtype, shape = self._kinds[name]
        numbers = bytearray(math.prod(shape) * dtype.itemsize)
        self._file.seek(self._begins[name])
        self._file.readinto(numbers)
        return torch.frombuffer(numbers, dtype=torch.uint8).view(dtype).reshape(shape)


def _unshared(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Plain tensors on the CPU, copied where two names share memory, which the format does not know."""
    seen: set[int] = set()
    result = {}
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        place = tensor.untyped_storage().data_ptr()
        result[name] = tensor.clone() if place in seen else tensor
        seen.add(place)
    return result


def _wrapping(names: Iterable[str]) -> int:
    """How many characters of wrapping every name begins with."""
    names, cut = list(names), 0
    while True:
        prefix = next(
            (
                prefix
                for prefix in _WRAPPING_PREFIXES
                if all(name.startswith(prefix, cut) and len(name) > cut + len(prefix) for name in names)
            ),
            None,
        )
        if prefix is None or not names:
            return cut
        cut += len(prefix)


def _largest(path: Path, tensors: dict[str, Tensor]) -> float:
    """The largest magnitude among floats; NaN and infinity are refused, but where a mask may be infinite.

    What lies side by side in memory is looked at as one: a LoRA has thousands of small tensors.
    """
    floats = [tensor for tensor in tensors.values() if tensor.is_floating_point() and tensor.numel()]
    bounds = [bound for values in _runs(floats) for bound in _bounds(values)]
    largest = max(map(abs, bounds), default=0.0)
    sound = all(map(math.isfinite, bounds))
    for name, tensor in tensors.items():
        if not sound or tensor.is_complex():
            _check_finite(path, name, tensor)
    return largest


def _runs(tensors: list[Tensor]) -> Iterator[Tensor]:
    """All the numbers of the tensors, those of one type that follow one another in one memory as one flat view."""
    first, memory, count, place = None, 0, 0, 0
    for tensor in sorted(tensors, key=Tensor.data_ptr):
        begin, own = tensor.data_ptr(), tensor.untyped_storage().data_ptr()
        plain = tensor.is_contiguous()
        if first is None or not plain or begin != place or own != memory or tensor.dtype != first.dtype:
            if first is not None:
                yield first.as_strided((count,), (1,))
            if not plain:
                yield tensor
            first, memory, count = (tensor, own, 0) if plain else (None, 0, 0)
        count += tensor.numel()
        place = begin + tensor.nbytes
    if first is not None:
        yield first.as_strided((count,), (1,))


def _bounds(values: Tensor) -> tuple[float, float]:
    """No value is less than the first or more than the second; one of them is NaN where a value is, or infinite.

    Nothing as large as the values is put into memory beside them.
    """
    values = values.detach()
    if values.numel() == 1:
        return values.item(), values.item()
    if values.dtype in (torch.float16, torch.bfloat16) and values.device.type == "cpu":
        return _bounds_by_bits(values.reshape(-1))
    if values.element_size() > 1:
        low, high = torch.aminmax(values)
        return low.item(), high.item()
    pieces = [torch.aminmax(piece.float()) for piece in values.reshape(-1).split(_PIECE)]  # fp8 has none
    return torch.stack([low for low, _ in pieces]).min().item(), torch.stack([high for _, high in pieces]).max().item()


def _bounds_by_bits(values: Tensor) -> tuple[float, float]:
    """As whole numbers, in half the time: the bits of a larger magnitude are a larger number, infinity's and NaN's the
    largest; with the sign's bit on top, the largest of signed numbers is the largest value that is not negative, and
    the largest of unsigned ones the most negative. A piece is read from memory once, and from the cache again.

    [n] of fp16 or bf16 -> at most 0, at least 0
    """
    bits = values.view(torch.int16).numpy()
    high, low = 0, 0x8000  # 0.0 and -0.0
    for start in range(0, len(bits), _PIECE_OF_16_BITS):
        piece = bits[start : start + _PIECE_OF_16_BITS]
        high, low = max(high, int(piece.max())), max(low, int(piece.view(np.uint16).max()))
    found = torch.tensor([low - 0x10000, high], dtype=torch.int16, device="cpu").view(values.dtype)
    return found[0].item(), found[1].item()


def _check_finite(path: Path, name: str, tensor: Tensor) -> None:
    """Refuse NaN and infinity."""
    if not (tensor.is_floating_point() or tensor.is_complex()) or not tensor.numel():
        return
    low, high = _bounds(torch.view_as_real(tensor) if tensor.is_complex() else tensor)
    if math.isfinite(low) and math.isfinite(high):
        return
    broken = math.isnan(low) or math.isnan(high)
    if not broken and name.split(".")[-1] == _MAY_BE_INFINITE:
        return
    what = "NaN (not a number)" if broken else "infinite"
    raise FileFormatError(
        path,
        f"tensor {name!r} has {what} values: the weights are broken (overflow in training or "
        "a damaged file); get another copy",
    )
