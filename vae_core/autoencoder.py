"""AutoencoderKL: a picture to the mean and variance of its latent, and a latent back to a picture.

The network of CompVis/latent-diffusion (ldm/models/autoencoder.py, Rombach et al. 2022), under its own tensor names.
Encoder and decoder are three stages each, so that a picture too big for the memory can go through them piece by piece.
"""

from dataclasses import dataclass
from types import ModuleType

import torch
from torch import Tensor, nn

from .config import VAEConfig, fold, unfold
from .layers import Device, Layers, Level, Middle, activated, as_computed
from .norms import exactly_normed


@dataclass(frozen=True)
class Posterior:
    """The normal distribution of a latent, every cell and channel independent: raw, as ComfyUI's latents are.

    mean and logvar are [B, C, h, w]; logvar is within -30..20.
    """

    mean: Tensor
    logvar: Tensor

    @classmethod
    def from_moments(cls, moments: Tensor) -> "Posterior":
        """[B, 2C, h, w], the mean first -> Posterior of [B, C, h, w]"""
        mean, logvar = moments.chunk(2, dim=1)
        return cls(mean, logvar.clamp(-30.0, 20.0))

    @property
    def mode(self) -> Tensor:
        """The likeliest latent: the mean. [B, C, h, w]"""
        return self.mean

    @property
    def std(self) -> Tensor:
        """Standard deviation. [B, C, h, w]"""
        return torch.exp(0.5 * self.logvar)

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """A draw; the same generator state gives the same latent (drawn on the generator's device). [B, C, h, w]"""
        device = self.mean.device if generator is None else generator.device
        noise = torch.randn(self.mean.shape, generator=generator, device=device, dtype=self.mean.dtype)
        return self.mean + self.std * noise.to(self.mean.device)

    def kl(self) -> Tensor:
        """Divergence from the standard normal, in nats, summed over each item's latent (in float32 at least). [B]"""
        mean, logvar = (t if t.dtype == torch.float64 else t.float() for t in (self.mean, self.logvar))
        return 0.5 * doubled_divergence(mean, logvar).sum(dim=(1, 2, 3))


def doubled_divergence(mean: Tensor, logvar: Tensor) -> Tensor:
    """Twice the divergence of each value's normal distribution from the standard one, in nats (Kingma and Welling 2013,
    arXiv 1312.6114, appendix B). Any shape.
    """
    return mean.square() + logvar.exp() - 1.0 - logvar


class Encoder(nn.Module):
    """pixels -> moments before the quant convolution. [B, 3, H, W] -> [B, 2C, H / factor, W / factor]"""

    def __init__(self, config: VAEConfig, layers: Layers):
        super().__init__()
        widths, last = (config.channels, *config.widths), len(config.widths) - 1
        self.conv_in = layers.conv(config.image_channels, config.channels)
        self.down = nn.ModuleList(
            Level(widths[i], widths[i + 1], config.blocks, None if i == last else "downsample", layers)
            for i in range(last + 1)
        )
        self.mid = Middle(widths[-1], layers)
        self.norm_out = layers.norm(widths[-1])
        self.conv_out = layers.conv(widths[-1], 2 * config.stack_latent)

    def to_latent_size(self, pixels: Tensor) -> Tensor:
        """The input convolution and the way down. [B, 3, H, W] -> [B, width, h, w]"""
        h = self.conv_in(as_computed(pixels))
        for step in (step for level in self.down for step in level.steps):
            h = step(h)
        return h

    def to_moments(self, h: Tensor) -> Tensor:
        """The last norm and convolution. [B, width, h, w] -> [B, 2C, h, w]"""
        return self.conv_out(activated(exactly_normed(self.norm_out, h)))

    def forward(self, pixels: Tensor) -> Tensor:
        return self.to_moments(self.mid(self.to_latent_size(pixels)))


class Decoder(nn.Module):
    """latent after the post-quant convolution -> pixels. [B, C, h, w] -> [B, 3, h * factor, w * factor]

    `up` is numbered by size as in the encoder, the picture's size first, and walked from its end.
    """

    def __init__(self, config: VAEConfig, layers: Layers):
        super().__init__()
        widths = (*config.decoder_widths, config.decoder_widths[-1])
        self.conv_in = layers.conv(config.stack_latent, widths[-1])
        self.mid = Middle(widths[-1], layers)
        self.up = nn.ModuleList(
            Level(widths[i + 1], widths[i], config.blocks + 1, "upsample" if i else None, layers)
            for i in range(len(config.decoder_widths))
        )
        self.norm_out = layers.norm(widths[0])
        self.conv_out = layers.conv(widths[0], config.image_channels)

    def at_latent_size(self, z: Tensor) -> Tensor:
        """The input convolution and the middle. [B, C, h, w] -> [B, width, h, w]"""
        return self.mid(self.conv_in(as_computed(z)))

    def to_picture_size(self, h: Tensor) -> Tensor:
        """The way up. [B, width, h, w] -> [B, channels, H, W]"""
        for step in (step for level in reversed(self.up) for step in level.steps):
            h = step(h)
        return h

    def to_pixels(self, h: Tensor) -> Tensor:
        """The last norm and convolution. [B, channels, H, W] -> [B, 3, H, W]"""
        return self.conv_out(activated(exactly_normed(self.norm_out, h)))

    def forward(self, z: Tensor) -> Tensor:
        return self.to_pixels(self.to_picture_size(self.at_latent_size(z)))


