"""Places in a model: a whole weight, or rows of it. No torch here."""

from typing import NamedTuple


class Slice(NamedTuple):
    """Rows of a weight: the key, and (0, first row, number of rows). ComfyUI takes the same pair as a patch's key."""

    key: str
    rows: tuple[int, int, int]


Place = str | Slice


class Piece(NamedTuple):
    """The rows of the file's own change that go to a place: the first, how many, and of how many in all."""

    first: int
    rows: int
    total: int


class Target(NamedTuple):
    """The place of an adapter; `swapped` says that the file's halves of rows are in the opposite order of the model's.

    diffusers has (scale, shift) of the last adaptive norm in the other order. `piece` is None where all rows of the
    file's change belong to the place; where a file has one module for several of the model's weights, it is said here.
    """

    place: Place
    swapped: bool = False
    piece: Piece | None = None
