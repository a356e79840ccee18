"""TransCLIP against its equations, written out densely with loops over classes."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from clip_vae_lora.clip_core.few_labels.neighbours import graph_of
from clip_vae_lora.clip_core.few_labels.task import UNLABELLED, Task
from clip_vae_lora.clip_core.few_labels.transductive import transclip


@pytest.fixture(scope="module")
def task():
    """Three clouds of 20 pictures around texts, two labels in each."""
    draw = torch.Generator().manual_seed(3)
    words = F.normalize(torch.randn(3, 8, generator=draw), dim=-1)
    features = F.normalize(words.repeat_interleave(20, 0) + 0.4 * torch.randn(60, 8, generator=draw), dim=-1)
    labels = torch.full((60,), UNLABELLED)
    for number in range(3):
        labels[20 * number : 20 * number + 2] = number
    return Task(features, labels, ("a", "b", "c"), graph_of(features), words, 10.0)


def written_out(task: Task, gamma: float) -> np.ndarray:
    """The assignments after ten rounds; equations of arXiv 2406.01837 in the scaling of its code."""
    x, t = task.features.double().numpy(), task.words.double().numpy()
    labels, n, k = task.labels.numpy(), len(task.labels), 3
    known = labels >= 0
    hot = np.eye(k)[labels[known]]
    y = np.exp(10.0 * x @ t.T)
    y /= y.sum(1, keepdims=True)
    cosine = x @ x.T
    near = np.zeros((n, n))
    for i in range(n):
        for j in task.graph.places[i, :3].tolist():
            near[i, j] = cosine[i, j]
    z = y.copy()
    z[known] = hot
    mu = np.stack([x[labels == c].sum(0) for c in range(k)])
    mu /= np.linalg.norm(mu, axis=1, keepdims=True)
    var = np.full(x.shape[1], 1 / x.shape[1])
    share = np.where(known, gamma * 50 / known.sum(), 1 / (~known).sum())
    for round_ in range(11):
        like = np.stack([-0.5 * ((x - mu[c]) ** 2 / var).sum(1) for c in range(k)], 1)
        for _ in range(5):
            inner = like + 50 / 6 * (near.T @ z + near @ z)
            inner -= inner.max(1, keepdims=True)
            z = y**0.5 * np.exp(inner / 50)
            z /= z.sum(1, keepdims=True)
            z[known] = hot
        if round_ < 10:
            weighted = share[:, None] * z
            mu = weighted.T @ x
            mu /= np.linalg.norm(mu, axis=1, keepdims=True)
            var = sum((weighted[:, c, None] * (x - mu[c]) ** 2).sum(0) for c in range(k)) / weighted.sum()
    return z


@pytest.mark.parametrize("gamma", [0.002, 0.2])
def test_assignments_are_those_of_the_equations(task, gamma):
    logits, _ = transclip(task, gamma)
    free = task.labels == UNLABELLED
    found = logits.softmax(-1)[free]
    torch.testing.assert_close(found, torch.tensor(written_out(task, gamma))[free], rtol=0, atol=1e-5)


def test_the_head_is_the_same_without_the_pull_of_the_neighbours(task):
    """To a constant of each picture, which no softmax sees."""
    logits, head = transclip(task, 0.02)
    alone = transclip(Task(task.features, task.labels, task.classes, _without_edges(task), task.words, 10.0), 0.02)
    new = alone[1].logits(task.features).log_softmax(-1)
    torch.testing.assert_close(new.double(), alone[0].log_softmax(-1), rtol=0, atol=1e-4)
    assert head.kind == "linear"


def _without_edges(task):
    graph = graph_of(task.features)
    return type(graph)(graph.places, torch.zeros_like(graph.cosines))


def test_neighbours_and_texts_mend_what_two_labels_leave_open(task):
    truth = torch.arange(3).repeat_interleave(20)
    free = task.labels == UNLABELLED
    plain = (task.features @ task.words.T).argmax(1)
    found = transclip(task, 0.02)[0].argmax(1)
    assert (found == truth)[free].sum() >= (plain == truth)[free].sum()