class Statistics(nn.Module):
    """The latent's mean and variance, measured in training: FLUX.2's batch norm without its arithmetic.

    From black-forest-labs/flux2, autoencoder.py; the buffers' names are torch's.
    """

    EPS = 1e-4

    def __init__(self, channels: int, device: Device):
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(channels, device=device))
        self.register_buffer("running_var", torch.ones(channels, device=device))
        self.register_buffer("num_batches_tracked", torch.tensor(0, device=device))

    def of(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation where `like` is. -> 2 x [C, 1, 1]"""
        mean, variance = (t.to(like)[:, None, None] for t in (self.running_mean, self.running_var))
        return mean, (variance + self.EPS).sqrt()


class AutoencoderKL(nn.Module):
    """Encoder and decoder with the names of latent-diffusion; `encoder=False` or `decoder=False` leaves a half out.

    `operations` is the namespace its layers come from (Conv2d, GroupNorm).
    """

    def __init__(
        self,
        config: VAEConfig,
        operations: ModuleType | type = nn,
        device: Device = None,
        dtype: torch.dtype | None = None,
        *,
        encoder: bool = True,
        decoder: bool = True,
    ):
        super().__init__()
        layers, inner = Layers(operations, device, dtype), config.stack_latent
        self.config = config
        self.encoder = Encoder(config, layers) if encoder else None
        self.decoder = Decoder(config, layers) if decoder else None
        self.quant_conv = layers.conv(2 * inner, 2 * inner, 1) if config.quant and encoder else None
        self.bn = Statistics(config.latent, device) if config.patch > 1 else None
        self.post_quant_conv = layers.conv(inner, inner, 1) if config.quant and decoder else None

    def encode(self, pixels: Tensor) -> Posterior:
        """Pixels -1..1 -> the distribution of their raw latent. [B, 3, H, W] -> [B, C, H / factor, W / factor]

        Raises ValueError for another shape, a side that is no multiple of `config.factor`, or a VAE without an encoder.
        """
        self.check_encodes(pixels)
        return self.posterior_of(self.encoder(pixels))

    def decode(self, latent: Tensor) -> Tensor:
        """Raw latent -> pixels, about -1..1, not clamped; a new tensor. [B, C, h, w] -> [B, 3, h*factor, w*factor]

        Raises ValueError for another number of channels, or a VAE without a decoder.
        """
        self.check_decodes(latent)
        return self.decoder(self.into_decoder(latent))

    def into_encoder(self, pixels: Tensor) -> Tensor:
        """What `encode` gives its encoder. [B, 3, H, W] -> the same"""
        return pixels

    def posterior_of(self, moments: Tensor) -> Posterior:
        """What `encode` makes of its encoder's result. [B, 2 * stack_latent, ..] -> Posterior of [B, C, h, w]"""
        posterior = Posterior.from_moments(moments if self.quant_conv is None else self.quant_conv(moments))
        if self.bn is None:
            return posterior
        mean, std = self.bn.of(moments)
        folded = (fold(t, self.config.patch) for t in (posterior.mean, posterior.logvar))
        return Posterior((next(folded) - mean) / std, next(folded) - 2 * std.log())

    def into_decoder(self, latent: Tensor) -> Tensor:
        """What `decode` gives its decoder. [B, C, h, w] -> [B, stack_latent, ..]"""
        if self.bn is not None:
            mean, std = self.bn.of(latent)
            latent = unfold(latent * std + mean, self.config.patch)
        return latent if self.post_quant_conv is None else self.post_quant_conv(latent)

    def as_pixels(self, picture: Tensor) -> Tensor:
        """What `decode` makes of its decoder's result. [B, 3, H, W] -> the same"""
        return picture

    def check_encodes(self, pixels: Tensor) -> None:
        """Raises ValueError where `encode` does."""
        if self.encoder is None:
            raise ValueError(
                "this VAE file holds only a decoder: it turns latents into pictures; load the full VAE "
                "to encode a picture"
            )
        check_pixels(pixels, self.config.image_channels, self.config.factor)

    def check_decodes(self, latent: Tensor) -> None:
        """Raises ValueError where `decode` does."""
        if self.decoder is None:
            raise ValueError(
                "this VAE file holds only an encoder: it turns pictures into latents; load the full VAE "
                "to decode a latent"
            )
        check_latent(latent, self.config.latent)


def check_pixels(pixels: Tensor, channels: int, factor: int) -> None:
    """Raises ValueError unless pixels are [B, channels, H, W] with both sides non-zero multiples of `factor`."""
    if pixels.ndim != 4 or pixels.shape[1] != channels:
        raise ValueError(f"this VAE wants pixels [B, {channels}, H, W], not {list(pixels.shape)}")
    height, width = pixels.shape[2:]
    if not height or not width or height % factor or width % factor:
        raise ValueError(
            f"this VAE wants sides that are multiples of {factor} px, not {height} x {width} px: "
            "crop or pad the picture first"
        )


def check_latent(latent: Tensor, channels: int) -> None:
    """Raises ValueError unless the latent is [B, channels, h, w] with cells in it."""
    if latent.ndim != 4:
        raise ValueError(f"this VAE wants a latent [B, {channels}, h, w], not {list(latent.shape)}")
    if latent.shape[1] != channels:
        raise ValueError(
            f"this latent has {latent.shape[1]} channels, this VAE wants {channels}: "
            "use the VAE of the model that made it"
        )
    if not latent.shape[2] or not latent.shape[3]:
        raise ValueError(f"this latent is empty {list(latent.shape)}: there is nothing to decode")
