"""Small LoRA files of published models for the workshop's tests, in any dialect, and their dense changes in fp64."""

from collections.abc import Mapping, Sequence

import torch

from clip_vae_lora.lora.formats.read import read
from clip_vae_lora.lora.formats.writing import write
from clip_vae_lora.lora.kinds.adapters import Adapter, LoRA
from clip_vae_lora.lora.models.conversion import rename
from clip_vae_lora.lora.models.match import match, part_of
from clip_vae_lora.lora.models.published import PUBLISHED
from clip_vae_lora.lora.workshop.naming import named
from clip_vae_lora.lora.workshop.sources import Source

SD1 = PUBLISHED["SD 1"][1]()
_UNET = "diffusion_model.input_blocks.1.1.transformer_blocks.0."
QUERY, KEY, OUT = (f"{_UNET}attn2.{name}.weight" for name in ("to_q", "to_k", "to_out.0"))
CONVOLUTION = "diffusion_model.input_blocks.1.0.in_layers.2.weight"
TEXT = "clip_l.transformer.text_model.encoder.layers.0.mlp.fc1.weight"
NORM = f"{_UNET}norm1.weight"
PLACES = (QUERY, KEY, CONVOLUTION, TEXT)
FP32 = 1e-6  # two products of fp32 factors, summed in different orders


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def lora_of(shape, rank=4, alpha=2.0, seed=0, dtype=torch.float32):
    """A LoRA of a weight; a kernel's has kohya's four dimensions."""
    kernel = shape[2:]
    up = random(shape[0], rank, *[1] * len(kernel), seed=seed) * 0.1
    down = random(rank, *shape[1:], seed=seed + 1000) * 0.1
    return LoRA(up.to(dtype), down.to(dtype), alpha)


def source_of(adapters: Mapping[str, Adapter], dialect="kohya", name="a.safetensors", shapes=SD1, **more) -> Source:
    """The file of these adapters, written in a dialect and read back."""
    metadata = more.pop("metadata", {})
    tensors, header = write(rename(adapters, shapes, dialect).named, dialect, metadata)
    return Source(name, read(tensors, header), header, **more)


def plain(rank=4, seed=0, dialect="kohya", places: Sequence[str] = PLACES, dtype=torch.float32, **more) -> Source:
    """A LoRA file of some weights of SD 1."""
    loras = {place: lora_of(SD1[place], rank, 2.0, seed + n, dtype) for n, place in enumerate(places)}
    return source_of(loras, dialect, more.pop("name", f"{seed}.safetensors"), **more)


def dense(
    source: Source, shapes=SD1, weights: Mapping[str, torch.Tensor] | None = None, every: int = 1
) -> dict[str, torch.Tensor]:
    """What a loader adds to each weight at the file's strengths, in fp64, each from its adapter's own law; of a large
    file to every so many-th weight by name.
    """
    keys = {place if isinstance(place, str) else place.key for place in match(source.file, shapes).found}
    chosen = set(sorted(keys)[::every])
    found: dict[str, torch.Tensor] = {}
    for place, adapter in match(source.file, shapes).found.items():
        key = place if isinstance(place, str) else place.key
        if key not in chosen:
            continue
        strength = source.strength_model if key.startswith("diffusion_model.") else source.strength_clip
        total = found.setdefault(key, torch.zeros(tuple(shapes[key]), dtype=torch.float64))
        part = part_of(total, place)
        own = part_of((weights or {}).get(key, torch.zeros(tuple(shapes[key]))), place)
        part += adapter.delta(own if adapter.needs_weight else part.shape).double() * strength
    return found


def relative(one: torch.Tensor, other: torch.Tensor) -> float:
    return ((one.double() - other.double()).norm() / other.double().norm()).item()


def written(merged, dialect="kohya", name="merged.safetensors"):
    adapters, unnamed = named(merged.gathered, merged.adapters, dialect)
    assert set(unnamed) <= ({TEXT} if dialect == "lycoris" else set())  # SimpleTuner trains no text encoders
    tensors, header = write(adapters, dialect)
    return Source(name, read(tensors, header), header)


def stack(sources, shapes=SD1, weights=None):
    total = {}
    for source in sources:
        for key, change in dense(source, shapes, weights).items():
            total[key] = total.get(key, 0) + change
    return total


def agree(found, expected, tolerance=FP32):
    assert found.keys() == expected.keys()
    for key, change in expected.items():
        assert relative(found[key], change) <= tolerance, key
