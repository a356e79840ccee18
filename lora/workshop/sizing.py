"""The ranks with which a file has a given size, in any dialect: some split a weight's factors, others join them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..formats.writing import bytes_of_file
from ..kinds.adapters import Adapter, LoRA, LoRAError
from ..models.places import Place
from .ranks import Rule, Share, costs_of, error_of, largest_fixed, share_out, size_of

Spell = Callable[[Mapping[Place, Adapter]], tuple[dict[str, Tensor], dict[str, str]]]
Shapes = Mapping[Place, Sequence[int]]
_TRIES = 8


def costs_by_place(shapes: Shapes, spell: Spell) -> dict[Place, tuple[int, int]]:
    """The numbers for each rank, and the bytes once, that the change of each weight takes in a file.

    shapes: of the weights; vectors take no part. A weight that the dialect has no name for costs nothing.
    """
    wide = [place for place, shape in shapes.items() if len(shape) >= 2]
    marked = {place: _filled(shapes[place], 1, float(n), torch.float32) for n, place in enumerate(wide, 1)}
    return dict(zip(wide, costs_of(spell(marked)[0], len(wide)))) if marked else {}


def weighed(shares: Mapping[Place, Share], bases: Mapping[Place, float | None]) -> dict[Place, Share]:
    """The same, weighed by the norms of the model's weights; one that is not known counts as one in the middle."""
    known = sorted(base for base in bases.values() if base)
    if not known:
        return dict(shares)
    middle = known[len(known) // 2]
    return {place: replace(share, weight=1 / (bases.get(place) or middle) ** 2) for place, share in shares.items()}


def ranks_of_size(
    shapes: Shapes,
    shares: Mapping[Place, Share],
    rule: Rule,
    spell: Spell,
    dtype: torch.dtype,
    others: Mapping[Place, Adapter],
) -> dict[Place, int]:
    """The ranks whose file is as large as the rule says, or just below; all of them where the whole file is smaller.

    What is besides the factors depends on the ranks a little; it is measured on empty adapters of these ranks.

    Args:
        shapes: of the weights. shares: what each of them can take. rule: of the name `size`.
        spell: gives the tensors and the header of the file of some adapters.
        dtype: of the factors. others: what is in the file whatever the ranks are.

    Raises:
        LoRAError: not even one rank fits; the sentence says how large the smallest file would be.
    """
    layers = list(shares.values())

    def bytes_of(ranks: list[int]) -> int:
        wide = {at: _filled(shapes[at], rank, 0.0, dtype) for at, rank in zip(shares, ranks) if rank}
        return bytes_of_file(*spell({**others, **wide})) if others or wide else 0

    found: list[list[int]] = []
    budgets, budget = set[int](), rule.bytes
    while budget not in budgets and len(budgets) < _TRIES:
        budgets.add(budget)
        ranks = share_out(layers, budget)
        if (bytes_ := bytes_of(ranks)) <= rule.bytes:
            found.append(ranks)
        budget = rule.bytes - (bytes_ - size_of(layers, ranks))
    if (fixed := largest_fixed(layers, lambda ranks: bytes_of(ranks) <= rule.bytes)) is not None:
        found.append(fixed)
        found.append(share_out(layers, rule.bytes - bytes_of(fixed) + size_of(layers, fixed), fixed))
    found = [ranks for ranks in found if any(ranks) and bytes_of(ranks) <= rule.bytes]
    if not found:
        smallest = bytes_of([1] * len(layers))
        raise LoRAError(
            f"a file of {rule.amount:g} MB is too small: with rank 1 in every layer it has {smallest / 1e6:.3g} MB"
        )
    errors = [error_of(layers, ranks) for ranks in found]
    return dict(zip(shares, found[errors.index(min(errors))]))


def _filled(shape: Sequence[int], rank: int, number: float, dtype: torch.dtype) -> LoRA:
    """A LoRA of a weight of this shape, all of whose numbers are one number."""
    up = torch.zeros(shape[0], rank, *[1] * len(shape[2:]), dtype=dtype, device="cpu")
    down = torch.zeros(rank, *shape[1:], dtype=dtype, device="cpu")  # zeros that nobody reads take no memory
    return LoRA(up + number, down + number, float(rank)) if number else LoRA(up, down, float(rank))
