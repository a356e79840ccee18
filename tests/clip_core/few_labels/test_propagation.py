"""Label propagation and its graph against scikit-learn and against dense algebra."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.neighbors import NearestNeighbors
from sklearn.semi_supervised import LabelSpreading

from clip_vae_lora.clip_core.few_labels.heads import LEAST
from clip_vae_lora.clip_core.few_labels.neighbours import graph_of
from clip_vae_lora.clip_core.few_labels.task import UNLABELLED, Task
from clip_vae_lora.clip_core.few_labels.transductive import SPREAD, propagated, solved


@pytest.fixture(scope="module")
def digits():
    """300 digits, 30 of them labelled, with random texts."""
    found = load_digits()
    features = F.normalize(torch.tensor(found.data[:300]).float(), dim=-1)
    labels = torch.tensor(found.target[:300]).masked_fill(torch.arange(300) >= 30, UNLABELLED)
    words = F.normalize(torch.randn(10, 64, generator=torch.Generator().manual_seed(0)), dim=-1)
    return Task(features, labels, tuple("0123456789"), graph_of(features), words, 20.0)


def test_neighbours_are_those_that_scikit_learn_finds(digits):
    rows = digits.features.double().numpy()
    near = NearestNeighbors(n_neighbors=6, metric="cosine", algorithm="brute").fit(rows)
    distances, places = near.kneighbors(rows)
    assert (digits.graph.places.numpy() == places[:, 1:]).all()
    np.testing.assert_allclose(digits.graph.cosines.numpy(), 1 - distances[:, 1:], atol=1e-6)  # float32 of the search


def test_a_picture_is_never_its_own_neighbour_even_among_copies():
    copies = F.normalize(torch.ones(4, 3), dim=-1).repeat(2, 1)
    assert not (graph_of(copies).places == torch.arange(8)[:, None]).any()


def test_weights_are_symmetric_and_the_larger_of_both_directions(digits):
    dense = torch.zeros(300, 300, dtype=torch.float64)
    dense.scatter_(1, digits.graph.places, digits.graph.cosines)
    torch.testing.assert_close(digits.graph.weights.to_dense(), torch.maximum(dense, dense.T), rtol=0, atol=0)


def test_shares_are_those_of_scikit_learns_label_spreading(digits):
    weights = digits.graph.weights.to_dense().numpy()
    theirs = LabelSpreading(kernel=lambda one, other: weights, alpha=SPREAD, max_iter=100_000, tol=1e-12)
    theirs.fit(digits.features.numpy(), digits.labels.numpy())
    shares = propagated(digits, 0.0)[0].exp()
    torch.testing.assert_close(shares, torch.tensor(theirs.label_distributions_), rtol=0, atol=1e-6)


def test_texts_are_nodes_beside_the_pictures_without_a_label(digits):
    """As one graph with a node more for each such picture would be solved, densely."""
    spread = digits.graph.spread(torch.eye(300, dtype=torch.float64))
    seen = 0.3 * (20.0 * digits.features @ digits.words.T).double().softmax(-1)
    seen[:30] = F.one_hot(digits.labels[:30], 10).double()
    expected = torch.linalg.solve(torch.eye(300, dtype=torch.float64) - SPREAD * spread, seen)
    expected /= expected.sum(1, keepdim=True)
    torch.testing.assert_close(propagated(digits, 0.3)[0].exp(), expected, rtol=0, atol=1e-6)


def test_a_picture_that_no_label_reaches_has_even_shares():
    apart = F.normalize(torch.tensor([[1.0, 0, 0], [1, 0.1, 0], [0, 0, 1], [0, 0.01, 1], [0, 0.02, 1]]), dim=-1)
    labels = torch.tensor([0, 1, UNLABELLED, UNLABELLED, UNLABELLED])
    shares = propagated(Task(apart, labels, ("a", "b"), graph_of(apart, 1)), 0.0)[0].exp()
    torch.testing.assert_close(shares[2:], torch.full((3, 2), 0.5, dtype=torch.float64))


def test_conjugate_gradients_solve_what_a_dense_solver_does():
    draw = torch.Generator().manual_seed(0)
    square = torch.randn(40, 40, dtype=torch.float64, generator=draw)
    symmetric = (square + square.T) / torch.linalg.eigvalsh(square + square.T).abs().max()
    right = torch.randn(40, 3, dtype=torch.float64, generator=draw)
    right[:, 2] = 0  # a class that nobody speaks for
    found = solved(lambda values: symmetric @ values, right, 0.99)
    expected = torch.linalg.solve(torch.eye(40, dtype=torch.float64) - 0.99 * symmetric, right)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_the_head_gives_a_new_picture_the_weighted_mean_of_its_neighbours_shares(digits):
    logits, head = propagated(digits, 0.0)
    shares, new = logits.exp(), F.normalize(torch.rand(7, 64, generator=torch.Generator().manual_seed(1)), dim=-1)
    for picture, found in zip(new, head.logits(new).exp()):
        cosines = digits.features @ picture
        near = cosines.argsort(descending=True)[:5]
        expected = (cosines[near, None] * shares[near]).sum(0) / cosines[near].sum()
        torch.testing.assert_close(found, expected.float().clamp(min=LEAST), rtol=1e-4, atol=1e-6)


def test_held_out_pictures_are_no_keys_of_the_head(digits):
    task = Task(digits.features, digits.labels, digits.classes, digits.graph, held_out=torch.tensor([100, 200]))
    keys = propagated(task, 0.0)[1].keys
    assert len(keys) == 298 and not (keys @ digits.features[[100, 200]].T >= 1 - 1e-6).any()
