"""What the file menus offer, and where a choice lies on disk.

A choice is the file's name in the first of a use's folders, "folder/name" in the others, and "bundled/name" for the
small weights that come with this pack.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .host import host

BUNDLED_FOLDER = Path(__file__).resolve().parents[1] / "models"

FOLDERS = {
    "text_encoder": ("text_encoders", "checkpoints"),
    "clip_model": ("clip_vision", "text_encoders"),
    "vae": ("vae", "checkpoints", "vae_approx"),
    "lora": ("loras",),
}
BUNDLED = {
    "text_encoder": "tiny_clip.safetensors",
    "clip_model": "tiny_clip.safetensors",
    "vae": "tiny_vae.safetensors",
    "lora": "tiny_clip_stripes_lora.safetensors",
}


def choices(use: str) -> list[str]:
    """The menu of a loader: the bundled file first, so that a node runs as soon as it is on the canvas."""
    first, *others = FOLDERS[use]
    names = [f"bundled/{BUNDLED[use]}", *host.folder_names(first)]
    for folder in others:
        names += [f"{folder}/{name}" for name in host.folder_names(folder)]
    return names


def path(use: str, choice: str) -> Path:
    """Where a choice of that menu lies.

    Raises:
        FileNotFoundError: there is no such file (any more).
    """
    if choice == f"bundled/{BUNDLED[use]}":
        return BUNDLED_FOLDER / BUNDLED[use]
    first, *others = FOLDERS[use]
    if choice in host.folder_names(first):
        return host.folder_path(first, choice)
    folder, _, name = choice.partition("/")
    if folder in others:
        return host.folder_path(folder, name)
    return host.folder_path(first, choice)


def fingerprint(use: str, choice: str, beside: Sequence[str] = ()) -> str:
    """Changes when the file does, or one of these names beside it, so that what was overwritten is read again."""
    try:
        found = path(use, choice)
        more = [found.with_name(name) for name in beside]
        marks = [file.stat() for file in (found, *(file for file in more if file.is_file()))]
    except OSError:
        return "missing"
    return " ".join(f"{mark.st_mtime_ns}:{mark.st_size}" for mark in marks)
