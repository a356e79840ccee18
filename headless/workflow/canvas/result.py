"""What a conversion gives."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..graph import Prompt


@dataclass
class Shown:
    """What an instance of a subgraph shows: names and labels of its inputs -> the inputs inside that take the value."""

    title: str
    inputs: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)


@dataclass
class Converted:
    """The API form; sentences on what was left out or could not be placed; what subgraphs show, by their ids."""

    prompt: Prompt
    notes: list[str]
    shown: dict[str, Shown]
