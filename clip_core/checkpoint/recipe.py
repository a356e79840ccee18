"""The recipe from a file's tensors to a state dict: each of ours has an origin in it, or a stand-in."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .foreign import quantised
from .layouts import LayoutError, Origins, Root, Shapes, is_leftover, origins, roots

_TRAINED_LOGIT_SCALE = math.log(100.0)  # where the published models stand
_SHOWN = 3  # names in a sentence


@dataclass(frozen=True)
class Source:
    """The recipe from a file's tensors to a state dict."""

    prefix: str  # what stands before the encoder's names
    layout: str  # "hf" or "openai", see `layouts`
    names: tuple[str, ...]  # the file's tensors that are needed
    notes: tuple[str, ...]  # what is unusual or assumed, in sentences
    ignored: tuple[str, ...]  # tensors under the prefix that are not needed
    origins: Origins
    shapes: Mapping[str, tuple[int, ...]]  # of the state dict

    def translate(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tensors of `names` as the state dict of `build()`, ready for a strict load, each in its own type.

        Raises:
            LayoutError: two tensors of the file mean the same and differ.
        """
        state = {}
        for target, shape in self.shapes.items():
            if target not in self.origins:
                state[target] = _stand_in(target, shape)
                continue
            first, *others = self.origins[target]
            state[target] = first.take(tensors).reshape(shape)
            for other in others:
                if not torch.equal(state[target], other.take(tensors).reshape(shape)):
                    raise LayoutError(
                        f"{first.name} and {other.name} are the same weight under two names and differ; "
                        "remove the wrong one from the file"
                    )
        return state


def recipe(
    shapes: Shapes, root: Root, table: Origins, network: nn.Module, notes: tuple[str, ...], may_lack: tuple[str, ...]
) -> Source:
    """The recipe for a network's state dict from the origins in `table`.

    `may_lack` are the beginnings of names that something can stand in for.

    Raises:
        LayoutError: a tensor is missing or has another shape, or the weights are 8-bit numbers with separate scales.
    """
    packed = quantised(name for name in shapes if name.startswith(root.prefix))
    if packed:
        raise LayoutError(f"its weights are {packed}, which is not read here; use an fp16 file")
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    table = {target: table[target] for target in expected if target in table}
    _check(expected, table, shapes, may_lack)
    names = {name for found in table.values() for origin in found for name in (origin.name, origin.scale) if name}
    claimed = names | _claimed(shapes)
    ignored = sorted(name for name in shapes if name.startswith(root.prefix) and name not in claimed)
    unknown = [name for name in ignored if not is_leftover(name)]
    if unknown:
        notes += (f"{len(unknown)} tensors beside the encoder were not read: {_list(unknown)}",)
    return Source(root.prefix, root.layout, tuple(sorted(names)), notes, tuple(ignored), table, expected)


def _claimed(shapes: Shapes) -> set[str]:
    """The names of all encoders in the file."""
    tables = (origins(shapes, root, half) for half in ("text", "vision") for root in roots(shapes, half))
    found = (origin for table in tables for same in table.values() for origin in same)
    return {name for origin in found for name in (origin.name, origin.scale) if name}


def _check(expected: Shapes, table: Origins, shapes: Shapes, may_lack: tuple[str, ...]) -> None:
    missing = [name for name in expected if name not in table and not name.startswith(may_lack)]
    if missing:
        counts = f"{len(missing)} of {len(expected)} tensors are missing"
        raise LayoutError(f"it is incomplete, {counts}: {_list(missing)}")
    for target, found in table.items():
        for origin in found:
            shape = origin.shape(shapes)
            if shape != expected[target] and not (target in ("logit_scale", "logit_bias") and shape == (1,)):
                raise LayoutError(
                    f"{origin.name} has the shape {list(shapes[origin.name])}, and the other tensors want "
                    f"{list(expected[target])} for {target}"
                )


def _stand_in(target: str, shape: tuple[int, ...]) -> Tensor:
    """Identity for a projection; zeros for a block, which then adds nothing to what passes it."""
    if target == "logit_scale":
        return torch.tensor(_TRAINED_LOGIT_SCALE)
    return torch.eye(*shape) if target.endswith("_projection.weight") else torch.zeros(shape)


def _list(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
