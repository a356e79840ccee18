"""The tiny models of the host on `meta`: names and shapes are its classes', each weight's value is made by its key."""

import json
import re
import tempfile
import zlib
from functools import cache, lru_cache
from pathlib import Path

import torch

from .families import FAMILIES, Family

_UNEXPECTED = re.compile(r"unexpected keyword argument '(\w+)'")
_CPU = torch.device("cpu")
_ON_CPU = {"ACEStep15"}  # asks its values while it is built
_LAYER = re.compile(r"\.(?:layers|layer|block|blocks)\.(\d+)\.")
LAYERS = 2  # of a text encoder, whose sizes are the published ones, files change the first two layers


def model(family: Family, device: str = "meta"):
    """A ModelPatcher around the family's network, on `meta` if nothing is said; None where the host has no such
    class.
    """
    import comfy.model_patcher
    import comfy.supported_models

    kind = getattr(comfy.supported_models, family.host, None)
    if kind is None:
        return None
    sizes = {**kind.unet_config, **family.sizes}
    while True:
        try:
            config = kind(sizes)
            config.unet_config.update(sizes)  # a class may have sizes of its own, which are the published ones
            network = config.get_model(_beside(family), "", device=_CPU if family.host in _ON_CPU else device)
            return comfy.model_patcher.ModelPatcher(network, _CPU, _CPU)
        except TypeError as error:  # an older host's network has fewer sizes
            unknown = _UNEXPECTED.search(str(error))
            if not unknown or unknown[1] not in sizes:
                raise
            del sizes[unknown[1]]


def _beside(family: Family) -> dict[str, torch.Tensor]:
    """What the host's class takes from a checkpoint beside the network."""
    if family.host != "StableAudio":
        return {}
    from comfy.ldm.audio.embedders import NumberConditioner

    numbers = NumberConditioner(768, min_val=0, max_val=512).state_dict()
    return {
        f"conditioner.conditioners.{name}.{key}": value
        for name in ("seconds_start", "seconds_total")
        for key, value in numbers.items()
    }


def shapes(patcher) -> dict[str, tuple[int, ...]]:
    """Shapes of the weights by the model's keys."""
    return {key: tuple(value.shape) for key, value in patcher.model.state_dict().items()}


def modules_of(found: dict[str, tuple[int, ...]]) -> dict[str, tuple[tuple[int, ...], bool]]:
    """Name of each module that multiplies -> (its weight's shape, whether it has a bias with a value for each row)."""
    return {
        key.removesuffix(".weight"): (
            tuple(shape),
            tuple(found.get(key.removesuffix("weight") + "bias", ())) == tuple(shape[:1]),
        )
        for key, shape in found.items()
        if key.endswith(".weight") and len(shape) > 1 and min(shape) > 0
    }


def own_modules(patcher) -> dict[str, tuple[tuple[int, ...], bool]]:
    """The modules of a network by the host's names, without the `diffusion_model.` in front."""
    found = modules_of(shapes(patcher))
    return {
        name.removeprefix("diffusion_model."): module
        for name, module in found.items()
        if name.startswith("diffusion_model.")
    }


@cache
def diffusers_shapes() -> dict[str, dict[str, tuple[int, ...]]]:
    """Keys and shapes of diffusers' twins by family, kept in a file, for importing diffusers takes its time."""
    import importlib.metadata

    table = repr([(family.diffusers, family.twin) for family in FAMILIES])
    mark = f"{importlib.metadata.version('diffusers')}-{zlib.crc32(table.encode()):08x}"
    kept = Path(tempfile.gettempdir()) / f"cvl-diffusers-names-{mark}.json"
    if kept.exists():
        return json.loads(kept.read_text())
    found = {family.name: _twin(family) for family in FAMILIES if family.diffusers}
    kept.write_text(json.dumps(found))
    return found


def _twin(family: Family) -> dict[str, tuple[int, ...]]:
    import diffusers

    kind = getattr(diffusers, family.diffusers, None)
    if kind is None:
        return {}
    with torch.device("meta"):
        return {key: tuple(value.shape) for key, value in kind(**family.twin).state_dict().items()}


def sources(family: Family, patcher) -> dict[str, dict[str, tuple[tuple[int, ...], bool]]]:
    """The modules of a family by the host's names, and by diffusers' where it has a twin."""
    twin = diffusers_shapes().get(family.name) if family.diffusers else None
    return {"host": own_modules(patcher)} | ({"diffusers": modules_of(twin)} if twin else {})


@lru_cache(maxsize=1000)
def weight(key: str, shape: tuple[int, ...]) -> torch.Tensor:
    """The weight of a key: the same in every run, another for every key."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(zlib.crc32(key.encode())))


def first_layers(names: dict) -> dict:
    """The names outside of the layers and in the first layers."""
    return {
        name: value for name, value in names.items() if all(int(number) < LAYERS for number in _LAYER.findall(name))
    }
