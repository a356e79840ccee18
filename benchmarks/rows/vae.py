"""The VAE rows of `benchmarks/device.py`: ours beside diffusers and ComfyUI, decoding and encoding."""

import torch

from clip_vae_lora.benchmarks.rows.bench import LITTLE, WHOLE, Bench, comfyui, free
from clip_vae_lora.nodes.host.alone import vae as standalone_vae
from clip_vae_lora.vae_core.config import VAEConfig
from clip_vae_lora.vae_core.networks.kl import AutoencoderKL
from clip_vae_lora.vae_core.tiling.work import Tiling

SD1 = VAEConfig(128, (1, 2, 4, 4), 2, 4, True)


def our_vae(bench: Bench) -> standalone_vae.StandaloneVAE:
    network = AutoencoderKL(SD1, device=bench.device, dtype=torch.float16).eval().requires_grad_(False)
    return standalone_vae.StandaloneVAE(network)


def their_vaes(bench: Bench) -> dict:
    from diffusers import AutoencoderKL

    with torch.device(bench.device):
        found = {
            "diffusers": AutoencoderKL(
                down_block_types=("DownEncoderBlock2D",) * 4,
                up_block_types=("UpDecoderBlock2D",) * 4,
                sample_size=512,
                block_out_channels=(128, 256, 512, 512),
                layers_per_block=2,
                latent_channels=4,
            )
        }
        if comfyui() is not None:
            from comfy.ldm.models.autoencoder import AutoencoderKL as Stock

            numbers = {
                "double_z": True,
                "z_channels": 4,
                "resolution": 256,
                "in_channels": 3,
                "out_ch": 3,
                "ch": 128,
                "ch_mult": [1, 2, 4, 4],
                "num_res_blocks": 2,
                "attn_resolutions": [],
                "dropout": 0.0,
            }
            found["ComfyUI"] = Stock(ddconfig=numbers, embed_dim=4)
    for name, network in found.items():
        for module in network.modules():  # on the spot: a pretended network cannot be moved or cast as a whole
            for key, weight in module._parameters.items():
                if weight is not None:
                    module._parameters[key] = torch.nn.Parameter(weight.detach().half(), requires_grad=False)
        found[name] = network.eval()
    return found


def decode(bench: Bench):
    sizes = ((512, 1, WHOLE), (1024, 1, WHOLE), (2048, 1, WHOLE), (512, 8, WHOLE), (2048, 1, LITTLE))
    for px, count, free_bytes in sizes:
        z, ours, theirs = bench.draw(count, 4, px // 8, px // 8), our_vae(bench), their_vaes(bench)
        contenders = {"ours": lambda z=z, ours=ours: standalone_vae.decode_latent(ours, z, Tiling()).result}
        for name, network in theirs.items():

            def work(network=network, z=z):
                pixels = network.decode(z.half().to(bench.device))
                return getattr(pixels, "sample", pixels).cpu()

            contenders[name] = work
        with free(bench, free_bytes):
            yield f"VAE decode {count} x {px} px, {free_bytes / 1e9:.0f} GB free", bench.measured(contenders)


def encode(bench: Bench):
    image, ours, theirs = bench.draw(1, 1024, 1024, 3), our_vae(bench), their_vaes(bench)
    contenders = {"ours": lambda: standalone_vae.encode_image(ours, image, None, Tiling()).result}
    for name, network in theirs.items():

        def work(network=network):
            found = network.encode(image.movedim(-1, 1).half().to(bench.device) * 2 - 1)
            return (found.latent_dist.mean if hasattr(found, "latent_dist") else found).cpu()

        contenders[name] = work
    with free(bench, WHOLE):
        yield "VAE encode 1 x 1024 px, 22 GB free", bench.measured(contenders)
