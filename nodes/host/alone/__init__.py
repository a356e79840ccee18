"""Without ComfyUI: the same functions over plain folders and plain networks, for `headless/run.py` and for tests.

They are here and in the `standalone_*` files beside this one. Models are looked for in `models/<folder>` of this pack;
previews and data go where `set_place` says. Networks compute on the GPU where torch has one, in float32 unless the node
says otherwise.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from ....clip_core.checkpoint.find import TextSource
from ....clip_core.config import CLIPConfig
from ....clip_core.encoding.encode import encode_packed
from ....clip_core.families import Family
from ....clip_core.networks.clip import CLIP
from ....clip_core.prompts.plan import PlannedPart, Port, PromptSettings
from ....files.images import next_path, write_png
from ....lora.models.mmdit import Place
from ....lora.weights.fusing import Change
from ....lora.weights.measuring import Size, Stored
from ....lora.weights.patching import part_norms, part_sizes, with_patches
from ..interface import Route
from ..shared import data_folders
from ..shared.clip_vision import marked
from ..shared.towers import ROWS, FindEmbedding, PromptTokenizer, TextEncoders, Tower, Towers, as_dtype, with_stand_ins
from . import (
    place as standalone_place,
)
from . import (
    text_features as standalone_text,
)
from . import (
    vae as standalone_vae,
)
from . import (
    vision as standalone_vision,
)
from .absence import Absent
from .clip import StandaloneClip, StandaloneClipModel
from .place import _place, device, progress

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


def encode_part(
    clip: StandaloneClip, part: PlannedPart, settings: PromptSettings, extra: Mapping[str, object]
) -> tuple[list, list[str]]:
    notes: list[str] = []
    on_step = progress(0)

    def answer(port: Port, encoder: Tower) -> tuple[Tensor, Tensor]:
        tower = copy.copy(encoder)  # with a layer of its own: threads may share the CLIP and want two
        tower.reset()
        if settings.clip_skip:
            tower.choose({"layer": -settings.clip_skip})
        owner = clip.identity, port.key, tower.layer, tower.projected
        encoding = encode_packed(part.packed[port.key], tower.run(), settings, kept=ROWS, owner=owner, on_step=on_step)
        notes.extend(encoding.notes)
        return encoding.hidden, encoding.pooled

    towers, tokens = with_stand_ins(clip.towers, text_encoders(clip).ports, part.packed, answer)
    with torch.inference_mode():
        hidden, pooled = towers.encode_token_weights(tokens)
    return [[hidden.cpu(), {"pooled_output": pooled.cpu(), **extra}]], notes


def encode_plainly(clip: StandaloneClip, text: str, extra: Mapping[str, object]) -> list:
    raise ValueError(
        "a CLIP with a CLIP text encoder was expected, but this one has none; load one with Load Text Encoder (CVL)"
    )  # without ComfyUI there is no other


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


def sizes(target: StandaloneClip | StandaloneClipModel, places: Sequence[Place]) -> dict[Place, Size]:
    network = _network(target)
    state = network.state_dict()
    return part_sizes(network, places, lambda key: Stored(state[key]))


def norms(
    target: StandaloneClip | StandaloneClipModel, places: Sequence[Place], on_step: Callable[[int, int], None]
) -> dict[Place, float]:
    state = _network(target).state_dict()
    return part_norms(places, lambda key: state[key], on_step)


def patched(
    target: StandaloneClip | StandaloneClipModel,
    changes: Mapping[Place, Sequence[Change]],
    *,
    match_comfyui: bool = False,
):
    network = with_patches(_network(target), changes, match_comfyui=match_comfyui)
    if isinstance(target, StandaloneClip):
        return replace(target, towers=network, identity=object())
    unpatched, marks = target.unpatched or target.network, marked(target.marks, changes)
    return replace(target, network=network, identity=object(), unpatched=unpatched, marks=marks)
