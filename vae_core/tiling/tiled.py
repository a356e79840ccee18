"""Encode and decode by tiles, equal to the untiled result: the way in, for every network of this folder.

Equal to the rounding of what the convolutions compute in, for tiles are other shapes and so may get other kernels: in
float32 about 4e-6 of the range. On NVIDIA cards torch lets convolutions round float32 to TF32 (ten bits, 5e-4 of a
value) unless torch.backends.cudnn.allow_tf32 is off: by tiles and at once then differ by what that rounding makes of
differences in the last digit, far less than either differs from float32. The result depends on no other setting.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from ..autoencoder import AutoencoderKL, Posterior
from ..layers import Device, scores_at_once
from ..tiny import TinyAutoencoder
from .kl import decode_one, encode_one
from .sweeps import OnStep, Sweeps
from .tiles import Size
from .tiny import run_one

VAE = AutoencoderKL | TinyAutoencoder


@torch.no_grad()
def decode(
    vae: VAE,
    latent: Tensor,
    tile: Size,
    *,
    device: Device = None,
    host: Device = None,
    on_step: OnStep | None = None,
    waiting_bytes: int | None = None,
) -> Tensor:
    """`vae.decode(latent)` in tiles of at most `tile` latent cells (height, width), to rounding; pictures one by one.

    `device` is where the weights are and tiles are computed, `host` where the result is wanted (None: the latent's). Of
    the activations that wait, `waiting_bytes` at most are on the device and the rest in host memory (None: all on the
    device). `on_step(done, total)` after each tile; what it raises ends the work.
    [B, C, h, w] -> [B, 3, h * factor, w * factor]. Raises ValueError where `vae.decode` does.
    """
    vae.check_decodes(latent)
    device, host, factor = torch.device(device or latent.device), host or latent.device, vae.config.factor
    size = [factor * side for side in latent.shape[2:]]
    shape = (vae.config.image_channels, *size)
    if isinstance(vae, TinyAutoencoder):

        def one(sweeps: Sweeps, z: Tensor, into: Tensor) -> None:
            run_one(sweeps, vae.taesd_decoder, sweeps.waiting(z), sweeps.waiting(into).waiting)
    else:

        def one(sweeps: Sweeps, z: Tensor, into: Tensor) -> None:
            decode_one(sweeps, vae.decoder, sweeps.waiting(z), sweeps.waiting(into).waiting)

    def ready(i: int) -> Tensor:
        return vae.into_decoder(latent[i : i + 1].to(device))

    sweeps = Sweeps(
        (tile[0] * factor, tile[1] * factor),
        max(vae.config.decoder_widths[:2]),
        latent.dtype,
        device,
        on_step,
        waiting_bytes,
        _scores(vae.config.decoder_widths, latent.dtype, device),
    )
    pixels = torch.empty((len(latent), *shape), dtype=latent.dtype, device=host)
    for i, found in enumerate(_each(one, ready, sweeps, len(latent), shape)):
        pixels[i : i + 1] = vae.as_pixels(found)
    return pixels


@torch.no_grad()
def encode(
    vae: VAE,
    pixels: Tensor,
    tile: Size,
    *,
    device: Device = None,
    host: Device = None,
    on_step: OnStep | None = None,
    waiting_bytes: int | None = None,
) -> Posterior | Tensor:
    """`vae.encode(pixels)` in tiles of at most `tile` latent cells; the arguments are those of `decode`.

    [B, 3, H, W] -> Posterior of [B, C, H / factor, W / factor], of a tiny autoencoder the latent; on the host.
    Raises ValueError where `vae.encode` does.
    """
    vae.check_encodes(pixels)
    config = vae.config
    device, host = torch.device(device or pixels.device), host or pixels.device
    stride = config.factor // config.patch
    tiny = isinstance(vae, TinyAutoencoder)
    shape = (config.stack_latent * (1 if tiny else 2), *(side // stride for side in pixels.shape[2:]))
    if tiny:

        def one(sweeps: Sweeps, image: Tensor, into: Tensor) -> None:
            run_one(sweeps, vae.taesd_encoder, sweeps.waiting(image), sweeps.waiting(into).waiting)
    else:

        def one(sweeps: Sweeps, image: Tensor, into: Tensor) -> None:
            encode_one(sweeps, vae.encoder, sweeps.waiting(image), sweeps.waiting(into).waiting)

    def ready(i: int) -> Tensor:
        return vae.into_encoder(pixels[i : i + 1].to(device))

    sweeps = Sweeps(
        (tile[0] * config.factor, tile[1] * config.factor),
        max(config.widths[:2]),
        pixels.dtype,
        device,
        on_step,
        waiting_bytes,
        _scores(config.widths, pixels.dtype, device),
    )
    found = torch.cat(list(_each(one, ready, sweeps, len(pixels), shape)))
    if tiny:
        return vae.as_latent(found).to(host)
    return moved(vae.posterior_of(found), host)


def _scores(widths: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> int:
    return scores_at_once(widths[-1], dtype, device, by_tiles=True)


def moved(posterior: Posterior, device: Device) -> Posterior:
    """On another device, in one move; itself where it is there."""
    if posterior.mean.device == torch.device(device):
        return posterior
    return Posterior(*torch.stack((posterior.mean, posterior.logvar)).to(device))


def _each(
    one: Callable[[Sweeps, Tensor, Tensor], None],
    ready: Callable[[int], Tensor],
    sweeps: Sweeps,
    pictures: int,
    shape: tuple[int, int, int],
) -> Iterator[Tensor]:
    """What `one` makes of each picture that is `ready`, [1, *shape] on the device; the tiles of all of them are
    counted beforehand.
    """
    for i in range(pictures):
        x = ready(i)
        into = torch.empty((1, *shape), dtype=sweeps.dtype, device=sweeps.device)
        if not i:
            count = Sweeps(sweeps.tile, sweeps.width, sweeps.dtype, "meta", scores=sweeps.scores)
            one(count, *(torch.empty(t.shape, dtype=t.dtype, device="meta") for t in (x, into)))
            sweeps.total = count.done * pictures
        one(sweeps, x, into)
        yield into
