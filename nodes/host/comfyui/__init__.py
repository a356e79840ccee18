"""Inside ComfyUI. The functions of `interface.Host` are here and in the `comfyui_*` files beside this one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import folder_paths
from torch import Tensor

from ....files.images import write_png
from . import (
    clip as comfyui_clip,
)
from . import (
    files as comfyui_files,
)
from . import (
    patches as comfyui_patches,
)
from . import (
    progress as comfyui_progress,
)
from . import (
    prompts as comfyui_prompts,
)
from . import (
    server as comfyui_routes,
)
from . import (
    text_features as comfyui_text_features,
)
from . import (
    vae as comfyui_vae,
)
from . import (
    vision as comfyui_vision,
)

FILES = (
    comfyui_clip,
    comfyui_files,
    comfyui_patches,
    comfyui_progress,
    comfyui_prompts,
    comfyui_routes,
    comfyui_text_features,
    comfyui_vae,
    comfyui_vision,
)


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
        write_png(Path(folder) / filename, picture, {}, preview=True)
        entries.append({"filename": filename, "subfolder": subfolder, "type": "temp"})
    return entries


def absent(why: str | None) -> object:
    from comfy_execution.graph_utils import ExecutionBlocker

    return ExecutionBlocker(why)
