"""Zero-shot classification: each label is put into sentences, and the label nearest to the picture wins.

Source: Radford et al. 2021 (arXiv 2103.00020), sections 3.1.2 to 3.1.4. The features of a label are the mean of its
sentences' features, each of length 1, normalised again (openai/CLIP, notebooks/Prompt_Engineering_for_ImageNet).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..config import OnStep
from . import ranking
from .json_list import json_list
from .templates import check_template, fill, template_list

NONE = "none of these"
ONLY_ONE = "there is one label only, so its probability is 100 % whatever is in the picture: look at the cosine"
SENTENCES_AT_ONCE = 16_384  # bounds the memory of many labels in many templates

Encode = Callable[[Sequence[str], OnStep], Tensor]  # sentences -> [S, E], rows of length 1


@dataclass(frozen=True)
class Label:
    """A class: its synonyms, the first of which is its name in reports, and its own templates, which replace the common
    ones.
    """

    words: tuple[str, ...]
    templates: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.words[0]

    def sentences(self, templates: Sequence[str]) -> list[str]:
        """Each word in each template. `templates` are the common ones, for a label without its own."""
        return [fill(template, word) for word in self.words for template in self.templates or templates]


@dataclass(frozen=True)
class Classification:
    """The scores of B pictures for N labels."""

    labels: tuple[str, ...]  # N
    probabilities: Tensor  # [B, N] in 0..1; rows sum to 1, but a SigLIP's, whose labels are judged one by one
    cosine: Tensor  # [B, N], -1..1
    none_of_these: tuple[bool, ...]  # B, whether the best label stays below the threshold

    def best(self, row: int = 0) -> str:
        """The most probable label of a picture, or NONE."""
        return NONE if self.none_of_these[row] else self.labels[int(self.probabilities[row].argmax())]

    def ranked(self, row: int = 0, most: int | None = None) -> list[tuple[str, float, float]]:
        """A picture's labels with their probabilities and cosines, the best first."""
        order = self.probabilities[row].argsort(descending=True, stable=True)[:most].tolist()
        shares, cosine = self.probabilities[row].tolist(), self.cosine[row].tolist()
        return [(self.labels[n], shares[n], cosine[n]) for n in order]

    def margin(self, row: int = 0) -> float:
        """The probability of the best label less that of the second, 0..1; 1 for a single label."""
        best = self.probabilities[row].topk(min(2, len(self.labels))).values.tolist()
        return best[0] - best[1] if len(best) == 2 else 1.0


def parse_labels(text: str) -> tuple[list[Label], list[str]]:
    """Parse labels, one a line, or all on one line with commas between them, or a JSON list; with notes on labels left
    out.

    `cat | kitten | house cat` is one label with synonyms; `crane => a photo of a {label}, a bird` has its own template,
    or several with `|` between them. A line with a template of its own is not cut at commas.

    Raises:
        ValueError: there are no labels, or a label's own template has no {label}.
    """
    listed, notes = json_list(text)
    lines = text.splitlines() if listed is None else listed
    if listed is None and sum(bool(line.strip()) for line in lines) == 1 and "=>" not in text:
        lines = text.split(",")
    parsed = [label for label in map(_parse_label, lines) if label is not None]
    if not parsed:
        raise ValueError("there are no labels; write one a line, or several in one line with commas between them")
    labels: dict[str, Label] = {}
    twice = []
    for label in parsed:
        if label.name in labels:
            twice.append(label.name)
        labels.setdefault(label.name, label)
    found = list(labels.values())
    return found, [*notes, *_named_twice(twice), *_shared_words(found), *_only_one(found)]


def templates_for(labels: Sequence[Label], template: str, chosen_set: str, own: str) -> list[str]:
    """The common templates, for labels without their own; see `template_list`.

    Raises:
        ValueError: a template has no {label}, or there is none and a label needs one.
    """
    found = template_list(template, chosen_set, own)
    if not found and not all(label.templates for label in labels):
        raise ValueError(
            "there is no template, so it has no place for the label; write one such as 'a photo of a "
            "{label}', or choose a set of them"
        )
    return found


