"""A VAE is rescaled by what some pictures make it compute, and tried in fp16 before and after."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..networks.kl import AutoencoderKL
from .factors import ROOMS, Rescaled, fitted

_MOST_PICTURES, _MOST_PX, _IN_FP16_PX = 4, 256, 128
_RUNS = 1 + len(ROOMS)  # as it was, and once for each of the rooms that are tried

Progress = Callable[[int], Callable[[int, int], None]]


@dataclass(frozen=True, eq=False)
class Probed:
    """What was made, and measured. moved: how far outputs in fp32 are from those of the network as it was, over their
    largest number. before, after: how far outputs in fp16 are from fp32; None: NaN or infinity. pictures: how many
    were looked at.
    """

    result: Rescaled
    moved: float
    before: float | None
    after: float | None
    pictures: int


def rescaled(
    build: Callable[..., nn.Module],
    state: Mapping[str, Tensor],
    device: torch.device,
    pictures: Sequence[Tensor],
    progress: Progress,
) -> Probed:
    """Rescale a VAE so that fp16 holds what it computes for these pictures, of which the first few are looked at.

    Args:
        build: (device, dtype) -> the network, without weights.
        state: its tensors as they are stored.
        device: where it is computed, in fp32 and in fp16.
        pictures: [1, H, W, 1, 3 or 4] in 0..1 each.
        progress: count -> what is called with (done, count); may raise to stop.

    Raises:
        ValueError: another kind of VAE, half a one, or pictures that are too small.
    """
    with torch.inference_mode(False), torch.no_grad():
        network = _network(build, state, device)
        seen = _moved([_cut(one, _MOST_PX, network) for one in pictures[:_MOST_PICTURES]], device)
        before = _off_in_fp16(network, seen[0])
        found, moved = fitted(network, state, _run(network, seen, progress(_RUNS * len(seen))))
        after = _off_in_fp16(network, seen[0]) if found.factors else before
    return Probed(found, moved, before, after, len(seen))


def _network(build: Callable[..., nn.Module], state: Mapping[str, Tensor], device: torch.device) -> AutoencoderKL:
    network = build(device=device, dtype=torch.float32)
    if not isinstance(network, AutoencoderKL):
        kind = getattr(network, "title", type(network).__name__)
        raise ValueError(
            f"a VAE of SD, SDXL, SD3 or Flux was expected, and this one is a {kind}, which is not rescaled: use it as "
            "it is, in bf16 or fp32 where fp16 gives black pictures"
        )
    if network.encoder is None or network.decoder is None:
        raise ValueError(
            "a VAE with an encoder and a decoder was expected, and this one has one of them: load the full VAE"
        )
    network.load_state_dict({name: tensor.detach().clone() for name, tensor in state.items()})
    return network.requires_grad_(False).eval()


def _cut(image: Tensor, most_px: int, network: AutoencoderKL) -> Tensor:
    """The middle of a picture in whole cells. [1, H, W, any] in 0..1 -> [1, C, h, w] in -1..1"""
    channels, factor = network.config.image_channels, network.config.factor
    pixels = image.clone().movedim(-1, 1).to("cpu", torch.float32) * 2 - 1
    if pixels.shape[1] == 1:
        pixels = pixels.expand(-1, min(channels, 3), -1, -1)
    opaque = torch.ones_like(pixels[:, :1]).expand(-1, max(0, channels - pixels.shape[1]), -1, -1)
    pixels = torch.cat([pixels[:, :channels], opaque], 1)
    sides = [min(most_px, side) // factor * factor for side in pixels.shape[2:]]
    if min(sides) < factor:
        raise ValueError(f"pictures of {factor} px or more were expected, and one is smaller: connect larger ones")
    top, left = ((whole - side) // 2 for whole, side in zip(pixels.shape[2:], sides))
    return pixels[:, :, top : top + sides[0], left : left + sides[1]].contiguous()


def _moved(pictures: Sequence[Tensor], device: torch.device) -> list[Tensor]:
    """The pictures on the device, over the bus at once."""
    numbers = torch.cat([one.flatten() for one in pictures]).to(device)
    return [part.view_as(one) for part, one in zip(numbers.split([one.numel() for one in pictures]), pictures)]


def _run(network: AutoencoderKL, pictures: Sequence[Tensor], on_step: Callable) -> Callable[[], list[Tensor]]:
    """Gives the latents and the pictures of the network's own halves."""
    done = 0

    def run() -> list[Tensor]:
        nonlocal done
        results = []
        for pixels in pictures:
            results += _outputs(network, pixels)
            done += 1
            on_step(done, _RUNS * len(pictures))
        return results

    return run


def _outputs(network: AutoencoderKL, pixels: Tensor) -> list[Tensor]:
    """The mean latent of a picture, and the picture of that. [1, C, H, W] -> [1, c, h, w], [1, C, H, W]"""
    latent = network.posterior(pixels).mean
    return [latent, network.as_pixels(network.half_for("decode")(network.into_decoder(latent)))]


def _off_in_fp16(network: AutoencoderKL, pixels: Tensor) -> float | None:
    """How far a small part's latent and picture in fp16 are from those in fp32, over their largest numbers; None where
    they hold NaN or infinity. The network is as before after it. [1, C, H, W]
    """
    small = _cut((pixels.movedim(1, -1) + 1) / 2, _IN_FP16_PX, network).to(pixels.device)
    own = _outputs(network, small)
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    found = _outputs(network.half(), small.half())
    network.float().load_state_dict(state)
    if not all(bool(one.isfinite().all()) for one in found):
        return None
    return max(float((one.float() - was).abs().max() / was.abs().max()) for one, was in zip(found, own))
