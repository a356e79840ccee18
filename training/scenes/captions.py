"""Facts -> captions. A caption names some of the facts, and says which: so one knows which other pictures it fits."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from .scene import BACKGROUNDS, COLOURS, COLUMNS, COUNTS, FACTS, ROWS, SHAPES, SIZES, TEXTURES, Scenes

_WRAPS = (
    "{}",
    "a photo of {}",
    "a photo of {}",
    "a picture of {}",
    "a drawing of {}",
    "an image of {}",
    "there is {}",
    "look at {}",
)
_NOUNS = ("shape", "object", "thing")
_CHANCES = {"shape": 0.8, "colour": 0.8, "size": 0.25, "place": 0.25, "background": 0.25}


@dataclass(frozen=True)
class Captions:
    """Texts and the facts that each one names: [B, 8] bool, columns in the order of `FACTS`."""

    texts: tuple[str, ...]
    named: Tensor


def write_captions(
    scenes: Scenes, generator: Generator, *, textures: bool = False, colourless: Tensor | None = None
) -> Captions:
    """One caption for each scene, naming at least its shape or its colour, and a random choice of the rest.

    Args:
        textures: whether "plain", "striped" and "dotted" may be said at all (half of the captions then say it).
        colourless: [B] bool, the captions that must not speak of colour.
    """
    count = len(scenes)
    dice = {key: torch.rand(count, generator=generator) < chance for key, chance in _CHANCES.items()}
    if colourless is not None:
        dice["colour"] &= ~colourless
    dice["shape"] |= ~dice["colour"]
    dice["place"] &= scenes.count == 0
    texture = (torch.rand(count, generator=generator) < 0.5) & textures
    bare = (torch.rand(count, generator=generator) < 0.25) & ~dice["shape"]  # "something red" does not say how many
    named = {
        "shape": dice["shape"],
        "colour": dice["colour"],
        "size": dice["size"] & ~bare,
        "count": ~bare,
        "column": dice["place"],
        "row": dice["place"],
        "background": dice["background"],
        "texture": texture & ~bare,
    }
    table = torch.stack([named[name] for name in FACTS], dim=1)
    picks = torch.randint(24, (count, 2), generator=generator).tolist()
    facts = scenes.table().tolist()
    texts = (
        _text(dict(zip(FACTS, fact)), dict(zip(FACTS, says)), pick)
        for fact, says, pick in zip(facts, table.tolist(), picks)
    )
    return Captions(tuple(texts), table)


def describe(scenes: Scenes) -> tuple[str, ...]:
    """One caption for each scene that names all there is but the texture; the place of single things only."""
    texts = []
    for facts in scenes.table().tolist():
        fact = dict(zip(FACTS, facts))
        single = fact["count"] == 0
        says = {name: name != "texture" and (single or name not in ("column", "row")) for name in FACTS}
        texts.append(_text(fact, says, (0, 1)))
    return tuple(texts)


def fits(captions: Captions, facts: Tensor, shown: Tensor) -> Tensor:
    """Which captions are true of which pictures: all that caption j names is shown, and the same, in picture i.

    facts [B, 8] of the captions' own scenes, shown [B, 8] bool, what the pictures show of them
    -> [pictures B, captions B] bool, true on the diagonal where captions only name what is shown
    """
    same = (facts[:, None] == facts[None]) & shown[:, None]  # [B, B, 8]
    return (same | ~captions.named[None]).all(dim=-1)


def _text(fact: dict[str, int], says: dict[str, bool], pick: Sequence[int]) -> str:
    """One caption; `pick` chooses between phrasings."""
    several = fact["count"] > 0
    colour = tuple(COLOURS)[fact["colour"]]
    if not says["count"]:
        words = ["something", colour]
    else:
        noun = SHAPES[fact["shape"]] if says["shape"] else _NOUNS[pick[0] % len(_NOUNS)]
        words = [SIZES[fact["size"]]] if says["size"] else []
        words += [TEXTURES[fact["texture"]]] if says["texture"] else []
        words += [colour] if says["colour"] else []
        words.append(plural(noun) if several else noun)
        words.insert(0, COUNTS[fact["count"]] if several else _article(words[0], exact=pick[0] % 2 == 0))
    if says["column"]:
        words.append(place(fact["row"], fact["column"]))
    if says["background"]:
        words.append(f"on a {tuple(BACKGROUNDS)[fact['background']]} background")
    return _WRAPS[pick[1] % len(_WRAPS)].format(" ".join(words))


def place(row: int, column: int) -> str:
    """ "at the top left", "in the center"."""
    if ROWS[row] == "middle":
        return "in the center" if COLUMNS[column] == "center" else f"at the {COLUMNS[column]}"
    return f"at the {ROWS[row]}" if COLUMNS[column] == "center" else f"at the {ROWS[row]} {COLUMNS[column]}"


def plural(noun: str) -> str:
    """circle -> circles, cross -> crosses."""
    return noun + ("es" if noun.endswith("s") else "s")


def _article(word: str, exact: bool) -> str:
    """ "an orange ring", and half of the time "a orange ring", which is what a template such as "a {}" makes."""
    return "an" if exact and word[0] in "aeiou" else "a"
