"""Baking: LoRAs put into a checkpoint for good, tensor by tensor, so that one is in memory at a time."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

from ...files.errors import FileFormatError
from ...files.safetensors_file import write_stream
from ...lora.workshop.editing.baking import baked, plan_baking
from ...lora.workshop.gathering import Gathered
from .sources import Files, laid_out, lost_lines, open_checkpoint, size_text

OnStep = Callable[[int, int], None]
_STALE = ("modelspec.hash_sha256", "sshs_model_hash", "sshs_legacy_hash")


def bake_files(files: Files, checkpoint: Path, path: Path, on_step: OnStep) -> tuple[list[str], dict]:
    """Write a checkpoint with LoRAs in it. Returns the lines for a person and the data for a program.

    Every tensor is read, changed and written by itself; the file is there whole or not at all.

    Raises:
        ValueError: the checkpoint or a LoRA cannot be used, or the disk refuses; the sentence says why.
    """
    if path.exists() and checkpoint.exists() and os.path.samefile(path, checkpoint):
        raise FileFormatError(path, "it is the checkpoint itself: choose another name to write to")
    with open_checkpoint(checkpoint) as (file, found, base):
        gathered = laid_out(files.sources, base)
        plan = plan_baking(gathered, found)
        kinds = {name: (file.dtypes[name], file.shapes[name]) for name in file.shapes}
        header = {name: text for name, text in file.metadata.items() if name not in _STALE}
        header["cvl_baked"] = json.dumps(_recipe(gathered), ensure_ascii=False)
        write_stream(path, kinds, lambda name: baked(plan, name, file.read([name])[name]), header, on_step)
    data = {
        "file": str(path),
        "checkpoint": checkpoint.name,
        "size_bytes": path.stat().st_size,
        "tensors": len(kinds),
        "changed": len(plan.changes),
        "files": _recipe(gathered),
        "left_out": gathered.left_out,
    }
    count = len(gathered.sources)
    lines = [
        f"{path.name}: {count} LoRA(s) in {checkpoint.name}, {len(plan.changes)} of "
        f"{len(kinds)} tensors changed, {size_text(data['size_bytes'])}"
    ]
    return lines + lost_lines(gathered), data


def _recipe(gathered: Gathered) -> list[dict]:
    return [
        {
            "name": one.name,
            "strength_model": one.strength_model,
            "strength_clip": one.strength_clip,
            "blocks": one.blocks,
            "modules": gathered.modules_of(number),
        }
        for number, one in enumerate(gathered.sources)
    ]
