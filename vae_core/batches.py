"""Some pictures of a batch of latents, with everything in the LATENT that belongs to them.

A LATENT is ComfyUI's dictionary: "samples" [B, C, h, w] or [B, C, T, h, w], or several such tensors as one nested
object; "noise_mask"; "batch_index", the numbers by which the sampler chooses each picture's noise.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Chosen:
    latent: dict[str, object]
    entries: tuple[str, ...]  # of which the same pictures were taken
    whole: tuple[str, ...]  # that belong to no picture and were passed on as they are


def batch_size(samples) -> int:
    """How many pictures are in the samples of a LATENT, nested ones too."""
    return len(samples.unbind()[0]) if _is_nested(samples) else len(samples)


def choose(latent: Mapping[str, object], places: Sequence[int]) -> Chosen:
    """The pictures at these places, in this order; a place may come more than once.

    "batch_index" keeps, or gets, the number that each picture had, so that it is sampled with the noise it had.

    Raises:
        ValueError: no places, or one that is not there.
    """
    count = batch_size(latent["samples"])
    check_places(places, count)
    chosen: dict[str, object] = {}
    entries = []
    for name, value in latent.items():
        taken = _taken(name, value, list(places), count)
        if taken is not None:
            entries.append(name)
        chosen[name] = value if taken is None else taken
    if "batch_index" not in latent:
        chosen["batch_index"] = list(places)
        entries.append("batch_index")
    return Chosen(chosen, tuple(entries), tuple(name for name in latent if name not in entries))


def check_places(places: Sequence[int], count: int) -> None:
    if not places:
        raise ValueError("there are no indices; give the places of pictures in the batch, such as 3,0,1")
    wrong = [place for place in places if not 0 <= place < count]
    if wrong:
        raise ValueError(
            f"the indices name the picture at {wrong[0]}, but this batch has {count}, counted from 0; connect the "
            "batch that was ranked"
        )


def _taken(name: str, value: object, places: list[int], count: int) -> object | None:
    """The pictures of one entry; None for an entry that is not of pictures."""
    if name == "noise_mask":
        return _masks(value, places, count)
    if _is_nested(value):
        return value[places]
    if isinstance(value, Tensor):
        return value[places].clone() if value.ndim and len(value) == count else None
    if name == "batch_index":
        if len(value) != count:
            raise ValueError(
                f"this LATENT has {count} pictures and {len(value)} entries in its batch_index; as many "
                "were expected; make it anew"
            )
        return [value[place] for place in places]
    whose = isinstance(value, (list, tuple)) and len(value) == count
    if whose and all(isinstance(one, (Tensor, Mapping)) for one in value):  # [height, width] is no list of pictures
        return [value[place] for place in places]
    return None


def _masks(masks, places: list[int], count: int):
    """Of one mask for all, that; of fewer than pictures, those that ComfyUI repeats them to."""
    if _is_nested(masks):
        taken = [(mask, _masks(mask, places, count)) for mask in masks.unbind()]
        return type(masks)([whole if chosen is None else chosen for whole, chosen in taken])
    if masks.ndim < 3 or len(masks) == 1:
        return None
    return masks[[place % len(masks) for place in places]].clone()


def _is_nested(value: object) -> bool:
    return bool(getattr(value, "is_nested", False))
