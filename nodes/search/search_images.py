"""Pictures found by words and by other pictures: an index of a folder, a search in it, and its near-duplicates."""

from __future__ import annotations

import json
import time

from ...clip_core.features.search import duplicate_groups
from ...drawing.contact_sheet import contact_sheet
from ...drawing.fit import FITS
from ...index.adding import add_picture
from ...index.update import update
from ...index.writing import check_model, writing
from ..checks import check_image
from ..clip import features
from ..clip.precision import EXACT, WIDGET
from ..host import host
from ..reports import as_json, shown
from . import found, indexing, queries

_INDEX = ("STRING", {"default": "pictures", "tooltip": "The name of an index that Index Folder made."})
_MAX_SHEET_ROWS = 50


class IndexFolder:
    CATEGORY = "CVL/search"
    DESCRIPTION = (
        "Makes a folder of pictures searchable by words and pictures: each is encoded once and kept in an index in the "
        "output folder. Run again, only what is new or has changed is encoded, and what was deleted is forgotten. It "
        "can be cancelled at any time and goes on from there."
    )
    SEARCH_ALIASES = ["image search", "embed folder", "image database", "CLIP index", "gallery"]
    RETURN_TYPES = ("STRING", "STRING")
    RETURN_NAMES = ("index", "report")
    OUTPUT_TOOLTIPS = (
        "The name of the index, for Search Images and Find Duplicates; linked there, they run after this.",
        "How many pictures are new, changed, deleted and skipped, and why, as JSON.",
    )
    FUNCTION = "build"
    OUTPUT_NODE = True  # queued alone it runs, and shows its report

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "clip_model": (
                    features.MODEL_TYPES,
                    {"tooltip": "What encodes the pictures. Search with the same model."},
                ),
                "folder": (["output", "input"], {"tooltip": "ComfyUI's output or input folder."}),
                "subfolder": ("STRING", {"default": "", "tooltip": "A folder below it; empty: the folder itself."}),
                "index": ("STRING", {"default": "pictures", "tooltip": "The name under which the index is kept."}),
            },
            "optional": {
                "recursive": ("BOOLEAN", {"default": True, "tooltip": "Also folders below it, but no hidden ones."}),
                "batch": (
                    "INT",
                    {
                        "default": 32, "min": 1, "max": 512,
                        "tooltip": "How many pictures are encoded at a time; fewer where a card's memory has no room "
                        "for them, which the report says.",
                    },
                ),
                "image": (
                    "IMAGE",
                    {
                        "tooltip": "Pictures to put into the folder first (output only; it is made if need be), under "
                        "names made from their pixels: none is there twice."
                    },
                ),
                "after": ("*", {"tooltip": "Anything that must be done first, a node that saves pictures say."}),
                "precision": WIDGET,
            },
            "hidden": {"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO"},
        }  # fmt: skip

    @classmethod
    def VALIDATE_INPUTS(cls, input_types):
        """Asked with the types, as the older host's own nodes do, because it knows no "*" by itself."""
        kind = input_types.get("clip_model", features.MODEL_TYPES)
        if kind not in (*features.MODEL_TYPES.split(","), features.MODEL_TYPES, "*"):
            return f"clip_model: a CLIP was expected and {kind} is linked; connect Load CLIP Model (CVL)"
        kind = input_types.get("image", "IMAGE")
        return kind in ("IMAGE", "*") or f"image: IMAGE was expected and {kind} is linked; connect a picture"

    @classmethod
    def IS_CHANGED(cls, folder="output", subfolder="", index="", recursive=True, **_):
        return indexing.fingerprint(folder, subfolder, index, recursive)

    def build(
        self, clip_model, folder, subfolder, index, recursive=True, batch=32, image=None, after=None,
        precision=EXACT, prompt=None, extra_pnginfo=None,
    ):  # fmt: skip
        places = host.data_places()
        target = places.index_folder(index)
        if image is not None:
            texts = {"prompt": prompt, **(extra_pnginfo or {})} if host.saves_workflow() else {}
            _add(places, folder, subfolder, image, {key: json.dumps(text) for key, text in texts.items() if text})
        pictures = places.pictures_folder(folder, subfolder)
        before = image is None and after is None  # otherwise pictures may have come since
        scanned = indexing.just_scanned(pictures, recursive) if before else None
        embed, start = indexing.Embedder(clip_model, batch, precision=precision), time.perf_counter()
        with writing(target, indexing.facts_of(clip_model, embed.encoder, target, pictures, precision)) as writer:
            done = update(
                writer, pictures, embed, recursive=recursive, left_out=places.without_pictures(), found=scanned,
                on_step=host.progress(1),
            )  # fmt: skip
        lines, data = indexing.told(done, time.perf_counter() - start, embed)
        data = {"index": index, "folder": folder, "subfolder": subfolder, **data}
        return shown(lines, data, (index, as_json(data)))


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
                "index": _INDEX,
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
                        "default": -1.0, "min": -1.0, "max": 1.0, "step": 0.01,
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
        }  # fmt: skip

    @classmethod
    def IS_CHANGED(cls, index="", **_):
        return indexing.index_fingerprint(index)

    def search(
        self, clip_model, index, text, count, image=None, text_weight=1.0, image_weight=1.0, min_score=-1.0,
        fit="pad", longest_px=1024, clip=None, precision=EXACT,
    ):  # fmt: skip
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
        rows = [(title, [by_hit[id(hit)] for hit in hits if id(hit) in by_hit])
                for title, hits in zip(titles, result.queries)]
        sheet = contact_sheet(rows[:_MAX_SHEET_ROWS])
        notes = [*found.notes_of(opened), *indexing.notes_on(opened.facts, here), *notes, *result.notes, *said]
        data = {
            "index": index, "rows": opened.rows, "index_precision": opened.facts.precision, **moved, "notes": notes,
            "queries": [
                {"query": title, "pictures": [{"name": hit.name, "score": round(hit.score, 6)} for hit in hits]}
                for title, hits in zip(titles, result.queries)
            ],
        }  # fmt: skip
        lines = found.told_hits(titles, result.queries, by_hit) + notes
        names = "\n".join(hit.name for hit, _ in cells)
        return shown(lines, data, (images, names, as_json(data), sheet), host.save_preview(sheet, "cvl_search"))


