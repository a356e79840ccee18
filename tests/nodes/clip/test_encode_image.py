"""Image Encode, and our CLIP as CLIP_VISION, without ComfyUI."""

import json

import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from clip_vae_lora.clip_core.config import CLIPConfig, TextConfig, VisionConfig, to_metadata
from clip_vae_lora.clip_core.features.preprocess import preprocess
from clip_vae_lora.clip_core.networks.clip import CLIP, initialise_
from clip_vae_lora.files.tensors import write_tensors
from clip_vae_lora.nodes.host import host

ROUNDING = 1e-5  # of fp32, with sums in another order


@pytest.fixture
def loaded(place):
    """(clip_model, clip_vision) of the bundled CLIP"""
    model, _, vision = place.node("CVL_LoadCLIPModel").load("bundled/tiny_clip.safetensors")["result"]
    return model, vision


def encoded(place, model, image, crop="auto", **options):
    answer = place.node("CVL_EncodeImage").encode(model, image, crop, **options)
    return answer["result"][0], json.loads(answer["result"][1]), answer["ui"]["text"][0]


def pixels_of(model, image, resize="crop"):
    config = model.config
    return preprocess(image, config.vision.image_px, config.mean, config.std, resize=resize)


def test_it_gives_the_states_and_embeddings_of_the_network(place, loaded):
    model, _ = loaded
    image = torch.rand(2, 60, 90, 3)
    seen, _, _ = encoded(place, model, image)
    with torch.no_grad():
        last = model.network.encode_image(pixels_of(model, image))
        before = model.network.encode_image(pixels_of(model, image), -2)
    assert torch.equal(seen.last_hidden_state, last.hidden)
    assert torch.equal(seen["penultimate_hidden_states"], before.hidden)
    assert torch.equal(seen.image_embeds, last.projected)
    assert seen.mm_projected is None and [list(size) for size in seen.image_sizes] == [[3, 48, 48]] * 2


@pytest.mark.parametrize(("crop", "resize"), [("auto", "crop"), ("center", "crop"), ("squash", "squash")])
def test_a_picture_becomes_a_square_as_chosen(place, loaded, crop, resize):
    model, vision = loaded
    image = torch.rand(1, 60, 90, 3)
    seen, data, _ = encoded(place, model, image, crop)
    with torch.no_grad():
        assert torch.equal(seen.image_embeds, model.network.encode_image(pixels_of(model, image, resize)).projected)
    assert torch.equal(vision.encode_image(image, crop=resize == "crop").image_embeds, seen.image_embeds)
    assert data["crop"] == ("center" if resize == "crop" else "squash")


def test_auto_does_as_the_model_says(place):
    config = CLIPConfig(TextConfig(64, 1, 1, 64, 32), VisionConfig(64, 2, 1, 64, 8, 16, 32), resize="squash")
    write_tensors(
        place.models / "clip_vision" / "a.safetensors", initialise_(CLIP(config), 0).state_dict(), to_metadata(config)
    )
    model = place.node("CVL_LoadCLIPModel").load("a.safetensors")["result"][0]
    _, data, text = encoded(place, model, torch.rand(1, 20, 40, 3))
    assert data["crop"] == "squash" and "proportions have changed" in text


def test_the_report_says_what_was_seen_and_how_long_the_embeddings_are(place, loaded):
    seen, data, text = encoded(place, loaded[0], torch.rand(3, 60, 90, 4))
    assert data["pictures"] == 3 and data["picture_px"] == [90, 60] and data["seen_px"] == [60, 60]
    assert data["lengths"] == pytest.approx(seen.image_embeds.norm(dim=1).tolist(), abs=1e-4)
    assert "only the middle 60 x 60 px" in text and data["lengths"]


def test_progress_is_told_and_can_stop(place, loaded):
    told = []

    def on_step(done, total):
        told.append((done, total))
        raise KeyboardInterrupt

    host.set_place(models=place.models, temp=place.temp, on_step=on_step)
    with pytest.raises(KeyboardInterrupt):
        encoded(place, loaded[0], torch.rand(40, 8, 8, 3))
    assert told == [(32, 40)]


def test_the_features_are_the_embeddings_at_length_1_from_the_model_or_its_clip_vision(place, loaded):
    image = torch.rand(2, 60, 90, 3)
    seen, _, _ = encoded(place, loaded[0], image)
    for model in loaded:
        found = host.image_features(model, image, lambda done, total: None)
        assert (found - F.normalize(seen.image_embeds, dim=-1)).abs().max() <= ROUNDING


