"""The image encoder of CLIP's ResNets (RN50 to RN50x64): normalised pixels -> a map of features, pooled by attention.

Unlike torchvision's ResNet it begins with three convolutions, halves pictures by average pooling in place of strides,
and ends with attention whose query is the mean of all positions. Tensor names are OpenAI's, except that `vision_model`
stands for `visual` and `visual_projection` for `visual.attnpool.c_proj`, so that both kinds of image encoder are used
alike.

Source: Radford et al. 2021 (arXiv 2103.00020), section 2.4; openai/CLIP clip/model.py `ModifiedResNet`.
"""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import ResNetConfig
from .layers import Device, Dtype, Operations, block_number

_STAGES = 4
_GROWTH = 4  # a block's output is this many times as wide as its inside
_VARIANCE_EPS = 1e-5  # torch's BatchNorm2d


class BatchNorm(nn.Module):
    """BatchNorm2d with the statistics of training: a factor and a shift for each channel.

    Its weights stay float32 whatever the other weights are, as in OpenAI's files: small variances are 0 in half
    precision.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, device: Device):
        super().__init__()
        zeros, ones = (fill(channels, device=device, dtype=torch.float32) for fill in (torch.zeros, torch.ones))
        self.weight, self.bias = nn.Parameter(ones.clone()), nn.Parameter(zeros.clone())
        self.register_buffer("running_mean", zeros)
        self.register_buffer("running_var", ones)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]"""
        factor = self.weight * (self.running_var + _VARIANCE_EPS).rsqrt()  # [C]
        shift = self.bias - self.running_mean * factor  # [C]
        return torch.addcmul(shift.to(x)[:, None, None], factor.to(x)[:, None, None], x)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolution with a skip connection. `stride` 2 averages 2 x 2 positions, on both branches."""

    def __init__(
        self,
        channels: int,
        inside: int,
        stride: int,
        *,
        operations: Operations,
        device: Device,
        dtype: Dtype,
    ):
        super().__init__()
        conv = partial(operations.Conv2d, bias=False, device=device, dtype=dtype)
        self.conv1 = conv(channels, inside, 1)
        self.bn1 = BatchNorm(inside, device)
        self.conv2 = conv(inside, inside, 3, padding=1)
        self.bn2 = BatchNorm(inside, device)
        self.conv3 = conv(inside, _GROWTH * inside, 1)
        self.bn3 = BatchNorm(_GROWTH * inside, device)
        self.stride = stride
        self.downsample: nn.ModuleDict | None = None
        if stride > 1 or channels != _GROWTH * inside:
            skip = conv(channels, _GROWTH * inside, 1)
            self.downsample = nn.ModuleDict({"0": skip, "1": BatchNorm(_GROWTH * inside, device)})

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, 4 inside, H / stride, W / stride]"""
        inner = F.relu(self.bn1(self.conv1(x)))
        inner = self._smaller(F.relu(self.bn2(self.conv2(inner))))
        inner = self.bn3(self.conv3(inner))
        if self.downsample is not None:
            x = self.downsample["1"](self.downsample["0"](self._smaller(x)))
        return F.relu(x + inner)

    def _smaller(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, self.stride) if self.stride > 1 else x


class AttentionPool(nn.Module):
    """Attention with the mean of all positions as its query, over the mean and every position."""

    q_proj: nn.Linear
    k_proj: nn.Linear
    v_proj: nn.Linear

    def __init__(
        self,
        config: ResNetConfig,
        *,
        operations: Operations,
        device: Device,
        dtype: Dtype,
    ):
        super().__init__()
        self.heads, width = config.heads, config.pooled_width
        positions = torch.zeros(config.grid**2 + 1, width, device=device, dtype=dtype)
        self.positional_embedding = nn.Parameter(positions)
        for name in ("k_proj", "q_proj", "v_proj"):
            setattr(self, name, operations.Linear(width, width, device=device, dtype=dtype))

    def forward(self, features: Tensor) -> Tensor:
        """[B, P, C] -> [B, C]"""
        tokens = torch.cat([features.mean(1, keepdim=True), features], 1)  # [B, 1 + P, C]
        tokens = tokens + self.positional_embedding.to(tokens)
        q = self._by_head(self.q_proj(tokens[:, :1]))  # [B, H, 1, C/H]
        k, v = (self._by_head(project(tokens)) for project in (self.k_proj, self.v_proj))  # [B, H, 1 + P, C/H]
        return F.scaled_dot_product_attention(q, k, v).flatten(1)  # [B, C]

    def _by_head(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class ResNet(nn.Module):
    """The image encoder without its projection."""

    def __init__(
        self,
        config: ResNetConfig,
        operations: Operations = nn,
        device: Device = None,
        dtype: Dtype = None,
    ):
        super().__init__()
        self.config = config
        sizes = ((3, config.width // 2), (config.width // 2, config.width // 2), (config.width // 2, config.width))
        for number, (before, after) in enumerate(sizes, 1):
            conv = operations.Conv2d(
                before, after, 3, stride=2 if number == 1 else 1, padding=1, bias=False, device=device, dtype=dtype
            )
            setattr(self, f"conv{number}", conv)
            setattr(self, f"bn{number}", BatchNorm(after, device))
        channels = config.width
        for number, count in enumerate(config.blocks):
            inside, stage = config.width * 2**number, nn.ModuleList()
            for place in range(count):
                stride = 2 if number and not place else 1
                stage.append(Bottleneck(channels, inside, stride, operations=operations, device=device, dtype=dtype))
                channels = _GROWTH * inside
            setattr(self, f"layer{number + 1}", stage)
        self.attnpool = AttentionPool(config, operations=operations, device=device, dtype=dtype)

    def pooled(self, pixels: Tensor) -> Tensor:
        """The last stage, pooled by attention. [B, 3, S, S] -> [B, 32 width]"""
        return self.states(pixels)[2]

    def states(self, pixels: Tensor, layer: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """The output of the last stage, the output of `layer`, and the pooled vector of the last stage. `layer` is 0
        after the stem, 1 to 4 after a stage, -2 after the third, None or -1 after the last. Positions are flattened
        into rows, as a transformer's patches are; there is no class token.

        [B, 3, S, S] -> [B, P, 32 width], [B, P, C], [B, 32 width]
        """
        side = self.config.image_px
        if pixels.ndim != 4 or tuple(pixels.shape[1:]) != (3, side, side):
            raise ValueError(
                f"this image encoder takes pixels of shape [B, 3, {side}, {side}] and got {list(pixels.shape)}; "
                "use preprocess() to bring pictures to its size"
            )
        wanted, x = block_number(layer, _STAGES), pixels
        for number in (1, 2, 3):
            x = F.relu(getattr(self, f"bn{number}")(getattr(self, f"conv{number}")(x)))
        x = F.avg_pool2d(x, 2)  # [B, width, S / 4, S / 4]
        chosen = x
        for number in range(1, _STAGES + 1):
            for block in getattr(self, f"layer{number}"):
                x = block(x)
            chosen = x if number == wanted else chosen
        last = _in_rows(x)
        return last, _in_rows(chosen), self.attnpool(last)


def _in_rows(x: Tensor) -> Tensor:
    """[B, C, H, W] -> [B, H * W, C]"""
    return x.flatten(2).transpose(1, 2)
