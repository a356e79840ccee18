"""Methods that learn from the labelled pictures alone: each takes a task and a setting, and gives a head.

Sources: zero-shot, Radford et al. 2021 (arXiv 2103.00020); nearest mean, Snell et al. 2017 (arXiv 1703.05175); cache,
Zhang et al. 2022 (Tip-Adapter, arXiv 2207.09519); the probe from zero-shot weights, Silva-Rodriguez et al. 2024 (CLAP,
arXiv 2312.12730).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .heads import CacheHead, LinearHead
from .task import Task

MOST_ROUNDS = 200  # of L-BFGS


def zero_shot(task: Task) -> LinearHead:
    """The logits are the scaled cosines with the classes' texts."""
    words = _words(task)
    return LinearHead(task.scale * words, words.new_zeros(len(words)))


def nearest_mean(task: Task) -> LinearHead:
    """The logits are the scaled cosines with the means of the classes' labelled pictures."""
    means = task.means()
    return LinearHead(task.scale * means, means.new_zeros(len(means)))


def cache(task: Task, alpha: float, beta: float) -> CacheHead:
    """Tip-Adapter, without training: texts, if there are any, and labelled pictures as keys.

    A class with many labelled pictures would win by their number: its values are 1 / their number, times the mean
    number of a class. With equally many of each that is the paper's formula.
    """
    counts = torch.tensor(task.counts, dtype=torch.float64, device=task.targets.device).clamp(min=1)
    values = task.targets * (len(task.known) / len(task.classes) / counts)
    size = len(task.classes), task.features.shape[1]
    weights = task.features.new_zeros(size) if task.words is None else task.scale * task.words
    sizes = torch.tensor([alpha, beta], dtype=torch.float32, device="cpu")
    return CacheHead(weights.float(), task.features[task.known].float(), values.float(), sizes)


def probe(task: Task, shrink: float) -> LinearHead:
    """Multinomial logistic regression that starts at the zero-shot weights and is held near them; without texts at 0.

    It minimises mean cross-entropy + shrink / 2 * |W - W0|^2, the logits being scale * W f: with W0 = 0 that of
    scikit-learn's LogisticRegression with C = 1 / (n * shrink) on scale * f, without an intercept.
    """
    rows = task.scale * task.features[task.known].double()
    start = torch.zeros(len(task.classes), rows.shape[1], dtype=torch.float64, device=rows.device)
    if task.words is not None:
        start = task.words.double()
    weights = fitted_regression(rows, task.targets, start, shrink)
    return LinearHead((task.scale * weights).float(), torch.zeros(len(weights), device=weights.device))


def fitted_regression(rows: Tensor, targets: Tensor, start: Tensor, shrink: float) -> Tensor:
    """Minimise mean cross-entropy of softmax(rows @ W.T) + shrink / 2 * |W - start|^2 over W by L-BFGS.

    float64 [n, E], [n, C], [C, E] -> [C, E]
    """
    with torch.inference_mode(False), torch.enable_grad():
        rows, targets, start = rows.clone(), targets.clone(), start.clone()
        weights = start.clone().requires_grad_()
        optimiser = torch.optim.LBFGS(
            [weights],
            max_iter=MOST_ROUNDS,
            tolerance_grad=1e-9,
            tolerance_change=1e-12,
            history_size=20,
            line_search_fn="strong_wolfe",
        )

        def closure() -> Tensor:
            optimiser.zero_grad()
            loss = F.cross_entropy(rows @ weights.T, targets) + shrink / 2 * (weights - start).square().sum()
            loss.backward()
            return loss

        optimiser.step(closure)
        return weights.detach()


def _words(task: Task) -> Tensor:
    if task.words is None:
        raise ValueError("zero-shot needs a text for each class, but there is none; give a template, or other methods")
    return task.words.float()
