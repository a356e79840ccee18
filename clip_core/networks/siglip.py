"""SigLIP: two encoders into one space, trained so that each pair of picture and text is judged by itself, by a sigmoid.

Every token of a text sees every other, and the last of its 64 places is the text's state. A picture has no class token:
a learned query attends to all its patches. Tensor names are those of Hugging Face's SiglipModel, but for the query's
attention, which has three layers in place of one tensor. Source: Zhai et al. 2023 (arXiv 2303.15343); the pooling:
Zhai et al. 2022 (arXiv 2106.04560), section 3.2; google-research/big_vision models/vit.py `MAPHead`.
"""

import math
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import CLIPConfig, TextConfig
from ..siglip_config import SIGLIP_EPS, SigLIPConfig, SigLIPVisionConfig
from .clip import CLIP
from .layers import MLP, Device, Dtype, Operations, Stack, look_up
from .text import TextEmbeddings, TextOutput
from .vision import VisionOutput, check_pixels


def _stack(config: TextConfig | SigLIPVisionConfig, operations: Operations, device: Device, dtype: Dtype) -> Stack:
    """The blocks of either encoder, in which every token sees every other."""
    return Stack(
        *(config.layers, config.width, config.heads, config.mlp, config.activation),
        causal=False,
        operations=operations,
        device=device,
        dtype=dtype,
        eps=SIGLIP_EPS,
    )


class SigLIPText(nn.Module):
    """The text encoder, its projection (`head`) included."""

    def __init__(self, config: TextConfig, operations: Operations, device: Device, dtype: Dtype):
        super().__init__()
        self.config = config
        self.embeddings = TextEmbeddings(config, operations, device, dtype)
        self.encoder = _stack(config, operations, device, dtype)
        self.final_layer_norm = operations.LayerNorm(config.width, eps=SIGLIP_EPS, device=device, dtype=dtype)
        self.head = operations.Linear(config.width, config.embed, device=device, dtype=dtype)

    def forward(self, embeds: Tensor, layer: int | None = None, final_norm: bool = True) -> TextOutput:
        """Encode token embeddings, without positions, of whole rows: padded to the context. `layer` and `final_norm` as
        in `CLIPText.forward`.

        [N, T, C] -> TextOutput
        """
        last, hidden = self.encoder(self.embeddings(embeds), layer)
        pooled = self.final_layer_norm(last[:, -1])
        return TextOutput(self.final_layer_norm(hidden) if final_norm else hidden, pooled, self.head(pooled))


class AttentionPooling(nn.Module):
    """One learned query over all tokens, and a perceptron."""

    def __init__(self, config: SigLIPVisionConfig, operations: Operations, device: Device, dtype: Dtype):
        super().__init__()
        width, self.heads = config.width, config.heads
        self.probe = nn.Parameter(torch.zeros(1, 1, width, device=device, dtype=dtype))
        names = ("q_proj", "k_proj", "v_proj", "out_proj")
        self.attention = nn.ModuleDict(
            {name: operations.Linear(width, width, device=device, dtype=dtype) for name in names}
        )
        self.layernorm = operations.LayerNorm(width, eps=SIGLIP_EPS, device=device, dtype=dtype)
        self.mlp = MLP(width, config.mlp, config.activation, operations=operations, device=device, dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        """[B, P, C] -> [B, C]"""
        attention = self.attention
        probe = self.probe.to(x).expand(len(x), 1, -1)  # [B, 1, C]
        q, k, v = (
            project(tokens).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # [B, H, 1 or P, C/H]
            for project, tokens in ((attention["q_proj"], probe), (attention["k_proj"], x), (attention["v_proj"], x))
        )
        mixed = attention["out_proj"](F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))[
            :, 0
        ]  # [B, C]
        return mixed + self.mlp(self.layernorm(mixed))


