"""Encode and decode by tiles, equal to the untiled result: the way in, for every network of this folder."""

import torch
from torch import Tensor

from .autoencoder import AutoencoderKL, Posterior
from .layers import Device
from .sweeps import OnStep, Sweeps
from .tiled_kl import decode_one, encode_one
from .tiled_tiny import run_one
from .tiles import Size
from .tiny import TinyAutoencoder

VAE = AutoencoderKL | TinyAutoencoder


@torch.no_grad()
def decode(vae: VAE, latent: Tensor, tile: Size, *, device: Device = None, host: Device = None,
           on_step: OnStep | None = None) -> Tensor:
    """`vae.decode(latent)` in tiles of at most `tile` latent cells (height, width), to rounding; pictures one by one.

    `device` is where the weights are and tiles are computed, `host` where activations wait and the result comes to be
    (None: the latent's). `on_step(done, total)` after each tile; what it raises ends the work.
    [B, C, h, w] -> [B, 3, h * factor, w * factor]. Raises ValueError where `vae.decode` does.
    """
    vae.check_decodes(latent)
    device, host, factor = device or latent.device, host or latent.device, vae.config.factor
    size = [factor * side for side in latent.shape[2:]]
    pixels = torch.empty((len(latent), vae.config.image_channels, *size), dtype=latent.dtype, device=host)
    if isinstance(vae, TinyAutoencoder):
        def one(sweeps: Sweeps, z: Tensor, into: Tensor) -> None:
            run_one(sweeps, vae.taesd_decoder, sweeps.waiting(z), into)
    else:
        def one(sweeps: Sweeps, z: Tensor, into: Tensor) -> None:
            decode_one(sweeps, vae.decoder, sweeps.waiting(z), into)

    def ready(i: int) -> Tensor:
        return vae.into_decoder(latent[i:i + 1].to(device))

    _each(one, ready, pixels, tile=(tile[0] * factor, tile[1] * factor), width=max(vae.config.decoder_widths[:2]),
          device=device, on_step=on_step)
    return vae.as_pixels(pixels)


@torch.no_grad()
def encode(vae: VAE, pixels: Tensor, tile: Size, *, device: Device = None, host: Device = None,
           on_step: OnStep | None = None) -> Posterior | Tensor:
    """`vae.encode(pixels)` in tiles of at most `tile` latent cells; the arguments are those of `decode`.

    [B, 3, H, W] -> Posterior of [B, C, H / factor, W / factor], of a tiny autoencoder the latent; on the host.
    Raises ValueError where `vae.encode` does.
    """
    vae.check_encodes(pixels)
    config = vae.config
    device, host, stride = device or pixels.device, host or pixels.device, config.factor // config.patch
    tiny = isinstance(vae, TinyAutoencoder)
    shape = (len(pixels), config.stack_latent * (1 if tiny else 2), *(side // stride for side in pixels.shape[2:]))
    found = torch.empty(shape, dtype=pixels.dtype, device=host)
    if tiny:
        def one(sweeps: Sweeps, image: Tensor, into: Tensor) -> None:
            run_one(sweeps, vae.taesd_encoder, sweeps.waiting(image), into)
    else:
        def one(sweeps: Sweeps, image: Tensor, into: Tensor) -> None:
            encode_one(sweeps, vae.encoder, sweeps.waiting(image), into)

    def ready(i: int) -> Tensor:
        return vae.into_encoder(pixels[i:i + 1])

    _each(one, ready, found, tile=(tile[0] * config.factor, tile[1] * config.factor), width=max(config.widths[:2]),
          device=device, on_step=on_step)
    if tiny:
        return vae.as_latent(found.to(device)).to(host)
    posterior = vae.posterior_of(found.to(device))
    return Posterior(posterior.mean.to(host), posterior.logvar.to(host))


def _each(one, ready, into: Tensor, *, tile: Size, width: int, device: Device, on_step: OnStep | None) -> None:
    """`one` of each picture that is `ready`, with the tiles of all of them counted beforehand."""
    total = 0
    for i in range(len(into)):
        x = ready(i)
        if not i:
            count = Sweeps(tile, width, x, "meta", "meta", None)
            one(count, x.to("meta"), into[:1].to("meta"))
            total = count.done * len(into)
            sweeps = Sweeps(tile, width, x, device, into.device, on_step)
            sweeps.total = total
        one(sweeps, x, into[i:i + 1])
