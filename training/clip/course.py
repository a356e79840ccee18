"""The course of a CLIP training: which pictures and texts a step sees, what it makes of them, and the validation.

What a step draws (cuts, templates, what dropout drops) depends on its number and the seed alone, whoever computes it
and in how many parts, so that a training that was interrupted goes on to the same bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from ...clip_core.features.preprocess import square_of
from ...lora.weights.inject import resting
from ..distributed import current_group
from ..loop import TrainingError
from .augment import augmented, draw_numbers
from .cached import Side, backward_by_parts
from .data.examples import Example, Prepared
from .data.shards import dealt, lanes_of, one_pass
from .judging import Measured, measured
from .objective import CLASSES, SIGMOID, Factors, Truth, share_of_loss
from .plan import IMAGE, TEXT, ClipPlan
from .targets import BIAS, SCALE, trains
from .towers import Ids, Towers

_MOST_JUDGED = 1024  # pictures in a validation
_MOST_OF_TRAINED = 256  # of those trained on, where none are held out


@dataclass(frozen=True, eq=False)
class _Drawn:
    """What a step looks at. texts: of its pictures, or of all classes. numbers: [B, NUMBERS]. seeds: of each picture
    and each text. counts: how many pictures each process has, None: as even as can be.
    """

    places: list[int]
    texts: list[str]
    numbers: Tensor
    seeds: list[int]
    text_seeds: list[int]
    counts: list[int] | None = None


class ClipCourse:
    """The examples, the model's ids of what is said of them, and what a step makes of both."""

    def __init__(self, towers: Towers, prepared: Prepared, plan: ClipPlan):
        self.towers, self.prepared, self.plan = towers, prepared, plan
        self.places, self.held_out = prepared.held_out(plan.held_out, plan.seed)
        self.order = [place for place in self.places for _ in range(prepared.examples[place].repeats)]
        self._check()
        self._lanes = lanes_of(self.order, [self.examples[place].shard for place in self.order], plan.batch)
        said = sorted(
            {text for one in prepared.examples for text in one.captions} | {t for s in prepared.texts for t in s}
        )
        rows, cut = towers.rows(said)
        self.ids: dict[str, Ids] = dict(zip(said, rows))
        self.cut = {text: tokens for text, tokens in zip(said, cut) if tokens}
        self.shots = _least_in_a_class([prepared.examples[place].label for place in self.places])
        self.steps = plan.steps_for(len(self.order), self.shots)
        self._pass: tuple[int, list[int]] = (-1, [])

    @property
    def examples(self) -> Sequence[Example]:
        """All examples, held out or not, in their order."""
        return self.prepared.examples

    def _check(self) -> None:
        plan, trained = self.plan, [self.examples[place] for place in self.places]
        if plan.batch > len(self.order):
            raise TrainingError(
                f"a batch of {plan.batch} is larger than the data, which has {len(self.order)} pairs to learn from: "
                f"choose a batch of at most {len(self.order)}, or add pictures"
            )
        if plan.loss == CLASSES and any(one.label < 0 for one in self.examples):
            raise TrainingError(
                "the loss is 'classes', and some pictures have a caption but no class: put the pictures of each class "
                "into a folder of its name, or choose the loss 'contrastive'"
            )
        if plan.loss == SIGMOID and BIAS not in dict(self.towers.model.named_parameters()):
            raise TrainingError(
                "the loss is 'sigmoid', whose bias this CLIP does not have: take a SigLIP, or choose 'contrastive'"
            )
        if len({one.text for one in trained}) < 2:
            raise TrainingError(
                "all pictures to learn from have the same text, from which no difference can be learned: hold out "
                "fewer, or add pictures of something else"
            )

    def rows(self, step: int) -> list[int]:
        """The places of a step's examples: passes over all of them follow one another, each in an order of its own,
        which does not know how many processes there are.
        """
        first, found = step * self.plan.batch, []
        for place in range(first, first + self.plan.batch):
            number, within = divmod(place, len(self.order))
            if self._pass[0] != number:
                generator = Generator().manual_seed((self.plan.seed * 1_000_003 + number) % 2**63)
                self._pass = number, one_pass(self._lanes, generator)
            found.append(self._pass[1][within])
        return found

    def loss(self, step: int, generator: Generator) -> Tensor:
        """Leave the gradients of a step's batch in `.grad`, and return its loss; of several processes the share of
        this one. -> [], without gradients
        """
        plan, towers, drawn = self.plan, self.towers, self._drawn(step, generator)
        pixels, size, resize = self.prepared.pictures, towers.size_px, towers.model.config.resize

        def encode(first: int, last: int) -> Tensor:
            some = [(pixels[drawn.places[n]], drawn.numbers[n]) for n in range(first, last)]
            return towers.images(torch.stack([augmented(one, size, resize, by, plan.augmentation) for one, by in some]))

        def encode_texts(first: int, last: int) -> Tensor:
            return towers.texts([self.ids[text] for text in drawn.texts[first:last]])

        images = Side(len(drawn.places), encode, drawn.seeds, towers.device, self._learns(IMAGE), counts=drawn.counts)
        said = Side(
            len(drawn.texts),
            encode_texts,
            drawn.text_seeds,
            towers.device,
            self._learns(TEXT),
            counts=None if plan.loss == CLASSES else drawn.counts,
        )
        truth = self.truth(drawn.places)

        def share(some: Tensor, words: Tensor, rows: Tensor) -> Tensor:
            return share_of_loss(plan.loss, some, words, self.factors, truth, rows)

        return backward_by_parts(images, said, share, plan.at_once, current_group())

    def _drawn(self, step: int, generator: Generator) -> _Drawn:
        """A step's examples with what is drawn for them, each process's own together where shards are shared out."""
        places, is_paired = self.rows(step), self.plan.loss != CLASSES
        chances = torch.rand(max(len(places), len(self.prepared.classes)), generator=generator).tolist()
        texts, numbers = self._texts(places, chances), draw_numbers(len(places), generator)
        seeds = torch.randint(2**62, (len(places) + len(texts),), generator=generator).tolist()
        seeds, text_seeds = seeds[: len(places)], seeds[len(places) :]
        found = dealt([self.examples[place].shard for place in places], self.prepared.shards)
        if found is None:
            return _Drawn(places, texts, numbers, seeds, text_seeds)
        turn, counts = found
        if is_paired:
            texts, text_seeds = [texts[n] for n in turn], [text_seeds[n] for n in turn]
        return _Drawn([places[n] for n in turn], texts, numbers[turn], [seeds[n] for n in turn], text_seeds, counts)

    @property
    def factors(self) -> Factors:
        """The model's factor on cosines, and its bias for the loss that has one."""
        own = dict(self.towers.model.named_parameters())
        return Factors(own[SCALE], own[BIAS] if self.plan.loss == SIGMOID else None)

    def truth(self, places: Sequence[int]) -> Truth:
        """What belongs together among these examples, on the device."""
        some, device = [self.examples[place] for place in places], self.towers.device
        texts = [one.label if self.plan.loss == CLASSES else one.text for one in some]
        return Truth(torch.tensor([one.number for one in some], device=device), torch.tensor(texts, device=device))

    def _texts(self, places: Sequence[int], numbers: Sequence[float]) -> list[str]:
        """What is said this time: a caption of each example, or a sentence for each class, by a number in 0..1."""
        choices = (
            self.prepared.texts if self.plan.loss == CLASSES else [self.examples[place].captions for place in places]
        )
        return [some[int(number * len(some))] for some, number in zip(choices, numbers)]

    def _learns(self, tower: str) -> bool:
        return trains(self.plan, tower) and any(
            one.requires_grad
            for name, one in self.towers.model.named_parameters()
            if name.startswith("text_" if tower == TEXT else "vis")
        )

    def judges(self) -> list[int]:
        """The places of the examples that judge: those held out, or without any some of those trained on."""
        some = self.held_out or self.places[:: max(1, len(self.places) // _MOST_OF_TRAINED)]
        return some if len(some) <= _MOST_JUDGED else some[:: -(-len(some) // _MOST_JUDGED)]

    def measure(self, step: int) -> Measured:
        """Judge the model as it is, on always the same pictures."""
        places, towers, many = self.judges(), self.towers, self.plan.at_once
        with resting(towers.model):
            images = torch.cat([self._squares(places[n : n + many]) for n in range(0, len(places), many)])
            said = [self.ids[self.examples[place].captions[0]] for place in places]
            texts = torch.cat([towers.texts(said[n : n + many]) for n in range(0, len(said), many)])
            classes = self._class_features()
            return measured(step, [self.examples[place] for place in places], images, texts, classes, self)

    def _squares(self, places: Sequence[int]) -> Tensor:
        """The features of pictures as they are looked at otherwise. -> [n, E]"""
        size, resize = self.towers.size_px, self.towers.model.config.resize
        found = [square_of(self.prepared.pictures[place], size, resize).float() / 255 for place in places]
        return self.towers.images(torch.stack(found))

    def _class_features(self) -> Tensor | None:
        """For each class the mean of its sentences. -> [C, E], rows of length 1"""
        if not self.prepared.texts:
            return None
        rows = [self.towers.texts([self.ids[text] for text in some]).mean(0) for some in self.prepared.texts]
        return torch.nn.functional.normalize(torch.stack(rows), dim=-1)

    def facts(self) -> dict[str, str]:
        """The data, for the checkpoint."""
        return {
            "data": self.prepared.digest,
            "pictures": str(len(self.places)),
            "held_out": str(len(self.held_out)),
            "steps": str(self.steps),
        } | ({"lanes": str(len(self._lanes))} if len(self._lanes) > 1 else {})


def _least_in_a_class(labels: Sequence[int]) -> int:
    """The number of pictures of the smallest class; 0 without classes."""
    known = [label for label in labels if label >= 0]
    return min((known.count(label) for label in set(known)), default=0)
