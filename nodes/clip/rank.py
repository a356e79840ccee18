"""Pictures ranked by how well they fit a prompt."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...clip_core.judging import ranking
from ...drawing.rank_sheet import rank_sheet
from ..galleries import Card, card, picked_places, with_gallery
from ..host import host
from ..reports import as_json, shown
from .ground import GROUND, WHITE
from .learned import HEAD
from .precision import EXACT, WIDGET
from .scores import BATCH, CLIP, MODEL, NEGATIVES, NO_THRESHOLD, SCORE, number, score_pictures
from .selection import PROMPT, PictureSelection, ranks, sound

if TYPE_CHECKING:
    from ..host.interface import Tensor

MOST_SHOWN = 64  # pictures in the gallery
KEEP_BEST, STOP, NOTHING = "keep the best one", "stop with an error", "pass nothing on"


class RankImages:
    CATEGORY = "CVL/judge"
    DESCRIPTION = (
        "Sorts a batch of pictures by how well they fit a prompt (and do not fit negative prompts), and keeps the best "
        "few, or those over a threshold: make eight, keep the best two."
    )
    SEARCH_ALIASES = [
        "CLIP score",
        "best of n",
        "best image",
        "pick image",
        "image picker",
        "choose image",
        "sort images",
        "filter images",
        "image judge",
        "aesthetic",
    ]
    RETURN_TYPES = ("IMAGE", "CVL_SELECTION", "STRING", "STRING", "INT", "FLOAT", "IMAGE", "STRING")
    RETURN_NAMES = ("images", "selection", "indices", "scores", "index_list", "score_list", "ranks", "report")
    OUTPUT_IS_LIST = (False, False, False, False, True, True, False, False)
    OUTPUT_TOOLTIPS = (
        "The pictures that were kept, the best first.",
        "Their places in the batch, for Select Latents.",
        "The same as text, such as 3,0; counted from 0.",
        "Their scores as a JSON list.",
        "The places as a list of numbers: a stock node such as Latent From Batch runs once for each.",
        "The scores as a list of numbers.",
        "All pictures in their order with ranks and scores; those kept are framed.",
        "Every picture's score and rank, as JSON.",
    )
    FUNCTION = "rank"
    OUTPUT_NODE = True  # queued alone it runs, and shows the ranks

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "clip_model": MODEL,
                "image": BATCH,
                "prompt": ("STRING", {**PROMPT, "tooltip": "What the pictures should show, in one sentence."}),
            },
            "optional": {
                "negative": NEGATIVES,
                "score": SCORE,
                "keep": (
                    "INT",
                    {
                        "default": 0,
                        "min": 0,
                        "max": 4096,
                        "display_name": "keep (0: all)",
                        "tooltip": "How many pictures to keep; 0: all that pass.",
                    },
                ),
                "threshold": (
                    "FLOAT",
                    {
                        "default": NO_THRESHOLD,
                        "display_name": "threshold (-2: off)",
                        "min": -2.0,
                        "max": 2.0,
                        "step": 0.005,
                        "tooltip": "The least score that passes. -2: every picture passes. Cosines of published CLIPs "
                        "are mostly between 0.15 and 0.35.",
                    },
                ),
                "when_none_pass": (
                    [KEEP_BEST, STOP, NOTHING],
                    {
                        "advanced": True,
                        "tooltip": "No picture reaches the threshold. pass nothing on: what comes after this node does "
                        "not run.",
                    },
                ),
                "clip": CLIP,
                "precision": WIDGET,
                "picked": (
                    "STRING",
                    {
                        "default": "",
                        "advanced": True,
                        "tooltip": "Picked by hand, with a click in the gallery on this node: places in the batch "
                        "from 0 on, such as 3,0. Empty: by score.",
                    },
                ),
                "ground": GROUND,
                "head": HEAD,
            },
        }

    def rank(
        self,
        clip_model,
        image,
        prompt,
        negative="",
        score=ranking.COSINE,
        keep=0,
        threshold=NO_THRESHOLD,
        when_none_pass=KEEP_BEST,
        clip=None,
        precision=EXACT,
        picked="",
        ground=WHITE,
        head=None,
    ):
        values, data, notes = score_pictures(clip_model, clip, image, prompt, negative, score, precision, ground, head)
        found = ranking.rank(values, keep=keep, threshold=threshold, never_none=when_none_pass == KEEP_BEST)
        by_hand = picked_places(picked, len(image))
        kept = by_hand or list(found.kept)
        none = f"no picture reaches the threshold {threshold:g}: the best one has {max(sound(values)):.4f}"
        if found.fell_back and not by_hand:
            notes.append(f"{none}; it is kept all the same")
        if not kept and when_none_pass == STOP:
            raise ValueError(f"{none}; lower the threshold, or choose another answer at when_none_pass")
        if keep > len(image) and not by_hand:
            notes.append(f"{keep} were to be kept, and there are {len(image)} pictures")
        data |= {"keep": keep, "threshold": threshold, "kept": kept, "picked_by_hand": by_hand, "notes": notes}
        data["pictures"] = [
            {"index": place, "rank": rank, "score": number(values[place])} for rank, place in enumerate(found.order, 1)
        ]
        how = "picked by hand" if by_hand else "kept"
        lines = [_kept_line(kept, len(image), how), *notes, *ranks(found.order, values)]
        title = f"{len(kept)} / {len(image)}: {data['prompt']}"
        sheet = rank_sheet(image, found.order, values, kept, title)
        results = (
            (
                image[kept],
                PictureSelection(tuple(kept), len(image)),
                ",".join(map(str, kept)),
                json.dumps([number(values[place]) for place in kept]),
                kept,
                [values[place] for place in kept],
            )
            if kept
            else (host.absent(f"Rank Images (CVL) passed nothing on: {none}"),) * 6
        )
        answer = shown(lines, data, (*results, sheet, as_json(data)))
        return with_gallery(answer, [("", _cards(image, found.order, values, kept))])


def _kept_line(kept: list[int], count: int, how: str) -> str:
    places = ", ".join(f"#{place}" for place in kept[:8]) + (", ..." if len(kept) > 8 else "")
    return f"{len(kept)} of {count} pictures {how}" + (f": {places}" if kept else "")


def _cards(image: Tensor, order: Sequence[int], values: list[float], kept: list[int]) -> list[Card]:
    """Save the pictures, the best first, for the gallery; at most MOST_SHOWN, and all that are kept."""
    places = [place for rank, place in enumerate(order) if rank < MOST_SHOWN or place in kept]
    files = host.save_preview(image[places][..., :3].nan_to_num(), "cvl_ranks")
    cards = []
    for rank, (place, file) in enumerate(zip(places, files), 1):
        score = "no score" if values[place] != values[place] else f"{values[place]:.3f}"
        cards += card(file, f"#{place}", key=place, score=score, label=f"{rank}. #{place}", kept=place in kept)
    return cards


NODES = {
    "CVL_RankImages": (RankImages, "Rank Images (CVL)"),
}
