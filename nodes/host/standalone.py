"""Without ComfyUI: the same functions over plain folders and plain networks, for `headless/run.py` and for tests.

They are here and in the `standalone_*` files beside this one. Models are looked for in `models/<folder>` of this pack;
previews and data go where `set_place` says. Networks compute on the GPU where torch has one, in float32 unless the node
says otherwise.
"""

from __future__ import annotations

import copy
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from ...clip_core.checkpoint import TextSource
from ...clip_core.chunks import Chunk
from ...clip_core.config import CLIPConfig
from ...clip_core.families import Family
from ...clip_core.model import CLIP
from ...clip_core.rows import Run
from ...files.images import next_path, write_png
from ...lora.fusing import Change
from ...lora.mmdit import Place
from . import data_folders, standalone_place, standalone_text, standalone_vae, standalone_vision
from .absence import Absent
from .interface import Route
from .patching import part_norms, with_patches
from .prompt_encoding import How, StandIn, TextEncoders, as_pairs, inference, stand_in, with_stand_ins
from .standalone_clip import StandaloneClip, StandaloneClipModel
from .standalone_place import _place, device, progress
from .text_encoders import FindEmbedding, PromptTokenizer, Tower, Towers, as_dtype

FILES = (standalone_place, standalone_text, standalone_vae, standalone_vision)
MODEL_FILES = {".safetensors", ".sft", ".ckpt", ".pt", ".pth", ".bin"}


def serve(routes: Mapping[str, Route]) -> None:
    """Nothing to do: there is no server."""


def folder_names(folder: str) -> list[str]:
    root = _place.models / folder
    files = root.rglob("*") if root.is_dir() else ()
    return sorted(file.relative_to(root).as_posix() for file in files if file.suffix.lower() in MODEL_FILES)


def folder_path(folder: str, name: str) -> Path:
    root = (_place.models / folder).resolve()
    path = (root / name).resolve()
    if not path.is_relative_to(root) or not path.is_file():
        raise FileNotFoundError(
            f"there is no {name} in the model folder {folder}; put it there, or choose another file"
        )
    return path


def save_preview(image: Tensor, prefix: str) -> list[dict[str, str]]:
    entries = []
    for picture in image.cpu():
        path = next_path(_place.temp, prefix, ".png")
        write_png(path, picture, {})
        subfolder = path.parent.relative_to(_place.temp).as_posix()
        entries.append({"filename": path.name, "subfolder": "" if subfolder == "." else subfolder, "type": "temp"})
    return entries


def output_path(prefix: str, suffix: str) -> Path:
    return next_path(_place.output, prefix, suffix)


def output_entry(path: Path) -> dict[str, str]:
    return data_folders.entry(_place.output, path)


def data_names(suffix: str) -> list[str]:
    return data_folders.names(_place.output, _place.inputs, suffix)


def data_path(name: str) -> Path:
    return data_folders.path(_place.output, _place.inputs, name)


def data_places() -> data_folders.Places:
    return data_folders.Places(_place.output, tuple(_place.inputs), _place.temp)


def saves_workflow() -> bool:
    return True


def absent(why: str | None) -> object:
    return Absent(why)


def make_clip(
    family: Family,
    parts: Sequence[tuple[TextSource, Mapping[str, Tensor]]],
    dtype: str,
    find_embedding: FindEmbedding,
) -> StandaloneClip:
    sources = [source for source, _ in parts]
    towers = Towers(family, sources, nn, dtype=as_dtype(dtype) or torch.float32)
    towers.load_parts([state for _, state in parts])
    return StandaloneClip(towers.to(device()), PromptTokenizer(family, sources, find_embedding))


def text_encoders(clip: StandaloneClip) -> TextEncoders:
    return TextEncoders(tuple(tower.port for tower in clip.towers.towers()))


def encode_prompt(
    clip: StandaloneClip, chunks: Mapping[str, Sequence[Chunk]], text: str, how: How, extra: Mapping[str, object]
) -> tuple[list, list[str]]:
    notes: list[str] = []

    def answer(encoder: Tower) -> StandIn:
        tower = copy.copy(encoder)  # with a layer of its own: threads may share the CLIP and want two
        tower.reset()
        if how.clip_skip:
            tower.choose({"layer": -how.clip_skip})

        def run() -> tuple[Run, Hashable]:
            return inference(tower.run()), (clip.identity, tower.use.key, tower.layer, tower.projected)

        rows = chunks[tower.use.key]
        return stand_in(tower, rows, how, tower.use.pad, run, progress(0), notes)

    towers = with_stand_ins(clip.towers, {tower.use.encoder: answer(tower) for tower in clip.towers.towers()})
    with torch.inference_mode():
        hidden, pooled = towers.encode_token_weights({key: as_pairs(rows) for key, rows in chunks.items()})
    return [[hidden.cpu(), {"pooled_output": pooled.cpu(), **extra}]], notes


def encode_plainly(clip: StandaloneClip, text: str, extra: Mapping[str, object]) -> list:
    raise ValueError("a CLIP with a CLIP text encoder was expected, but this one has none; load one with Load Text "
                     "Encoder (CVL)")  # without ComfyUI there is no other


def make_clip_model(config: CLIPConfig, state: Mapping[str, Tensor], dtype: str) -> StandaloneClipModel:
    network = CLIP(config, dtype=as_dtype(dtype) or torch.float32)
    network.load_state_dict(state)
    return StandaloneClipModel(network.requires_grad_(False).eval().to(device()), config)


def clip_network(model: StandaloneClipModel) -> nn.Module:
    return model.network


def _network(target: StandaloneClip | StandaloneClipModel) -> nn.Module:
    return target.towers if isinstance(target, StandaloneClip) else target.network


def weights(target: StandaloneClip | StandaloneClipModel) -> dict[str, tuple[int, ...]]:
    return {name: tuple(weight.shape) for name, weight in _network(target).state_dict().items()}


def norms(target: StandaloneClip | StandaloneClipModel, places: Sequence[Place]) -> dict[Place, float]:
    network = _network(target)
    return part_norms(network, network.state_dict(), places)


def patched(
    target: StandaloneClip | StandaloneClipModel,
    changes: Mapping[Place, Sequence[Change]],
    *,
    match_comfyui: bool = False,
):
    network = with_patches(_network(target), changes, match_comfyui=match_comfyui)
    if isinstance(target, StandaloneClip):
        return replace(target, towers=network, identity=object())
    return replace(target, network=network, identity=object())
