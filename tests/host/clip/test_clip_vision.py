"""CVL_EncodeImage and our CLIP as CLIP_VISION beside the stock CLIPVisionEncode, on the same small weights."""

import json
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from clip_vae_lora.clip_core.config import CLIPConfig, TextConfig, VisionConfig, to_metadata
from clip_vae_lora.clip_core.networks.clip import CLIP, initialise_
from clip_vae_lora.files.images import write_png
from clip_vae_lora.files.pictures import read_square
from clip_vae_lora.files.tensors import write_tensors

ROUNDING = 1e-5  # fp16 weights, fp32 activations on both sides, sums in another order
CONFIG = CLIPConfig(TextConfig(64, 2, 1, 128, 48), VisionConfig(128, 4, 2, 256, 8, 32, 48))
STATES = ("last_hidden_state", "penultimate_hidden_states", "image_embeds")


def stock(tmp_path, **changed):
    """A stock CLIP_VISION of the vision half of CONFIG."""
    import comfy.clip_vision

    vision = CONFIG.vision
    config = {
        "hidden_act": vision.activation,
        "hidden_size": vision.width,
        "image_size": vision.image_px,
        "intermediate_size": vision.mlp,
        "model_type": "clip_vision_model",
        "num_attention_heads": vision.heads,
        "num_channels": 3,
        "num_hidden_layers": vision.layers,
        "patch_size": vision.patch_px,
        "projection_dim": vision.embed,
        **changed,
    }
    path = tmp_path / "config.json"
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))
    return comfy.clip_vision.ClipVisionModel(str(path))


@pytest.fixture(scope="module")
def clips(comfyui, tmp_path_factory):
    """`.stock` and `.vision`: CLIP_VISION of ComfyUI and of ours; `.ours`: our CLIP; all of the same weights."""
    with torch.inference_mode(False):
        state = initialise_(CLIP(CONFIG), 3).state_dict()
    state = {name: (tensor * (5 if "embedding" in name else 1)).half().float() for name, tensor in state.items()}
    write_tensors(comfyui.models / "clip_vision" / "small.safetensors", state, to_metadata(CONFIG))
    ours, _, vision = comfyui.nodes["CVL_LoadCLIPModel"]().load("small.safetensors")["result"]
    model = stock(tmp_path_factory.mktemp("stock"))
    missing, _ = model.load_sd({name: tensor for name, tensor in state.items() if name.startswith("vis")})
    assert not missing
    return SimpleNamespace(ours=ours, vision=vision, stock=model)


def by_stock(comfyui, clip_vision, image, crop="center"):
    return comfyui.nodes["CLIPVisionEncode"]().encode(clip_vision, image, crop)[0]


def by_ours(comfyui, model, image, crop="center"):
    return comfyui.nodes["CVL_EncodeImage"]().encode(model, image, crop)["result"][0]


def assert_equal(first, second):
    for name in STATES:
        mine, theirs = getattr(first, name), second[name]
        assert mine.shape == theirs.shape and mine.dtype == theirs.dtype and mine.device == theirs.device
        assert (mine - theirs).abs().max() <= ROUNDING * max(1, theirs.abs().max())


def test_a_picture_of_the_models_size_gives_what_the_stock_node_gives(comfyui, clips):
    image = torch.randint(0, 256, (3, 32, 32, 3)) / 255
    reference = by_stock(comfyui, clips.stock, image)
    for answer in (
        *(by_ours(comfyui, model, image) for model in (clips.ours, clips.stock, clips.vision)),
        by_stock(comfyui, clips.vision, image),
    ):
        assert_equal(reference, answer)
        assert answer.mm_projected is None
        assert [list(size) for size in answer.image_sizes] == [[3, 32, 32]] * 3
        assert getattr(reference, "image_sizes", answer.image_sizes) == answer.image_sizes  # the older host has none
        assert type(answer) is type(reference)


@pytest.mark.parametrize("crop", ["center", "none"])
def test_a_picture_of_another_size_is_nearly_what_the_stock_node_sees(comfyui, clips, crop):
    image = F.interpolate(torch.rand(1, 3, 12, 18), (60, 90), mode="bicubic").clamp(0, 1).movedim(1, -1)
    reference = by_stock(comfyui, clips.stock, image, crop).image_embeds
    for answer in (
        by_ours(comfyui, clips.ours, image, "center" if crop == "center" else "squash").image_embeds,
        by_stock(comfyui, clips.vision, image, crop).image_embeds,
    ):
        # torch's antialiased bicubic and Pillow's round differently: a level of 255 here and there
        assert F.cosine_similarity(reference, answer).min() > 0.999


