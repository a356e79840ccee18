"""Choose pictures from a batch of latents, with everything in the LATENT that belongs to them.

A LATENT is ComfyUI's dictionary: "samples" [B, C, h, w] or [B, C, T, h, w], or several such tensors as one nested
object; "noise_mask"; "batch_index", the numbers by which the sampler chooses each picture's noise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

from torch import Tensor


class Nested(Protocol):
    """ComfyUI's nested tensor: several tensors, of one batch size, as one object."""

    is_nested: bool

    def __getitem__(self, places: list[int]) -> Nested: ...

    def unbind(self) -> list[Tensor]: ...


@dataclass(frozen=True)
class Chosen:
    """A LATENT of the chosen pictures, and how each of its entries was treated."""

    latent: dict[str, object]
    entries: tuple[str, ...]  # entries with a value for each picture, chosen like the pictures
    whole: tuple[str, ...]  # entries that belong to no single picture, passed on unchanged


def batch_size(samples: Tensor | Nested) -> int:
    """Count the pictures in the samples of a LATENT, nested ones too."""
    nested = _nested(samples)
    return len(cast(Tensor, samples) if nested is None else nested.unbind()[0])


def choose(latent: Mapping[str, object], places: Sequence[int]) -> Chosen:
    """Choose the pictures at these places, in this order; a place may come more than once.

    "batch_index" keeps, or gets, the number that each picture had, so that it is sampled with the noise it had.

    Raises:
        ValueError: there are no places, or one lies outside the batch.
    """
    count = batch_size(cast(Tensor | Nested, latent["samples"]))
    check_places(places, count)
    chosen: dict[str, object] = {}
    entries = []
    for name, value in latent.items():
        of_pictures = _choose_entry(name, value, list(places), count)
        if of_pictures is not None:
            entries.append(name)
        chosen[name] = value if of_pictures is None else of_pictures
    if "batch_index" not in latent:
        chosen["batch_index"] = list(places)
        entries.append("batch_index")
    return Chosen(chosen, tuple(entries), tuple(name for name in latent if name not in entries))


def check_places(places: Sequence[int], count: int) -> None:
    """Raises ValueError where there are no places, or one lies outside a batch of `count` pictures."""
    if not places:
        raise ValueError("there are no indices; give the places of pictures in the batch, such as 3,0,1")
    wrong = [place for place in places if not 0 <= place < count]
    if wrong:
        raise ValueError(
            f"the indices name the picture at {wrong[0]}, but this batch has {count}, counted from 0; connect the "
            "batch that was ranked"
        )


def _choose_entry(name: str, value: object, places: list[int], count: int) -> object | None:
    """Choose the values of these pictures from one entry; None for an entry without a value for each picture."""
    nested = _nested(value)
    if name == "noise_mask" and (nested is not None or isinstance(value, Tensor)):
        return _choose_masks(cast(Tensor | Nested, value), places)
    if nested is not None:
        return nested[places]
    if isinstance(value, Tensor):
        return value[places].clone() if value.ndim and len(value) == count else None
    if not isinstance(value, (list, tuple)):
        return None
    if name == "batch_index":
        if len(value) != count:
            raise ValueError(
                f"this LATENT has {count} pictures and {len(value)} entries in its batch_index; as many "
                "were expected; make it anew"
            )
        return [value[place] for place in places]
    # a list of numbers is no list of pictures: [height, width] beside a batch of two
    if len(value) == count and all(isinstance(each, (Tensor, Mapping)) for each in value):
        return [value[place] for place in places]
    return None


def _choose_masks(masks: Tensor | Nested, places: list[int]) -> object | None:
    """Choose the noise masks of these pictures; None for a single mask, which serves all pictures.

    Where there are fewer masks than pictures ComfyUI repeats them in turn, so the choice does too.
    """
    nested = _nested(masks)
    if nested is not None:
        pairs = [(mask, _choose_masks(mask, places)) for mask in nested.unbind()]
        rebuild = cast("type[object]", type(masks))
        return rebuild([mask if chosen is None else chosen for mask, chosen in pairs])  # type: ignore[call-arg]
    mask = cast(Tensor, masks)
    if mask.ndim < 3 or len(mask) == 1:
        return None
    return mask[[place % len(mask) for place in places]].clone()


def _nested(value: object) -> Nested | None:
    """The value as a nested tensor; None where it is none."""
    return cast(Nested, value) if getattr(value, "is_nested", False) else None
