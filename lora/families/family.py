"""The family of a diffusion model as data: its modules by the model's own names and by those of diffusers.

A family is told by marks, modules that only it has. Its names are stacks of blocks, a row for each layer of a block. A
layer of diffusers may be rows of one of the model's weights, and one of diffusers may lie in several weights of the
model; both are said here and done in `models`. No torch here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

DIFFUSERS, XLABS, OTHER = "diffusers", "xlabs", ""  # whose names they are; those of others are read and never written

Parts = tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Stack:
    """A row of blocks under two names: `own`.N.layer in the model is `theirs`.N.layer; both are "" outside of blocks.

    word: what a block is called in selectors and reports ("double" for double.3); "" where another row says it.
    layers: own layer -> their name, or several names of which the first is written.
    splits: own layer -> the parts that its rows are, from the first row on: their name ("" for none), and how many rows
    in widths of the weight's input. 0 is an equal share of the rows that are left.
    fused: their layer -> the own layers that it holds, in the order of its rows.
    """

    own: str = ""
    theirs: str = ""
    word: str = ""
    tool: str = DIFFUSERS
    layers: Mapping[str, str | tuple[str, ...]] = field(default_factory=dict)
    splits: Mapping[str, Parts] = field(default_factory=dict)
    fused: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Family:
    """A family of models.

    name: as users know it. has, lacks: modules (own names) that all models of the family have, and that none has.
    stacks: the names. swapped: diffusers' names ({} is a block's number) whose weight, if it has two input widths of
    rows, has its halves exchanged. gated: diffusers' names whose weight always has them exchanged (value before gate).
    root: what trainers leave out in front of the model's own names. same: diffusers
    calls all other modules as the model does. depth: the most blocks that a published model has, by the stack's own
    name. others: more modules by their own names (# for a number), which no other tool calls otherwise.
    """

    name: str
    has: tuple[str, ...]
    stacks: tuple[Stack, ...]
    lacks: tuple[str, ...] = ()
    swapped: frozenset[str] = frozenset()
    gated: frozenset[str] = frozenset()
    root: str = ""
    same: bool = False
    depth: Mapping[str, int] = field(default_factory=dict)
    others: tuple[str, ...] = ()


def same(*layers: str) -> dict[str, str]:
    """A table of layers that both sides call the same."""
    return dict(zip(layers, layers))


def parts(form: str, *, rest: str = "", names: tuple[str, ...] = ("q", "k", "v"), width: int = 0) -> Parts:
    """The parts of a fused weight: `form` with each name in it, `width` input widths each, and what is behind them."""
    found = tuple((form.format(name), width) for name in names)
    return (*found, (rest, 0)) if rest else found
