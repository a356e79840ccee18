"""Text encoders: what trainers leave out in front of a module's own name, by the name that the host has for it."""

from collections.abc import Mapping

ENCODERS: Mapping[str, tuple[str, ...]] = {  # the beginning of the host's name -> what is left out
    "clip_": ("text_model.",),
    "t5xxl": (),
    "hydit_clip": ("bert.",),
    "mt5": (),
    "umt5": (),
    "pile_t5": (),
}
