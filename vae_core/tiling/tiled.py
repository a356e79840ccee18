"""Encode and decode by tiles, equal to the untiled result: the way in, for every network of this folder.

Equal to the rounding of what the convolutions compute in, for tiles are other shapes and so may get other kernels: in
float32 about 4e-6 of the range. On NVIDIA cards torch lets convolutions round float32 to TF32 (ten bits, 5e-4 of a
value) unless torch.backends.cudnn.allow_tf32 is off: by tiles and at once then differ by what that rounding makes of
differences in the last digit, far less than either differs from float32. The result depends on no other setting.
"""

import torch
from torch import Tensor

from ..layers import Device, scores_at_once
from ..posterior import Encoding
from .network import VAENetwork
from .sweeps import OnStep, Sweeps
from .tiles import Size


@torch.no_grad()
def decode(
    vae: VAENetwork,
    latent: Tensor,
    tile: Size,
    *,
    device: Device = None,
    host: Device = None,
    on_step: OnStep | None = None,
    waiting_bytes: int | None = None,
) -> Tensor:
    """Decode a latent in tiles, picture by picture: `vae.decode(latent)` to rounding.

    Args:
        vae: the network, its weights on `device`.
        latent: raw, [B, C, h, w], in the type that is computed in.
        tile: the most latent cells of a tile, height and width.
        device: where tiles are computed (None: where the latent is).
        host: where the result is wanted (None: where the latent is).
        on_step: called as `on_step(done, total)` after each tile, of a video after each frame of it; what it raises
            ends the work.
        waiting_bytes: of the activations between two sweeps at most so many bytes stay on the device, the rest goes to
            host memory (None: all stay).

    Returns:
        Pixels [B, 3, h * factor, w * factor], about -1..1, not clamped.

    Raises:
        ValueError: as `vae.decode`, or for a tile without cells.

    >>> from ..config import VAEConfig
    >>> from ..networks.kl import AutoencoderKL
    >>> vae = AutoencoderKL(VAEConfig(32, (1, 2), blocks=1, latent=4, quant=True)).eval()
    >>> latent = torch.randn(1, 4, 20, 30)
    >>> pixels = decode(vae, latent, (8, 8))
    >>> pixels.shape
    torch.Size([1, 3, 40, 60])
    >>> with torch.no_grad():
    ...     torch.allclose(pixels, vae.decode(latent), atol=1e-4)
    True
    """
    vae.check_decodes(latent)
    device, host = torch.device(device or latent.device), host or latent.device
    shape = vae.tiled_shape("decode", latent.shape)
    sweeps = _sweeps(vae, "decode", tile, latent.dtype, device, on_step, waiting_bytes)
    pixels = torch.empty(vae.decoded_shape(latent.shape), dtype=latent.dtype, device=host)
    for i in range(len(latent)):
        z = vae.into_decoder(latent[i : i + 1].to(device))
        pixels[i : i + 1] = vae.as_pixels(_run(vae, "decode", sweeps, z, shape, len(latent)))
    return pixels


@torch.no_grad()
def encode(
    vae: VAENetwork,
    pixels: Tensor,
    tile: Size,
    *,
    device: Device = None,
    host: Device = None,
    on_step: OnStep | None = None,
    waiting_bytes: int | None = None,
) -> Encoding:
    """Encode pixels in tiles, picture by picture: `vae.encoding(pixels)` to rounding.

    Args:
        pixels: [B, 3, H, W] in -1..1, both sides multiples of `vae.config.factor`.
        vae, tile, device, host, on_step, waiting_bytes: as for `decode`.

    Returns:
        The Posterior of the latent [B, C, H / factor, W / factor], of a kind without distributions the latent itself;
        on the host.

    Raises:
        ValueError: as `vae.encoding`, or for a tile without cells.

    >>> from ..networks.tiny import TinyAutoencoder, TinyConfig
    >>> vae = TinyAutoencoder(TinyConfig(4)).eval()
    >>> encode(vae, torch.zeros(1, 3, 64, 96), (4, 4)).shape
    torch.Size([1, 4, 8, 12])
    """
    vae.check_encodes(pixels)
    device, host = torch.device(device or pixels.device), host or pixels.device
    shape = vae.tiled_shape("encode", pixels.shape)
    sweeps = _sweeps(vae, "encode", tile, pixels.dtype, device, on_step, waiting_bytes)
    found = []
    for i in range(len(pixels)):
        x = vae.into_encoder(pixels[i : i + 1].to(device))
        found.append(_run(vae, "encode", sweeps, x, shape, len(pixels)))
        del x  # before the next picture needs its memory
    return vae.as_encoding(torch.cat(found)).to(host)


def _sweeps(
    vae: VAENetwork,
    way: str,
    tile: Size,
    dtype: torch.dtype,
    device: torch.device,
    on_step: OnStep | None,
    waiting_bytes: int | None,
) -> Sweeps:
    """The sweeps of one call: `tile` in latent cells becomes px, and attention's scores suit the device."""
    factor, widths = vae.config.factor, vae.config.widths_of(way)
    scores = scores_at_once(widths[-1], dtype, device, by_tiles=True)
    return Sweeps((tile[0] * factor, tile[1] * factor), max(widths[:2]), dtype, device, on_step, waiting_bytes, scores)


def _run(vae: VAENetwork, way: str, sweeps: Sweeps, x: Tensor, shape: tuple[int, int, int], pictures: int) -> Tensor:
    """One picture through a half. The first one is counted beforehand, on the device "meta", so that `on_step` can say
    how many tiles all pictures have. -> [1, *shape] on the device
    """
    run = vae.sweep_decode if way == "decode" else vae.sweep_encode
    into = torch.empty((1, *shape), dtype=sweeps.dtype, device=sweeps.device)
    if not sweeps.done:
        count = Sweeps(sweeps.tile, sweeps.width, sweeps.dtype, "meta", scores=sweeps.scores)
        blank = [torch.empty(t.shape, dtype=t.dtype, device="meta") for t in (x, into)]
        run(count, count.stored(blank[0]), count.stored(blank[1]).waiting)
        sweeps.total = count.done * pictures
    run(sweeps, sweeps.stored(x), sweeps.stored(into).waiting)
    return into
