"""What is in a drawn picture: facts. Pictures (`drawing.py`) and captions (`captions.py`) are both made from these.

A scene is one kind of thing, once or several times: a shape, a colour, a size, a count, a place, a background, a
texture. A ninth of the (shape, colour) pairs is kept out of training, each shape and each colour being seen in many
other pairs: `HELD_OUT` asks whether the model learned the two words, or only the pairs.
"""

from dataclasses import dataclass, fields

import torch
from torch import Generator, Tensor

SHAPES = ("circle", "square", "triangle", "star", "cross", "ring", "heart", "moon", "diamond", "arrow")
COLOURS = {
    "red": (0.86, 0.08, 0.10),
    "orange": (1.00, 0.52, 0.05),
    "yellow": (0.98, 0.90, 0.10),
    "green": (0.10, 0.60, 0.18),
    "cyan": (0.15, 0.85, 0.90),
    "blue": (0.12, 0.22, 0.88),
    "purple": (0.50, 0.10, 0.62),
    "pink": (1.00, 0.55, 0.75),
    "brown": (0.42, 0.24, 0.10),
}
BACKGROUNDS = {"black": (0.04, 0.04, 0.04), "gray": (0.50, 0.50, 0.50), "white": (0.97, 0.97, 0.97)}
SIZES = ("small", "medium", "large")
COUNTS = ("one", "two", "three", "four")
COLUMNS = ("left", "center", "right")
ROWS = ("top", "middle", "bottom")
TEXTURES = ("plain", "striped", "dotted")
PAIRS = tuple((shape, colour) for shape in range(len(SHAPES)) for colour in range(len(COLOURS)))
HELD_OUT = tuple((shape, (2 * shape + 1) % len(COLOURS)) for shape in range(len(SHAPES)))
TRAINED = tuple(pair for pair in PAIRS if pair not in HELD_OUT)


@dataclass(frozen=True)
class Scenes:
    """The facts of B pictures, each an index into the tuple of its name; [B] int64 each."""

    shape: Tensor
    colour: Tensor
    size: Tensor
    count: Tensor  # 0 is one thing
    column: Tensor
    row: Tensor
    background: Tensor
    texture: Tensor

    def __len__(self) -> int:
        return len(self.shape)

    def table(self) -> Tensor:
        """[B, 8], columns in the order of `FACTS`."""
        return torch.stack([getattr(self, name) for name in FACTS], dim=1)

    def take(self, index: Tensor) -> "Scenes":
        """The scenes at `index`."""
        return Scenes(*(getattr(self, name)[index] for name in FACTS))

    def label(self, index: int) -> str:
        """ "red circle"."""
        return pair_label((int(self.shape[index]), int(self.colour[index])))


FACTS = tuple(field.name for field in fields(Scenes))


FACT_SIZES = tuple(map(len, (SHAPES, COLOURS, SIZES, COUNTS, COLUMNS, ROWS, BACKGROUNDS, TEXTURES)))


def pair_label(pair: tuple[int, int]) -> str:
    """(shape, colour) -> "red circle"."""
    return f"{tuple(COLOURS)[pair[1]]} {SHAPES[pair[0]]}"


def random_scenes(
    count: int,
    generator: Generator,
    pairs: tuple[tuple[int, int], ...] = TRAINED,
    textures: tuple[int, ...] = (0,),
) -> Scenes:
    """`count` scenes: every fact uniform and independent of the others; (shape, colour) uniform over `pairs`.

    Args:
        pairs: TRAINED, HELD_OUT or PAIRS.
        textures: indices into TEXTURES to choose from; only plain by default.
    """

    def index(size: int) -> Tensor:
        return torch.randint(size, (count,), generator=generator)

    chosen = torch.tensor(pairs)[index(len(pairs))]  # [B, 2]
    return Scenes(
        shape=chosen[:, 0],
        colour=chosen[:, 1],
        size=index(len(SIZES)),
        count=index(len(COUNTS)) * index(2),
        column=index(len(COLUMNS)),
        row=index(len(ROWS)),
        background=index(len(BACKGROUNDS)),
        texture=torch.tensor(textures)[index(len(textures))],
    )
