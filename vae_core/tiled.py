"""AutoencoderKL tile by tile, equal to the untiled result.

The picture goes through the network in sweeps. A sweep ends where a GroupNorm needs the statistics of everything: what
the next one reads waits in host memory, one tile at a time is on the device. What is cheaper to compute again does not
wait: the convolution into the encoder and the last doubling of the decoder. A tile is read with the rows and columns
round it that its kernels reach, the layers run as always, and what they made of those is cut off; at the picture's edge
there are none, and the layer's own zeros are right.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .autoencoder import AutoencoderKL, Decoder, Encoder, Posterior
from .layers import Attention, Device, ResidualBlock, Up, activated
from .norms import Moments, merged, moments, normed
from .tiles import Size, Tile, at_level, cover, whole

OnStep = Callable[[int, int], None]  # tiles done, tiles in all; what it raises ends the work


@dataclass(frozen=True)
class Activations:
    """One picture's values at one size, to be read by the rectangle: they wait somewhere or are computed then."""

    size: Size
    channels: int
    read: Callable[[Tile], Tensor]  # -> [1, channels, height, width] on the device
    waiting: Tensor | None = None   # [1, channels, *size] on the host


class Sweeps:
    """Runs sweeps over one picture and counts their tiles; on the device "meta" it counts only."""

    def __init__(self, tile: Size, width: int, like: Tensor, device: Device, host: Device, on_step: OnStep | None):
        if min(tile) < 1:
            raise ValueError(f"a tile has at least one cell along each side, not {tile[0]} x {tile[1]} px")
        self.tile, self.width, self.dtype = tile, width, like.dtype
        self.device, self.host = torch.device(device), torch.device(host)
        self.on_step, self.done, self.total = on_step, 0, 0

    def sweep(self, size: Size, width: int, each: Callable[[Tile], Tensor], into: Tensor | None = None,
              groups: int = 0) -> Moments | None:
        """`each` of the tiles that cover `size`, kept `into` a tensor; with `groups` the moments of all of it.

        A tile that holds `width` channels has as many values as one of the picture's size and the widest layer there.
        """
        parts = []
        for tile in cover(size, at_level(self.tile, size, self.width / width)):
            if self.device.type != "meta":
                result = each(tile)
                if groups:
                    parts.append(moments(result, groups))
                if into is not None:
                    _part(into, tile).copy_(result)
                del result  # before the next tile needs its memory
            self.done += 1
            if self.on_step:
                self.on_step(self.done, self.total)
        return merged(parts) if parts else None

    def room(self, channels: int, size: Size) -> Activations:
        """Memory for activations to wait in."""
        last = torch.channels_last if self.device.type == "cpu" else torch.contiguous_format
        return self.waiting(torch.empty((1, channels, *size), dtype=self.dtype, memory_format=last,
                                        device="meta" if self.device.type == "meta" else self.host))

    def waiting(self, values: Tensor) -> Activations:
        """Activations that are all there. [1, C, H, W]"""
        return Activations(tuple(values.shape[2:]), values.shape[1],
                           lambda tile: _part(values, tile).to(self.device), values)


@torch.no_grad()
def decode(vae: AutoencoderKL, latent: Tensor, tile: Size, *, device: Device = None, host: Device = None,
           on_step: OnStep | None = None) -> Tensor:
    """`vae.decode(latent)` in tiles of at most `tile` latent cells (height, width), to rounding; pictures one by one.

    `device` is where the weights are and tiles are computed, `host` where activations wait and the result comes to be
    (None: the latent's). `on_step(done, total)` after each tile. [B, C, h, w] -> [B, 3, h * factor, w * factor]
    Raises ValueError where `vae.decode` does.
    """
    vae.check_decodes(latent)
    factor, widths = vae.config.factor, vae.config.decoder_widths
    tile = (tile[0] * factor, tile[1] * factor)
    device, host = device or latent.device, host or latent.device
    size = tuple(factor * side for side in latent.shape[2:])
    pixels = torch.empty((len(latent), vae.config.image_channels, *size), dtype=latent.dtype, device=host)
    count = Sweeps(tile, max(widths[:2]), latent, "meta", "meta", None)
    _decode(count, vae.decoder, count.waiting(latent[:1].to("meta")), pixels[:1].to("meta"))
    sweeps = Sweeps(tile, max(widths[:2]), latent, device, host, on_step)
    sweeps.total = count.done * len(latent)
    for i in range(len(latent)):
        z = vae.into_decoder(latent[i:i + 1].to(device))
        _decode(sweeps, vae.decoder, sweeps.waiting(z), pixels[i:i + 1])
    return pixels


