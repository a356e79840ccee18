"""How far two pictures are apart for a CLIP that the user has: the features of its middle block, of random windows.

Windows of the encoder's own size show what lies where, windows of half of it, enlarged, the finest details. Features
are compared as directions (arXiv 1801.03924 does so with other networks). The weight is found at every step: at the
weights of the decoder's last layer the gradient of this error gets the length of the other errors' (taming-transformers
weighs its discriminator so; arXiv 2012.09841, section 3.1).
"""

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import interpolate, normalize

from ...clip_core.networks.clip import CLIP
from ...clip_core.networks.layers import Stack, blocks_of
from ...clip_core.networks.vision import VisionTransformer
from ..loop import trainable
from ..record.digest import digest_of

SHARES = (1.0, 0.5)  # of the encoder's size: the sides of the windows
_LARGEST = 1e4  # the most that the error is multiplied by
_TINY = 1e-12


class Tower:
    """The first half of a CLIP's image encoder, as a copy of its own in float32, without gradients of its weights."""

    def __init__(self, network: CLIP, device: torch.device):
        vision, config = network.vision_model, network.config
        make = cast("Callable[..., VisionTransformer]", type(vision))
        own = make(config.vision, nn, device, torch.float32)
        own.load_state_dict({name: tensor.detach().float().clone() for name, tensor in vision.state_dict().items()})
        stack = getattr(own, "encoder", None)
        self.middle = 2  # of a ResNet's four stages
        if isinstance(stack, Stack):
            self.middle = max(1, len(blocks_of(stack)) // 2)
            stack.layers = nn.ModuleList(blocks_of(stack)[: self.middle])  # what comes after it is never computed
        self.network = own.requires_grad_(False).eval()
        self.size_px = config.vision.image_px
        self._mean, self._std = (torch.tensor(one, device=device).view(3, 1, 1) for one in (config.mean, config.std))

    def features(self, pictures: Tensor) -> Tensor:
        """The middle block's features, each a direction. [N, 3, S, S] in 0..1 -> [N, P, C]"""
        _, middle, _ = self.network.states((pictures - self._mean) / self._std, self.middle)
        return normalize(middle.float(), dim=-1, eps=1e-6)

    def digest(self) -> str:
        """A name for its weights."""
        return digest_of(self.network.state_dict())


def tower_of(network: CLIP, device: torch.device) -> Tower:
    """The tower of a CLIP that a host made, under inference mode or not."""
    with trainable():
        return Tower(network, device)


def perceptual_error(tower: Tower, pixels: Tensor, reconstruction: Tensor, generator: Generator) -> Tensor:
    """The mean squared distance of the features of windows, a large and a small one of each picture, which lie in the
    same places in both; where they lie is drawn. [B, C, H, W] in -1..1 twice -> []
    """
    pair = torch.cat([_colours(pixels.detach()), _colours(reconstruction)]) / 2 + 0.5  # [2B, 3, H, W]
    windows = torch.cat([_windows(pair, round(tower.size_px * share), tower.size_px, generator) for share in SHARES])
    first, second = tower.features(windows).unflatten(0, (len(SHARES), 2, -1)).unbind(1)  # [shares, B, P, C]
    return (first - second).square().sum(-1).mean()


def balanced(error: Tensor, others: Tensor, at: Tensor) -> Tensor:
    """The factor that gives the error's gradient at a tensor the length of the others'. -> [], without a gradient"""
    own, theirs = (torch.autograd.grad(one, at, retain_graph=True)[0].float().norm() for one in (error, others))
    return (theirs / (own + _TINY)).clamp(0, _LARGEST).detach()


def _colours(pixels: Tensor) -> Tensor:
    return pixels.float().expand(-1, 3, -1, -1) if pixels.shape[1] == 1 else pixels[:, :3].float()


def _windows(pair: Tensor, side: int, size: int, generator: Generator) -> Tensor:
    """A window of each picture and of its twin in the second half, brought to `size`; of a picture that is smaller
    than the window, all of its shorter side. [2B, 3, H, W] -> [2B, 3, size, size]
    """
    count, (height, width) = len(pair) // 2, pair.shape[-2:]
    side = min(side, height, width)
    places: list[Sequence[int]] = [
        [int(torch.randint(length - side + 1, (), generator=generator)) for length in (height, width)]
        for _ in range(count)
    ]
    cut = torch.stack(
        [one[:, top : top + side, left : left + side] for one, (top, left) in zip(pair, [*places, *places])]
    )
    return cut if side == size else interpolate(cut, (size, size), mode="bilinear", antialias=side > size)
