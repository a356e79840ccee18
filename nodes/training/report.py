"""What a training of a LoRA reports."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ...training.lora.work import Done, Job

_SHOWN = 3


def report_of(done: Done, job: Job) -> tuple[list[str], dict[str, object]]:
    """What was trained, in words and as data."""
    made, prepared, plan = done.made, done.prepared, job.plan
    count, steps = len(prepared.pictures), len(made.losses)
    lines = [
        f"{done.path.name}: rank {plan.rank}, {len(made.layers)} layers, {made.trained:,} numbers trained",
        f"{count} pictures, {steps} steps in {done.seconds / 60:.1f} minutes"
        + (f" (of {plan.steps}: stopped early)" if made.is_early else ""),
    ]
    if made.text_adapters:
        lines[1:1] = [f"{len(made.text_adapters)} layers of the text encoder learned, too"]
    if made.validation:
        first, last = made.validation[0].mean, made.validation[-1].mean
        change = f"{100 * (last / first - 1) if first else 0.0:+.1f} %"
        lines.append(f"loss on {_judges(done)}: {first:.4f} before, {last:.4f} after ({change})")
    lines += [f"⚠ {len(prepared.without_caption)} pictures have no caption: they were trained without one"] * bool(
        prepared.without_caption
    )
    lines += unused_lines(prepared.unused)
    lines += [f"⚠ {len(done.without_name)} layers have no name in this dialect"] * bool(done.without_name)
    if len({picture.caption for picture in prepared.pictures}) == 1 and count > 1:
        lines.append("all captions are the same: what they say is learned as part of it")
    lines += [*made.notes, *job.notes]
    data: dict[str, object] = {
        "file": str(done.path),
        "steps": steps,
        "stopped_early": made.is_early,
        "rank": plan.rank,
        "layers": len(made.layers),
        "layers_of_text_encoder": len(made.text_adapters),
        "numbers_trained": made.trained,
        "pictures": count,
        "sizes": prepared.sizes_px,
        "cut_away_on_average": round(fmean(prepared.cuts or [0.0]), 4),
        "masked": prepared.masked,
        "enlarged": prepared.enlarged,
        "without_caption": prepared.without_caption,
        "unused": prepared.unused,
        "held_out": list(made.held_out),
        "without_name": dict(done.without_name),
        "notes": [*made.notes, *job.notes],
        "losses": [round(loss, 6) for loss in made.losses],
        "validation": [{"step": one.step, "loss": one.mean, "bands": list(one.bands)} for one in made.validation],
        "plan": plan.describe(),
        "seconds": round(done.seconds, 1),
    }
    return lines, data


def unused_lines(unused: Mapping[str, str]) -> list[str]:
    """How many files a training did not use, and the first of them with the reason."""
    return [f"⚠ {len(unused)} files were not used"] * bool(unused) + [
        f"  {name}: {why}" for name, why in list(unused.items())[:_SHOWN]
    ]


def _judges(done: Done) -> str:
    held_out = len(done.made.held_out)
    return f"{held_out} held-out pictures" if held_out else "pictures of the training"
