"""What a VAE object makes of what, as its host tells nodes: kinds, channels, and pixels per latent cell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

PICTURES, VIDEOS, SOUND, SHAPES = "pictures", "videos", "sound", "3-D shapes"
NO_VAE = (
    "a VAE was expected, but this output holds none: its file is a model without a VAE; load the VAE from its own file "
    "with Load VAE (CVL)"
)


@dataclass(frozen=True)
class VAEFacts:
    """A VAE in the numbers that its inputs have to fit."""

    kind: str  # what its network is called, for sentences
    makes: str  # PICTURES, VIDEOS, SOUND or SHAPES
    latent_channels: int
    px_per_cell: int  # pixels of a picture to encode that one latent cell spans, along each side
    decoded_px_per_cell: int  # pixels that one latent cell becomes; others for Stable Cascade's stage C
    image_channels: int = 3  # of the pictures it encodes: 4 with alpha, 1 for grey ones
    frames_together: bool = False  # the pictures of a batch are the frames of one video
    frames_of: Callable[[int], int] | None = None  # the frames that so many latent frames become; None for pictures
