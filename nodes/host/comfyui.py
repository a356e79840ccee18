"""Inside ComfyUI. The functions of `interface.Host`, gathered from the `comfyui_*` files beside this one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import folder_paths
from torch import Tensor

from ...files.images import write_png
from . import comfyui_routes  # noqa: F401  registers the route for the live token count
from .comfyui_clip import clip_network, device_of, make_clip, make_clip_model
from .comfyui_files import data_names, data_path, data_places, output_entry, output_path, saves_workflow
from .comfyui_patches import norms, patched, sizes, weights
from .comfyui_progress import progress
from .comfyui_prompts import encode_part, encode_plainly, text_encoders
from .comfyui_text_features import logit_scale, text_features, text_owner
from .comfyui_vae import decode_latent, encode_image, latent_channels, make_vae, pixels_per_cell, posterior
from .comfyui_vision import clip_vision, image_encoder, image_features, model_fingerprint, model_key, vision_output

__all__ = [
    "absent", "clip_network", "clip_vision", "data_names", "data_path", "data_places", "decode_latent", "device_of",
    "encode_image", "encode_part", "encode_plainly", "folder_names", "folder_path", "image_encoder",
    "image_features", "latent_channels", "logit_scale", "make_clip", "make_clip_model", "make_vae",
    "model_fingerprint", "model_key", "norms", "output_entry", "output_path", "patched", "pixels_per_cell",
    "posterior", "progress", "save_preview", "saves_workflow", "set_place", "sizes", "text_encoders", "text_features",
    "text_owner", "vision_output", "weights",
]  # fmt: skip


def set_place(
    *,
    models: Path | None,
    temp: Path,
    on_step: Callable[[int, int], None],
    output: Path | None = None,
    inputs: Sequence[Path] = (),
) -> None:
    """Nothing to do: ComfyUI has folders and a progress bar of its own."""


def folder_names(folder: str) -> list[str]:
    return folder_paths.get_filename_list(folder) if folder in folder_paths.folder_names_and_paths else []


def folder_path(folder: str, name: str) -> Path:
    return Path(folder_paths.get_full_path_or_raise(folder, name))


def save_preview(image: Tensor, prefix: str) -> list[dict[str, str]]:
    height, width = image.shape[1:3]
    folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(
        prefix, folder_paths.get_temp_directory(), width, height
    )
    entries = []
    for number, picture in enumerate(image.cpu(), counter):
        filename = f"{name}_{number:05}_.png"
        write_png(Path(folder) / filename, picture, {})
        entries.append({"filename": filename, "subfolder": subfolder, "type": "temp"})
    return entries


def absent(why: str | None) -> object:
    from comfy_execution.graph_utils import ExecutionBlocker

    return ExecutionBlocker(why)
