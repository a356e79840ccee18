"""Round inpainting: a hole cut into a picture before it is encoded, and what was painted in it pasted back after.

Pictures are [B, H, W, C] in 0..1 and masks [B, H, W] in 0..1, 1 where something is to change, as in ComfyUI.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import avg_pool1d, interpolate, max_pool1d, pad

Size = tuple[int, int]  # height, width in pixels
LARGEST_CELL_PX = 64
GREY = 0.5


def padded_to_cells(image: Tensor, factor: int) -> Tensor:
    """Pad a picture at the bottom and the right to whole cells of `factor` px; itself where no padding is needed.

    The padding mirrors the picture, or, in a picture smaller than the padding, repeats its last row and column.

    [B, H, W, ...] -> [B, H', W', ...]
    """
    for side in (1, 2):
        length = image.shape[side]
        missing = -length % factor
        if missing:
            more = [length - 2 - place if missing < length else length - 1 for place in range(missing)]
            image = image.index_select(side, torch.tensor([*range(length), *more], device=image.device))
    return image


def cut_to(image: Tensor, size: Size) -> Tensor:
    """Cut off the padding of `padded_to_cells`; a view. [B, H, W, ...] -> [B, *size, ...]

    Raises ValueError where the picture is smaller than that.
    """
    height, width = size
    if image.shape[1] < height or image.shape[2] < width:
        raise ValueError(
            f"a picture of {width} x {height} px was to be cut from one of {image.shape[2]} x "
            f"{image.shape[1]} px, which is smaller: connect the picture that was padded"
        )
    return image[:, :height, :width]


def resized_mask(mask: Tensor, size: Size) -> Tensor:
    """Scale a mask bilinearly, as ComfyUI does; itself where it has that size. [B, H, W] -> [B, *size]"""
    if tuple(mask.shape[1:]) == tuple(size):
        return mask
    return interpolate(mask[:, None], size=tuple(size), mode="bilinear")[:, 0]


def grown(mask: Tensor, before_px: int, after_px: int) -> Tensor:
    """Spread each value over a square, `before_px` up and left and `after_px` down and right. [B, H, W] -> [B, H, W]"""
    for _ in range(2):
        mask = _largest(mask, before_px, after_px).transpose(1, 2)
    return mask


def _largest(mask: Tensor, before_px: int, after_px: int) -> Tensor:
    """The largest of each pixel's row from `after_px` before it to `before_px` behind it. [B, H, W] -> [B, H, W]"""
    if not before_px and not after_px:
        return mask
    return max_pool1d(pad(mask, (after_px, before_px), value=-math.inf), before_px + after_px + 1, 1)


@dataclass(frozen=True)
class Hole:
    """What is encoded for inpainting, and where the sampler may paint."""

    pixels: Tensor  # [B, H', W', C] of whole cells, the colours neutral grey where the mask was, alpha as it was
    noise_mask: Tensor  # [M, 1, H', W'] of 0 and 1, the mask grown
    mask: Tensor  # [M, H, W], the mask of the picture's own size, rounded to 0 and 1
    was_soft: bool  # some of its values were neither


def hole(image: Tensor, mask: Tensor, brush_px: int, factor: int) -> Hole:
    """Cut a hole into a picture, as ComfyUI's VAEEncodeForInpaint does (0.3.64, nodes.py:373).

    The mask is rounded, the hole filled with grey, and only then the mask grown: a brush of n px spreads n // 2 px down
    and right and (n - 1) // 2 px up and left. Unlike there, a side that does not fill its cells is padded, of mask and
    picture alike, instead of cut.

    [B or 1, H, W, 3 or 4] and [M or 1, any, any] -> Hole
    """
    sized = resized_mask(mask, (image.shape[1], image.shape[2]))
    rounded = sized.round()
    inside = padded_to_cells(rounded, factor)  # [M, H', W']
    whole = padded_to_cells(image, factor)
    pixels = torch.where(inside[..., None] > 0, GREY, whole[..., :3])
    if whole.shape[-1] > 3:
        pixels = torch.cat((pixels, whole[..., 3:].expand(len(pixels), -1, -1, -1)), -1)
    painted = grown(inside, (brush_px - 1) // 2, brush_px // 2) if brush_px else inside
    return Hole(pixels, painted[:, None], rounded, bool((sized != rounded).any()))


def feathered(mask: Tensor, feather_px: int) -> Tensor:
    """A ramp of about `feather_px` inside the mask's edge: 0 exactly where the mask is 0, and whole further in.

    Shrunk by half of that and blurred by the same with two boxes; the picture's own border is no edge.
    [B, H, W] -> [B, H, W]
    """
    reach = (feather_px + 1) // 2
    if not reach:
        return mask
    mask = -grown(-mask, reach, reach)
    for radius in (reach // 2, reach - reach // 2):
        for _ in range(2):
            around = pad(mask, (radius, radius), mode="replicate")
            mask = avg_pool1d(around, 2 * radius + 1, 1).transpose(1, 2)
    return mask


def is_padded(size: Size, original: Size) -> bool:
    """Whether a picture has the size that the original gets by padding to whole cells of some VAE."""
    cells = (2**power for power in range(1, LARGEST_CELL_PX.bit_length()))
    return any(all(grown_px == math.ceil(px / cell) * cell for grown_px, px in zip(size, original)) for cell in cells)


def resized(image: Tensor, size: Size) -> Tensor:
    """Bicubic, antialiased where it gets smaller, cut to 0..1; in float32 at least, since the CPU has no such kernel
    for halves. [B, H, W, C] -> [B, *size, C] of the picture's type
    """
    pixels = image if image.dtype == torch.float64 else image.float()
    pixels = interpolate(pixels.movedim(-1, 1), size=tuple(size), mode="bicubic", antialias=True)
    return pixels.clamp(0, 1).movedim(1, -1).to(image.dtype)


def composite(original: Tensor, inpainted: Tensor, weight: Tensor) -> Tensor:
    """The original where the weight is 0, bit for bit, the inpainted where it is 1, between them a mixture.

    [B or 1, H, W, C], [B or 1, H, W, C], [B or 1, H, W] -> [B, H, W, C]
    """
    share = weight[..., None]
    mixed = original + share * (inpainted - original)
    return torch.where(share <= 0, original, torch.where(share >= 1, inpainted, mixed))
