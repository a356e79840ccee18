"""Pictures of an index found by words and by other pictures."""

from __future__ import annotations

from collections.abc import Container, Sequence
from pathlib import Path

from ...drawing.contact_sheet import contact_sheet
from ...drawing.fit import FITS
from ..clip import features
from ..clip.precision import EXACT, WIDGET
from ..galleries import Card, card, read_picks, with_gallery
from ..host import host
from ..host.interface import CLIP, Image, Looking
from ..reports import as_json, shown
from . import found, indexing, queries
from .found import INDEX

PICKED = (
    "STRING",
    {
        "default": "",
        "advanced": True,
        "tooltip": "Picked by hand, with a click in the gallery on this node: names as a JSON list, "
        "or one a line; or places among the found ones from 0 on. Empty: all that were found.",
    },
)


def _weight(tooltip: str) -> tuple[str, dict]:
    return "FLOAT", {"default": 1.0, "min": -2.0, "max": 2.0, "step": 0.05, "tooltip": tooltip}


class SearchImages:
    CATEGORY = "CVL/search"
    DESCRIPTION = (
        "Finds pictures of an index by describing them, by a picture they are to resemble, or by both. Exact: every "
        "picture of the index is compared. Gives the best ones as a batch, with names and scores."
    )
    SEARCH_ALIASES = [
        "find image",
        "search pictures",
        "image gallery",
        "image browser",
        "semantic search",
        "similar images",
        "retrieval",
        "reverse image search",
    ]
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
                "text_weight": _weight("How much the words count beside a picture. Below 0: away from them."),
                "image_weight": _weight("How much the picture counts beside words. Below 0: away from it."),
                "min_score": (
                    "FLOAT",
                    {
                        "default": -1.0,
                        "advanced": True,
                        "display_name": "min_score (-1: off)",
                        "min": -1.0,
                        "max": 1.0,
                        "step": 0.01,
                        "tooltip": "Leave out what is less like the query (cosine). Words and pictures rarely come "
                        "above 0.35, pictures among themselves often above 0.7.",
                    },
                ),
                "fit": (
                    list(FITS),
                    {
                        "advanced": True,
                        "tooltip": "Pictures of other sizes than the first: pad shows them whole, crop fills the size.",
                    },
                ),
                "longest_px": (
                    "INT",
                    {
                        "advanced": True,
                        "default": 1024,
                        "min": 64,
                        "max": 16384,
                        "tooltip": "The batch's longer side at most, in px.",
                    },
                ),
                "clip": ("CLIP", {"tooltip": "With a CLIP_VISION: the CLIP whose text encoder belongs to it."}),
                "precision": WIDGET,
                "picked": PICKED,
            },
        }

    @classmethod
    def IS_CHANGED(cls, index: str | None = "", **_) -> str:
        return indexing.results_fingerprint(index)

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
        picked: str = "",
    ) -> dict:
        opened = found.open_named(index)
        differing = indexing.check_and_note(opened, clip_model, precision)
        ground, weights = found.ground_of(opened), (text_weight, image_weight)
        wanted = queries.encode(clip_model, clip, text, image, weights=weights, precision=precision, ground=ground)
        result = found.search(opened, wanted.features, count, min_score, host.progress(1))
        if not any(result.queries):
            raise ValueError(_nothing(index, result, min_score))
        by_hand, unknown = _picked(picked, result)
        hits = by_hand or [hit for hits in result.queries for hit in hits]
        rows = found.sheet_rows(zip(wanted.headings, result.queries))
        pictures = found.as_images(hits, [hit for _, some in rows for hit in some], fit, longest_px, ground)
        sheet = contact_sheet(
            [(title, [pictures.cells[h] for h in some if h in pictures.cells]) for title, some in rows]
        )
        lost = [f"picked by hand, but not found this time: {', '.join(unknown[:5])}"] if unknown else []
        notes = [*lost, *found.notes_of(opened), *differing, *wanted.notes, *result.notes, *pictures.notes]
        data = {
            "index": index,
            "rows": opened.rows,
            "index_precision": opened.facts.precision,
            **wanted.effect,
            "notes": notes,
            "picked_by_hand": [hit.name for hit in by_hand],
            "batch": len(pictures.images),
            "queries": [
                {"query": title, "pictures": [{"name": hit.name, "score": round(hit.score, 6)} for hit in hits]}
                for title, hits in zip(wanted.titles, result.queries)
            ],
        }
        lines = [*notes, *found.hit_lines(wanted.titles, result.queries, pictures.unread)]
        passed = [hit for hit in hits if hit.path not in pictures.unread]
        if by_hand:
            lines.insert(0, f"{len(passed)} picked by hand: {', '.join(hit.path.name for hit in passed[:8])}")
        names = "\n".join(hit.name for hit in passed)
        answer = shown(lines, data, (pictures.images, names, as_json(data), sheet))
        return with_gallery(answer, _groups(wanted.titles, result, pictures.unread, by_hand))


def _groups(
    titles: Sequence[str], result: found.Found, unread: Container[Path], by_hand: Sequence[found.Hit]
) -> list[tuple[str, list[Card]]]:
    """The gallery: a group of cards for each query."""
    places = host.data_places()
    groups = []
    for title, hits in zip(titles, result.queries):
        cards = []
        for hit in (hit for hit in hits if hit.path not in unread):
            kept = hit in by_hand if by_hand else True
            more = {"key": hit.name, "score": f"{hit.score:.3f}", "label": hit.path.name, "kept": kept}
            cards += card(places.entry_of(hit.path), hit.name, **more)
        groups.append((title if len(titles) > 1 else "", cards))
    return groups


def _picked(text: str, result: found.Found) -> tuple[tuple[found.Hit, ...], list[str]]:
    """Return the hits that were picked by hand, in the order of the picks, and the picks that are no hits.

    Raises:
        ValueError: there are picks, and none of them was found.
    """
    hits = list({hit.name: hit for hits in result.queries for hit in hits}.values())
    by_name = {hit.name: hit for hit in hits} | {str(place): hit for place, hit in enumerate(hits)}
    picks = read_picks(text)
    known = tuple(dict.fromkeys(by_name[pick] for pick in picks if pick in by_name))
    unknown = [pick for pick in picks if pick not in by_name]
    if picks and not known:
        raise ValueError(
            f"none of the pictures picked by hand was found this time, {unknown[0]!r} for one; pick others, or empty "
            "picked to get all that are found"
        )
    return known, unknown


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
