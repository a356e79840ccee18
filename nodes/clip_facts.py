"""What lies beside a CLIP's tensors and says what they do not: its folder's config files, its archive, its name."""

from __future__ import annotations

from pathlib import Path

from ..clip_core.checkpoint import facts as told
from ..clip_core.checkpoint.facts import Told
from ..clip_core.config import METADATA_KEY
from ..files.documents import read_json
from ..files.errors import FileFormatError
from ..files.tensors import TensorFile

_BESIDE = (  # the first that tells a fact is followed
    ("open_clip_config.json", told.told_by_open_clip),
    ("config.json", told.told_by_hugging_face),
    ("preprocessor_config.json", told.told_by_processor),
)
NAMES_BESIDE = tuple(name for name, _ in _BESIDE)


def told_about(file: TensorFile, activation: str | None, heads: int | None) -> Told:
    """What is known about a CLIP: what the user chose, then what is beside it, and, of the activation, what its kind or
    its name says. A file of ours says all of it in its header.

    Raises:
        FileFormatError: one of the files beside it cannot be read.
    """
    chosen = Told(activation, heads)
    if METADATA_KEY in file.metadata:
        return chosen
    known = told.combined(chosen, *_in_folder(file))
    if known.activation is not None:
        return known
    if "torchscript" in file.metadata:
        return told.combined(known, Told("quick_gelu", source="its kind, the archives that OpenAI published"))
    return told.combined(known, told.told_by_name(f"{file.path.parent.name}/{file.path.name}"))


def activation_beside(path: Path) -> str | None:
    """What a Hugging Face folder's config.json says about the activation of a text encoder."""
    config = path.with_name("config.json")
    return _read(config, told.told_by_hugging_face).activation if config.is_file() else None


def _in_folder(file: TensorFile) -> list[Told]:
    """What the config files say; a preprocessor's is believed where the config beside it is about this model."""
    found, about_this = [], True
    for name, tell in _BESIDE:
        path = file.path.with_name(name)
        if not path.is_file() or (name == "preprocessor_config.json" and not (about_this and found)):
            continue
        said = _read(path, tell)
        fits = told.fitting(said, file.shapes)
        about_this = about_this and fits is said
        found.append(fits)
    return found


def _read(path: Path, tell) -> Told:
    try:
        return tell(read_json(path))
    except told.ToldError as error:
        raise FileFormatError(path, str(error)) from error
