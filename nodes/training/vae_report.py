"""What a training of a VAE reports."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...training.vae.measures import mean_quality
from .report import unused_lines

if TYPE_CHECKING:
    from ...training.vae.judging import Judged
    from ...training.vae.work import Done, Job

WORSE = (
    "⚠ pictures come back worse than before: train more steps at a lower learning rate, with larger crops, and do not "
    "use this file"
)


def report_of(done: Done, job: Job) -> tuple[list[str], dict[str, object]]:
    """What was trained and what it did to whole pictures, in words and as data."""
    made, plan, steps = done.made, job.plan, len(done.made.losses)
    what = f"rank {plan.rank} beside the convolutions" if plan.rank else "all weights"
    count = len(done.gathered.pictures)
    lines = [
        f"{done.path.name}: {plan.part}, {what}, {made.trained:,} numbers trained",
        f"{count} pictures, {steps} steps in {done.seconds / 60:.1f} minutes"
        + (f" (of {plan.steps}: stopped early)" if made.is_early else ""),
        *_quality_lines(done),
        _latents_line(done),
    ]
    lines += unused_lines(done.gathered.unused)
    if done.gathered.flattened:
        lines.append(f"{len(done.gathered.flattened)} pictures have transparent parts, which were laid over white")
    lines += job.notes
    data: dict[str, object] = {
        "file": str(done.path),
        "steps": steps,
        "stopped_early": made.is_early,
        "part": plan.part,
        "rank": plan.rank,
        "numbers_trained": made.trained,
        "pictures": count,
        "held_out": list(made.held_out),
        "before": _judged_data(made.before),
        "after": _judged_data(made.after),
        "latents": {
            "before": made.before.latents,
            "after": made.after.latents,
            "equal": made.before.latents == made.after.latents,
            "moved_in_deviations": float(f"{made.moved:.5g}"),
        },
        "encoder": {
            "before": made.stored.encoder_before,
            "after": made.stored.encoder_after,
            "unchanged": made.stored.same_encoder,
        },
        "unused": dict(done.gathered.unused),
        "laid_over_white": list(done.gathered.flattened),
        "notes": list(job.notes),
        "losses": [round(loss, 6) for loss in made.losses],
        "errors": [{name: float(f"{value:.5g}") for name, value in one.items()} for one in made.errors],
        "validation": [
            {"step": one.step, "error": one.look.errors[0], "edges": one.look.errors[1]} for one in made.validation
        ],
        "plan": plan.describe(),
        "seconds": round(done.seconds, 1),
    }
    return lines, data


def _quality_lines(done: Done) -> list[str]:
    made = done.made
    before, after = (mean_quality(one.qualities) for one in (made.before, made.after))
    judges = len(made.before.qualities)
    whose = (
        f"{judges} held-out pictures" if made.held_out else f"{judges} pictures of the training, for none is held out"
    )
    lines = [f"{whose}: PSNR in dB {_change(before['psnr_db'], after['psnr_db'], '.2f')}"]
    if is_worse(before["psnr_db"], after["psnr_db"]):
        lines.insert(0, WORSE)
    for name, words in (("ssim", "SSIM"), ("edges", "edges, mean error"), ("details", "finest details, 1 is all")):
        if before[name] is not None and after[name] is not None:
            lines.append(f"{words}: {_change(before[name], after[name], '.4f')}")
    return lines


def is_worse(before: object, after: object) -> bool:
    """Whether pictures come back worse than before, in dB; what is not known is not worse."""
    return isinstance(before, float) and isinstance(after, float) and after < before


def _change(before: object, after: object, form: str) -> str:
    return f"{before:{form}} before, {after:{form}} after"


def _latents_line(done: Done) -> str:
    made = done.made
    if made.stored.same_encoder:
        return f"latents are as before, bit for bit ({made.after.latents[:12]}): every model for this VAE still fits"
    return (
        f"⚠ the encoder was trained: latents moved by {made.moved:.3f} of their deviation; models made for the old "
        "ones must be adapted"
    )


def _judged_data(judged: Judged) -> dict[str, object]:
    return {
        **mean_quality(judged.qualities),
        "pictures": {name: one.as_data() for name, one in judged.qualities.items()},
        "latent_means": [float(f"{value:.5g}") for value in judged.means],
        "latent_deviations": [float(f"{value:.5g}") for value in judged.deviations],
    }
