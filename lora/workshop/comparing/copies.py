"""Copies in a folder: files whose change is the same, the same at another strength, or nearly so, whatever their names.

A file becomes a short sketch, P^T dW Q of random P and Q for each weight, whose inner products estimate those of the
changes (Johnson and Lindenstrauss 1984). A thousand files are compared in a second; who is close is then compared
exactly.
"""

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...models.match import key_of
from ...models.places import Place, Slice
from ..algebra import norm_of
from ..gathering import Gathered, thins_at

_SIDE = 48  # the error of a cosine is about 1 / 48
CLOSE = 0.75  # cosines of sketches from here on are looked at exactly


@dataclass(frozen=True, eq=False)
class Sketch:
    """A file's change in short: `values` [48 * 48], fp64; its squared norm; how many of its modules are not in it."""

    name: str
    values: Tensor
    squares: float
    left_out: int


def sketch_of(gathered: Gathered) -> Sketch:
    """The sketch of the only file in a gathering."""
    total, squares = torch.zeros(_SIDE, _SIDE, dtype=torch.float64, device="cpu"), 0.0
    for place, shape in gathered.shapes.items():
        (thin,) = thins_at(gathered, place, None, torch.float64)
        if thin is None:
            continue
        left, right = _probes(gathered, place, shape)
        total += (left.mT @ thin.up.cpu()) @ (thin.down.cpu() @ right)
        squares += norm_of(thin) ** 2
    source = gathered.sources[0]
    return Sketch(source.name, total.flatten() / _SIDE, squares, len(gathered.left_out.get(source.name, {})))


def _probes(gathered: Gathered, place: Place, shape: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The random matrices of a weight, the same for every file; rows of a weight have the rows of its matrix.

    -> [out, 48], [in * kh * kw, 48]
    """
    key, out, columns = key_of(place), shape[0], math.prod(shape[1:])
    known = gathered.layout is not None and key in gathered.layout.shapes
    whole = gathered.layout.shapes[key][0] if known and gathered.layout is not None else out
    random = torch.Generator("cpu").manual_seed(zlib.crc32(f"{key} {whole} {columns}".encode()))
    left = torch.randn(whole, _SIDE, generator=random, device="cpu", dtype=torch.float64)
    right = torch.randn(columns, _SIDE, generator=random, device="cpu", dtype=torch.float64)
    return (left.narrow(*place.rows) if isinstance(place, Slice) else left), right


def close_pairs(sketches: Sequence[Sketch], least: float = CLOSE) -> list[tuple[int, int, float]]:
    """The pairs whose estimated cosine is that large, closest first; a file that changes nothing is close to none."""
    if len(sketches) < 2:
        return []
    values = torch.stack([one.values for one in sketches])
    sizes = values.norm(dim=1)  # of the sketches themselves, so that a copy's cosine is 1 and no estimate
    cosines = (values @ values.mT) / (sizes[:, None] * sizes).clamp_min(1e-300)
    found = [
        (i, j, cosines[i, j].item())
        for i in range(len(sketches))
        for j in range(i + 1, len(sketches))
        if abs(cosines[i, j].item()) >= least
    ]
    return sorted(found, key=lambda one: -abs(one[2]))
