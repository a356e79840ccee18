"""Pictures of an index found by words and by other pictures."""

from __future__ import annotations

from ...drawing.contact_sheet import contact_sheet
from ...drawing.fit import FITS
from ...index.writing import check_model
from ..clip import features
from ..clip.precision import EXACT, WIDGET
from ..host import host
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
    def IS_CHANGED(cls, index="", **_):
        return indexing.index_fingerprint(index)

    def search(
        self,
        clip_model,
        index,
        text,
        count,
        image=None,
        text_weight=1.0,
        image_weight=1.0,
        min_score=-1.0,
        fit="pad",
        longest_px=1024,
        clip=None,
        precision=EXACT,
    ):
        opened = found.opened(index)
        here = indexing.facts_of(
            clip_model, host.image_encoder(clip_model), opened.folder, opened.pictures_folder, precision
        )
        check_model(opened.folder, opened.facts, here)
        wanted, titles, notes, moved = queries.made(
            clip_model, clip, text, image, (text_weight, image_weight), precision
        )
        result = found.search(opened, wanted, count, min_score, host.progress(1))
        if not any(result.queries):
            raise ValueError(_nothing(index, result, min_score))
        images, cells, said = found.as_images(result, fit, longest_px)
        by_hit = {id(hit): cell for hit, cell in cells}
        rows = [
            (title, [by_hit[id(hit)] for hit in hits if id(hit) in by_hit])
            for title, hits in zip(titles, result.queries)
        ]
        sheet = contact_sheet(rows[:MAX_SHEET_ROWS])
        notes = [*found.notes_of(opened), *indexing.notes_on(opened.facts, here), *notes, *result.notes, *said]
        data = {
            "index": index,
            "rows": opened.rows,
            "index_precision": opened.facts.precision,
            **moved,
            "notes": notes,
            "queries": [
                {"query": title, "pictures": [{"name": hit.name, "score": round(hit.score, 6)} for hit in hits]}
                for title, hits in zip(titles, result.queries)
            ],
        }
        lines = found.hit_lines(titles, result.queries, by_hit) + notes
        names = "\n".join(hit.name for hit, _ in cells)
        return shown(lines, data, (images, names, as_json(data), sheet), host.save_preview(sheet, "cvl_search"))


def _nothing(index, result, min_score) -> str:
    if result.notes:
        return f"nothing was found in the index {index!r}: {'; '.join(result.notes[:3])}"
    return (
        f"nothing in the index {index!r} has a score of {min_score:g} or more, the best has "
        f"{result.best_score:.3f}; lower min_score"
    )


NODES = {
    "CVL_SearchImages": (SearchImages, "Search Images (CVL)"),
}
