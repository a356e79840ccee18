"""Nearest mean, cache and probe against scikit-learn and against the formulas, written out."""

import math

import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from clip_vae_lora.clip_core.few_labels.inductive import cache, fitted_regression, nearest_mean, probe, zero_shot
from clip_vae_lora.clip_core.few_labels.neighbours import graph_of
from clip_vae_lora.clip_core.few_labels.task import UNLABELLED, Task


@pytest.fixture(scope="module")
def task():
    """120 digits of 5 classes, 40 of them labelled, with random texts."""
    found = load_digits(n_class=5)
    features = F.normalize(torch.tensor(found.data[:120]).float(), dim=-1)
    labels = torch.tensor(found.target[:120]).masked_fill(torch.arange(120) >= 40, UNLABELLED)
    words = F.normalize(torch.randn(5, 64, generator=torch.Generator().manual_seed(0)), dim=-1)
    return Task(features, labels, tuple("01234"), graph_of(features), words, 20.0)


def without_words(task):
    return Task(task.features, task.labels, task.classes, task.graph, None, task.scale)


@pytest.mark.parametrize("shrink", [0.01, 1.0])
def test_the_probe_without_texts_is_scikit_learns_logistic_regression(task, shrink):
    rows, labels = 20.0 * task.features[:40].double().numpy(), task.labels[:40].numpy()
    theirs = LogisticRegression(C=1 / (40 * shrink), fit_intercept=False, tol=1e-12, max_iter=10_000).fit(rows, labels)
    head = probe(without_words(task), shrink)
    torch.testing.assert_close(head.weights, 20.0 * torch.tensor(theirs.coef_).float(), rtol=0, atol=2e-4)


def test_a_probe_held_fast_is_zero_shot_and_a_free_one_fits_its_labels(task):
    torch.testing.assert_close(probe(task, 1e8).weights, zero_shot(task).weights, rtol=0, atol=1e-4)
    free = probe(task, 1e-6).logits(task.features[:40])
    assert (free.argmax(1) == task.labels[:40]).all()


def test_the_probe_stands_where_its_gradient_is_zero():
    draw = torch.Generator().manual_seed(1)
    rows = torch.randn(12, 6, dtype=torch.float64, generator=draw)
    targets = F.one_hot(torch.arange(12) % 3, 3).double()
    start = torch.randn(3, 6, dtype=torch.float64, generator=draw)
    weights = fitted_regression(rows, targets, start, 0.1)
    slope = ((rows @ weights.T).softmax(-1) - targets).T @ rows / 12 + 0.1 * (weights - start)
    assert slope.abs().max() < 1e-6


def test_the_probe_can_be_learned_in_inference_mode(task):
    with torch.inference_mode():
        inside = probe(Task(task.features * 1, task.labels, task.classes, task.graph, task.words * 1, 20.0), 0.1)
    torch.testing.assert_close(inside.weights, probe(task, 0.1).weights, rtol=0, atol=0)


def test_the_cache_is_tip_adapters_formula_where_classes_have_equally_many_labels(task):
    places = torch.cat([(task.labels == number).nonzero()[:3, 0] for number in range(5)])
    labels = torch.full_like(task.labels, UNLABELLED)
    labels[places] = task.labels[places]
    even = Task(task.features, labels, task.classes, task.graph, task.words, task.scale)
    head = cache(even, 1.17, 5.5)
    for picture, found in zip(task.features[50:54], head.logits(task.features[50:54])):
        expected = 20.0 * task.words @ picture
        for place in places.tolist():
            expected[int(labels[place])] += 1.17 * math.exp(-5.5 * (1 - float(task.features[place] @ picture)))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_copies_of_a_labelled_picture_do_not_make_its_class_win():
    """A class with nine copies of one label judges as it does with one, to the factor all classes share."""
    one, other = F.normalize(torch.tensor([[1.0, 0.2], [0.2, 1.0]]), dim=-1)
    features = torch.stack([*[one] * 9, other, F.normalize(one + other, dim=-1)])
    labels = torch.tensor([0] * 9 + [1, UNLABELLED])
    logits = cache(Task(features, labels, ("a", "b"), graph_of(features)), 1.0, 5.5).logits(features[-1:])
    torch.testing.assert_close(logits[0, 0], logits[0, 1])


def test_the_nearest_mean_is_that_of_the_labelled_pictures(task):
    head = nearest_mean(task)
    for number in range(5):
        members = [place for place in range(40) if int(task.labels[place]) == number]
        mean = sum(task.features[place] for place in members) / len(members)
        torch.testing.assert_close(head.weights[number], 20.0 * mean / mean.norm(), rtol=1e-5, atol=1e-5)
