"""Facts about a CLIP from beside its tensors: its folder's config files, its kind of archive, its name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from ..clip_core.checkpoint.facts import (
    CLIPFacts,
    Facts,
    FactsError,
    combine,
    keep_fitting,
    parse_hugging_face,
    parse_name,
    parse_open_clip,
    parse_processor,
)
from ..clip_core.config import METADATA_KEY
from ..files.documents import read_json
from ..files.errors import FileFormatError
from ..files.tensors import TensorFile

Parse = Callable[[Mapping[str, object]], CLIPFacts]
_CONFIGS: tuple[tuple[str, Parse], ...] = (  # in a model's folder; each fact comes from the first file that has it
    ("open_clip_config.json", parse_open_clip),
    ("config.json", parse_hugging_face),
    ("preprocessor_config.json", parse_processor),
)
CONFIG_NAMES = tuple(name for name, _ in _CONFIGS)


def read_facts(file: TensorFile, activation: str | None, heads: int | None) -> CLIPFacts:
    """Gather the facts about a CLIP: the user's choices first, then the config files of its folder, and for the
    activation its kind of archive or its name. A file of ours has all of them in its header.

    Raises:
        FileFormatError: a config file cannot be read.
    """
    chosen = CLIPFacts(Facts(activation, heads))
    if METADATA_KEY in file.metadata:
        return chosen
    known = combine(chosen, *_read_configs(file))
    if known.activation is not None:
        return known
    if "torchscript" in file.metadata:
        return combine(known, CLIPFacts(Facts("quick_gelu"), source="its kind, the archives that OpenAI published"))
    return combine(known, parse_name(f"{file.path.parent.name}/{file.path.name}"))


def read_activation(path: Path) -> str | None:
    """Read a text encoder's activation from the config.json in its folder; None without one."""
    config = path.with_name("config.json")
    return _read_config(config, parse_hugging_face).activation if config.is_file() else None


def _read_configs(file: TensorFile) -> list[CLIPFacts]:
    """The facts of each config file. A preprocessor's config does not say which model it is for: it is read only
    beside a model's config that fits this file.
    """
    found: list[CLIPFacts] = []
    all_fit = True
    for name, parse in _CONFIGS:
        path = file.path.with_name(name)
        if not path.is_file() or (name == "preprocessor_config.json" and not (all_fit and found)):
            continue
        facts = _read_config(path, parse)
        kept = keep_fitting(facts, file.shapes)
        all_fit = all_fit and kept is facts
        found.append(kept)
    return found


def _read_config(path: Path, parse: Parse) -> CLIPFacts:
    try:
        return parse(read_json(path))
    except FactsError as error:
        raise FileFormatError(path, str(error)) from error
