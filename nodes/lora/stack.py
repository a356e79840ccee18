"""The node that applies a list of LoRAs, written as text by a person or a program."""

from __future__ import annotations

from collections.abc import Sequence

from ...lora.formats import list_text
from .. import catalog
from ..host import host
from ..reports import as_json, shown
from .application import LoRARequest, files_of, put_on
from .load import OPTIONS
from .report import chart, report_of

_EXAMPLE = "bundled/tiny_clip_stripes_lora.safetensors : 1.0 : 1.0"


class LoRAStack:
    CATEGORY = "CVL/LoRA"
    DESCRIPTION = (
        "Applies any number of LoRAs, written one a line, to a MODEL and a CLIP at once: all changes of a weight are "
        "made in one step. Reports for each file how much of it was used; a file that fits nothing is an error."
    )
    SEARCH_ALIASES = ["lora stack", "multi lora", "LoraLoader", "power lora loader", "lora list"]
    RETURN_TYPES = ("MODEL", "CLIP", "STRING")
    RETURN_NAMES = ("model", "clip", "report")
    OUTPUT_TOOLTIPS = (
        "The MODEL with the LoRAs, if one was connected.",
        "The CLIP with the LoRAs, if one was connected.",
        "For each file what it holds, what was applied where, and what was not, as JSON.",
    )
    FUNCTION = "load"

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        return {
            "required": {
                "loras": (
                    "STRING",
                    {
                        "default": _EXAMPLE,
                        "multiline": True,
                        "tooltip": "One a line: name : strength_model : strength_clip : blocks. All but the name may "
                        "be left out. A line that begins with off or - is off; from # on it is a comment.",
                    },
                ),
            },
            "optional": {
                "model": ("MODEL", {"tooltip": "The diffusion model to change, if any."}),
                "clip": ("CLIP", {"tooltip": "The text encoder to change, if any."}),
                **OPTIONS,
            },
        }

    @classmethod
    def IS_CHANGED(cls, loras: str, **_: object) -> str:
        return fingerprint(loras)

    def load(
        self,
        loras: str,
        model: object | None = None,
        clip: object | None = None,
        match_comfyui: bool = False,
        strict: bool = False,
    ) -> dict:
        targets = {"model": model, "clip": clip}
        connected = {name: target for name, target in targets.items() if target is not None}
        if not connected:
            raise ValueError("nothing is connected to put the LoRAs on; connect a MODEL or a CLIP")
        lines = list_text.parse(loras)
        changed, uses = put_on(_entries(lines), connected, match_comfyui=match_comfyui, strict=strict)
        self.files = files_of(uses)
        texts, files = [], []
        for use in uses:
            text, data = report_of(use, connected)
            texts += text
            files.append(data)
        off = [line.name for line in lines if not line.on]
        texts += [f"off: {', '.join(off)}"] if off else []
        texts = texts or ["no LoRA is on: what is connected is passed on as it is"]
        model, clip = (
            changed.get(name, host.absent(f"LoRA Stack (CVL) has no {name} to pass on: none is connected to it"))
            for name in targets
        )
        report = {"files": files, "off": off}
        images = host.save_preview(chart(files), "cvl_lora") if files else []
        return shown(texts, report, (model, clip, as_json(report)), images)


def fingerprint(loras: str) -> str:
    """A text that changes when one of the listed files changes, or the list."""
    if not isinstance(loras, str):
        return ""
    try:
        menu = catalog.choices("lora")
        names = [list_text.choice(line, menu) for line in list_text.parse(loras) if line.on]
    except list_text.ListError as error:
        return str(error)
    return "\n".join(catalog.fingerprint("lora", name) for name in names)


def _entries(lines: Sequence[list_text.LoRALine]) -> list[LoRARequest]:
    menu = catalog.choices("lora")
    return [
        LoRARequest(
            catalog.path("lora", list_text.choice(line, menu)),
            {"model": line.strength_model, "clip": line.strength_clip},
            line.blocks,
        )
        for line in lines
        if line.on
    ]


NODES = {"CVL_LoRAStack": (LoRAStack, "LoRA Stack (CVL)")}
