"""Questions asked at the door of a node, answered in one sentence: what was expected, what came, what to do."""

from __future__ import annotations


def check_image(image) -> None:
    """An IMAGE: [B, H, W, 3 or 4], with pixels in it."""
    shape = list(image.shape)
    if len(shape) != 4 or shape[-1] not in (3, 4):
        raise ValueError(
            f"an IMAGE of shape [batch, height, width, 3] was expected, but this one is {shape}; "
            "connect a node that gives RGB pictures"
        )
    if 0 in shape:
        raise ValueError(f"this IMAGE has no pixels: its shape is {shape}; check the crop or the batch before it")


def check_latent(latent, wanted_channels: int | None):
    """The samples of a LATENT, [B, C, h, w], with the channels this VAE wants."""
    if not isinstance(latent, dict) or "samples" not in latent:
        raise ValueError(f"a LATENT was expected, but a {type(latent).__name__} came; connect a sampler or VAE Encode")
    samples = latent["samples"]
    shape = list(samples.shape)
    if wanted_channels is None:
        return samples  # a video or audio VAE: its own decode knows its latents
    if len(shape) == 5 and shape[2] == 1:
        samples = samples[:, :, 0]
        shape = list(samples.shape)
    if len(shape) != 4 or 0 in shape:
        raise ValueError(
            f"a LATENT of shape [batch, {wanted_channels}, height, width] was expected, but this one is "
            f"{shape}; connect the latent of a picture"
        )
    if shape[1] != wanted_channels:
        raise ValueError(
            f"this latent has {shape[1]} channels, this VAE wants {wanted_channels}; "
            "load the VAE that belongs to the model the latent came from"
        )
    return samples


def check_finite(image, latent) -> None:
    """A decoded picture without NaN; NaN is the one value that differs from itself."""
    if (latent != latent).any():
        raise ValueError(
            "this latent has NaN (not a number) values, so no picture can come of it: the sampler or the model "
            "before it overflowed; run that in higher precision"
        )
    if (image != image).any():
        raise ValueError(
            "the VAE made NaN (not a number) values of a sound latent: it overflowed; load it with dtype fp32 or bf16"
        )
