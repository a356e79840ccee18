"""Stock VAE objects round tiny networks: the host's own detection and numbers, its own classes, small and random."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pytest
import torch
from torch import nn

NEWER = {  # families that 0.3.64 does not know
    "wide decoder", "FLUX.2", "Mage", "Wan 2.1 with alpha", "LTX 2.4", "CogVideoX", "SeedVR2", "MiniMax H3", "taeh3",
    "taew2_2", "taeltx2", "lighttaehv1.5", "lighttaew2_1", "MiniMax Music3", "LTX Audio", "Stable Audio 3",
    "MiniMax H3 Audio", "Trellis 2 shapes", "Trellis 2 textures", "TripoSplat",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Family:
    """One branch of the host's detection: the tensors it is known by, and how its network is made tiny."""

    name: str
    marks: Mapping[str, tuple[int, ...]]  # the names and shapes that `comfy.sd.VAE` asks for
    network: Callable[[], nn.Module] | None = None  # None: never run, because our nodes refuse it by name
    makes: str = "pictures"  # or videos, sound, 3-D shapes
    px: int = 64  # of a picture in whole cells, at least two along each side
    frames: int = 5  # of a video
    metadata: Mapping[str, object] | None = None
    image_channels: int = 3
    encodes: bool = True
    decodes: bool = True
    weightless: bool = True  # whether its full size can be made without memory for weights, on the device "meta"


def stock_vae(family: Family):
    """The host's object of this family. Skips the test where this ComfyUI does not know it."""
    import comfy.model_patcher
    import comfy.sd

    if family.name in NEWER and not hasattr(comfy.sd.VAE, "vae_output_dtype"):
        pytest.skip(f"this ComfyUI does not know {family.name}")
    marks = {name: torch.zeros(shape) for name, shape in family.marks.items()}
    options = {"metadata": family.metadata} if family.metadata else {}
    with torch.device("meta" if family.weightless else "cpu"):
        vae = comfy.sd.VAE(sd=marks, dtype=torch.float32, device=torch.device("cpu"), **options)
    if family.network is None:
        return vae
    vae.first_stage_model = randomised(family.network())
    vae.patcher = comfy.model_patcher.ModelPatcher(
        vae.first_stage_model, load_device=torch.device("cpu"), offload_device=torch.device("cpu")
    )
    vae.size = None
    return vae


def randomised(network: nn.Module) -> nn.Module:
    """Every number random and of a trained network's size; the host's layers start as rubbish."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if not tensor.is_floating_point():
                continue
            drawn = torch.randn(tensor.shape, generator=generator)
            if name.endswith(("running_var", "std-of-means", "latents_std", "latent_std")):
                tensor.copy_(1 + 0.1 * drawn.abs())
            elif tensor.ndim <= 1 or name.endswith("gamma"):
                tensor.copy_((1 if name.endswith(("weight", "gamma")) else 0) + 0.1 * drawn)
            else:
                tensor.copy_(drawn * max(1, tensor[0].numel()) ** -0.5)
    return network.float().eval().requires_grad_(False)
