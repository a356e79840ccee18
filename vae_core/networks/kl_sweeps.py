"""The sweeps of AutoencoderKL: one ends wherever a GroupNorm needs the statistics of the whole picture.

What is cheaper to compute again does not wait: the convolution into the encoder and the last doubling of the decoder.
A tile is read with the rows and columns round it that its kernels reach, the layers run as always, and what they made
of those is cut off; at the picture's edge there are none, and the layer's own zeros are right.
"""

import torch
from torch import Tensor, nn

from ..layers import Attention, ResidualBlock, Up, activated
from ..norms import Moments, normed
from ..tiling.sweeps import Activations, Sweeps, cut
from ..tiling.tiles import Tile, whole
from ..tiling.waiting import Waiting
from .kl_halves import Decoder, Encoder


def decode_one(sweeps: Sweeps, decoder: Decoder, z: Activations, pixels: Waiting) -> None:
    """`decoder` of one picture, into `pixels` [1, 3, H, W]."""
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
            x, of_x = _upsampled(sweeps, _doubled(x, level.upsample), following, waits=number > 1)
    _out(sweeps, decoder, x, of_x, pixels)


def encode_one(sweeps: Sweeps, encoder: Encoder, pixels: Activations, found: Waiting) -> None:
    """`encoder` of one picture, into `found` [1, 2C, h, w]."""
    x = _convolved(pixels, encoder.conv_in)
    of_x = sweeps.sweep(x.size, x.channels, x.read, groups=_groups(encoder.down[0].block[0].norm1))
    for number, level in enumerate(encoder.down):
        last = number + 1 == len(encoder.down)
        following = encoder.mid.block_1.norm1 if last else encoder.down[number + 1].block[0].norm1
        for i, block in enumerate(level.block):
            ends = i + 1 == len(level.block)
            x, of_x = _residual(
                sweeps,
                block,
                x,
                of_x,
                following if ends else level.block[i + 1].norm1,
                level.downsample if ends and not last else None,
            )
    x, of_x = _middle(sweeps, encoder.mid, x, of_x, encoder.norm_out)
    _out(sweeps, encoder, x, of_x, found)


def _middle(
    sweeps: Sweeps, middle: nn.Module, x: Activations, of_x: Moments | None, following: nn.Module
) -> tuple[Activations, Moments | None]:
    x, of_x = _residual(sweeps, middle.block_1, x, of_x, middle.attn_1.norm)
    x, of_x = _attended(sweeps, middle.attn_1, x, of_x, middle.block_2.norm1)
    return _residual(sweeps, middle.block_2, x, of_x, following)


def _residual(
    sweeps: Sweeps,
    block: ResidualBlock,
    x: Activations,
    of_x: Moments | None,
    following: nn.Module,
    down: nn.Module | None = None,
) -> tuple[Activations, Moments | None]:
    """A residual block, and the halving after it where there is one; its result waits, with `following`'s moments.

    Two sweeps, one for each of its norms. The sum takes the place of what is added to it, or, where x is computed when
    it is read, of the first half, a little behind the tiles that still read that.
    """
    first = sweeps.room(block.conv1.out_channels, x.size)
    again = x.waiting is None and down is None
    in_place = again or (x.waiting is not None and first.channels == x.channels)
    side = x if in_place else sweeps.room(first.channels, x.size)

    def to_first(tile: Tile) -> Tensor:
        wide = tile.widened(1, x.size)
        there = x.read(wide)
        if not in_place:
            side.waiting.write(tile, block.shortcut(cut(there, tile, wide)))
        there = normed(block.norm1, there, of_x)
        return cut(block.first(there), tile, wide)

    def to_sum(tile: Tile) -> Tensor:
        wide = tile.widened(1, x.size)
        result = cut(block.second(normed(block.norm2, first.read(wide), of_first)), tile, wide)
        return result.add_(block.shortcut(x.read(tile)) if again else side.read(tile))

    of_first = sweeps.sweep(x.size, max(x.channels, first.channels), to_first, first.waiting, _groups(block.norm2))
    if again:
        return first, sweeps.sweep(
            x.size, max(x.channels, first.channels), to_sum, first.waiting, _groups(following), trailing=True
        )
    if down is None:
        return side, sweeps.sweep(x.size, first.channels, to_sum, side.waiting, _groups(following))
    half = sweeps.room(first.channels, (x.size[0] // 2, x.size[1] // 2))
    return half, sweeps.sweep(
        half.size,
        4 * half.channels,
        lambda tile: down(to_sum(tile.reached_by_down(x.size))),
        half.waiting,
        _groups(following),
    )


def _upsampled(
    sweeps: Sweeps, x: Activations, following: nn.Module, *, waits: bool
) -> tuple[Activations, Moments | None]:
    """What is twice as large, and `following`'s moments; it waits, or is computed again when it is read."""
    kept = sweeps.room(x.channels, x.size) if waits else x
    return kept, sweeps.sweep(x.size, x.channels, x.read, kept.waiting, _groups(following))


def _attended(
    sweeps: Sweeps, attention: Attention, x: Activations, of_x: Moments | None, following: nn.Module
) -> tuple[Activations, Moments | None]:
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
    most = max(1, sweeps.scores // cells[0])  # every one of them is compared with all
    return x, sweeps.sweep(x.size, 2 * x.channels, find, x.waiting, _groups(following), most_cells=most)


def _out(sweeps: Sweeps, half: Decoder | Encoder, x: Activations, of_x: Moments | None, into: Waiting) -> None:
    def out(tile: Tile) -> Tensor:
        wide = tile.widened(1, x.size)
        return cut(half.conv_out(activated(normed(half.norm_out, x.read(wide), of_x))), tile, wide)

    sweeps.sweep(x.size, x.channels, out, into)


def _convolved(x: Activations, conv: nn.Module) -> Activations:
    """A 3x3 convolution of what waits, computed when it is read."""

    def read(tile: Tile) -> Tensor:
        wide = tile.widened(1, x.size)
        return cut(conv(x.read(wide)), tile, wide)

    return Activations(x.size, conv.out_channels, read)


def _doubled(x: Activations, up: Up) -> Activations:
    """The doubling of what waits, computed when it is read."""

    def read(tile: Tile) -> Tensor:
        low = tile.reached_by_up(x.size)
        return cut(up(x.read(low)), tile, low.times(2))

    return Activations((2 * x.size[0], 2 * x.size[1]), up.conv.out_channels, read)


def _groups(norm: nn.Module) -> int:
    return norm.num_groups
