"""The sizes of a VAE, and the published families: what each one's diffusion model does to a raw latent.

Raw is what the network itself gives and takes, and what ComfyUI's LATENT holds; model space is what the diffusion
model is trained in: `(raw - shift) * scale`. SD1, SD2 and SDXL share their shapes, and so do SD3 and Flux.1: the family
can not be seen in a file's tensors, it is always an argument.
Numbers: CompVis/latent-diffusion, Stability-AI/generative-models and sd3-ref, black-forest-labs/flux, and the model
cards' `scaling_factor`, `shift_factor`, `latents_mean`, `latents_std`.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

NORM_GROUPS = 32
NORM_EPS = 1e-6


@dataclass(frozen=True)
class Values:
    """How many values a network holds for one picture, at the fullest moment of its work."""

    once: float  # untiled
    waits: float  # by tiles: stored between two sweeps
    middle: float  # by tiles: at latent size, with attention's keys and values
    once_on_card: float  # untiled, with the kernels that a card runs
    largest: float  # its largest single tensor
    scores: float  # its attention's scores, one for each pair of cells; 0 without attention
    reach: int = 0  # by tiles: latent cells round a tile that are computed with it, where those are many
    tile: float = 0.0  # and the values of a tile below which it is not worth having
    kept: float = 0.0  # the share of a video's values that Linux's C library keeps besides where tensors are small


@dataclass(frozen=True)
class VAEConfig:
    """An AutoencoderKL in numbers; its level `i` is `channels * multipliers[i]` wide at 1 / 2**i of the picture's size.

    The published SD1 layout is `VAEConfig(128, (1, 2, 4, 4), 2, 4, True)`; SD3's and Flux.1's is the same with
    `latent=16, quant=False`. FLUX.2's has 32 channels between its halves; ComfyUI's latent, and ours, is that one
    normalised by a batch norm's statistics, `patch` x `patch` cells folded into the channels: `latent=128, patch=2`.
    """

    channels: int  # width at the picture's size
    multipliers: tuple[float, ...]  # width of each level, in units of `channels`; whole numbers in every known file
    blocks: int  # residual blocks per level of the encoder; the decoder has one more
    latent: int  # channels of the latent: those between the halves, times patch * patch
    quant: bool  # 1x1 convolutions on both sides of the latent
    decoder_channels: int | None = None  # the decoder's own width where it differs (None: as the encoder)
    image_channels: int = 3
    patch: int = 1  # FLUX.2: 2

    def __post_init__(self):
        if not self.multipliers or min(self.blocks, self.latent, self.image_channels) < 1:
            raise ValueError(f"a VAE needs at least one level, one block, one latent and one image channel, not {self}")
        if self.latent % self.patch**2:
            raise ValueError(f"{self.latent} latent channels are no whole number of {self.patch} x {self.patch} cells")
        for width in (self.channels, *self.widths, *self.decoder_widths):
            if width < NORM_GROUPS or width % NORM_GROUPS:
                raise ValueError(
                    f"every width of a VAE is a multiple of {NORM_GROUPS} (its norms have that many "
                    f"groups), not {width}: choose other channels or multipliers"
                )

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels at each level of the encoder, the picture's size first."""
        return tuple(round(self.channels * m) for m in self.multipliers)

    @property
    def decoder_widths(self) -> tuple[int, ...]:
        """Channels at each level of the decoder, the picture's size first."""
        return tuple(round((self.decoder_channels or self.channels) * m) for m in self.multipliers)

    @property
    def stack_latent(self) -> int:
        """Channels between the two halves."""
        return self.latent // self.patch**2

    @property
    def factor(self) -> int:
        """Picture pixels per latent cell, along each side."""
        return 2 ** (len(self.multipliers) - 1) * self.patch

    def widths_of(self, way: str) -> tuple[int, ...]:
        """Channels at each level on the way "encode" or "decode", the picture's size first."""
        return self.widths if way == "encode" else self.decoder_widths

    def values(self, way: str, px: int) -> Values:
        """The values that one picture of `px` pixels needs on the way "encode" or "decode"."""
        widths = self.widths_of(way)
        cells = [px / 4**number for number in range(len(widths))]  # of each level
        once, waits = (_decode_values if way == "decode" else _encode_values)(widths, cells)
        once_on_card, inputs = once, widths
        if way == "decode":
            inputs = (*widths[1:], widths[-1])  # a level's input has the width of the level below it
            # one convolution makes all four pixels of a cell (doubling.doubled_at_once)
            once_on_card = max(once, *(9 * outer * here for outer, here in zip(widths[1:], cells[1:])), 0)
        largest = max(max(pair) * here for pair, here in zip(zip(widths, inputs), cells))
        middle = 5 * widths[-1] * cells[-1]  # attention: keys and values, and a tile, which here is often all cells
        return Values(once, waits, middle, once_on_card, largest, scores=cells[-1] ** 2)


