"""Baking: LoRAs put into a checkpoint for good, tensor by tensor, so that one is in memory at a time."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from ...files.errors import FileFormatError
from ...files.folder import index_path, is_part_of, write_shards
from ...files.safetensors_file import write_stream
from ...files.tensors import TensorFile
from ...lora.workshop.editing.baking import Baking, baked, plan_baking
from ...lora.workshop.gathering import Gathered
from .sources import Files, laid_out, lost_lines, open_checkpoint, size_text

OnStep = Callable[[int, int], None]
_STALE = ("modelspec.hash_sha256", "sshs_model_hash", "sshs_legacy_hash")


def bake_files(files: Files, checkpoint: Path, path: Path, on_step: OnStep) -> tuple[list[str], dict]:
    """Write a checkpoint with LoRAs in it. Returns the lines for a person and the data for a program.

    Every tensor is read, changed and written by itself; the file is there whole or not at all. A checkpoint in parts is
    written in as many parts, with their index.

    Raises:
        ValueError: the checkpoint or a LoRA cannot be used, or the disk refuses; the sentence says why.
    """
    with open_checkpoint(checkpoint) as (file, found, base):
        _check_apart(path, file.path)
        gathered = laid_out(files.sources, base)
        plan = plan_baking(gathered, found)
        header = {name: text for name, text in file.metadata.items() if name not in _STALE}
        header["cvl_baked"] = json.dumps(_recipe(gathered), ensure_ascii=False)
        path, parts = _written(file, path, plan, header, on_step)
    data = {
        "file": str(path),
        "parts": [str(part) for part in parts],
        "checkpoint": checkpoint.name,
        "size_bytes": sum(part.stat().st_size for part in parts or [path]),
        "tensors": len(file.shapes),
        "changed": len(plan.changes),
        "files": _recipe(gathered),
        "left_out": gathered.left_out,
    }
    count = len(gathered.sources)
    lines = [
        f"{path.name}: {count} LoRA(s) in {checkpoint.name}, {len(plan.changes)} of "
        f"{data['tensors']} tensors changed, {size_text(data['size_bytes'])}"
    ]
    lines += [f"in {len(parts)} parts, as the checkpoint is" for _ in parts[:1]]
    return lines + lost_lines(gathered), data


def _check_apart(path: Path, checkpoint: Path) -> None:
    """Refuse to write over what is read, or over one of its parts."""
    for own in (path, index_path(path)):
        if is_part_of(own, checkpoint):
            raise FileFormatError(own, "it is the checkpoint itself: choose another name to write to")


def _written(
    file: TensorFile, path: Path, plan: Baking, header: Mapping[str, str], on_step: OnStep
) -> tuple[Path, list[Path]]:
    """What was written, and its parts where it has some."""
    kinds = {name: (file.dtypes[name], file.shapes[name]) for name in file.shapes}
    if file.shards:
        return write_shards(
            path, file.shards, kinds, lambda name: baked(plan, name, file.read([name])[name]), header, on_step
        )
    write_stream(path, kinds, lambda name: baked(plan, name, file.read([name])[name]), header, on_step)
    return path, []


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
