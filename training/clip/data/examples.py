"""Pairs made ready to learn from: what each picture is called, which pictures are copies, and which are held out.

Every picture is opened once before a training begins: so one that is broken is named at the start, copies are found,
and labels that contradict each other are refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ....clip_core.features.search import Forest
from ....clip_core.few_labels.splitting import groups_of, held_out_places
from ....clip_core.judging.templates import PLACE
from ....files.captioned.pairs import Pair, Pairs
from ...loop import TrainingError
from .pictures import OnStep, Pictures, look_at_all
from .shards import notes_on_shards, shard_numbers

_MOST_COMPARED = 100_000  # pictures; the comparison of all pairs grows with their square


@dataclass(frozen=True)
class Example:
    """A picture with what may be said of it. number: equal for pictures of the same pixels. text: equal where the same
    is said: the number of the class, or of the caption. group: of near-duplicates. shard: the number of the archive
    that it lies in, -1 outside of one.
    """

    name: str
    captions: tuple[str, ...]
    label: int  # number of the class, -1 without
    number: int
    text: int
    group: int
    repeats: int = 1
    shard: int = -1


@dataclass(frozen=True, eq=False)
class Prepared:
    """What there is to learn from. classes: names, of examples with a class; texts: for each class the sentences with
    its name. unused: what is not learned from -> why.
    """

    examples: tuple[Example, ...]
    pictures: Pictures
    classes: tuple[str, ...] = ()
    texts: tuple[tuple[str, ...], ...] = ()
    unused: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    copies: int = 0  # pictures that are near-duplicates of another
    digest: str = ""
    shards: int = 0  # archives that the pictures lie in

    def held_out(self, share: float, seed: int) -> tuple[list[int], list[int]]:
        """The places of the examples to learn from, and of those held out: whole groups of near-duplicates, of every
        class its share.
        """
        out = held_out_places([one.label for one in self.examples], [one.group for one in self.examples], share, seed)
        kept = set(out)
        return [place for place in range(len(self.examples)) if place not in kept], out


def prepare_pairs(pairs: Pairs, side_px: int, templates: Sequence[str], on_step: OnStep | None = None) -> Prepared:
    """Open every picture, and number what is the same.

    Args:
        side_px: of the squares that the model looks at.
        templates: sentences with {} for the name of a class; one is drawn each time a picture is seen.

    Raises:
        TrainingError: nothing can be learned from these: no words, one text alone, labels that contradict each other.
    """
    check_templates(templates)
    opened = Pictures(pairs.pairs, side_px)
    looks = look_at_all(pairs, opened, on_step)
    unused = dict(pairs.unused) | {pair.name: look.why for pair, look in zip(pairs.pairs, looks) if look.why}
    used = [place for place, look in enumerate(looks) if not look.why]
    hashes = [looks[place].key for place in used]
    thumbs = [look.thumb for look in looks if look.thumb is not None]
    some = [pairs.pairs[place] for place in used]
    _check_words(some, unused)
    classes = tuple(sorted({pair.label for pair in some if pair.label}))
    _check_labels(some, hashes)
    groups, notes = _groups(hashes, thumbs)
    numbers = shard_numbers(pairs.pairs)
    examples = _examples(some, hashes, groups, [numbers[place] for place in used], classes, templates)
    _check_texts(examples, classes)
    return Prepared(
        tuple(examples),
        opened.some(used),
        classes,
        tuple(_sentences(name, templates) for name in classes),
        unused,
        (*pairs.notes, *notes, *notes_on_shards(max(numbers, default=-1) + 1)),
        len(groups) - len(set(groups)),
        _digest(examples, hashes),
        max(numbers, default=-1) + 1,
    )


def check_templates(templates: Sequence[str]) -> None:
    """Raise TrainingError for a template without a place for the name of a class, or for none at all."""
    if bad := [one for one in templates if not PLACE.search(one)] or ([""] if not templates else []):
        raise TrainingError(
            f"a template with {{}} where the name of a class goes was expected, such as 'a photo of {{}}', and "
            f"{bad[0]!r} came: change it"
        )


def _check_words(some: Sequence[Pair], unused: Mapping[str, str]) -> None:
    if some:
        return
    if unused and all(why == "it has no caption" or why == "no picture" for why in unused.values()):
        raise TrainingError(
            "none of the pictures has a caption: put cat.txt beside cat.png, or the pictures of each class into a "
            "folder of its name"
        )
    name, why = next(iter(unused.items()), ("", "there is none"))
    raise TrainingError(f"no picture can be learned from ({name}: {why}): choose others")


def _check_labels(some: Sequence[Pair], hashes: Sequence[str]) -> None:
    """Raise TrainingError where one picture lies in two classes."""
    known: dict[str, Pair] = {}
    found = [
        (known[key], pair)
        for pair, key in zip(some, hashes)
        if pair.label and known.setdefault(key, pair).label != pair.label
    ]
    if found:
        one, other = found[0]
        raise TrainingError(
            f"the labels contradict each other: {one.name} is {one.label!r} and {other.name} is {other.label!r}, but "
            f"they are the same picture ({len(found)} such pictures): give it one label"
        )


def _check_texts(examples: Sequence[Example], classes: Sequence[str]) -> None:
    """Raise TrainingError where all pictures have the same text, from which nothing can be told."""
    if len({one.text for one in examples}) > 1:
        return
    what = f"only one class, {classes[0]!r}" if classes else f"only one caption, {examples[0].captions[0][:60]!r}"
    raise TrainingError(
        f"all pictures have the same text ({what}), from which no difference can be learned: add pictures of something "
        "else"
    )


def _groups(hashes: Sequence[str], thumbs: Sequence[Tensor]) -> tuple[list[int], list[str]]:
    """The number of each picture's group of near-duplicates, and notes."""
    forest = Forest(len(hashes))
    first: dict[str, int] = {}
    for place, key in enumerate(hashes):
        forest.join(first.setdefault(key, place), place)
    notes = []
    if len(thumbs) <= _MOST_COMPARED:
        for place, group in enumerate(groups_of(torch.stack(list(thumbs))).tolist()):
            forest.join(group, place)
    else:
        notes.append(f"of {len(thumbs):,} pictures only equal ones were looked for, not alike ones")
    return [forest.root(place) for place in range(len(hashes))], notes


def _examples(
    some: Sequence[Pair],
    hashes: Sequence[str],
    groups: Sequence[int],
    shards: Sequence[int],
    classes: Sequence[str],
    templates: Sequence[str],
) -> list[Example]:
    pictures: dict[str, int] = {}
    said: dict[tuple[str, str], int] = {}
    found = []
    for pair, key, group, shard in zip(some, hashes, groups, shards):
        label = classes.index(pair.label) if pair.label else -1
        captions = (pair.caption,) if pair.caption else _sentences(pair.label, templates)
        text = ("class", pair.label) if pair.label else ("caption", " ".join(pair.caption.lower().split()))
        number = pictures.setdefault(key, len(pictures))
        said_number = said.setdefault(text, len(said))
        found.append(Example(pair.name, captions, label, number, said_number, group, pair.repeats, shard))
    return found


def _sentences(name: str, templates: Sequence[str]) -> tuple[str, ...]:
    return tuple(PLACE.sub(lambda _: name, one) for one in templates)


def _digest(examples: Sequence[Example], hashes: Sequence[str]) -> str:
    digest = hashlib.sha256()
    for one, key in zip(examples, hashes):
        digest.update(f"{one.name}\0{one.captions}\0{one.label}\0{one.repeats}\0{key}\0".encode())
    return digest.hexdigest()[:16]
