"""The numbers of a SigLIP: CLIP's, with another end of each encoder and a sigmoid in place of the softmax.

Sizes: Zhai et al. 2023 (arXiv 2303.15343) and Tschannen et al. 2025 (arXiv 2502.14786, SigLIP 2), as in
google-research/big_vision and in the config.json files of google/siglip-* and google/siglip2-*.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .config import CLIPConfig, TextConfig, VisionConfig, written_config

SIGLIP_EPS = 1e-6  # of its norms
SIGLIP_ACTIVATION = "gelu_tanh"
END_OF_TEXT = 1  # in both vocabularies
_HALF = (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class SigLIPVisionConfig(VisionConfig):
    """A vision transformer without a class token, which attention pools; what no whole patch covers is not seen."""

    activation: str = SIGLIP_ACTIVATION

    def __post_init__(self) -> None:
        if self.heads < 1 or self.width % self.heads:
            raise ValueError(
                f"image encoder: {self.heads} heads cannot share a width of {self.width}; choose heads that divide it"
            )

    @property
    def positions(self) -> int:
        """Tokens of a picture: one for each patch."""
        return self.grid**2


@dataclass(frozen=True)
class SigLIPConfig(CLIPConfig):
    """Both encoders of one space, and the preparation of pictures and of texts.

    `version` 1: texts lose their capitals and punctuation, and are padded with the end token; 2: they lose their
    capitals and are padded with 0.
    """

    vision: SigLIPVisionConfig
    mean: tuple[float, float, float] = _HALF
    std: tuple[float, float, float] = _HALF
    resize: str = "squash"
    version: int = 1

    @property
    def pad(self) -> int:
        """The id behind the end token of a text."""
        return END_OF_TEXT if self.version == 1 else 0


def siglip_from_metadata(metadata: Mapping[str, str]) -> SigLIPConfig | None:
    """The config that `config.to_metadata` wrote of a SigLIP; None for a header without one.

    Raises:
        ValueError: the entry cannot be parsed.
    """

    def made(fields: dict) -> SigLIPConfig:
        text, vision = TextConfig(**fields.pop("text")), SigLIPVisionConfig(**fields.pop("vision"))
        mean, std = tuple(fields.pop("mean")), tuple(fields.pop("std"))
        return SigLIPConfig(text, vision, mean, std, **fields)

    return written_config(metadata, made)


def siglip_heads(width: int) -> int:
    """The number of heads of a published SigLIP, which its tensors do not show: 64 channels a head, but 16 heads in
    So400m (72 channels) and in the giant (96). Another width gets the most heads <= width / 64 that divide it.
    """
    if width in (1152, 1536):
        return 16
    heads = max(1, width // 64)
    while width % heads:
        heads -= 1
    return heads
