"""ComfyUI 0.33 with Dynamic VRAM: types, stock VAEs, text encoders and LoRAs while weights are streamed."""

import contextlib
import copy
import importlib
from types import SimpleNamespace

import pytest
import torch

from clip_vae_lora.files.tensors import write_tensors
from clip_vae_lora.vae_core.networks.tiny import TinyAutoencoder, TinyConfig

from ..support import models
from ..support.cards.dynamic_vram import Away, dynamic_vram, staged
from .vae.test_vae import ROUNDING, TILED


@pytest.fixture(params=[True, False], ids=["it fits", "nothing stays"])
def streaming(comfyui, request):
    with dynamic_vram(request.param) as memory:
        yield memory


@pytest.fixture(scope="module")
def picture():
    return torch.rand(1, 136, 104, 3, generator=torch.Generator().manual_seed(2))


@pytest.fixture(scope="module")
def sd1_tensors(comfyui):
    from safetensors.torch import load_file

    return load_file(models.sd1_vae(comfyui.models / "vae" / "dynamic.safetensors", seed=1))


def stock_vae(tensors):
    import comfy.sd

    return comfy.sd.VAE(sd={name: tensor.float() for name, tensor in tensors.items()}, dtype=torch.float32)


def test_a_stock_vae_is_encoded_sampled_measured_and_tiled_by_us(comfyui, streaming, sd1_tensors, picture):
    vae = stock_vae(sd1_tensors)
    assert vae.patcher.is_dynamic()
    encode, decode = comfyui.nodes["CVL_VAEEncode"](), comfyui.nodes["CVL_VAEDecode"]()
    latent = {"samples": vae.encode(picture)}
    reference = vae.decode(latent["samples"]).clone()
    assert len(staged(vae.first_stage_model)) > 30 and isinstance(vae.first_stage_model.decoder.conv_in.weight, Away)
    before = streaming.faults

    mean, report = encode.encode(picture, vae)["result"]
    assert "by ComfyUI" not in report and (mean["samples"] - latent["samples"]).abs().max() <= ROUNDING
    drawn = encode.encode(picture, vae, "sample", seed=7)["result"][0]["samples"]
    assert (drawn - mean["samples"]).abs().max() > 0.1
    measured = comfyui.nodes["CVL_LatentDistribution"]().measure(picture, vae)["result"]
    assert (measured[0]["samples"] - mean["samples"]).abs().max() <= TILED
    whole = decode.decode(latent, vae)["result"]
    assert "by ComfyUI" not in whole[1] and (whole[0] - reference).abs().max() <= TILED
    assert streaming.faults > before  # the host's own streaming brought the weights

    dynamic = importlib.import_module(f"{comfyui.ours.__name__}.nodes.host.comfyui.vaes.layers")
    tiled = importlib.import_module(f"{comfyui.ours.__name__}.vae_core.tiling.tiled")
    network = dynamic.network_over(vae.first_stage_model)
    parts = tiled.encode(network, picture.movedim(-1, 1) * 2 - 1, (8, 8))
    assert (parts.mean - latent["samples"]).abs().max() <= TILED
    parts = vae.process_output(tiled.decode(network, latent["samples"], (8, 8))).movedim(1, -1)
    assert (parts - reference).abs().max() <= TILED


def test_patches_on_a_streamed_vae_are_in_our_result(comfyui, streaming, sd1_tensors, picture):
    vae = stock_vae(sd1_tensors)
    patched = copy.copy(vae)
    patched.patcher = vae.patcher.clone()
    change = torch.full_like(vae.first_stage_model.decoder.mid.block_1.conv1.weight, 0.01)
    assert patched.patcher.add_patches({"decoder.mid.block_1.conv1.weight": ("diff", (change,))})
    latent = {"samples": torch.randn(1, 4, 12, 9, generator=torch.Generator().manual_seed(3))}
    plain = vae.decode(latent["samples"]).clone()
    reference = patched.decode(latent["samples"]).clone()
    assert (reference - plain).abs().max() > 1e-3
    decode = comfyui.nodes["CVL_VAEDecode"]()
    assert (decode.decode(latent, patched)["result"][0] - reference).abs().max() <= TILED
    assert (decode.decode(latent, vae)["result"][0] - plain).abs().max() <= TILED


