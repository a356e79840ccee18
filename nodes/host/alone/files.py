"""Plain folders: models in `models/<folder>` of this pack, previews and data where `set_place` says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from torch import Tensor

from ....files.images import next_path, write_next_png
from ..shared import data_folders
from .place import HERE

MODEL_FILES = {".safetensors", ".sft", ".ckpt", ".pt", ".pth", ".bin"}


def set_place(
    *,
    models: Path | None,
    temp: Path,
    on_step: Callable[[int, int], None],
    output: Path | None = None,
    inputs: Sequence[Path] = (),
) -> None:
    HERE.models, HERE.temp, HERE.on_step = models or HERE.models, temp, on_step
    HERE.output, HERE.inputs = output or HERE.output, inputs


def folder_names(folder: str) -> list[str]:
    root = HERE.models / folder
    files = root.rglob("*") if root.is_dir() else ()
    return sorted(file.relative_to(root).as_posix() for file in files if file.suffix.lower() in MODEL_FILES)


def folder_path(folder: str, name: str) -> Path:
    root = (HERE.models / folder).resolve()
    path = (root / name).resolve()
    if not path.is_relative_to(root) or not path.is_file():
        raise FileNotFoundError(
            f"there is no {name} in the model folder {folder}; put it there, or choose another file"
        )
    return path


def save_preview(image: Tensor, prefix: str) -> list[dict[str, str]]:
    entries = []
    for picture in image.cpu():
        path = write_next_png(HERE.temp, prefix, picture, {})
        subfolder = path.parent.relative_to(HERE.temp).as_posix()
        entries.append({"filename": path.name, "subfolder": "" if subfolder == "." else subfolder, "type": "temp"})
    return entries


def output_path(prefix: str, suffix: str) -> Path:
    return next_path(HERE.output, prefix, suffix)


def output_entry(path: Path) -> dict[str, str]:
    return data_folders.entry(HERE.output, path)


def data_names(suffix: str) -> list[str]:
    return data_folders.names(HERE.output, HERE.inputs, suffix)


def data_path(name: str) -> Path:
    return data_folders.path(HERE.output, HERE.inputs, name)


def data_places() -> data_folders.Places:
    return data_folders.Places(HERE.output, tuple(HERE.inputs), HERE.temp)


def saves_workflow() -> bool:
    return True
