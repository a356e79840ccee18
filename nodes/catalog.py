"""What the file menus offer, and where a choice lies on disk.

A choice is the file's name in the first of a use's folders, "folder/name" in the others, and "bundled/name" for the
small weights that come with this pack.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from ..files.documents import vocabularies_of
from ..files.folder import parts_of
from ..files.sniff import file_mark
from .clip_facts import CONFIG_NAMES
from .host import host
from .host.shared.data_folders import EXAMPLES_FOLDER

BUNDLED_FOLDER = Path(__file__).resolve().parents[1] / "models"

_TINY_HALVES = {"_encoder.": "_decoder.", "_decoder.": "_encoder."}
NAMES_BESIDE_A_LORA = ("adapter_config.json",)
NOTES_BESIDE_A_LORA = (".civitai.info", ".metadata.json", ".json", ".txt")  # in place of the file's own ending


class SavedFiles(NamedTuple):
    """The files of one ending in the output and the input folder, which a loader's menu offers, and one of them that
    comes with the pack, so that the menu is never empty: its name without the ending.
    """

    ending: str
    example: str

    @property
    def bundled(self) -> str:
        return f"bundled/{self.example}{self.ending}"

    def choices(self) -> list[str]:
        return [*host.data_names(self.ending), self.bundled]

    def path(self, choice: str) -> Path:
        """The path of a choice of that menu. Raises FileNotFoundError."""
        if choice == self.bundled:
            return EXAMPLES_FOLDER / f"{self.example}{self.ending}"
        return host.data_path(choice)

    def fingerprint(self, choice: str) -> str:
        """A mark that changes with the file."""
        try:
            return file_mark(self.path(choice))
        except OSError:
            return "missing"


def other_halves(name: str) -> list[str]:
    """Return the name of the decoder file beside a tiny autoencoder's encoder file, and the other way round; empty
    for other files.
    """
    return [name.replace(half, other) for half, other in _TINY_HALVES.items() if half in name]


class Menu(NamedTuple):
    """The model folders of the host whose files a menu offers, and the names of the files that are read beside a
    chosen file.
    """

    folders: tuple[str, ...]
    beside: Callable[[str], Sequence[str]] = lambda name: ()


def _beside_a_lora(name: str) -> list[str]:
    return [*NAMES_BESIDE_A_LORA, *(Path(name).stem + ending for ending in NOTES_BESIDE_A_LORA)]


FOLDERS = {
    "text_encoder": Menu(("text_encoders", "checkpoints"), lambda name: ("config.json",)),
    "clip_model": Menu(("clip_vision", "text_encoders"), lambda name: (*CONFIG_NAMES, *vocabularies_of(name))),
    "vae": Menu(("vae", "checkpoints", "vae_approx"), other_halves),
    "lora": Menu(("loras",), _beside_a_lora),
    "diffusion": Menu(("diffusion_models", "checkpoints")),
    "weights": Menu(("checkpoints", "diffusion_models", "text_encoders", "vae", "vae_approx", "clip_vision")),
}
BUNDLED = {
    "text_encoder": "tiny_clip.safetensors",
    "clip_model": "tiny_clip.safetensors",
    "vae": "tiny_vae.safetensors",
    "lora": "tiny_clip_stripes_lora.safetensors",
    "diffusion": "tiny_diffusion.safetensors",
    "weights": "tiny_clip.safetensors",
}


def choices(use: str) -> list[str]:
    """List the entries of a loader's menu: the user's own files first, with which a new node starts, and last the
    bundled one, which is a toy.
    """
    return [*own_choices(use), f"bundled/{BUNDLED[use]}"]


def own_choices(use: str) -> list[str]:
    """List the user's own files among those entries."""
    first, *others = FOLDERS[use].folders
    names = list(host.folder_names(first))
    for folder in others:
        names += [f"{folder}/{name}" for name in host.folder_names(folder)]
    return names


def path(use: str, choice: str) -> Path:
    """Return the path of an entry of that menu.

    Raises:
        FileNotFoundError: there is no such file (any more).
    """
    if choice == f"bundled/{BUNDLED.get(use)}":
        return BUNDLED_FOLDER / BUNDLED[use]
    first, *others = FOLDERS[use].folders
    if choice in host.folder_names(first):
        return host.folder_path(first, choice)
    folder, _, name = choice.partition("/")
    if folder in others:
        return host.folder_path(folder, name)
    return host.folder_path(first, choice)


def fingerprint(use: str, choice: str) -> str:
    """Return a mark that changes when the file does, or a file that is read beside it, so that overwritten files are
    read again.

    The parts of a model in several files are all looked at, and their index.
    """
    try:
        found = path(use, choice)
        more = [found.with_name(name) for name in FOLDERS[use].beside(found.name)]
        files = [*parts_of(found), *(file for file in more if file.is_file())]
    except OSError:
        return "missing"
    marks = [file_mark(file) for file in files]
    return "missing" if "missing" in marks else " ".join(marks)
