"""One pair of a model and a file, by the stock loader and by ours: which rows of which weights change, and to what."""

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from . import models

EXACT = {"A/B", "down/up", "default", "diff"}  # of one such file the stock loader's own bits are asked
CLOSE = 3e-7  # relative to the largest weight, for the kinds that are summed in another order
MOST_VALUES = 1 << 20  # a larger weight, of an encoder at its published size, is only looked for


@dataclass(frozen=True)
class Pair:
    """What the two loaders did. `worse` and `differ` name keys; `error` is our sentence where the file was refused."""

    family: str
    source: str
    dialect: str
    stock: int
    ours: int
    worse: tuple[str, ...]
    better: tuple[str, ...]
    differ: tuple[str, ...]
    wrong: tuple[str, ...]
    error: str = ""

    @property
    def verdict(self) -> str:
        if not self.stock and not self.ours:
            return "neither"
        if self.wrong or self.differ:
            return "values"
        return "worse" if self.worse else "better" if self.better else "equal"


def compared(application, names: tuple[str, str, str], target, kind: str, tensors: dict[str, Tensor], folder: Path):
    """A file with these tensors, loaded by both onto a MODEL or a CLIP; `application` is our nodes/lora/application.

    Returns the Pair, our values of the weights that are small enough to compute, and the rows of ours that change.
    """
    own, error = ours(application, target, tensors, folder, match_comfyui=kind == "DoRA")
    other = stock(target, tensors)
    shapes = models.shapes(own)
    values = [_values(patcher, shapes) for patcher in (other, own)]
    rows = [_rows(patcher, shapes, after) for patcher, after in zip((other, own), values)]
    worse, better, differ = [], [], []
    for key in rows[0] | rows[1]:
        theirs, mine = (found.get(key, torch.zeros(shapes[key][:1] or 1, dtype=torch.bool)) for found in rows)
        if (theirs & ~mine).any():
            worse.append(key)
        if (mine & ~theirs).any():
            better.append(key)
        if (
            _is_known(shapes[key])
            and (both := theirs & mine).any()
            and not _stock_is_wrong(other, key, shapes[key], kind)
        ):
            one, two = (after[key][both] for after in values)
            if error_of(one, two) > (0 if kind in EXACT else CLOSE):
                differ.append(f"{key} {error_of(one, two):.1e}")
    counts = [sum(len({patch[3] for patch in found.patches[key]}) for key in found.patches) for found in (other, own)]
    return Pair(*names, *counts, tuple(worse), tuple(better), tuple(differ), (), error), values[1], rows[1]


def _stock_is_wrong(patcher, key: str, shape: tuple[int, ...], kind: str) -> bool:
    """Where the stock loader does not follow the kind's own law.

    Of a DoRA on a weight with swapped halves it turns the change, but neither the weight nor the magnitudes. Of a LoKr
    it lays the small matrix over the first two axes of a Conv2d only, and over the last two of a Conv1d and Conv3d.
    """
    swapped = any(patch[4] is not None for patch in patcher.patches[key])
    return (kind == "DoRA" and swapped) or (kind == "LoKr" and len(shape) not in (2, 4))


def _is_known(shape: tuple[int, ...]) -> bool:
    return torch.Size(shape).numel() <= MOST_VALUES


def ours(application, target, tensors: dict[str, Tensor], folder: Path, *, match_comfyui: bool = False):
    """The patcher after our loader, and the sentence where the file was refused."""
    path = folder / "pair.safetensors"
    path.unlink(missing_ok=True)
    save_file(tensors, path)
    side = "clip" if hasattr(target, "patcher") else "model"
    request = application.LoRARequest(path, {"model": 1.0, "clip": 1.0})
    changed, (use,) = application.put_on([request], {side: target}, match_comfyui=match_comfyui)
    return _patcher(changed[side]), use.sentence if isinstance(use, application.FailedLoRA) else ""


def stock(target, tensors: dict[str, Tensor]):
    """The patcher after ComfyUI's own loader."""
    import comfy.sd

    if hasattr(target, "patcher"):
        return comfy.sd.load_lora_for_models(None, target, dict(tensors), 1.0, 1.0)[1].patcher
    return comfy.sd.load_lora_for_models(target, None, dict(tensors), 1.0, 1.0)[0]


def patched(patcher, key: str, shape: tuple[int, ...]) -> Tensor:
    """A weight with its patches, as ComfyUI computes it in fp32."""
    import comfy.lora

    value = models.weight(key, shape).clone()  # written in place
    if key not in patcher.patches:
        return value
    return comfy.lora.calculate_weight(patcher.patches[key], value, key)


def error_of(one: Tensor, two: Tensor) -> float:
    """The largest difference relative to the largest value."""
    return float((one - two).abs().max() / one.abs().max())


def _patcher(target):
    return getattr(target, "patcher", target)


def _values(patcher, shapes) -> dict[str, Tensor]:
    """Key -> the weight with its patches, of those that are small enough to compute."""
    return {key: patched(patcher, key, shapes[key]) for key in patcher.patches if _is_known(shapes[key])}


def _rows(patcher, shapes, values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Key -> which rows of the weight are changed; by the patch's own rows where the weight is too large to compute."""
    found = {}
    for key in patcher.patches:
        shape = shapes[key]
        if _is_known(shape):
            after = values[key]
            if after.shape != shape or not after.numel():
                continue
            changed = (after != models.weight(key, shape)).reshape(shape[0] if shape else 1, -1).any(1)
        else:
            changed = torch.zeros(shape[0], dtype=torch.bool)
            for patch in patcher.patches[key]:
                rows = patch[3][1:] if patch[3] else (0, shape[0])
                if _fits(patch[1], (rows[1], *shape[1:])):
                    changed.narrow(0, *rows)[:] = True
        if changed.any():
            found[key] = changed
    return found


def _fits(adapter, shape: tuple[int, ...]) -> bool:
    """Whether an adapter is for a weight of this shape: ComfyUI takes any, and leaves the weight alone as it loads."""
    up, down, *_ = getattr(adapter, "weights", None) or (None, None)
    if not all(isinstance(factor, Tensor) for factor in (up, down)):
        return True
    return (up.shape[0], down[0].numel()) == (shape[0], torch.Size(shape[1:]).numel())
