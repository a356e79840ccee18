"""What the nodes give, on the standalone host: the cores' own results, whole reports, and originals left alone."""

import json
import math

import pytest
import torch

from clip_vae_lora.clip_core.features.preprocess import preprocess
from clip_vae_lora.clip_core.networks.clip import CLIP
from clip_vae_lora.clip_core.tokenizer import Tokenizer
from clip_vae_lora.files.tensors import open_tensors, write_tensors
from clip_vae_lora.vae_core.networks.kl import AutoencoderKL

from ..support import tiny

EXACT = 0.0  # the same operations on the same numbers


@pytest.fixture
def image():
    return torch.rand(2, 40, 48, 3, generator=torch.Generator().manual_seed(0))


def state_of(path):
    with open_tensors(path) as file:
        return file.read(file.shapes)


def nearest(result, run, values):
    """The distance to the network's own result, all pictures at once or one by one: kernels may differ in the last bit
    between the two, and which of them is done depends on the memory there is."""
    one_by_one = torch.cat([run(value[None]) for value in values])
    return min((result - expected).abs().max() for expected in (run(values), one_by_one))


def test_encode_and_decode_are_the_networks_own(place, image):
    path = tiny.vae_file(place.models / "vae" / "v.safetensors")
    vae, report = place.node("CVL_LoadVAE").load("v.safetensors")["result"]
    assert json.loads(report)["px_per_cell"] == 2
    network = AutoencoderKL(tiny.VAE_CONFIG)
    network.load_state_dict(state_of(path))
    pixels = (image.movedim(-1, 1) * 2 - 1).contiguous()
    with torch.no_grad():
        latent = place.node("CVL_VAEEncode").encode(image, vae)["result"][0]
        assert nearest(latent["samples"], network.encode, pixels) <= EXACT
        shown = place.node("CVL_VAEDecode").decode(latent, vae)["result"][0]
        decoded = nearest(shown, lambda z: (network.decode(z) + 1).div(2).clamp(0, 1).movedim(1, -1), latent["samples"])
    assert decoded <= EXACT and shown.shape == image.shape


