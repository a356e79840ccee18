"""What a CLIP or a VAE is without ComfyUI."""

from __future__ import annotations

from collections import Counter

from torch import nn

from ....doctor.facts import MODEL, OTHER, VAE, Facts, Shape, Text
from ....doctor.models import MODELS
from ....doctor.spaces import SPACES, spaces_of_vae
from ..shared.doctor import clip_facts, count_words, own_text
from .clip import StandaloneClip, StandaloneClipModel, device_of
from .diffusion import StandaloneModel
from .vae import StandaloneVAE


def facts_of(name: str, value: object) -> Facts | None:
    if isinstance(value, StandaloneVAE):
        network = value.network
        shape = Shape(network.config.latent, 3 if network.has_frames else 2, network.config.factor)
        title = type(network).__name__
        spaces = spaces_of_vae(title, shape)
        return Facts(VAE, name, title, spaces=spaces, shape=shape, details={"class": title}, **_words(network))
    if isinstance(value, StandaloneClip):
        family = value.towers.family
        inside = [use.encoder for use in family.uses]
        return clip_facts(name, own_text(value.towers), family.name, inside, **_words(value.towers))
    if isinstance(value, StandaloneModel):
        text = Text(MODELS["Small"].texts, value.network.config.text)
        shape = SPACES["small"].shape
        words = _words(value.network)
        return Facts(MODEL, name, "Small", family="Small", spaces=("small",), shape=shape, text=text, **words)
    if isinstance(value, StandaloneClipModel):
        return Facts(OTHER, name, "CLIP of pictures and text", **_words(value.network))
    return None


def _words(network: nn.Module) -> dict[str, str]:
    forms: Counter[str] = Counter()
    for weight in network.parameters():
        forms[str(weight.dtype).removeprefix("torch.")] += weight.numel()
    size, numbers = count_words(forms)
    return {"size": size, "numbers": numbers, "place": str(device_of(network))}
