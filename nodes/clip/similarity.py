"""Image-Text Similarity: the cosines of pictures with texts, and of pictures with pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...clip_core.judging import ranking, word_list
from ...drawing.heat_map import Axis, heat_map, stack_pictures
from ..host import host
from ..reports import as_json, shown
from . import features
from .ground import GROUND, WHITE, on_ground
from .precision import EXACT, WIDGET, measure_precision
from .scores import BATCH, CLIP, MODEL, notes_on_gaps, numbers, picture_features_of, text_features_of

if TYPE_CHECKING:
    from ..host.interface import Tensor

SHOWN_CELLS = 4096  # of a matrix in the node's own report; the output holds all of them


class ImageTextSimilarity:
    CATEGORY = "CVL/judge"
    DESCRIPTION = (
        "Compares every picture with every text, or with every other picture: cosines as a heat map with thumbnails "
        "and as JSON, and the best match each way."
    )
    SEARCH_ALIASES = [
        "CLIP score",
        "compare images and text",
        "cosine similarity",
        "heat map",
        "image similarity",
        "CLIP matrix",
    ]
    RETURN_TYPES = ("IMAGE", "STRING", "STRING", "STRING")
    RETURN_NAMES = ("heat_map", "matrix", "best_for_images", "best_for_columns")
    OUTPUT_TOOLTIPS = (
        "The cosines as colours; the best of each row and column is marked. Texts first, pictures below.",
        "All cosines, the probabilities of texts, and the best matches, as JSON.",
        "For each picture the best text, or the place of the best other picture: one a line.",
        "For each text, or each picture of the second batch, the place of the best picture: one a line.",
    )
    FUNCTION = "compare"
    OUTPUT_NODE = True  # queued alone it runs, and shows its heat map

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "clip_model": MODEL,
                "image": BATCH,
            },
            "optional": {
                "texts": (
                    "STRING",
                    {
                        "multiline": True,
                        "default": "",
                        "tooltip": "One a line, up to 10,000. Empty: pictures are compared with pictures only.",
                    },
                ),
                "image_b": (
                    "IMAGE",
                    {
                        "tooltip": "Other pictures to compare the batch with. Without them and without texts the "
                        "batch is compared with itself."
                    },
                ),
                "clip": CLIP,
                "precision": WIDGET,
                "ground": GROUND,
            },
        }

    def compare(self, clip_model, image, texts="", image_b=None, clip=None, precision=EXACT, ground=WHITE):
        lines, notes = word_list.lines(texts)
        words = text_features_of(clip_model, clip, lines, precision) if lines else None
        laid = on_ground(image, ground)
        found = picture_features_of(clip_model, laid.image, precision)
        moved, said = measure_precision(
            precision,
            clip_model,
            clip,
            image=laid.image,
            picture_features=found,
            text=lines[0] if words else "",
            text_features=words.features[:1] if words else None,
        )
        notes += [*laid.notes, *(words.notes if words else ()), *notes_on_gaps(found), *said]
        data, maps = {"pictures": len(image), "notes": notes, **laid.data, **moved}, []
        if words:
            data["texts"], drawn = _against_texts(
                found, words.features, lines, features.scale_of(clip_model), laid.image
            )
            maps.append(drawn)
        if image_b is not None or not words:
            second = None if image_b is None else on_ground(image_b, ground)
            others = found if second is None else picture_features_of(clip_model, second.image, precision)
            if second is not None:
                notes += [f"second batch: {note}" for note in [*second.notes, *notes_on_gaps(others)]]
            data["images"], drawn = _against_pictures(found, others, laid.image, second and second.image)
            maps.append(drawn)
        first = data.get("texts") or data["images"]
        best = [
            "\n".join("-" if one is None else str(one) for one in first[key])
            for key in ("best_for_images", "best_for_columns")
        ]
        drawn = stack_pictures(maps)
        results = (drawn, as_json(data), *best)
        return shown(_report_lines(data), _short_report(data), results, host.save_preview(drawn, "cvl_similarity"))


def _against_texts(found: Tensor, words: Tensor, lines: list[str], scale: float, image: Tensor) -> tuple[dict, Tensor]:
    """Compare pictures [B, E] with texts [N, E]: the report's block, and the heat map."""
    cosine = ranking.cosines(found, words)
    best_text, best_picture = ranking.best_each_way(cosine)
    data = {
        "columns": lines,
        "cosine": numbers(cosine),
        "probabilities": numbers(ranking.probabilities(cosine, scale)),
        "best_for_images": [None if place is None else lines[place] for place in best_text],
        "best_for_columns": best_picture,
    }
    return data, heat_map(cosine, _axis(image), Axis(lines), "cos")


def _against_pictures(found: Tensor, others: Tensor, image: Tensor, image_b: Tensor | None) -> tuple[dict, Tensor]:
    """Compare pictures [B, E] with others [N, E], or with each other: the report's block, and the heat map."""
    alone = image_b is None
    cosine = ranking.cosines(found, others)
    best_other, best_picture = ranking.best_each_way(cosine, with_itself=alone)
    data = {
        "of": "the same batch" if alone else "image_b",
        "cosine": numbers(cosine),
        "best_for_images": best_other,
        "best_for_columns": best_picture,
    }
    columns = _axis(image if image_b is None else image_b)
    return data, heat_map(cosine, _axis(image), columns, "cos", diagonal=not alone)


def _axis(image: Tensor) -> Axis:
    return Axis([str(place) for place in range(len(image))], image[..., :3])


def _report_lines(data: dict) -> list[str]:
    lines = []
    if "texts" in data:
        columns = data["texts"]["columns"]
        lines += [
            f"#{place}: {'none' if best is None else f'{best} ({row[columns.index(best)]:.3f})'}"
            for place, best, row in _first_rows(data["texts"])
        ]
    if "images" in data:
        of = "" if data["images"]["of"] == "the same batch" else " of image_b"
        lines += [
            f"#{place}: nearest is {'none' if best is None else f'#{best}{of} ({row[best]:.3f})'}"
            for place, best, row in _first_rows(data["images"])
        ]
    return lines + ([f"and {data['pictures'] - 16} more pictures"] if data["pictures"] > 16 else []) + data["notes"]


def _first_rows(block: dict) -> list[tuple]:
    """Number, best match and cosines of the first 16 pictures."""
    return list(zip(range(16), block["best_for_images"], block["cosine"]))


def _short_report(data: dict) -> dict:
    """The data without large matrices, which are in the output."""
    short = dict(data)
    for block in ("texts", "images"):
        if block in data and sum(map(len, data[block]["cosine"])) > SHOWN_CELLS:
            short[block] = {key: value for key, value in data[block].items() if key not in ("cosine", "probabilities")}
            short[block]["cosine"] = f"more than {SHOWN_CELLS} numbers: they are in the output matrix"
    return short


NODES = {"CVL_ImageTextSimilarity": (ImageTextSimilarity, "Image-Text Similarity (CVL)")}
