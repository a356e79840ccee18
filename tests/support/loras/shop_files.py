"""Files for the workshop's nodes and commands: LoRAs of SD 1 in any dialect, one of SDXL, and a checkpoint."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import torch

from clip_vae_lora.files.folder import write_shards
from clip_vae_lora.files.tensors import open_tensors, write_tensors
from clip_vae_lora.lora.formats.read import read
from clip_vae_lora.lora.formats.writing import write
from clip_vae_lora.lora.models.conversion import rename
from clip_vae_lora.lora.models.published import PUBLISHED
from clip_vae_lora.lora.workshop.sources import Source

from .shop import CONVOLUTION, QUERY, SD1, TEXT, lora_of, random

SDXL = PUBLISHED["SDXL"][1]()
DEEP = "diffusion_model.input_blocks.7.1.transformer_blocks.9.attn2.to_k.weight"  # which SDXL alone has
TENSORS = {  # of a checkpoint, as CompVis calls them, by the model's keys
    QUERY: f"model.{QUERY}",
    CONVOLUTION: f"model.{CONVOLUTION}",
    TEXT: f"cond_stage_model.transformer.{TEXT.removeprefix('clip_l.transformer.')}",
}


def written(
    path: Path,
    seed: int,
    dialect: str = "kohya",
    places: Sequence[str] = (QUERY, CONVOLUTION, TEXT),
    shapes=SD1,
    rank: int = 3,
    **metadata: str,
) -> Path:
    """A LoRA file of some weights, which are called as in the model of these shapes."""
    own = tuple((key, tuple(shape)) for key, shape in shapes.items())
    tensors, header = _made(seed, dialect, tuple(places), own, rank)
    write_tensors(path, tensors, {**header, **metadata})
    return path


@lru_cache
def _made(seed: int, dialect: str, places: tuple[str, ...], shapes: tuple[tuple[str, tuple[int, ...]], ...], rank: int):
    model = dict(shapes)
    adapters = {place: lora_of(model[place], rank, 2.0, seed + n) for n, place in enumerate(places)}
    return write(rename(adapters, model, dialect).named, dialect)


def of_sdxl(path: Path) -> Path:
    """A LoRA file of SDXL."""
    return written(path, 7, places=(DEEP,), shapes=SDXL)


def source(path: Path, *strengths: float) -> Source:
    """A file, read, at its strengths."""
    with open_tensors(path) as file:
        return Source(path.name, read(file.read(file.shapes), file.metadata), file.metadata, *strengths)


def checkpoint(path: Path, dtype: torch.dtype = torch.float32) -> Path:
    """A checkpoint of the weights of `TENSORS`, and of one that no LoRA changes."""
    shapes = {name: SD1[key] for key, name in TENSORS.items()} | {"first_stage_model.x": (3,)}
    write_tensors(path, {name: random(*shape, seed=n).to(dtype) for n, (name, shape) in enumerate(shapes.items())}, {})
    return path


def in_parts(path: Path, checkpoint: Path) -> Path:
    """The same checkpoint in two parts with an index, as diffusers writes them; the second part."""
    with open_tensors(checkpoint) as file:
        tensors = file.read(file.shapes)
    shards = {name: str(number % 2) for number, name in enumerate(tensors)}
    kinds = {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()}
    return write_shards(path, shards, kinds, tensors.__getitem__, {"format": "pt"})[1][1]
