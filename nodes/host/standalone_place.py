"""Where a run without ComfyUI finds and puts things, who is told of its progress, and what it computes on."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch


@dataclass
class _Place:
    """What a ComfyUI server would know: where things lie, and who is told of progress."""

    models: Path = Path(__file__).resolve().parents[2] / "models"
    temp: Path = field(default_factory=lambda: Path(tempfile.gettempdir()) / "clip_vae_lora")
    on_step: Callable[[int, int], None] = lambda done, total: None
    output: Path = field(default_factory=lambda: Path(tempfile.gettempdir()) / "clip_vae_lora" / "output")
    inputs: Sequence[Path] = ()


_place = _Place()


def set_place(
    *,
    models: Path | None,
    temp: Path,
    on_step: Callable[[int, int], None],
    output: Path | None = None,
    inputs: Sequence[Path] = (),
) -> None:
    _place.models, _place.temp, _place.on_step = models or _place.models, temp, on_step
    _place.output, _place.inputs = output or _place.output, inputs


def progress(total: int) -> Callable[[int, int], None]:
    return _place.on_step


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
