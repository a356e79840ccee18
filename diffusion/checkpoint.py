"""THE place for the diffusion model's tensor names: what a file holds is told by its tensors, and by nothing else.

The file's own names are those of the network; a host that saves its MODEL puts a prefix before them.
"""

import re
from collections.abc import Mapping, Sequence

from .config import DiffusionConfig, DiffusionError

Shapes = Mapping[str, Sequence[int]]
_PREFIXES = ("", "model.diffusion_model.", "diffusion_model.")
_MARKS = ("gist.question", "latent_scale", "noise_shift")


def prefix_of(shapes: Shapes) -> str:
    """The prefix of the network's names in a file.

    Raises:
        DiffusionError: the file holds no diffusion model of this pack.
    """
    for prefix in _PREFIXES:
        if all(prefix + mark in shapes for mark in _MARKS):
            return prefix
    raise DiffusionError(
        "this file holds no diffusion model of this pack: load checkpoints of Stable Diffusion, Flux and others with "
        "ComfyUI's own loaders"
    )


def config_of(shapes: Shapes) -> DiffusionConfig:
    """The sizes of the network, from the shapes of its tensors, without a prefix.

    Raises:
        DiffusionError: a tensor is missing, or has a shape that no such network has.
    """
    try:
        first = shapes["conv_in.weight"]
        steps = _count(shapes, r"shrink\.(\d+)\.")
        levels = range(steps + 1)
        widths = (int(first[0]), *(int(shapes[f"shrink.{step}.weight"][0]) for step in range(steps)))
        blocks = tuple(_count(shapes, rf"down\.{level}\.(\d+)\.") for level in levels)
        attends = [level for level in levels if f"down.{level}.0.attention.norm1.weight" in shapes]
        return DiffusionConfig(
            latent=int(first[1]) - 2,
            text=int(shapes["gist.question"][2]),
            widths=widths,
            blocks=blocks,
            attention=min(attends, default=len(widths)),
            time=int(shapes["time1.weight"][0]),
        )
    except (KeyError, IndexError) as error:
        raise DiffusionError(f"the diffusion model is not whole ({error} is missing): get the file again") from error


def _count(shapes: Shapes, pattern: str) -> int:
    """How many different numbers the names have where the pattern has its group."""
    return len({found[1] for name in shapes if (found := re.match(pattern, name))})
