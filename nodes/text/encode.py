"""The nodes that encode prompts as CONDITIONING."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...clip_core.encoding.conditioning import broken_tokens
from ...clip_core.prompts.comfy import without_nameless
from ...clip_core.prompts.plan import AS_DIALECT, Port, PromptPlan, PromptSettings, plan_prompt
from ..conditioning.entries import join_part
from ..host import host
from ..host.interface import CLIP, Conditioning
from ..reports import reported
from . import embeddings, token_report
from .prompt_inputs import PROMPT, reading_inputs

MAX_SIZE_PX = 16384


class TextEncode:
    CATEGORY = "CVL/CLIP"
    DESCRIPTION = (
        "Turns a prompt into conditioning. As it stands it does exactly what CLIP Text Encode does, and shows how many "
        "tokens it used; it can also read and weight prompts as A1111, compel and others do, split long ones well, and "
        "says what it ignored."
    )
    SEARCH_ALIASES = [
        "CLIPTextEncode",
        "CLIP Text Encode",
        "prompt",
        "positive prompt",
        "negative prompt",
        "conditioning",
        "prompt weight",
        "prompt weighting",
        "attention weight",
        "emphasis",
        "A1111",
        "automatic1111",
        "webui",
        "BREAK",
        "compel",
        "perp neg",
        "clip skip",
        "token counter",
        "textual inversion",
        "embedding prompt",
        "wildcard",
        "dynamic prompt",
        "long prompt",
        "77 tokens",
        "BNK_CLIPTextEncodeAdvanced",
        "smZ CLIPTextEncode",
    ]
    RETURN_TYPES = ("CONDITIONING", "STRING")
    RETURN_NAMES = ("conditioning", "report")
    OUTPUT_TOOLTIPS = (
        "The encoded prompt, for any sampler.",
        "Tokens and chunks of each encoder, embeddings found and left out, and what was odd, as JSON.",
    )
    FUNCTION = "encode"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "clip": ("CLIP", {"tooltip": "The text encoder: from our loader or from a stock one."}),
                "text": ("STRING", PROMPT),
            },
            "optional": reading_inputs(),
        }

    @classmethod
    def IS_CHANGED(cls, text=None, dialect="comfy", **_):
        return embeddings.fingerprint([text], dialect)

    def encode(
        self,
        clip,
        text,
        dialect="comfy",
        weighting=AS_DIALECT,
        normalisation="none",
        splitting=AS_DIALECT,
        clip_skip=0,
        pooled="first chunk",
        joining=AS_DIALECT,
    ):
        settings = PromptSettings(
            dialect=dialect,
            weighting=weighting,
            normalisation=normalisation,
            splitting=splitting,
            clip_skip=clip_skip,
            pooled=pooled,
            joining=joining,
        )
        return _encode(clip, text, settings, {})


class TextEncodeSDXL:
    CATEGORY = "CVL/CLIP"
    DESCRIPTION = (
        "Turns two prompts, one for each of SDXL's text encoders, and the picture's sizes into conditioning. As it "
        "stands it does exactly what CLIP Text Encode (SDXL) does; the rest is as in Text Encode (CVL)."
    )
    SEARCH_ALIASES = [
        "CLIPTextEncodeSDXL",
        "SDXL prompt",
        "SDXL text encode",
        "text_g text_l",
        "clip_g clip_l",
        "crop conditioning",
        "size conditioning",
        "target size",
        "prompt weight",
        "clip skip",
        "BREAK",
        "A1111",
        "embedding prompt",
        "textual inversion",
        "token counter",
    ]
    RETURN_TYPES = ("CONDITIONING", "STRING")
    RETURN_NAMES = ("conditioning", "report")
    OUTPUT_TOOLTIPS = TextEncode.OUTPUT_TOOLTIPS
    FUNCTION = "encode"

    @classmethod
    def INPUT_TYPES(cls):
        def size(default: int, tooltip: str):
            return ("INT", {"default": default, "min": 0, "max": MAX_SIZE_PX, "step": 1, "tooltip": tooltip})

        return {
            "required": {
                "clip": ("CLIP", {"tooltip": "SDXL's text encoders (L and G): from our loader or a stock one."}),
                "width": size(1024, "The width SDXL is to think of, in px: that of a picture before any crop."),
                "height": size(1024, "The height SDXL is to think of, in px."),
                "crop_w": size(0, "How many px were cut away on the left; 0 gives centred subjects."),
                "crop_h": size(0, "How many px were cut away at the top; 0 gives centred subjects."),
                "target_width": size(1024, "The width of the picture that is made, in px."),
                "target_height": size(1024, "The height of the picture that is made, in px."),
                "text_g": ("STRING", PROMPT | {"tooltip": "The prompt for the large encoder (bigG)."}),
                "text_l": ("STRING", PROMPT | {"tooltip": "The prompt for the small one (CLIP-L), often the same."}),
            },
            "optional": reading_inputs(),
        }

    @classmethod
    def IS_CHANGED(cls, text_g=None, text_l=None, dialect="comfy", **_):
        return embeddings.fingerprint([text_g, text_l], dialect)

    def encode(
        self,
        clip,
        width,
        height,
        crop_w,
        crop_h,
        target_width,
        target_height,
        text_g,
        text_l,
        dialect="comfy",
        weighting=AS_DIALECT,
        normalisation="none",
        splitting=AS_DIALECT,
        clip_skip=0,
        pooled="first chunk",
        joining=AS_DIALECT,
    ):
        settings = PromptSettings(
            dialect=dialect,
            weighting=weighting,
            normalisation=normalisation,
            splitting=splitting,
            clip_skip=clip_skip,
            pooled=pooled,
            joining=joining,
        )
        sizes = {
            "width": width,
            "height": height,
            "crop_w": crop_w,
            "crop_h": crop_h,
            "target_width": target_width,
            "target_height": target_height,
        }
        return _encode(clip, {"g": text_g, "l": text_l}, settings, sizes)


def _encode(clip: CLIP, texts: str | Mapping[str, str], settings: PromptSettings, extra: Mapping[str, object]) -> dict:
    """Plan a prompt, encode its parts, and answer with the CONDITIONING and the report."""
    ports, others = encoders_of(clip)
    if not ports:
        return _encode_plainly(clip, texts, settings, extra, others)
    if not isinstance(texts, str):
        _check_both(ports, texts)
    _check_skip(ports, settings.clip_skip)
    planned = plan_prompt(texts, ports, settings, embeddings.library)
    conditioning, notes = _encode_parts(clip, planned, extra)
    notes = [*planned.notes, *notes, *read_elsewhere(others), *_unusual_skip(ports, settings.clip_skip)]
    notes += token_report.as_typed(texts)
    data = token_report.summary(planned) | {"notes": notes}
    return reported(token_report.count_lines(planned) + notes, data, (conditioning,))


def _encode_parts(clip: CLIP, planned: PromptPlan, extra: Mapping[str, object]) -> tuple[Conditioning, list[str]]:
    """Encode all parts, and join them from left to right; and notes."""
    first, *others = planned.parts
    whole, notes = host.encode_part(clip, first, planned.settings, extra)
    notes = list(notes)
    for part in others:
        encoded, said = host.encode_part(clip, part, planned.settings, extra)
        whole, joining = join_part(whole, encoded, part.join, part.weight)
        notes += [*said, *joining]
    return whole, list(dict.fromkeys(notes))


def encoders_of(clip: CLIP | None) -> tuple[Sequence[Port], Sequence[str]]:
    """The CLIP encoders of a CLIP object, and the names of the others in it."""
    if clip is None:
        raise ValueError(
            "a CLIP was expected, but the input is empty: the checkpoint it comes from has no text encoder; load one "
            "with Load Text Encoder (CVL)"
        )
    found = host.text_encoders(clip)
    return found.ports, found.others


def _check_both(ports: Sequence[Port], texts: Mapping[str, str]) -> None:
    keys = {port.key for port in ports}
    if keys != set(texts):
        names = ", ".join(port.name for port in ports)
        raise ValueError(
            f"SDXL's two text encoders (clip_l and clip_g) were expected, but this CLIP has {names}; use Text Encode "
            "(CVL) for it, or load both encoders"
        )


def _check_skip(ports: Sequence[Port], clip_skip: int) -> None:
    fewest = min(port.layers for port in ports)
    if clip_skip > fewest:
        raise ValueError(
            f"a clip skip of at most {fewest} was expected, because this text encoder has {fewest} layers, but "
            f"{clip_skip} came; choose a smaller one, or 0 for the model's own"
        )


def _unusual_skip(ports: Sequence[Port], clip_skip: int) -> list[str]:
    """A note on a layer that models with this encoder were not trained on."""
    if clip_skip != 1 or not {"g", "h"} & {port.key for port in ports}:
        return []
    return [
        "clip skip 1 reads the last layer, but SDXL, SD3 and SD 2 were trained on the last but one: 0, the model's "
        "own, is usual"
    ]


def _encode_plainly(
    clip: CLIP,
    texts: str | Mapping[str, str],
    settings: PromptSettings,
    extra: Mapping[str, object],
    others: Sequence[str],
) -> dict:
    """Let the host encode with a CLIP object that has no CLIP encoder (T5, LLaMA), if all settings are the defaults."""
    if not isinstance(texts, str) or settings != PromptSettings():
        raise ValueError(no_clip(others))
    conditioning = host.encode_plainly(clip, texts, extra)
    named = ", ".join(others) or "this text encoder"
    notes = [f"{named} is no CLIP: encoded by ComfyUI as it stands, tokens not counted"]
    if broken := sum(broken_tokens(hidden) for hidden, _ in conditioning):
        notes.append(f"{broken} tokens are encoded as NaN or infinity; look for weights that are no usual numbers")
    if nameless := without_nameless(texts)[1]:
        notes.append(f"{nameless} x embedding: without a name behind it: left out")
    notes += token_report.as_typed(texts)
    data = {"tokens": {}, "notes": notes}
    return reported(notes, data, (conditioning,))


def no_clip(others: Sequence[str]) -> str:
    named = f" ({', '.join(others)})" if others else ""
    return (
        f"a CLIP text encoder was expected, but this one{named} is of another kind; dialects, weightings and splitting "
        "are for CLIP: leave them as they stand in Text Encode (CVL), or connect another CLIP"
    )


def read_elsewhere(others: Sequence[str]) -> list[str]:
    """A note on encoders whose prompt the host parses."""
    if not others:
        return []
    return [f"{', '.join(others)}: the prompt is read by ComfyUI itself, in its own dialect"]


NODES = {
    "CVL_TextEncode": (TextEncode, "Text Encode (CVL)"),
    "CVL_TextEncodeSDXL": (TextEncodeSDXL, "Text Encode SDXL (CVL)"),
}
