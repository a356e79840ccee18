"""Names of modules that the host knows: without ComfyUI none but our own tables'."""

from __future__ import annotations

from ....lora.models.places import Target
from .clip import StandaloneClip, StandaloneClipModel


def module_names(target: StandaloneClip | StandaloneClipModel) -> dict[str, Target]:
    return {}
