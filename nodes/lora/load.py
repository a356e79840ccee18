"""The node that applies one LoRA file."""

from __future__ import annotations

from ...lora.formats.list_text import split_words
from .. import catalog
from ..host import host
from ..reports import as_json, shown
from .application import BlocksError, FailedLoRA, LoRARequest, files_of, put_on
from .beside import header_words, known_of
from .report import chart, failure_line, kept_of, report_of

NONE = "none"  # the entry that passes everything on
OPTIONS = {
    "match_comfyui": (
        "BOOLEAN",
        {
            "default": False,
            "advanced": True,
            "tooltip": "Off: the change that was trained. On: what ComfyUI's own loader makes of the file, where that "
            "differs (DoRA, OFT).",
        },
    ),
    "strict": (
        "BOOLEAN",
        {
            "default": False,
            "tooltip": "On: an error if a LoRA, or any part of it, cannot be applied to what is connected. Off: the "
            "rest goes on, and the report says in red what was not used.",
        },
    ),
}


class LoadLoRA:
    CATEGORY = "CVL/LoRA"
    DESCRIPTION = (
        "Applies a LoRA to a MODEL, a CLIP, or a whole CLIP model, whichever are connected, gives its trigger words, "
        "and reports how much of the file was used. One that fits nothing is told in red, and with strict an error."
    )
    SEARCH_ALIASES = [
        "lora loader",
        "LoraLoader",
        "LoraLoaderModelOnly",
        "load lora",
        "apply lora",
        "add lora",
        "LoCon",
        "LoHa",
        "LoKr",
        "DoRA",
        "lycoris",
        "block weight",
        "lora block weight",
        "trigger words",
        "style",
        "character",
    ]
    RETURN_TYPES = ("MODEL", "CLIP", "STRING", "CVL_CLIP_MODEL", "STRING")
    RETURN_NAMES = ("model", "clip", "report", "clip_model", "trigger_words")
    OUTPUT_TOOLTIPS = (
        "The MODEL with the LoRA, if one was connected.",
        "The CLIP with the LoRA, if one was connected.",
        "What the file holds, what was applied where, and what was not, as JSON.",
        "The whole CLIP model with the LoRA, if one was connected.",
        "The words to write into the prompt, with commas between; empty where the LoRA was not used.",
    )
    FUNCTION = "load"

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        strength = {"default": 1.0, "min": -100.0, "max": 100.0, "step": 0.01}
        menu = catalog.choices("lora")
        return {
            "required": {
                "file": (
                    [NONE, *menu],
                    {
                        "default": menu[0] if len(menu) > 1 else NONE,
                        "tooltip": "LoRA of any kind (LoCon, LoHa, LoKr, DoRA, OFT, ...), whatever tool wrote it. "
                        "none passes everything on as it is.",
                    },
                ),
                "strength_model": (
                    "FLOAT",
                    {
                        **strength,
                        "tooltip": "How much of it the MODEL gets; 0 leaves it alone, less than 0 turns it round.",
                    },
                ),
                "strength_clip": (
                    "FLOAT",
                    {**strength, "tooltip": "How much of it the CLIP and the CLIP model get; 0 leaves them alone."},
                ),
            },
            "optional": {
                "model": ("MODEL", {"tooltip": "The diffusion model to change, if any."}),
                "clip": ("CLIP", {"tooltip": "The text encoder to change, if any."}),
                "clip_model": ("CVL_CLIP_MODEL", {"tooltip": "The whole CLIP to change, if any."}),
                "blocks": (
                    "STRING",
                    {
                        "default": "",
                        "advanced": True,
                        "tooltip": "Strengths by block, times the others: attn2: 0.5, IN07-IN08: 0, double.0-7: 0.3, "
                        "text: 0. Or a preset of 12, 17, 20 or 26 numbers. Empty: 1 everywhere.",
                    },
                ),
                **OPTIONS,
                "words": (
                    "STRING",
                    {
                        "default": "",
                        "advanced": True,
                        "tooltip": "The trigger words to give out, with commas between. Empty: those that the file "
                        "or a note beside it (.txt, .civitai.info, .json) names.",
                    },
                ),
            },
        }

    @classmethod
    def IS_CHANGED(cls, file: str, **_: object) -> str:
        return catalog.fingerprint("lora", file)

    def load(
        self,
        file: str,
        strength_model: float,
        strength_clip: float,
        model: object | None = None,
        clip: object | None = None,
        clip_model: object | None = None,
        blocks: str = "",
        match_comfyui: bool = False,
        strict: bool = False,
        words: str = "",
    ) -> dict:
        targets = {"model": model, "clip": clip, "clip_model": clip_model}
        connected = {name: target for name, target in targets.items() if target is not None}
        if not connected:
            raise ValueError("nothing is connected to put the LoRA on; connect a MODEL, a CLIP or a CLIP model")
        if file == NONE:
            lines = ["no LoRA is chosen: what is connected is passed on as it is"]
            return _answer(targets, connected, lines, {"file": NONE, "state": "off", "applied": 0}, "")
        strengths = {"model": strength_model, "clip": strength_clip, "clip_model": strength_clip}
        try:
            entry = LoRARequest(catalog.path("lora", file), strengths, blocks)
        except FileNotFoundError as error:
            if strict:
                raise
            return _failed(targets, connected, file, f"the file is gone from the folder loras ({error})")
        changed, (use,) = put_on([entry], connected, match_comfyui=match_comfyui, strict=strict)
        if isinstance(use, FailedLoRA):
            if isinstance(use.error, BlocksError):
                raise use.error
            return _failed(targets, connected, file, use.sentence)
        self.files = files_of([use])
        lines, data = report_of(use, connected)
        rounding, data["rounding"] = kept_of([use], connected)
        lines += [f"  {line}" for line in rounding]
        chosen = split_words(words) or known_of(entry.path, *header_words(use.parsed)).words
        given = ", ".join(chosen) if use.state != "unused" else ""
        lines[1:1] = [f"  trigger words: {given}"] if given else []
        return _answer(targets, changed, lines, data, given, host.save_preview(chart([data]), "cvl_lora"))


def _failed(targets: dict, connected: dict, file: str, sentence: str) -> dict:
    """What is connected, passed on as it is, and the reason in red."""
    line = f"{failure_line(file, sentence)}; what is connected is passed on as it is"
    return _answer(targets, connected, [line], {"file": file, "state": "failed", "problem": sentence, "applied": 0}, "")


def _answer(targets: dict, changed: dict, lines: list[str], data: dict, words: str, images: tuple | list = ()) -> dict:
    data = {**data, "trigger_words": words}
    model, clip, clip_model = (
        changed.get(name, host.absent(f"Load LoRA (CVL) has no {name} to pass on: none is connected to it"))
        for name in targets
    )
    return shown(lines, data, (model, clip, as_json(data), clip_model, words), images, own=[words])


NODES = {"CVL_LoadLoRA": (LoadLoRA, "Load LoRA (CVL)")}
