"""CLIP: a text encoder and an image encoder into one space, and the scale that turns their cosines into logits.

Tensor names are those of Hugging Face's CLIPModel, which has no ResNets; for theirs see `resnet`. Source: Radford et
al. 2021 (arXiv 2103.00020), figure 3; openai/CLIP clip/model.py `CLIP`.
"""

import math

import torch
from torch import Tensor, nn

from ..config import CLIPConfig, ResNetConfig
from .layers import Device, Dtype, Operations, activation_dtype, blocks_of, look_up
from .resnet import ResNet
from .text import TextOutput, TextTransformer, first_end, text_output
from .vision import VisionOutput, VisionTransformer

START_LOGIT_SCALE = math.log(1 / 0.07)  # ln of the factor, before training; trained models stand at ln(100)


class CLIP(nn.Module):
    """Both encoders with their projections, and the logarithm of the factor on cosines."""

    vision_model: VisionTransformer | ResNet
    visual_projection: nn.Linear | nn.Identity  # SigLIP needs none

    def __init__(
        self,
        config: CLIPConfig,
        operations: Operations = nn,
        device: Device = None,
        dtype: Dtype = None,
    ):
        super().__init__()
        self.config = config
        text, vision = config.text, config.vision
        self.text_model = TextTransformer(text, operations, device, dtype)
        self.text_projection = operations.Linear(text.width, text.embed, bias=False, device=device, dtype=dtype)
        if isinstance(vision, ResNetConfig):
            self.vision_model = ResNet(vision, operations, device, dtype)
            width, bias = vision.pooled_width, True  # as OpenAI's attnpool.c_proj
        else:
            self.vision_model = VisionTransformer(vision, operations, device, dtype)
            width, bias = vision.width, False
        self.visual_projection = operations.Linear(width, vision.embed, bias=bias, device=device, dtype=dtype)
        self.logit_scale = nn.Parameter(torch.full((), START_LOGIT_SCALE, device=device, dtype=dtype))

    @property
    def activation_dtype(self) -> torch.dtype:
        """The type of the pixels that it takes and of the features that it gives."""
        return activation_dtype(self.text_model.final_layer_norm)

    def encode_text(self, ids: Tensor, layer: int | None = None, final_norm: bool = True) -> TextOutput:
        """Encode token ids, start and end included; see `CLIPText.forward`. [N, T] -> TextOutput"""
        embeds = look_up(self.text_model.embeddings.token_embedding, ids, self.activation_dtype)
        return text_output(
            self.text_model, self.text_projection, embeds, first_end(ids), layer=layer, final_norm=final_norm
        )

    def encode_image(self, pixels: Tensor, layer: int | None = None) -> VisionOutput:
        """Encode pictures from `preprocess`; `layer` chooses the hidden states, see `VisionTransformer.states` and
        `ResNet.states`. All arithmetic is of the pixels' type.

        [B, 3, S, S] -> VisionOutput
        """
        _, hidden, pooled = self.vision_model.states(pixels, layer)
        return VisionOutput(hidden, pooled, self.visual_projection(pooled))

    def text_features(self, ids: Tensor) -> Tensor:
        """Projected, not normalised. [N, T] -> [N, E]"""
        return self.encode_text(ids).require_projected()

    def image_features(self, pixels: Tensor) -> Tensor:
        """Projected, not normalised. [B, 3, S, S] -> [B, E]"""
        return self.visual_projection(self.vision_model.pooled(pixels))


def initialise_(model: CLIP, seed: int) -> CLIP:
    """Fill the weights for training as openai/CLIP's `initialize_parameters` does, in place: a normal distribution
    whose deviation shrinks with width and depth, biases 0, norms 1, logit scale ln(1 / 0.07). The same seed gives the
    same weights on every machine's CPU.

    Raises:
        ValueError: the image encoder is a ResNet, whose statistics are read from files and not trained here, or a
            SigLIP's.
    """
    projection = model.visual_projection
    if isinstance(model.vision_model, ResNet) or not isinstance(projection, nn.Linear):
        raise ValueError(
            "fresh weights are made for vision transformers, and this image encoder is another; load its weights, or "
            "train a vision transformer"
        )
    draw = torch.Generator().manual_seed(seed)

    def normal_(tensor: Tensor, std: float) -> None:
        with torch.no_grad():
            tensor.copy_(torch.randn(tensor.shape, generator=draw) * std)

    for transformer in (model.text_model, model.vision_model):
        width = transformer.config.width
        blocks = blocks_of(transformer.encoder)
        depth = len(blocks)
        for block in blocks:
            for layer in (block.self_attn.q_proj, block.self_attn.k_proj, block.self_attn.v_proj):
                normal_(layer.weight, width**-0.5)
            normal_(block.self_attn.out_proj.weight, width**-0.5 * (2 * depth) ** -0.5)
            normal_(block.mlp.fc1.weight, (2 * width) ** -0.5)
            normal_(block.mlp.fc2.weight, width**-0.5 * (2 * depth) ** -0.5)
    normal_(model.text_model.embeddings.token_embedding.weight, 0.02)
    normal_(model.text_model.embeddings.position_embedding.weight, 0.01)
    patches = model.vision_model.embeddings
    for tensor in (patches.class_embedding, patches.patch_embedding.weight, patches.position_embedding.weight):
        normal_(tensor, model.config.vision.width**-0.5)
    normal_(model.text_projection.weight, model.config.text.width**-0.5)
    normal_(projection.weight, model.config.vision.width**-0.5)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if name.endswith(".bias"):
                tensor.zero_()
            elif "norm" in name:
                tensor.fill_(1.0)
        model.logit_scale.fill_(START_LOGIT_SCALE)
    return model
