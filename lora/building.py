"""The tensors of one module to its adapters, and back: which part of which kind each suffix is."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from .adapters import Adapter, Difference, LoRA, LoRAError, Replacement
from .hadamard import LoHa
from .kronecker import LoKr
from .magnitude import IA3, DoRA, GLoRA
from .orthogonal import OFT, InputOFT
from .suffixes import (
    ALPHA,
    DIFF,
    DIFF_BIAS,
    DORA,
    DOWN,
    FACTORS,
    GENERAL,
    HADAMARD,
    IA3_PEFT,
    KRONECKER,
    MAGNITUDE,
    MID,
    NORM,
    NORM_BIAS,
    OFT_ANGLES,
    OFT_BLOCKS,
    OFT_SCALED,
    ON_INPUT,
    RESCALE,
    SCALE,
    SET,
    TABLE_DOWN,
    TABLE_UP,
    UP,
    UP_BIAS,
)

Parts = Mapping[str, Tensor]
MOST = 1e9  # in a factor or as alpha: products of four of them are numbers of fp32 still
_HADAMARD = dict(zip(HADAMARD, ("a1", "b1", "a2", "b2", "t1", "t2")))  # the file's name: ours
_KRONECKER = {name: name.removeprefix("lokr_") for name in KRONECKER}
_REQUIRED = {  # the kind's parts, of which the first are needed: (needed, possible)
    "LoRA": ((DOWN, UP), (MID,)), "table": ((TABLE_DOWN, TABLE_UP), ()), "LoHa": (HADAMARD[:4], HADAMARD[4:]),
    "LoKr": ((), KRONECKER), "GLoRA": (GENERAL, ()), "OFT": ((OFT_BLOCKS,), (RESCALE,)),
    "InputOFT": ((OFT_ANGLES,), (OFT_SCALED,)), "IA3": ((FACTORS, ON_INPUT), ()), "PEFT IA3": ((IA3_PEFT,), ()),
    "difference": ((DIFF,), ()), "norm difference": ((NORM,), ()), "replacement": ((SET,), ()),
}
_SCALED = {"LoRA", "table", "LoHa", "LoKr", "GLoRA"}  # the kinds that have an alpha / rank
_NUMBERS = (ALPHA, SCALE, ON_INPUT, OFT_SCALED)
_BIASES = {DIFF_BIAS: "full difference", NORM_BIAS: "norm difference"}


class Told(NamedTuple):
    """What a PEFT configuration tells of a module, and the reader of the file; the defaults are for nobody telling.

    alpha_of: rank -> alpha. terms: of the Cayley-Neumann series of an OFT, None for the exact form. on_input: whether
    an (IA)^3 scales inputs. finite: that no number is NaN or infinite is known.
    """

    alpha_of: Callable[[int], float | None] = lambda rank: None
    terms: int | None = 5
    on_input: bool | None = None
    finite: bool = False


def build(name: str, parts: Parts, told: Told) -> tuple[dict[str, Adapter], bool]:
    """One module's adapters by what follows the module's name: "" is its weight, ".bias" its bias; and whether the file
    (or, where that is silent, the configuration) told an alpha, True where none is needed.

    Raises:
        LoRAError: parts that are missing, too many, not numbers, or of shapes that do not belong together.
    """
    for role, tensor in parts.items():
        if fault := fault_of(tensor, role in _NUMBERS, finite=told.finite):
            raise LoRAError(f"its {role}: {fault}")
        if role in _NUMBERS and tensor.numel() != 1 and not _is_norm(name, parts):
            raise LoRAError(f"its {role} has {tensor.numel()} values, expected one number")
    if _is_norm(name, parts):
        return {".scale": Replacement(parts[SCALE])}, True
    found: dict[str, Adapter] = {}
    kind = _kind(parts)
    has_alpha, scale = True, 1.0
    if kind:
        adapter = _MAKERS[kind](name, parts, told)
        if kind in _SCALED:
            alpha = _alpha(parts, adapter.rank, told.alpha_of)
            has_alpha = alpha is not None
            if has_alpha and not abs(alpha) <= MOST:
                raise LoRAError(f"its alpha is {alpha:.1e}, which no trainer writes: the file is damaged")
            adapter = replace(adapter, alpha=float(adapter.rank if alpha is None else alpha))
            scale = adapter.alpha / adapter.rank if adapter.rank else 1.0
        found[""] = _with_magnitude(adapter, parts)
    if UP_BIAS in parts:
        found[".bias"] = Difference(parts[UP_BIAS].float() * scale, "LoRA's bias")
    for role in _BIASES.keys() & parts.keys():
        if ".bias" in found:
            raise LoRAError("its bias is changed twice, and which one is meant is unknown")
        found[".bias"] = Difference(parts[role], _BIASES[role])
    return found, has_alpha


def fault_of(tensor: Tensor, whole_numbers: bool = False, *, finite: bool = False) -> str:
    """Why these are not the numbers of an adapter; "" where they are. What is `finite` and fp16 or fp8 is not read."""
    if not tensor.is_floating_point():
        plain = whole_numbers and not tensor.is_complex()
        return "" if plain else f"{str(tensor.dtype).removeprefix('torch.')} numbers, expected floating point"
    if not tensor.numel() or (finite and torch.finfo(tensor.dtype).max <= MOST):
        return ""
    if tensor.numel() == 1:
        low = high = tensor.item()
    else:
        wide = tensor.float() if tensor.element_size() == 1 else tensor  # fp8 has no minimum in torch
        low, high = (bound.item() for bound in torch.aminmax(wide.detach()))
    if not (math.isfinite(low) and math.isfinite(high)):  # NaN is the smallest and the largest of all that it is among
        return "it holds NaN or infinity"
    return "" if max(-low, high) <= MOST else (
        f"it holds numbers as large as {max(-low, high):.1e}, which no training makes: the file is damaged")


def _is_norm(name: str, parts: Parts) -> bool:
    """BFL's control LoRAs replace the scales of Flux' query and key norms, under the very names of the model."""
    return parts.keys() == {SCALE} and name.endswith(("query_norm", "key_norm")) and parts[SCALE].ndim == 1


def _kind(parts: Parts) -> str:
    """The kind whose parts these are; "" where only a bias changes."""
    own = {kind: roles for kind, (needed, possible) in _REQUIRED.items()
           if (roles := parts.keys() & {*needed, *possible})}
    if len(own) > 1:
        raise LoRAError(f"it has parts of two kinds, {' and '.join(sorted(own))}, and which one is meant is unknown")
    kind = next(iter(own), "")
    if not kind and parts.keys() & _BIASES.keys() and not parts.keys() & {MAGNITUDE, DORA, UP_BIAS, SCALE}:
        return ""
    kind = kind or "LoRA"
    if absent := [role for role in _REQUIRED[kind][0] if role not in parts]:
        raise LoRAError(f"it has {' and '.join(sorted(parts))} but no {' and no '.join(absent)}")
    if (stray := parts.keys() & {MAGNITUDE, DORA, UP_BIAS, SCALE}) and kind not in _SCALED:
        raise LoRAError(f"it has {' and '.join(sorted(stray))}, which {kind} does not use: it would be ignored")
    if UP_BIAS in parts and kind != "LoRA":
        raise LoRAError(f"it has a bias of up, which {kind} does not use: it would be ignored")
    return kind


def _alpha(parts: Parts, rank: int, alpha_of: Callable[[int], float | None]) -> float | None:
    if SCALE in parts:  # A1111: the scale itself, whatever alpha says
        return parts[SCALE].item() * rank
    return parts[ALPHA].item() if ALPHA in parts else alpha_of(rank)


def _with_magnitude(adapter: Adapter, parts: Parts) -> Adapter:
    if DORA in parts and MAGNITUDE in parts:
        raise LoRAError("it has two magnitudes, dora_scale and lora_magnitude_vector")
    if DORA in parts:
        return DoRA(adapter, parts[DORA])
    return DoRA(adapter, parts[MAGNITUDE], always_rows=True) if MAGNITUDE in parts else adapter


def _table(name: str, parts: Parts, told: Told) -> LoRA:
    """PEFT's LoRA of an embedding table, whose factors lie the other way round."""
    if parts[TABLE_UP].ndim != 2 or parts[TABLE_DOWN].ndim != 2:
        raise LoRAError("the factors of an embedding table are not matrices")
    return LoRA(parts[TABLE_DOWN].mT, parts[TABLE_UP].mT, 1.0)


