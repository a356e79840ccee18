"""The stand-ins do what the stock nodes do."""

import pytest
import torch

from clip_vae_lora.headless.workflow.folders import Folders
from clip_vae_lora.headless.workflow.scaling import METHODS, scaled
from clip_vae_lora.headless.workflow.stock_nodes import stock_nodes


def call(tmp_path, name, **inputs):
    node_class = stock_nodes(Folders(tmp_path))[name]
    return getattr(node_class(), node_class.FUNCTION)(**inputs)


def test_every_class_has_what_a_v1_class_needs(tmp_path):
    for name, node_class in stock_nodes(Folders(tmp_path)).items():
        assert node_class.__name__ == name and isinstance(node_class.RETURN_TYPES, tuple)
        assert callable(getattr(node_class, node_class.FUNCTION)) and node_class.INPUT_TYPES()["required"]


def test_batches(tmp_path):
    image = torch.rand(3, 4, 5, 3)
    assert call(tmp_path, "ImageFromBatch", image=image, batch_index=1, length=9)[0].equal(image[1:])
    assert call(tmp_path, "ImageFromBatch", image=image, batch_index=99, length=1)[0].equal(image[2:])
    assert call(tmp_path, "RepeatImageBatch", image=image, amount=2)[0].equal(torch.cat([image, image]))
    assert call(tmp_path, "ImageBatch", image1=image, image2=image)[0].shape == (6, 4, 5, 3)
    assert call(tmp_path, "ImageBatch", image1=image, image2=torch.rand(1, 9, 7, 3))[0].shape == (4, 4, 5, 3)


def test_a_colour_is_red_green_blue_from_its_hexadecimal_digits(tmp_path):
    image = call(tmp_path, "EmptyImage", width=3, height=2, batch_size=2, color=0xFF8000)[0]
    assert image.shape == (2, 2, 3, 3) and image[1, 1, 2].allclose(torch.tensor([1, 128 / 255, 0]))


def test_masks(tmp_path):
    (solid,) = call(tmp_path, "SolidMask", value=0.25, width=3, height=2)
    assert solid.equal(torch.full((1, 2, 3), 0.25))
    assert call(tmp_path, "InvertMask", mask=solid)[0].equal(torch.full((1, 2, 3), 0.75))
    steps = torch.tensor([[[0.2, 0.5, 0.7]]])
    assert call(tmp_path, "ThresholdMask", mask=steps, value=0.5)[0].tolist() == [[[0.0, 0.0, 1.0]]]
    image = torch.rand(2, 4, 5, 3)
    assert call(tmp_path, "ImageToMask", image=image, channel="green")[0].equal(image[..., 1])
    with pytest.raises(ValueError, match="no alpha channel"):
        call(tmp_path, "ImageToMask", image=image, channel="alpha")


def test_scaling_keeps_proportions_where_a_side_is_zero_and_a_flat_picture_flat():
    image = torch.full((2, 10, 20, 3), 0.4)
    for method in METHODS:
        for centre in (False, True):
            assert scaled(image, method, 7, 0, centre=centre).shape == (2, 4, 7, 3)  # round(10 * 7 / 20) = round(3.5)
            out = scaled(image, method, 30, 9, centre=centre)
            assert out.shape == (2, 9, 30, 3) and torch.allclose(out, torch.tensor(0.4), atol=1 / 255)
    assert scaled(image, "area", 0, 0, centre=True) is image


def test_centre_cuts_the_same_from_both_sides():
    image = torch.arange(8.0).view(1, 1, 8, 1).expand(1, 4, 8, 3)
    assert scaled(image, "nearest-exact", 4, 4, centre=True)[0, 0, :, 0].tolist() == [2, 3, 4, 5]


def test_any_value_is_shown_as_text(tmp_path):
    for value, text in (("x", "x"), (3, "3"), (None, "None"), (True, "True"), ({"a": "ä"}, '{\n    "a": "ä"\n}')):
        assert call(tmp_path, "PreviewAny", source=value) == {"ui": {"text": (text,)}, "result": (text,)}
    assert "tensor" in call(tmp_path, "PreviewAny", source=torch.zeros(2))["result"][0]
