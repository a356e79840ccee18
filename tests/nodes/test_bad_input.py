"""What a user sees when something is wrong: one sentence that names the file, what it is and what was expected."""

import pickle
import struct

import pytest
import torch

from clip_vae_lora.files.tensors import write_tensors

from ..support import tiny

LOADERS = {  # node: the folder its first menu lists
    "CVL_LoadTextEncoder": "text_encoders",
    "CVL_LoadCLIPModel": "clip_vision",
    "CVL_LoadVAE": "vae",
    "CVL_LoadLoRA": "loras",
}


class Bomb:
    """Unpickled, it would leave a file behind."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def hostile(kind: str, path) -> None:
    header = b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}'
    content = {
        "empty": b"",
        "web page": b"<!DOCTYPE html><html><body>404</body></html>",
        "LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3438167536\n",
        "GGUF": b"GGUF\x03\x00\x00\x00" + bytes(64),
        "cut short": struct.pack("<Q", len(header)) + header + bytes(7),
        "pickle with code": pickle.dumps(Bomb(path.with_name("ran"))),
        "text": b"just some words, no weights",
    }[kind]
    path.write_bytes(content)


def load(place, node: str, file: str):
    if node == "CVL_LoadLoRA":
        tiny.clip_file(place.models / "text_encoders" / "base.safetensors")
        clip = place.node("CVL_LoadTextEncoder").load("base.safetensors")["result"][0]
        return place.node(node).load(file, 1.0, 1.0, clip=clip, strict=True)  # else it is told in the report
    return place.node(node).load(file)


def sentence(error: pytest.ExceptionInfo) -> str:
    text = str(error.value)
    assert "\n" not in text and "\x1b" not in text and "weights_only" not in text, text
    return text


@pytest.mark.parametrize("kind", ["empty", "web page", "LFS pointer", "GGUF", "cut short", "pickle with code", "text"])
@pytest.mark.parametrize("node", LOADERS)
def test_a_hostile_file_is_named_and_nothing_of_it_runs(place, node, kind):
    suffix = "ckpt" if kind == "pickle with code" else "safetensors"
    path = place.models / LOADERS[node] / f"bad.{suffix}"
    hostile(kind, path)
    with pytest.raises(ValueError) as error:
        load(place, node, path.name)
    assert sentence(error).startswith(f"bad.{suffix}: ")
    assert not path.with_name("ran").exists()


@pytest.mark.parametrize("node", LOADERS)
def test_a_missing_file_is_named(place, node):
    with pytest.raises((ValueError, FileNotFoundError), match="nothing.safetensors"):
        load(place, node, "nothing.safetensors")


@pytest.mark.parametrize("node", LOADERS)
def test_a_file_of_another_kind_is_called_what_it_is(place, node):
    path = place.models / LOADERS[node] / "other.safetensors"
    if node == "CVL_LoadVAE":
        tiny.clip_file(path)
        seems = "CLIP"
    elif node == "CVL_LoadLoRA":
        tiny.vae_file(path)
        seems = "no LoRA"
    else:
        tiny.vae_file(path)
        seems = "VAE"
    with pytest.raises(ValueError) as error:
        load(place, node, path.name)
    assert seems in sentence(error) and "other.safetensors" in str(error.value)


@pytest.mark.parametrize("node", LOADERS)
def test_a_file_of_an_unknown_layout_is_refused(place, node):
    path = place.models / LOADERS[node] / "strange.safetensors"
    write_tensors(path, {"foo.bar": torch.zeros(2, 3), "baz": torch.ones(4)}, {})
    with pytest.raises(ValueError) as error:
        load(place, node, path.name)
    assert "strange.safetensors" in sentence(error)


def _with_nan(path) -> None:
    """The file again, one weight in it NaN: our writer refuses to, so the bytes are changed by hand."""
    data = bytearray(path.read_bytes())
    data[-4:] = struct.pack("<f", float("nan"))
    path.write_bytes(data)


@pytest.mark.parametrize("node", LOADERS)
def test_nan_in_the_weights_is_an_error_that_names_the_tensor(place, node):
    path = place.models / LOADERS[node] / "nan.safetensors"
    if node == "CVL_LoadVAE":
        tiny.vae_file(path)
    elif node == "CVL_LoadLoRA":
        tiny.lora_file(path, ["lora_te_text_model_encoder_layers_0_self_attn_q_proj"])
    else:
        tiny.clip_file(path)
    _with_nan(path)
    if node == "CVL_LoadTextEncoder":  # the last tensor belongs to the image encoder, which is not read
        assert load(place, node, path.name)
        return
    with pytest.raises(ValueError, match="NaN"):
        load(place, node, path.name)


@pytest.fixture
def vae(place):
    tiny.vae_file(place.models / "vae" / "tiny.safetensors")
    return place.node("CVL_LoadVAE").load("tiny.safetensors")["result"][0]


@pytest.mark.parametrize("shape", [(0, 8, 8, 3), (1, 0, 8, 3), (1, 8, 0, 3)])
@pytest.mark.parametrize("node", ["CVL_VAEEncode", "CVL_CompareImages", "CVL_ZeroShotClassify"])
def test_an_image_without_pixels_is_an_error(place, vae, node, shape):
    image = torch.zeros(shape)
    calls = {
        "CVL_VAEEncode": lambda n: n.encode(image, vae),
        "CVL_CompareImages": lambda n: n.compare(image, image),
        "CVL_ZeroShotClassify": lambda n: n.classify(None, image, "cat", "a {label}"),
    }
    with pytest.raises(ValueError, match="no pixels"):
        calls[node](place.node(node))


def test_a_picture_smaller_than_a_cell_is_an_error(place, vae):
    with pytest.raises(ValueError, match="one latent cell of this VAE spans 2 px"):
        place.node("CVL_VAEEncode").encode(torch.zeros(1, 1, 8, 3), vae, border="cut")


@pytest.mark.parametrize("channels", [16, 3, 1])
def test_a_latent_of_another_vae_is_an_error_with_both_numbers(place, vae, channels):
    with pytest.raises(ValueError, match=f"this latent has {channels} channels, this VAE wants 4"):
        place.node("CVL_VAEDecode").decode({"samples": torch.zeros(1, channels, 8, 8)}, vae)


@pytest.mark.parametrize("samples", [torch.zeros(1, 4, 0, 8), torch.zeros(4, 8, 8), torch.zeros(1, 4, 3, 8, 8)])
def test_a_latent_of_no_picture_is_an_error(place, vae, samples):
    with pytest.raises(ValueError, match="a LATENT of shape"):
        place.node("CVL_VAEDecode").decode({"samples": samples}, vae)


def test_a_latent_with_nan_is_an_error_that_says_who_is_at_fault(place, vae):
    with pytest.raises(ValueError, match="this latent has NaN"):
        place.node("CVL_VAEDecode").decode({"samples": torch.full((1, 4, 8, 8), float("nan"))}, vae)


def test_a_lora_that_fits_nothing_is_an_error_where_it_is_strict(place):
    tiny.lora_file(place.models / "loras" / "unet.safetensors", ["lora_unet_mid_block_attentions_0_proj_in"])
    with pytest.raises(ValueError, match="unet.safetensors: all of its 1 modules are for a diffusion model"):
        load(place, "CVL_LoadLoRA", "unet.safetensors")


def test_a_lora_of_another_width_says_both_shapes(place):
    name = "lora_te_text_model_encoder_layers_0_self_attn_q_proj"
    tiny.lora_file(place.models / "loras" / "wide.safetensors", [name], width=768)
    with pytest.raises(ValueError, match=r"768.*64"):
        load(place, "CVL_LoadLoRA", "wide.safetensors")


def test_a_lora_with_nothing_connected_is_an_error(place):
    tiny.lora_file(place.models / "loras" / "a.safetensors", ["lora_te_text_model_encoder_layers_0_mlp_fc1"])
    with pytest.raises(ValueError, match="nothing is connected"):
        place.node("CVL_LoadLoRA").load("a.safetensors", 1.0, 1.0)


@pytest.fixture
def clip_model(place):
    tiny.clip_file(place.models / "clip_vision" / "whole.safetensors")
    return place.node("CVL_LoadCLIPModel").load("whole.safetensors")["result"][0]


@pytest.mark.parametrize("labels", ["", "  \n \n", ",,,"])
def test_empty_labels_are_an_error(place, clip_model, labels):
    with pytest.raises(ValueError, match="no labels"):
        place.node("CVL_ZeroShotClassify").classify(clip_model, torch.zeros(1, 8, 8, 3), labels, "a {label}")


def test_a_template_without_a_place_for_the_label_is_an_error(place, clip_model):
    with pytest.raises(ValueError, match="no place for the label"):
        place.node("CVL_ZeroShotClassify").classify(clip_model, torch.zeros(1, 8, 8, 3), "a, b", "a photo")


def test_an_empty_prompt_is_fine(place):
    tiny.clip_file(place.models / "text_encoders" / "whole.safetensors")
    clip = place.node("CVL_LoadTextEncoder").load("whole.safetensors")["result"][0]
    ((hidden, extra),) = place.node("CVL_TextEncode").encode(clip, "")["result"][0]
    assert hidden.shape == (1, 77, 64) and extra["pooled_output"].shape == (1, 64)


def test_a_checkpoint_without_a_text_encoder_gives_no_clip_and_that_is_said(place):
    with pytest.raises(ValueError, match="has no text encoder"):
        place.node("CVL_TextEncode").encode(None, "a cat")
