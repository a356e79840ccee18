"""The sweeps of the TAESD family: one for each size the picture has on its way through a stack.

The stacks have no norms but TAEF2's at latent size, so a tile only needs the cells round it that its layers reach. The
part of a stack that looks at the whole picture runs on all of it: at latent size that is little.
"""

import torch
from torch import Tensor, nn

from ..layers import Layers
from ..tiling.sweeps import Activations, Stored, Sweeps, cut
from ..tiling.tiles import Size, Tile, whole
from ..tiling.waiting import Waiting

WIDTH = 64
_POOL_GROUPS, _POOL_EPS = 4, 1e-5

Stack = list[nn.Module]


class Block(nn.Module):
    """relu(x + three convolutions of x); with `pooled`, a wide normalised 1x1 path is added first.

    [B, width, H, W] -> [B, width, H, W]
    """

    def __init__(self, layers: Layers, pooled: bool = False, width: int = WIDTH):
        super().__init__()
        self.conv = nn.Sequential(
            layers.conv(width, width), nn.ReLU(), layers.conv(width, width), nn.ReLU(), layers.conv(width, width)
        )
        wide = 4 * width
        self.pool = (
            nn.Sequential(
                layers.conv(width, wide, 1, bias=False),
                layers.norm(wide, _POOL_GROUPS, _POOL_EPS),
                nn.ReLU(),
                layers.conv(wide, width, 1, bias=False),
            )
            if pooled
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        if self.pool is not None:
            x = x + self.pool(x)
        return torch.relu(x + self.conv(x))


def sweep_stack(sweeps: Sweeps, stack: nn.Sequential, x: Activations, into: Waiting) -> None:
    """The stack of one picture, into `into` [1, C, H, W]."""
    parts = _parts(stack)
    for part in parts:
        last = part is parts[-1]
        x = _swept(sweeps, part, x, into if last else None)


def _parts(stack: nn.Sequential) -> list[Stack]:
    """Cut before each layer that doubles the size and behind each that halves it."""
    parts: list[Stack] = [[]]
    for layer in stack:
        if _doubles(layer) and parts[-1]:
            parts.append([])
        parts[-1].append(layer)
        if _halves(layer):
            parts.append([])
    return parts


def _swept(sweeps: Sweeps, part: Stack, x: Activations, into: Waiting | None) -> Activations:
    up, down = _doubles(part[0]), _halves(part[-1])
    height, width = (2 * side if up else side // 2 if down else side for side in x.size)
    size = (height, width)
    made = [layer.out_channels for layer in part if isinstance(layer, nn.Conv2d)]
    channels, widest = made[-1] if made else x.channels, max(x.channels, *made)
    out = sweeps.room(channels, size) if into is None else Stored(size, channels, into.read, into)
    everything = any(isinstance(layer, Block) and layer.pool is not None for layer in part)

    def each(tile: Tile) -> Tensor:
        reached = whole(x.size) if everything else _reached(part, tile, x.size)
        h = x.read(reached)
        for layer in part:
            h = layer(h)
        if up:
            reached = reached.times(2)
        elif down:
            reached = Tile(reached.top // 2, reached.left // 2, -(-reached.bottom // 2), -(-reached.right // 2))
        return cut(h, tile, reached)

    sweeps.sweep(size, widest * (4 if down else 1), each, out.waiting, everything=everything)
    return out


def _reached(part: Stack, tile: Tile, size: Size) -> Tile:
    """What of the part's input a tile of its output depends on; on even edges before a halving."""
    up, down = _doubles(part[0]), _halves(part[-1])
    margin = sum(
        3 if isinstance(layer, Block) else 1
        for layer in part[1 if up else 0 : len(part) - down]
        if isinstance(layer, Block | nn.Conv2d)
    )
    if up:
        doubled = (2 * size[0], 2 * size[1])
        return tile.widened(margin, doubled).reached_by_up(size)
    if down:
        return tile.times(2).widened(margin + 1 + (margin + 1) % 2, size)
    return tile.widened(margin, size)


def _doubles(layer: nn.Module) -> bool:
    return getattr(layer, "doubles", False)


def _halves(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Conv2d) and layer.stride == (2, 2)
