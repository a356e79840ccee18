"""Checks of a node's inputs; an error says in one sentence what was expected, what came and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .host.interface import Image, Latent, Mask

if TYPE_CHECKING:
    from .host.interface import Tensor


def check_image(image: Image) -> None:
    """Check that an IMAGE is [B, H, W, 3 or 4] and has pixels."""
    shape = list(image.shape)
    if len(shape) != 4 or shape[-1] not in (3, 4):
        raise ValueError(
            f"an IMAGE of shape [batch, height, width, 3] was expected, but this one is {shape}; "
            "connect a node that gives RGB pictures"
        )
    if 0 in shape:
        raise ValueError(f"this IMAGE has no pixels: its shape is {shape}; check the crop or the batch before it")


def samples_of(latent: Latent) -> Tensor:
    """Return what a LATENT holds: a tensor, or several in one. Raises ValueError for something else."""
    if not isinstance(latent, dict) or "samples" not in latent:
        raise ValueError(f"a LATENT was expected, but a {type(latent).__name__} came; connect a sampler or VAE Encode")
    return latent["samples"]


def check_finite(image: Image, latent: Tensor) -> None:
    """Check that a decoded picture has no NaN; the error says whether the latent or the VAE is at fault."""
    if not latent.isfinite().all():
        raise ValueError(
            "this latent has NaN (not a number) or infinite values, so no picture can come of it: the sampler or the "
            "model before it overflowed; run that in higher precision"
        )
    if not image.isfinite().all():
        raise ValueError(
            "the VAE made NaN (not a number) values of a sound latent: it overflowed; load it with dtype fp32 or bf16"
        )


def check_numbers(tensor: Tensor, what: str) -> None:
    """Check that a tensor has no NaN and no infinity; the sentence calls it `what`."""
    if not tensor.isfinite().all():
        raise ValueError(
            f"{what} has NaN (not a number) or infinite values: what made it overflowed; run that in higher precision"
        )


def check_mask(mask: Mask) -> Mask:
    """Return a MASK as [B, H, W] in 0..1; also takes [H, W] and [B, 1, H, W], as stock nodes do."""
    shape = list(mask.shape)
    if len(shape) == 2 or (len(shape) == 4 and shape[1] == 1):
        mask = mask.reshape(-1, *shape[-2:])
    if mask.ndim != 3:
        raise ValueError(
            f"a MASK of shape [batch, height, width] was expected, but this one is {shape}; connect the mask of a "
            "picture"
        )
    if 0 in shape:
        raise ValueError(f"this MASK has no pixels: its shape is {shape}; check the crop or the batch before it")
    check_numbers(mask, "this MASK")
    return mask.float().clamp(0, 1)


def check_batches(**counts: int) -> int:
    """Return the common size of batches, each of which has that size or 1."""
    most = max(counts.values())
    if set(counts.values()) - {1, most}:
        came = ", ".join(f"{count} of {name}" for name, count in counts.items())
        raise ValueError(
            f"batches of one size, or of one, were expected, but {came} came; take as many from each, or one"
        )
    return most


def check_samples(latent: Latent, which: str) -> Tensor:
    """Return the samples of a LATENT of a picture or a video, [B, C, h, w] or [B, C, T, h, w]."""
    samples = samples_of(latent)
    if getattr(samples, "is_nested", False):
        raise ValueError(
            f"{which} LATENT holds several latents, as of a video with its sound, but one was expected; take it apart "
            "first, with the stock node for that"
        )
    shape = list(samples.shape)
    if len(shape) not in (4, 5) or 0 in shape:
        raise ValueError(
            f"{which} LATENT is {shape}, but one of shape [batch, channels, height, width] with cells in it was "
            "expected; connect the latent of a picture"
        )
    check_numbers(samples, f"{which} LATENT")
    return samples
