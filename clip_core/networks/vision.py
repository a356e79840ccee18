"""The image encoder of CLIP, a vision transformer: normalised pixels -> hidden states, the pooled class token, its
projection.

Tensor names are those of Hugging Face's CLIPVisionModelWithProjection, its `pre_layrnorm` included. Source: Radford
et al. 2021 (arXiv 2103.00020), openai/CLIP clip/model.py `VisionTransformer`.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..config import NORM_EPS, VisionConfig
from .class_token import class_token
from .layers import Operations, Stack, activation_dtype, looked_up


@dataclass(frozen=True)
class VisionOutput:
    hidden: Tensor  # [B, 1 + P, C], class token first, of the layer asked for, never normed
    pooled: Tensor  # [B, C], the last layer's class token, with the final norm
    projected: Tensor | None  # [B, E], pooled in the space shared with texts; None where the weights have no projection


class VisionEmbeddings(nn.Module):
    def __init__(self, config: VisionConfig, operations: Operations, device, dtype):
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
        places = torch.arange(patches.shape[1] + 1, device=pixels.device)
        return torch.cat([first, patches], 1) + looked_up(self.position_embedding, places, patches.dtype)


class VisionTransformer(nn.Module):
    """Everything but the projection (`vision_model` in HF's names)."""

    def __init__(self, config: VisionConfig, operations: Operations = nn, device=None, dtype=None):
        super().__init__()
        self.config = config
        placed = {"operations": operations, "device": device, "dtype": dtype}
        self.embeddings = VisionEmbeddings(config, **placed)
        self.pre_layrnorm = operations.LayerNorm(config.width, eps=NORM_EPS, device=device, dtype=dtype)
        self.encoder = Stack(
            config.layers, config.width, config.heads, config.mlp, config.activation, causal=False, **placed
        )
        self.post_layernorm = operations.LayerNorm(config.width, eps=NORM_EPS, device=device, dtype=dtype)

    def forward(self, pixels: Tensor, layer: int | None = None) -> tuple[Tensor, Tensor]:
        """[B, 3, S, S] -> hidden [B, 1 + P, C], pooled [B, C]"""
        _, hidden, pooled = self.states(pixels, layer)
        return hidden, pooled

    def states(self, pixels: Tensor, layer: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """[B, 3, S, S] -> the last block's [B, 1 + P, C], that of `layer` [B, 1 + P, C], pooled [B, C]"""
        self._check(pixels)
        last, hidden = self.encoder(self.pre_layrnorm(self.embeddings(pixels)), layer)
        return last, hidden, self.post_layernorm(last[:, 0])

    def pooled(self, pixels: Tensor) -> Tensor:
        """What `forward` gives as pooled, with less work: the last block is done for the class token alone. See
        `class_token`. [B, 3, S, S] -> [B, C]
        """
        self._check(pixels)
        first = class_token(self.embeddings, self.pre_layrnorm, self.encoder.layers, pixels)
        return self.post_layernorm(first)

    def _check(self, pixels: Tensor) -> None:
        side = self.config.image_px
        if pixels.ndim != 4 or tuple(pixels.shape[1:]) != (3, side, side):
            raise ValueError(
                f"this image encoder takes pixels of shape [B, 3, {side}, {side}] and got {list(pixels.shape)}; "
                "use preprocess() to bring pictures to its size"
            )


def vision_output(
    transformer: nn.Module, projection: nn.Module | None, pixels: Tensor, layer: int | None = None
) -> VisionOutput:
    """One pass through the parts of an image encoder. `projection` None: there is no projected embedding."""
    hidden, pooled = transformer(pixels, layer)
    return VisionOutput(hidden, pooled, None if projection is None else projection(pooled))


def vision_features(transformer: nn.Module, projection: nn.Module, pixels: Tensor) -> Tensor:
    """What `vision_output` gives as projected, where nothing else of it is wanted. [B, 3, S, S] -> [B, E]"""
    quick = isinstance(transformer, VisionTransformer)
    return projection(transformer.pooled(pixels) if quick else transformer(pixels)[1])


class CLIPVision(nn.Module):
    """The image encoder with its projection. `has_projection` False: the projection in the state dict is only a
    stand-in.
    """

    def __init__(
        self,
        config: VisionConfig,
        operations: Operations = nn,
        device=None,
        dtype=None,
        *,
        has_projection: bool = True,
    ):
        super().__init__()
        self.config, self.has_projection = config, has_projection
        self.vision_model = VisionTransformer(config, operations, device, dtype)
        self.visual_projection = operations.Linear(config.width, config.embed, bias=False, device=device, dtype=dtype)

    @property
    def activation_dtype(self) -> torch.dtype:
        """The type that pixels are to have, and that features will have."""
        return activation_dtype(self.vision_model.post_layernorm)

    def image_features(self, pixels: Tensor) -> Tensor:
        """Projected, not normalised. [B, 3, S, S] -> [B, E]"""
        return vision_features(self.vision_model, self.visual_projection, pixels)

    def forward(self, pixels: Tensor, layer: int | None = None) -> VisionOutput:
        """Encode pictures from `preprocess`; all arithmetic is of their type. `layer` chooses `hidden` as HF's
        `hidden_states` are counted: 0 after the first norm, -2 after the last block but one, None or -1 after the last.

        [B, 3, S, S] -> VisionOutput
        """
        projection = self.visual_projection if self.has_projection else None
        return vision_output(self.vision_model, projection, pixels, layer)
