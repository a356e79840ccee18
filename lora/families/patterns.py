"""Which families know the names of a file: names with underscores for dots and # for numbers, from the tables."""

import re
from collections.abc import Collection, Iterator, Mapping
from functools import cache

from .family import Family
from .table import FAMILIES

_NUMBER = re.compile(r"(?<![A-Za-z\d])\d+")


def pattern(name: str) -> str:
    """A name without its numbers: "layers.3.attn.to_q" and "layers_3_attn_to_q" -> "layers_#_attn_to_q"."""
    return _NUMBER.sub("#", name.replace(".", "_").replace("_", " ")).replace(" ", "_")


def count_known(patterns: Collection[str]) -> Mapping[str, int]:
    """The number of these patterns that each family knows, by its own names or by those of other tools."""
    found = set(patterns)
    return {family.name: len(found & _patterns(family)) for family in FAMILIES}


@cache
def _patterns(family: Family) -> frozenset[str]:
    return frozenset(map(pattern, _names(family)))


def _names(family: Family) -> Iterator[str]:
    for stack in family.stacks:
        own, theirs = (f"{name}.0." if name else "" for name in (stack.own, stack.theirs))
        for layer in (*stack.layers, *stack.splits):
            yield (own + layer).removeprefix(family.root)
        for names in stack.layers.values():
            yield from (theirs + name for name in ((names,) if isinstance(names, str) else names))
        for parts in stack.splits.values():
            yield from (theirs + name for name, _ in parts if name)
        yield from (theirs + name for name in stack.fused)
