"""Features of pictures and files: the class token alone beside the whole pass and the references, batches, threads."""

import threading
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from clip_vae_lora.clip_core.config import OPENAI_MEAN, OPENAI_STD, PUBLISHED
from clip_vae_lora.clip_core.features.pictures import (
    MOST_AT_ONCE,
    ImageEncoder,
    file_features,
    image_encoder,
    image_features,
    lowered,
    picture_bytes,
    pictures_at_once,
)
from clip_vae_lora.clip_core.features.preprocess import preprocess
from clip_vae_lora.clip_core.networks.clip import CLIP

ROUNDING = 1e-5  # fp32 with sums in another order; rows of length 1
SIZES = ["ViT-B-32", "ViT-L-14", "ViT-H-14"]  # quick_gelu and gelu


@pytest.fixture(scope="module")
def clip(networks):
    return networks.randomise_(CLIP(networks.tiny("ViT-B-32"))).requires_grad_(False)


def read_grey(path: int, size_px: int, resize: str) -> torch.Tensor:
    """Reads "files" that are numbers: a grey square, or an error for negative ones."""
    if path < 0:
        raise ValueError(f"{path} is broken")
    return torch.full((3, size_px, size_px), path, dtype=torch.uint8)


def close(first, second):
    return (F.normalize(first, dim=-1) - F.normalize(second, dim=-1)).abs().max() <= ROUNDING


# the class token alone


@pytest.mark.parametrize("name", SIZES)
def test_the_class_token_alone_is_that_of_transformers(networks, name):
    from transformers import CLIPVisionModelWithProjection

    config = networks.tiny(name)
    theirs = networks.randomise_(CLIPVisionModelWithProjection(networks.hf_vision_config(config)))
    ours = networks.with_image_half(config, theirs.state_dict())
    pixels = networks.pixels(config)
    with torch.no_grad():
        reference = theirs(pixels).image_embeds
        assert close(ours.image_features(pixels), reference)
        assert close(ours.encode_image(pixels).projected, reference)


@pytest.mark.parametrize("name", SIZES)
def test_the_class_token_alone_is_that_of_open_clip(networks, name):
    config = networks.tiny(name)
    theirs = networks.open_clip_model(config)
    from clip_vae_lora.clip_core.checkpoint.find import find_clip

    source = find_clip(networks.shapes(theirs.state_dict()), networks.metadata(config), None)
    ours = CLIP(config).eval()
    ours.load_state_dict(source.translate(theirs.state_dict()))
    with torch.no_grad():
        pixels = networks.pixels(config)
        assert close(ours.image_features(pixels), theirs.encode_image(pixels))


def test_vit_b_32_in_full_size_is_that_of_transformers_and_open_clip():
    import open_clip
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    from clip_vae_lora.clip_core.checkpoint.find import find_clip

    torch.manual_seed(0)
    theirs = open_clip.create_model("ViT-B-32-quickgelu", pretrained=None).eval()
    state = theirs.state_dict()
    source = find_clip({name: tuple(tensor.shape) for name, tensor in state.items()}, {}, "quick_gelu")
    mine = source.translate(state)
    ours, hf = CLIP(PUBLISHED["ViT-B-32"]).eval(), CLIPVisionModelWithProjection(CLIPVisionConfig()).eval()
    ours.load_state_dict(mine)
    hf.load_state_dict({k: v for k, v in mine.items() if k.startswith("vis")}, strict=False)
    pixels = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        found = ours.image_features(pixels)
        assert close(found, theirs.encode_image(pixels)) and close(found, hf(pixels).image_embeds)


@pytest.mark.parametrize("grad", [False, True])
def test_layers_that_are_not_plain_are_called(networks, grad):
    config = networks.tiny("ViT-B-32")
    model = networks.randomise_(CLIP(config))
    layer, seen = model.vision_model.encoder.layers[-1].self_attn.k_proj, []
    layer.register_forward_hook(lambda module, given, result: seen.append(result.shape) or result * 1)
    pixels = networks.pixels(config)
    with torch.set_grad_enabled(grad):
        assert close(model.image_features(pixels), model.encode_image(pixels).projected)
    assert len(seen) == 2