def test_a_streamed_taesd_goes_through_our_tiles(comfyui, streaming):
    torch.manual_seed(0)
    tensors = {name: t.clone() for name, t in TinyAutoencoder(TinyConfig(4, scale=0.5)).state_dict().items()}
    vae = stock_vae(tensors)
    assert vae.patcher.is_dynamic()
    picture = torch.rand(1, 264, 200, 3, generator=torch.Generator().manual_seed(2))
    latent = {"samples": vae.encode(picture)}
    encoded = comfyui.nodes["CVL_VAEEncode"]().encode(picture, vae, tiling="budget", budget_mb=96)["result"]
    decoded = comfyui.nodes["CVL_VAEDecode"]().decode(latent, vae, "budget", 96)["result"]
    assert all("tiles of" in report for _, report in (encoded, decoded))
    assert (encoded[0]["samples"] - latent["samples"]).abs().max() <= ROUNDING
    assert (decoded[0] - vae.decode(latent["samples"])).abs().max() <= ROUNDING
    with pytest.raises(ValueError, match="encodes to one latent and has no distribution"):
        comfyui.nodes["CVL_VAEEncode"]().encode(picture, vae, "sample", seed=1)


@pytest.fixture(scope="module")
def clip_l(comfyui):
    """The name of a CLIP-L in fp16."""
    models.text_encoder(comfyui.models / "text_encoders" / "dynamic_l.safetensors", "clip_l", seed=1)
    return "dynamic_l.safetensors"


@pytest.fixture(scope="module")
def lora(comfyui):
    """The name of two LoRAs' worth of changes on CLIP-L, so that ours are fused into one patch for each weight."""
    generator, tensors = torch.Generator().manual_seed(4), {}
    for layer in range(12):
        name = f"lora_te_text_model_encoder_layers_{layer}_mlp_fc1"
        tensors[f"{name}.lora_up.weight"] = torch.randn(3072, 4, generator=generator)
        tensors[f"{name}.lora_down.weight"] = torch.randn(4, 768, generator=generator) * 0.05
        tensors[f"{name}.alpha"] = torch.tensor(2.0)
    write_tensors(comfyui.models / "loras" / "dynamic.safetensors", tensors, {})
    return "dynamic.safetensors"


PROMPT = "a (red:1.3) fox over the lazy dog"


def hidden(comfyui, node: str, clip) -> torch.Tensor:
    answer = comfyui.nodes[node]().encode(clip=clip, text=PROMPT)
    answer = answer["result"] if isinstance(answer, dict) else answer
    return answer[0][0][0].clone()


def test_a_streamed_stock_clip_and_ours_give_what_they_give_without_streaming(comfyui, clip_l, lora):
    """With a LoRA loaded by us on both; and again without it, after the patched clone was used."""
    found = []
    for mode in (None, True, False):
        with contextlib.nullcontext() if mode is None else dynamic_vram(mode):
            (stock,) = comfyui.nodes["CLIPLoader"]().load_clip(clip_l, "stable_diffusion")
            ours = comfyui.nodes["CVL_LoadTextEncoder"]().load(clip_l, dtype="fp16")["result"][0]
            if mode is not None:
                assert stock.patcher.is_dynamic() and not ours.patcher.is_dynamic()
            rows = []
            for clip in (stock, ours):
                plain = hidden(comfyui, "CVL_TextEncode", clip)
                node = comfyui.nodes["CVL_LoadLoRA"]()
                changed = node.load(lora, 1.0, 1.0, clip=clip)["result"][1]
                twice = node.load(lora, 1.0, 0.5, clip=changed)["result"][1]
                rows += [plain, *(hidden(comfyui, "CVL_TextEncode", each) for each in (changed, twice))]
                assert torch.equal(hidden(comfyui, "CVL_TextEncode", clip), plain)
            found.append(rows)
    still, *streamed = found
    assert (still[0] - still[1]).abs().max() > 1e-2 and (still[1] - still[2]).abs().max() > 1e-2
    for rows in streamed:
        for number, (row, expected) in enumerate(zip(rows, still)):
            # patched fp16 weights: rounded stochastically, or (nothing stays) not at all; plain ones are the same
            assert (row - expected).abs().max() <= (1e-5 if number % 3 == 0 else 3e-3), number