def test_a_sample_depends_on_its_seed_and_spreads_as_the_posterior(place, image):
    tiny.vae_file(place.models / "vae" / "v.safetensors")
    vae = place.node("CVL_LoadVAE").load("v.safetensors")["result"][0]
    encode = place.node("CVL_VAEEncode").encode
    first, again, other = (encode(image, vae, "sample", seed)["result"][0]["samples"] for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    mean = encode(image, vae)["result"][0]["samples"]
    with torch.no_grad():
        std = vae.network.posterior(image.movedim(-1, 1) * 2 - 1).std
    z = (first - mean) / std
    assert abs(z.mean()) < 0.1 and abs(z.std() - 1) < 0.1  # 3,840 numbers: 0.1 is six standard errors


def test_what_does_not_fill_a_cell_is_cut_at_the_centre_and_said(place):
    tiny.vae_file(place.models / "vae" / "v.safetensors")
    vae = place.node("CVL_LoadVAE").load("v.safetensors")["result"][0]
    image = torch.rand(1, 9, 11, 3)
    answer = place.node("CVL_VAEEncode").encode(image, vae, border="cut")
    report = json.loads(answer["result"][1])
    assert report["loose_px"] == [1, 1] and "cut" in answer["ui"]["text"][0]
    inner = place.node("CVL_VAEEncode").encode(image[:, :8, :10], vae)["result"][0]["samples"]
    assert torch.equal(inner, answer["result"][0]["samples"])


def test_zero_shot_is_the_softmax_of_scaled_cosines(place, image):
    path = tiny.clip_file(place.models / "clip_vision" / "c.safetensors")
    model = place.node("CVL_LoadCLIPModel").load("c.safetensors")["result"][0]
    labels = ["a cat", "a dog", "a very red bus"]
    answer = place.node("CVL_ZeroShotClassify").classify(model, image, "\n".join(labels), "a photo of {label}")
    best, report, chart = answer["result"][:3]
    network = CLIP(tiny.CLIP_CONFIG)
    network.load_state_dict(state_of(path))
    with torch.no_grad():
        ids, _ = Tokenizer().batch([f"a photo of {label}" for label in labels])
        texts = torch.nn.functional.normalize(network.text_features(ids), dim=-1)
        pixels = preprocess(image, 32, tiny.CLIP_CONFIG.mean, tiny.CLIP_CONFIG.std)
        pictures = torch.nn.functional.normalize(network.image_features(pixels), dim=-1)
        expected = (network.logit_scale.exp() * pictures @ texts.T).softmax(-1)
    for row, picture in enumerate(json.loads(report)["pictures"]):
        shown = torch.tensor([picture["probabilities"][label] for label in labels])
        assert (shown - expected[row]).abs().max() < 1e-5  # printed with six digits
        assert best.split("\n")[row] == picture["best"] == labels[int(expected[row].argmax())]
    assert chart.shape[0] == 2 and len(answer["ui"]["images"]) == 2
    assert all((place.temp / entry["subfolder"] / entry["filename"]).is_file() for entry in answer["ui"]["images"])


def test_a_lora_changes_the_clip_model_as_its_formula_says_and_leaves_the_original(place):
    tiny.clip_file(place.models / "clip_vision" / "c.safetensors")
    names = ["lora_te_text_model_encoder_layers_0_self_attn_q_proj", "lora_vision_encoder_layers_1_self_attn_v_proj"]
    path = tiny.lora_file(place.models / "loras" / "l.safetensors", names[:1])
    model = place.node("CVL_LoadCLIPModel").load("c.safetensors")["result"][0]
    before = {name: weight.clone() for name, weight in model.network.state_dict().items()}
    answer = place.node("CVL_LoadLoRA").load("l.safetensors", 1.0, 0.5, clip_model=model)["result"]
    factors = state_of(path)
    key = "text_model.encoder.layers.0.self_attn.q_proj.weight"
    delta = 0.5 * factors[f"{names[0]}.lora_up.weight"] @ factors[f"{names[0]}.lora_down.weight"]
    after = answer[3].network.state_dict()
    assert (after[key] - before[key] - delta).abs().max() < 1e-6  # one rounding of a sum of order one
    assert all(torch.equal(after[name], weight) for name, weight in before.items() if name != key)
    assert all(torch.equal(model.network.state_dict()[name], weight) for name, weight in before.items())
    assert json.loads(answer[2])["applied"] == 1


def test_strength_zero_passes_the_original_on(place):
    tiny.clip_file(place.models / "clip_vision" / "c.safetensors")
    tiny.lora_file(place.models / "loras" / "l.safetensors", ["lora_te_text_model_encoder_layers_0_self_attn_q_proj"])
    model = place.node("CVL_LoadCLIPModel").load("c.safetensors")["result"][0]
    assert place.node("CVL_LoadLoRA").load("l.safetensors", 1.0, 0.0, clip_model=model)["result"][3] is model


def test_what_of_a_lora_was_not_used_is_in_the_report(place):
    tiny.clip_file(place.models / "text_encoders" / "c.safetensors")
    names = ["lora_te_text_model_encoder_layers_0_self_attn_q_proj", "lora_unet_mid_block_attentions_0_proj_in"]
    tiny.lora_file(place.models / "loras" / "l.safetensors", names)
    clip = place.node("CVL_LoadTextEncoder").load("c.safetensors")["result"][0]
    answer = place.node("CVL_LoadLoRA").load("l.safetensors", 1.0, 1.0, clip=clip)
    report = json.loads(answer["result"][2])
    assert report["applied"] == 1 and report["not_connected"] == [names[1]] and not report["homeless"]
    assert "1 of its parts is for a diffusion model (MODEL), which is not connected" in answer["ui"]["text"][0]


def test_a_file_overwritten_under_its_name_is_read_again(place):
    path = tiny.vae_file(place.models / "vae" / "v.safetensors")
    node = place.node("CVL_LoadVAE")
    before = node.IS_CHANGED("v.safetensors")
    assert before == node.IS_CHANGED("v.safetensors")
    tiny.vae_file(path, latent=16)
    assert node.IS_CHANGED("v.safetensors") != before


def test_text_encode_counts_tokens_by_chunk(place):
    tiny.clip_file(place.models / "text_encoders" / "c.safetensors")
    clip = place.node("CVL_LoadTextEncoder").load("c.safetensors")["result"][0]
    answer = place.node("CVL_TextEncode").encode(clip, "cat " * 80)
    assert json.loads(answer["result"][1])["tokens"] == {"l": [75, 5]}
    assert answer["result"][0][0][0].shape == (1, 154, 64)


def test_psnr_is_minus_ten_log_ten_of_the_mean_square(place):
    first = torch.rand(2, 16, 16, 3, generator=torch.Generator().manual_seed(3))
    second = (first + 0.1 * torch.rand(2, 16, 16, 3, generator=torch.Generator().manual_seed(4))).clamp(0, 1)
    value, difference, report, _ = place.node("CVL_CompareImages").compare(first, second)["result"]
    assert math.isclose(value, -10 * math.log10(((first - second).double() ** 2).mean()), rel_tol=1e-9)
    assert torch.allclose(difference, ((first - second).abs() * 4).clamp(0, 1))
    same = place.node("CVL_CompareImages").compare(first, first)["result"]
    assert same[0] == math.inf and json.loads(same[2])["psnr_db"] is None


def test_a_tiny_autoencoder_finds_its_other_half(place, shared_data):
    for half in ("encoder", "decoder"):
        source = shared_data / "taef2" / f"taef2_{half}.pth"
        (place.models / "vae_approx" / source.name).write_bytes(source.read_bytes())
    for half, other in (("encoder", "decoder"), ("decoder", "encoder")):
        report = json.loads(place.node("CVL_LoadVAE").load(f"vae_approx/taef2_{half}.pth")["result"][1])
        assert report["files"] == [f"taef2_{half}.pth", f"taef2_{other}.pth"]
        assert report["encoder"] and report["decoder"]


@pytest.mark.parametrize("named", ["gelu", "quick_gelu"])
def test_the_activation_is_taken_from_a_config_beside_the_file(place, named):
    folder = place.models / "clip_vision" / "some-clip"
    folder.mkdir()
    tiny.clip_file(folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"text_config": {"hidden_act": named}}))
    report = place.node("CVL_LoadCLIPModel").load("some-clip/model.safetensors")["result"][1]
    assert json.loads(report)["activation"] == named


def test_only_the_text_encoder_of_a_checkpoint_is_read(place, monkeypatch):
    from clip_vae_lora.files.tensors import TensorFile

    state = {f"cond_stage_model.transformer.{name}": tensor for name, tensor in tiny.text_state().items()}
    whole = state | {"model.diffusion_model.out.2.weight": torch.zeros(1000, 1000)}
    write_tensors(place.models / "checkpoints" / "sd1.safetensors", whole, {})
    read = []
    ordinary = TensorFile.read

    def watched(file, names, dtype=None):
        read.extend(names)
        return ordinary(file, names, dtype)

    monkeypatch.setattr(TensorFile, "read", watched)
    answer = place.node("CVL_LoadTextEncoder").load("checkpoints/sd1.safetensors")["result"]
    assert json.loads(answer[1])["family"] == "sd1" and set(read) == set(state)
