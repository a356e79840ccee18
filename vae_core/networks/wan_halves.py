"""The two halves of Wan's VAE, each a row of stages, and a frame's way through them: all of it, or one tile of it.

The networks of Wan-Video/Wan2.1 (wan/modules/vae.py) and Wan2.2 (wan/modules/vae2_2.py) under their own tensor names.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import cast

from torch import Tensor, nn

from ..layers import Layers
from ..tiling.sweeps import cut
from ..tiling.tiles import Size, Tile
from .wan_config import WanConfig
from .wan_layers import AveragedDown, Down, Head, Middle, Past, RepeatedUp, ResidualBlock, Up, causal_conv, convolved


@dataclass(frozen=True)
class Stage:
    """The layers of one size, and the change to the next."""

    blocks: Sequence[ResidualBlock]
    change: Up | Down | None
    beside: RepeatedUp | AveragedDown | None = None  # the way past them
    first: nn.Conv3d | None = None  # the encoder's first convolution
    head: Head | None = None  # the decoder's last layers

    @property
    def channels(self) -> int:
        """Channels of its result."""
        last = self.head or self.change or self.blocks[-1]
        return last.outer

    @property
    def width(self) -> int:
        """Channels of its widest block."""
        return max(max(block.inner, block.outer) for block in self.blocks)

    def count(self, frames: int) -> int:
        """The frames of its result for a video of so many."""
        if self.change is None or self.change.time_conv is None:
            return frames
        return 2 * frames - 1 if isinstance(self.change, Up) else (frames + 1) // 2

    @property
    def margin(self) -> int:
        """How many cells round a tile its result depends on."""
        return ResidualBlock.MARGIN * len(self.blocks) + (self.first is not None) + (self.head is not None)

    def size(self, size: Size) -> Size:
        """The size of its result."""
        height, width = size
        if isinstance(self.change, Up):
            return 2 * height, 2 * width
        return (height // 2, width // 2) if isinstance(self.change, Down) else size

    def reads(self, tile: Tile, size: Size) -> Tile:
        """What of its input, of that size, a tile of its result depends on; before a halving on even edges."""
        if isinstance(self.change, Up):
            return tile.reached_by_up(size).widened(self.margin, size)
        if isinstance(self.change, Down):
            wide = tile.reached_by_down(size).widened(self.margin, size)
            top, left = wide.top - wide.top % 2, wide.left - wide.left % 2
            return Tile(top, left, wide.bottom + wide.bottom % 2, wide.right + wide.right % 2)
        return tile.widened(self.margin, size)

    def gives(self, tile: Tile) -> Tile:
        """The tile of its result that it makes of a tile of its input."""
        if isinstance(self.change, Up):
            return tile.times(2)
        if isinstance(self.change, Down):
            return Tile(tile.top // 2, tile.left // 2, tile.bottom // 2, tile.right // 2)
        return tile

    def frames(self, given: list[Tensor], past: Past) -> Iterator[Tensor]:
        """What it makes of one frame, taken from the list, so that nobody else holds it. [B, C, H, W] -> the same"""
        x = given.pop()
        if self.first is not None:
            x = convolved(self.first, x, past)
        beside = None if self.beside is None else self.beside(x, past)
        if beside is not None and isinstance(self.beside, AveragedDown):  # small, and it has to meet every frame
            beside = iter(list(beside))
        for block in self.blocks:
            x = block(x, past)
        if self.head is not None:
            x = self.head(x, past)
        made = _taken([x]) if self.change is None else self.change(x, past)
        del x
        if beside is None:
            yield from made
        else:
            # in neither's memory: layers may remember both
            yield from (passed + frame for frame, passed in zip(made, beside))


def _taken(frames: list[Tensor]) -> Iterator[Tensor]:
    while frames:
        yield frames.pop(0)


Course = list[tuple[Tile, Tile]]  # for each stage: what it reads of its input, and what is kept of its result


def course(stages: Sequence[Stage], size: Size, tile: Tile) -> Course:
    """What one tile of the last result depends on, where the first input has that size."""
    sizes = [size]
    for stage in stages:
        sizes.append(stage.size(sizes[-1]))
    found: Course = []
    for stage, before in zip(reversed(stages), sizes[-2::-1]):
        found.insert(0, (stage.reads(tile, before), tile))
        tile = found[0][0]
    return found


def through(
    stages: Sequence[Stage], frames: Iterator[Tensor], past: Past, tiles: Course | None = None
) -> Iterator[Tensor]:
    """The frames of a video, or of a tile of it, through stages one after another; only what is under way is held."""
    for number, stage in enumerate(stages):
        frames = _through(stage, frames, past, None if tiles is None else tiles[number])
    return frames


def _through(stage: Stage, frames: Iterator[Tensor], past: Past, tiles: tuple[Tile, Tile] | None) -> Iterator[Tensor]:
    while given := list(islice(frames, 1)):
        made = stage.frames(given, past)
        if tiles is None:
            yield from made
        else:
            yield from map(partial(cut, tile=tiles[1], wide=stage.gives(tiles[0])), made)


def _blocks(inner: int, outer: int, count: int, layers: Layers) -> list[nn.Module]:
    return [ResidualBlock(outer if i else inner, outer, layers) for i in range(count)]


class Encoder(nn.Module):
    """A video's frames -> moments before the last 1x1 convolution."""

    def __init__(self, config: WanConfig, layers: Layers):
        super().__init__()
        widths, last = (config.channels, *config.widths), len(config.widths) - 1
        self.conv1 = causal_conv(layers, config.image_channels * config.patch**2, config.channels, (3, 3, 3))
        levels = list[nn.Module]()
        for number in range(last + 1):
            outer, halves = widths[number + 1], number < last
            temporal = halves and config.temporal[number]
            level = _blocks(widths[number], outer, config.blocks, layers)
            level += [Down(outer, temporal, layers)] if halves else []
            beside = AveragedDown(outer, temporal, halves)
            levels += [_Level(level, "downsamples", beside)] if config.residual else level
        self.downsamples = nn.Sequential(*levels)
        self.middle = Middle(widths[-1], layers)
        self.head = Head(widths[-1], 2 * config.latent, layers)

    @property
    def stages(self) -> list[Stage]:
        """The way to latent size."""
        stages = _stages(self.downsamples)
        return [replace(stages[0], first=self.conv1), *stages[1:]]


