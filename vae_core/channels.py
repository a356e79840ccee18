"""Pictures with the channels that a VAE wants: grey, RGB, or RGB with alpha."""

import torch
from torch import Tensor

SUPPORTED = (1, 3, 4)


def with_channels(image: Tensor, channels: int) -> Tensor:
    """A picture with so many channels: what is more is cut, a missing alpha is opaque, and grey is the mean of the
    colours. [B, H, W, C] in 0..1 -> [B, H, W, channels]
    """
    if channels == 1 and image.shape[-1] > 1:
        return image[..., :3].mean(-1, keepdim=True)
    if image.shape[-1] >= channels:
        return image[..., :channels]
    opaque = torch.ones((*image.shape[:-1], channels - image.shape[-1]), dtype=image.dtype, device=image.device)
    return torch.cat((image, opaque), -1)


def as_colours(image: Tensor) -> Tensor:
    """A decoded picture as other nodes take it: grey as three equal channels. [..., C] -> [..., C]"""
    return image.expand(*image.shape[:-1], 3) if image.shape[-1] == 1 else image
