"""What ComfyUI's MODEL, CLIP and VAE objects are, read off their classes, configs and patchers; nothing is loaded."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Mapping

import comfy.sd
from comfy.model_patcher import ModelPatcher
from torch import nn

from ....doctor.facts import MODEL, OTHER, VAE, Facts, Shape, Text
from ....doctor.models import MODELS, family_of_host, texts_of
from ....doctor.spaces import SPACES, space_of_format, spaces_of_vae
from ....doctor.texts import TEXTS
from ....lora.models.families import family_of_keys
from ..shared.doctor import clip_facts, count_words, own_text
from ..shared.towers import Towers
from . import stored
from .clip import ComfyClipModel

_MOST_NAMED = 3  # parts that are replaced
_OF_THE_HOST = {"manual_cast_dtype"}  # which it replaces in each model itself


def facts_of(name: str, value: object) -> Facts | None:
    if isinstance(value, comfy.sd.VAE):
        return _vae(name, value)
    if isinstance(value, comfy.sd.CLIP):
        return _clip(name, value)
    if isinstance(value, ComfyClipModel):
        numbers, forms = _count(value.patcher.model)
        return Facts(OTHER, name, "CLIP of pictures and text", size=numbers, numbers=forms, place=_place(value.patcher))
    return _model(name, value) if isinstance(value, ModelPatcher) else None


def _model(name: str, patcher: ModelPatcher) -> Facts:
    config = getattr(patcher.model, "model_config", None)
    host = type(config).__name__
    family = family_of_host(host) or _family_of_weights(patcher.model) if config is not None else ""
    row, sizes = MODELS.get(family), getattr(config, "unet_config", {})
    shape, spaces = _latents(patcher)
    text = None
    if row is not None and row.texts:
        width = _number(sizes, row.width) or _default(patcher.model, row.width)
        pooled = (_number(sizes, row.pooled) or _default(patcher.model, row.pooled) or 0) - row.pooled_less
        text = Text(texts_of(family, width), width, pooled if pooled > 0 else None, row.needs_pooled)
    numbers, forms = _count(patcher.model)
    kind = getattr(getattr(patcher.model, "model_type", None), "name", "")
    details = {"class": host if config is not None else type(patcher.model).__name__, "prediction": kind.lower()}
    taken = _number(sizes, "in_channels")
    if getattr(patcher.model, "concat_keys", ()) and taken:
        details["input_channels"] = taken
    return Facts(
        MODEL,
        name,
        family or details["class"],
        family=family,
        spaces=spaces + (row.beside if row is not None and spaces else ()),
        shape=shape,
        text=text,
        size=numbers,
        numbers=forms,
        place=_place(patcher),
        patches=_patches(patcher),
        details=details,
    )


def _family_of_weights(model: nn.Module) -> str:
    family = family_of_keys({key: tuple(value.shape) for key, value in model.state_dict().items()})
    return family if family in MODELS else ""


def _latents(patcher: ModelPatcher) -> tuple[Shape, tuple[str, ...]]:
    """The shape of a model's latents, and their space where it is known."""
    found = patcher.object_patches.get("latent_format", getattr(patcher.model, "latent_format", None))
    if found is None:
        return Shape(), ()
    space = space_of_format(type(found).__name__)
    if space is None:  # another pack's: how many pixels a cell spans is not always said
        return Shape(found.latent_channels, found.latent_dimensions), ()
    return SPACES[space].shape, (space,)


def _number(sizes: Mapping, path: str) -> int | None:
    """A number in a model's config, at a path with dots; None where there is none."""
    found: object = sizes
    for step in path.split("."):
        found = found.get(step) if isinstance(found, Mapping) else None
    return found if isinstance(found, int) and not isinstance(found, bool) else None


def _default(model: nn.Module, name: str) -> int | None:
    """What a model's network takes where its config does not say, as of Wan's `text_dim`; None where it has no such."""
    network = getattr(model, "diffusion_model", None)
    parameters = inspect.signature(type(network).__init__).parameters if network is not None else {}
    found = parameters[name].default if name in parameters else None
    return found if isinstance(found, int) and not isinstance(found, bool) else None


def _clip(name: str, clip: comfy.sd.CLIP) -> Facts:
    network = clip.cond_stage_model
    numbers, forms = _count(network)
    inside = [key for key, part in network.named_children() if hasattr(part, "transformer")]
    return clip_facts(
        name,
        own_text(network) if isinstance(network, Towers) else _text_of(network),
        type(network).__name__,
        inside,
        size=numbers,
        numbers=forms,
        place=_place(clip.patcher),
        patches=_patches(clip.patcher),
    )


def _text_of(network: nn.Module) -> str | None:
    """The row of `texts.TEXTS` of a stock text encoder."""
    bare, inside = type(network).__name__.rstrip("_"), getattr(network, "clip_name", "")
    wanted = (f"{bare}:{inside}", bare)
    return next((kind for kind, row in TEXTS.items() if any(one in row.classes for one in wanted)), None)


def _vae(name: str, vae: comfy.sd.VAE) -> Facts:
    network = vae.first_stage_model
    if network is None:
        return Facts(VAE, name, broken=("this VAE is empty: its file has no VAE in it; load another file",))
    shape = _shape_of(vae)
    title = type(network).__name__
    numbers, forms = _count(network)
    place, patches = _place(vae.patcher), _patches(vae.patcher)
    spaces = spaces_of_vae(title, shape)
    return Facts(
        VAE,
        name,
        title,
        spaces=spaces,
        shape=shape,
        size=numbers,
        numbers=forms,
        place=place,
        patches=patches,
        details={"class": title},
    )


def _shape_of(vae: comfy.sd.VAE) -> Shape:
    axes = getattr(vae, "latent_dim", 2)
    ratio = vae.downscale_ratio[-1] if isinstance(vae.downscale_ratio, tuple) else vae.downscale_ratio
    sound = axes == 1 or getattr(vae, "extra_1d_channel", None) is not None or not isinstance(ratio, int)
    return Shape(vae.latent_channels, axes, None if sound else ratio)


def _count(network: nn.Module) -> tuple[str, str]:
    """How many numbers a network has, and in which forms they are stored, in words."""
    forms: Counter[str] = Counter()
    for module in network.modules():
        for weight in module._parameters.values():
            if weight is not None:
                forms[stored.form_of(module, weight)] += stored.count_of(weight)
    return count_words(forms)


def _place(patcher: ModelPatcher) -> str:
    """Where a model computes, and where it waits."""
    works, waits = str(patcher.load_device), str(patcher.offload_device)
    return works if works == waits else f"{works}, waits on {waits}"


def _patches(patcher: ModelPatcher) -> str:
    """What is put on a model, in words."""
    words = []
    if patcher.patches:
        most = max(map(len, patcher.patches.values()))
        words.append(f"{len(patcher.patches)} weights changed, {most} times at most")
    if replaced := sorted(set(patcher.object_patches) - _OF_THE_HOST):
        words.append(f"{' '.join(replaced[:_MOST_NAMED])} replaced")
    if patcher.injections:
        words.append(f"{' '.join(sorted(patcher.injections)[:_MOST_NAMED])} injected")
    if getattr(patcher, "hook_patches", None):
        words.append("LoRAs by hooks")
    return ", ".join(words)
