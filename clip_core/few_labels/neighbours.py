"""The graph of nearest neighbours, in which labels travel from picture to picture.

Each picture is joined with the k that have the largest cosine, in either direction; the weight is the cosine, none
below 0. Sources: Zhou et al. 2003 (Learning with Local and Global Consistency) for the normalisation, Stojnic et al.
2024 (ZLaP, arXiv 2404.04072) for k = 5 and the symmetric graph on features of CLIP.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ..config import OnStep
from ..features.search import nearest

NEIGHBOURS = 5
_AT_ONCE = 2048  # pictures whose neighbours are sought together


@dataclass(frozen=True)
class Graph:
    """The k nearest neighbours of N pictures, the nearest first."""

    places: Tensor  # int64 [N, k]
    cosines: Tensor  # float64 [N, k]

    @cached_property
    def weights(self) -> Tensor:
        """The symmetric weights: that of a pair is the larger of its two directions. -> sparse float64 [N, N]"""
        return _symmetric(self.places, self.cosines.clamp(min=0))

    @cached_property
    def degrees(self) -> Tensor:
        """The sum of each row of the weights. -> float64 [N]"""
        return self.weights.sum(1).to_dense()

    def spread(self, values: Tensor) -> Tensor:
        """Multiply with D^-1/2 W D^-1/2. A picture without neighbours gets zeros. float64 [N, C] -> [N, C]"""
        root = self.degrees.clamp(min=1e-12).rsqrt()[:, None]
        return root * torch.sparse.mm(self.weights, root * values)


def graph_of(features: Tensor, neighbours: int = NEIGHBOURS, on_step: OnStep | None = None) -> Graph:
    """Find the nearest neighbours of every picture among the others, exactly. Rows have length 1. [N, E]"""
    count = min(neighbours, len(features) - 1)
    places, cosines = [], []
    for start in range(0, len(features), _AT_ONCE):
        queries = features[start : start + _AT_ONCE]
        hits = nearest([features], queries, count + 1)
        own = torch.arange(start, start + len(queries), device=hits.rows.device)[:, None]
        order = (hits.rows == own).long().argsort(dim=1, stable=True)[:, :count]  # itself last, wherever it came
        places.append(hits.rows.gather(1, order))
        cosines.append(hits.scores.gather(1, order).double())
        if on_step is not None:
            on_step(start + len(queries), len(features))
    return Graph(torch.cat(places), torch.cat(cosines))


def _symmetric(places: Tensor, values: Tensor) -> Tensor:
    size = len(places)
    rows = torch.arange(size, device=places.device)[:, None].expand_as(places).reshape(-1)
    columns, weights = places.reshape(-1), values.reshape(-1)
    low, high = torch.minimum(rows, columns), torch.maximum(rows, columns)
    pairs, number = torch.unique(low * size + high, return_inverse=True)
    most = torch.zeros(len(pairs), dtype=values.dtype, device=values.device)
    most = most.scatter_reduce(0, number, weights, "amax", include_self=False)
    one, other = pairs // size, pairs % size
    ends = torch.stack((torch.cat((one, other)), torch.cat((other, one))))
    both = torch.cat((most, most))
    return torch.sparse_coo_tensor(ends, both, (size, size), check_invariants=True).coalesce()
