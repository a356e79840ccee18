"""The widgets of nodes that parse prompts. Their menus and tooltips take the dialects from the table of dialects."""

from __future__ import annotations

from ...clip_core.encoding.emphasis import NORMALISATIONS, STYLES
from ...clip_core.encoding.encode import POOLED
from ...clip_core.prompts.chunks import SPLITS
from ...clip_core.prompts.dialects import DIALECTS
from ...clip_core.prompts.plan import AS_DIALECT, JOINING

PROMPT = {
    "multiline": True,
    "dynamicPrompts": True,  # as in CLIPTextEncode: the canvas draws {a|b} and leaves comments out before it sends
    "default": "",
    "tooltip": "The prompt. An empty one is fine. (word:1.2) raises a word's weight, embedding:name puts in a textual "
    "inversion. As in the stock node {red|blue} is drawn anew at each Run, and // and /* */ are left out.",
}
_WEIGHTINGS = {"comfy": "from the empty prompt outwards", "a1111": "times the weight, mean restored in each chunk"}


def dialect_input() -> tuple:
    how = " ".join(f"{name}: {dialect.reading}." for name, dialect in DIALECTS.items())
    return list(DIALECTS), {"tooltip": f"How the text is read. {how}"}


def splitting_input() -> tuple:
    own = ", ".join(f"{dialect.split} for {name}" for name, dialect in DIALECTS.items())
    return (
        [AS_DIALECT, *SPLITS],
        {
            "advanced": True,
            "tooltip": f"Where a prompt longer than 75 tokens is cut. as the dialect: {own}. "
            "hard: as ComfyUI, anywhere. word: between words. comma: as A1111, at a comma among the last 20 tokens. "
            "sentence: at the end of a sentence.",
        },
    )


def joining_input() -> tuple:
    own = ", ".join(
        f"{words} in {' and '.join(names)}"
        for words, breaks in (("BREAK", True), ("none", False))
        if (names := [name for name, dialect in DIALECTS.items() if dialect.break_word == breaks])
    )
    return (
        [AS_DIALECT, JOINING],
        {
            "advanced": True,
            "tooltip": f"Words that divide the prompt. as the dialect: {own}. Else all three: BREAK "
            "starts a new chunk, CONCAT puts the next part behind, AVERAGE(0.3) mixes 30% of the next part in.",
        },
    )


def weighting_input() -> tuple:
    own = dict.fromkeys(dialect.weighting for dialect in DIALECTS.values())
    shown = ", or ".join(f"{style} ({_WEIGHTINGS[style]})" if style in _WEIGHTINGS else style for style in own)
    return (
        [AS_DIALECT, *STYLES],
        {
            "tooltip": f"What a weight does to a word's encoding. as the dialect: {shown}. compel, comfy++, "
            "down_weight and perp are explained in the help."
        },
    )


def reading_inputs() -> dict:
    """The optional widgets of all nodes that encode a prompt, in the order in which workflows save them."""
    return {
        "dialect": dialect_input(),
        "weighting": weighting_input(),
        "normalisation": (
            list(NORMALISATIONS),
            {
                "advanced": True,
                "tooltip": "What is done to the weights first. mean: shifted to an average of 1. length: a word of n "
                "tokens gets 1/sqrt(n) of its distance from 1.",
            },
        ),
        "splitting": splitting_input(),
        "clip_skip": (
            "INT",
            {
                "default": 0,
                "min": 0,
                "max": 24,
                "step": 1,
                "tooltip": "CLIP skip as in A1111: the layer that is read, counted from the end; 2 is the last but one."
                " Left as it is, the model's own is read, or that of CLIP Set Last Layer.",
            },
        ),
        "pooled": (
            list(POOLED),
            {
                "advanced": True,
                "tooltip": "Which summary of a long prompt goes into the conditioning. first chunk: as ComfyUI and "
                "A1111; the mean of all chunks; or the last chunk, at its end token.",
            },
        ),
        "joining": joining_input(),
    }
