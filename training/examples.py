"""The pictures that the example workflows load: drawn by the project, of scenes that no training saw."""

import torch
from torch import Generator, Tensor

from .scenes.drawing import draw
from .scenes.scene import BACKGROUNDS, COLOURS, FACTS, SHAPES, SIZES, TEXTURES, Scenes

_SIDE_PX = 256
_EXAMPLES = {
    "red_circle.png": ("circle", "red", "plain", "white"),
    "blue_star.png": ("star", "blue", "plain", "gray"),
    "striped_green_heart.png": ("heart", "green", "striped", "white"),
}


def example_pictures() -> dict[str, Tensor]:
    """File name -> picture [256, 256, 3] in 0..1; one large thing in the centre of each."""
    return {name: _picture(number, *facts) for number, (name, facts) in enumerate(_EXAMPLES.items())}


def _picture(seed: int, shape: str, colour: str, texture: str, background: str) -> Tensor:
    values = {
        "shape": SHAPES.index(shape),
        "colour": tuple(COLOURS).index(colour),
        "size": SIZES.index("large"),
        "count": 0,
        "column": 1,
        "row": 1,
        "background": tuple(BACKGROUNDS).index(background),
        "texture": TEXTURES.index(texture),
    }
    scenes = Scenes(*(torch.tensor([values[name]]) for name in FACTS))
    return draw(scenes, _SIDE_PX, Generator().manual_seed(seed))[0].permute(1, 2, 0)
