"""Our small diffusion model among ComfyUI's nodes: as a MODEL of its own, and equal to the run without ComfyUI."""

import inspect

import pytest
import torch
from safetensors.torch import load_file, save_file

from clip_vae_lora.diffusion.checkpoint import config_of, prefix_of
from clip_vae_lora.headless.workflow.stock_sampling import KSampler
from clip_vae_lora.nodes.host.alone.diffusion import make_model
from clip_vae_lora.training.scenes.reading import read_picture
from clip_vae_lora.training.scenes.scene import COLOURS, SHAPES

from ...support.diffusion import small_diffusion


@pytest.fixture(scope="module")
def model(comfyui):
    return comfyui.ours.nodes.host.host.make_model(small_diffusion.CONFIG, small_diffusion.state(), "fp32")


def _prompts() -> tuple[list, list]:
    generator = torch.Generator().manual_seed(9)
    return tuple([[torch.randn(1, 77, 64, generator=generator), {}]] for _ in range(2))


@pytest.mark.parametrize("sampler", ["euler", "heun"])
@pytest.mark.parametrize("scheduler", ["simple", "normal", "sgm_uniform"])
@pytest.mark.parametrize(("cfg", "denoise", "empty"), [(3.0, 1.0, True), (1.0, 1.0, True), (2.0, 0.6, False)])
def test_comfyuis_sampler_and_ours_alone_agree(comfyui, model, sampler, scheduler, cfg, denoise, empty):
    samples = torch.zeros(2, 4, 8, 8) if empty else torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    positive, negative = _prompts()
    settings = (5, 6, cfg, sampler, scheduler, positive, negative, {"samples": samples})
    (theirs,) = comfyui.nodes["KSampler"]().sample(model, *settings, denoise=denoise)
    alone = make_model(small_diffusion.CONFIG, small_diffusion.state(), "fp32")
    (ours,) = KSampler().run(alone, *settings, denoise=denoise)
    # float32; the host steps by denoised pictures, we by velocities, and its levels are rounded to float32
    torch.testing.assert_close(ours["samples"], theirs["samples"].cpu(), atol=2e-5, rtol=2e-5)


def test_a_stock_lora_loader_changes_it_as_ours_does(comfyui, model, tmp_path):
    module = "down_1_0_attention_attn2_to_k"
    generator = torch.Generator().manual_seed(2)
    save_file(
        {
            f"lora_unet_{module}.lora_down.weight": torch.randn(2, 64, generator=generator),
            f"lora_unet_{module}.lora_up.weight": torch.randn(32, 2, generator=generator),
            f"lora_unet_{module}.alpha": torch.tensor(2.0),
        },
        comfyui.models / "loras" / "small.safetensors",
    )
    (stock,) = comfyui.nodes["LoraLoaderModelOnly"]().load_lora_model_only(model, "small.safetensors", 0.7)
    answer = comfyui.nodes["CVL_LoadLoRA"]().load(
        file="small.safetensors", model=model, strength_model=0.7, strength_clip=0.7
    )
    positive, negative = _prompts()

    def sampled(one) -> torch.Tensor:
        latent = {"samples": torch.zeros(1, 4, 8, 8)}
        return comfyui.nodes["KSampler"]().sample(one, 5, 3, 2.0, "euler", "simple", positive, negative, latent)[0][
            "samples"
        ]

    plain, theirs, ours = sampled(model), sampled(stock), sampled(answer["result"][0])
    assert (theirs - plain).abs().max() > 1e-3
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)  # float32


def test_a_deep_copy_of_the_model_is_another_network_with_the_same_weights(comfyui, model):
    if "force_deepcopy" not in inspect.signature(model.clone).parameters:
        pytest.skip("this ComfyUI makes no deep copies")
    other = model.clone(force_deepcopy=True)
    assert other.model is not model.model
    for name, tensor in small_diffusion.state().items():
        assert torch.equal(tensor, other.model.diffusion_model.state_dict()[name])


def test_a_saved_model_is_read_again(comfyui, model, tmp_path):
    comfyui.nodes["ModelSave"]().save(model, "small/saved")
    import folder_paths

    (path,) = __import__("pathlib").Path(folder_paths.get_output_directory()).glob("small/saved_*.safetensors")
    saved = load_file(path)
    prefix = prefix_of({name: tensor.shape for name, tensor in saved.items()})
    state = {name.removeprefix(prefix): tensor for name, tensor in saved.items() if name.startswith(prefix)}
    assert config_of({name: tensor.shape for name, tensor in state.items()}) == small_diffusion.CONFIG
    for name, tensor in small_diffusion.state().items():
        assert torch.equal(state[name].float(), tensor), name


def test_the_bundled_model_draws_what_the_stock_nodes_are_told(comfyui):
    """The three loaders among CLIP Text Encode and KSampler, as in the quickstart."""
    nodes = comfyui.nodes
    loaded = [
        nodes[kind]().load(f"bundled/{file}.safetensors")["result"][0]
        for kind, file in (
            ("CVL_LoadDiffusionModel", "tiny_diffusion"),
            ("CVL_LoadTextEncoder", "tiny_clip"),
            ("CVL_LoadVAE", "tiny_vae"),
        )
    ]
    model, clip, vae = loaded
    prompts = [nodes["CLIPTextEncode"]().encode(clip, text)[0] for text in ("a photo of a blue star", "")]
    empty = {"samples": torch.zeros(4, 4, 16, 16)}
    (latent,) = nodes["KSampler"]().sample(model, 1, 20, 3.0, "euler", "normal", *prompts, empty)
    (image,) = nodes["VAEDecode"]().decode(vae, latent)
    found = [read_picture(picture.movedim(-1, 0)) for picture in image]
    right = [
        read is not None and (SHAPES[read.shape], tuple(COLOURS)[read.colour]) == ("star", "blue") for read in found
    ]
    assert image.shape == (4, 64, 64, 3) and sum(right) >= 3
