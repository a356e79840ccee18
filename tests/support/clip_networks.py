"""Tiny random CLIPs of the reference implementations, for the tests beside this file."""

from dataclasses import replace

import torch

from clip_vae_lora.clip_core.config import PUBLISHED, CLIPConfig, ResNetConfig, to_metadata
from clip_vae_lora.clip_core.networks.clip import CLIP
from clip_vae_lora.clip_core.tokenizer import Tokenizer

RESNETS = [name for name, config in PUBLISHED.items() if isinstance(config.vision, ResNetConfig)]
TEXTS = ["", "a photo of a cat", "two dogs, 漢字 and an emoji 🐱", "word " * 90]


def tiny(name: str) -> CLIPConfig:
    """A published model an eighth as wide and deep, with its own numbers of heads, activation and patch size."""
    whole = PUBLISHED[name]
    text = replace(
        whole.text,
        width=whole.text.width // 8,
        layers=2 + whole.text.layers // 16,
        mlp=whole.text.mlp // 8,
        embed=whole.text.embed // 8,
    )
    if name in RESNETS:
        blocks = tuple(1 + count // 8 for count in whole.vision.blocks)
        px = 32 * (1 + whole.vision.grid // 4)
        sizes = {"width": whole.vision.width // 8, "heads": whole.vision.heads // 8, "embed": text.embed}
        return CLIPConfig(text, replace(whole.vision, blocks=blocks, image_px=px, **sizes))
    vision = replace(
        whole.vision,
        width=whole.vision.width // 8,
        layers=2 + whole.vision.layers // 16,
        mlp=whole.vision.mlp // 8,
        embed=whole.vision.embed // 8,
        image_px=3 * whole.vision.patch_px,
    )
    return CLIPConfig(text, vision)


def randomise_(module: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Weights large enough that every part of the network shows in its output."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in module.named_parameters():
            noise = torch.randn(tensor.shape, generator=draw)
            around_one = name.endswith("weight") and tensor.ndim == 1
            tensor.copy_(1 + 0.1 * noise if around_one else 0.08 * noise)
        for name, tensor in module.named_parameters():
            if name == "logit_scale":
                tensor.fill_(2.0)
    return module.eval()


def with_image_half(config: CLIPConfig, state: dict[str, torch.Tensor]) -> CLIP:
    """A CLIP whose image half has these weights, all of them; its text half stays as it was made."""
    model = CLIP(config).eval()
    known = {name: tensor for name, tensor in state.items() if "position_ids" not in name}
    missing, unexpected = model.load_state_dict(known, strict=False)
    assert not unexpected and all(name.startswith(("text_", "logit_scale")) for name in missing)
    return model


def hf_text_config(config: CLIPConfig):
    from transformers import CLIPTextConfig

    text = config.text
    return CLIPTextConfig(
        vocab_size=text.vocab,
        hidden_size=text.width,
        intermediate_size=text.mlp,
        projection_dim=text.embed,
        num_hidden_layers=text.layers,
        num_attention_heads=text.heads,
        max_position_embeddings=text.context,
        hidden_act=text.activation,
        eos_token_id=49407,
        bos_token_id=49406,
        pad_token_id=49407,
    )


def hf_vision_config(config: CLIPConfig):
    from transformers import CLIPVisionConfig

    vision = config.vision
    return CLIPVisionConfig(
        hidden_size=vision.width,
        intermediate_size=vision.mlp,
        projection_dim=vision.embed,
        num_hidden_layers=vision.layers,
        num_attention_heads=vision.heads,
        image_size=vision.image_px,
        patch_size=vision.patch_px,
        hidden_act=vision.activation,
    )


def hf_clip(config: CLIPConfig):
    from transformers import CLIPConfig as HFConfig
    from transformers import CLIPModel

    halves = {"text_config": hf_text_config(config).to_dict(), "vision_config": hf_vision_config(config).to_dict()}
    return randomise_(CLIPModel(HFConfig(**halves, projection_dim=config.text.embed)))


def open_clip_model(config: CLIPConfig, custom_text: bool = False):
    from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg, CustomTextCLIP

    text, vision = config.text, config.vision
    kind = CustomTextCLIP if custom_text else CLIP
    if isinstance(vision, ResNetConfig):
        seen = CLIPVisionCfg(
            layers=vision.blocks,
            width=vision.width,
            head_width=32 * vision.width // vision.heads,
            image_size=vision.image_px,
            patch_size=None,
        )
    else:
        seen = CLIPVisionCfg(
            layers=vision.layers,
            width=vision.width,
            head_width=vision.width // vision.heads,
            mlp_ratio=vision.mlp / vision.width,
            patch_size=vision.patch_px,
            image_size=vision.image_px,
        )
    made = kind(
        text.embed,
        seen,
        CLIPTextCfg(width=text.width, heads=text.heads, layers=text.layers),
        quick_gelu=text.activation == "quick_gelu",
    )
    return calibrate_(randomise_(made), config)


def calibrate_(model: torch.nn.Module, config: CLIPConfig) -> torch.nn.Module:
    """Give a reference's ResNet signals of a trained one's size: the statistics of some pictures in its BatchNorms, and
    weights of OpenAI's first size in its pooling. Without them rounding errors would grow from part to part.
    """
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    if norms:
        with torch.no_grad():
            for name, weight in model.visual.attnpool.named_parameters():
                weight.mul_(weight.shape[-1] ** -0.5 / 0.08 if name.endswith("weight") else 1)
            model.train().visual(pixels(config, 8))
    return model.eval()


def ids() -> torch.Tensor:
    return Tokenizer().batch(TEXTS)[0]


def pixels(config: CLIPConfig, count: int = 2) -> torch.Tensor:
    side = config.vision.image_px
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(1))


def shapes(state) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def metadata(config: CLIPConfig) -> dict[str, str]:
    return to_metadata(config)
