"""Wan's VAE (Wan 2.1, 2.2, Qwen-Image): videos and single pictures to latents and back, frame by frame.

The network of Wan-Video/Wan2.1 and Wan2.2 (Wan Team 2025, arXiv 2503.20314). Nothing in it looks ahead, so a video is
done one frame after another, and each layer remembers what it needs of the frames before: memory does not grow with
the length. All but the attention in the middle is local, so a tile needs no more than the cells round it: the middle
is done on whole frames at latent size, the rest tile by tile, a tile with all its frames. Its layers are in
`wan_layers`, its halves in `wan_halves`, its tensor names in `wan_names`.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from types import ModuleType
from typing import cast

import torch
from torch import Tensor, nn

from ..config import fold, unfold
from ..layers import Device, Layers, Operations, as_computed
from ..posterior import Posterior
from ..tiling.network import WITHOUT, NetworkConfig, Shape, VAENetwork
from ..tiling.sweeps import Activations, Stored, Sweeps
from ..tiling.tiles import Size, Tile
from ..tiling.waiting import Waiting
from .wan_config import Clip, WanConfig
from .wan_halves import Decoder, Encoder, Stage, course, through
from .wan_layers import Attention, Down, Past, ResidualBlock, Up, causal_conv, convolved


def _frames(flat: Tensor, channels: int) -> Iterator[Tensor]:
    """The frames that lie side by side, each of so many channels. [B, T * C, H, W] -> T times [B, C, H, W]"""
    return (as_computed(frame) for frame in flat.split(channels, 1))


def _begun(half: Decoder, frames: Iterator[Tensor], past: Past, scores: int | None = None) -> Iterator[Tensor]:
    """The decoder's first layers, at latent size. [B, C, h, w] -> [B, width, h, w]"""
    return (half.middle(convolved(half.conv1, frame, past), past, scores) for frame in frames)


def _ended(half: Encoder, frames: Iterator[Tensor], past: Past, scores: int | None = None) -> Iterator[Tensor]:
    """The encoder's last layers, at latent size. [B, width, h, w] -> [B, 2C, h, w]"""
    return (half.head(half.middle(frame, past, scores), past) for frame in frames)