class FindDuplicates:
    CATEGORY = "CVL/search"
    DESCRIPTION = (
        "Groups the pictures of an index that are nearly the same: copies at other sizes, crops, small changes. "
        "Nothing is deleted; the names are for you or for other nodes."
    )
    SEARCH_ALIASES = ["duplicate images", "near duplicates", "deduplicate", "similar pictures"]
    RETURN_TYPES = ("IMAGE", "STRING", "STRING")
    RETURN_NAMES = ("sheet", "duplicates", "groups")
    OUTPUT_TOOLTIPS = (
        "A contact sheet, a row for each group.",
        "The names of all but the first of each group, one a line, as Load Image takes them.",
        "Every group with the names and their cosine to the first one, as JSON.",
    )
    FUNCTION = "group"
    OUTPUT_NODE = True  # queued alone it runs, and shows its groups

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "index": _INDEX,
                "threshold": (
                    "FLOAT",
                    {
                        "default": 0.95, "min": 0.5, "max": 1.0, "step": 0.005,
                        "tooltip": "How alike two pictures must be (cosine). 0.99: copies; 0.9: the same motif.",
                    },
                ),
            },
        }  # fmt: skip

    @classmethod
    def IS_CHANGED(cls, index="", **_):
        return indexing.index_fingerprint(index)

    def group(self, index, threshold):
        opened = found.opened(index)
        groups = duplicate_groups(opened.blocks, threshold, dead=opened.dead, on_step=host.progress(1))
        named = [found.group_members(opened, group) for group in groups]
        rows = [(f"{len(group)} pictures", [found.small_cell(path, (path.name, f"{score:.3f}"))
                                            for path, _, score in group[:12]]) for group in named[:_MAX_SHEET_ROWS]]
        copies = [name for group in named for _, name, _ in group[1:]]
        told = found.told_groups(len(named), len(copies), opened.rows, threshold)
        sheet = contact_sheet(rows or [(told, [])])
        notes = found.notes_of(opened)
        if opened.facts.precision != EXACT:
            notes.append(f"the index was made with precision {opened.facts.precision}: cosines are rounded by that")
        if len(named) > _MAX_SHEET_ROWS:
            notes.append(f"the sheet shows the {_MAX_SHEET_ROWS} largest groups of {len(named)}")
        data = {
            "index": index, "threshold": threshold, "rows": opened.rows, "notes": notes,
            "groups": [[{"name": name, "score": round(score, 6)} for _, name, score in group] for group in named],
        }  # fmt: skip
        lines = [told, *notes]
        lines += [f"{len(group)}: {', '.join(path.name for path, _, _ in group[:6])}" for group in named[:10]]
        return shown(lines, data, (sheet, "\n".join(copies), as_json(data)), host.save_preview(sheet, "cvl_duplicates"))


def _add(places, folder, subfolder, image, texts) -> None:
    check_image(image)
    if folder != "output":
        raise ValueError("pictures can be added to the output folder only; choose folder output, or disconnect image")
    target = places.pictures_folder("output", subfolder, make=True)
    for picture in image[..., :3]:
        add_picture(target, picture, texts)


def _nothing(index, result, min_score) -> str:
    if result.notes:
        return f"nothing was found in the index {index!r}: {'; '.join(result.notes[:3])}"
    return (f"nothing in the index {index!r} has a score of {min_score:g} or more, the best has "
            f"{result.best_score:.3f}; lower min_score")


NODES = {
    "CVL_IndexFolder": (IndexFolder, "Index Folder (CVL)"),
    "CVL_SearchImages": (SearchImages, "Search Images (CVL)"),
    "CVL_FindDuplicates": (FindDuplicates, "Find Duplicates (CVL)"),
}
