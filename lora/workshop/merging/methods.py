"""Ways to make one change of several: sum, average, SLERP, TIES, DARE, DELLA, KnOTS, one beside another.

TIES (Yadav et al. 2023, arXiv:2306.01708), DARE (Yu et al. 2023, arXiv:2311.03099), DELLA (Deep et al. 2024,
arXiv:2406.11617), KnOTS (Stoica et al. 2024, arXiv:2410.19735). Strengths are multiplied in first, as a loader means
them, so that signs and magnitudes are those of what would have been applied.
"""

import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...kinds.adapters import LoRAError
from ..algebra import add, inner, norm_of, spectrum_of
from ..thin import Thin, dense_thin

SUM, AVERAGE, SLERP, ORTHOGONAL = "sum", "average", "slerp", "orthogonal"
TIES, DARE, DARE_TIES, DELLA = "ties", "dare", "dare_ties", "della"
_PARALLEL = 1e-4  # below this sine of the angle between two changes, SLERP is a straight line


@dataclass(frozen=True)
class Recipe:
    """How changes are put together.

    density: the share of entries that TIES, DARE and DELLA keep. spread: how far DELLA's chance of being kept goes
    from the smallest to the largest of a row. position: of SLERP, from the first (0) to the second (1). aligned: TIES,
    DARE and DELLA work in the common directions of all changes (KnOTS), where nothing is truncated; else on the entries
    of the weights. seed: of the entries that DARE and DELLA drop.

    Raises:
        LoRAError: an unknown method, or a number out of its range.
    """

    method: str = SUM
    density: float = 0.5
    spread: float = 0.2
    position: float = 0.5
    aligned: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise LoRAError(f"the method is {self.method!r}: expected one of {', '.join(METHODS)}")
        if not 0 < self.density <= 1:
            raise LoRAError(f"the density is {self.density}: expected a share of the entries, above 0 and at most 1")
        if not 0 <= self.spread <= 1:
            raise LoRAError(f"the spread is {self.spread}: expected 0 (all entries alike) to 1")
        if not 0 <= self.position <= 1:
            raise LoRAError(f"the position is {self.position}: expected 0 (the first) to 1 (the second)")

    @property
    def by_entry(self) -> bool:
        """Whether the method looks at single entries, so that its result on the weights themselves has full rank."""
        return self.method in BY_ENTRY


def combine(thins: Sequence[Thin | None], strengths: Sequence[float], recipe: Recipe, name: str = "") -> Thin | None:
    """Combine makes one change of several changes of one weight.

    Args:
        thins: one for each file, None where a file does not change this weight.
        strengths: one for each, as a loader means them; they may be negative or 0.
        recipe: the method and its numbers.
        name: of the weight; with the recipe's seed it chooses the entries that DARE and DELLA drop.

    Returns:
        The exact result; dense where an entrywise method worked on the weight itself. None where nothing changes it.

    Raises:
        LoRAError: SLERP of other than two, weights of an average whose sum is 0, or different weights.
    """
    if recipe.method == AVERAGE:
        return _average(thins, strengths)
    if recipe.method == SLERP:
        return _slerp(thins, strengths, recipe.position)
    present = [(thin, strength) for thin, strength in zip(thins, strengths, strict=True) if thin is not None]
    if recipe.method == ORTHOGONAL:
        return _orthogonal(present)
    used = [(thin, strength) for thin, strength in present if strength]
    if not used:
        return None
    if not recipe.by_entry:
        return add([thin for thin, _ in used], [strength for _, strength in used])
    scaled = [thin.times(strength) for thin, strength in used]
    random = torch.Generator("cpu").manual_seed((recipe.seed & 0xFFFFFFFF) ^ zlib.crc32(name.encode()))
    return _by_entry(scaled, recipe, random)


def _average(thins: Sequence[Thin | None], strengths: Sequence[float]) -> Thin | None:
    """The mean of the changes, weighted by the strengths; a file that does not change the weight counts as 0."""
    total = math.fsum(strengths)
    if abs(total) < 1e-9:
        raise LoRAError(f"the strengths add up to {total:g}: an average needs weights whose sum is not 0")
    used = [(thin, strength / total) for thin, strength in zip(thins, strengths, strict=True) if thin and strength]
    return add([thin for thin, _ in used], [share for _, share in used]) if used else None


def _slerp(thins: Sequence[Thin | None], strengths: Sequence[float], position: float) -> Thin | None:
    """On the arc between two changes at their strengths; on the line where one is nothing or they (nearly) are one."""
    if len(thins) != 2:
        raise LoRAError(f"SLERP goes from one LoRA to another, here are {len(thins)}: choose two, or another method")
    ends = [thin.times(strength) if thin and strength else None for thin, strength in zip(thins, strengths)]
    one, two = ends
    if one is None or two is None:
        only, share = (one, 1 - position) if two is None else (two, position)
        return None if only is None or not share else only.times(share)
    shares = slerp_shares(one, two, position)
    return add([one, two], shares)


def slerp_shares(one: Thin, two: Thin, position: float) -> tuple[float, float]:
    """The factors of both ends at a position on the arc between them. -> sin((1 - t) a) / sin a, sin(t a) / sin a"""
    lengths = norm_of(one) * norm_of(two)
    cosine = max(-1.0, min(1.0, inner(one, two) / lengths)) if lengths else 1.0
    angle = math.acos(cosine)
    if math.sin(angle) < _PARALLEL:
        return 1 - position, position
    return math.sin((1 - position) * angle) / math.sin(angle), math.sin(position * angle) / math.sin(angle)