def test_another_kind_of_layer_is_called(networks):
    class Doubled(nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    config = networks.tiny("ViT-B-32")
    model = networks.randomise_(CLIP(config))
    layer = model.vision_model.encoder.layers[0].mlp.fc1
    other = Doubled(layer.in_features, layer.out_features)
    other.load_state_dict(layer.state_dict())
    model.vision_model.encoder.layers[0].mlp.fc1 = other
    with torch.no_grad():
        pixels = networks.pixels(config)
        assert close(model.image_features(pixels), model.encode_image(pixels).projected)


def test_features_can_be_trained_through(networks):
    config = networks.tiny("ViT-B-32")
    model = networks.randomise_(CLIP(config))
    model.image_features(networks.pixels(config)).sum().backward()
    assert model.vision_model.embeddings.patch_embedding.weight.grad.abs().sum() > 0


def test_the_pixels_given_are_not_changed(clip, networks):
    pixels = networks.pixels(clip.config)
    before = pixels.clone()
    with torch.no_grad():
        clip.image_features(pixels)
    assert torch.equal(pixels, before)


# pictures


def test_rows_have_length_1_and_batches_are_their_pictures(clip):
    image = torch.rand(5, 40, 50, 3)
    whole = image_features(clip, image)
    assert torch.allclose(whole.norm(dim=1), torch.ones(5))
    assert torch.allclose(whole, torch.cat([image_features(clip, one) for one in image.split(1)]), atol=ROUNDING)
    assert torch.allclose(whole, image_features(clip, image, batch=2), atol=ROUNDING)


def test_pixels_are_normalised_and_squared_as_the_model_says(clip):
    odd = CLIP(replace(clip.config, mean=(0.5, 0.5, 0.5), std=(0.2, 0.3, 0.4), resize="squash")).eval()
    odd.load_state_dict(clip.state_dict())
    image = torch.rand(1, 60, 99, 3)
    pixels = preprocess(image, clip.config.vision.image_px, (0.5, 0.5, 0.5), (0.2, 0.3, 0.4), resize="squash")
    with torch.no_grad():
        assert close(image_features(odd, image), clip.image_features(pixels))


def test_every_batch_is_told_and_can_stop(clip):
    told = []
    image_features(clip, torch.rand(5, 8, 8, 3), batch=2, on_step=lambda done, total: told.append((done, total)))
    assert told == [(2, 5), (4, 5), (5, 5)]

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        image_features(clip, torch.rand(5, 8, 8, 3), batch=2, on_step=stop)


# files


def test_files_come_in_their_order_whatever_the_threads(clip):
    paths = list(range(0, 250, 11))
    found = list(file_features(clip, paths, read_grey, batch=4, workers=3))
    assert [place for part in found for place in part.places] == list(range(len(paths)))
    side = clip.config.vision.image_px
    grey = torch.tensor(paths).float().div(255)[:, None, None, None].expand(-1, side, side, 3)
    assert torch.allclose(torch.cat([part.features for part in found]), image_features(clip, grey), atol=ROUNDING)


def test_a_broken_file_is_named_and_the_others_are_encoded(clip):
    paths = [1, -2, 3, -4, -5]
    first, second, third = file_features(clip, paths, read_grey, batch=2)
    assert first.unread == {1: "-2 is broken"} and first.read == [0] and first.features.shape == (1, 64)
    assert second.read == [2] and list(second.unread) == [3]
    assert third.read == [] and third.features.shape == (0, 64)


def test_no_files_give_nothing(clip):
    assert list(file_features(clip, [], read_grey)) == []


@pytest.mark.parametrize(("device", "most"), [("cpu", 4), ("meta", 16)])
def test_files_are_read_ahead_of_another_device_and_by_turns_with_the_cpu(device, most):
    read, lock = [], threading.Lock()

    def listed(path, size_px, resize):
        with lock:
            read.append(path)
        return read_grey(path, size_px, resize)

    def encode(pixels):
        return torch.ones(len(pixels), 5)

    encoder = ImageEncoder(8, OPENAI_MEAN, OPENAI_STD, "crop", device, torch.float32, 5, 32, encode)
    parts = file_features(encoder, list(range(100)), listed, batch=4, workers=2)
    assert next(parts).features.shape == (4, 5)
    parts.close()
    assert 4 <= len(read) <= most and not [one for one in threading.enumerate() if "read pictures" in one.name]


def test_a_pass_on_a_cpu_has_fewer_pictures_of_many_tokens():
    assert [pictures_at_once("cpu", tokens) for tokens in (50, 257, 5000)] == [32, 6, 1]


def test_a_pass_on_a_card_has_as_many_pictures_as_its_memory_has_room_for():
    each = picture_bytes(PUBLISHED["ViT-L-14"].vision, torch.float32)
    assert pictures_at_once("cuda", 257, each, 22 << 30) == MOST_AT_ONCE == 512
    few = pictures_at_once("cuda", 257, each, 1 << 30)
    assert 32 < few < 512 and few * each <= 1 << 30
    half = pictures_at_once("cuda", 257, picture_bytes(PUBLISHED["ViT-L-14"].vision, torch.float16), 1 << 30)
    assert 1.5 * few < half and pictures_at_once("cuda", 257, each, 1 << 20) == 1


def test_cancelling_ends_the_threads(clip):
    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(file_features(clip, list(range(40)), read_grey, batch=4, on_step=stop))
    assert not [thread for thread in threading.enumerate() if "read pictures" in thread.name]


def test_mean_and_deviation_are_the_models(clip):
    odd = CLIP(replace(clip.config, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6)))
    encoder = image_encoder(odd)
    assert (encoder.mean, encoder.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))