def test_other_packs_can_call_the_network_as_comfyuis(loaded):
    model, vision = loaded
    image = torch.rand(1, 60, 90, 3)
    seen = vision.encode_image(image)
    last, penultimate, embeds, projected = vision.model(pixel_values=pixels_of(model, image), intermediate_output=-2)
    assert torch.equal(last, seen.last_hidden_state) and torch.equal(penultimate, seen.penultimate_hidden_states)
    assert torch.equal(embeds, seen.image_embeds) and projected is None
    assert vision.image_size == 48 and len(vision.image_mean) == len(vision.image_std) == 3
    assert {name.split(".")[0] for name in vision.get_sd()} == {"vision_model", "visual_projection"}


def test_a_models_key_is_the_same_in_every_run_and_another_for_other_weights(place, loaded):
    model, vision = loaded
    again = place.node("CVL_LoadCLIPModel").load("bundled/tiny_clip.safetensors")["result"][0]
    assert host.model_key(model) == host.model_key(again) == host.model_key(vision)
    other = place.node("CVL_LoadCLIPModel").load("bundled/tiny_clip.safetensors", activation="gelu")["result"][0]
    lora = place.node("CVL_LoadLoRA").load("bundled/tiny_clip_stripes_lora.safetensors", 1.0, 1.0, clip_model=model)
    striped = next(out for out in lora["result"] if hasattr(out, "network"))
    assert len({host.model_key(found) for found in (model, other, striped)}) == 3


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (torch.zeros(1, 0, 4, 3), "no pixels"),
        (torch.zeros(4, 4, 3), "batch, height, width, 3"),
        (torch.full((1, 4, 4, 3), torch.nan), "NaN"),
    ],
)
def test_bad_pictures_are_told_in_a_sentence(place, loaded, image, said):
    with pytest.raises(ValueError, match=said):
        encoded(place, loaded[0], image)


def test_something_else_than_a_clip_is_told_in_a_sentence(place):
    with pytest.raises(ValueError, match="a CLIP from Load CLIP Model"):
        encoded(place, object(), torch.rand(1, 8, 8, 3))


@pytest.mark.parametrize(("ground", "level"), [("white", 1.0), ("gray", 128 / 255), ("black", 0.0)])
def test_a_transparent_picture_lies_on_the_ground_and_is_counted(place, loaded, ground, level):
    model, _ = loaded
    image = torch.rand(2, 60, 60, 4)
    image[1, ..., 3] = 1
    seen, data, text = encoded(place, model, image, ground=ground)
    over = image[..., :3] * image[..., 3:] + level * (1 - image[..., 3:])
    with torch.no_grad():
        assert torch.equal(seen.image_embeds, model.network.encode_image(pixels_of(model, over)).projected)
    assert (data["ground"], data["transparent"]) == (ground, 1)
    assert f"1 of 2 pictures are transparent in part, and were laid over {ground}" in text


@pytest.mark.parametrize("size", [(20, 60), (60, 20), (7, 300), (48, 48)])
def test_pad_sees_the_whole_picture_on_the_ground(place, loaded, size):
    model, _ = loaded
    image = torch.rand(1, *size, 3)
    seen, data, text = encoded(place, model, image, "pad", ground="gray")
    tall, wide = (max(1, round(48 * side / max(size))) for side in size)
    square = torch.full((48, 48, 3), 128, dtype=torch.uint8).numpy()
    picture = Image.fromarray((image[0] * 255).round().byte().numpy())
    whole = picture.resize((wide, size[0]), Image.Resampling.BICUBIC).resize((wide, tall), Image.Resampling.BICUBIC)
    square[(48 - tall) // 2 : (48 - tall) // 2 + tall, (48 - wide) // 2 : (48 - wide) // 2 + wide] = whole
    with torch.no_grad():
        pixels = pixels_of(model, torch.from_numpy(square)[None].float() / 255)
        assert torch.allclose(seen.image_embeds, model.network.encode_image(pixels).projected, atol=ROUNDING)
    assert data["crop"] == "pad" and data["seen_px"] == list(reversed(size))
    assert ("some of the square is empty" in text) == (size[0] != size[1])
