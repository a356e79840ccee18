"""The node that compares LoRAs."""

from __future__ import annotations

from ...lora.models.places import Place
from .. import catalog
from ..host import host
from ..lora.application import LoRARequest
from ..lora.rows import Row, fingerprint
from ..reports import as_json, problem_shown, shown
from .comparing import compare_files, copies_in
from .sources import CLIP, CLIP_MODEL, LORAS, MODEL, STACK, Files, base_of, files_of, read_rows

LISTED, COPIES = "those listed", "copies in the folder"
_DIGITS = 3


class CompareLoRAs:
    CATEGORY = "CVL/LoRA"
    DESCRIPTION = (
        "Says how alike LoRAs are, where they will clash, how large and how concentrated each one is, and which "
        "strengths suit them together; all beside what chance gives. Or finds the copies in the whole folder."
    )
    SEARCH_ALIASES = [
        "compare lora",
        "lora similarity",
        "lora conflict",
        "clash",
        "cosine",
        "overlap",
        "duplicates",
        "lora strengths",
        "analyse lora",
        "spectrum",
    ]
    RETURN_TYPES = ("STRING", "STRING", "IMAGE")
    RETURN_NAMES = ("report", "loras", "image")
    OUTPUT_TOOLTIPS = (
        "Every pair by block and at its worst weights, each file's size and spectrum, and the strengths, as JSON.",
        "The same list at the suggested strengths, for LoRA Stack.",
        "The picture: cosines by block, and how the change of each file is spread.",
    )
    FUNCTION = "compare"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        return {
            "required": {
                "loras": LORAS,
                "what": (
                    [LISTED, COPIES],
                    {
                        "cvl_nothing": LISTED,
                        "tooltip": "those listed: every two of them. copies in the folder: which files of the folder "
                        "loras are the same change, or nearly, whatever their names, types and dialects.",
                    },
                ),
            },
            "optional": {"lora_stack": STACK, "model": MODEL, "clip": CLIP, "clip_model": CLIP_MODEL},
        }

    @classmethod
    def IS_CHANGED(cls, loras: str, what: str, **_: object) -> str:
        if what == COPIES:
            return "\n".join(f"{name} {catalog.fingerprint('lora', name)}" for name in catalog.own_choices("lora"))
        return fingerprint(loras)

    def compare(
        self,
        loras: str,
        what: str,
        lora_stack: object | None = None,
        model: object | None = None,
        clip: object | None = None,
        clip_model: object | None = None,
    ) -> dict:
        base = base_of(model, clip, clip_model)
        if what == COPIES:
            lines, data = copies_in(_one, catalog.own_choices("lora"), base, host.progress(1))
            return shown(lines, data, (as_json(data), "", host.absent("copies in a folder make no picture")))
        try:
            files = files_of(loras, lora_stack)
            self.files = files.parsed  # kept: not read again for other inputs
            owners = [target for target in (model, clip, clip_model) if target is not None]
            lines, data, picture = compare_files(files, base, _norms(owners), host.progress(1))
        except ValueError as error:
            if base.shapes is not None or lora_stack is not None:
                raise
            # such a node may lie unused beside a workflow: it is said on the node, and the rest runs
            return problem_shown(str(error), outputs=3, report_at=0)
        listed = _listed(files, data)
        return shown(lines, data, (as_json(data), listed, picture), host.save_preview(picture, "cvl_lora"))


def _one(name: str) -> Files:
    request = LoRARequest(catalog.path("lora", name), {"model": 1.0, "clip": 1.0})
    return read_rows([Row(1, name, choice=name, request=request)])


def _norms(owners: list[object]):
    """What gives the norm of a base weight; None without a model."""
    if not owners:
        return None
    shapes = [(owner, host.weights(owner)) for owner in owners]

    def norm_of(place: Place) -> float | None:
        key = place if isinstance(place, str) else place.key
        owner = next((owner for owner, own in shapes if key in own), None)
        size = host.sizes(owner, [place]).get(place) if owner is not None else None
        return size.squares**0.5 if size else None

    return norm_of


def _listed(files: Files, data: dict) -> str:
    """The files at the suggested strengths, a line each; "" where none are suggested."""
    if not data["suggested"]:
        return ""
    return "\n".join(
        f"{source.name} : {round(model, _DIGITS):g} : {round(clip, _DIGITS):g}"
        + (f" : {source.blocks}" if source.blocks else "")
        for source, (model, clip) in zip(files.sources, data["suggested"]["strengths"])
    )


NODES = {"CVL_CompareLoRAs": (CompareLoRAs, "Compare LoRAs (CVL)")}
