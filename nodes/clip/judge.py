"""CLIP as a judge: pictures in the order of a prompt, the best of them, their latents, and a gate."""

from __future__ import annotations

import json
import re
from typing import NamedTuple

from ...clip_core.judging import ranking
from ...drawing.rank_sheet import rank_sheet
from ...vae_core import batches
from ..checks import check_latent
from ..host import host
from ..reports import as_json, shown
from .precision import EXACT, WIDGET
from .scores import BATCH, CLIP, MODEL, NEGATIVES, NO_THRESHOLD, SCORE, number, scores

KEEP_BEST, STOP, NOTHING = "keep the best one", "stop with an error", "pass nothing on"
SAY_WHY, SILENT = "say why", "stay silent"
_PROMPT = {"multiline": True, "default": "a photo of a red circle"}


class Selection(NamedTuple):
    """Places of pictures in a batch of `count`: what travels on a CVL_SELECTION wire."""

    places: tuple[int, ...]
    count: int


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
                "prompt": ("STRING", {**_PROMPT, "tooltip": "What the pictures should show, in one sentence."}),
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

    def rank(self, clip_model, image, prompt, negative="", score=ranking.COSINE, keep=0, threshold=NO_THRESHOLD,
             when_none_pass=KEEP_BEST, clip=None, precision=EXACT):  # fmt: skip
        values, data, notes = scores(clip_model, clip, image, prompt, negative, score, precision)
        found = ranking.rank(values, keep=keep, threshold=threshold, never_none=when_none_pass == KEEP_BEST)
        none = f"no picture reaches the threshold {threshold:g}: the best one has {max(_sound(values)):.4f}"
        if found.fell_back:
            notes.append(f"{none}; it is kept all the same")
        if not found.kept and when_none_pass == STOP:
            raise ValueError(f"{none}; lower the threshold, or choose another answer at when_none_pass")
        if keep > len(image):
            notes.append(f"{keep} were to be kept, and there are {len(image)} pictures")
        data |= {"keep": keep, "threshold": threshold, "kept": list(found.kept), "notes": notes}
        data["pictures"] = [{"index": place, "rank": rank, "score": number(values[place])}
                            for rank, place in enumerate(found.order, 1)]  # fmt: skip
        lines = [f"{len(found.kept)} of {len(image)} pictures kept", *_ranks(found.order, values), *notes]
        title = f"{len(found.kept)} of {len(image)} kept for: {data['prompt']}"
        sheet = rank_sheet(image, found.order, values, found.kept, title)
        kept = list(found.kept)
        results = (
            image[kept], Selection(found.kept, len(image)), ",".join(map(str, kept)),
            json.dumps([number(values[place]) for place in kept]), kept, [values[place] for place in kept],
        ) if kept else (host.absent(f"Rank Images (CVL) passed nothing on: {none}"),) * 6  # fmt: skip
        return shown(lines, data, (*results, sheet, as_json(data)), host.save_preview(sheet, "cvl_ranks"))


class SelectLatents:
    CATEGORY = "CVL/judge"
    DESCRIPTION = (
        "Takes the latents of the pictures that Rank Images or Image Gate chose, in that order, with their noise masks "
        "and noise numbers: so the best pictures can be sampled on."
    )
    SEARCH_ALIASES = ["latent from batch", "pick latents", "index latent batch"]
    RETURN_TYPES = ("LATENT", "STRING")
    RETURN_NAMES = ("latent", "report")
    OUTPUT_TOOLTIPS = (
        "The chosen latents. Their batch_index keeps the number that each had, and so its noise.",
        "Which ones, and which entries of the LATENT were chosen from, as JSON.",
    )
    FUNCTION = "select"
    OUTPUT_NODE = True  # queued alone it runs, and shows its report

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
        check_latent(samples, None)
        count = batches.batch_size(samples["samples"])
        places = _places(indices, selection, count)
        found = batches.choose(samples, places)
        data = {"indices": list(places), "of": count, "entries": list(found.entries), "passed_on": list(found.whole)}
        lines = [f"latents {', '.join(map(str, places))} of {count}, with {', '.join(found.entries)}"]
        return shown(lines, data, (found.latent, as_json(data)))


class ImageGate:
    CATEGORY = "CVL/judge"
    DESCRIPTION = (
        "Sends every picture of a batch one of two ways: those that fit the prompt well enough to passed, the others "
        "to rejected. What follows a side without pictures does not run."
    )
    SEARCH_ALIASES = ["filter images", "switch", "route", "quality gate", "CLIP threshold"]
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
                "prompt": ("STRING", {**_PROMPT, "tooltip": "What a picture has to show to pass, in one sentence."}),
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
                        "tooltip": "What the first node after a side without pictures does instead of running: it says "
                        "why (ComfyUI shows that as an error, and goes on), or nothing."
                    },
                ),
                "clip": CLIP,
                "precision": WIDGET,
            },
        }

    def route(self, clip_model, image, prompt, threshold, negative="", score=ranking.COSINE, empty_side=SAY_WHY,
              clip=None, precision=EXACT):  # fmt: skip
        values, data, notes = scores(clip_model, clip, image, prompt, negative, score, precision)
        passed = sorted(ranking.rank(values, threshold=threshold).kept)
        rejected = [place for place in range(len(image)) if place not in set(passed)]
        data |= {"threshold": threshold, "passed": passed, "rejected": rejected,
                 "scores": [number(value) for value in values], "notes": notes}  # fmt: skip
        span = f"scores from {min(_sound(values)):.4f} to {max(_sound(values)):.4f}, threshold {threshold:g}"
        lines = [f"{len(passed)} of {len(image)} pictures passed; {span}", *_ranks(range(len(image)), values), *notes]

        def side(places: list[int], name: str) -> tuple:
            if places:
                return image[places], Selection(tuple(places), len(image))
            why = f"Image Gate (CVL) sent no picture to {name}: {span}"
            return (host.absent(why) if empty_side == SAY_WHY else host.absent(None),) * 2

        (good, good_places), (bad, bad_places) = side(passed, "passed"), side(rejected, "rejected")
        return shown(lines, data, (good, bad, good_places, bad_places, as_json(data)))


def _sound(values: list[float]) -> list[float]:
    return [value for value in values if value == value]


def _ranks(order, values: list[float], most: int = 16) -> list[str]:
    lines = [f"#{place}: {'no score' if values[place] != values[place] else f'{values[place]:.4f}'}" for place in order]
    return lines[:most] + ([f"and {len(lines) - most} more"] if len(lines) > most else [])


def _places(indices: str, selection: Selection | None, count: int) -> tuple[int, ...]:
    """The places asked for, one way or the other.

    Raises:
        ValueError: neither way or both, no whole numbers, or a selection from another number of pictures.
    """
    text = indices.strip().strip("[]()")
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
    "CVL_RankImages": (RankImages, "Rank Images (CVL)"),
    "CVL_SelectLatents": (SelectLatents, "Select Latents (CVL)"),
    "CVL_ImageGate": (ImageGate, "Image Gate (CVL)"),
}
