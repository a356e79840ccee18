"""The sizes of Wan's VAE, and what a picture or a video needs in it.

From Wan-Video/Wan2.1 (wan/modules/vae.py), Wan2.2 (wan/modules/vae2_2.py) and Qwen-Image's model card.
"""

import math
from dataclasses import dataclass

from ..config import Values


@dataclass(frozen=True)
class WanConfig:
    """Wan's VAE in numbers, the picture's size first; Wan 2.1's and Qwen-Image's is all defaults.

    Wan 2.2's is `WanConfig(160, (160, 320, 640, 640), (256, 512, 1024, 1024), latent=48, residual=True, patch=2)`.
    """

    channels: int = 96  # of the encoder's first convolution
    widths: tuple[int, ...] = (96, 192, 384, 384)  # of each level of the encoder
    decoder_widths: tuple[int, ...] = (96, 192, 384, 384)
    blocks: int = 2  # residual blocks per level of the encoder; the decoder has one more
    latent: int = 16
    temporal: tuple[bool, ...] = (False, True, True)  # whether a change of size halves the frames too
    image_channels: int = 3
    residual: bool = False  # Wan 2.2: a way past each stage
    patch: int = 1  # Wan 2.2: 2 x 2 pixels are one cell of the halves

    @property
    def factor(self) -> int:
        """Picture pixels per latent cell, along each side."""
        return 2 ** (len(self.widths) - 1) * self.patch

    @property
    def frame_factor(self) -> int:
        """Frames of a video per latent frame, but for the first."""
        return 2 ** sum(self.temporal)

    def latent_frames(self, frames: int) -> int:
        """The latent frames of a video; frames at its end that fill none are left out."""
        return 1 + (frames - 1) // self.frame_factor

    def video_frames(self, latent_frames: int) -> int:
        """The frames of a video of so many latent frames."""
        return 1 + (latent_frames - 1) * self.frame_factor

    def widths_of(self, way: str) -> tuple[int, ...]:
        """Channels at each level, the picture's size first."""
        return self.widths if way == "encode" else self.decoder_widths

    def values(self, way: str, px: int) -> Values:
        """The values of a single picture; `Clip` has those of a video."""
        return Clip(self, 1).values(way, px)


@dataclass(frozen=True)
class Clip:
    """The sizes of a VAE for videos of so many latent frames: what plans count with."""

    config: WanConfig
    latent_frames: int

    @property
    def latent(self) -> int:
        """Channels of a latent frame."""
        return self.config.latent

    @property
    def factor(self) -> int:
        """Picture pixels per latent cell, along each side."""
        return self.config.factor

    @property
    def image_channels(self) -> int:
        """Channels of all frames."""
        return self.config.image_channels * self.config.video_frames(self.latent_frames)

    def widths_of(self, way: str) -> tuple[int, ...]:
        """Channels of the result, then the measure of a tile: what all its layers hold for each pixel, with the frames
        before that they remember.
        """
        return self.image_channels, math.ceil(self._copied(way, 1) / 2.6)  # plans count 2.6 or more of it

    def values(self, way: str, px: int) -> Values:
        """The values that one video, of `px` pixels in each frame, needs on the way "encode" or "decode"."""
        video, frames = self.latent_frames > 1, self.image_channels * px
        once, largest = self._copied(way, px), self._largest(way, px)
        latent = self.config.widths_of(way)[-1] * px / self.factor**2  # at latent size
        # between sweeps: of a picture what lies between two levels, of a video what is at latent size
        waits = latent * self.latent_frames if video else 0.6 * largest
        middle = latent * (self.latent_frames + 12 if video else 6)
        return Values(
            once,
            waits + (frames if way == "decode" else 0),  # by tiles the result is there twice
            middle,
            once_on_card=self._once(way, px),
            largest=3 * largest if video else largest,
            scores=(px / self.factor**2) ** 2,
            reach=(2 if way == "decode" else 8 if video else 1) // self.config.patch or 1,
            tile=self._once(way, px) / (6 if video else 8),
            kept=(0.3 if way == "decode" else 0.1) if video else 0.0,
        )

    def _copied(self, way: str, px: float) -> float:
        """The same with what a CPU's kernels copy of three frames of a video (measured)."""
        return self._once(way, px) * (1 if self.latent_frames == 1 else 1.12)

    def _largest(self, way: str, px: float) -> float:
        """The values of the largest activations of one frame."""
        widths = self.config.widths_of(way)
        return max(width * px / self.config.patch**2 / 4**number for number, width in enumerate(widths))

    def _once(self, way: str, px: float) -> float:
        """The values of all layers at their fullest moment (measured): in a video each keeps two frames."""
        blocks = self.config.blocks + (way == "decode")
        return self._largest(way, px) * (4 if self.latent_frames == 1 else 8 + 8 * blocks)
