"""The keys and shapes that a file without its model implies: its family's table has a weight for each of its names.

The table says which weight a module is, or which rows of one; the file's own tensors say how large it is.
"""

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from ..families.family import Family, Stack
from ..families.table import FAMILIES
from ..formats.read import LoRAFile
from ..kinds.adapters import Adapter, LoRA
from .families import tell
from .names import front_off
from .unet import UNET

UNSAID = (1, 1)  # the shape of a weight that marks the family and that the file does not change
_MLP = 4  # the rows of a perceptron beside q, k and v in one weight, in widths of its input: Flux and its relatives
Shape = tuple[int, ...]


class Spot(NamedTuple):
    """Where a module is: the model's own layer, and which part of its rows, None for all of them."""

    layer: str
    part: str | None
    stack: Stack


def implied_models(file: LoRAFile) -> dict[str, dict[str, Shape]]:
    """Each family that a file may be of -> keys and shapes of the weights that the file's modules belong to."""
    families = [family for family in FAMILIES if family.name in tell(file).families]
    return {family.name: found for family in families if (found := _implied(file, family))}


def _implied(file: LoRAFile, family: Family) -> dict[str, Shape]:
    layers = {name: spot for stack in family.stacks for root in {"", family.root} for name, spot in _spots(stack, root)}
    starts = sorted({at for at, _ in layers}, key=len, reverse=True)
    others = [(re.compile(_flat(own).replace("#", r"(\d+)")), own) for own in family.others]
    shapes: dict[str, Shape] = {}
    parts: dict[str, dict[str, Adapter]] = {}
    of_stack: dict[str, Stack] = {}
    for name, adapter in file.adapters.items():
        at, number, rest = _block_of(front_off(name), starts)
        spot = layers.get((at, rest))
        if spot is None:
            own = next((own for found, own in others if found.fullmatch(front_off(name))), None)
            shapes |= _whole(_numbered(own, front_off(name)), adapter) if own else {}
            continue
        module = f"{spot.stack.own}.{number}.{spot.layer}" if at else spot.layer
        if spot.part is None:
            shapes |= _whole(module, adapter)
        else:
            parts.setdefault(module, {})[spot.part] = adapter
            of_stack[module] = spot.stack
    for module, given in parts.items():
        stack = of_stack[module]
        layer = next(layer for layer in stack.splits if module.endswith(layer) and _fits(stack, layer, given))
        if module not in shapes and (shape := _together(stack.splits[layer], given)):
            shapes[module] = shape
    if not shapes:
        return {}
    return {f"{UNET}{name}.weight": shapes.get(name, UNSAID) for name in (*family.has, *shapes)}


def _fits(stack: Stack, layer: str, given: Mapping[str, Adapter]) -> bool:
    return set(given) <= {name for name, _ in stack.splits[layer]}


def _spots(stack: Stack, root: str) -> Iterator[tuple[tuple[str, str], Spot]]:
    """Each name of a layer in a stack, flat and behind the flat name of its stack -> where it is."""
    own, theirs = (_flat(name) for name in _stack_names(stack, root)) if stack.own else ("", "")
    for layer, names in stack.layers.items():
        shown = layer if stack.own else layer.removeprefix(root)
        yield (own, _flat(shown)), Spot(layer, None, stack)
        for name in (names,) if isinstance(names, str) else names:
            if layer not in stack.splits or name not in dict(stack.splits[layer]):
                yield (theirs, _flat(name)), Spot(layer, None, stack)
    for layer, parts in stack.splits.items():
        yield (own, _flat(layer)), Spot(layer, None, stack)
        for name, _ in parts:
            if name:
                yield (theirs, _flat(name)), Spot(layer, name, stack)


def _stack_names(stack: Stack, root: str) -> tuple[str, str]:
    return stack.own.removeprefix(root), stack.theirs or stack.own.removeprefix(root)


def _numbered(own: str, flat: str) -> str:
    """A module's own name with the numbers of its flat name: "blocks.#.out", "blocks_3_out" -> "blocks.3.out"."""
    found = re.fullmatch(_flat(own).replace("#", r"(\d+)"), flat)
    for number in found.groups() if found else ():
        own = own.replace("#", number, 1)
    return own


def _flat(name: str) -> str:
    return name.replace(".", "_")


def _block_of(flat: str, starts: list[str]) -> tuple[str, str, str]:
    """A flat name's stack, number and layer; ("", "", name) outside of the stacks."""
    for start in starts:
        if start and flat.startswith(f"{start}_"):
            number, _, rest = flat[len(start) + 1 :].partition("_")
            if number.isdecimal() and rest:
                return start, number, rest
    return "", "", flat


def _whole(module: str, adapter: Adapter) -> dict[str, Shape]:
    out, inner = adapter.extent
    if not out or not inner:
        return {}
    kernel = tuple(adapter.down.shape[2:]) if isinstance(adapter, LoRA) else ()
    return {module: (out, inner, *kernel)}


def _together(parts: tuple[tuple[str, int], ...], given: Mapping[str, Adapter]) -> Shape | None:
    """The shape of a weight of which the file has some parts; None where a part that it lacks could have any size."""
    width = next((adapter.extent[1] for adapter in given.values() if adapter.extent[1]), None)
    if not width:
        return None
    rows, equal = 0, [adapter.extent[0] for name, adapter in given.items() if not dict(parts)[name]]
    for name, widths in parts:
        if widths:
            rows += widths * width
        elif name in given:
            rows += given[name].extent[0] or 0
        elif sum(not other for _, other in parts) > 1:
            if not equal:
                return None
            rows += equal[0] or 0
        else:
            rows += _MLP * width
    return rows, width
