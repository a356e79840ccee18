"""Methods that learn from pictures without labels, too: label propagation, and TransCLIP.

Each takes a task and a setting, and gives the classes' logits of all its pictures and a head for new ones.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from .heads import LEAST, LinearHead, NeighbourHead
from .inductive import nearest_mean, zero_shot
from .task import Task

SPREAD = 0.99  # how much a picture takes from its neighbours: Zhou et al. 2003, section 4
MOST_KEYS = 20_000  # pictures that a head of neighbours holds
_NEAR = 5  # neighbours that a new picture has
_TOLERANCE, _MOST_ROUNDS = 1e-8, 2000  # of conjugate gradients

_OUTER, _INNER = 10, 5  # rounds of TransCLIP
_CONFIDENT = 8  # pictures of a class from which its mean starts
_PULL = 50.0  # TransCLIP's weight of neighbours and labels against the Gaussians
TRUST = 0.5  # lambda, of the texts
_JOINED = 3  # neighbours that TransCLIP looks at


def propagated(task: Task, trust: float) -> tuple[Tensor, NeighbourHead]:
    """Label propagation: Z = (I - a S)^-1 Y, a picture's shares being its row of Z.

    Y is 1 at a label. Where there are texts, it is `trust` times the zero-shot probabilities at a picture without a
    label, which Zhu, Ghahramani and Lafferty 2003 (section 5) attach as a node of its own to each picture ("dongle").
    Z is found by conjugate gradients, as in ZLaP (arXiv 2404.04072).
    """
    seen = torch.zeros(len(task.features), len(task.classes), dtype=torch.float64, device=task.features.device)
    if trust:
        seen = trust * zero_shot(task).logits(task.features).double().softmax(-1)
    seen[task.known] = task.targets
    found = solved(task.graph.spread, seen, SPREAD).clamp(min=0)
    mass = found.sum(1, keepdim=True)
    even = torch.full_like(found, 1 / len(task.classes))  # of a picture that no label reaches
    shares = torch.where(mass > LEAST, found / mass.clamp(min=LEAST), even)
    return shares.clamp(min=LEAST).log(), _neighbour_head(task, shares)


def solved(spread: Callable[[Tensor], Tensor], right: Tensor, factor: float) -> Tensor:
    """Solve (I - factor * S) Z = right by conjugate gradients, a column at a time, all at once; S, which is symmetric
    with eigenvalues in -1..1, is given as what multiplies with it. [N, C] -> [N, C]
    """
    found, rest = torch.zeros_like(right), right.clone()
    step, before = rest.clone(), rest.square().sum(0)
    stop = before * _TOLERANCE**2
    for _ in range(_MOST_ROUNDS):
        if bool((before <= stop).all()):
            break
        ahead = step - factor * spread(step)
        length = before / (step * ahead).sum(0).clamp(min=1e-300)
        found += length * step
        rest -= length * ahead
        after = rest.square().sum(0)
        step = rest + after / before.clamp(min=1e-300) * step
        before = after
    return found


def _neighbour_head(task: Task, shares: Tensor) -> NeighbourHead:
    """The head with all pictures as keys; of very many, the labelled ones and an even choice of the others."""
    is_key = torch.ones(len(task.features), dtype=torch.bool, device=task.features.device)
    is_key[task.held_out] = False
    keys = is_key.nonzero()[:, 0]
    if len(keys) > MOST_KEYS:
        others = keys[task.labels[keys] < 0]
        step = len(others) / max(1, MOST_KEYS - len(task.known))
        chosen = others[(torch.arange(int(len(others) / step), device=keys.device) * step).long()]
        keys = torch.cat((task.known, chosen)).unique()
    values = shares[keys].float()
    return NeighbourHead(task.features[keys].float(), values, torch.tensor([_NEAR], device="cpu"))


def transclip(task: Task, label_weight: float) -> tuple[Tensor, LinearHead]:
    """TransCLIP: a Gaussian for each class, all with one diagonal variance, whose assignments z agree with the texts
    and with those of near pictures. Labelled pictures keep their label.

    z ~ y^lambda * exp((log p + 50 sum_j w_ij z_j) / 50), with the authors' lambda for labels, 0.5.
    Source: Zanella, Gerin, Ben Ayed 2024 (arXiv 2406.01837), and the code published with it. Without texts y comes
    from the nearest mean. A new picture has no neighbours in the head, whose logits are the Gaussians' and the texts'.
    """
    features, first = task.features.double(), nearest_mean(task) if task.words is None else zero_shot(task)
    prior = TRUST * first.logits(task.features).double().log_softmax(-1)
    z = (prior / TRUST).exp()
    z[task.known] = task.targets
    weight = _weights(task, label_weight)
    means = F.normalize(task.targets.T @ features[task.known], dim=-1)
    means = _filled(means, z, features)
    variance = torch.full((features.shape[1],), 1 / features.shape[1], dtype=torch.float64, device=features.device)
    for round_ in range(_OUTER + 1):
        gaussians = _log_density(features, means, variance)
        z = _assigned(task, z, gaussians, prior)
        if round_ < _OUTER:
            means = F.normalize((weight * z).T @ features, dim=-1)
            variance = _variance(features, z, means, weight)
    logits = prior + gaussians / _PULL + _pulled(task, z)
    return logits, _gaussian_head(first, means, variance)


def _weights(task: Task, label_weight: float) -> Tensor:
    """How much each picture counts for means and variance: 1 / their number, labelled and not. -> [N, 1]"""
    count, known = len(task.labels), len(task.known)
    weight = torch.full((count, 1), 1 / max(1, count - known), dtype=torch.float64, device=task.features.device)
    weight[task.known] = label_weight * _PULL / max(1, known)
    return weight


def _filled(means: Tensor, z: Tensor, features: Tensor) -> Tensor:
    """Means of classes without a label start from the pictures that are most surely theirs."""
    empty = (means.square().sum(1) == 0).nonzero()[:, 0].tolist()
    for number in empty:
        sure = z[:, number].topk(min(_CONFIDENT, len(z)))
        means[number] = F.normalize((sure.values[:, None] * features[sure.indices]).sum(0), dim=-1)
    return means


def _log_density(features: Tensor, means: Tensor, variance: Tensor) -> Tensor:
    """-1/2 sum (x - mean)^2 / variance. [N, E], [C, E], [E] -> [N, C]"""
    scaled = means / variance
    own = (features.square() / variance).sum(1, keepdim=True)
    return features @ scaled.T - 0.5 * (own + (means * scaled).sum(1))


def _variance(features: Tensor, z: Tensor, means: Tensor, weight: Tensor) -> Tensor:
    """The weighted mean of (x - mean)^2 in each dimension, over all pictures and classes. -> [E]"""
    shares = weight * z
    total = (shares.sum(1) @ features.square()) - 2 * ((shares.T @ features) * means).sum(0)
    total += shares.sum(0) @ means.square()
    return (total / shares.sum()).clamp(min=1e-9)


def _assigned(task: Task, z: Tensor, gaussians: Tensor, prior: Tensor) -> Tensor:
    for _ in range(_INNER):
        z = (prior + gaussians / _PULL + _pulled(task, z)).softmax(-1)
        z[task.known] = task.targets
    return z


def _pulled(task: Task, z: Tensor) -> Tensor:
    """The mean of the nearest pictures' assignments, in both directions. [N, C] -> [N, C]"""
    near, cosines = task.graph.places[:, :_JOINED], task.graph.cosines[:, :_JOINED]
    out = (cosines[..., None] * z[near]).sum(1)
    back = torch.zeros_like(z)
    for column in range(near.shape[1]):
        back.index_add_(0, near[:, column], cosines[:, column, None] * z)
    return (out + back) / (2 * max(1, near.shape[1]))


def _gaussian_head(first: LinearHead, means: Tensor, variance: Tensor) -> LinearHead:
    scaled = means / variance
    weights = scaled / _PULL + TRUST * first.weights.double()
    bias = -0.5 * (means * scaled).sum(1) / _PULL + TRUST * first.bias.double()
    return LinearHead(weights.float(), bias.float())
