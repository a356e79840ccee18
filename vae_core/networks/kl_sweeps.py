"""AutoencoderKL by tiles, in sweeps: a sweep ends wherever a GroupNorm needs the statistics of the whole picture.

Each sweep reads the stored activations of the sweep before it, runs a few layers on one tile after another, stores the
result and collects its moments for the next GroupNorm. A tile is read with a halo, the rows and columns round it that
its kernels reach; the layers run as always, and their result on the halo is cut off. At the picture's edge there is no
halo, and the layers' own zero padding is right. Two results are cheaper to recompute than to store: the encoder's first
convolution, and the decoder's last doubling.
"""

import torch
from torch import Tensor, nn

from ..layers import Attention, Down, Middle, ResidualBlock, Up, activated
from ..norms import Moments, normed
from ..tiling.sweeps import Activations, Stored, Sweeps, cut
from ..tiling.tiles import Tile, whole
from ..tiling.waiting import Waiting
from .kl_halves import Decoder, Encoder

Swept = tuple[Activations, Moments]  # activations, and their moments in the groups of the norm that follows


def decode_one(sweeps: Sweeps, decoder: Decoder, z: Activations, pixels: Waiting) -> None:
    """Run the decoder on one picture, into `pixels` [1, 3, H, W]."""
    # the input convolution and the middle, at latent size: [1, C, h, w] -> [1, width, h, w]
    x, of_x = _sweep_middle(
        sweeps,
        decoder.mid,
        *_store(sweeps, _convolved(z, decoder.conv_in), decoder.mid.block_1.norm1),
        decoder.levels[-1].blocks[0].norm1,
    )
    # then the levels, the smallest size first; each norm's moments are those of the result before it
    for number, level in reversed(list(enumerate(decoder.levels))):
        following = decoder.levels[number - 1].blocks[0].norm1 if number else decoder.norm_out
        after = [*(block.norm1 for block in level.blocks[1:]), following]
        for block, norm in zip(level.blocks, after):
            x, of_x = _sweep_block(sweeps, block, x, of_x, norm)
        if number:  # [1, C, h, w] -> [1, C, 2h, 2w]; at the picture's own size it is recomputed, not stored
            x, of_x = _sweep_doubling(sweeps, _doubled(x, level.upsample), following, store=number > 1)
    _sweep_out(sweeps, decoder.norm_out, decoder.conv_out, x, of_x, pixels)


def encode_one(sweeps: Sweeps, encoder: Encoder, pixels: Activations, found: Waiting) -> None:
    """Run the encoder on one picture, into `found` [1, 2C, h, w]."""
    # the input convolution is recomputed whenever it is read; the first sweep only collects its moments
    x = _convolved(pixels, encoder.conv_in)  # [1, 3, H, W] -> [1, channels, H, W]
    of_x = sweeps.sweep(x.size, x.channels, x.read, groups=encoder.levels[0].blocks[0].norm1.num_groups)
    # then the levels, the picture's size first; a level's last block is halved as it is stored
    for number, level in enumerate(encoder.levels):
        last = number + 1 == len(encoder.levels)
        following = encoder.mid.block_1.norm1 if last else encoder.levels[number + 1].blocks[0].norm1
        after = [*(block.norm1 for block in level.blocks[1:]), following]
        for block, norm in zip(level.blocks, after):
            halving = None if last or block is not level.blocks[-1] else level.downsample
            x, of_x = _sweep_block(sweeps, block, x, of_x, norm, halving)
    if not isinstance(x, Stored):
        raise TypeError("the last block of an encoder stores its result: nothing to attend to was stored")
    x, of_x = _sweep_middle(sweeps, encoder.mid, x, of_x, encoder.norm_out)
    _sweep_out(sweeps, encoder.norm_out, encoder.conv_out, x, of_x, found)


def _sweep_middle(sweeps: Sweeps, middle: Middle, x: Stored, of_x: Moments, following: nn.GroupNorm) -> Swept:
    """Block, attention, block at latent size. [1, C, h, w] -> [1, C, h, w]"""
    x, of_x = _sweep_block(sweeps, middle.block_1, x, of_x, middle.attn_1.norm)
    of_x = _sweep_attention(sweeps, middle.attn_1, x, of_x, middle.block_2.norm1)
    return _sweep_block(sweeps, middle.block_2, x, of_x, following)


