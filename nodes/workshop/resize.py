"""The node that makes a LoRA file smaller."""

from __future__ import annotations

from ...lora.workshop.ranks import RANK, RULES
from .. import catalog
from ..host import host
from ..lora.files import lora_choice, read_chosen
from ..reports import as_json, problem_shown, shown
from .resizing import ResizeSettings, resize_file
from .sources import CLIP, CLIP_MODEL, DTYPE, MODEL, OWN_OR_DIALECT, amount, base_of, check_free, prefix


class ResizeLoRA:
    CATEGORY = "CVL/LoRA"
    DESCRIPTION = (
        "Makes a LoRA file smaller: to a rank, a share, a ratio, what rises above its rounding noise, or to a file "
        "size that is spent where it matters most. Any kind and dialect, exact, with what was lost in every layer."
    )
    SEARCH_ALIASES = [
        "resize lora",
        "shrink lora",
        "lora rank",
        "reduce lora",
        "compress lora",
        "lora svd",
        "lycoris to lora",
        "dora to lora",
        "convert locon",
        "smaller lora",
    ]
    RETURN_TYPES = ("STRING", "STRING", "IMAGE")
    RETURN_NAMES = ("path", "report", "image")
    OUTPUT_TOOLTIPS = (
        "Where the file was written.",
        "The ranks and what was lost, by layer, by block and altogether, as JSON.",
        "The picture: what was lost, by block.",
    )
    FUNCTION = "resize"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        return {
            "required": {
                "file": lora_choice(),
                "keep": (
                    list(RULES),
                    {
                        "default": RANK,
                        "tooltip": "rank: of every layer. energy, frobenius, sum: a share of the squares, of the norm, "
                        "of the sum. ratio: to the largest. automatic: what is above the rounding noise. size: of the "
                        "file.",
                    },
                ),
                "amount": amount(16.0),
                "dialect": OWN_OR_DIALECT,
                "dtype": DTYPE,
                "filename_prefix": prefix("loras/resized"),
            },
            "optional": {
                "model": MODEL,
                "clip": CLIP,
                "clip_model": CLIP_MODEL,
                "largest_rank": (
                    "INT",
                    {
                        "default": 0,
                        "min": 0,
                        "max": 4096,
                        "advanced": True,
                        "tooltip": "No layer gets more than this, whatever keep says. 0: no bound.",
                    },
                ),
            },
        }

    @classmethod
    def VALIDATE_INPUTS(cls, file: str | None) -> bool:
        """Let a file that is gone pass: the node says it itself, and the rest of the workflow runs."""
        return True

    @classmethod
    def IS_CHANGED(cls, file: str, **_: object) -> str:
        return catalog.fingerprint("lora", file)

    def resize(
        self,
        file: str,
        keep: str,
        amount: float,
        dialect: str,
        dtype: str,
        filename_prefix: str,
        model: object | None = None,
        clip: object | None = None,
        clip_model: object | None = None,
        largest_rank: int = 0,
    ) -> dict:
        connected = any(one is not None for one in (model, clip, clip_model))
        try:
            self.file = read = read_chosen(file)  # kept: not read again for other inputs
            settings = ResizeSettings(keep, amount, dialect, dtype, largest_rank)
            path = host.output_path(filename_prefix, ".safetensors")
            check_free(path, [read])
            base = base_of(model, clip, clip_model)
            lines, data, picture = resize_file(read, base, settings, path, host.progress(1))
        except ValueError as error:
            if connected:
                raise
            # such a node may lie unused beside a workflow: it is said on the node, and the rest runs
            return problem_shown(str(error), outputs=3, report_at=1)
        own = data["trigger_words"]
        return shown(
            lines, data, (data["file"], as_json(data), picture), host.save_preview(picture, "cvl_lora"), own=own
        )


NODES = {"CVL_ResizeLoRA": (ResizeLoRA, "Resize LoRA (CVL)")}
