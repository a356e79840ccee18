"""Captions as they are said to the model: a trigger word, shuffled tags, dropped tags, dropped captions.

What is drawn comes from a generator, so that a step's captions depend on its number alone. All variants that can occur
without shuffling are few and can be encoded once; shuffled ones are encoded when they come.
"""

import re
from dataclasses import dataclass

import torch
from torch import Generator

TRIGGER = "[trigger]"  # in a caption: where the trigger word goes
KEEP = "|||"  # tags before it stay where they are


@dataclass(frozen=True)
class CaptionPlan:
    """How captions are varied.

    trigger: a word put in the place of "[trigger]", or in front of captions that do not have it. shuffle: tags (parts
    between commas) change places. drop_tags, drop_whole: chance that a tag, or the whole caption, is left out, 0..1.
    keep: so many tags at the front stay, if a caption has no "|||".
    """

    trigger: str = ""
    shuffle: bool = False
    drop_tags: float = 0.0
    drop_whole: float = 0.0
    keep: int = 0

    def __post_init__(self):
        if not 0 <= self.drop_tags < 1 or not 0 <= self.drop_whole <= 1 or self.keep < 0:
            raise ValueError(
                f"chance to drop a tag {self.drop_tags:g}, a caption {self.drop_whole:g}, tags kept {self.keep}: "
                "expected chances of 0..1 and a number of 0 or more"
            )

    @property
    def varies(self) -> bool:
        """Whether a caption may be said in more ways than as it stands and left out."""
        return self.shuffle or self.drop_tags > 0


def said(caption: str, plan: CaptionPlan, generator: Generator) -> str:
    """The caption as it is said this time; "" where it is left out."""
    if plan.drop_whole and float(torch.rand((), generator=generator)) < plan.drop_whole:
        return ""
    if not plan.varies:
        return with_trigger(caption, plan.trigger)
    fixed, free = _tags(caption, plan.keep)
    if plan.drop_tags:
        stays = torch.rand(len(free), generator=generator) >= plan.drop_tags
        free = [tag for tag, stay in zip(free, stays.tolist()) if stay]
    if plan.shuffle:
        free = [free[place] for place in torch.randperm(len(free), generator=generator).tolist()]
    return with_trigger(", ".join([*fixed, *free]), plan.trigger)


def with_trigger(caption: str, trigger: str) -> str:
    """The caption with the trigger word in its place, or in front of it where it is not there yet.

    >>> with_trigger("a photo of [trigger], outdoors", "sks")
    'a photo of sks, outdoors'
    >>> with_trigger("a dog", "sks"), with_trigger("", "sks"), with_trigger("sks, a dog", "sks")
    ('sks, a dog', 'sks', 'sks, a dog')
    """
    caption = caption.replace(KEEP, ",")
    if TRIGGER in caption:
        return caption.replace(TRIGGER, trigger).strip()
    if not trigger or re.search(rf"(?<!\w){re.escape(trigger)}(?!\w)", caption):
        return caption
    return f"{trigger}, {caption}" if caption else trigger


def without_trigger(text: str, trigger: str, class_word: str) -> str:
    """What was said with the class word in the trigger's place; the class word alone where the trigger is not in it.

    >>> without_trigger("a photo of a sks dog", "sks", "black"), without_trigger("a photo of a sks dog", "sks", "")
    ('a photo of a black dog', 'a photo of a dog')
    >>> without_trigger("sks, at the beach", "sks", "dog"), without_trigger("at the beach", "", "dog")
    ('dog, at the beach', 'dog')
    """
    if not trigger:
        return class_word
    found, count = re.subn(rf"(?<!\w){re.escape(trigger)}(?!\w)", lambda _: class_word, text)
    return " ".join(found.split()).strip(" ,") if count else class_word


def _tags(caption: str, keep: int) -> tuple[list[str], list[str]]:
    """The tags that stay at the front, and the others."""
    front, found, rest = caption.partition(KEEP)
    if found:
        return _split(front), _split(rest)
    tags = _split(caption)
    return tags[:keep], tags[keep:]


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]
