"""The image encoder of CLIP as a vision transformer: normalised pixels -> hidden states and the pooled class token.

Tensor names are those of Hugging Face's CLIPVisionModelWithProjection, its `pre_layrnorm` included. Source: Radford
et al. 2021 (arXiv 2103.00020), openai/CLIP clip/model.py `VisionTransformer`.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from ..config import NORM_EPS, VisionConfig
from .class_token import class_token
from .layers import Device, Dtype, Operations, Stack, blocks_of
from .patches import VisionEmbeddings


@dataclass(frozen=True)
class VisionOutput:
    hidden: Tensor  # [B, 1 + P, C] of the layer asked for, class token first, without the final norm
    pooled: Tensor  # [B, C], the last layer's class token, with the final norm
    projected: Tensor  # [B, E], pooled in the space shared with texts, of any length


def check_pixels(pixels: Tensor, side: int) -> None:
    """Raise ValueError for pixels that are not [B, 3, side, side]."""
    if pixels.ndim != 4 or tuple(pixels.shape[1:]) != (3, side, side):
        raise ValueError(
            f"this image encoder takes pixels of shape [B, 3, {side}, {side}] and got {list(pixels.shape)}; "
            "use preprocess() to bring pictures to its size"
        )


class VisionTransformer(nn.Module):
    """The image encoder without its projection (`vision_model` in HF's names)."""

    def __init__(
        self,
        config: VisionConfig,
        operations: Operations = nn,
        device: Device = None,
        dtype: Dtype = None,
    ):
        super().__init__()
        self.config = config
        self.embeddings = VisionEmbeddings(config, operations, device, dtype)
        self.pre_layrnorm = operations.LayerNorm(config.width, eps=NORM_EPS, device=device, dtype=dtype)
        self.encoder = Stack(
            *(config.layers, config.width, config.heads, config.mlp, config.activation),
            causal=False,
            operations=operations,
            device=device,
            dtype=dtype,
        )
        self.post_layernorm = operations.LayerNorm(config.width, eps=NORM_EPS, device=device, dtype=dtype)

    def states(self, pixels: Tensor, layer: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """The output of the last block, the hidden states of `layer`, and the last block's class token with the final
        norm. `layer` counts as HF's `hidden_states` do: 0 after the first norm, -2 after the last block but one, None
        or -1 after the last.

        [B, 3, S, S] -> [B, 1 + P, C], [B, 1 + P, C], [B, C]
        """
        check_pixels(pixels, self.config.image_px)
        last, hidden = self.encoder(self.pre_layrnorm(self.embeddings(pixels)), layer)
        return last, hidden, self.post_layernorm(last[:, 0])

    def pooled(self, pixels: Tensor) -> Tensor:
        """The third output of `states` with less work: the last block computes the class token alone, see
        `class_token`.

        [B, 3, S, S] -> [B, C]
        """
        check_pixels(pixels, self.config.image_px)
        first = class_token(self.embeddings, self.pre_layrnorm, blocks_of(self.encoder), pixels)
        return self.post_layernorm(first)
