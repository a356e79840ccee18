"""The pictures that the example workflows load: drawn by the project, of scenes that no training saw."""

import torch
from torch import Generator, Tensor

from .scenes.drawing import draw
from .scenes.scene import BACKGROUNDS, COLOURS, FACTS, SHAPES, SIZES, TEXTURES, TRAINED, Scenes, pair_label

_SIDE_PX = 256
_EXAMPLES = {
    "red_circle.png": ("circle", "red", "plain", "white"),
    "blue_star.png": ("star", "blue", "plain", "gray"),
    "striped_green_heart.png": ("heart", "green", "striped", "white"),
}


def example_pictures() -> dict[str, Tensor]:
    """File name -> picture [256, 256, 3] in 0..1; one large thing in the centre of each."""
    return {name: _picture(number, *facts) for number, (name, facts) in enumerate(_EXAMPLES.items())}


STRIPED = "striped things"  # the folder of pictures and captions that Train LoRA's example learns from
_STRIPED_PX = 64
_BROAD_STRIPES = (0.3, 0.44)  # from one to the next, half a picture is 1: what the bundled autoencoder keeps at 64 px
_STRIPED_COUNT = 20


def striped_things() -> dict[str, tuple[Tensor, str]]:
    """Name without ending -> picture [64, 64, 3] in 0..1 and its caption; each shape twice, on gray."""
    generator = Generator().manual_seed(12)
    order = torch.randperm(len(TRAINED), generator=generator).tolist()
    pairs = [TRAINED[place] for place in order]
    chosen = [pair for n in range(len(SHAPES)) for pair in [one for one in pairs if one[0] == n][:2]][:_STRIPED_COUNT]
    found = {}
    for number, (shape, colour) in enumerate(chosen):
        scene = _scene(SHAPES[shape], tuple(COLOURS)[colour], "striped", "gray")
        drawn = draw(scene, _STRIPED_PX, Generator().manual_seed(1000 + number), periods=_BROAD_STRIPES)
        label = pair_label((shape, colour))
        found[f"striped {label}"] = drawn[0].permute(1, 2, 0), f"a photo of a striped {label}"
    return found


def _picture(seed: int, shape: str, colour: str, texture: str, background: str) -> Tensor:
    scenes = _scene(shape, colour, texture, background)
    return draw(scenes, _SIDE_PX, Generator().manual_seed(seed))[0].permute(1, 2, 0)


def _scene(shape: str, colour: str, texture: str, background: str) -> Scenes:
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
    return Scenes(*(torch.tensor([values[name]]) for name in FACTS))
