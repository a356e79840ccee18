"""Zero-Shot Classify: the user's label that fits a picture best, without training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...clip_core.judging import zero_shot
from ...clip_core.judging.templates import SETS
from ...drawing.bar_chart import bar_charts
from ...drawing.label_table import label_table
from ..host import host
from ..reports import as_json, shown
from . import features
from .ground import GROUND, WHITE, on_ground
from .learned import HEAD, NOT_USED, labels_for, learned_facts
from .precision import EXACT, WIDGET, measure_precision, measure_with_label

if TYPE_CHECKING:
    from ..host.interface import Looking, Tensor

LABELS = "\n".join(
    f"{colour} {shape}"
    for colour in ("red", "green", "blue", "yellow", "purple")
    for shape in ("circle", "square", "triangle", "star")
)
LISTED, LISTED_OF_ONE = 20_000, 1000  # labels that the JSON lists: of all pictures together, of each
MOST_TEMPLATES_SHOWN = 100
_ONE_BY_ONE = "a SigLIP judges each label by itself: the probabilities do not share 100 %, and all of them can be low"


class ZeroShotClassify:
    CATEGORY = "CVL/CLIP"
    DESCRIPTION = (
        "Says which of your labels fits a picture best, without training: each label is put into sentences, encoded, "
        "and compared with the picture. Takes synonyms, sets of templates, and a threshold for none of these. Gives "
        "probabilities, a chart and a table."
    )
    SEARCH_ALIASES = [
        "classify",
        "what is it",
        "clip score",
        "label image",
        "image recognition",
        "zero shot",
        "tag image",
    ]
    RETURN_TYPES = ("STRING", "STRING", "IMAGE", "IMAGE", "STRING", "FLOAT")
    RETURN_NAMES = ("best_label", "probabilities", "chart", "table", "top_labels", "margin")
    OUTPUT_TOOLTIPS = (
        "The most probable label, or none of these; one line for each picture of a batch.",
        "Every label's probability and cosine for every picture, as JSON.",
        "A bar chart for each picture.",
        "One picture for the whole batch: each picture beside its best labels.",
        "The best labels of each picture, as many as top_k, with commas; one line for each picture.",
        "By how much the most probable label leads, 0 to 1; of a batch the smallest lead.",
    )
    FUNCTION = "classify"
    OUTPUT_NODE = True  # queued alone it runs, and shows its report

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "clip_model": (
                    features.MODEL_TYPES,
                    {"tooltip": "Both encoders, from Load CLIP Model; or a CLIP_VISION, with its CLIP at `clip`."},
                ),
                "image": (
                    "IMAGE",
                    {"tooltip": "One picture or a batch of any size; each is scaled, then cut to a centred square."},
                ),
                "labels": (
                    "STRING",
                    {
                        "multiline": True,
                        "default": LABELS,
                        "tooltip": "What it may show: one label a line, or one line with commas. Synonyms behind |: "
                        "cat | kitten. A template of its own behind =>: crane => a photo of a {label}, a bird",
                    },
                ),
                "template": (
                    "STRING",
                    {
                        "default": "a photo of a {label}",
                        "tooltip": "The sentence that each label is put into, at {label} or at {}. May be empty where "
                        "other templates are given.",
                    },
                ),
            },
            "optional": _optional_inputs(),
        }

    def classify(
        self,
        clip_model,
        image,
        labels,
        template,
        template_set="none",
        more_templates="",
        top_k=5,
        scale=0.0,
        none_below=0.0,
        none_by="cosine",
        clip=None,
        precision=EXACT,
        ground=WHITE,
        head=None,
    ):
        if head is not None:
            return _by_learned(head, clip_model, image, top_k, (none_below, none_by), precision, ground)
        found, notes = zero_shot.parse_labels(labels)
        sentences = zero_shot.templates_for(found, template, template_set, more_templates)
        laid = on_ground(image, ground)
        pictures = features.encode_pictures(clip_model, laid.image, host.progress(len(image)), precision)
        classes, said = features.encode_labels(clip_model, clip, found, sentences, precision)
        logits, why = features.logits_and_note(clip_model, scale)
        factor, bias = logits.scale, logits.bias
        names, limit = [label.name for label in found], {"none_below": none_below, "none_by": none_by}
        answer = zero_shot.classify(pictures, classes, names, factor, bias=bias, **limit)
        if bias is not None:
            notes = [_ONE_BY_ONE, *(note for note in notes if note != zero_shot.ONLY_ONE)]
        moved, changed = measure_with_label(
            precision, clip_model, clip, laid.image, pictures, found[0].sentences(sentences)[0]
        )
        notes = [*laid.notes, *notes, *said, *why, *changed]
        data = {
            "template": template,
            "templates": sentences[:MOST_TEMPLATES_SHOWN],
            "template_count": len(sentences),
            "scale": factor,
            **({} if bias is None else {"bias": round(bias, 4)}),
            "none_below": none_below,
            "none_by": none_by,
            **laid.data,
            **_labels(found, len(image), top_k, notes),
            "notes": notes,
            "pictures": _pictures(answer, top_k),
            **moved,
        }
        return _shown(data, answer, laid.image, top_k)


def _optional_inputs() -> dict[str, tuple]:
    return {
        "template_set": (
            list(SETS),
            {
                "default": "none",
                "tooltip": "Sentences to be used besides the template, their features averaged: those that "
                "OpenAI chose for photographs. More of them are surer and take longer.",
            },
        ),
        "more_templates": (
            "STRING",
            {
                **{"multiline": True, "default": "", "advanced": True},
                "tooltip": "Your own sentences besides, one a line.",
            },
        ),
        "top_k": (
            "INT",
            {"default": 5, "min": 1, "max": 100, "tooltip": "How many of the best labels to name."},
        ),
        "scale": (
            "FLOAT",
            {
                "default": 0.0,
                "advanced": True,
                "display_name": "scale (0: the model's own)",
                "min": 0.0,
                "max": 10_000.0,
                "step": 0.1,
                "tooltip": "What cosines are multiplied with before the softmax (1 / temperature): more is "
                "more decided. 0: what the model learned, about 100.",
            },
        ),
        "none_below": (
            "FLOAT",
            {
                "default": 0.0,
                "display_name": "none_below (0: off)",
                "min": 0.0,
                "max": 1.0,
                "step": 0.01,
                "tooltip": "A picture whose best label stays under this is none of these. 0: off. Published "
                "CLIPs have cosines of about 0.2 to 0.35 where a label fits.",
            },
        ),
        "none_by": (
            ["cosine", "probability"],
            {
                "advanced": True,
                "tooltip": "What that threshold is held against. The cosine does not know of the other labels; "
                "probabilities share 100 % even where no label fits.",
            },
        ),
        "clip": ("CLIP", {"tooltip": "The text encoder that belongs to a CLIP_VISION. Not needed otherwise."}),
        "precision": WIDGET,
        "ground": GROUND,
        "head": HEAD,
    }


def _by_learned(
    head, clip_model: Looking, image: Tensor, top_k: int, limit: tuple[float, str], precision: str, ground: str
) -> dict:
    """The node's answer by learned labels; the cosines are those with each class's labelled pictures."""
    learned, laid = labels_for(head, clip_model), on_ground(image, ground)
    pictures = features.encode_pictures(clip_model, laid.image, host.progress(len(image)), precision)
    answer = zero_shot.classified(learned.probabilities(pictures), learned.cosines(pictures), learned.classes, *limit)
    moved, changed = measure_precision(precision, clip_model, image=laid.image, picture_features=pictures)
    notes = [*laid.notes, NOT_USED, *changed]
    found = [zero_shot.Label((name,)) for name in learned.classes]
    data = {
        **learned_facts(learned),
        "none_below": limit[0],
        "none_by": limit[1],
        **laid.data,
        **_labels(found, len(image), top_k, notes),
        "notes": notes,
        "pictures": _pictures(answer, top_k),
        **moved,
    }
    return _shown(data, answer, laid.image, top_k)


def _labels(labels: Sequence[zero_shot.Label], pictures: int, top_k: int, notes: list[str]) -> dict:
    """The labels for the report's data. If they are too many, the first ones, with a note."""
    most = _listed(len(labels), pictures, top_k)
    if most < len(labels):
        notes.append(f"{len(labels)} labels: the JSON lists the best {most} of each picture")
    words = {label.name: list(label.words) for label in labels[:most] if len(label.words) > 1}
    own = {label.name: list(label.templates) for label in labels[:most] if label.templates}
    return {
        "labels": [label.name for label in labels[:most]],
        "label_count": len(labels),
        "synonyms": words,
        "own_templates": own,
    }


