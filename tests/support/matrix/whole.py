"""Every pair of a family: its models, its files, both loaders."""

from dataclasses import replace
from pathlib import Path

from . import dialects, models, texts, truth
from .families import Family
from .pairs import Pair, compared


def of_family(application, family: Family, folder: Path) -> list[Pair]:
    """Every pair of a family: the host's names and diffusers' names in every dialect."""
    patcher = models.model(family)
    if patcher is None:
        return []
    found, shapes = [], models.shapes(patcher)
    for source, modules in models.sources(family, patcher).items():
        places = truth.own(modules) if source == "host" else truth.twins(family, patcher, modules)
        for dialect in dialects.MODEL_DIALECTS:
            tensors, _ = dialects.written(modules, dialect)
            names = (family.name, source, dialect.name)
            pair, values, rows = compared(application, names, patcher, dialect.kind, tensors, folder)
            found.append(replace(pair, wrong=truth.wrong(values, shapes, modules, places, dialect.kind, rows)))
    return found


def of_text_family(application, family: texts.TextFamily, folder: Path) -> list[Pair]:
    """Every pair of a text encoder: each of its parts in every dialect."""
    made = texts.clip(family)
    found = []
    for part, dialect, modules in texts.files_of(made) if made else ():
        tensors, _ = dialects.written(modules, dialect)
        names = (f"TE {family.name}", part, dialect.name)
        found.append(compared(application, names, made, dialect.kind, tensors, folder)[0])
    return found
