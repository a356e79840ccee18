"""The node that merges LoRAs into one file."""

from __future__ import annotations

from ...lora.workshop.merging.methods import METHODS, Recipe
from ..host import host
from ..lora.rows import fingerprint
from ..reports import as_json, problem_shown, shown
from .merging import RANK_RULES, MergeSettings, merge_files
from .sources import CLIP, CLIP_MODEL, DIALECT, DTYPE, LORAS, MODEL, STACK, amount, base_of, files_of, prefix

_OPTIONAL = {
    "lora_stack": STACK,
    "model": MODEL,
    "clip": CLIP,
    "clip_model": CLIP_MODEL,
    "density": (
        "FLOAT",
        {
            "default": 0.5,
            "min": 0.01,
            "max": 1.0,
            "step": 0.01,
            "advanced": True,
            "tooltip": "The share of the entries that ties, dare and della keep.",
        },
    ),
    "spread": (
        "FLOAT",
        {
            "default": 0.2,
            "min": 0.0,
            "max": 1.0,
            "step": 0.01,
            "advanced": True,
            "tooltip": "How much likelier della keeps the largest entries of a row than the smallest.",
        },
    ),
    "position": (
        "FLOAT",
        {
            "default": 0.5,
            "min": 0.0,
            "max": 1.0,
            "step": 0.01,
            "advanced": True,
            "tooltip": "Where slerp stops on its way from the first (0) to the second (1).",
        },
    ),
    "aligned": (
        "BOOLEAN",
        {
            "default": True,
            "advanced": True,
            "tooltip": "On: ties, dare and della work in the common directions of all (KnOTS), and nothing "
            "is cut. Off: on the weights themselves, and what has no room in the rank is lost.",
        },
    ),
    "seed": (
        "INT",
        {
            "default": 0,
            "min": 0,
            "max": 0xFFFFFFFF,
            "control_after_generate": False,
            "advanced": True,
            "tooltip": "Which entries dare and della drop.",
        },
    ),
    "words": (
        "STRING",
        {
            "default": "",
            "advanced": True,
            "tooltip": "The trigger words to write, with commas between. Empty: those of all files.",
        },
    ),
}


class MergeLoRAs:
    CATEGORY = "CVL/LoRA"
    DESCRIPTION = (
        "Makes one LoRA file of several, at the strengths of a loader: exactly (loaded at 1 it is the stack), or by "
        "TIES, DARE, DELLA, SLERP, as an average, or cut to a rank or size. Any kinds and dialects; says what is lost."
    )
    SEARCH_ALIASES = [
        "merge lora",
        "merge loras",
        "combine loras",
        "lora merger",
        "TIES",
        "DARE",
        "DELLA",
        "KnOTS",
        "SLERP",
        "average checkpoints",
        "lora soup",
        "svd merge",
        "lora stack to file",
        "save lora",
    ]
    RETURN_TYPES = ("STRING", "STRING", "STRING")
    RETURN_NAMES = ("path", "trigger_words", "report")
    OUTPUT_TOOLTIPS = (
        "Where the file was written.",
        "The trigger words of all files, with commas between.",
        "What was merged, how far it is from the stack by weight, and what was lost, as JSON.",
    )
    FUNCTION = "merge"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        return {
            "required": {
                "loras": LORAS,
                "method": (
                    list(METHODS),
                    {
                        "tooltip": "sum: exactly the stack. average: of a run's checkpoints, strengths are shares. "
                        "slerp: between two. orthogonal: each keeps off the outputs of those before. ties, dare, "
                        "dare_ties, della: single entries win or are dropped."
                    },
                ),
                "keep": (
                    RANK_RULES,
                    {
                        "tooltip": "all: nothing is cut, ranks add up. Or how much is kept: a rank, a share of the "
                        "energy or the norm, a ratio of singular values, what is above the rounding noise, or a size."
                    },
                ),
                "amount": amount(32.0),
                "dialect": DIALECT,
                "dtype": DTYPE,
                "filename_prefix": prefix("loras/merged"),
            },
            "optional": dict(_OPTIONAL),
        }

    @classmethod
    def IS_CHANGED(cls, loras: str, **_: object) -> str:
        return fingerprint(loras)

    def merge(
        self,
        loras: str,
        method: str,
        keep: str,
        amount: float,
        dialect: str,
        dtype: str,
        filename_prefix: str,
        lora_stack: object | None = None,
        model: object | None = None,
        clip: object | None = None,
        clip_model: object | None = None,
        density: float = 0.5,
        spread: float = 0.2,
        position: float = 0.5,
        aligned: bool = True,
        seed: int = 0,
        words: str = "",
    ) -> dict:
        connected = any(one is not None for one in (lora_stack, model, clip, clip_model))
        try:
            settings = MergeSettings(
                Recipe(method, density, spread, position, aligned, seed), keep, amount, dialect, dtype, words
            )
            files = files_of(loras, lora_stack)
            self.files = files.parsed
            path = host.output_path(filename_prefix, ".safetensors")
            lines, data = merge_files(files, base_of(model, clip, clip_model), settings, path, host.progress(1))
        except ValueError as error:
            if connected:
                raise
            # such a node may lie unused beside a workflow: it is said on the node, and the rest runs
            return problem_shown(str(error), outputs=3, report_at=2)
        spoken = ", ".join(data["trigger_words"])
        return shown(lines, data, (data["file"], spoken, as_json(data)), own=[spoken])


NODES = {"CVL_MergeLoRAs": (MergeLoRAs, "Merge LoRAs (CVL)")}