class Decoder(nn.Module):
    """Latent frames after the first 1x1 convolution -> the frames of a video."""

    def __init__(self, config: WanConfig, layers: Layers):
        super().__init__()
        widths, last = config.decoder_widths, len(config.decoder_widths) - 1
        self.conv1 = causal_conv(layers, config.latent, widths[-1], (3, 3, 3))
        self.middle = Middle(widths[-1], layers)
        levels, inner = list[nn.Module](), widths[-1]
        for number in reversed(range(last + 1)):
            outer, temporal = widths[number], number > 0 and config.temporal[number - 1]
            level = _blocks(inner, outer, config.blocks + 1, layers)
            inner = outer if config.residual else outer // 2
            level += [Up(outer, inner, temporal, layers)] if number else []
            beside = RepeatedUp(outer, temporal) if number else None
            levels += [_Level(level, "upsamples", beside)] if config.residual else level
        self.upsamples = nn.Sequential(*levels)
        self.head = Head(widths[0], config.image_channels * config.patch**2, layers)

    @property
    def stages(self) -> list[Stage]:
        """The way from latent size."""
        stages = _stages(self.upsamples)
        return [*stages[:-1], replace(stages[-1], head=self.head)]


class _Level(nn.Module):
    """A level of Wan 2.2, whose tensors have one more part in their names."""

    def __init__(self, layers: list[nn.Module], name: str, beside: RepeatedUp | AveragedDown | None):
        super().__init__()
        self.add_module(name, nn.Sequential(*layers))
        self.layers, self.beside = layers, beside


def _stages(levels: nn.Sequential) -> list[Stage]:
    """The layers of a half, cut behind each change of size."""
    stages: list[Stage] = []
    blocks: list[ResidualBlock] = []
    for layer in levels:
        if isinstance(layer, _Level):
            (inner,) = _stages(nn.Sequential(*layer.layers))
            stages.append(replace(inner, beside=layer.beside))
        elif isinstance(layer, ResidualBlock):
            blocks.append(layer)
        else:
            stages.append(Stage(tuple(blocks), cast(Up | Down, layer)))
            blocks = []
    return [*stages, Stage(tuple(blocks), None)] if blocks else stages
