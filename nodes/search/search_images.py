"""Pictures of an index found by words and by other pictures."""

from __future__ import annotations

from ...drawing.contact_sheet import contact_sheet
from ...drawing.fit import FITS
from ..clip import features
from ..clip.precision import EXACT, WIDGET
from ..host import host
from ..host.interface import CLIP, Image, Looking
from ..reports import as_json, shown
from . import found, indexing, queries
from .found import INDEX, MAX_SHEET_ROWS


class SearchImages:
    CATEGORY = "CVL/search"
    DESCRIPTION = (
        "Finds pictures of an index by describing them, by a picture they are to resemble, or by both. Exact: every "
        "picture of the index is compared. Gives the best ones as a batch, with names and scores."
    )
    SEARCH_ALIASES = ["find image", "semantic search", "similar images", "retrieval", "reverse image search"]
    RETURN_TYPES = ("IMAGE", "STRING", "STRING", "IMAGE")
    RETURN_NAMES = ("images", "names", "scores", "sheet")
    OUTPUT_TOOLTIPS = (
        "The best pictures, the best first, all at the size of the best one.",
        "Their names, one a line, as Load Image takes them.",
        "Name, score and place of each for each query, as JSON.",
        "A contact sheet with names and scores.",
    )
    FUNCTION = "search"
    OUTPUT_NODE = True  # queued alone it runs, and shows what it found

    @classmethod
    def INPUT_TYPES(cls):
        weight = {"default": 1.0, "min": -2.0, "max": 2.0, "step": 0.05}
        return {
            "required": {
                "clip_model": (features.MODEL_TYPES, {"tooltip": "The model that the index was made with."}),
                "index": INDEX,
                "text": (
                    "STRING",
                    {
                        "multiline": True,
                        "default": "a photo of a red circle",
                        "tooltip": "What the pictures show; each line is a search of its own. Empty: by the picture.",
                    },
                ),
                "count": ("INT", {"default": 6, "min": 1, "max": 256, "tooltip": "How many pictures for each search."}),
            },
            "optional": {
                "image": ("IMAGE", {"tooltip": "Pictures that the found ones are to resemble; each is a search."}),
                "text_weight": (
                    "FLOAT",
                    {**weight, "tooltip": "How much the words count beside a picture. Below 0: away from them."},
                ),
                "image_weight": (
                    "FLOAT",
                    {**weight, "tooltip": "How much the picture counts beside words. Below 0: away from it."},
                ),
                "min_score": (
                    "FLOAT",
                    {
                        "default": -1.0,
                        "min": -1.0,
                        "max": 1.0,
                        "step": 0.01,
                        "tooltip": "Leave out what is less like the query (cosine). Words and pictures rarely come "
                        "above 0.35, pictures among themselves often above 0.7.",
                    },
                ),
                "fit": (
                    list(FITS),
                    {"tooltip": "Pictures of other sizes than the first: pad shows all of them, crop fills the size."},
                ),
                "longest_px": (
                    "INT",
                    {"default": 1024, "min": 64, "max": 16384, "tooltip": "The batch's longer side at most, in px."},
                ),
                "clip": ("CLIP", {"tooltip": "With a CLIP_VISION: the CLIP whose text encoder belongs to it."}),
                "precision": WIDGET,
            },
        }

    @classmethod
    def IS_CHANGED(cls, index: str | None = "", **_) -> str:
        return indexing.index_fingerprint(index)

    def search(
        self,
        clip_model: Looking,
        index: str,
        text: str,
        count: int,
        image: Image | None = None,
        text_weight: float = 1.0,
        image_weight: float = 1.0,
        min_score: float = -1.0,
        fit: str = "pad",
        longest_px: int = 1024,
        clip: CLIP | None = None,
        precision: str = EXACT,
    ) -> dict:
        opened = found.open_named(index)
        differing = indexing.check_and_note(opened, clip_model, precision)
        wanted = queries.encode(clip_model, clip, text, image, weights=(text_weight, image_weight), precision=precision)
        result = found.search(opened, wanted.features, count, min_score, host.progress(1))
        if not any(result.queries):
            raise ValueError(_nothing(index, result, min_score))
        images, cells, said = found.as_images(result, fit, longest_px)
        cell_of = dict(cells)
        rows = [
            (title, [cell_of[hit] for hit in hits if hit in cell_of])
            for title, hits in zip(wanted.titles, result.queries)
        ]
        sheet = contact_sheet(rows[:MAX_SHEET_ROWS])
        notes = [*found.notes_of(opened), *differing, *wanted.notes, *result.notes, *said]
        data = {
            "index": index,
            "rows": opened.rows,
            "index_precision": opened.facts.precision,
            **wanted.effect,
            "notes": notes,
            "queries": [
                {"query": title, "pictures": [{"name": hit.name, "score": round(hit.score, 6)} for hit in hits]}
                for title, hits in zip(wanted.titles, result.queries)
            ],
        }
        lines = found.hit_lines(wanted.titles, result.queries, cell_of) + notes
        names = "\n".join(hit.name for hit, _ in cells)
        return shown(lines, data, (images, names, as_json(data), sheet), host.save_preview(sheet, "cvl_search"))


def _nothing(index: str, result: found.Found, min_score: float) -> str:
    if result.notes:
        return f"nothing was found in the index {index!r}: {'; '.join(result.notes[:3])}"
    return (
        f"nothing in the index {index!r} has a score of {min_score:g} or more, the best has "
        f"{result.best_score:.3f}; lower min_score"
    )


NODES = {
    "CVL_SearchImages": (SearchImages, "Search Images (CVL)"),
}