@torch.no_grad()
def encode(vae: AutoencoderKL, pixels: Tensor, tile: Size, *, device: Device = None, host: Device = None,
           on_step: OnStep | None = None) -> Posterior:
    """`vae.encode(pixels)` in tiles of at most `tile` latent cells; the arguments are those of `decode`.

    [B, 3, H, W] -> Posterior of [B, C, H / factor, W / factor], on the host. Raises ValueError where `vae.encode` does.
    """
    vae.check_encodes(pixels)
    factor, widths = vae.config.factor, vae.config.widths
    tile = (tile[0] * factor, tile[1] * factor)
    device, host = device or pixels.device, host or pixels.device
    size = tuple(side // factor for side in pixels.shape[2:])
    found = torch.empty((len(pixels), 2 * vae.config.latent, *size), dtype=pixels.dtype, device=host)
    count = Sweeps(tile, max(widths[:2]), pixels, "meta", "meta", None)
    _encode(count, vae.encoder, count.waiting(pixels[:1].to("meta")), found[:1].to("meta"))
    sweeps = Sweeps(tile, max(widths[:2]), pixels, device, host, on_step)
    sweeps.total = count.done * len(pixels)
    for i in range(len(pixels)):
        _encode(sweeps, vae.encoder, sweeps.waiting(pixels[i:i + 1]), found[i:i + 1])
    posterior = vae.posterior_of(found.to(device))
    return Posterior(posterior.mean.to(host), posterior.logvar.to(host))


def _decode(sweeps: Sweeps, decoder: Decoder, z: Activations, pixels: Tensor) -> None:
    x = sweeps.room(decoder.conv_in.out_channels, z.size)
    into = _convolved(z, decoder.conv_in)
    of_x = sweeps.sweep(x.size, x.channels, into.read, x.waiting, _groups(decoder.mid.block_1.norm1))
    x, of_x = _middle(sweeps, decoder.mid, x, of_x, decoder.up[-1].block[0].norm1)
    for number, level in reversed(list(enumerate(decoder.up))):
        following = decoder.up[number - 1].block[0].norm1 if number else decoder.norm_out
        for i, block in enumerate(level.block):
            after = level.block[i + 1].norm1 if i + 1 < len(level.block) else following
            x, of_x = _residual(sweeps, block, x, of_x, after)
        if number:
            x = _doubled(x, level.upsample)
            kept = sweeps.room(x.channels, x.size) if number > 1 else None
            of_x = sweeps.sweep(x.size, x.channels, x.read, kept and kept.waiting, _groups(following))
            x = kept or x
    _out(sweeps, decoder, x, of_x, pixels)


def _encode(sweeps: Sweeps, encoder: Encoder, pixels: Activations, found: Tensor) -> None:
    x = _convolved(pixels, encoder.conv_in)
    of_x = sweeps.sweep(x.size, x.channels, x.read, groups=_groups(encoder.down[0].block[0].norm1))
    for number, level in enumerate(encoder.down):
        last = number + 1 == len(encoder.down)
        following = encoder.mid.block_1.norm1 if last else encoder.down[number + 1].block[0].norm1
        for i, block in enumerate(level.block):
            ends = i + 1 == len(level.block)
            x, of_x = _residual(sweeps, block, x, of_x, following if ends else level.block[i + 1].norm1,
                                level.downsample if ends and not last else None)
    x, of_x = _middle(sweeps, encoder.mid, x, of_x, encoder.norm_out)
    _out(sweeps, encoder, x, of_x, found)


def _middle(sweeps: Sweeps, middle: nn.Module, x: Activations, of_x: Moments | None,
            following: nn.Module) -> tuple[Activations, Moments | None]:
    x, of_x = _residual(sweeps, middle.block_1, x, of_x, middle.attn_1.norm)
    x, of_x = _attended(sweeps, middle.attn_1, x, of_x, middle.block_2.norm1)
    return _residual(sweeps, middle.block_2, x, of_x, following)


def _residual(sweeps: Sweeps, block: ResidualBlock, x: Activations, of_x: Moments | None, following: nn.Module,
              down: nn.Module | None = None) -> tuple[Activations, Moments | None]:
    """A residual block, and the halving after it where there is one; its result waits, with `following`'s moments.

    Two sweeps, one for each of its norms. The sum takes the place of what is added to it.
    """
    first = sweeps.room(block.conv1.out_channels, x.size)
    in_place = x.waiting is not None and first.channels == x.channels
    side = x if in_place else sweeps.room(first.channels, x.size)

    def to_first(tile: Tile) -> Tensor:
        wide = tile.widened(1, x.size)
        there = x.read(wide)
        if not in_place:
            _part(side.waiting, tile).copy_(block.shortcut(_cut(there, tile, wide)))
        there = normed(block.norm1, there, of_x)
        return _cut(block.first(there), tile, wide)

    def to_sum(tile: Tile) -> Tensor:
        wide = tile.widened(1, x.size)
        result = _cut(block.second(normed(block.norm2, first.read(wide), of_first)), tile, wide)
        return result.add_(side.read(tile))

    of_first = sweeps.sweep(x.size, max(x.channels, first.channels), to_first, first.waiting, _groups(block.norm2))
    if down is None:
        return side, sweeps.sweep(x.size, first.channels, to_sum, side.waiting, _groups(following))
    half = sweeps.room(first.channels, (x.size[0] // 2, x.size[1] // 2))
    return half, sweeps.sweep(half.size, 4 * half.channels, lambda tile: down(to_sum(tile.reached_by_down(x.size))),
                              half.waiting, _groups(following))


def _attended(sweeps: Sweeps, attention: Attention, x: Activations, of_x: Moments | None,
              following: nn.Module) -> tuple[Activations, Moments | None]:
    """Attention: the keys and values of all cells are on the device, the queries come by tile; in x's own place."""
    cells = (x.size[0] * x.size[1], x.channels)
    keys, values = (torch.empty((*x.size, x.channels), dtype=sweeps.dtype, device=sweeps.device) for _ in range(2))

    def look(tile: Tile) -> Tensor:
        h = normed(attention.norm, x.read(tile), of_x)
        for kept, conv in ((keys, attention.k), (values, attention.v)):
            kept[tile.inside(whole(x.size))] = conv(h)[0].permute(1, 2, 0)
        return h

    def find(tile: Tile) -> Tensor:
        h = normed(attention.norm, x.read(tile), of_x)
        return attention.looked_up(h, keys.view(1, 1, *cells), values.view(1, 1, *cells)).add_(x.read(tile))

    sweeps.sweep(x.size, 2 * x.channels, look)
    return x, sweeps.sweep(x.size, 2 * x.channels, find, x.waiting, _groups(following))


def _out(sweeps: Sweeps, half: Decoder | Encoder, x: Activations, of_x: Moments | None, into: Tensor) -> None:
    def out(tile: Tile) -> Tensor:
        wide = tile.widened(1, x.size)
        return _cut(half.conv_out(activated(normed(half.norm_out, x.read(wide), of_x))), tile, wide)

    sweeps.sweep(x.size, x.channels, out, into)


def _convolved(x: Activations, conv: nn.Module) -> Activations:
    """A 3x3 convolution of what waits, computed when it is read."""
    def read(tile: Tile) -> Tensor:
        wide = tile.widened(1, x.size)
        return _cut(conv(x.read(wide)), tile, wide)
    return Activations(x.size, conv.out_channels, read)


def _doubled(x: Activations, up: Up) -> Activations:
    """The doubling of what waits, computed when it is read."""
    def read(tile: Tile) -> Tensor:
        low = tile.reached_by_up(x.size)
        return _cut(up(x.read(low)), tile, low.times(2))
    return Activations((2 * x.size[0], 2 * x.size[1]), up.conv.out_channels, read)


def _part(values: Tensor, tile: Tile) -> Tensor:
    return values[:, :, tile.top:tile.bottom, tile.left:tile.right]


def _cut(values: Tensor, tile: Tile, wide: Tile) -> Tensor:
    rows, columns = tile.inside(wide)
    return values[:, :, rows, columns]


def _groups(norm: nn.Module) -> int:
    return norm.num_groups
