"""Visual Question chooses among answers to a question about a picture, Auto Tag among a list of tags."""

from __future__ import annotations

from ...clip_core.judging import questions, ranking, word_list
from ...drawing.bar_chart import bar_charts
from ..host import host
from ..reports import as_json, shown
from . import features
from .ground import GROUND, WHITE, on_ground
from .learned import HEAD, NOT_USED, answers_of, labels_for, learned_facts
from .precision import EXACT, WIDGET, measure_precision
from .scores import CLIP, MODEL, notes_on_gaps, number, picture_features_of, text_features_of

_DENIES = (
    "a statement says what is not, and CLIP hardly hears the not: a pattern, or answers that say what is there "
    "instead, are safer"
)
_IMAGE = ("IMAGE", {"tooltip": "One picture or a batch; every picture of it is looked at."})


class VisualQuestion:
    CATEGORY = "CVL/judge"
    DESCRIPTION = (
        "Answers a question about a picture by choosing among your answers: each is turned into a statement (what "
        "colour is the circle? red: the circle is red), and the statement that fits best wins."
    )
    SEARCH_ALIASES = ["VQA", "visual question answering", "ask image", "multiple choice"]
    RETURN_TYPES = ("STRING", "STRING", "IMAGE", "STRING", "FLOAT")
    RETURN_NAMES = ("answer", "report", "chart", "answer_list", "probability_list")
    OUTPUT_IS_LIST = (False, False, False, True, True)
    OUTPUT_TOOLTIPS = (
        "The best answer; one line for each picture of a batch.",
        "The statements that were made, and every answer's probability and cosine for every picture, as JSON.",
        "A bar chart for each picture.",
        "The best answer of each picture, as a list.",
        "Its probability, as a list.",
    )
    FUNCTION = "ask"
    OUTPUT_NODE = True  # queued alone it runs, and shows its answer

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "clip_model": MODEL,
                "image": _IMAGE,
                "question": (
                    "STRING",
                    {
                        "default": "what colour is the circle?",
                        "tooltip": "In English. A blank written as {answer} makes it a statement of your own.",
                    },
                ),
                "answers": (
                    "STRING",
                    {
                        "multiline": True,
                        "default": "red\ngreen\nblue\nyellow",
                        "tooltip": "The answers to choose from: one a line, or one line with commas.",
                    },
                ),
            },
            "optional": {
                "pattern": (
                    "STRING",
                    {
                        "advanced": True,
                        "default": "",
                        "tooltip": "Your own statement, with {answer} in it. Empty: made by rules from the question.",
                    },
                ),
                "clip": CLIP,
                "precision": WIDGET,
                "ground": GROUND,
                "head": HEAD,
            },
        }

    def ask(
        self, clip_model, image, question, answers, pattern="", clip=None, precision=EXACT, ground=WHITE, head=None
    ):
        choices, notes = word_list.answers(answers)
        learned = None if head is None else labels_for(head, clip_model)
        if learned is None:
            made = questions.statements(question, choices, pattern)
        laid = on_ground(image, ground)
        found = picture_features_of(clip_model, laid.image, precision)
        if learned is None:
            words = text_features_of(clip_model, clip, made.texts, precision)
            cosine = ranking.cosines(found, words.features)
            share = ranking.probabilities(cosine, features.scale_of(clip_model))
            sample = {"text": made.texts[0], "text_features": words.features[:1]}
            told = {"rule": made.rule, "statements": dict(zip(choices, made.texts))}
            notes, texts = [*notes, *words.notes, *([_DENIES] if made.denies else [])], made.texts
        else:
            share, cosine = answers_of(learned, found, choices)
            sample, told, texts = {}, learned_facts(learned), [f"{learned.method}: {one}" for one in choices]
            notes.append("the answers are judged by the labels that were learned: the question is not read")
        best = [None if place is None else choices[place] for place in ranking.best_each_way(share)[0]]
        moved, said = measure_precision(precision, clip_model, clip, image=laid.image, picture_features=found, **sample)
        notes = [*laid.notes, *notes, *notes_on_gaps(found), *said]
        data = {
            "question": question,
            **told,
            "notes": notes,
            **laid.data,
            **moved,
        }
        data["pictures"] = [
            {"answer": one, "probabilities": _by_name(choices, shares), "cosine": _by_name(choices, cosines)}
            for one, shares, cosines in zip(best, share, cosine)
        ]
        rows = [{name: value or 0.0 for name, value in one["probabilities"].items()} for one in data["pictures"]]
        chart = bar_charts([(one or "-", row) for one, row in zip(best, rows)], laid.image)
        sure = [row.get(one, 0.0) for one, row in zip(best, rows)]
        lines = [f"#{place}: {one or 'no answer'}, {value:.1%}" for place, (one, value) in enumerate(zip(best, sure))]
        lines += ["compared with:", *(f"  {text}" for text in texts[:20]), *notes]
        results = ("\n".join(one or "" for one in best), as_json(data), chart, [one or "" for one in best], sure)
        return shown(lines, data, results, host.save_preview(chart, "cvl_question"))


