"""Checks of a node's inputs; an error says in one sentence what was expected, what came and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .host.interface import Image, Latent, Mask

if TYPE_CHECKING:
    from .host.interface import Tensor


INFINITE = float("inf")
LEAST, MOST = -0.5, 1.5  # of an IMAGE: bicubic scaling of 0..1 comes to -0.45 and 1.45 at most (two passes of 1.375)


def check_image(image: Image) -> None:
    """Check that an IMAGE is a tensor [B, H, W, 3 or 4] of fractional numbers, with pixels, about in 0..1."""
    check_tensor(image, "an IMAGE")
    shape = list(image.shape)
    if len(shape) != 4 or shape[-1] not in (3, 4):
        raise ValueError(
            f"an IMAGE of shape [batch, height, width, 3] was expected, but this one is {shape}; "
            "connect a node that gives RGB pictures"
        )
    if 0 in shape:
        raise ValueError(f"this IMAGE has no pixels: its shape is {shape}; check the crop or the batch before it")
    check_range(image)


def check_tensor(value: object, what: str) -> None:
    """Check that a link brought a plain tensor, not a text, a list, an array of another library or nothing, and none
    that is sparse, nested or without numbers; the sentence calls it `what`.
    """
    if not hasattr(value, "isfinite") or not hasattr(value, "dtype"):
        came = "nothing" if value is None else f"a value of type {type(value).__name__}"
        raise ValueError(f"{what} was expected here, but {came} came; link a node that gives one")
    kind = "nested" if getattr(value, "is_nested", False) else str(value.layout).removeprefix("torch.")
    kind = "without numbers (on the device meta)" if value.device.type == "meta" else kind
    if kind != "strided":
        raise ValueError(
            f"{what} was expected here as a plain tensor, but this one is {kind}; link a node that gives a plain one"
        )


def check_kind(tensor: Tensor, what: str) -> None:
    """Check that a tensor's numbers are of a kind that can be computed with; the sentence calls it `what`."""
    kind = str(tensor.dtype).removeprefix("torch.")
    if kind.startswith(("float8", "float4", "complex", "quint", "qint", "bits")):
        raise ValueError(
            f"{what} is of type {kind}, but fractional numbers (float32) were expected; mend it in the node before "
            "this one"
        )


def check_range(image: Image) -> None:
    """Check that pixels, of any shape, are fractional numbers in 0..1, or as far beside as scaling brings them. What is
    no number is not judged here; see `check_numbers`.
    """
    kind = str(image.dtype).removeprefix("torch.")
    if kind not in ("float32", "float16", "bfloat16", "float64"):
        raise ValueError(
            f"this IMAGE is of type {kind}, but fractional numbers (float32) in 0..1 were expected; whole numbers from "
            "0 to 255 become that divided by 255: mend it in the node before this one"
        )
    least, most = (bound.item() for bound in image.aminmax())
    if least < LEAST or most > MOST:
        if INFINITE in (-least, most):
            check_numbers(image, "this IMAGE")
        raise ValueError(
            f"this IMAGE has values from {least:.4g} to {most:.4g}, outside 0..1; bring it into that range in the node "
            "before this one (0..255: divide by 255; -1..1: halve and add 0.5)"
        )


def samples_of(latent: Latent) -> Tensor:
    """Return what a LATENT holds: a tensor, or several in one. Raises ValueError for something else."""
    if not isinstance(latent, dict) or "samples" not in latent:
        raise ValueError(f"a LATENT was expected, but a {type(latent).__name__} came; connect a sampler or VAE Encode")
    samples = latent["samples"]
    parts = samples.unbind() if _is_several(samples) else [samples]
    for part in parts:
        check_tensor(part, "the tensor of a LATENT")
        check_kind(part, "this LATENT")
        if not part.ndim:
            raise ValueError("a LATENT of shape [batch, channels, ...] was expected, but this one is a single number")
    return samples


def _is_several(samples: object) -> bool:
    """Whether these are ComfyUI's several latents in one, which are no tensor of torch's."""
    return bool(getattr(samples, "is_nested", False)) and not hasattr(samples, "isfinite")


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
    check_tensor(mask, "a MASK")
    check_kind(mask, "this MASK")
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
    mask = mask.float()
    least, most = (bound.item() for bound in mask.aminmax())
    if least < LEAST or most > MOST:
        raise ValueError(
            f"this MASK has values from {least:.4g} to {most:.4g}, outside 0..1; bring it into that range in the node "
            "before this one (0..255: divide by 255)"
        )
    return mask.clamp(0, 1)


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
