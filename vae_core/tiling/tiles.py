"""Where tiles lie: rectangles that cover a grid, each cell once, and the cells round them that a kernel reads."""

import math
from dataclasses import dataclass

Size = tuple[int, int]  # height, width


@dataclass(frozen=True)
class Tile:
    """A rectangle of cells: rows top..bottom and columns left..right, the ends not included."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def size(self) -> Size:
        return self.bottom - self.top, self.right - self.left

    def widened(self, margin: int, within: Size) -> "Tile":
        """With `margin` cells more on every side, as far as there are any."""
        return Tile(
            max(0, self.top - margin),
            max(0, self.left - margin),
            min(within[0], self.bottom + margin),
            min(within[1], self.right + margin),
        )

    def reached_by_down(self, within: Size) -> "Tile":
        """The cells of the grid twice as large that a stride-2 kernel reads: one more below and right."""
        return Tile(
            2 * self.top, 2 * self.left, min(within[0], 2 * self.bottom + 1), min(within[1], 2 * self.right + 1)
        )

    def reached_by_up(self, within: Size) -> "Tile":
        """The cells of the grid half as large that a 3x3 kernel on the doubled grid reads."""
        return Tile(
            max(0, (self.top - 1) // 2),
            max(0, (self.left - 1) // 2),
            min(within[0], self.bottom // 2 + 1),
            min(within[1], self.right // 2 + 1),
        )

    def times(self, factor: int) -> "Tile":
        """The same rectangle on a grid `factor` times as fine."""
        return Tile(*(factor * edge for edge in (self.top, self.left, self.bottom, self.right)))

    def inside(self, outer: "Tile") -> tuple[slice, slice]:
        """Where it lies in `outer`: rows and columns."""
        return (
            slice(self.top - outer.top, self.bottom - outer.top),
            slice(self.left - outer.left, self.right - outer.left),
        )


def whole(size: Size) -> Tile:
    """The tile that is everything."""
    return Tile(0, 0, *size)


def cover(size: Size, tile: Size) -> list[Tile]:
    """Tiles no larger than `tile` and as equal as can be, row by row; together they hold each cell once.

    Raises ValueError for a tile without cells.
    """
    if min(tile) < 1:
        raise ValueError(f"a tile has at least one cell along each side, not {tile[0]} x {tile[1]}")
    rows, columns = (_edges(length, step) for length, step in zip(size, tile))
    return [Tile(top, left, bottom, right) for top, bottom in rows for left, right in columns]


def at_level(tile: Size, size: Size, share: float) -> Size:
    """A tile for another grid: `share` times as many cells, no wider than that grid and as tall as that leaves."""
    width = max(1, min(size[1], round(tile[1] * math.sqrt(share))))
    return max(1, min(size[0], round(tile[0] * tile[1] * share / width))), width


def _edges(length: int, step: int) -> list[tuple[int, int]]:
    count = -(-length // step)
    edges = [round(i * length / count) for i in range(count + 1)]
    return list(zip(edges, edges[1:]))