class RankTags:
    CATEGORY = "CVL/judge"
    DESCRIPTION = (
        "Finds the tags of your own list that fit each picture best, up to 10,000 of them, and gives them with commas "
        "between them, ready to be a prompt."
    )
    SEARCH_ALIASES = [
        "tagger",
        "wd14",
        "auto tag",
        "interrogate",
        "caption",
        "keywords",
        "clip interrogator",
        "image to prompt",
    ]
    RETURN_TYPES = ("STRING", "STRING", "STRING")
    RETURN_NAMES = ("tags", "tag_list", "report")
    OUTPUT_IS_LIST = (False, True, False)
    OUTPUT_TOOLTIPS = (
        "The tags with commas between them, the best first; one line for each picture of a batch.",
        "The same as a list, one text for each picture: a node after it runs once for each.",
        "The tags of each picture with their scores, as JSON.",
    )
    FUNCTION = "rank"
    OUTPUT_NODE = True  # queued alone it runs, and shows its tags

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "clip_model": MODEL,
                "image": _IMAGE,
                "tags": (
                    "STRING",
                    {
                        "multiline": True,
                        "default": "red, green, blue, yellow, circle, square, triangle, star, heart",
                        "tooltip": "Your word list: one a line, or with commas; up to 10,000. An underscore is read "
                        "as a space.",
                    },
                ),
            },
            "optional": {
                "keep": (
                    "INT",
                    {
                        "default": 5,
                        "display_name": "keep (0: all)",
                        "min": 0,
                        "max": 10000,
                        "tooltip": "How many tags for a picture; 0: all that pass.",
                    },
                ),
                "threshold": (
                    "FLOAT",
                    {
                        "default": -1.0,
                        "advanced": True,
                        "display_name": "threshold (-1: off)",
                        "min": -1.0,
                        "max": 1.0,
                        "step": 0.005,
                        "tooltip": "The least score that passes. -1: every tag passes. Which numbers make sense "
                        "depends on score and on the model.",
                    },
                ),
                "score": (
                    list(ranking.KINDS),
                    {
                        "tooltip": "cosine: each tag by itself. probability: the tags share 100 percent, so that a "
                        "long list makes them all small."
                    },
                ),
                "template": (
                    "STRING",
                    {
                        "default": "a photo of a {tag}",
                        "tooltip": "The sentence that each tag is put into, at {tag} or {}. {tag} alone: the bare tag.",
                    },
                ),
                "clip": CLIP,
                "precision": WIDGET,
                "ground": GROUND,
                "head": HEAD,
            },
        }

    def rank(
        self,
        clip_model,
        image,
        tags,
        keep=5,
        threshold=-1.0,
        score=ranking.COSINE,
        template="a photo of a {tag}",
        clip=None,
        precision=EXACT,
        ground=WHITE,
        head=None,
    ):
        if head is None:
            names, words, notes = _encode_tags(clip_model, clip, tags, template, precision)
        else:
            learned = labels_for(head, clip_model)
            names, words, notes, score = list(learned.classes), None, [NOT_USED], ranking.PROBABILITY
        laid = on_ground(image, ground)
        found = picture_features_of(clip_model, laid.image, precision)
        if words is None:
            values = learned.probabilities(found)
        else:
            values = ranking.cosines(found, words)
            if score == ranking.PROBABILITY:
                values = ranking.probabilities(values, features.scale_of(clip_model))
        rows = values.tolist()
        kept = [ranking.rank(row, keep=keep, threshold=threshold).kept for row in rows]
        sample = {} if words is None else {"text": _sentence(template, names), "text_features": words[:1]}
        moved, said = measure_precision(precision, clip_model, clip, image=laid.image, picture_features=found, **sample)
        notes = [*laid.notes, *notes, *notes_on_gaps(found), *said]
        empty = sum(not places and row[0] == row[0] for places, row in zip(kept, rows))  # NaN has a note of its own
        if empty:
            notes.append(f"no tag reaches the threshold {threshold:g} for {empty} of {len(image)} pictures")
        lists = [", ".join(names[place] for place in places) for places in kept]
        data = {
            "tags": len(names),
            "template": template,
            "score": score,
            "keep": keep,
            "threshold": threshold,
            "notes": notes,
            **({} if head is None else learned_facts(learned)),
            **laid.data,
            **moved,
            "pictures": [{names[place]: number(row[place]) for place in places} for places, row in zip(kept, rows)],
        }
        lines = [f"#{place}: {text or 'none'}" for place, text in enumerate(lists)] + notes
        return shown(lines, data, ("\n".join(lists), lists, as_json(data)))


def _encode_tags(clip_model, clip, tags: str, template: str, precision: str):
    """The tags of a list, their features [N, E], and notes.

    Raises:
        ValueError: there are none, or the template has no place for them.
    """
    names, notes = word_list.words(tags)
    if not names:
        raise ValueError("there are no tags; write one a line, or several with commas between them")
    words = text_features_of(clip_model, clip, word_list.sentences(template, names), precision)
    notes = [*notes, *words.notes[:20]]
    if len(words.notes) > 20:
        notes.append(f"and {len(words.notes) - 20} more tags that are too long")
    return names, words.features, notes


def _sentence(template: str, names: list[str]) -> str:
    return word_list.sentences(template, names[:1])[0]


def _by_name(names: list[str], values) -> dict[str, float | None]:
    return {name: number(value) for name, value in zip(names, values.tolist())}


NODES = {
    "CVL_VisualQuestion": (VisualQuestion, "Visual Question (CVL)"),
    "CVL_RankTags": (RankTags, "Rank Tags (CVL)"),
}