def _oft(name: str, parts: Parts, told: Told) -> OFT:
    return OFT(parts[OFT_BLOCKS], float(parts[ALPHA].item()) if ALPHA in parts else 0.0, parts.get(RESCALE))


def _input_oft(name: str, parts: Parts, told: Told) -> InputOFT:
    peft = "base_model.model." in name
    adapter = InputOFT(parts[OFT_ANGLES], told.terms if peft else 5, reverse_convolutions=not peft)
    if OFT_SCALED in parts and adapter.size > 1:
        adapter = replace(adapter, divisor=2 * math.sqrt(adapter.size - 1))
    return adapter


def _ia3_of_peft(name: str, parts: Parts, told: Told) -> IA3:
    """Of a Linear [out, 1] or [1, in]; of a convolution [1, out, 1, 1] or [1, in, 1, 1], which looks the same."""
    stored = parts[IA3_PEFT]
    if stored.ndim < 2 or (stored.shape[0] != 1 and stored.shape[1] != 1):
        raise LoRAError(f"ia3_l is {list(stored.shape)}: expected [out, 1] or [1, in]")
    on_input = stored.shape[0] == 1 if stored.ndim == 2 else told.on_input
    return IA3(stored.float() - 1, on_input, with_bias=not on_input)


_MAKERS: dict[str, Callable[[str, Parts, Told], Adapter]] = {
    "LoRA": lambda name, parts, told: LoRA(parts[UP], parts[DOWN], 1.0, parts.get(MID)),
    "table": _table,
    "LoHa": lambda name, parts, told: LoHa(alpha=1.0, **{_HADAMARD[r]: parts[r] for r in HADAMARD if r in parts}),
    "LoKr": lambda name, parts, told: LoKr(alpha=1.0, **{_KRONECKER[r]: parts[r] for r in KRONECKER if r in parts}),
    "GLoRA": lambda name, parts, told: GLoRA(*(parts[role] for role in GENERAL), 1.0),
    "OFT": _oft,
    "InputOFT": _input_oft,
    "IA3": lambda name, parts, told: IA3(parts[FACTORS], bool(parts[ON_INPUT].item())),
    "PEFT IA3": _ia3_of_peft,
    "difference": lambda name, parts, told: Difference(parts[DIFF]),
    "norm difference": lambda name, parts, told: Difference(parts[NORM], "norm difference"),
    "replacement": lambda name, parts, told: Replacement(parts[SET]),
}
