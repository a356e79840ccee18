"""Both encoders against transformers and open_clip, every published size in tiny form, float32."""

import types

import pytest
import torch
from torch import nn

from clip_vae_lora.clip_core.checkpoint.find import find_clip
from clip_vae_lora.clip_core.config import (
    PUBLISHED,
    CLIPConfig,
    ResNetConfig,
    TextConfig,
    VisionConfig,
    to_metadata,
    vision_heads,
)
from clip_vae_lora.clip_core.judging.ranking import probabilities, similarity
from clip_vae_lora.clip_core.networks.clip import CLIP, initialise_
from clip_vae_lora.clip_core.networks.text import CLIPText, first_end

TOLERANCE = 1e-5  # of outputs around 1, in float32; rounding differs with the order of summation
SIZES = list(PUBLISHED)
TRANSFORMERS = [name for name, config in PUBLISHED.items() if isinstance(config.vision, VisionConfig)]


def close(ours, theirs):
    torch.testing.assert_close(ours, theirs, atol=TOLERANCE, rtol=TOLERANCE)


def loaded(network, state):
    network.load_state_dict({name: tensor for name, tensor in state.items() if "position_ids" not in name})
    return network.eval()


def logits(model, ids, pixels):
    """Cosines times the learned scale, as transformers' `logits_per_image`. -> [I, T]"""
    return model.logit_scale.float().exp() * similarity(model.image_features(pixels), model.text_features(ids))


@pytest.mark.parametrize("size", SIZES)
def test_text_encoder_is_transformers(networks, size):
    transformers = pytest.importorskip("transformers")
    config = networks.tiny(size)
    theirs = networks.randomise_(transformers.CLIPTextModelWithProjection(networks.hf_text_config(config)))
    ours, ids = loaded(CLIPText(config.text), theirs.state_dict()), networks.ids()
    with torch.no_grad():
        expected = theirs(ids, output_hidden_states=True)
        for layer in range(config.text.layers + 1):
            for counted in (layer, layer - config.text.layers - 1):
                output = ours(ours.embed(ids), first_end(ids), layer=counted, final_norm=False)
                close(output.hidden, expected.hidden_states[layer])
        output = ours(ours.embed(ids), first_end(ids))
    close(output.hidden, expected.last_hidden_state)
    close(output.projected, expected.text_embeds)


@pytest.mark.parametrize("size", TRANSFORMERS)
def test_image_encoder_is_transformers(networks, size):
    transformers = pytest.importorskip("transformers")
    config = networks.tiny(size)
    theirs = networks.randomise_(transformers.CLIPVisionModelWithProjection(networks.hf_vision_config(config)))
    ours, pixels = networks.with_image_half(config, theirs.state_dict()), networks.pixels(config)
    with torch.no_grad():
        expected = theirs(pixels, output_hidden_states=True)
        pooled = theirs.vision_model(pixels).pooler_output
        for layer in range(config.vision.layers + 1):
            close(ours.encode_image(pixels, layer).hidden, expected.hidden_states[layer])
        output = ours.encode_image(pixels)
    close(output.pooled, pooled)
    close(output.projected, expected.image_embeds)


@pytest.mark.parametrize("size", TRANSFORMERS)
def test_logits_are_those_of_transformers(networks, size):
    pytest.importorskip("transformers")
    config = networks.tiny(size)
    theirs, ids, pixels = networks.hf_clip(config), networks.ids(), networks.pixels(config)
    ours = loaded(CLIP(config), theirs.state_dict())
    with torch.no_grad():
        expected = theirs(input_ids=ids, pixel_values=pixels)
        cosine, scale = similarity(ours.image_features(pixels), ours.text_features(ids)), ours.logit_scale.exp()
    close(cosine, expected.image_embeds @ expected.text_embeds.T)
    close(scale * cosine, expected.logits_per_image)
    close(probabilities(cosine, float(scale)), expected.logits_per_image.softmax(-1))


