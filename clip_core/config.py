"""The numbers of a CLIP: frozen dataclasses, and the published sizes with their sources.

Sizes: openai/CLIP (the nine released models), open_clip's model_configs/*.json (3.3.0). A checkpoint's shapes show
everything but the number of vision heads, the activation and the preparation of pictures; `vision_heads` and the table
supply these.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TypeVar

VOCAB = 49408  # 256 bytes + 256 bytes at a word's end + 48894 merges + start + end
CONTEXT = 77  # tokens, start and end included
NORM_EPS = 1e-5
ACTIVATIONS = ("quick_gelu", "gelu", "gelu_tanh")

OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)  # openai/CLIP clip/clip.py `_transform`, RGB, of values in 0..1
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)
OnStep = Callable[[int, int], None]  # called with (rows done, rows in all), or texts, or pictures; may raise to stop
RESIZES = ("crop", "squash", "pad")  # the centre of the shorter side's square; each side by itself; all, on a ground


def _check(name: str, width: int, heads: int, activation: str) -> None:
    if heads < 1 or width % heads:
        raise ValueError(f"{name}: {heads} heads cannot share a width of {width}; choose heads that divide it")
    if activation not in ACTIVATIONS:
        raise ValueError(f"{name}: the activation is {activation!r}; it must be one of {', '.join(ACTIVATIONS)}")


@dataclass(frozen=True)
class TextConfig:
    """A causal transformer over tokens."""

    width: int
    layers: int
    heads: int
    mlp: int
    embed: int  # dimensions of the space shared with images
    vocab: int = VOCAB
    context: int = CONTEXT
    activation: str = "quick_gelu"

    def __post_init__(self):
        _check("text encoder", self.width, self.heads, self.activation)


@dataclass(frozen=True)
class VisionConfig:
    """A vision transformer over square patches of a square picture."""

    width: int
    layers: int
    heads: int
    mlp: int
    patch_px: int
    image_px: int
    embed: int
    activation: str = "quick_gelu"

    def __post_init__(self):
        _check("image encoder", self.width, self.heads, self.activation)
        if self.image_px % self.patch_px:
            raise ValueError(
                f"image encoder: pictures of {self.image_px} px do not divide into patches of {self.patch_px} px"
            )

    @property
    def grid(self) -> int:
        """Patches along one side."""
        return self.image_px // self.patch_px

    @property
    def positions(self) -> int:
        """Tokens of a picture: the class token and one for each patch."""
        return self.grid**2 + 1


@dataclass(frozen=True)
class ResNetConfig:
    """The modified ResNet of openai/CLIP (RN50 to RN50x64): a stem, four stages of blocks, attention as pooling."""

    width: int  # channels after the stem; the stages end with 4, 8, 16 and 32 times as many
    blocks: tuple[int, int, int, int]  # of each stage
    heads: int  # of the attention that pools
    image_px: int
    embed: int

    def __post_init__(self):
        if self.heads < 1 or self.pooled_width % self.heads:
            raise ValueError(
                f"image encoder: {self.heads} heads cannot share a width of {self.pooled_width}; choose heads that "
                "divide it"
            )
        if self.width < 2 or self.width % 2 or len(self.blocks) != 4 or min(self.blocks) < 1:
            raise ValueError(
                f"image encoder: a ResNet of even width with blocks in each of four stages was expected, not width "
                f"{self.width} with {', '.join(map(str, self.blocks))} blocks"
            )
        if self.image_px < 32 or self.image_px % 32:
            raise ValueError(f"image encoder: a ResNet's pictures are a multiple of 32 px wide, not {self.image_px} px")

    @property
    def pooled_width(self) -> int:
        """Channels after the last stage, which the pooling keeps."""
        return 32 * self.width

    @property
    def grid(self) -> int:
        """Positions along one side of the last stage's output."""
        return self.image_px // 32


@dataclass(frozen=True)
class CLIPConfig:
    """Both encoders of one space, and the preparation of pictures: how they are made square and normalised."""

    text: TextConfig
    vision: VisionConfig | ResNetConfig
    mean: tuple[float, float, float] = OPENAI_MEAN
    std: tuple[float, float, float] = OPENAI_STD
    resize: str = "crop"  # or "squash"

    def __post_init__(self):
        if self.text.embed != self.vision.embed:
            raise ValueError(
                f"texts are embedded in {self.text.embed} dimensions and pictures in {self.vision.embed}: "
                "the two halves do not belong together"
            )
        if self.resize not in RESIZES:
            raise ValueError(f"pictures are resized by {self.resize!r}; it must be one of {', '.join(RESIZES)}")