@dataclass(frozen=True)
class Family:
    """model space = (raw - shift) * scale, per latent channel where there is more than one number.

    px_per_cell: picture pixels per latent cell of its own VAE, along each side. tiny: what the files of its published
    tiny autoencoder are called. tiny_is_deep: that one has the deeper stack, so that its tensors tell what it is.
    """

    title: str
    latent: int
    scale: tuple[float, ...]
    shift: tuple[float, ...] = (0.0,)
    px_per_cell: int = 8
    tiny: str = ""
    tiny_is_deep: bool = False


_PLAYGROUND_STD = (8.4927, 5.9022, 6.5498, 5.2299)

FAMILIES = {
    "sd1": Family("SD1.x, SD2.x, PixArt-alpha", 4, (0.18215,), tiny="taesd"),
    "sdxl": Family("SDXL, PixArt-sigma, AuraFlow, HunyuanDiT", 4, (0.13025,), tiny="taesdxl"),
    "playground": Family(
        "Playground 2.5", 4, tuple(0.5 / s for s in _PLAYGROUND_STD), (-1.6574, 1.886, -1.383, 2.5155)
    ),
    "upscaler": Family("SD x4 upscaler", 4, (0.08333,), px_per_cell=4),
    "sd3": Family("SD3, SD3.5", 16, (1.5305,), (0.0609,), tiny="taesd3"),
    "flux": Family("Flux.1, Lumina 2, HiDream, OmniGen 2, Chroma, Z-Image", 16, (0.3611,), (0.1159,), tiny="taef1"),
    "flux2": Family("FLUX.2 (its autoencoder normalises the latent itself)", 128, (1.0,), px_per_cell=16),
    "sana": Family("Sana", 32, (0.41407,), px_per_cell=32, tiny="taesana", tiny_is_deep=True),
}


def to_raw(latent: Tensor, family: str) -> Tensor:
    """What the family's diffusion model works on -> raw latent. [B, C, h, w] -> [B, C, h, w]

    Raises ValueError for an unknown family or a latent with another number of channels.
    """
    scale, shift = _numbers(latent, family)
    return latent / scale + shift


def _numbers(latent: Tensor, family: str) -> tuple[Tensor, Tensor]:
    if family not in FAMILIES:
        raise ValueError(f"no VAE family is called {family!r}; there are {', '.join(FAMILIES)}")
    found = FAMILIES[family]
    if latent.ndim != 4 or latent.shape[1] != found.latent:
        raise ValueError(
            f"a latent of {found.title} has {found.latent} channels [B, {found.latent}, h, w], "
            f"this one is {list(latent.shape)}: choose the latent's own family"
        )
    numbers = (
        torch.tensor(n, device=latent.device, dtype=latent.dtype).view(1, -1, 1, 1) for n in (found.scale, found.shift)
    )
    return next(numbers), next(numbers)


def prior_sample(noise: Tensor, family: str) -> Tensor:
    """Standard normal noise with the statistics that the family's raw latents have. [B, C, h, w] -> [B, C, h, w]

    A diffusion model's latents are about standard normal in model space: that is what scale and shift are for.
    """
    return to_raw(noise, family)


def fold(x: Tensor, patch: int) -> Tensor:
    """patch x patch cells into the channels, the channel number slowest. [B, C, H, W] -> [B, C*p*p, H/p, W/p]"""
    return torch.nn.functional.pixel_unshuffle(x, patch) if patch > 1 else x


def unfold(x: Tensor, patch: int) -> Tensor:
    """The inverse of `fold`. [B, C*p*p, h, w] -> [B, C, h*p, w*p]"""
    return torch.nn.functional.pixel_shuffle(x, patch) if patch > 1 else x


def _decode_values(widths: tuple[int, ...], cells: list[float]) -> tuple[float, float]:
    """AutoencoderKL's decoder: untiled, and stored between its sweeps. Widths and cells of each level."""
    once, waits = 0.0, 0.0
    for number in reversed(range(len(widths))):
        inner, outer, here = (*widths, widths[-1])[number + 1], widths[number], cells[number]
        # a residual block holds input, normed input and first half; then shortcut, first half and second half
        once = max(once, (2 * inner + outer) * here, (inner + 2 * outer) * here)
        # at the picture's size the input is not stored: it is computed again from half that size
        again = number == 0 and len(widths) > 1
        changes = inner / 4 + outer if again else inner + (outer if inner == outer else 2 * outer)
        waits = max(waits, changes * here, 2 * outer * here)
        if number:
            once = max(once, (outer + 4 * outer + outer) * here)  # doubling: input, four pixels of each cell, one part
            waits = max(waits, 5 * outer * here if number > 1 else 0)
    return once, waits


def _encode_values(widths: tuple[int, ...], cells: list[float]) -> tuple[float, float]:
    """AutoencoderKL's encoder: untiled, and stored between its sweeps. Widths and cells of each level."""
    once, waits, inner = 0.0, 0.0, widths[0]
    for number, (outer, here) in enumerate(zip(widths, cells)):
        # a residual block as in the decoder; halving: the input padded, and its result
        once = max(once, (2 * inner + outer) * here, (inner + 2 * outer) * here, 2.25 * outer * here)
        after = outer / 4 if number + 1 < len(widths) else 0
        waits = max(waits, (2 * outer + max(after, inner if number else 0)) * here)
        inner = outer
    return once, waits