def encoder_on(device: str, at_once: int, encode) -> ImageEncoder:
    return ImageEncoder(8, OPENAI_MEAN, OPENAI_STD, "crop", device, torch.float32, 5, at_once, encode)


def test_fewer_pictures_at_a_time_than_asked_for_are_told_on_a_card():
    assert lowered(encoder_on("meta", 100, None), 100) is None and lowered(encoder_on("cpu", 8, None), 512) is None
    assert "512 pictures at a time were asked for, and 100 are encoded" in lowered(encoder_on("meta", 100, None), 512)
    assert "512 are the most" in lowered(encoder_on("meta", 512, None), 600)


def test_a_batch_that_the_memory_has_no_room_for_is_done_by_halves():
    sizes = []

    def encode(pixels):
        sizes.append(len(pixels))
        if len(pixels) > 2:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return pixels.flatten(1)[:, :5]

    pixels = torch.rand(5, 3, 8, 8)
    found = encoder_on("cpu", 8, encode).features(pixels)
    assert torch.equal(found, F.normalize(pixels.flatten(1)[:, :5], dim=-1)) and sizes == [5, 2, 3, 1, 2]

    def never(pixels):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.cuda.OutOfMemoryError):
        encoder_on("cpu", 8, never).features(pixels)


def test_on_another_device_a_batch_is_fetched_when_the_next_has_been_sent(clip):
    made = []

    def encode(pixels):
        made.append(len(pixels))
        return torch.ones(len(pixels), 5)

    parts = file_features(encoder_on("meta", 32, encode), list(range(10)), read_grey, batch=4, workers=1)
    assert next(parts).places == range(4) and made == [4, 4]
    assert [part.places for part in parts] == [range(4, 8), range(8, 10)] and made == [4, 4, 2]