def _sweep_block(
    sweeps: Sweeps,
    block: ResidualBlock,
    x: Activations,
    of_x: Moments,
    following: nn.GroupNorm,
    down: Down | None = None,
) -> tuple[Stored, Moments]:
    """Run a residual block, and the halving behind it if there is one; its result is stored.

    Two sweeps, one per GroupNorm. The result overwrites the skip input; if the skip input is recomputed instead of
    stored, it overwrites the first half's output, one tile behind (see `trailing` in `Sweeps.sweep`).
    [1, inner, H, W] -> [1, outer, H, W], halved [1, outer, H / 2, W / 2]
    """
    inner, outer = x.channels, block.conv1.out_channels
    first = sweeps.room(outer, x.size)  # the first half's output

    # the skip connection: x where it is stored already, else room for it, else None: recomputed when it is added
    skip, fills_skip = (x, False) if isinstance(x, Stored) and inner == outer else (None, False)
    if skip is None and (isinstance(x, Stored) or down is not None):
        skip, fills_skip = sweeps.room(outer, x.size), True

    def to_first(tile: Tile) -> Tensor:
        wide = tile.widened(1, x.size)
        values = x.read(wide)  # [1, inner, h + 2, w + 2]
        if skip is not None and fills_skip:
            skip.waiting.write(tile, block.shortcut(cut(values, tile, wide)))
        return cut(block.first(normed(block.norm1, values, of_x)), tile, wide)  # [1, outer, h, w]

    def to_sum(tile: Tile) -> Tensor:
        wide = tile.widened(1, x.size)
        second = block.second(normed(block.norm2, first.read(wide), of_first))  # [1, outer, h + 2, w + 2]
        return cut(second, tile, wide).add_(block.shortcut(x.read(tile)) if skip is None else skip.read(tile))

    of_first = sweeps.sweep(x.size, max(inner, outer), to_first, first.waiting, block.norm2.num_groups)
    groups = following.num_groups
    if down is not None:
        # each tile of the halved result computes the sum under it, which is never stored
        half = sweeps.room(outer, (x.size[0] // 2, x.size[1] // 2))
        return half, sweeps.sweep(
            half.size, 4 * outer, lambda tile: down(to_sum(tile.reached_by_down(x.size))), half.waiting, groups
        )
    if skip is not None:
        return skip, sweeps.sweep(x.size, outer, to_sum, skip.waiting, groups)
    return first, sweeps.sweep(x.size, max(inner, outer), to_sum, first.waiting, groups, trailing=True)


def _sweep_doubling(sweeps: Sweeps, x: Activations, following: nn.GroupNorm, *, store: bool) -> Swept:
    """Collect the moments of a doubled picture, and store it, or leave it to be recomputed when it is read."""
    if store:
        return _store(sweeps, x, following)
    return x, sweeps.sweep(x.size, x.channels, x.read, groups=following.num_groups)


def _store(sweeps: Sweeps, x: Activations, following: nn.GroupNorm) -> tuple[Stored, Moments]:
    """Store activations that are recomputed when they are read, and collect their moments."""
    stored = sweeps.room(x.channels, x.size)
    return stored, sweeps.sweep(x.size, x.channels, x.read, stored.waiting, following.num_groups)


def _sweep_attention(
    sweeps: Sweeps, attention: Attention, x: Stored, of_x: Moments, following: nn.GroupNorm
) -> Moments:
    """Run attention over all cells; the result overwrites x, and its moments are returned.

    The first sweep makes keys and values of all cells, which stay on the device; the second compares the queries of one
    tile after another with them. [1, C, h, w] -> [1, C, h, w]
    """
    height, width = x.size
    shape = (height, width, x.channels)
    keys, values = (torch.empty(shape, dtype=sweeps.dtype, device=sweeps.device) for _ in range(2))

    def fill_keys_and_values(tile: Tile) -> Tensor:
        h = normed(attention.norm, x.read(tile), of_x)  # [1, C, rows, columns]
        for cells, conv in ((keys, attention.k), (values, attention.v)):
            cells[tile.inside(whole(x.size))] = conv(h)[0].permute(1, 2, 0)  # [rows, columns, C]
        return h

    def attend(tile: Tile) -> Tensor:
        h = normed(attention.norm, x.read(tile), of_x)
        rows = (t.view(1, 1, height * width, x.channels) for t in (keys, values))  # one row for each cell
        return attention.looked_up(h, *rows).add_(x.read(tile))

    sweeps.sweep(x.size, 2 * x.channels, fill_keys_and_values)
    most_cells = max(1, sweeps.scores // (height * width))  # each query has a score for every cell
    groups = following.num_groups
    return sweeps.sweep(x.size, 2 * x.channels, attend, x.waiting, groups, most_cells=most_cells)


def _sweep_out(
    sweeps: Sweeps, norm: nn.GroupNorm, conv: nn.Conv2d, x: Activations, of_x: Moments, into: Waiting
) -> None:
    """Run the last norm and convolution of a half. [1, C, H, W] -> [1, channels, H, W]"""

    def finish(tile: Tile) -> Tensor:
        wide = tile.widened(1, x.size)
        return cut(conv(activated(normed(norm, x.read(wide), of_x))), tile, wide)

    sweeps.sweep(x.size, x.channels, finish, into)


def _convolved(x: Activations, conv: nn.Conv2d) -> Activations:
    """A 3x3 convolution of x, recomputed whenever it is read. [1, C, H, W] -> [1, D, H, W]"""

    def read(tile: Tile) -> Tensor:
        wide = tile.widened(1, x.size)
        return cut(conv(x.read(wide)), tile, wide)

    return Activations(x.size, conv.out_channels, read)


def _doubled(x: Activations, up: Up) -> Activations:
    """The doubling of x, recomputed whenever it is read. [1, C, H, W] -> [1, C, 2H, 2W]"""

    def read(tile: Tile) -> Tensor:
        low = tile.reached_by_up(x.size)
        return cut(up(x.read(low)), tile, low.times(2))

    return Activations((2 * x.size[0], 2 * x.size[1]), up.conv.out_channels, read)
