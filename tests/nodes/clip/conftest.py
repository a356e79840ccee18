"""Pictures and a model for the nodes that judge."""

import math

import pytest

from ...support.judged import STAR, drawn_shapes


@pytest.fixture(scope="module")
def shapes():
    return drawn_shapes()


@pytest.fixture
def model(place):
    return place.node("CVL_LoadCLIPModel").load("bundled/tiny_clip.safetensors")["result"][0]


@pytest.fixture
def broken(shapes):
    """The shapes, the star without numbers."""
    image = shapes.clone()
    image[STAR, 3, 4, 1] = math.nan
    return image
