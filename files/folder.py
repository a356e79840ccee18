"""Folders and sharded files: which file of a diffusers or Hugging Face folder holds the weights; models in parts."""

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from .contents import Contents
from .documents import read_json
from .errors import FileFormatError
from .safetensors_file import safetensors_contents, stream
from .writing import write_together

INDEX_SUFFIX = ".safetensors.index.json"
_PART = re.compile(r"-\d{5}-of-\d{5}\.safetensors$")
_KINDS = (INDEX_SUFFIX, ".safetensors", ".bin", ".pt", ".pth", ".ckpt")  # earlier is better
_STEMS = (
    "model",
    "diffusion_pytorch_model",
    "adapter_model",
    "pytorch_lora_weights",
    "open_clip_model",
    "open_clip_pytorch_model",
    "pytorch_model",
)  # the names the libraries give
_FULL_PRECISION_FIRST = ("", ".fp32", ".fp16", ".bf16")
_NOT_WEIGHTS = {"training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state.pth", "optimizer.bin", "scheduler.bin"}


def weights_in_folder(folder: Path) -> Path:
    """Find the one file in the folder that holds the weights.

    Raises:
        FileFormatError: none, a pipeline with several parts (names them), or several without a usual name.
    """
    files = sorted(file for file in folder.iterdir() if file.is_file())
    weights = {file.name: file for file in files if file.name.endswith(_KINDS) and file.name not in _NOT_WEIGHTS}
    for kind in _KINDS:
        for variant in _FULL_PRECISION_FIRST:
            for stem in _STEMS:
                middle = f"{stem}{INDEX_SUFFIX}" if kind == INDEX_SUFFIX else f"{stem}{variant}{kind}"
                if middle in weights:
                    return weights[middle]
    shards = {
        file.name for index in weights.values() if index.name.endswith(INDEX_SUFFIX) for file in _shards(index)[1]
    }
    left = [file for name, file in weights.items() if name not in shards]
    if len(left) == 1:
        return left[0]
    parts = sorted(file.parent.name for file in folder.glob("*/*") if file.name.endswith(_KINDS))
    if not left and parts:
        raise FileFormatError(folder, f"this folder has several parts; give one of them: {_some(set(parts))}")
    if not left:
        raise FileFormatError(
            folder,
            "this folder holds no weights; expected a .safetensors file in it, as diffusers "
            "and transformers write them",
        )
    raise FileFormatError(
        folder, f"this folder holds several weight files; give one of them: {_some({file.name for file in left})}"
    )


def whole_of(path: Path) -> Path:
    """Return the index beside a shard ("model-00001-of-00002.safetensors"), or the file itself."""
    stem = _PART.sub("", path.name)
    index = path.with_name(f"{stem}{INDEX_SUFFIX}")
    return index if stem != path.name and index.is_file() else path


def parts_of(path: Path) -> list[Path]:
    """Return the file; of a shard or an index, the index and all its shards beside it."""
    index = whole_of(path)
    if not index.name.endswith(INDEX_SUFFIX):
        return [path]
    stem = index.name.removesuffix(INDEX_SUFFIX)
    return [index, *sorted(file for file in path.parent.glob("*.safetensors") if _PART.sub("", file.name) == stem)]


def is_part_of(path: Path, model: Path) -> bool:
    """Whether a path is that of a model's file, its index or one of its parts, by whatever name."""
    known = [model, *(parts_of(model) if model.is_file() else [])]
    return path.exists() and any(one.exists() and path.samefile(one) for one in known)


def sharded_contents(index: Path) -> Contents:
    """Open all shards that an `*.safetensors.index.json` names as one file."""
    where, shards = _shards(index)
    parts: dict[str, Contents] = {}
    for path in shards:
        if not path.is_file():
            raise FileFormatError(index, f"it needs {path.name}, which is not beside it: download all the parts")
        parts[path.name] = safetensors_contents(path)
    for name, shard in where.items():
        if name not in parts[shard].shapes:
            raise FileFormatError(
                index,
                f"it says that {shard} holds tensor {name!r}, but that is not there: the "
                "parts come from different models",
            )
    for shard, part in parts.items():
        for name in part.shapes:
            if where.get(name) != shard:
                raise FileFormatError(
                    index,
                    f"tensor {name!r} lies in {shard}, which the index does not say: the "
                    "parts come from different models",
                )

    def load(names: Iterable[str]) -> dict[str, Tensor]:
        wanted = list(names)
        result: dict[str, Tensor] = {}
        for shard, part in parts.items():
            result |= part.load([name for name in wanted if where[name] == shard])
        return result

    metadata: dict[str, str] = {}
    for part in parts.values():
        metadata |= part.metadata
    return Contents(
        {name: parts[shard].shapes[name] for name, shard in where.items()},
        {name: parts[shard].dtypes[name] for name, shard in where.items()},
        load,
        metadata,
        shards=where,
    )


