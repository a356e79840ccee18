"""Learning from few labels as a whole: what it reaches on digits, what decides, what is refused."""

import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits

from clip_vae_lora.clip_core.few_labels.learning import Wish, learn
from clip_vae_lora.clip_core.few_labels.methods import METHODS, candidates
from clip_vae_lora.clip_core.few_labels.neighbours import graph_of
from clip_vae_lora.clip_core.few_labels.task import UNLABELLED, Task


@pytest.fixture(scope="module")
def digits():
    found = load_digits()
    return F.normalize(torch.tensor(found.data).float(), dim=-1), torch.tensor(found.target)


def some(truth, each, seed):
    """Labels of `each` pictures of every class."""
    draw = torch.Generator().manual_seed(seed)
    labels = torch.full_like(truth, UNLABELLED)
    for number in range(int(truth.max()) + 1):
        members = (truth == number).nonzero()[:, 0]
        labels[members[torch.randperm(len(members), generator=draw)[:each]]] = number
    return labels


def learned(features, labels, words=None, **wish):
    names = [f"{n}.png" for n in range(len(labels))]
    classes = [str(n) for n in range(max(2, int(labels.max()) + 1))]
    return learn(features, labels, classes, names, words=words, wish=Wish(**wish))


def accuracy(found, truth, labels):
    free = labels == UNLABELLED
    return float((found.probabilities.argmax(1) == truth)[free].double().mean())


@pytest.mark.parametrize(("each", "asked"), [(1, 0.90), (4, 0.94), (16, 0.97)])
def test_digits_are_learned_from_1_4_and_16_labels_of_each(digits, each, asked):
    features, truth = digits
    reached = []
    for seed in range(5):
        labels = some(truth, each, seed)
        reached.append(accuracy(learned(features, labels, method="propagation", held_out=0.0), truth, labels))
    assert sum(reached) / 5 >= asked


@pytest.mark.slow
@pytest.mark.parametrize("each", [1, 4])
def test_what_is_chosen_is_not_a_point_below_the_best_single_method(digits, each):
    features, truth = digits
    labels = some(truth, each, 0)
    single = [
        accuracy(learned(features, labels, method=name, held_out=0.0), truth, labels)
        for name in METHODS
        if name != "zero-shot"
    ]
    assert accuracy(learned(features, labels, held_out=0.0), truth, labels) >= max(single) - 0.01


@pytest.fixture(scope="module")
def clouds():
    """60 pictures around three texts, the truth, and the texts."""
    draw = torch.Generator().manual_seed(3)
    words = F.normalize(torch.randn(3, 8, generator=draw), dim=-1)
    features = F.normalize(words.repeat_interleave(20, 0) + 0.3 * torch.randn(60, 8, generator=draw), dim=-1)
    return features, torch.arange(3).repeat_interleave(20), words


def test_held_out_labels_decide_nothing(clouds):
    """The same is learned where they are not there at all."""
    features, truth, words = clouds
    labels = some(truth, 8, 0)
    found = learned(features, labels, words, held_out=0.25)
    assert len(found.task.held_out) == 6
    hidden = labels.clone()
    hidden[found.task.held_out] = UNLABELLED
    again = learned(features, hidden, words, held_out=0.0)
    assert (again.candidate, again.trials) == (found.candidate, found.trials)
    torch.testing.assert_close(again.probabilities, found.probabilities, rtol=0, atol=0)
    assert found.held_out.count == found.held_out_new.count == found.words.count == 6


def test_the_same_seed_learns_the_same_bits(clouds):
    features, truth, words = clouds
    one, other = (learned(features, some(truth, 4, 1), words, seed=7) for _ in range(2))
    assert torch.equal(one.probabilities, other.probabilities) and one.candidate == other.candidate


def test_good_texts_decide_where_each_class_has_one_label(clouds):
    features, truth, words = clouds
    labels = some(truth, 1, 0)
    noise = F.normalize(torch.randn(60, 8, generator=torch.Generator().manual_seed(1)), dim=-1)
    useless = F.normalize(noise + 0.5 * words[truth], dim=-1)  # whose neighbours tell little
    found = learned(useless, labels, words)
    assert found.is_chosen and accuracy(found, truth, labels) >= accuracy(
        learned(useless, labels, words, method="nearest mean"), truth, labels
    )


def test_one_label_of_each_and_no_texts_leave_nothing_to_choose_by(clouds):
    features, truth, _ = clouds
    found = learned(features, some(truth, 1, 0))
    assert not found.is_chosen and found.candidate.method == "propagation" and found.held_out is None
    assert found.words is None and found.agreement is None


def test_the_order_of_the_pictures_changes_nothing(clouds):
    features, truth, words = clouds
    labels = some(truth, 4, 0)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(0))
    task, other = (
        Task(rows, of_rows, ("a", "b", "c"), graph_of(rows), words)
        for rows, of_rows in ((features, labels), (features[order], labels[order]))
    )
    for candidate in candidates(task):
        logits, head = candidate.fit(task)
        moved, other_head = candidate.fit(other)
        torch.testing.assert_close(moved.softmax(-1), logits[order].softmax(-1), rtol=0, atol=1e-5)
        torch.testing.assert_close(other_head.logits(features), head.logits(features), rtol=1e-3, atol=1e-3)


REFUSED = {
    "one class": ({"labels": [0, 0, -1, -1], "classes": ["cat"]}, "at least two classes were expected"),
    "one label": ({"labels": [0, -1, -1, -1]}, "no labelled picture was found of dog"),
    "no label": ({"labels": [-1, -1, -1, -1]}, "no labelled picture was found of cat, dog"),
    "fewer pictures than classes": (
        {"labels": [0, 1, 2, -1], "classes": list("abcde")},
        "5 classes were given with 4 pictures",
    ),
    "NaN": ({"labels": [0, 1, -1, -1], "nan": 2}, "have NaN .*, c.png for one"),
    "one picture in two folders": (
        {"labels": [0, 1, -1, -1], "copy": (0, 1)},
        "contradict each other: a.png is cat and b.png is dog, but they are the same picture",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_learned_is_one_sentence(case):
    given, sentence = REFUSED[case]
    features = F.normalize(torch.randn(4, 5, generator=torch.Generator().manual_seed(0)), dim=-1)
    if "nan" in given:
        features[given["nan"]] = torch.nan
    if "copy" in given:
        features[given["copy"][1]] = features[given["copy"][0]]
    classes = given.get("classes", ["cat", "dog"])
    with pytest.raises(ValueError, match=sentence):
        learn(features, torch.tensor(given["labels"]), classes, ["a.png", "b.png", "c.png", "d.png"])


def test_zero_shot_without_texts_and_odd_wishes_are_sentences(clouds):
    features, truth, _ = clouds
    with pytest.raises(ValueError, match="needs a text for each class"):
        learned(features, some(truth, 2, 0), method="zero-shot")
    with pytest.raises(ValueError, match="there is no method 'magic' of learning"):
        Wish("magic")
    with pytest.raises(ValueError, match="held-out share"):
        Wish(held_out=1.0)
