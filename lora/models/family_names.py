"""The names that a family's table gives to the modules of one model, as targets. No torch here."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from ..families.family import DIFFUSERS, Family, Parts, Stack
from .places import Piece, Slice, Target

Modules = Mapping[str, tuple[str, Sequence[int]]]  # the model's own module -> its key and its shape
_BLOCK = re.compile(r"(.*?)\.(\d+)\.(.*)")


class Spelled(NamedTuple):
    """A name of another tool, whose tool it is, and its targets in the model; `first` is the name to be written."""

    name: str
    tool: str
    targets: tuple[Target, ...]
    first: bool


def spelled_by(family: Family, modules: Modules) -> Iterator[Spelled]:
    """The names of diffusers and other tools for the modules of a model, by its family's table."""
    stacks: dict[str, list[Stack]] = {}
    for stack in family.stacks:
        stacks.setdefault(stack.own, []).append(stack)
    if family.same:
        tabled = {f"{stack.own}.#.{layer}" for stack in family.stacks for layer in (*stack.layers, *stack.splits)}
        for module, (key, _) in modules.items():
            own, _, layer = _block_of(module, stacks)
            if key.endswith(".weight") and f"{own}.#.{layer}" not in tabled:
                yield Spelled(module, DIFFUSERS, (Target(key),), True)
    for module, (key, shape) in modules.items():
        own, number, layer = _block_of(module, stacks)
        for stack in stacks.get(own, ()):
            at = f"{stack.theirs}.{number}." if stack.theirs else ""
            yield from _whole(family, stack, at, layer, key, shape)
            if layer in stack.splits and len(shape) > 0:
                yield from _split(stack, at, stack.splits[layer], key, shape)
            yield from _fused(stack, at, module, layer, modules)


def _block_of(module: str, stacks: Mapping[str, list[Stack]]) -> tuple[str, str, str]:
    """A module's stack, number and layer; ("", "", module) outside of the stacks of the table."""
    found = _BLOCK.match(module)
    return (found[1], found[2], found[3]) if found and found[1] in stacks else ("", "", module)


def _whole(family: Family, stack: Stack, at: str, layer: str, key: str, shape: Sequence[int]) -> Iterator[Spelled]:
    names = stack.layers.get(layer, ())
    for n, theirs in enumerate((names,) if isinstance(names, str) else names):
        general = f"{stack.theirs}.{{}}.{theirs}" if stack.theirs else theirs
        two_widths = len(shape) > 1 and shape[0] == 2 * shape[1]
        swapped = general in family.gated or (general in family.swapped and two_widths)
        yield Spelled(at + theirs, stack.tool, (Target(key, swapped),), not n and layer not in stack.splits)


def _split(stack: Stack, at: str, parts: Parts, key: str, shape: Sequence[int]) -> Iterator[Spelled]:
    """The rows of a weight, each with a name of its own; nothing where the rows do not come out."""
    width = shape[1] if len(shape) > 1 else 0
    shares = sum(1 for _, widths in parts if not widths)
    left = shape[0] - sum(widths for _, widths in parts) * width
    if not width or left < 0 or (shares and left % shares) or (left and not shares):
        return
    first = 0
    for theirs, widths in parts:
        rows = widths * width or left // shares
        if theirs and rows:
            yield Spelled(at + theirs, stack.tool, (Target(Slice(key, (0, first, rows))),), True)
        first += rows


def _fused(stack: Stack, at: str, module: str, layer: str, modules: Modules) -> Iterator[Spelled]:
    """A module of the file that lies in several weights, said once, at the first of them."""
    for theirs, layers in stack.fused.items():
        if layer != layers[0]:
            continue
        before = module.removesuffix(layer)
        held = [modules.get(before + own) for own in layers]
        total = sum(one[1][0] for one in held if one and one[1])
        targets, first = [], 0
        for one in held:
            if one is None or not one[1]:
                break
            targets.append(Target(one[0], piece=Piece(first, one[1][0], total)))
            first += one[1][0]
        if len(targets) == len(layers):
            yield Spelled(at + theirs, stack.tool, tuple(targets), False)
