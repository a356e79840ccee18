"""Learn Labels: classes learned from a few labelled pictures of an index, and from all the others."""

from __future__ import annotations

from functools import partial

from ...clip_core.few_labels.asking import WAYS as WAYS_TO_ASK
from ...clip_core.few_labels.learning import AUTO, Wish
from ...clip_core.few_labels.methods import METHODS
from ...drawing.contact_sheet import blank_sheet, contact_sheet
from ..clip import features
from ..clip.precision import EXACT, WIDGET
from ..galleries import Card, card, with_gallery
from ..host import host
from ..host.interface import CLIP, Looking
from ..reports import as_json, shown
from ..search import found, indexing
from .head_file import SUFFIX, write_labels
from .learning import TEMPLATE, Lesson, Settings, learn_index
from .report import report_of
from .writing import WAYS, answers_json, write_answers

_OPTIONAL = {
    "labelled": (
        "STRING",
        {
            "default": "",
            "tooltip": "The folder below the index's whose folders are the classes. Empty: the index's own.",
        },
    ),
    "picks": (
        "STRING",
        {
            "multiline": True,
            "default": "",
            "tooltip": "Pictures labelled by hand: a line `picture = class` for each, or JSON such as the node "
            "gives at answers.",
        },
    ),
    "template": (
        "STRING",
        {
            "default": TEMPLATE,
            "tooltip": "The sentence that a class is put into, at {label}: what CLIP knows of it helps. Empty: "
            "learned from pictures alone.",
        },
    ),
    "method": (
        [AUTO, *METHODS],
        {
            "tooltip": "How to learn. auto: what does best in cross-validation on your labels; the held-out ones "
            "decide nothing."
        },
    ),
    "held_out": (
        "FLOAT",
        {
            "default": 0.2,
            "min": 0.0,
            "max": 0.9,
            "step": 0.05,
            "tooltip": "The share of each class's labels that only say how good the result is. 0: all are learned "
            "from.",
        },
    ),
    "threshold": (
        "FLOAT",
        {
            "default": 0.8,
            "min": 0.0,
            "max": 1.0,
            "step": 0.01,
            "tooltip": "The probability from which a label counts as sure, and is written.",
        },
    ),
    "ask": ("INT", {"default": 12, "min": 0, "max": 256, "tooltip": "How many pictures to label next are shown."}),
    "ask_by": (
        list(WAYS_TO_ASK),
        {
            "advanced": True,
            "tooltip": "Which pictures are asked for. margin: two classes are equally likely. entropy: all are.",
        },
    ),
    "write": (
        list(WAYS),
        {
            "tooltip": "What is written into the output folder of what is sure: JSON, copies of the pictures in a "
            "folder for each class, or copies with the class as a text beside each."
        },
    ),
    "filename_prefix": (
        "STRING",
        {"default": "labels/learned", "tooltip": "Where the learned labels and what is written are saved."},
    ),
    "seed": (
        "INT",
        {
            "default": 0,
            "min": 0,
            "max": 0xFFFFFFFFFFFFFFFF,
            "control_after_generate": False,
            "advanced": True,
            "tooltip": "Which labels are held out, and how cross-validation parts the others.",
        },
    ),
    "clip": ("CLIP", {"tooltip": "With a CLIP_VISION: the CLIP whose text encoder belongs to it."}),
    "precision": WIDGET,
}


