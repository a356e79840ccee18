"""The ResNet image encoders: against a second writing of the published formula, and by their own laws."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from clip_vae_lora.clip_core.checkpoint.find import LayoutError, find_clip
from clip_vae_lora.clip_core.config import (
    PUBLISHED,
    CLIPConfig,
    ResNetConfig,
    TextConfig,
    from_metadata,
    to_metadata,
    with_activation,
)
from clip_vae_lora.clip_core.networks.clip import CLIP, initialise_
from clip_vae_lora.clip_core.networks.layers import UNFILLED

from ...support.files.clip_files import flat, under

SMALL = ResNetConfig(width=8, blocks=(1, 2, 1, 1), heads=4, image_px=64, embed=16)
TEXT = TextConfig(32, 2, 2, 64, 16)
RESNETS = [name for name, config in PUBLISHED.items() if isinstance(config.vision, ResNetConfig)]


def seeded(config: ResNetConfig) -> CLIP:
    """Random, its variances between a half and three halves."""
    network, draw = CLIP(CLIPConfig(TEXT, config)).eval(), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            noise = torch.randn(tensor.shape, generator=draw)
            fan_in = tensor[0].numel() if tensor.ndim > 1 else 1
            tensor.copy_(noise * fan_in**-0.5 if tensor.ndim > 1 else 0.1 * noise)
            if tensor.ndim == 1 and not name.endswith(("bias", "running_mean")):
                tensor.copy_(0.5 + torch.rand(tensor.shape, generator=draw))
    return network


def pictures(config: ResNetConfig) -> torch.Tensor:
    return torch.randn(2, 3, config.image_px, config.image_px, generator=torch.Generator().manual_seed(1))


def openai_names(network: CLIP) -> dict[str, torch.Tensor]:
    state = network.state_dict()
    text = flat({name: tensor for name, tensor in state.items() if name.startswith("text_")}, "text")
    image = {
        name.replace("visual_projection", "visual.attnpool.c_proj").replace("vision_model", "visual"): tensor
        for name, tensor in state.items()
        if name.startswith("vis")
    }
    return text | image | {"logit_scale": state["logit_scale"]}


def reference(tensors: dict[str, torch.Tensor], x: torch.Tensor, heads: int) -> torch.Tensor:
    """The formula of openai/CLIP clip/model.py in plain functions, written against its tensor names."""

    def norm(x, at):
        parts = (tensors[f"visual.{at}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, *parts)

    def conv(x, at, **how):
        return F.conv2d(x, tensors[f"visual.{at}.weight"], **how)

    for number in "123":
        x = norm(conv(x, f"conv{number}", stride=2 if number == "1" else 1, padding=1), f"bn{number}").relu()
    x = F.avg_pool2d(x, 2)
    blocks = {tuple(name.split(".")[1:3]) for name in tensors if name.startswith("visual.layer")}
    for stage, block in sorted(blocks):
        at, shrink = f"{stage}.{block}", 2 if stage != "layer1" and block == "0" else 1
        y = norm(conv(x, f"{at}.conv1"), f"{at}.bn1").relu()
        y = F.avg_pool2d(norm(conv(y, f"{at}.conv2", padding=1), f"{at}.bn2").relu(), shrink)
        y = norm(conv(y, f"{at}.conv3"), f"{at}.bn3")
        if f"visual.{at}.downsample.0.weight" in tensors:
            x = norm(conv(F.avg_pool2d(x, shrink), f"{at}.downsample.0"), f"{at}.downsample.1")
        x = (x + y).relu()
    x = x.flatten(2).permute(2, 0, 1)
    pool = {name.removeprefix("visual.attnpool."): tensor for name, tensor in tensors.items() if "attnpool" in name}
    x = torch.cat([x.mean(0, keepdim=True), x]) + pool["positional_embedding"][:, None]
    biases = torch.cat([pool["q_proj.bias"], pool["k_proj.bias"], pool["v_proj.bias"]])
    weights = {f"{name}_proj_weight": pool[f"{name}_proj.weight"] for name in "qkv"}
    mixed, _ = F.multi_head_attention_forward(
        x[:1],
        x,
        x,
        x.shape[-1],
        heads,
        None,
        biases,
        None,
        None,
        False,
        0.0,
        pool["c_proj.weight"],
        pool["c_proj.bias"],
        training=False,
        need_weights=False,
        use_separate_proj_weight=True,
        **weights,
    )
    return mixed[0]


@pytest.mark.parametrize("blocks", [(1, 1, 1, 1), (2, 1, 3, 2)])
def test_it_is_the_published_formula(blocks):
    config = replace(SMALL, blocks=blocks)
    network = seeded(config)
    with torch.no_grad():
        ours = network.image_features(pictures(config))
        theirs = reference(openai_names(network), pictures(config), config.heads)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)  # float32 sums in another order


def test_hidden_states_are_counted_as_in_a_transformer():
    network, pixels = seeded(SMALL), pictures(SMALL)
    with torch.no_grad():
        by_layer = {layer: network.encode_image(pixels, layer).hidden for layer in (None, 0, 1, 2, 3, 4, -1, -2)}
    shapes = [list(by_layer[layer].shape[1:]) for layer in range(5)]
    assert shapes == [[256, 8], [256, 32], [64, 64], [16, 128], [4, 256]]
    assert by_layer[None].equal(by_layer[4]) and by_layer[-1].equal(by_layer[4]) and by_layer[-2].equal(by_layer[3])
    with pytest.raises(ValueError, match="layer 5 was asked for, but this encoder has layers -5 to 4"):
        network.encode_image(pixels, 5)


def test_a_picture_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"takes pixels of shape \[B, 3, 64, 64\] and got \[1, 3, 32, 32\]"):
        seeded(SMALL).encode_image(torch.zeros(1, 3, 32, 32))


def test_norms_keep_their_precision_in_a_half_precision_network():
    """A variance of 1e-9 is nothing in half precision."""
    network = CLIP(CLIPConfig(TEXT, SMALL), dtype=torch.float16)
    norm = network.vision_model.bn1
    assert network.vision_model.conv1.weight.dtype == torch.float16
    assert norm.running_var.dtype == norm.weight.dtype == torch.float32


def test_it_is_read_under_any_prefix():
    network = seeded(SMALL)
    file = under("model.", openai_names(network))
    file["model.visual.bn1.num_batches_tracked"] = torch.tensor(3)
    shapes = {name: tuple(tensor.shape) for name, tensor in file.items()}
    source = find_clip(shapes, heads=4)
    assert source.config.vision == SMALL and source.ignored == ("model.visual.bn1.num_batches_tracked",)
    built = source.build()
    built.load_state_dict(source.translate(file))
    assert built.image_features(pictures(SMALL)).equal(network.image_features(pictures(SMALL)))


def test_our_own_file_of_a_whole_clip_gives_it_back():
    config = CLIPConfig(TEXT, SMALL, resize="squash")
    file = CLIP(config).state_dict()
    source = find_clip({name: tuple(tensor.shape) for name, tensor in file.items()}, to_metadata(config))
    assert (source.config, set(source.names), source.notes) == (config, set(file), ())
    source.build().load_state_dict(source.translate(file))


@pytest.mark.parametrize("name", list(PUBLISHED))
def test_a_config_comes_back_from_its_metadata(name):
    assert from_metadata(to_metadata(PUBLISHED[name])) == PUBLISHED[name]


def test_a_header_from_before_there_were_ways_to_resize_means_crop():
    fields = to_metadata(PUBLISHED["ViT-B-32"])["clip_config"].replace('"resize": "crop", ', "")
    assert "resize" not in fields
    assert from_metadata({"clip_config": fields}) == PUBLISHED["ViT-B-32"]


def test_a_resnet_has_relu_whatever_the_text_has():
    config = with_activation(PUBLISHED["RN50"], "gelu")
    assert config.text.activation == "gelu" and config.vision == PUBLISHED["RN50"].vision


def test_the_heads_are_what_the_caller_says():
    with torch.device("meta"):
        file = CLIP(PUBLISHED["RN50"], UNFILLED).state_dict()
    shapes = {name: tuple(tensor.shape) for name, tensor in file.items()}
    assert find_clip(shapes).config.vision.heads == 32
    assert find_clip(shapes, heads=16).config.vision.heads == 16
    with pytest.raises(ValueError, match="7 heads cannot share a width of 2048"):
        find_clip(shapes, heads=7)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("visual.attnpool.positional_embedding", (6, 256)), "has 5 places, which make no square"),
        (("visual.layer2.1.bn1.running_var", None), "1 of 157 tensors are missing: vision_model.layer2.1.bn1"),
        (("visual.layer2.1.conv1.weight", (4, 64, 1, 1)), "has the shape"),
        (("visual.layer4.0.conv1.weight", None), "tensors are missing"),
        (("visual.layer3.999999999.conv1.weight", (1,)), "it has a layer number 999999999"),
        (("visual.layer1.0.conv1.weight", (7, 8, 1, 1)), "a ResNet of even width"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence(change, says):
    shapes = {name: tuple(tensor.shape) for name, tensor in openai_names(seeded(SMALL)).items()}
    name, shape = change
    shapes = {**shapes, name: shape} if shape else {other: s for other, s in shapes.items() if other != name}
    with pytest.raises(LayoutError, match=says):
        find_clip(shapes)


def test_fresh_weights_are_not_made_for_it():
    with pytest.raises(ValueError, match="this image encoder is another"):
        initialise_(CLIP(CLIPConfig(TEXT, SMALL)), 0)


@pytest.mark.parametrize("name", RESNETS)
def test_its_activation_needs_no_note(name):
    """Every ResNet that was published has quick_gelu in its text encoder (open_clip 3.3.0, pretrained.py)."""
    with torch.device("meta"):
        file = CLIP(PUBLISHED[name], UNFILLED).state_dict()
    source = find_clip({name: tuple(tensor.shape) for name, tensor in file.items()})
    assert (source.config, source.notes) == (PUBLISHED[name], ())
