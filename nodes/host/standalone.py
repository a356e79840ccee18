"""Without ComfyUI: the same functions over plain folders and plain networks, for `headless/run.py` and for tests.

Models are looked for in `models/<folder>` of this pack; previews and data go where `set_place` says.
Networks compute on the GPU where torch has one, in float32 unless the node says otherwise.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
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
from ...vae_core.autoencoder import Posterior
from . import data_folders, vae_running
from .absence import Absent
from .patching import part_norms, with_patches
from .prompt_encoding import How, StandIn, TextEncoders, as_pairs, inference, stand_in, with_stand_ins
from .standalone_text import logit_scale, text_features, text_owner
from .text_encoders import FindEmbedding, PromptTokenizer, Tower, Towers, as_dtype
from .vae_network import NO_DISTRIBUTION, KLNetwork, VAENetwork, latent_of
from .vae_running import Room, Tiling, Worked, free_memory_bytes

__all__ = [
    "absent", "clip_network", "data_names", "data_path", "decode_latent", "device_of", "encode_image",
    "encode_plainly", "encode_prompt", "folder_names", "folder_path", "latent_channels", "logit_scale",
    "make_clip", "make_clip_model", "make_vae", "norms", "output_entry", "output_path", "patched", "pixels_per_cell",
    "posterior", "progress", "save_preview", "saves_workflow", "set_place", "text_encoders", "text_features",
    "text_owner", "weights",
]  # fmt: skip

MODEL_FILES = {".safetensors", ".sft", ".ckpt", ".pt", ".pth", ".bin"}


@dataclass
class _Place:
    """What a ComfyUI server would know: where things lie, and who is told of progress."""

    models: Path = Path(__file__).resolve().parents[2] / "models"
    temp: Path = field(default_factory=lambda: Path(tempfile.gettempdir()) / "clip_vae_lora")
    on_step: Callable[[int, int], None] = lambda done, total: None
    output: Path = field(default_factory=lambda: Path(tempfile.gettempdir()) / "clip_vae_lora" / "output")
    inputs: Sequence[Path] = ()


_place = _Place()


def set_place(
    *,
    models: Path | None,
    temp: Path,
    on_step: Callable[[int, int], None],
    output: Path | None = None,
    inputs: Sequence[Path] = (),
) -> None:
    _place.models, _place.temp, _place.on_step = models or _place.models, temp, on_step
    _place.output, _place.inputs = output or _place.output, inputs


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


def saves_workflow() -> bool:
    return True


def progress(total: int) -> Callable[[int, int], None]:
    return _place.on_step


def absent(why: str | None) -> object:
    return Absent(why)


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@dataclass(frozen=True)
class StandaloneClip:
    """A CLIP: networks and tokenizer. `identity` stands for the weights: another object for other weights."""

    towers: Towers
    tokenizer: PromptTokenizer
    identity: object = field(default_factory=object)


@dataclass(frozen=True)
class StandaloneClipModel:
    network: CLIP
    config: CLIPConfig
    identity: object = field(default_factory=object)  # as above


@dataclass(frozen=True)
class StandaloneVAE:
    network: VAENetwork


def make_clip(
    family: Family,
    parts: Sequence[tuple[TextSource, Mapping[str, Tensor]]],
    dtype: str,
    find_embedding: FindEmbedding,
) -> StandaloneClip:
    sources = [source for source, _ in parts]
    towers = Towers(family, sources, nn, dtype=as_dtype(dtype) or torch.float32)
    towers.load_parts([state for _, state in parts])
    return StandaloneClip(towers.to(_device()), PromptTokenizer(family, sources, find_embedding))


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
    return StandaloneClipModel(network.requires_grad_(False).eval().to(_device()), config)


def clip_network(model: StandaloneClipModel) -> nn.Module:
    return model.network


def device_of(network: nn.Module) -> torch.device:
    return next(network.parameters()).device


def make_vae(network: Callable[..., VAENetwork], state: Mapping[str, Tensor], dtype: str) -> StandaloneVAE:
    net = network(dtype=as_dtype(dtype) or torch.float32)
    net.load_state_dict(state)
    return StandaloneVAE(net.requires_grad_(False).eval().to(_device()))


def latent_channels(vae: StandaloneVAE) -> int:
    return vae.network.config.latent


def pixels_per_cell(vae: StandaloneVAE) -> int:
    return vae.network.config.factor


def encode_image(vae: StandaloneVAE, image: Tensor, seed: int | None, tiling: Tiling) -> Worked:
    if seed is not None:
        _check_distribution(vae)
    worked = _encoded(vae, image, tiling)
    return replace(worked, result=latent_of(worked.result, seed).float())


def posterior(vae: StandaloneVAE, image: Tensor) -> Worked:
    _check_distribution(vae)
    worked = _encoded(vae, image, Tiling())
    return replace(worked, result=Posterior(worked.result.mean.float(), worked.result.logvar.float()))


def _check_distribution(vae: StandaloneVAE) -> None:
    if not isinstance(vae.network, KLNetwork):
        raise ValueError(f"{NO_DISTRIBUTION} (a tiny autoencoder)")


def _encoded(vae: StandaloneVAE, image: Tensor, tiling: Tiling) -> Worked:
    pixels = _to_whole_cells(image, vae.network.config.factor).movedim(-1, 1) * 2 - 1
    return vae_running.encode(
        vae.network, pixels.to(_dtype_of(vae)), tiling, _room(vae), progress(1), lambda: _in_float32(vae)
    )


def _to_whole_cells(image: Tensor, factor: int) -> Tensor:
    """[B, H, W, C] -> its first three channels, cut at the centre to whole cells, as ComfyUI does."""
    height, width = (side // factor * factor for side in image.shape[1:3])
    top, left = (image.shape[1] - height) // 2, (image.shape[2] - width) // 2
    return image[:, top : top + height, left : left + width, :3]


def decode_latent(vae: StandaloneVAE, latent: Tensor, tiling: Tiling) -> Worked:
    worked = vae_running.decode(
        vae.network, latent.to(_dtype_of(vae)), tiling, _room(vae), progress(1), lambda: _in_float32(vae)
    )
    return replace(worked, result=(worked.result.float() + 1).div(2).clamp(0, 1).movedim(1, -1))


def _dtype_of(vae: StandaloneVAE) -> torch.dtype:
    return next(vae.network.parameters()).dtype


def _in_float32(vae: StandaloneVAE) -> VAENetwork:
    return copy.deepcopy(vae.network).float()


def _room(vae: StandaloneVAE) -> Room:
    device = device_of(vae.network)
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else free_memory_bytes()
    return Room(device, torch.device("cpu"), free)


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