def _listed(labels: int, pictures: int, top_k: int) -> int:
    """The number of labels that the JSON lists for each picture."""
    return min(labels, LISTED_OF_ONE, max(top_k, LISTED // pictures))


def _pictures(answer: zero_shot.Classification, top_k: int) -> list[dict]:
    rows = range(len(answer.probabilities))
    most = _listed(len(answer.labels), len(rows), top_k)
    return [_picture(answer, row, top_k, most) for row in rows]


def _picture(answer: zero_shot.Classification, row: int, top_k: int, most: int) -> dict:
    ranked = [(label, round(share, 6), round(cosine, 6)) for label, share, cosine in answer.ranked(row, most)]
    return {
        "best": answer.best(row),
        "margin": round(answer.margin(row), 6),
        "none_of_these": answer.none_of_these[row],
        "top": [{"label": label, "probability": share, "cosine": cosine} for label, share, cosine in ranked[:top_k]],
        "probabilities": {label: share for label, share, _ in ranked},
        "cosine": {label: cosine for label, _, cosine in ranked},
    }


def _title(picture: dict) -> str:
    """A line about a picture: its label, and how sure it is."""
    first, best = picture["top"][0], picture["best"]
    sure = f"{first['probability']:.1%}, cosine {first['cosine']:.3f}, leads by {picture['margin']:.1%}"
    return f"{best} (nearest: {first['label']}, {sure})" if picture["none_of_these"] else f"{best}: {sure}"


def _heading(picture: dict) -> str:
    """The same in numbers alone, over a drawn picture, which no front end puts into another language."""
    first = picture["top"][0]
    sure = f"{first['probability']:.1%}, cos {first['cosine']:.3f}, +{picture['margin']:.1%}"
    return f"- ({first['label']}: {sure})" if picture["none_of_these"] else f"{picture['best']}: {sure}"


def _shown(data: dict, answer: zero_shot.Classification, image: Tensor, top_k: int) -> dict:
    pictures = data["pictures"]
    unlisted = data["label_count"] - len(data["labels"])
    charts = bar_charts([(_heading(picture), picture["probabilities"]) for picture in pictures], image, more=unlisted)
    tops = [[(entry["label"], entry["probability"]) for entry in picture["top"]] for picture in pictures]
    table = label_table(image, tops, [_heading(picture) for picture in pictures])
    best = "\n".join(picture["best"] for picture in pictures)
    named = "\n".join(", ".join(label for label, _ in top) for top in tops)
    margin = min(picture["margin"] for picture in pictures)
    lines = [_title(picture) for picture in pictures]
    if len(pictures) == 1:
        lines += [f"{place}. {label}: {share:.1%}" for place, (label, share) in enumerate(tops[0], 1)]
    lines += data["notes"]
    previews = host.save_preview(charts, "cvl_classify")
    return shown(lines, data, (best, as_json(data), charts, table, named, margin), previews)


NODES = {"CVL_ZeroShotClassify": (ZeroShotClassify, "Zero-Shot Classify (CVL)")}
