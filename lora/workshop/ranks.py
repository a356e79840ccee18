"""Rules: how many singular values of each layer are kept, one layer at a time, or all layers within a file size."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..kinds.adapters import LoRAError
from .algebra import Spectrum
from .noise import Noise, count_above
from .spectrum import spectrum_for
from .thin import Thin

RANK, ENERGY, FROBENIUS, TOTAL, RATIO, AUTOMATIC, SIZE = (
    "rank",
    "energy",
    "frobenius",
    "sum",
    "ratio",
    "automatic",
    "size",
)
RULES = {  # what the amount of each means
    RANK: "the rank of every layer",
    ENERGY: "the share of the squared singular values that is kept, 0 to 1",
    FROBENIUS: "the share of the change's norm that is kept, 0 to 1",
    TOTAL: "the share of the sum of the singular values that is kept, 0 to 1",
    RATIO: "how many times smaller than the largest a singular value may be, 1 or more",
    AUTOMATIC: "nothing: what rises above the rounding noise of the stored type is kept",
    SIZE: "the size of the file in MB (1,000,000 bytes)",
}
_SHARES = (ENERGY, FROBENIUS, TOTAL)
_ENTRY = 110  # bytes of a tensor's line in the header besides its name, and half of what an alpha takes
_MOST_IN_A_SIZE = 256  # singular values of a change without thin factors that a file size may keep
_ROUNDING = 1e-12  # of a sum of a few thousand squares in fp64


@dataclass(frozen=True)
class Rule:
    """A rule of RULES with its amount; `most` bounds the rank of every layer.

    Raises:
        LoRAError: a rule that does not exist, a rank below 1, a share outside 0..1, a ratio below 1, no size.
    """

    name: str
    amount: float = 0.0
    most: int | None = None

    def __post_init__(self) -> None:
        if self.name not in RULES:
            raise LoRAError(f"the rule is {self.name!r}: expected one of {', '.join(RULES)}")
        if not math.isfinite(self.amount):
            raise LoRAError(f"the amount of the rule {self.name} is {self.amount}: expected {RULES[self.name]}")
        if self.name == RANK and (self.amount < 1 or self.amount != int(self.amount)):
            raise LoRAError(f"the rank is {self.amount:g}: expected a whole number of at least 1")
        if self.name in _SHARES and not 0 < self.amount <= 1:
            raise LoRAError(f"the share to keep is {self.amount:g}: expected more than 0 and at most 1")
        if self.name == RATIO and self.amount < 1:
            raise LoRAError(f"the ratio is {self.amount:g}: expected 1 or more")
        if self.name == SIZE and self.amount <= 0:
            raise LoRAError(f"the size of the file is {self.amount:g} MB: expected more than 0")
        if self.most is not None and self.most < 1:
            raise LoRAError(f"the largest rank is {self.most}: expected at least 1")

    @property
    def bytes(self) -> int:
        return int(self.amount * 1e6)


def rank_by(rule: Rule, values: Tensor, energy: float, noise: Noise | None = None) -> int:
    """The number of singular values that a rule keeps of one layer; 0 for a layer that does not change.

    The sums are exact: the smallest rank whose share is at least the amount. The rule `size` keeps all for `share_out`.

    Args:
        rule: which, and how much.
        values: the largest singular values, largest first, [k] in fp64. All of them for the rule `sum`.
        energy: the sum of the squares of all singular values.
        noise: of the stored type, for the rule `automatic`.

    Raises:
        LoRAError: the rule `automatic` without the noise.

    >>> values = torch.tensor([4.0, 2.0, 1.0, 0.5], dtype=torch.float64)
    >>> [rank_by(Rule(*rule), values, 21.25) for rule in ((RANK, 3), (ENERGY, 0.9), (RATIO, 4), (TOTAL, 1))]
    [3, 2, 2, 4]
    """
    found = int((values > values[:1] * _ROUNDING).sum().item()) if energy > 0 else 0
    most = min(found, rule.most or found)
    if not most or rule.name == SIZE:
        return most
    if rule.name == RANK:
        rank = int(rule.amount)
    elif rule.name == RATIO:
        rank = max(1, int((values > values[0] / rule.amount).sum().item()))
    elif rule.name == AUTOMATIC:
        if noise is None:
            raise LoRAError("the rule automatic needs the noise of the type that the numbers were stored in")
        rank = count_above(values, energy, noise)
    else:
        rank = _by_share(rule, values, energy)
    return min(rank, most)


def spectrum_by(rule: Rule, thin: Thin, noise: Noise | None = None) -> Spectrum:
    """As many singular values and vectors of a change as a rule needs; all of them where it has thin factors."""
    side = min(thin.up.shape[0], thin.down.shape[1])
    if rule.name == RANK:
        return spectrum_for(thin, min(int(rule.amount), rule.most or side))
    if rule.name == SIZE:
        return spectrum_for(thin, rule.most or _MOST_IN_A_SIZE)
    if rule.name == TOTAL:
        return spectrum_for(thin, side)
    return spectrum_for(thin, rule.most or side, lambda s, energy: rank_by(rule, s, energy, noise) < len(s))


def _by_share(rule: Rule, values: Tensor, energy: float) -> int:
    if rule.name == TOTAL:
        sums, wanted = values.cumsum(0), rule.amount * values.sum().item()
    else:
        share = rule.amount**2 if rule.name == FROBENIUS else rule.amount
        sums, wanted = values.square().cumsum(0), share * energy
    return int((sums < wanted * (1 - _ROUNDING)).sum().item()) + 1


@dataclass(frozen=True, eq=False)
class Share:
    """What a layer can take of a file: `values` [k] are its singular values, each of which costs `bytes_per_rank`, and
    the first one `bytes_once` besides (its names in the header, its alpha). `weight` multiplies its squared error:
    1 / |W|^2 where the error is to be small beside the model's own weights.
    """

    values: Tensor
    bytes_per_rank: int
    bytes_once: int = 0
    weight: float = 1.0


def share_out(layers: Sequence[Share], budget_bytes: int, start: Sequence[int] | None = None) -> list[int]:
    """The rank of each layer with the least total error within so many bytes.

    Singular values are taken by what they save per byte, over all layers, until the next ones do not fit any more;
    a fixed rank that fits and is better (one large value may stand in the way of the first) is taken instead and filled
    up. So the error is never above that of a fixed rank of the same size. `start`: ranks that are filled up alone.
    """
    scores, owners, depths = [], [], []
    for number, layer in enumerate(layers):
        scores.append(layer.values.square() * (layer.weight / layer.bytes_per_rank))
        owners.append(torch.full((len(layer.values),), number, dtype=torch.long, device="cpu"))
        depths.append(torch.arange(len(layer.values), dtype=torch.long, device="cpu"))
    if not layers or not sum(len(score) for score in scores):
        return [0] * len(layers)
    score, owner, depth = torch.cat(scores), torch.cat(owners), torch.cat(depths)
    order = torch.argsort(score, descending=True, stable=True)
    order = order[score[order] > 0]
    steps = list(zip(owner[order].tolist(), depth[order].tolist()))
    best = _fill(list(start or [0] * len(layers)), layers, steps, budget_bytes)
    fixed = None if start else largest_fixed(layers, lambda ranks: size_of(layers, ranks) <= budget_bytes)
    if fixed is not None and error_of(layers, fixed) < error_of(layers, best):
        best = _fill(fixed, layers, steps, budget_bytes)
    return best


def costs_of(marked: Mapping[str, Tensor], count: int) -> list[tuple[int, int]]:
    """The numbers for each rank, and the bytes once, that each of `count` layers takes in a file, from a file of rank 1
    all of whose numbers of layer n are n + 1; a dialect may split a layer's tensors, or join those of several.
    """
    found = [[0, 0] for _ in range(count)]
    for name, tensor in marked.items():
        if tensor.ndim < 2:
            continue  # an alpha, or the change of a vector
        owners = [int(mark) - 1 for mark in tensor.unique().tolist() if mark]
        for owner in owners:
            found[owner][0] += tensor.numel() // len(owners)
            found[owner][1] += (len(name.encode()) + _ENTRY) // len(owners)
    return [(numbers, once) for numbers, once in found]


def size_of(layers: Sequence[Share], ranks: Sequence[int]) -> int:
    """The bytes of layers with these ranks."""
    return sum(rank * layer.bytes_per_rank + (layer.bytes_once if rank else 0) for rank, layer in zip(ranks, layers))


def _fill(ranks: list[int], layers: Sequence[Share], steps: Sequence[tuple[int, int]], budget: int) -> list[int]:
    """The ranks with every further step that still fits, best first; a layer of which one does not is done."""
    found, left, done = list(ranks), budget - size_of(layers, ranks), set()
    for number, depth in steps:
        if number in done or depth < found[number]:
            continue
        cost = layers[number].bytes_per_rank + (0 if found[number] else layers[number].bytes_once)
        if cost > left:
            done.add(number)
        else:
            found[number], left = found[number] + 1, left - cost
    return found


def largest_fixed(layers: Sequence[Share], fits: Callable[[list[int]], bool]) -> list[int] | None:
    """The largest fixed rank that fits, as far as each layer has it; None where not even 1 fits."""
    low, high = 0, max((len(layer.values) for layer in layers), default=0)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(_fixed(layers, middle)) else (low, middle - 1)
    return _fixed(layers, low) if low else None


def _fixed(layers: Sequence[Share], rank: int) -> list[int]:
    return [min(rank, len(layer.values)) for layer in layers]


def error_of(layers: Sequence[Share], ranks: Sequence[int]) -> float:
    """The weighted sum of the squares of what layers with these ranks lose."""
    return math.fsum(layer.weight * layer.values[rank:].square().sum().item() for rank, layer in zip(ranks, layers))
