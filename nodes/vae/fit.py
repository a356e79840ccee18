"""Whether a VAE is one for pictures, and a latent one of its own; an error says in one sentence what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..checks import samples_of
from ..host import host
from ..host.shared.vae_facts import PICTURES, SHAPES, SOUND

if TYPE_CHECKING:
    from ..host.interface import VAE, Image, Latent, Tensor, VAEFacts


def picture_vae(vae: VAE) -> VAEFacts:
    """What a VAE for pictures or videos makes of what. Raises ValueError for another, or where there is none."""
    facts = host.vae_facts(vae)
    if facts.makes == SOUND:
        raise ValueError(
            f"a VAE for pictures was expected, but this one is for sound ({facts.kind}): use VAE Encode Audio and VAE "
            "Decode Audio with it, and load the VAE of a model for pictures or videos here"
        )
    if facts.makes == SHAPES:
        raise ValueError(
            f"a VAE for pictures was expected, but this one is for 3-D shapes ({facts.kind}): use the decoder node of "
            "its own model with it, and load the VAE of a model for pictures or videos here"
        )
    return facts


def check_latent(latent: Latent, facts: VAEFacts) -> tuple[Tensor, list[str]]:
    """The samples [B, C, h, w], of a video [B, C, t, h, w], with the channels that this VAE wants; and notes."""
    samples, notes = samples_of(latent), list[str]()
    if getattr(samples, "is_nested", False):
        parts = list(samples.unbind())
        samples = parts[0]
        notes.append(f"the first of {len(parts)} latents was decoded, as by the stock node: the others are no pictures")
    shape, still = list(samples.shape), facts.makes == PICTURES
    if still and len(shape) == 5 and shape[2] == 1:
        samples = samples[:, :, 0]
        shape = list(samples.shape)
    wanted = f"[batch, {facts.latent_channels}, {'' if still else 'frames, '}height, width]"
    if len(shape) != (4 if still else 5) or 0 in shape:
        of = "a picture" if still else "a video model, which has frames even for one picture"
        raise ValueError(
            f"a LATENT of shape {wanted} was expected, but this one is {shape}, and this VAE wants the latent of {of}; "
            "load the VAE that belongs to the model the latent came from"
        )
    if shape[1] != facts.latent_channels:
        raise ValueError(
            f"this latent has {shape[1]} channels, this VAE wants {facts.latent_channels}; "
            "load the VAE that belongs to the model the latent came from"
        )
    return samples, notes


def channel_notes(image: Image, facts: VAEFacts) -> list[str]:
    """What is said of the channels of a picture that the VAE does not have, or has besides."""
    if facts.image_channels == 1:
        return ["this VAE knows grey only: the mean of the colours is encoded"]
    if image.shape[-1] > facts.image_channels:
        return ["the alpha channel is not encoded"]
    if image.shape[-1] < facts.image_channels:
        return ["this VAE has an alpha channel, and the picture none: it is encoded as opaque"]
    return []


def frame_notes(image: Image, samples: Tensor, facts: VAEFacts) -> list[str]:
    """What is said of the pictures of a batch that are the frames of one video."""
    if not facts.frames_together or facts.frames_of is None or len(image) == 1:
        return []
    came, back = len(image), facts.frames_of(samples.shape[2])
    if back < came:
        return [f"one video of {came} frames: the last {came - back} fill no latent frame and are left out"]
    return [f"one video of {came} frames" + (f", which the VAE fills up to {back}" if back > came else "")]
