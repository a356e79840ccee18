"""The node that shows what a prompt becomes before it is encoded."""

from __future__ import annotations

from ...clip_core.prompts.plan import AS_DIALECT, PromptSettings, plan_prompt
from ...drawing.token_sheet import token_sheet
from ..host import host
from ..reports import reported
from . import embeddings, token_report
from .encode import encoders_of, no_clip, read_elsewhere
from .prompt_inputs import PROMPT, dialect_input, joining_input, splitting_input


class InspectTokens:
    CATEGORY = "CVL/CLIP"
    DESCRIPTION = (
        "Shows what a prompt becomes before it is encoded: tokens, their weights as colours, chunk borders, "
        "embeddings, and everything that was ignored, for each text encoder."
    )
    SEARCH_ALIASES = [
        "token counter",
        "count tokens",
        "token count",
        "tokenizer",
        "tokens",
        "tokenize",
        "prompt length",
        "77 tokens",
        "prompt weight",
        "show weights",
        "attention",
        "BREAK",
        "A1111",
        "textual inversion",
        "embedding prompt",
        "debug prompt",
    ]
    RETURN_TYPES = ("IMAGE", "STRING")
    RETURN_NAMES = ("picture", "tokens")
    OUTPUT_TOOLTIPS = (
        "A heat strip and the coloured tokens of each chunk.",
        "Ids, pieces, weights and word numbers of every chunk of each encoder, and all notes, as JSON.",
    )
    FUNCTION = "inspect"
    OUTPUT_NODE = True  # queued alone it runs, and shows its report

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "clip": ("CLIP", {"tooltip": "The text encoder whose tokens are wanted; nothing is encoded."}),
                "text": ("STRING", PROMPT),
            },
            "optional": {"dialect": dialect_input(), "splitting": splitting_input(), "joining": joining_input()},
        }

    @classmethod
    def IS_CHANGED(cls, text=None, dialect="comfy", **_):
        return embeddings.fingerprint([text], dialect)

    def inspect(self, clip, text, dialect="comfy", splitting=AS_DIALECT, joining=AS_DIALECT):
        ports, others = encoders_of(clip)
        if not ports:
            raise ValueError(no_clip(others))
        settings = PromptSettings(dialect=dialect, splitting=splitting, joining=joining)
        planned = plan_prompt(text, ports, settings, embeddings.library)
        notes = [*planned.notes, *read_elsewhere(others), *token_report.as_typed(text)]
        picture = token_sheet(token_report.strips(planned))
        data = token_report.whole(planned) | {"notes": notes}
        lines = token_report.count_lines(planned) + notes
        return reported(lines, data, (picture,), host.save_preview(picture, "cvl_tokens"))


NODES = {"CVL_InspectTokens": (InspectTokens, "Inspect Tokens (CVL)")}
