"""The parts of the U-Net: a residual block that is told the noise level, and attention to the picture and the text.

Every layer comes from the `operations` namespace (torch.nn, or a host's own), and is used through its forward only:
a host may cast, patch or move weights there.
"""

from types import ModuleType
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from .config import HEAD, NORM_GROUPS

Device = torch.device | str | None


class Operations(Protocol):
    """A namespace of layers."""

    Linear: type[nn.Linear]
    Conv2d: type[nn.Conv2d]
    GroupNorm: type[nn.GroupNorm]
    LayerNorm: type[nn.LayerNorm]


class Layers:
    """Makes the layers of one `operations` namespace, device and dtype."""

    def __init__(self, operations: Operations | ModuleType, device: Device, dtype: torch.dtype | None):
        self.operations, self.device, self.dtype = operations, device, dtype

    def linear(self, inner: int, outer: int, bias: bool = True) -> nn.Linear:
        return self.operations.Linear(inner, outer, bias=bias, device=self.device, dtype=self.dtype)

    def conv(self, inner: int, outer: int, size: int = 3, stride: int = 1) -> nn.Conv2d:
        return self.operations.Conv2d(
            inner, outer, size, stride=stride, padding=size // 2, device=self.device, dtype=self.dtype
        )

    def group_norm(self, width: int) -> nn.GroupNorm:
        return self.operations.GroupNorm(NORM_GROUPS, width, device=self.device, dtype=self.dtype)

    def layer_norm(self, width: int) -> nn.LayerNorm:
        return self.operations.LayerNorm(width, device=self.device, dtype=self.dtype)


class ResidualBlock(nn.Module):
    """x + conv(silu(told(norm(conv(silu(norm(x))))))), where `told` scales and shifts by the time vector.

    [B, width, h, w], [B, time] -> [B, width, h, w]
    """

    def __init__(self, width: int, time: int, layers: Layers):
        super().__init__()
        self.norm1, self.conv1 = layers.group_norm(width), layers.conv(width, width)
        self.told = layers.linear(time, 2 * width)
        self.norm2, self.conv2 = layers.group_norm(width), layers.conv(width, width)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        scale, shift = self.told(time)[..., None, None].chunk(2, dim=1)  # [B, width, 1, 1] each
        h = self.conv1(functional.silu(self.norm1(x)))
        h = self.conv2(functional.silu(self.norm2(h) * (1 + scale) + shift))
        return x + h


class Attention(nn.Module):
    """Every row of x looks at the rows of `seen`. [B, N, width], [B, M, other] -> [B, N, width]"""

    def __init__(self, width: int, other: int, layers: Layers, head: int = HEAD):
        super().__init__()
        self.head = head
        self.to_q = layers.linear(width, width, bias=False)
        self.to_k = layers.linear(other, width, bias=False)
        self.to_v = layers.linear(other, width, bias=False)
        self.to_out = layers.linear(width, width)

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        q, k, v = (self._heads(rows) for rows in (self.to_q(x), self.to_k(seen), self.to_v(seen)))
        found = functional.scaled_dot_product_attention(q, k, v)  # [B, H, N, head]
        return self.to_out(found.transpose(1, 2).flatten(2))

    def _heads(self, rows: Tensor) -> Tensor:
        return rows.unflatten(2, (-1, self.head)).transpose(1, 2)  # [B, H, N, head]


class TransformerBlock(nn.Module):
    """The picture's cells look at each other, then at the text, then each thinks for itself.

    [B, width, h, w], text [B, T, text] -> [B, width, h, w]
    """

    def __init__(self, width: int, text: int, layers: Layers):
        super().__init__()
        self.norm1, self.attn1 = layers.layer_norm(width), Attention(width, width, layers)
        self.norm2, self.attn2 = layers.layer_norm(width), Attention(width, text, layers)
        self.norm3 = layers.layer_norm(width)
        self.fc1, self.fc2 = layers.linear(width, 2 * width), layers.linear(2 * width, width)

    def forward(self, x: Tensor, text: Tensor) -> Tensor:
        rows = x.flatten(2).transpose(1, 2)  # [B, h * w, width]
        normed = self.norm1(rows)
        rows = rows + self.attn1(normed, normed)
        rows = rows + self.attn2(self.norm2(rows), text)
        rows = rows + self.fc2(functional.gelu(self.fc1(self.norm3(rows))))
        return rows.transpose(1, 2).unflatten(2, x.shape[2:])