def test_text_features_of_a_streamed_stock_clip_see_its_patches(comfyui, clip_l, monkeypatch):
    """Also those on the token table, which would be missing from a look-up on the CPU, where the table lies."""
    host = importlib.import_module(f"{comfyui.ours.__name__}.nodes.host.comfyui.text_features")
    seeing = SimpleNamespace(model=SimpleNamespace(visual_projection=SimpleNamespace(weight=torch.empty(768, 1))))
    monkeypatch.setattr(host, "checked", lambda model: model)
    key = "clip_l.transformer.text_model.embeddings.token_embedding.weight"
    change = torch.randn(49408, 768, generator=torch.Generator().manual_seed(5)) * 0.05
    found = {}
    for streamed in (False, True):
        with dynamic_vram(False) if streamed else contextlib.nullcontext():
            (plain,) = comfyui.nodes["CLIPLoader"]().load_clip(clip_l, "stable_diffusion")
            patched = plain.clone()
            assert patched.add_patches({key: ("diff", (change,))})
            found[streamed] = [host.text_features(seeing, clip, ["a fox"], None).features for clip in (plain, patched)]
    assert (found[False][1] - found[False][0]).abs().max() > 0.01
    assert (found[True][0] - found[False][0]).abs().max() <= 1e-5
    # a patched fp16 table is rounded once here and kept in float32 there; features have length 1
    assert (found[True][1] - found[False][1]).abs().max() <= 2e-3


def test_a_patch_of_ours_is_moved_whole_when_weights_are_streamed(comfyui):
    """Every tensor of it is counted, and lies in the memory that the host has prepared."""
    from comfy.model_patcher import LowVramPatch

    if not hasattr(LowVramPatch, "prepare"):
        pytest.skip("this ComfyUI moves no patches ahead")
    ours = comfyui.ours.__name__
    patches = importlib.import_module(f"{ours}.nodes.host.comfyui.patches")
    if not hasattr(patches.FusedPatch, "of"):
        pytest.skip("patches are not kept in plain tuples yet")
    names = ("adapters", "hadamard", "whole")
    adapters, hadamard, whole = (importlib.import_module(f"{ours}.lora.kinds.{name}") for name in names)
    change = importlib.import_module(f"{ours}.lora.weights.fusing").Change
    random = torch.Generator().manual_seed(6)
    factors = [[torch.randn(shape, generator=random) for shape in ((24, 4), (4, 32))] for _ in range(4)]
    (a, b), (c, d), (e, f), (g, h) = factors
    several = [
        change(adapters.LoRA(a, b, 2.0), 0.5),
        change(adapters.LoRA(c, d, 4.0), -1.0),
        change(hadamard.LoHa(e, f, g, h, 4.0), 0.7),
        change(whole.Difference(e @ f), 0.1),
    ]
    strength, patch = patches._adapter(several, False)
    entry = LowVramPatch("key", {"key": [(strength, patch, 1.0, None, None)]})
    size = entry.memory_required()
    destination = torch.zeros(size, dtype=torch.uint8)
    entry.prepare(destination, None)
    start = destination.data_ptr()
    inside = [start <= tensor.data_ptr() < start + size for tensor in tensors_in(entry.prepared_patches)]
    assert len(inside) >= 2 + 4 + 1 and all(inside)  # the LoRAs' factors may be put side by side
    weight = torch.randn(24, 32, generator=random)
    expected = weight + 0.5 * 0.5 * a @ b - c @ d + 0.7 * (e @ f) * (g @ h) + 0.1 * e @ f
    assert (entry(weight.clone()) - expected).abs().max() <= 1e-5


def tensors_in(value) -> list[torch.Tensor]:
    """All that can be reached from here, through whatever holds it."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, tuple | list):
        return [tensor for part in value for tensor in tensors_in(part)]
    return (
        [tensor for part in vars(value).values() for tensor in tensors_in(part)] if hasattr(value, "__dict__") else []
    )
