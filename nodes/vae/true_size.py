"""The size that a picture had before it was padded to whole cells: kept in its LATENT, and cut back to when decoded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...vae_core.padding import TURNS, Sketch, Turn, cut_where, find_turn

if TYPE_CHECKING:
    from ..host.interface import Image, Latent, Tensor, VAEFacts

TRUE_SIZE = "cvl_size_px"  # in a LATENT: [height, width] of the picture before it was padded to whole cells
SKETCH = "cvl_sketch"  # in a LATENT, beside that: the latent in a few numbers, by which it is known again


def size_kept(size: list[int], samples: Tensor) -> dict[str, object]:
    """What goes into the LATENT of a picture that was padded at the bottom and the right, and had this size."""
    return {TRUE_SIZE: list(size), SKETCH: Sketch.of(samples)}


def cut_back(image: Image, latent: Latent, samples: Tensor, facts: VAEFacts) -> tuple[Image, list[str]]:
    """A decoded picture without what was put round it before it was encoded, where that can be told; and notes."""
    size = latent.get(TRUE_SIZE)
    if size is None:
        return image, []
    if len(size) != 2 or not all(isinstance(side, int) and side > 0 for side in size):
        return image, [f"the LATENT says that its picture was {size} px, which is no height and width: nothing is cut"]
    cells = (-(-size[0] // facts.px_per_cell), -(-size[1] // facts.px_per_cell))
    told = f"{size[1]} x {size[0]} px"
    if tuple(samples.shape[-2:]) not in (cells, cells[::-1]):
        return image, [f"the picture was {told}, but its latent was resized since: nothing is cut"]
    turn = turn_of(latent, samples, cells)
    if turn is None:
        return image, [
            f"the picture was {told}, but this latent shows something else, or it was batched with others or changed "
            "since: nothing is cut"
        ]
    height, width = (-(-side * facts.decoded_px_per_cell // facts.px_per_cell) for side in size)
    cut = cut_where(image, (height, width), turn)
    notes = [f"cut back to {cut.shape[2]} x {cut.shape[1]} px"]
    if turn != TURNS[0]:
        notes.append("the latent was flipped or turned since it was encoded: cut where its padding lies now")
    return cut, notes


def turn_of(latent: Latent, samples: Tensor, cells: tuple[int, int]) -> Turn | None:
    """How a latent lies now beside how it was encoded; noise that was never a picture has no wrong side."""
    known = latent.get(SKETCH)
    if known is not None:
        return find_turn(samples, known)
    return next((turn for turn in TURNS if turn.size(cells) == tuple(samples.shape[-2:])), None)


def size_of_mixture(first: Latent, second: Latent, mixed: Tensor) -> dict[str, object]:
    """What goes into the LATENT of a mixture: the size that both pictures had, where their padding lies alike; else
    nothing.
    """
    known = [latent.get(SKETCH) for latent in (first, second)]
    if TRUE_SIZE not in first or second.get(TRUE_SIZE, first[TRUE_SIZE]) != first[TRUE_SIZE]:
        return {}
    if known == [None, None]:
        return {TRUE_SIZE: first[TRUE_SIZE]}
    if None in known:
        return {}
    turns = [find_turn(latent["samples"], one) for latent, one in zip((first, second), known)]
    if turns[0] is None or turns[0] != turns[1]:
        return {}
    return size_kept(first[TRUE_SIZE], turns[0].back(mixed))
