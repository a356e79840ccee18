"""What a training of a CLIP reports."""

from __future__ import annotations

from ...training.clip.data.examples import Prepared
from ...training.clip.judging import Measured
from ...training.clip.saving import LORA
from ...training.clip.work import ClipDone, ClipJob
from .report import unused_lines


def clip_report(done: ClipDone, job: ClipJob, prepared: Prepared, start: str) -> tuple[list[str], dict[str, object]]:
    """What was trained, in words and as data. `start`: what the training began with."""
    made, plan = done.made, job.plan
    name = "" if done.path is None else done.path.name
    steps = len(made.losses)
    lines = [
        f"{name}: {done.written}, {made.trained:,} numbers trained, from {start}",
        f"{len(prepared.examples)} pictures, {steps} steps in {done.seconds / 60:.1f} minutes"
        + (f" (of {made.steps}: stopped early)" if made.is_early else ""),
    ]
    count, is_held_out = made.judged
    judges = f"{count} held-out pictures" if is_held_out else "pictures of the training"
    if made.validation:
        lines += _judged(made.validation[0], made.validation[-1], judges)
    if not is_held_out:
        lines.append("⚠ no picture is held out: these numbers do not say how it does on others")
    elif count < 2 and not prepared.classes:
        lines.append("⚠ one held-out picture has no other to be told apart from: hold out more")
    lines += _way(done)
    lines += unused_lines(prepared.unused)
    lines += [f"{prepared.copies} pictures are copies of others: they stay on one side"] * bool(prepared.copies)
    lines += [f"⚠ {len(made.cut)} texts are longer than the model reads: their ends were cut"] * bool(made.cut)
    lines += [f"⚠ {len(done.without_name)} layers have no name in this file"] * bool(done.without_name)
    notes = [*prepared.notes, *_lora_notes(done, job)]
    if done.vocabulary is not None:
        notes.append(f"its vocabulary lies beside it, {done.vocabulary.name}: keep both together")
    lines += notes
    data: dict[str, object] = {
        "file": "" if done.path is None else str(done.path),
        "written": done.written,
        "share": done.share,
        "start": start,
        "steps": steps,
        "stopped_early": made.is_early,
        "numbers_trained": made.trained,
        "pictures": len(prepared.examples),
        "classes": list(prepared.classes),
        "copies": prepared.copies,
        "unused": dict(prepared.unused),
        "held_out": list(made.held_out),
        "texts_cut": dict(made.cut),
        "without_name": dict(done.without_name),
        "notes": notes,
        "losses": [round(loss, 6) for loss in made.losses],
        "validation": [one.told() for one in made.validation],
        "sweep": done.sweep.told() if done.sweep else None,
        "drift": [one.told() for one in done.drift],
        "plan": plan.describe(),
        "seconds": round(done.seconds, 1),
    }
    return lines, data


def _judged(first: Measured, last: Measured, judges: str) -> list[str]:
    lines = [f"loss on {judges}: {first.loss:.4f} before, {last.loss:.4f} after"]
    if last.accuracy is not None and last.interval is not None and first.accuracy is not None:
        low, high = last.interval
        lines.append(
            f"right class: {first.accuracy:.1%} before, {last.accuracy:.1%} after (95 % interval {low:.1%} to "
            f"{high:.1%})"
        )
    if last.found and first.found:
        lines.append(
            f"picture finds its text: {first.found[0]:.1%} before, {last.found[0]:.1%} after; text finds its picture: "
            f"{first.found[1]:.1%} before, {last.found[1]:.1%} after"
        )
    return lines


def _way(done: ClipDone) -> list[str]:
    """Lines on the way between before and after, and on how far the text encoder has moved."""
    lines = []
    if done.sweep:
        best = done.sweep.measured[done.sweep.best]
        worth = f"{best.accuracy:.1%} right" if best.accuracy is not None else f"loss {best.loss:.4f}"
        share = done.sweep.shares[done.sweep.best]
        lines.append(f"between before (0) and after (1) the best is {share:g} ({worth}); written is {done.share:g}")
    lines += [
        f"text encoder, {one.layer} layer: cosine to before {one.mean:.4f} (least {one.least:.4f})"
        for one in done.drift
    ]
    return lines


def _lora_notes(done: ClipDone, job: ClipJob) -> list[str]:
    if done.written != LORA:
        return []
    notes = []
    if job.plan.train_scale:
        notes.append("⚠ the factor on cosines learned, too, and has no place in a LoRA file")
    if done.share != 1:
        notes.append(f"the LoRA is written whole: load it at strength {done.share:g}")
    return notes
