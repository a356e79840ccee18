"""THE table of VAE networks. A new kind is a file here and a row: plans, tiles, files and nodes ask the row's network.

Its file has a `VAENetwork` (`tiling/network.py`: the methods that it fills), its config, and a `find` that knows its
tensors by name and shape.
"""

from collections.abc import Callable
from dataclasses import dataclass

from .kl_names import find_kl
from .source import Shapes, VAESource
from .tiny_names import find_tiny
from .wan_names import find_wan


@dataclass(frozen=True)
class Row:
    """One kind of VAE network."""

    find: Callable[[Shapes, str | None], VAESource | None]  # among names without a prefix, for a family; None: not it
    known_as: str  # in the sentence that says what was expected


NETWORKS = {  # by the kind that its network states and reports call it; asked in this order
    "kl": Row(find_kl, "an AutoencoderKL (SD1, SD2, SDXL, SD3, Flux.1, FLUX.2)"),
    "wan": Row(find_wan, "the VAE of Wan or Qwen-Image"),
    "tiny": Row(find_tiny, "a TAESD"),
}
