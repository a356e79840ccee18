"""A classifier without training: each label is put into sentences, and the label nearest to the picture wins.

Source: Radford et al. 2021 (arXiv 2103.00020), sections 3.1.2 to 3.1.4. A label's point is the mean of the features of
all its sentences, each of length 1, brought to length 1 again (openai/CLIP, notebooks/Prompt_Engineering_for_ImageNet).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..config import OnStep
from . import ranking
from .templates import check_template, fill, template_list

NONE = "none of these"
SENTENCES_AT_ONCE = 16_384  # bounds the memory of a classifier of many labels in many templates

Encode = Callable[[Sequence[str], OnStep], Tensor]  # sentences -> [S, E], rows of length 1


@dataclass(frozen=True)
class Label:
    """A class: the name it is reported by, the words it goes by (its name is the first), and templates of its own that
    stand in the place of the common ones.
    """

    words: tuple[str, ...]
    templates: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.words[0]

    def sentences(self, templates: Sequence[str]) -> list[str]:
        """Every word in every template; `templates` for a label without its own."""
        return [fill(template, word) for word in self.words for template in self.templates or templates]


@dataclass(frozen=True)
class Classification:
    labels: tuple[str, ...]  # N
    probabilities: Tensor  # [B, N], rows sum to 1
    cosine: Tensor  # [B, N], -1..1
    none_of_these: tuple[bool, ...]  # B, whether no label came up to the threshold

    def best(self, row: int = 0) -> str:
        """The most probable label of a picture, or NONE."""
        return NONE if self.none_of_these[row] else self.labels[int(self.probabilities[row].argmax())]

    def ranked(self, row: int = 0, most: int | None = None) -> list[tuple[str, float, float]]:
        """A picture's labels with their probabilities and cosines, the best first."""
        order = self.probabilities[row].argsort(descending=True, stable=True)[:most].tolist()
        shares, cosine = self.probabilities[row].tolist(), self.cosine[row].tolist()
        return [(self.labels[n], shares[n], cosine[n]) for n in order]

    def margin(self, row: int = 0) -> float:
        """By how much the most probable label leads, 0..1: 1 where there is no other."""
        best = self.probabilities[row].topk(min(2, len(self.labels))).values.tolist()
        return best[0] - best[1] if len(best) == 2 else 1.0


def parse_labels(text: str) -> tuple[list[Label], list[str]]:
    """Labels, one a line (or separated by commas where there is one line only); and notes on what was left out.

    `cat | kitten | house cat` is one label with synonyms; `crane => a photo of a {label}, a bird` has its own template,
    several of them set apart by `|`. A template written there keeps the line from being cut at commas.

    Raises:
        ValueError: there are none, or a label's own template has no place for it.
    """
    lines = text.splitlines()
    if sum(bool(line.strip()) for line in lines) == 1 and "=>" not in text:
        lines = text.split(",")
    read = [label for label in map(_label, lines) if label is not None]
    if not read:
        raise ValueError("there are no labels; write one a line, or several in one line with commas between them")
    labels, twice = {}, []
    for label in read:
        if label.name in labels:
            twice.append(label.name)
        labels.setdefault(label.name, label)
    found = list(labels.values())
    return found, [*_named_twice(twice), *_shared_words(found), *_only_one(found)]


def templates_for(labels: Sequence[Label], template: str, chosen_set: str, own: str) -> list[str]:
    """The templates of the labels that have none of their own; see `template_list`.

    Raises:
        ValueError: one has no place for the label, or there are none and a label wants one.
    """
    found = template_list(template, chosen_set, own)
    if not found and not all(label.templates for label in labels):
        raise ValueError(
            "there is no template, so it has no place for the label; write one such as 'a photo of a "
            "{label}', or choose a set of them"
        )
    return found


def class_features(labels: Sequence[Label], templates: Sequence[str], encode: Encode, on_step: OnStep) -> Tensor:
    """The points of the labels, N of them, of length 1. `on_step` is told the sentences done, and all of them.

    -> [N, E]
    """
    counts = [len(label.words) * len(label.templates or templates) for label in labels]
    total, done, points, first = sum(counts), 0, [], 0
    while first < len(labels):
        last, size = first + 1, counts[first]
        while last < len(labels) and size + counts[last] <= SENTENCES_AT_ONCE:
            size += counts[last]
            last += 1
        sentences = [sentence for label in labels[first:last] for sentence in label.sentences(templates)]
        features = encode(sentences, lambda now, _, before=done: on_step(before + now, total))
        points.append(means(features, counts[first:last]))
        done += size
        first = last
        on_step(done, total)
    return torch.cat(points)


def means(features: Tensor, counts: Sequence[int]) -> Tensor:
    """The mean of the first counts[0] rows, of the next counts[1], ...; each of length 1 again. [S, E] -> [N, E]"""
    owner = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    sums = torch.zeros(len(counts), features.shape[1], dtype=features.dtype).index_add_(0, owner, features)
    return F.normalize(sums, dim=-1)


def classify(
    pictures: Tensor,
    points: Tensor,
    labels: Sequence[str],
    scale: float,
    *,
    none_below: float = 0.0,
    none_by: str = "cosine",
) -> Classification:
    """How the labels share each picture: softmax(scale * cosine). A picture whose most probable label has a cosine (or
    a probability, as `none_by` says) under `none_below` is none of these; 0 turns that off.

    The cosine is the measure for that because it does not know of the other labels; probabilities share 100 % among
    them, so that one label can win by far where none fits.

    [B, E] and [N, E], rows of length 1
    """
    cosine = ranking.cosines(pictures, points)  # [B, N]
    shares = ranking.probabilities(cosine, scale)  # [B, N]
    measure = cosine if none_by == "cosine" else shares
    best = measure.gather(1, shares.argmax(1, keepdim=True))[:, 0]
    none = (best < none_below).tolist() if none_below else [False] * len(pictures)
    return Classification(tuple(labels), shares, cosine, tuple(none))


def some_of(notes: Sequence[str], most: int = 20) -> list[str]:
    """The first notes, and how many more there are."""
    more = [f"and {len(notes) - most} more such notes"] if len(notes) > most else []
    return [*notes[:most], *more]


def _label(line: str) -> Label | None:
    """One line; None where there is no word in it."""
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
    """Labels that cannot be told apart well: a word of one is a word of another too."""
    owners: dict[str, str] = {}
    shared = [word for label in labels for word in label.words if owners.setdefault(word, label.name) != label.name]
    return [f"a word of two labels, which makes them alike: {_some(shared)}"] if shared else []


def _only_one(labels: Sequence[Label]) -> list[str]:
    alone = "there is one label only, so its probability is 100 % whatever is in the picture: look at the cosine"
    return [alone] if len(labels) == 1 else []


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return ", ".join(names[:10]) + more
