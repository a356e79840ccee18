"""Select Latents: the latents of the pictures that another node chose."""

from __future__ import annotations

import re

from ...vae_core import batches
from ..checks import samples_of
from ..reports import as_json, shown
from .selection import PictureSelection


class SelectLatents:
    CATEGORY = "CVL/judge"
    DESCRIPTION = (
        "Takes the latents of the pictures that Rank Images or Image Gate chose, in that order, with their noise masks "
        "and noise numbers: so the best pictures can be sampled on."
    )
    SEARCH_ALIASES = ["latent from batch", "pick latent", "best latent", "pick latents", "index latent batch"]
    RETURN_TYPES = ("LATENT", "STRING")
    RETURN_NAMES = ("latent", "report")
    OUTPUT_TOOLTIPS = (
        "The chosen latents. Their batch_index keeps the number that each had, and so its noise.",
        "Which ones, and which entries of the LATENT were chosen from, as JSON.",
    )
    FUNCTION = "select"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "samples": ("LATENT", {"tooltip": "The batch of latents that the ranked pictures were decoded from."}),
            },
            "optional": {
                "indices": (
                    "STRING",
                    {"default": "", "tooltip": "Places from 0 on, such as 3,0,1. Empty where selection is linked."},
                ),
                "selection": ("CVL_SELECTION", {"tooltip": "From Rank Images or Image Gate."}),
            },
        }

    def select(self, samples, indices="", selection=None):
        samples_of(samples)
        count = batches.batch_size(samples["samples"])
        places = _places(indices, selection, count)
        found = batches.choose(samples, places)
        data = {"indices": list(places), "of": count, "entries": list(found.entries), "passed_on": list(found.whole)}
        lines = [f"latents {', '.join(map(str, places))} of {count}, with {', '.join(found.entries)}"]
        return shown(lines, data, (found.latent, as_json(data)))


def _places(indices: str, selection: PictureSelection | None, count: int) -> tuple[int, ...]:
    """The numbers of the latents, from the linked selection or from the typed indices.

    Raises:
        ValueError: there is neither, or both and they differ; an index is no whole number; the selection is from a
            batch of another size.
    """
    text = indices.strip().strip("[]()")
    if selection is not None and not isinstance(selection, PictureSelection):
        came = type(selection).__name__
        raise ValueError(f"a CVL_SELECTION was expected, but a {came} came; link Rank Images or Image Gate")
    if selection is None and not text:
        raise ValueError("nothing says which latents to take; link selection, or write indices such as 3,0,1")
    if text and not all(re.fullmatch(r"-?\d+", part) for part in re.split(r"[,;\s]+", text.strip(",; "))):
        raise ValueError(f"whole numbers with commas between them were expected as indices, but {indices[:60]!r} came")
    typed = tuple(int(part) for part in re.split(r"[,;\s]+", text.strip(",; "))) if text else ()
    if selection is None:
        batches.check_places(typed, count)
        return typed
    if typed and typed != selection.places:
        raise ValueError(
            f"the linked selection names {list(selection.places)[:20]} and the indices {list(typed)[:20]}; "
            "keep one of them"
        )
    if selection.count != count:
        raise ValueError(
            f"the selection is from a batch of {selection.count} pictures, but this LATENT has {count}; connect the "
            "latents that those pictures were decoded from"
        )
    return selection.places


NODES = {
    "CVL_SelectLatents": (SelectLatents, "Select Latents (CVL)"),
}