def _each(sweeps: Sweeps, stages: Sequence[Stage], x: Activations, frames: int, tile: Tile) -> Tensor:
    """One tile of what stages make of all frames of x. -> [1, T' * D, height, width]"""
    tiles = course(stages, x.size, tile)
    given = _frames(x.read(tiles[0][0]), x.channels // frames)
    return _side_by_side(sweeps, through(stages, given, Past(keeps=frames > 1), tiles))


def _side_by_side(sweeps: Sweeps, frames: Iterator[Tensor]) -> Tensor:
    """All frames of a tile, each a step of the work; the last step is the tile's own. -> [1, T * C, height, width]"""
    found: list[Tensor] = []
    for frame in frames:
        if found:
            sweeps.step()
        found.append(frame)
    return torch.cat(found, 1)


def _width(stages: Sequence[Stage]) -> float:
    """Channels of the widest of these layers for each cell of their result."""
    widest, cells = 0.0, 1.0
    for stage in reversed(stages):
        widest = max(widest, stage.channels * cells)
        cells *= 1 / 4 if isinstance(stage.change, Up) else 4 if isinstance(stage.change, Down) else 1
        widest = max(widest, stage.width * cells)
    return widest


def _folded(x: Tensor, patch: int) -> Tensor:
    """patch x patch pixels into the channels, columns slower than rows. [B, C, H, W] -> [B, C*p*p, H/p, W/p]"""
    return fold(x.transpose(2, 3), patch).transpose(2, 3)


def _unfolded(x: Tensor, patch: int) -> Tensor:
    """The inverse of `_folded`. [B, C*p*p, h, w] -> [B, C, h*p, w*p]"""
    return unfold(x.transpose(2, 3), patch).transpose(2, 3)


class AutoencoderWan(VAENetwork):
    """Encoder and decoder with the names of Wan; `encoder=False` or `decoder=False` leaves a half out.

    Videos are [B, 3, T, H, W] and latents [B, C, t, h, w]; a picture is a video of one frame.
    """

    kind, title, has_distribution, has_frames = "wan", "Wan video autoencoder", True, True
    steps = (ResidualBlock, Attention)
    config: WanConfig

    def __init__(
        self,
        config: WanConfig,
        operations: Operations | ModuleType = nn,
        device: Device = None,
        dtype: torch.dtype | None = None,
        *,
        encoder: bool = True,
        decoder: bool = True,
    ):
        super().__init__(config)
        layers, latent = Layers(operations, device, dtype), config.latent
        self.encoder = Encoder(config, layers) if encoder else None
        self.conv1 = causal_conv(layers, 2 * latent, 2 * latent, (1, 1, 1)) if encoder else None
        self.conv2 = causal_conv(layers, latent, latent, (1, 1, 1)) if decoder else None
        self.decoder = Decoder(config, layers) if decoder else None

    def half_for(self, way: str) -> nn.Module:
        half = self.encoder if way == "encode" else self.decoder
        if half is None:
            raise ValueError(WITHOUT[way])
        return half

    def check_encodes(self, pixels: Tensor) -> None:
        self.half_for("encode")
        config, shape = self.config, list(pixels.shape)
        if pixels.ndim != 5 or shape[1] != config.image_channels:
            raise ValueError(f"this VAE wants a video [B, {config.image_channels}, T, H, W], not {shape}")
        if not min(shape) or shape[3] % config.factor or shape[4] % config.factor:
            raise ValueError(
                f"this VAE wants sides that are multiples of {config.factor} px, not {shape[3]} x {shape[4]} px: "
                "crop or pad the picture first"
            )

    def check_decodes(self, latent: Tensor) -> None:
        self.half_for("decode")
        shape, wanted = list(latent.shape), self.config.latent
        if latent.ndim != 5:
            raise ValueError(
                f"this VAE wants the latent of a video, [B, {wanted}, t, h, w], not {shape}: "
                "use the VAE of the model that made it"
            )
        if shape[1] != wanted:
            raise ValueError(
                f"this latent has {shape[1]} channels, this VAE wants {wanted}: use the VAE of the model that made it"
            )
        if not min(shape):
            raise ValueError(f"this latent is empty {shape}: there is nothing to decode")

    @classmethod
    def sized(cls, config: NetworkConfig, way: str, shape: Sequence[int]) -> tuple[NetworkConfig, Shape]:
        config = cast(WanConfig, config)
        if len(shape) != 5:
            raise ValueError(f"this VAE wants videos or their latents, [B, C, T, H, W], not {list(shape)}")
        batch, _, frames, height, width = shape
        if way == "encode":
            frames, height, width = config.latent_frames(frames), height // config.factor, width // config.factor
        return Clip(config, frames), (batch, config.latent, height, width)

    def decoded_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        config = self.config
        frames, height, width = config.video_frames(shape[2]), config.factor * shape[3], config.factor * shape[4]
        return shape[0], config.image_channels, frames, height, width

    def step_count(self, way: str, shape: Sequence[int]) -> int:
        """Each layer runs once for each frame that its level has."""
        config, half = self.config, cast(Encoder | Decoder, self.half_for(way))
        latent_frames = config.latent_frames(shape[2]) if way == "encode" else shape[2]
        frames = config.video_frames(latent_frames) if way == "encode" else latent_frames
        runs = 3 * latent_frames  # the middle
        for stage in half.stages:
            runs += len(stage.blocks) * frames
            frames = stage.count(frames)
        return runs

    def encoding(self, pixels: Tensor) -> Posterior:
        """A video -1..1 -> the distribution of its raw latent. [B, 3, T, H, W] -> Posterior of [B, C, t, h, w]

        Frames at the end that fill no latent frame are left out. Raises ValueError as `check_encodes`.
        """
        self.check_encodes(pixels)
        half, given = self._encoder(), _frames(self.into_encoder(pixels), self._cell_channels)
        past = Past(keeps=pixels.shape[2] > 1)
        return self.as_encoding(torch.cat(list(_ended(half, through(half.stages, given, past), past)), 1))

    def decode(self, latent: Tensor) -> Tensor:
        """Raw latent -> a video, about -1..1, not clamped. [B, C, t, h, w] -> [B, 3, T, h*factor, w*factor]

        Raises ValueError as `check_decodes`.
        """
        self.check_decodes(latent)
        half, given = self._decoder(), _frames(self.into_decoder(latent), self.config.latent)
        past = Past(keeps=latent.shape[2] > 1)
        video = latent.new_empty(self.decoded_shape(latent.shape))
        for number, frame in enumerate(through(half.stages, _begun(half, given, past), past)):
            video[:, :, number : number + 1] = self.as_pixels(frame)
        return video

    def _encoder(self) -> Encoder:
        return cast(Encoder, self.half_for("encode"))

    def _decoder(self) -> Decoder:
        return cast(Decoder, self.half_for("decode"))

    @property
    def _cell_channels(self) -> int:
        return self.config.image_channels * self.config.patch**2

    def into_encoder(self, pixels: Tensor) -> Tensor:
        """Those frames that fill latent frames, side by side. [B, 3, T, H, W] -> [B, T * channels, ..]"""
        config = self.config
        frames = config.video_frames(config.latent_frames(pixels.shape[2]))
        flat = pixels[:, :, :frames].transpose(1, 2).flatten(0, 1)  # [B * T, 3, H, W]
        return _folded(flat, config.patch).unflatten(0, (-1, frames)).flatten(1, 2)

    def as_encoding(self, result: Tensor) -> Posterior:
        """After the 1x1 convolution. [B, t * 2C, h, w] -> Posterior of [B, C, t, h, w]"""
        conv = cast(nn.Conv3d, self.conv1)
        frames = [conv(as_computed(frame)) for frame in _frames(result, 2 * self.config.latent)]
        return Posterior.from_moments(torch.stack(frames, 2))

    def into_decoder(self, latent: Tensor) -> Tensor:
        """The frames side by side, after the 1x1 convolution. [B, C, t, h, w] -> [B, t * C, h, w]"""
        conv = cast(nn.Conv3d, self.conv2)
        return torch.cat([conv(as_computed(frame)) for frame in latent.unbind(2)], 1)

    def as_pixels(self, result: Tensor) -> Tensor:
        """[B, T * channels, ..] -> [B, 3, T, H, W]"""
        flat = result.unflatten(1, (-1, self._cell_channels)).flatten(0, 1)
        return _unfolded(flat, self.config.patch).unflatten(0, (len(result), -1)).transpose(1, 2)

    def encoder_shape(self, size: Size) -> tuple[int, int, int]:
        return 2 * self.config.latent, size[0] // self.config.factor, size[1] // self.config.factor

    def tiled_shape(self, way: str, shape: Sequence[int]) -> tuple[int, int, int]:
        config = self.config
        height, width = shape[3:]
        if way == "encode":
            channels, height, width = self.encoder_shape((height, width))
            return config.latent_frames(shape[2]) * channels, height, width
        stride = config.factor // config.patch
        return config.video_frames(shape[2]) * self._cell_channels, height * stride, width * stride

    def sweep_encode(self, sweeps: Sweeps, pixels: Activations, into: Waiting) -> None:
        half, frames = self._encoder(), pixels.channels // self._cell_channels
        groups = [half.stages] if frames > 1 else [[stage] for stage in half.stages]
        x = self._sweep(sweeps, half, groups, pixels, frames)
        latent_frames, past = self.config.latent_frames(frames), Past(keeps=frames > 1)

        def end(tile: Tile) -> Tensor:
            given = _frames(x.read(tile), x.channels // latent_frames)
            return _side_by_side(sweeps, _ended(half, given, past, sweeps.scores))

        sweeps.sweep(x.size, x.channels, end, into, everything=True, steps=latent_frames)

    def sweep_decode(self, sweeps: Sweeps, latent: Activations, into: Waiting) -> None:
        half, frames = self._decoder(), latent.channels // self.config.latent
        past, width = Past(keeps=frames > 1), self.config.decoder_widths[-1]
        begun = torch.empty((1, frames * width, *latent.size), dtype=sweeps.dtype, device=sweeps.device)

        def begin(tile: Tile) -> Tensor:
            given = _frames(latent.read(tile), self.config.latent)
            for number, frame in enumerate(_begun(half, given, past, sweeps.scores)):
                if number:
                    sweeps.step()
                begun[:, number * width : (number + 1) * width] = frame
            past.frames.clear()
            return begun

        sweeps.sweep(latent.size, begun.shape[1], begin, everything=True, steps=frames)
        # a picture's last two levels together: what is between them is as large as what they hold
        groups = [half.stages] if frames > 1 else [*([stage] for stage in half.stages[:-2]), half.stages[-2:]]
        self._sweep(sweeps, half, groups, sweeps.stored(begun), frames, into)

    def _sweep(
        self,
        sweeps: Sweeps,
        half: Encoder | Decoder,
        groups: Sequence[Sequence[Stage]],
        x: Activations,
        frames: int,
        into: Waiting | None = None,
    ) -> Stored:
        """Run one group of stages after another, each tile with all its frames. A picture's may be several groups.

        [1, T * C, H, W] -> [1, T' * D, H', W'], stored in `into` or in memory of its own
        """
        for stages in groups:
            size, made = x.size, frames
            for stage in stages:
                size, made = stage.size(size), stage.count(made)
            channels = made * stages[-1].channels
            if into is None or stages is not groups[-1]:
                out = sweeps.room(channels, size)
            else:
                out = Stored(size, channels, into.read, into)
            each = partial(_each, sweeps, stages, x, frames)
            share = _width(stages) / _width(half.stages) * self.config.patch**2  # of a pixel's values for each cell
            if isinstance(half, Encoder):
                share *= (self.config.factor // self.config.patch) ** 2
            sweeps.sweep(size, round(sweeps.width * share), each, out.waiting, steps=made)
            x = out
        return out