def test_features_are_the_same_from_all_three(comfyui, clips):
    host, image = comfyui.ours.nodes.host.host, torch.rand(2, 40, 50, 3)
    first, *others = (
        host.image_features(model, image, lambda done, total: None) for model in (clips.ours, clips.vision, clips.stock)
    )
    assert first.shape == (2, 48) and torch.allclose(first.norm(dim=1), torch.ones(2))
    for other in others:
        assert (first - other).abs().max() <= ROUNDING


def test_files_are_encoded_by_a_stock_clip_vision_too(comfyui, clips, tmp_path):
    core, host = comfyui.ours.clip_core.features.pictures, comfyui.ours.nodes.host.host
    image = torch.randint(0, 256, (3, 40, 50, 3)) / 255
    for number, picture in enumerate(image):
        write_png(tmp_path / f"{number}.png", picture, {})
    for model in (clips.ours, clips.stock):
        paths = sorted(tmp_path.glob("*.png"))
        (found,) = core.file_features(host.image_encoder(model), paths, read_square)
        expected = host.image_features(model, image, lambda done, total: None)
        assert (found.features - expected).abs().max() <= ROUNDING


def test_a_models_key_is_stable_and_follows_a_lora(comfyui, clips):
    host = comfyui.ours.nodes.host.host
    again = comfyui.nodes["CVL_LoadCLIPModel"]().load("small.safetensors")["result"][0]
    assert host.model_key(clips.ours) == host.model_key(again) == host.model_key(clips.vision)
    patched = clips.ours.patcher.clone()
    name = "vision_model.encoder.layers.0.mlp.fc1.weight"
    patched.add_patches({name: ("diff", (torch.ones(256, 128),))}, 1.0)
    changed = type(clips.ours)(patched, clips.ours.config)
    before = host.model_key(clips.ours)
    assert host.model_key(changed) != before == host.model_key(clips.ours)
    assert host.model_key(clips.stock) == host.model_key(clips.stock)


def test_unclip_takes_our_output(comfyui, clips):
    import comfy.model_base

    seen = by_ours(comfyui, clips.ours, torch.rand(2, 40, 50, 3))
    conditioning = [[torch.zeros(1, 77, 8), {}]]
    ((_, extra),) = comfyui.nodes["unCLIPConditioning"]().apply_adm(conditioning, seen, 1.0, 0.0)[0]

    class Augmentor:
        max_noise_level, time_embed = 1000, SimpleNamespace(dim=48)

        def __call__(self, embed, noise_level, seed=None):
            return embed.reshape(-1, 48), torch.zeros(1, 4)

    found = comfy.model_base.unclip_adm(extra["unclip_conditioning"], torch.device("cpu"), Augmentor())
    assert found.shape[-1] == 48 + 4


def test_a_style_model_takes_our_output(comfyui, clips):
    import comfy.sd
    from comfy.t2i_adapter.adapter import StyleAdapter

    style = comfy.sd.StyleModel(StyleAdapter(width=128, context_dim=8, num_head=2, n_layes=1, num_token=4))
    seen = by_ours(comfyui, clips.ours, torch.rand(1, 40, 50, 3))
    given = [[torch.zeros(1, 77, 8), {}]]
    ((hidden, _),) = comfyui.nodes["StyleModelApply"]().apply_stylemodel(given, style, seen, 1.0, "multiply")[0]
    assert hidden.shape == (1, 81, 8) and hidden.isfinite().all()


def test_packs_that_reach_inside_find_what_they_look_for(comfyui, clips):
    import comfy.clip_vision
    import comfy.model_management as management

    image = torch.randint(0, 256, (1, 32, 32, 3)) / 255
    answers = []
    for vision in (clips.stock, clips.vision):  # as IP-Adapter packs encode a masked picture
        management.load_model_gpu(vision.patcher)
        pixels = comfy.clip_vision.clip_preprocess(image.to(vision.load_device), size=32).float()
        answers.append(vision.model(pixel_values=pixels, intermediate_output=-2))
    for theirs, mine in zip(*(answer[:3] for answer in answers)):
        assert (theirs - mine).abs().max() <= ROUNDING * max(1, theirs.abs().max())


def without_projection(tmp_path):
    return stock(tmp_path, projection_dim=None)


def siglip(tmp_path):
    return stock(tmp_path, model_type="siglip_vision_model", projection_dim=None)


def dinov2(tmp_path):
    return stock(
        tmp_path, model_type="dinov2", layer_norm_eps=1e-6, use_swiglu_ffn=False, image_size=518, patch_size=14
    )


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (without_projection, "came without one"),
        (siglip, "of another kind"),
        (dinov2, "of another kind"),
        (lambda tmp_path: object(), "a CLIP_VISION was expected, but a object came"),
    ],
)
def test_what_shares_no_space_with_texts_is_refused_in_a_sentence(comfyui, tmp_path, model, said):
    host = comfyui.ours.nodes.host.host
    for ask in (host.image_encoder, host.model_key):
        with pytest.raises(ValueError, match=said):
            ask(model(tmp_path))
