"""Pictures ranked by how well they fit a prompt."""

from __future__ import annotations

import json

from ...clip_core.judging import ranking
from ...drawing.rank_sheet import rank_sheet
from ..host import host
from ..reports import as_json, shown
from .precision import EXACT, WIDGET
from .scores import BATCH, CLIP, MODEL, NEGATIVES, NO_THRESHOLD, SCORE, number, score_pictures
from .selection import PROMPT, PictureSelection, ranks, sound

KEEP_BEST, STOP, NOTHING = "keep the best one", "stop with an error", "pass nothing on"


class RankImages:
    CATEGORY = "CVL/judge"
    DESCRIPTION = (
        "Sorts a batch of pictures by how well they fit a prompt (and do not fit negative prompts), and keeps the best "
        "few, or those over a threshold: make eight, keep the best two."
    )
    SEARCH_ALIASES = ["CLIP score", "best of", "sort images", "pick best", "filter images", "image judge"]
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
                    {"default": 0, "min": 0, "max": 4096, "tooltip": "How many pictures to keep; 0: all that pass."},
                ),
                "threshold": (
                    "FLOAT",
                    {
                        "default": NO_THRESHOLD,
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
                        "tooltip": "No picture reaches the threshold. pass nothing on: what comes after this node does "
                        "not run."
                    },
                ),
                "clip": CLIP,
                "precision": WIDGET,
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
    ):
        values, data, notes = score_pictures(clip_model, clip, image, prompt, negative, score, precision)
        found = ranking.rank(values, keep=keep, threshold=threshold, never_none=when_none_pass == KEEP_BEST)
        none = f"no picture reaches the threshold {threshold:g}: the best one has {max(sound(values)):.4f}"
        if found.fell_back:
            notes.append(f"{none}; it is kept all the same")
        if not found.kept and when_none_pass == STOP:
            raise ValueError(f"{none}; lower the threshold, or choose another answer at when_none_pass")
        if keep > len(image):
            notes.append(f"{keep} were to be kept, and there are {len(image)} pictures")
        data |= {"keep": keep, "threshold": threshold, "kept": list(found.kept), "notes": notes}
        data["pictures"] = [
            {"index": place, "rank": rank, "score": number(values[place])} for rank, place in enumerate(found.order, 1)
        ]
        lines = [f"{len(found.kept)} of {len(image)} pictures kept", *ranks(found.order, values), *notes]
        title = f"{len(found.kept)} of {len(image)} kept for: {data['prompt']}"
        sheet = rank_sheet(image, found.order, values, found.kept, title)
        kept = list(found.kept)
        results = (
            (
                image[kept],
                PictureSelection(found.kept, len(image)),
                ",".join(map(str, kept)),
                json.dumps([number(values[place]) for place in kept]),
                kept,
                [values[place] for place in kept],
            )
            if kept
            else (host.absent(f"Rank Images (CVL) passed nothing on: {none}"),) * 6
        )
        return shown(lines, data, (*results, sheet, as_json(data)), host.save_preview(sheet, "cvl_ranks"))


NODES = {
    "CVL_RankImages": (RankImages, "Rank Images (CVL)"),
}
