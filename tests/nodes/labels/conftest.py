"""An index of drawn pictures, some of them in folders of their shape, by the bundled CLIP."""

import json

import pytest
import torch

from clip_vae_lora.files.images import write_png
from clip_vae_lora.training.scenes.drawing import draw
from clip_vae_lora.training.scenes.scene import random_scenes

CLIP = "bundled/tiny_clip.safetensors"
SHAPES = ("circle", "square", "star")  # numbers 0, 1 and 3 of the scenes
PLACES = {0: "circle", 1: "square", 3: "star"}


@pytest.fixture
def clip_model(place):
    return place.node("CVL_LoadCLIPModel").load(CLIP)["result"][0]


def drawn(count, seed=0):
    """Pictures [count, 64, 64, 3], and the shape in each."""
    generator = torch.Generator().manual_seed(seed)
    scenes = random_scenes(count, generator, [(shape, colour) for shape in PLACES for colour in range(6)])
    return draw(scenes, 64, generator).permute(0, 2, 3, 1), [PLACES[shape] for shape in scenes.shape.tolist()]


@pytest.fixture
def folder(place):
    """output/shapes: four pictures of each shape in a folder of its name, 24 more without a label in output/shapes."""
    images, shapes = drawn(60)
    base, counts, free = place.base / "output" / "shapes", dict.fromkeys(SHAPES, 0), 0
    for number, (image, shape) in enumerate(zip(images, shapes)):
        counts[shape] += 1
        if counts[shape] > 4 and free == 24:
            continue
        free += counts[shape] > 4
        path = base / (shape if counts[shape] <= 4 else "") / f"{shape}_{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_png(path, image, {})
    assert min(counts.values()) > 4 and free == 24
    return base


@pytest.fixture
def learn(place, clip_model, folder):
    """Learns from the folder, indexed; gives the results, the last of them as data."""

    def learn(classes="", index="shapes", model=None, **options):
        place.node("CVL_IndexFolder").build(clip_model, "output", "shapes", index)
        options = {"held_out": 0.25, "method": "probe", **options}
        *results, report = place.node("CVL_LearnLabels").learn(model or clip_model, index, classes, **options)["result"]
        return *results, json.loads(report)

    return learn
