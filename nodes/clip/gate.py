"""Image Gate: pictures that fit a prompt well enough go one way, the others another."""

from __future__ import annotations

from ...clip_core.judging import ranking
from ..host import host
from ..reports import as_json, shown
from .ground import GROUND, WHITE
from .learned import HEAD
from .precision import EXACT, WIDGET
from .scores import BATCH, CLIP, MODEL, NEGATIVES, SCORE, number, score_pictures
from .selection import PROMPT, PictureSelection, ranks, sound

SAY_WHY, SILENT = "say why", "stay silent"


class ImageGate:
    CATEGORY = "CVL/judge"
    DESCRIPTION = (
        "Sends every picture of a batch one of two ways: those that fit the prompt well enough to passed, the others "
        "to rejected. What follows a side without pictures does not run."
    )
    SEARCH_ALIASES = [
        "filter images",
        "switch",
        "route",
        "quality gate",
        "reject bad images",
        "aesthetic",
        "CLIP threshold",
    ]
    RETURN_TYPES = ("IMAGE", "IMAGE", "CVL_SELECTION", "CVL_SELECTION", "STRING")
    RETURN_NAMES = ("passed", "rejected", "passed_selection", "rejected_selection", "report")
    OUTPUT_TOOLTIPS = (
        "The pictures with at least the threshold, in the order of the batch.",
        "The others, and those that could not be judged.",
        "The places of those that passed, for Select Latents.",
        "The places of the others.",
        "Every picture's score and way, as JSON.",
    )
    FUNCTION = "route"
    OUTPUT_NODE = True  # queued alone it runs, and shows the scores

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "clip_model": MODEL,
                "image": BATCH,
                "prompt": ("STRING", {**PROMPT, "tooltip": "What a picture has to show to pass, in one sentence."}),
                "threshold": (
                    "FLOAT",
                    {
                        "default": 0.25,
                        "min": -2.0,
                        "max": 2.0,
                        "step": 0.005,
                        "tooltip": "The least score that passes. Cosines of published CLIPs are mostly between 0.15 "
                        "and 0.35.",
                    },
                ),
            },
            "optional": {
                "negative": NEGATIVES,
                "score": SCORE,
                "empty_side": (
                    [SAY_WHY, SILENT],
                    {
                        "advanced": True,
                        "tooltip": "What the first node after a side without pictures does instead of running: it says "
                        "why (ComfyUI shows that as an error, and goes on), or nothing.",
                    },
                ),
                "clip": CLIP,
                "precision": WIDGET,
                "ground": GROUND,
                "head": HEAD,
            },
        }

    def route(
        self,
        clip_model,
        image,
        prompt,
        threshold,
        negative="",
        score=ranking.COSINE,
        empty_side=SAY_WHY,
        clip=None,
        precision=EXACT,
        ground=WHITE,
        head=None,
    ):
        values, data, notes = score_pictures(clip_model, clip, image, prompt, negative, score, precision, ground, head)
        passed = sorted(ranking.rank(values, threshold=threshold).kept)
        rejected = [place for place in range(len(image)) if place not in set(passed)]
        data |= {
            "threshold": threshold,
            "passed": passed,
            "rejected": rejected,
            "scores": [number(value) for value in values],
            "notes": notes,
        }
        span = f"scores from {min(sound(values)):.4f} to {max(sound(values)):.4f}, threshold {threshold:g}"
        lines = [f"{len(passed)} of {len(image)} pictures passed; {span}", *ranks(range(len(image)), values), *notes]

        def side(places: list[int], name: str) -> tuple:
            if places:
                return image[places], PictureSelection(tuple(places), len(image))
            why = f"Image Gate (CVL) sent no picture to {name}: {span}"
            return (host.absent(why) if empty_side == SAY_WHY else host.absent(None),) * 2

        (good, good_places), (bad, bad_places) = side(passed, "passed"), side(rejected, "rejected")
        return shown(lines, data, (good, bad, good_places, bad_places, as_json(data)))


NODES = {
    "CVL_ImageGate": (ImageGate, "Image Gate (CVL)"),
}