class LearnLabels:
    CATEGORY = "CVL/search"
    DESCRIPTION = (
        "Learns your own labels from a few labelled pictures of an index and from all its others without a label. Says "
        "how good they are on labels held out, shows which pictures to label next, and gives the labels to Zero-Shot "
        "Classify, Rank Tags, Rank Images and Image Gate."
    )
    SEARCH_ALIASES = [
        "few shot",
        "train classifier",
        "label pictures",
        "label propagation",
        "semi-supervised",
        "tip adapter",
        "linear probe",
        "active learning",
        "sort pictures",
        "custom tagger",
    ]
    RETURN_TYPES = ("CVL_LABELS", "STRING", "STRING", "IMAGE", "STRING", "STRING")
    RETURN_NAMES = ("labels", "answers", "names", "sheet", "path", "report")
    OUTPUT_TOOLTIPS = (
        "The learned labels, for Zero-Shot Classify, Rank Tags, Rank Images and Image Gate.",
        "The label of every picture that has one or is sure of one, as JSON; `picks` takes it again.",
        "The names of the pictures to label next, one a line, as Load Image takes them.",
        "A contact sheet of the pictures to label next.",
        "Where the learned labels were saved, for Load Labels.",
        "The method, accuracy with its interval, calibration, coverage and agreement, as JSON.",
    )
    FUNCTION = "learn"
    OUTPUT_NODE = True  # queued alone it runs, and shows its report

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "clip_model": (features.MODEL_TYPES, {"tooltip": "The model that the index was made with."}),
                "index": found.INDEX,
                "classes": (
                    "STRING",
                    {
                        "multiline": True,
                        "default": "",
                        "tooltip": "One a line; the folder of that name has its labelled pictures. Synonyms behind |: "
                        "cat | kitten, templates behind =>. Empty: each folder is a class.",
                    },
                ),
            },
            "optional": dict(_OPTIONAL),
        }

    @classmethod
    def IS_CHANGED(cls, index: str | None = "", **_) -> str:
        return indexing.results_fingerprint(index)

    def learn(
        self,
        clip_model: Looking,
        index: str,
        classes: str,
        labelled: str = "",
        picks: str = "",
        template: str = TEMPLATE,
        method: str = AUTO,
        held_out: float = 0.2,
        threshold: float = 0.8,
        ask: int = 12,
        ask_by: str = WAYS_TO_ASK[0],
        write: str = WAYS[0],
        filename_prefix: str = "labels/learned",
        seed: int = 0,
        clip: CLIP | None = None,
        precision: str = EXACT,
    ) -> dict:
        wish = Wish(method, held_out, threshold, seed)
        settings = Settings(classes, labelled, picks, template, wish, ask, ask_by, precision)
        opened = found.open_named(index)
        differing = indexing.check_and_note(opened, clip_model, precision)
        places = host.data_places()
        lesson = learn_index(
            opened, lambda path: places.name_of(path) or path.name, clip_model, clip, settings, host.progress(1)
        )
        path = host.output_path(filename_prefix, SUFFIX)
        written, lost = write_answers(lesson, write, partial(host.output_path, filename_prefix), host.progress(1))
        write_labels(path, lesson.labels)
        lines, data = report_of(lesson, str(path), written)
        notes = [*found.notes_of(opened), *differing, *lost]
        data = {"index": index, **data, "notes": [*data["notes"], *notes]}
        asked = [(lesson.paths[number], *lesson.answer(number)) for number in lesson.ask]
        rows = [
            found.small_cell(where, (where.name, f"{label}, {share:.1%}"))
            for where, label, share in asked[: found.MAX_SHEET_CELLS]
        ]
        sheet = contact_sheet([("", rows)]) if rows else blank_sheet()
        names = "\n".join(lesson.names[number] for number in lesson.ask)
        results = (lesson.labels, answers_json(lesson), names, sheet, str(path), as_json(data))
        return with_gallery(shown([*lines, *notes], data, results), [("", _cards(lesson))])


def _cards(lesson: Lesson) -> list[Card]:
    """The gallery: the pictures to label next."""
    places, cards = host.data_places(), []
    for number in lesson.ask:
        path, name = lesson.paths[number], lesson.names[number]
        label, share = lesson.answer(number)
        cards += card(places.entry_of(path), name, key=name, label=f"{label}?", score=f"{share:.1%}")
    return cards


NODES = {"CVL_LearnLabels": (LearnLabels, "Learn Labels (CVL)")}