def write_shards(
    path: Path,
    shards: Mapping[str, str],
    kinds: Mapping[str, tuple[torch.dtype, tuple[int, ...]]],
    tensor_of: Callable[[str], Tensor],
    metadata: Mapping[str, str],
    on_step: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Path, list[Path]]:
    """Write a model in parts and their index, tensor by tensor, whole or not at all. Gives the index and the parts.

    Args:
        path: what the file would be called as one: "x.safetensors" becomes "x-00001-of-00002.safetensors" and so on,
            and "x.safetensors.index.json".
        shards: which tensors belong together: tensor -> any name of its part; their order is that of the parts.
        kinds: the type and shape of each tensor, known before the first is made.
        tensor_of: makes a tensor by its name; it is asked once for each.
        metadata: the texts of the header of every part.
        on_step: called after each tensor with (done, all); may raise to stop, and nothing is left behind then.

    Raises:
        FileFormatError: the disk refused. ValueError: a tensor of another type or shape than was said.
    """
    named = shard_paths(path, shards)
    files: list[tuple[Path, Callable[[BinaryIO], object]]] = []
    done = 0
    for shard, part in named.items():
        own = {name: kind for name, kind in kinds.items() if shards[name] == shard}
        before, done = done, done + len(own)
        step = partial(_step_of_all, on_step, before, len(kinds))
        files.append((part, stream(part, own, tensor_of, metadata, step)))
    where = {name: named[shards[name]].name for name in sorted(kinds)}
    size = sum(math.prod(shape) * dtype.itemsize for dtype, shape in kinds.values())
    text = json.dumps({"metadata": {"total_size": size}, "weight_map": where}, indent=2, ensure_ascii=False)
    index = index_path(path)
    write_together([*files, (index, lambda file: file.write(text.encode("utf-8")))])
    return index, list(named.values())


def _step_of_all(on_step: Callable[[int, int], None], before: int, total: int, done: int, _: int) -> None:
    on_step(before + done, total)


def index_path(path: Path) -> Path:
    """Return the index of a model in parts that would be called so as one file."""
    return path.with_name(f"{path.name.removesuffix('.safetensors')}{INDEX_SUFFIX}")


def shard_paths(path: Path, shards: Mapping[str, str]) -> dict[str, Path]:
    """Return what the parts of such a model are called: name in `shards` -> path."""
    names = sorted(set(shards.values()))
    stem = path.name.removesuffix(".safetensors")
    return {
        name: path.with_name(f"{stem}-{number:05}-of-{len(names):05}.safetensors")
        for number, name in enumerate(names, 1)
    }


def _shards(index: Path) -> tuple[dict[str, str], list[Path]]:
    """Tensor name -> shard name, and the shards' paths; none of them outside the index's own folder."""
    where = read_json(index).get("weight_map")
    if not isinstance(where, dict) or not where or not all(isinstance(name, str) for name in where.values()):
        raise FileFormatError(index, "it has no weight_map, the table from tensor to file: the index is damaged")
    for name in sorted(set(where.values())):
        if "/" in name or "\\" in name or ":" in name or name in ("", ".", "..") or not name.endswith(".safetensors"):
            raise FileFormatError(
                index, f"it names {name!r} as a part, and parts must be .safetensors files beside it; nothing was read"
            )
    return where, [index.parent / name for name in sorted(set(where.values()))]


def _some(names: set[str], limit: int = 8) -> str:
    shown = sorted(names)[:limit]
    return ", ".join(shown) + (f" and {len(names) - limit} more" if len(names) > limit else "")