def _orthogonal(present: Sequence[tuple[Thin, float]]) -> Thin | None:
    """The sum in which each change has lost the outputs that those before it write to: (I - Q Q^T) dW.

    A change at strength 0 adds nothing, and keeps its outputs to itself all the same.
    """
    taken: Tensor | None = None
    kept: list[Thin] = []
    for thin, strength in present:
        up = thin.up.double()
        free = up if taken is None else up - taken @ (taken.mT @ up)
        if strength:
            own = Thin(free.to(thin.up.dtype), thin.down, thin.shape)
            kept.append((own if taken is not None else thin).times(strength))
        basis = spectrum_of(Thin(free, thin.down.double(), thin.shape))
        new = basis.u[:, : basis.effective_rank()]
        taken = new if taken is None else torch.cat([taken, new], 1)
    return add(kept, [1.0] * len(kept)) if kept else None


def _by_entry(thins: Sequence[Thin], recipe: Recipe, random: torch.Generator) -> Thin:
    """An entrywise method in the common directions of all changes, or on the entries of the weight."""
    if not recipe.aligned:
        return dense_thin(BY_ENTRY[recipe.method]([thin.matrix() for thin in thins], recipe, random), thins[0].shape)
    common, own = align(thins)
    merged = BY_ENTRY[recipe.method](own, recipe, random)
    dtype = thins[0].up.dtype
    return Thin(common.to(dtype), merged.to(dtype), thins[0].shape)


def align(thins: Sequence[Thin]) -> tuple[Tensor, list[Tensor]]:
    """KnOTS: the SVD [dW1 | .. | dWn] = U S [V1 .. Vn], from the factors. -> U [out, k], S V_i [k, in] of each, fp64

    With B_i = Q R_i over all ups and A_i^T = Q_i T_i, it is that of the core [R_1 T_1^T | .. | R_n T_n^T], whose sides
    are the sum of the ranks.
    """
    left = torch.linalg.qr(torch.cat([thin.up.double() for thin in thins], 1))
    right = [torch.linalg.qr(thin.down.double().mT) for thin in thins]
    cores = left.R.split([thin.rank for thin in thins], 1)
    u, s, vt = torch.linalg.svd(torch.cat([core @ own.R.mT for core, own in zip(cores, right)], 1), full_matrices=False)
    parts = (s[:, None] * vt).split([own.R.shape[0] for own in right], 1)
    return left.Q @ u, [part @ own.Q.mT for part, own in zip(parts, right)]


def _ties(tasks: Sequence[Tensor], recipe: Recipe, random: torch.Generator) -> Tensor:
    return elect([trim(task, recipe.density) for task in tasks])


def _dare(tasks: Sequence[Tensor], recipe: Recipe, random: torch.Generator) -> Tensor:
    return torch.stack([_dropped(task, recipe.density, random) for task in tasks]).sum(0)


def _dare_ties(tasks: Sequence[Tensor], recipe: Recipe, random: torch.Generator) -> Tensor:
    return elect([_dropped(task, recipe.density, random) for task in tasks])


def _della(tasks: Sequence[Tensor], recipe: Recipe, random: torch.Generator) -> Tensor:
    return elect([_dropped(task, chances(task, recipe.density, recipe.spread), random) for task in tasks])


def trim(task: Tensor, density: float) -> Tensor:
    """The largest entries of a matrix by magnitude, so many that they are this share of it; 0 for the others."""
    count = int(density * task.numel())
    kept = task.abs().flatten().topk(count).indices
    found = torch.zeros_like(task).flatten()
    found[kept] = task.flatten()[kept]
    return found.reshape(task.shape)


def elect(tasks: Sequence[Tensor]) -> Tensor:
    """At each entry the sign of the sum, and the mean of the entries that have it: two that agree are averaged."""
    together = torch.stack(list(tasks))  # [n, out, in]
    sign = torch.where(together.sum(0) >= 0, 1.0, -1.0).to(together)
    agree = together.sign() == sign
    return (together * agree).sum(0) / agree.sum(0).clamp_min(1)


def chances(task: Tensor, density: float, spread: float) -> Tensor:
    """DELLA's chance of being kept: linear in the rank of an entry by magnitude within its row, `density` on average.

    The spread is at most what keeps every chance between 0 and 1.
    """
    width, spread = task.shape[1], min(spread, 2 * density, 2 * (1 - density))
    ranks = task.abs().argsort(1).argsort(1).to(task.dtype)  # 0 is the smallest of the row
    return density + spread * ((ranks + 0.5) / width - 0.5)


def _dropped(task: Tensor, chance: float | Tensor, random: torch.Generator) -> Tensor:
    """The entries that are kept by chance, divided by it, so that the expected value is the entry itself."""
    drawn = torch.rand(task.shape, generator=random, device="cpu", dtype=torch.float32).to(task.device)
    return torch.where(drawn < chance, task / chance, torch.zeros_like(task))


BY_ENTRY: dict[str, Callable[[Sequence[Tensor], Recipe, torch.Generator], Tensor]] = {
    TIES: _ties,
    DARE: _dare,
    DARE_TIES: _dare_ties,
    DELLA: _della,
}
METHODS = (SUM, AVERAGE, SLERP, ORTHOGONAL, *BY_ENTRY)
