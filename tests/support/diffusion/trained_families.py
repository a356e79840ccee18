"""What the tiny families of the matrix are trained on: a latent, a prompt, and where sizes of the table are too small
for a step (they are made for names), others.
"""

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ..matrix import models
from ..matrix.families import FAMILIES, Family

PICTURE, VIDEO = (1, 4, 8, 8), (1, 4, 1, 8, 8)
_BY_NAME = {family.name: family for family in FAMILIES}


@dataclass(frozen=True)
class Case:
    """One family. text: width of its prompts' states, of which there are so many tokens; more: of an entry of its
    conditioning.
    """

    name: str
    latent: tuple[int, ...] = PICTURE
    text: int = 40
    tokens: int = 7
    sizes: dict = field(default_factory=dict)
    more: dict = field(default_factory=dict)

    @property
    def family(self) -> Family:
        own = _BY_NAME[self.name]
        return replace(own, sizes={**own.sizes, **self.sizes})


def _states(tokens: int, width: int) -> Tensor:
    return torch.randn(1, tokens, width, generator=torch.Generator().manual_seed(1))


def _mask() -> dict:
    return {"attention_mask": torch.ones(1, 7, dtype=torch.int64)}


CASES = (
    Case("SD 1", text=768),
    Case("SD 2", text=1024),
    Case("SDXL", text=2048, sizes={"adm_in_channels": 24 + 6 * 256}),
    Case("SDXL refiner", text=1280, sizes={"adm_in_channels": 24 + 5 * 256}),
    Case("SSD-1B", text=2048, sizes={"adm_in_channels": 24 + 6 * 256}),
    Case("Stable Cascade C", (1, 16, 8, 8), sizes={"c_clip_img": 768}),
    Case("SD 3"),
    Case("AuraFlow"),
    Case("PixArt Sigma", (1, 4, 64, 64)),
    Case("PixArt Alpha", (1, 4, 64, 64)),
    Case(
        "Hunyuan-DiT",
        tokens=77,
        more={
            "attention_mask": torch.ones(1, 77),
            "conditioning_mt5xl": _states(256, 48),
            "attention_mask_mt5xl": torch.ones(1, 256),
        },
    ),
    Case("Flux.1"),
    Case("LongCat-Image"),
    Case("Flux.2", (1, 8, 8, 8)),
    Case("Lens", (1, 16, 8, 8), text=160, sizes={"out_channels": 4}),
    Case("Mochi", VIDEO, sizes={"learn_sigma": False}, more=_mask()),
    Case("LTX-Video", (1, 8, 1, 8, 8), more=_mask()),
    Case("HunyuanVideo", VIDEO),
    Case("HunyuanVideo 1.5", VIDEO, sizes={"in_channels": 9}),
    Case("HunyuanImage 2.1"),
    Case(
        "Cosmos",
        VIDEO,
        sizes={
            "pos_emb_learnable": True,
            "extra_per_block_abs_pos_emb": True,
            "extra_per_block_abs_pos_emb_type": "learnable",
        },
        more=_mask(),
    ),
    Case("Cosmos-Predict2", VIDEO),
    Case("Anima", VIDEO),
    Case("Lumina 2", more=_mask()),
    Case("Z-Image", sizes={"dim": 288, "axes_dims": [16, 16, 16]}),
    Case("Wan 2.1 T2V", VIDEO),
    Case(
        "HiDream",
        sizes={"llama_layers": [0, 1, 0, 1]},
        more={"conditioning_llama3": _states(2 * 7, 40).view(1, 2, 7, 40)},
    ),
    Case("Chroma", sizes={"in_dim": 64}),
    Case("OmniGen 2", more=_mask()),
    Case("Boogu", more=_mask()),
    Case("Qwen-Image", VIDEO),
    Case("Mage-Flow", (1, 16, 8, 8)),
    Case("JoyImage", VIDEO),
    Case("Ideogram 4", (1, 8, 8, 8)),
    Case("Krea 2", text=128),
    Case("Kandinsky 5", VIDEO),
    Case("ERNIE-Image", (1, 8, 8, 8)),
    Case("CogVideoX", VIDEO),
    Case("PixelDiT", (1, 3, 32, 32)),
)


def patcher(case: Case):
    """The family's MODEL with seeded random weights on the CPU; None where the host has no such class."""
    made = models.model(case.family, "cpu")
    if made is not None:
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for value in made.model.diffusion_model.state_dict().values():
                if value.is_floating_point():
                    value.copy_(torch.randn(value.shape, generator=generator) * 0.1)
    return made


def conditioning(case: Case) -> list:
    """A prompt as text encoders give it."""
    return [[_states(case.tokens, case.text), {"pooled_output": _states(1, 24)[0], **case.more}]]


def latent(case: Case) -> Tensor:
    """A latent in the model's space."""
    return torch.randn(case.latent, generator=torch.Generator().manual_seed(2))
