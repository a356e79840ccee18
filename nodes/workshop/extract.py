"""The node that extracts a LoRA from two models."""

from __future__ import annotations

from pathlib import Path

from .. import catalog
from ..host import host
from ..reports import as_json, problem_shown, shown
from .extracting import RULES_OF_MODELS, TYPES, ExtractSettings, extract_file, sides
from .sources import DIALECT, amount, prefix

NONE = "none"
_FILE = "A checkpoint, diffusion model or text encoder by its name; none: what is connected."


class ExtractLoRA:
    CATEGORY = "CVL/LoRA"
    DESCRIPTION = (
        "Makes a LoRA of the difference of two models: a tuned one and the one that it was made from, files or "
        "connected. Linear layers, convolutions and text encoders, each at the rank that its difference has; the "
        "report says what is lost."
    )
    SEARCH_ALIASES = [
        "extract lora",
        "lora extraction",
        "checkpoint to lora",
        "model difference",
        "model subtract",
        "svd lora",
        "save lora",
        "lora from checkpoint",
        "finetune to lora",
    ]
    RETURN_TYPES = ("STRING", "STRING", "IMAGE")
    RETURN_NAMES = ("path", "report", "image")
    OUTPUT_TOOLTIPS = (
        "Where the file was written.",
        "The ranks and what was lost, by layer, by block and altogether, and what is not in the file, as JSON.",
        "The picture: what was lost, by block.",
    )
    FUNCTION = "extract"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        files = [NONE, *catalog.own_choices("weights")]
        return {
            "required": {
                "tuned": (files, {"cvl_nothing": NONE, "tooltip": f"The tuned model. {_FILE}"}),
                "base": (files, {"cvl_nothing": NONE, "tooltip": f"The model that it was made from. {_FILE}"}),
                "keep": (
                    RULES_OF_MODELS,
                    {
                        "default": "automatic",
                        "tooltip": "automatic: what is above the rounding noise of the stored weights. rank: of every "
                        "layer. energy, frobenius: a share of the squares, of the norm. ratio: to the largest. size: "
                        "of the file.",
                    },
                ),
                "amount": amount(32.0),
                "largest_rank": (
                    "INT",
                    {
                        "default": 128,
                        "min": 1,
                        "max": 4096,
                        "tooltip": "No layer gets more than this, whatever keep says.",
                    },
                ),
                "dialect": DIALECT,
                "dtype": (TYPES, {"default": "fp16", "tooltip": "The type of the numbers in the file."}),
                "filename_prefix": prefix("loras/extracted"),
            },
            "optional": {
                "model_tuned": ("MODEL", {"tooltip": "The tuned diffusion model, with the LoRAs that are on it."}),
                "model_base": ("MODEL", {"tooltip": "The diffusion model that is taken away from it."}),
                "clip_tuned": ("CLIP", {"tooltip": "The tuned text encoder, with the LoRAs that are on it."}),
                "clip_base": ("CLIP", {"tooltip": "The text encoder that is taken away from it."}),
                "norms_and_biases": (
                    "BOOLEAN",
                    {
                        "default": True,
                        "advanced": True,
                        "tooltip": "On: the differences of norms, biases and embeddings are written as they are, which "
                        "kohya files can. Off: they are listed in the report.",
                    },
                ),
            },
        }

    @classmethod
    def VALIDATE_INPUTS(cls, tuned: str | None, base: str | None) -> bool:
        """Let files that are gone pass: the node says it itself, and the rest of the workflow runs."""
        return True

    @classmethod
    def IS_CHANGED(cls, tuned: str, base: str, **_: object) -> str:
        return "\n".join("" if one == NONE else catalog.fingerprint("weights", one) for one in (tuned, base))

    def extract(
        self,
        tuned: str,
        base: str,
        keep: str,
        amount: float,
        largest_rank: int,
        dialect: str,
        dtype: str,
        filename_prefix: str,
        model_tuned: object | None = None,
        model_base: object | None = None,
        clip_tuned: object | None = None,
        clip_base: object | None = None,
        norms_and_biases: bool = True,
    ) -> dict:
        links = ((model_tuned, clip_tuned), (model_base, clip_base))
        connected = [[one for one in two if one is not None] for two in links]
        try:
            settings = ExtractSettings(keep, amount, largest_rank, dialect, dtype, norms_and_biases)
            chosen = [_chosen(*one) for one in (("tuned", tuned, connected[0]), ("base", base, connected[1]))]
            path = host.output_path(filename_prefix, ".safetensors")
            with sides(*chosen, "the tuned model", "the base model") as (two, one):
                lines, data, picture = extract_file(two, one, settings, path, host.progress(1))
        except ValueError as error:
            if any(connected) or NONE not in (tuned, base):
                raise
            # such a node may lie unused beside a workflow: it is said on the node, and the rest runs
            return problem_shown(str(error), outputs=3, report_at=1)
        return shown(lines, data, (data["file"], as_json(data), picture), host.save_preview(picture, "cvl_lora"))


def _chosen(which: str, file: str, connected: list[object]) -> Path | list[object]:
    """The file of one of the two models, or what is connected.

    Raises:
        ValueError: neither, both, or the file is gone.
    """
    if connected and file != NONE:
        raise ValueError(f"the {which} model is chosen as {file} and connected too: set {which} to none, or unplug it")
    if connected:
        return connected
    if file == NONE:
        raise ValueError(f"the {which} model is missing: choose its file, or connect it")
    try:
        return catalog.path("weights", file)
    except FileNotFoundError as error:
        raise ValueError(f'there is no "{file}" in the model folders; choose another file') from error


NODES = {"CVL_ExtractLoRA": (ExtractLoRA, "Extract LoRA (CVL)")}