@pytest.mark.parametrize("custom_text", [False, True], ids=["CLIP", "CustomTextCLIP"])
@pytest.mark.parametrize("size", SIZES)
def test_features_are_those_of_open_clip(networks, size, custom_text):
    pytest.importorskip("open_clip")
    config = networks.tiny(size)
    theirs, ids, pixels = networks.open_clip_model(config, custom_text), networks.ids(), networks.pixels(config)
    state = theirs.state_dict()
    source = find_clip(networks.shapes(state), metadata=to_metadata(config))  # shapes do not tell the tiny ones' heads
    assert source.config == config
    ours = CLIP(config).eval()
    ours.load_state_dict(source.translate(state))
    with torch.no_grad():
        close(ours.text_features(ids), theirs.encode_text(ids))
        expected = theirs.encode_image(pixels)
        length = expected.norm(dim=-1, keepdim=True)  # several in a ResNet; only directions and their scale are used
        close(ours.image_features(pixels) / length, expected / length)
        assert ours.logit_scale == theirs.logit_scale


def test_published_sizes_are_those_of_open_clip():
    open_clip = pytest.importorskip("open_clip")
    for name, ours in PUBLISHED.items():
        theirs = open_clip.get_model_config(name if open_clip.get_model_config(name) else f"{name}-quickgelu")
        vision, text = theirs["vision_cfg"], theirs["text_cfg"]
        image_px, embed = vision["image_size"], theirs["embed_dim"]
        heads = vision["width"] // vision.get("head_width", 64)
        mlp = int(vision["width"] * vision.get("mlp_ratio", 4))
        if isinstance(vision["layers"], list):
            blocks = tuple(vision["layers"])
            assert ours.vision == ResNetConfig(vision["width"], blocks, vision["width"] * 32 // 64, image_px, embed)
        else:
            assert ours.vision == VisionConfig(
                vision["width"],
                vision["layers"],
                heads,
                mlp,
                vision["patch_size"],
                image_px,
                embed,
                ours.vision.activation,
            )
        assert ours.text == TextConfig(
            text["width"],
            text["layers"],
            text["heads"],
            4 * text["width"],
            theirs["embed_dim"],
            text["vocab_size"],
            text["context_length"],
            ours.text.activation,
        )


@pytest.mark.parametrize(("width", "heads"), [(768, 12), (896, 14), (1024, 16), (1280, 16), (1408, 16), (1664, 16)])
def test_vision_heads_follow_the_rule(width, heads):
    assert vision_heads(width) == heads


def test_a_width_that_no_rule_knows_still_gets_heads_that_divide_it():
    assert all(width % vision_heads(width) == 0 for width in range(1, 400))


def test_gradients_reach_every_weight():
    config = CLIPConfig(TextConfig(32, 2, 2, 64, 16), VisionConfig(32, 2, 2, 64, 8, 16, 16))
    model = initialise_(CLIP(config), seed=0)
    ids = torch.tensor([[49406, 320, 49407], [49406, 2368, 49407]])
    logits(model, ids, torch.randn(2, 3, 16, 16)).softmax(0)[0, 0].backward()
    assert [name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()] == []


def test_a_seed_fixes_the_fresh_weights():
    config = CLIPConfig(TextConfig(32, 2, 2, 64, 16), VisionConfig(32, 2, 2, 64, 8, 16, 16))
    first, again, other = (initialise_(CLIP(config), seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["text_projection.weight"], other["text_projection.weight"])


def test_text_is_pooled_at_the_first_end_token_or_the_last_place():
    ids = torch.tensor([[49406, 5, 49407, 49407], [49406, 5, 6, 7], [49406, 49410, 49407, 0]])  # 49410: an added token
    assert first_end(ids).tolist() == [2, 3, 2]


def test_the_pooled_text_is_the_last_layers_whatever_layer_is_asked_for(networks):
    model, ids = networks.randomise_(CLIPText(networks.tiny("ViT-L-14").text)), networks.ids()
    with torch.no_grad():
        first, last = (model(model.embed(ids), first_end(ids), layer=layer) for layer in (0, None))
    assert torch.equal(first.pooled, last.pooled)
    assert torch.equal(first.projected, last.projected)


def test_what_stands_behind_the_end_token_does_not_change_the_pooled_text(networks):
    config = networks.tiny("ViT-L-14")
    model = networks.randomise_(CLIP(config))
    ids = networks.ids()[:3]
    zeros = torch.where(torch.arange(77) > first_end(ids)[:, None], 0, ids)
    with torch.no_grad():
        close(model.text_features(zeros), model.text_features(ids))


def test_a_layer_that_is_not_there_is_refused(networks):
    model = CLIPText(networks.tiny("ViT-L-14").text)
    ids = networks.ids()
    with pytest.raises(ValueError, match="layer 3 was asked for, but this encoder has layers -3 to 2"):
        model(model.embed(ids), first_end(ids), layer=3)


def test_a_text_longer_than_the_position_table_is_refused(networks):
    model = CLIPText(networks.tiny("ViT-L-14").text)
    with pytest.raises(ValueError, match="a text of 78 tokens was given, but this encoder has 77 places"):
        model(torch.zeros(1, 78, 96), torch.tensor([3]))


def test_a_picture_of_another_size_is_refused(networks):
    model = CLIP(networks.tiny("ViT-B-16"))
    for encode in (model.encode_image, model.image_features):
        with pytest.raises(ValueError, match=r"takes pixels of shape \[B, 3, 48, 48\] and got \[1, 3, 64, 64\]"):
            encode(torch.zeros(1, 3, 64, 64))


def test_without_a_projection_the_projected_text_is_refused(networks):
    model = CLIPText(networks.tiny("ViT-L-14").text, has_projection=False)
    ids = networks.ids()
    output = model(model.embed(ids), first_end(ids))
    assert output.projected is None
    with pytest.raises(ValueError, match="came without a text_projection"):
        output.require_projected()


@pytest.mark.parametrize("size", ["ViT-B-32", "RN50"])
def test_layers_that_cast_their_weights_compute_in_float32(networks, size):
    """What a host hands in: half-precision weights, cast to the input's type at use."""

    class Casting:
        def cast(self):
            return None if self.bias is None else self.bias.float()

    class Linear(nn.Linear, Casting):
        def forward(self, x):
            return nn.functional.linear(x, self.weight.to(x), self.cast())

    class Conv2d(nn.Conv2d, Casting):
        def forward(self, x):
            return nn.functional.conv2d(x, self.weight.to(x), self.cast(), self.stride, self.padding)

    class LayerNorm(nn.LayerNorm, Casting):
        def forward(self, x):
            return nn.functional.layer_norm(x, self.normalized_shape, self.weight.to(x), self.cast(), self.eps)

    operations = types.SimpleNamespace(Linear=Linear, Conv2d=Conv2d, LayerNorm=LayerNorm, Embedding=nn.Embedding)
    config, ids = networks.tiny(size), networks.ids()
    half = networks.randomise_(CLIP(config, operations, dtype=torch.float16))
    whole = loaded(CLIP(config), {name: tensor.float() for name, tensor in half.state_dict().items()})
    with torch.no_grad():
        assert half.text_features(ids).dtype == torch.float32
        close(logits(half, ids, networks.pixels(config)), logits(whole, ids, networks.pixels(config)))


@pytest.mark.parametrize("size", ["ViT-B-32", "RN50"])
def test_plain_layers_in_half_precision_compute_in_it(networks, size):
    config = networks.tiny(size)
    model = networks.randomise_(CLIP(config, dtype=torch.bfloat16))
    with torch.no_grad():
        assert model.text_features(networks.ids()).dtype == torch.bfloat16
        pixels = networks.pixels(config).to(model.activation_dtype)
        assert model.image_features(pixels).dtype == torch.bfloat16