def vision_heads(width: int) -> int:
    """The number of heads of a published image encoder, which its tensors do not show.

    64 channels a head up to width 1024; OpenCLIP's H, g and bigG have 16 heads (of 80, 88 and 104 channels).
    openai/CLIP's `build_model` takes width // 64 always, which is wrong for those three. A width that 64 does not
    divide and no published model has gets the most heads <= width / 64 that divide it.
    """
    if width in (1280, 1408, 1664):
        return 16
    heads = max(1, width // 64)
    while width % heads:
        heads -= 1
    return heads


def text_heads(width: int) -> int:
    """64 channels a head in every published text encoder; the nearest divisor below that for other widths."""
    heads = max(1, width // 64)
    while width % heads:
        heads -= 1
    return heads


def resnet_heads(width: int) -> int:
    """64 channels a head, as in every published ResNet (openai/CLIP clip/model.py `CLIP.__init__`)."""
    return text_heads(32 * width)


def _text(width: int, layers: int, embed: int, activation: str) -> TextConfig:
    return TextConfig(width, layers, width // 64, 4 * width, embed, activation=activation)


CLIP_L = _text(768, 12, 768, "quick_gelu")  # SD1, SDXL, SD3, Flux; openai/clip-vit-large-patch14
CLIP_H = _text(1024, 24, 1024, "gelu")  # SD2; laion/CLIP-ViT-H-14-laion2B-s32B-b79K
CLIP_G = _text(1280, 32, 1280, "gelu")  # SDXL, SD3; laion/CLIP-ViT-bigG-14-laion2B-39B-b160k

TEXT_FAMILIES: dict[str, TextConfig] = {"clip_l": CLIP_L, "clip_h": CLIP_H, "clip_g": CLIP_G}


def _clip(embed: int, text: tuple[int, int], vision: tuple[int, int, int], px: tuple[int, int], act: str) -> CLIPConfig:
    width, layers, mlp = vision
    image = VisionConfig(width, layers, vision_heads(width), mlp, px[1], px[0], embed, act)
    return CLIPConfig(_text(*text, embed, act), image)


def _resnet(embed: int, text: tuple[int, int], width: int, blocks: tuple[int, int, int, int], px: int) -> CLIPConfig:
    return CLIPConfig(_text(*text, embed, "quick_gelu"), ResNetConfig(width, blocks, resnet_heads(width), px, embed))


PUBLISHED: dict[str, CLIPConfig] = {
    # openai/CLIP, clip/model.py; weights of 2021 and 2022
    "RN50": _resnet(1024, (512, 12), 64, (3, 4, 6, 3), 224),
    "RN101": _resnet(512, (512, 12), 64, (3, 4, 23, 3), 224),
    "RN50x4": _resnet(640, (640, 12), 80, (4, 6, 10, 6), 288),
    "RN50x16": _resnet(768, (768, 12), 96, (6, 8, 18, 8), 384),
    "RN50x64": _resnet(1024, (1024, 12), 128, (3, 15, 36, 10), 448),
    "ViT-B-32": _clip(512, (512, 12), (768, 12, 3072), (224, 32), "quick_gelu"),
    "ViT-B-16": _clip(512, (512, 12), (768, 12, 3072), (224, 16), "quick_gelu"),
    "ViT-L-14": _clip(768, (768, 12), (1024, 24, 4096), (224, 14), "quick_gelu"),
    "ViT-L-14-336": _clip(768, (768, 12), (1024, 24, 4096), (336, 14), "quick_gelu"),
    # open_clip, model_configs/
    "ViT-B-32-256": _clip(512, (512, 12), (768, 12, 3072), (256, 32), "gelu"),  # DataComp
    "ViT-B-16-plus-240": _clip(640, (640, 12), (896, 12, 3584), (240, 16), "gelu"),
    "ViT-H-14": _clip(1024, (1024, 24), (1280, 32, 5120), (224, 14), "gelu"),
    "ViT-H-14-378": replace(  # apple/DFN5B
        _clip(1024, (1024, 24), (1280, 32, 5120), (378, 14), "quick_gelu"), resize="squash"
    ),
    "ViT-g-14": _clip(1024, (1024, 24), (1408, 40, 6144), (224, 14), "gelu"),
    "ViT-bigG-14": _clip(1280, (1280, 32), (1664, 48, 8192), (224, 14), "gelu"),
}


def with_activation(config: CLIPConfig, activation: str) -> CLIPConfig:
    """The same sizes with another activation in both halves: open_clip trained B/32 with both, for example. A ResNet
    keeps its ReLU, whatever its text encoder has.
    """
    vision = config.vision
    if isinstance(vision, VisionConfig):
        vision = replace(vision, activation=activation)
    return replace(config, text=replace(config.text, activation=activation), vision=vision)


METADATA_KEY = "clip_config"
Config = TypeVar("Config", bound=CLIPConfig)


def to_metadata(config: CLIPConfig) -> dict[str, str]:
    """The config as an entry for a safetensors header: shapes do not show activation, heads, mean and deviation."""
    return {METADATA_KEY: json.dumps(asdict(config), sort_keys=True)}


def from_metadata(metadata: Mapping[str, str]) -> CLIPConfig | None:
    """The config that `to_metadata` wrote; None for a header without one.

    Raises:
        ValueError: the entry cannot be parsed.
    """

    def made(fields: dict) -> CLIPConfig:
        text, vision = TextConfig(**fields["text"]), _vision_of(**fields["vision"])
        return CLIPConfig(text, vision, tuple(fields["mean"]), tuple(fields["std"]), fields.get("resize", "crop"))

    return written_config(metadata, made)


def written_config(metadata: Mapping[str, str], made: Callable[[dict], Config]) -> Config | None:
    """The config that `made` makes of the fields in a header; None for a header without any.

    Raises:
        ValueError: the entry cannot be parsed.
    """
    if METADATA_KEY not in metadata:
        return None
    try:
        return made(json.loads(metadata[METADATA_KEY]))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(
            f"the header's {METADATA_KEY} cannot be read ({error}); save the model again, or remove the entry"
        ) from error


def _vision_of(
    blocks: tuple[int, int, int, int] | None = None, activation: str = "quick_gelu", **sizes: int
) -> VisionConfig | ResNetConfig:
    """The config of these fields: a ResNet has blocks, a vision transformer has layers."""
    if blocks is None:
        return VisionConfig(**sizes, activation=activation)
    first, second, third, last = blocks
    return ResNetConfig(blocks=(first, second, third, last), **sizes)
