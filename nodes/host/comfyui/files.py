"""ComfyUI's output and input folders, for data that is saved and loaded again."""

from __future__ import annotations

from pathlib import Path

import folder_paths
from comfy.cli_args import args

from ....files.images import next_path
from ..shared import data_folders


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
