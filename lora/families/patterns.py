"""Which families know the names of a file: names with underscores for dots and # for numbers, from the tables."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cache

from .family import Family
from .table import FAMILIES

_NUMBER = re.compile(r"(?<![A-Za-z\d])(?<!adaLN modulation )\d+")  # Z-Image has 0 there, Lumina 2 has 1


def pattern(name: str) -> str:
    """A name without its numbers: "layers.3.attn.to_q" and "layers_3_attn_to_q" -> "layers_#_attn_to_q"."""
    return _NUMBER.sub("#", name.replace(".", "_").replace("_", " ")).replace(" ", "_")


def count_known(patterns: Collection[str]) -> Mapping[str, int]:
    """The number of these patterns that each family knows, by its own names or by those of other tools."""
    found = set(patterns)
    return {family.name: len(found & known_to(family)) for family in FAMILIES}


@cache
def known_to(family: Family) -> frozenset[str]:
    """The patterns of all names that a family's table has."""
    return frozenset(map(pattern, _names(family)))


def depths(names: Iterable[str], family: Family) -> dict[str, int]:
    """How many blocks these names ask for in each stack of a family, by the stack's own name: the last number and one.

    >>> depths(["double_blocks_18_img_mlp_0", "transformer_blocks_3_attn_to_q"], FAMILIES[0])
    {'double_blocks': 19}
    """
    numbered = _numbered(family)
    asked: dict[str, int] = {}
    for name in names:
        for start, own in numbered:
            if name.startswith(start) and (number := name[len(start) : len(start) + 6].partition("_")[0]).isdecimal():
                asked[own] = max(asked.get(own, 0), int(number) + 1)
    return asked


@cache
def _numbered(family: Family) -> tuple[tuple[str, str], ...]:
    pairs = {
        (name.replace(".", "_") + "_", stack.own)
        for stack in family.stacks
        for name in (stack.own, stack.own.removeprefix(family.root), stack.theirs)
        if name
    }
    return tuple(sorted(pairs))


def _names(family: Family) -> Iterator[str]:
    yield from family.others
    for stack in family.stacks:
        own, theirs = (f"{name}.0." if name else "" for name in (stack.own, stack.theirs))
        for layer in (*stack.layers, *stack.splits):
            yield own + layer
            yield (own + layer).removeprefix(family.root)
        for names in stack.layers.values():
            yield from (theirs + name for name in ((names,) if isinstance(names, str) else names))
        for parts in stack.splits.values():
            yield from (theirs + name for name, _ in parts if name)
        yield from (theirs + name for name in stack.fused)
