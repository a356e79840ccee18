"""ComfyUI's output and input folders, for data that is saved and loaded again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import folder_paths
from comfy.cli_args import args
from torch import Tensor

from ....files.images import next_path, write_png
from ..shared import data_folders


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


def output_path(prefix: str, suffix: str) -> Path:
    return next_path(folder_paths.get_output_directory(), prefix, suffix)  # counts as get_save_image_path does


def output_entry(path: Path) -> dict[str, str]:
    return data_folders.entry(Path(folder_paths.get_output_directory()), path)


def data_names(suffix: str) -> list[str]:
    return data_folders.names(*_folders(), suffix)


def data_path(name: str) -> Path:
    return data_folders.path(*_folders(), name)


def data_places() -> data_folders.Places:
    return data_folders.Places(*_folders(), Path(folder_paths.get_temp_directory()))


def saves_workflow() -> bool:
    return not args.disable_metadata


def _folders() -> tuple[Path, tuple[Path]]:
    return Path(folder_paths.get_output_directory()), (Path(folder_paths.get_input_directory()),)