def class_features(labels: Sequence[Label], templates: Sequence[str], encode: Encode, on_step: OnStep) -> Tensor:
    """Encode N labels. `on_step` is called with (sentences done, sentences in all).

    -> [N, E], rows of length 1
    """
    counts = [len(label.words) * len(label.templates or templates) for label in labels]
    total, done, parts, first = sum(counts), 0, [], 0

    def report_from(before: int) -> OnStep:
        return lambda now, _: on_step(before + now, total)

    # Labels go through the encoder in batches of whole labels with a bounded number of sentences.
    while first < len(labels):
        last, size = first + 1, counts[first]
        while last < len(labels) and size + counts[last] <= SENTENCES_AT_ONCE:
            size += counts[last]
            last += 1
        sentences = [sentence for label in labels[first:last] for sentence in label.sentences(templates)]
        features = encode(sentences, report_from(done))
        parts.append(means(features, counts[first:last]))
        done += size
        first = last
        on_step(done, total)
    return torch.cat(parts)


def means(features: Tensor, counts: Sequence[int]) -> Tensor:
    """The mean of the first counts[0] rows, of the next counts[1], ..., each normalised again. [S, E] -> [N, E]"""
    owner = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    sums = torch.zeros(len(counts), features.shape[1], dtype=features.dtype).index_add_(0, owner, features)
    return F.normalize(sums, dim=-1)


def classify(
    pictures: Tensor,
    classes: Tensor,
    labels: Sequence[str],
    scale: float,
    *,
    bias: float | None = None,
    none_below: float = 0.0,
    none_by: str = "cosine",
) -> Classification:
    """Classify pictures: each label's probability is its share in softmax(scale * cosine), or for a SigLIP, which has a
    bias, sigmoid(scale * cosine + bias).

    Args:
        pictures: features [B, E], rows of length 1.
        classes: features of the labels [N, E], rows of length 1, from `class_features`.
        labels: their names.
        scale: the model's factor on cosines, or another.
        bias: what a SigLIP adds; None: a softmax.
        none_below: a picture whose best label stays below this is none of these; 0 turns that off.
        none_by: the measure for it, "cosine" or "probability". A cosine does not depend on the other labels;
            probabilities share 100 % among them, so one label can win by far although none fits.

    Returns:
        probabilities and cosines of all labels for each picture.

    Raises:
        ValueError: there is no such measure.

    >>> pictures, classes = torch.eye(2), torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    >>> found = classify(pictures, classes, ["cat", "dog"], scale=100.0, none_below=0.9)
    >>> found.best(0), found.best(1), found.ranked(1, 1)[0][0]
    ('cat', 'none of these', 'dog')
    """
    cosine = ranking.cosines(pictures, classes)  # [B, N]
    shares = ranking.Logits(scale, bias).shares(cosine)  # [B, N]
    return classified(shares, cosine, labels, none_below, none_by)


def classified(
    shares: Tensor, cosine: Tensor, labels: Sequence[str], none_below: float = 0.0, none_by: str = "cosine"
) -> Classification:
    """Make an answer of probabilities and cosines, [B, N] each; the rest as in `classify`.

    Raises:
        ValueError: there is no such measure.
    """
    if none_by not in ranking.KINDS:
        raise ValueError(f"there is no measure {none_by!r}; choose one of {', '.join(ranking.KINDS)}")
    measure = cosine if none_by == ranking.COSINE else shares
    best = measure.gather(1, shares.argmax(1, keepdim=True))[:, 0]
    none = (best < none_below).tolist() if none_below else [False] * len(shares)
    return Classification(tuple(labels), shares, cosine, tuple(none))


def some_of(notes: Sequence[str], most: int = 20) -> list[str]:
    """The first notes, and one with the number of the others."""
    more = [f"and {len(notes) - most} more such notes"] if len(notes) > most else []
    return [*notes[:most], *more]


def _parse_label(line: str) -> Label | None:
    """Parse one line; None for a line without a word."""
    words, arrow, own = line.partition("=>")
    templates = _parts(own)
    found = _parts(words)
    if not found:
        return None
    for template in templates:
        check_template(template)
    return Label(found, templates)


def _parts(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.strip() for part in text.split("|") if part.strip()))


def _named_twice(names: Sequence[str]) -> list[str]:
    return [f"named more than once, counted once: {_some(list(dict.fromkeys(names)))}"] if names else []


def _shared_words(labels: Sequence[Label]) -> list[str]:
    """A note on labels that are hard to distinguish, because they share a word."""
    owners: dict[str, str] = {}
    shared = [word for label in labels for word in label.words if owners.setdefault(word, label.name) != label.name]
    return [f"a word of two labels, which makes them alike: {_some(shared)}"] if shared else []


def _only_one(labels: Sequence[Label]) -> list[str]:
    return [ONLY_ONE] if len(labels) == 1 else []


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return ", ".join(names[:10]) + more
