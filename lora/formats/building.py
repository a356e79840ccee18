"""Building: the tensors of one module become its adapters, by the rows of the kinds."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from ..kinds.adapters import Adapter, ConfigFacts, LoRA, LoRAError
from ..kinds.magnitude import DoRA
from ..kinds.table import KINDS, Kind
from ..kinds.whole import Difference, Replacement
from ..kinds.widening import Widening, shape_of_parts
from .suffixes import ALPHA, DORA, MAGNITUDE, RESHAPE, SCALE, UP_BIAS

Parts = Mapping[str, Tensor]  # by role
MOST = 1e9  # the largest number of a factor, and the largest alpha: products of four of them still fit fp32
_PLAIN = "LoRA"  # the kind of a module that has only shared parts, and the only kind whose up can have a bias


def build(name: str, parts: Parts, facts: ConfigFacts) -> tuple[dict[str, Adapter], bool]:
    """One module's adapters, and whether its alpha is known (from the file or the configuration, or needless).

    The keys of the adapters are what follows the module's name: "" for the weight, ".bias" for the bias.

    Raises:
        LoRAError: parts that are missing, too many, not numbers, or of shapes that do not belong together.
    """
    owners = _owners(tuple(KINDS.items()))
    for role, tensor in parts.items():
        if fault := fault_of(tensor, whole_numbers=role in owners.numbers, largest=facts.largest):
            raise LoRAError(f"its {role}: {fault}")
        if role in owners.numbers and role != RESHAPE and tensor.numel() != 1 and not _is_norm(name, parts):
            raise LoRAError(f"its {role} has {tensor.numel()} values, expected one number")
    if _is_norm(name, parts):
        return {".scale": Replacement(parts[SCALE])}, True
    found: dict[str, Adapter] = {}
    kind = _kind(parts, owners)
    has_alpha, scale = True, 1.0
    if kind:
        row = KINDS[kind]
        own = {field: parts[role] for role, field in row.fields.items() if role in parts}
        adapter = _make(row, name, own, parts, facts)
        if row.scaled:
            # Only the adapter knows its rank, so it is built first and its alpha put right afterwards.
            adapter, has_alpha = _with_alpha(adapter, _alpha(parts, adapter.rank, facts.alpha_of))
            scale = (adapter.alpha or 0.0) / adapter.rank if adapter.rank else 1.0
        found[""] = _with_shape(_with_magnitude(adapter, parts), parts)
    if UP_BIAS in parts:
        found[".bias"] = Difference(parts[UP_BIAS].float() * scale, "LoRA's bias")
    for role in owners.biases.keys() & parts.keys():
        if ".bias" in found:
            raise LoRAError("its bias is changed twice, and which one is meant is unknown")
        row = KINDS[owners.biases[role]]
        found[".bias"] = _make(row, name, {next(iter(row.parts.values())): parts[role]}, parts, facts)
    return found, has_alpha


def _with_alpha(adapter: Adapter, alpha: float | None) -> tuple[Adapter, bool]:
    """The adapter with its alpha, which is its rank where none is known; and whether one was known."""
    if alpha is not None and not abs(alpha) <= MOST:
        raise LoRAError(f"its alpha is {alpha:.1e}, which no trainer writes: the file is damaged")
    known = float(adapter.rank if alpha is None else alpha)
    return (adapter if adapter.alpha == known else replace(adapter, alpha=known)), alpha is not None


class _Owners(NamedTuple):
    """Which kind owns a role: kinds, of a weight's part; biases, of a bias' part. numbers: roles of a single number."""

    kinds: dict[str, str]
    biases: dict[str, str]
    numbers: frozenset[str]


@lru_cache(maxsize=4)
def _owners(kinds: tuple[tuple[str, Kind], ...]) -> _Owners:
    numbers = {role for _, kind in kinds for role, name in kind.fields.items() if name in kind.numbers}
    return _Owners(
        {role: name for name, kind in kinds for role in kind.fields},
        {kind.bias: name for name, kind in kinds if kind.bias},
        frozenset({ALPHA, SCALE, RESHAPE, *numbers}),
    )


def _make(row: Kind, name: str, fields: Parts, parts: Parts, facts: ConfigFacts) -> Adapter:
    """The adapter of these fields; its alpha is the file's own, or 1 where `_with_alpha` finds it later."""
    if row.build is not None:
        return row.build(name, fields, facts)
    alpha = float(parts[ALPHA].item()) if ALPHA in parts else None
    if row.scaled:
        return row.adapter(**fields, alpha=alpha if alpha is not None and abs(alpha) <= MOST else 1.0)
    return row.adapter(**fields, **({"alpha": alpha} if row.has_alpha and alpha is not None else {}))


def fault_of(tensor: Tensor, whole_numbers: bool = False, *, largest: float = math.inf) -> str:
    """The reason why these cannot be an adapter's numbers; "" where they can.

    The values are not read where the bound `largest` already shows that all of them are possible.
    """
    if not tensor.is_floating_point():
        plain = whole_numbers and not tensor.is_complex()
        return "" if plain else f"{str(tensor.dtype).removeprefix('torch.')} numbers, expected floating point"
    if largest <= MOST or not tensor.numel():
        return ""
    if tensor.numel() == 1:
        low = high = tensor.item()
    else:
        wide = tensor.float() if tensor.element_size() == 1 else tensor  # fp8 has no minimum in torch
        low, high = (bound.item() for bound in torch.aminmax(wide.detach()))
    if not (math.isfinite(low) and math.isfinite(high)):  # aminmax gives NaN if any of the numbers is NaN
        return "it holds NaN or infinity"
    if max(-low, high) > MOST:
        return f"it holds numbers as large as {max(-low, high):.1e}, which no training makes: the file is damaged"
    return ""


def _is_norm(name: str, parts: Parts) -> bool:
    """Whether this is a norm of BFL's control LoRAs, which store new scales of Flux' query and key norms."""
    return parts.keys() == {SCALE} and name.endswith(("query_norm", "key_norm")) and parts[SCALE].ndim == 1


def _kind(parts: Parts, owners: _Owners) -> str:
    """The name of the kind that owns these parts; "" where only a bias changes."""
    own = {owners.kinds[role] for role in parts if role in owners.kinds}
    if len(own) > 1:
        raise LoRAError(f"it has parts of two kinds, {' and '.join(sorted(own))}, and which one is meant is unknown")
    kind, shared = next(iter(own), ""), parts.keys() & {MAGNITUDE, DORA, UP_BIAS, SCALE, RESHAPE}
    if not kind and parts.keys() & owners.biases.keys() and not shared:
        return ""
    kind = kind or _PLAIN
    if absent := [role for role in KINDS[kind].needed if role not in parts]:
        raise LoRAError(f"it has {' and '.join(sorted(parts))} but no {' and no '.join(absent)}")
    if shared and not KINDS[kind].scaled:
        raise LoRAError(f"it has {' and '.join(sorted(shared))}, which {kind} does not use: it would be ignored")
    if UP_BIAS in parts and kind != _PLAIN:
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


def _with_shape(adapter: Adapter, parts: Parts) -> Adapter:
    """The adapter as a control LoRA, where the file names the shape that it gives the weight."""
    if RESHAPE not in parts:
        return adapter
    if not isinstance(adapter, LoRA):
        raise LoRAError(f"it has reshape_weight, which {adapter.kind} does not use: it would be ignored")
    return Widening(adapter, shape_of_parts(parts[RESHAPE]))
