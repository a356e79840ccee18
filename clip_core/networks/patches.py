"""A picture as a row of tokens: one embedding for each square patch, the class token first, positions added."""

import torch
from torch import Tensor, nn

from ..config import VisionConfig
from .layers import Device, Dtype, Operations, look_up


class VisionEmbeddings(nn.Module):
    """The first layer of a vision transformer: a convolution whose stride is its size, one step a patch."""

    def __init__(
        self,
        config: VisionConfig,
        operations: Operations,
        device: Device,
        dtype: Dtype,
    ):
        super().__init__()
        self.class_embedding = nn.Parameter(torch.zeros(config.width, device=device, dtype=dtype))
        self.patch_embedding = operations.Conv2d(
            3, config.width, config.patch_px, stride=config.patch_px, bias=False, device=device, dtype=dtype
        )
        self.position_embedding = operations.Embedding(config.positions, config.width, device=device, dtype=dtype)

    def forward(self, pixels: Tensor) -> Tensor:
        """[B, 3, S, S] -> [B, 1 + P, C]"""
        patches = self.patch_embedding(pixels).flatten(2).transpose(1, 2)  # [B, P, C]
        first = self.class_embedding.to(patches).expand(len(patches), 1, -1)  # [B, 1, C]
        positions = torch.arange(patches.shape[1] + 1, device=pixels.device)
        return torch.cat([first, patches], 1) + look_up(self.position_embedding, positions, patches.dtype)