class PatchEmbeddings(nn.Module):
    """One embedding for each square patch, positions added."""

    def __init__(self, config: SigLIPVisionConfig, operations: Operations, device: Device, dtype: Dtype):
        super().__init__()
        side = config.patch_px
        self.patch_embedding = operations.Conv2d(3, config.width, side, stride=side, device=device, dtype=dtype)
        self.position_embedding = operations.Embedding(config.positions, config.width, device=device, dtype=dtype)

    def forward(self, pixels: Tensor) -> Tensor:
        """[B, 3, S, S] -> [B, P, C]"""
        patches = self.patch_embedding(pixels).flatten(2).transpose(1, 2)  # [B, P, C]
        positions = torch.arange(patches.shape[1], device=patches.device)
        return patches + look_up(self.position_embedding, positions, patches.dtype)


class SigLIPVision(nn.Module):
    """The image encoder, whose pooled state is in the space shared with texts already."""

    def __init__(self, config: SigLIPVisionConfig, operations: Operations, device: Device, dtype: Dtype):
        super().__init__()
        self.config = config
        self.embeddings = PatchEmbeddings(config, operations, device, dtype)
        self.encoder = _stack(config, operations, device, dtype)
        self.post_layernorm = operations.LayerNorm(config.width, eps=SIGLIP_EPS, device=device, dtype=dtype)
        self.head = AttentionPooling(config, operations, device, dtype)

    def states(self, pixels: Tensor, layer: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """The output of the last block with the final norm, as stock nodes get it; the hidden states of `layer`
        without it, counted as in `VisionTransformer.states`; and the pooled state.

        [B, 3, S, S] -> [B, P, C], [B, P, C], [B, C]
        """
        check_pixels(pixels, self.config.image_px)
        last, hidden = self.encoder(self.embeddings(pixels), layer)
        last = self.post_layernorm(last)
        return last, hidden, self.head(last)

    def pooled(self, pixels: Tensor) -> Tensor:
        """The third output of `states`. [B, 3, S, S] -> [B, C]"""
        return self.states(pixels)[2]


class SigLIP(CLIP):
    """Both encoders, the logarithm of the factor on cosines, and what is added before the sigmoid. `text_model` is a
    SigLIPText and `vision_model` a SigLIPVision.
    """

    config: SigLIPConfig

    def __init__(
        self,
        config: SigLIPConfig,
        operations: Operations = nn,
        device: Device = None,
        dtype: Dtype = None,
    ):
        nn.Module.__init__(self)
        self.config = config
        self.add_module("text_model", SigLIPText(config.text, operations, device, dtype))
        self.add_module("vision_model", SigLIPVision(config.vision, operations, device, dtype))
        self.visual_projection = nn.Identity()
        self.logit_scale = nn.Parameter(torch.full((), math.log(10.0), device=device, dtype=dtype))  # as in training
        self.logit_bias = nn.Parameter(torch.full((), -10.0, device=device, dtype=dtype))

    @property
    def text_half(self) -> SigLIPText:
        """The text encoder, its projection included."""
        return cast(SigLIPText, self.text_model)

    def encode_text(self, ids: Tensor, layer: int | None = None, final_norm: bool = True) -> TextOutput:
        """Encode rows of ids, padded to the context. [N, T] -> TextOutput

        Raises:
            ValueError: the rows are not as long as the context.
        """
        context = self.config.text.context
        if ids.shape[1] != context:
            raise ValueError(
                f"rows of {ids.shape[1]} tokens were given, and this encoder takes {context}: pad them to its context"
            )
        embeds = look_up(self.text_model.embeddings.token_embedding, ids, self.activation_dtype)
        return self.text_half(embeds, layer, final_norm)

    def encode_image(self, pixels: Tensor, layer: int | None = None) -> VisionOutput:
        """Encode pictures from `preprocess`; see `CLIP.encode_image`. [B, 3, S, S] -> VisionOutput"""
        _, hidden, pooled = self.vision_model.states(pixels, layer)
        return VisionOutput(hidden, pooled, pooled)


def network_of(config: CLIPConfig, operations: Operations = nn, device: Device = None, dtype: Dtype = None) -> CLIP:
    """Build the network of this config: a SigLIP for a SigLIP's, else a CLIP."""
    if isinstance(config, SigLIPConfig):
        return SigLIP(config, operations, device, dtype)
    return CLIP(config, operations, device, dtype)
