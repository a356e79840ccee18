"""Weights as ComfyUI and its packs store them: single rows unpacked, and rounded again as a changed weight is.

Five ways: plain numbers; scaled fp8 of 0.3.64 (comfy/ops.py `scaled_fp8_ops`); comfy_kitchen's QuantizedTensor of
0.33.0 (comfy/quant_ops.py), whose `_params` hold the scales; the GGML blocks of the pack ComfyUI-GGUF, whose layers
unpack them; and forms that nothing here can unpack. Only GGML blocks are not rounded again: that pack adds patches to
the unpacked weight at every use.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import NamedTuple

import comfy.float
import torch
from torch import Tensor, nn
from torch.nn.functional import pad

PLAIN = (Tensor, nn.Parameter)  # other classes keep something else than the weight's own numbers
_IN_TILES = {"TensorCoreNVFP4Layout": "block_scale", "TensorCoreMXFP8Layout": "scale"}  # scales of 128 rows x 4 blocks
_BY_ROW = ("TensorWiseINT8Layout", "TensorCoreConvRotW4A4Layout", "AsymW4A8Int8Layout")
_TILE_ROWS, _PADDED_ROWS = 128, 32


class Storage(NamedTuple):
    """A way to store a weight.

    form: its name. rows: numbers of rows -> those rows, unpacked, fp32. keep: such rows and a seed -> the rows as they
    are once they are stored again, or None where changes are not stored.
    """

    form: str
    rows: Callable[[Sequence[int]], Tensor]
    keep: Callable[[Tensor, int], Tensor] | None


def is_quantised(weight: Tensor | None) -> bool:
    return hasattr(weight, "_qdata") and hasattr(weight, "dequantize")


def is_ggml(layer: nn.Module | None, weight: Tensor | None) -> bool:
    return hasattr(weight, "tensor_type") and hasattr(weight, "tensor_shape") and hasattr(layer, "get_weight")


def form_of(layer: nn.Module | None, weight: Tensor) -> str:
    """The form in which a parameter is stored, in a word: "bfloat16", "scaled float8_e4m3fn", "GGUF Q4_K", "NVFP4"."""
    if is_ggml(layer, weight):
        return f"GGUF {getattr(weight.tensor_type, 'name', 'plain')}"
    if is_quantised(weight):
        return _name_of(str(getattr(weight, "_layout_cls", "quantised")))
    scaled = "scaled " if weight.element_size() == 1 and getattr(layer, "scale_weight", None) is not None else ""
    return scaled + str(weight.dtype).removeprefix("torch.")


def count_of(weight: Tensor) -> int:
    """How many numbers a parameter stands for, packed or not."""
    shape = getattr(weight, "tensor_shape", None)
    return weight.numel() if shape is None else math.prod(shape)


def storage_of(layer: nn.Module | None, weight: Tensor) -> Storage | None:
    """How a weight of a layer is stored; None where its rows cannot be read."""
    if weight.is_meta or weight.ndim < 2:
        return None
    if is_ggml(layer, weight):
        return _ggml(layer, weight)
    if is_quantised(weight):
        return _quantised(weight)
    if type(weight) not in PLAIN or not weight.is_floating_point():
        return None
    return _plain(weight, getattr(layer, "scale_weight", None))


def _plain(weight: Tensor, scale: Tensor | None) -> Storage | None:
    if scale is not None and scale.numel() != 1:
        return None
    factor = 1.0 if scale is None else scale.detach().to(weight.device, torch.float32).reshape(())
    name = f"{'scaled ' if scale is not None else ''}{str(weight.dtype).removeprefix('torch.')}"

    def keep(rows: Tensor, seed: int) -> Tensor:
        return comfy.float.stochastic_rounding(rows / factor, weight.dtype, seed=seed).float() * factor

    return Storage(name, lambda numbers: weight.detach()[list(numbers)].float() * factor, keep)


def _ggml(layer: nn.Module | None, weight: Tensor) -> Storage | None:
    kind, shape = getattr(weight.tensor_type, "name", "plain"), tuple(weight.tensor_shape)
    stored = weight.as_subclass(Tensor)
    if stored.ndim < 2 or len(stored) != shape[0]:
        return None

    def rows(numbers: Sequence[int]) -> Tensor:
        some = stored[list(numbers)]
        part = type(weight)(some, tensor_type=weight.tensor_type, tensor_shape=torch.Size((len(some), *shape[1:])))
        return layer.get_weight(part, torch.float32).as_subclass(Tensor).float()

    return Storage(f"GGUF {kind}", rows, None)


def unpacked(layer: nn.Module | None, weight: Tensor) -> Tensor | None:
    """The whole weight in fp32, without patches; None where it cannot be unpacked."""
    if is_quantised(weight):
        return weight.dequantize().to(torch.float32)
    storage = storage_of(layer, weight)
    return None if storage is None else storage.rows(range(weight.shape[0]))


def _quantised(weight: Tensor) -> Storage | None:
    layout, params = weight._layout_cls, weight._params
    scale = getattr(params, "scale", None)
    if layout in _IN_TILES:
        take = _tiled_rows
    elif layout in _BY_ROW or (layout.startswith("TensorCoreFP8") and scale is not None and scale.numel() == 1):
        take = _plain_rows
    else:
        return None
    if weight.ndim != 2 or getattr(params, "transposed", False):
        return None
    options = dict(getattr(weight.layout_cls, "requantize_kwargs", lambda tensor: {})(weight))
    whole = isinstance(scale, Tensor) and scale.numel() == 1  # one for all rows: some rows would choose another one

    def keep(rows: Tensor, seed: int) -> Tensor:
        how = options | {"scale": scale if whole else "recalculate", "stochastic_rounding": seed}
        return type(weight).from_float(rows, layout, **how).dequantize().float()

    def rows(numbers: Sequence[int]) -> Tensor:
        some = [numbers[start : start + _PADDED_ROWS] for start in range(0, len(numbers), _PADDED_ROWS)]
        return torch.cat([take(weight, own).dequantize().float() for own in some])

    return Storage(_name_of(layout), rows, keep)


def _name_of(layout: str) -> str:
    return layout.removeprefix("TensorCore").removeprefix("TensorWise").removesuffix("Layout")


def _plain_rows(weight: Tensor, numbers: Sequence[int]) -> Tensor:
    """The rows of a quantised weight each of whose rows is stored alone, as a quantised weight."""
    own, total = list(numbers), weight.shape[0]
    found = {}
    for field in fields(weight._params):
        value = getattr(weight._params, field.name)
        if isinstance(value, Tensor) and field.name == "correction":
            found[field.name] = value[:, own]
        elif isinstance(value, Tensor) and field.name != "codebook" and value.ndim and len(value) == total:
            found[field.name] = value[own]
    return _of_parts(weight, weight._qdata[own], found, len(own))


def _tiled_rows(weight: Tensor, numbers: Sequence[int]) -> Tensor:
    """The same where the scales lie in tiles of 128 rows and 4 columns, as a card's tensor cores read them.

    In a tile, row r is at [r % 32, r // 32]. The rows come to the top of one tile of their own.
    """
    name = _IN_TILES[weight._layout_cls]
    scales = getattr(weight._params, name)
    tiles = scales.view(torch.uint8).reshape(-1, scales.shape[1] // 4, 32, 4, 4)
    own = torch.stack([tiles[n // _TILE_ROWS, :, n % 32, n % _TILE_ROWS // 32] for n in numbers])  # [k, tiles, 4]
    tile = torch.zeros_like(tiles[0])
    tile[:, : len(own), 0] = own.transpose(0, 1)
    data = pad(weight._qdata.view(torch.uint8)[list(numbers)], (0, 0, 0, _PADDED_ROWS - len(own)))
    parts = {name: tile.reshape(_TILE_ROWS, scales.shape[1]).view(scales.dtype)}
    return _of_parts(weight, data.view(weight._qdata.dtype), parts, len(own))


def _of_parts(weight: Tensor, data: Tensor, parts: dict[str, Tensor], count: int) -> Tensor:
    params = replace(weight._params, **parts, orig_shape=(count, *weight.shape[1:]))
    return type(weight)(data, weight._layout_cls, params)


def packed_by(model: nn.Module) -> str:
    """What packs the layers of a model so that no LoRA can change them: "bitsandbytes", "Nunchaku", or ""."""
    for module in model.modules():
        if type(module).__module__.partition(".")[0] == "nunchaku" or "qweight" in module._parameters:
            return "Nunchaku"
        weight = module._parameters.get("weight")
        if weight is None or weight.is_floating_point() or weight.ndim < 2 or is_quantised(weight):
            continue
        if not is_ggml(module, weight) and not hasattr(module, "convert_weight"):
            by_its_class = (
                type(weight).__module__.partition(".")[0] == "bitsandbytes" or "4bit" in type(weight).__name__
            )
            return "bitsandbytes" if by_its_class else str(weight.dtype).removeprefix("torch.")
    return ""
