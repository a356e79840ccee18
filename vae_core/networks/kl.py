"""AutoencoderKL: a picture to the mean and variance of its latent, and a latent back to a picture.

The network of CompVis/latent-diffusion (ldm/models/autoencoder.py, Rombach et al. 2022), and FLUX.2's. Its halves
are in `kl_halves`, the same by tiles in `kl_sweeps`, its tensor names in `kl_names`.
"""

from types import ModuleType

import torch
from torch import Tensor, nn

from ..config import VAEConfig, fold, unfold
from ..layers import Attention, Device, Down, Layers, Operations, ResidualBlock, Up
from ..posterior import Posterior
from ..tiling.network import WITHOUT, VAENetwork
from ..tiling.sweeps import Activations, Sweeps
from ..tiling.tiles import Size
from ..tiling.waiting import Waiting
from .kl_halves import Decoder, Encoder, Statistics
from .kl_sweeps import decode_one, encode_one


class AutoencoderKL(VAENetwork):
    """Encoder and decoder with the names of latent-diffusion; `encoder=False` or `decoder=False` leaves a half out.

    `operations` is the namespace its layers come from (Conv2d, GroupNorm).
    """

    kind, title, has_distribution = "kl", "AutoencoderKL", True
    steps = (ResidualBlock, Attention, Up, Down)
    config: VAEConfig

    def __init__(
        self,
        config: VAEConfig,
        operations: Operations | ModuleType = nn,
        device: Device = None,
        dtype: torch.dtype | None = None,
        *,
        encoder: bool = True,
        decoder: bool = True,
    ):
        super().__init__(config)
        layers, inner = Layers(operations, device, dtype), config.stack_latent
        self.encoder = Encoder(config, layers) if encoder else None
        self.decoder = Decoder(config, layers) if decoder else None
        self.quant_conv = layers.conv(2 * inner, 2 * inner, 1) if config.quant and encoder else None
        self.bn = Statistics(config.latent, device) if config.patch > 1 else None
        self.post_quant_conv = layers.conv(inner, inner, 1) if config.quant and decoder else None

    def posterior(self, pixels: Tensor) -> Posterior:
        """Pixels -1..1 -> the distribution of their raw latent. [B, 3, H, W] -> Posterior of [B, C, h, w]

        Raises ValueError for another shape, a side that is no multiple of `config.factor`, or a VAE without an encoder.
        """
        self.check_encodes(pixels)
        return self.as_encoding(self.half_for("encode")(self.into_encoder(pixels)))

    def encoding(self, pixels: Tensor) -> Posterior:
        """The posterior: this kind has one. [B, 3, H, W] -> Posterior of [B, C, h, w]"""
        return self.posterior(pixels)

    def half_for(self, way: str) -> nn.Module:
        return self._encoder() if way == "encode" else self._decoder()

    def _encoder(self) -> Encoder:
        if self.encoder is None:
            raise ValueError(WITHOUT["encode"])
        return self.encoder

    def _decoder(self) -> Decoder:
        if self.decoder is None:
            raise ValueError(WITHOUT["decode"])
        return self.decoder

    def into_encoder(self, pixels: Tensor) -> Tensor:
        """The encoder takes pixels as they are. [B, 3, H, W] -> the same"""
        return pixels

    def as_encoding(self, moments: Tensor) -> Posterior:
        """The quant convolution, and FLUX.2's folding and normalising. [B, 2 * stack_latent, ..] -> Posterior"""
        posterior = Posterior.from_moments(moments if self.quant_conv is None else self.quant_conv(moments))
        if self.bn is None:
            return posterior
        mean, std = self.bn.of(moments)
        folded = (fold(t, self.config.patch) for t in (posterior.mean, posterior.logvar))
        return Posterior((next(folded) - mean) / std, next(folded) - 2 * std.log())

    def into_decoder(self, latent: Tensor) -> Tensor:
        """FLUX.2's unfolding, and the post-quant convolution. [B, C, h, w] -> [B, stack_latent, ..]"""
        if self.bn is not None:
            mean, std = self.bn.of(latent)
            latent = unfold(latent * std + mean, self.config.patch)
        return latent if self.post_quant_conv is None else self.post_quant_conv(latent)

    def as_pixels(self, picture: Tensor) -> Tensor:
        """The decoder gives pixels as they are. [B, 3, H, W] -> the same"""
        return picture

    def encoder_shape(self, size: Size) -> tuple[int, int, int]:
        """Mean and log-variance of each channel between the halves."""
        stride = self.config.factor // self.config.patch  # px per cell there: 2 x 2 of them are one cell of FLUX.2's
        return 2 * self.config.stack_latent, size[0] // stride, size[1] // stride

    def sweep_encode(self, sweeps: Sweeps, pixels: Activations, into: Waiting) -> None:
        encode_one(sweeps, self._encoder(), pixels, into)

    def sweep_decode(self, sweeps: Sweeps, latent: Activations, into: Waiting) -> None:
        decode_one(sweeps, self._decoder(), latent, into)
