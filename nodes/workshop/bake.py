"""The node that puts LoRAs into a checkpoint for good."""

from __future__ import annotations

from .. import catalog
from ..host import host
from ..lora.rows import fingerprint
from ..reports import as_json, problem_shown, shown
from .baking import bake_files
from .sources import LORAS, STACK, files_of, prefix

NONE = "none"


class BakeLoRA:
    CATEGORY = "CVL/LoRA"
    DESCRIPTION = (
        "Writes a checkpoint, diffusion model or text encoder with LoRAs of any kind in it for good, at the strengths "
        "of a loader. One tensor is in memory at a time, and each is rounded once."
    )
    SEARCH_ALIASES = [
        "bake lora",
        "merge lora into checkpoint",
        "merge lora to model",
        "fuse lora",
        "save checkpoint with lora",
        "permanent lora",
    ]
    RETURN_TYPES = ("STRING", "STRING")
    RETURN_NAMES = ("path", "report")
    OUTPUT_TOOLTIPS = ("Where the file was written.", "What was changed, and what of the LoRAs has no place, as JSON.")
    FUNCTION = "bake"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        return {
            "required": {
                "checkpoint": (
                    [NONE, *catalog.choices("weights")],
                    {
                        "cvl_nothing": NONE,
                        "tooltip": "The file that the LoRAs go into; it stays as it is, a changed copy is written.",
                    },
                ),
                "loras": LORAS,
                "filename_prefix": prefix("checkpoints/baked"),
            },
            "optional": {"lora_stack": STACK},
        }

    @classmethod
    def VALIDATE_INPUTS(cls, checkpoint: str | None) -> bool:
        """Let a file that is gone pass: the node says it itself, and the rest of the workflow runs."""
        return True

    @classmethod
    def IS_CHANGED(cls, checkpoint: str, loras: str, **_: object) -> str:
        mark = "" if checkpoint == NONE else catalog.fingerprint("weights", checkpoint)
        return f"{mark}\n{fingerprint(loras)}"

    def bake(self, checkpoint: str, loras: str, filename_prefix: str, lora_stack: object | None = None) -> dict:
        try:
            if checkpoint == NONE:
                raise ValueError("no checkpoint is chosen: choose the file that the LoRAs are to go into")
            files = files_of(loras, lora_stack)
            self.files = files.parsed
            try:
                source = catalog.path("weights", checkpoint)
            except FileNotFoundError as error:
                raise ValueError(f'there is no "{checkpoint}" in the model folders; choose another file') from error
            path = host.output_path(filename_prefix, ".safetensors")
            lines, data = bake_files(files, source, path, host.progress(1))
        except ValueError as error:
            if lora_stack is not None:
                raise
            # such a node may lie unused beside a workflow: it is said on the node, and the rest runs
            return problem_shown(str(error), outputs=2, report_at=1)
        return shown(lines, data, (data["file"], as_json(data)))


NODES = {"CVL_BakeLoRA": (BakeLoRA, "Bake LoRA (CVL)")}
