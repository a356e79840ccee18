"""The spaces of latents: which diffusion models share one, its shape, and the networks that make it. No torch here.

Two spaces of one shape (SD 1 and SDXL, SD 3 and Flux) come from one network with other weights: a VAE's tensors do not
tell them apart, so that it has several rows here. Sources: ComfyUI's comfy/latent_formats.py and comfy/sd.py, and the
model cards named in `vae_core/config.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .facts import Shape


@dataclass(frozen=True)
class Space:
    """A space of latents.

    title: whose latents they are. shape: of them. formats: what ComfyUI calls the space. networks: classes of VAEs that
    make such latents.
    """

    title: str
    shape: Shape
    formats: tuple[str, ...]
    networks: tuple[str, ...]


_KL = ("AutoencoderKL", "AutoencodingEngine", "TAESD", "TinyAutoencoder")
_VIDEO_KL = ("AutoencoderKL", "AutoencodingEngine", "TAEHV")
_WAN = ("WanVAE", "AutoencoderWan", "TAEHV")

SPACES = {
    "sd1": Space("SD 1 and 2", Shape(4, 2, 8), ("SD15",), _KL),
    "sdxl": Space("SDXL", Shape(4, 2, 8), ("SDXL",), _KL),
    "small": Space("this pack's small model", Shape(4, 2, 4), ("SmallLatents",), ("AutoencoderKL",)),
    "playground": Space("Playground 2.5", Shape(4, 2, 8), ("SDXL_Playground_2_5",), _KL),
    "sd_x4": Space("SD x4 upscaler", Shape(4, 2, 4), ("SD_X4",), _KL),
    "cascade_c": Space("Stable Cascade C", Shape(16, 2), ("SC_Prior",), ("StageC_coder",)),
    "cascade_b": Space("Stable Cascade B", Shape(4, 2, 4), ("SC_B",), ("StageA",)),
    "sd3": Space("SD 3", Shape(16, 2, 8), ("SD3",), _KL),
    "flux": Space("Flux.1", Shape(16, 2, 8), ("Flux",), _KL),
    "flux2": Space("Flux.2", Shape(128, 2, 16), ("Flux2",), (*_KL, "MageVAE")),
    "hunyuan_image": Space("HunyuanImage 2.1", Shape(64, 2, 32), ("HunyuanImage21",), _KL),
    "pixel": Space(
        "pixels",
        Shape(3, 2, 1),
        ("ChromaRadiance", "ZImagePixelSpace", "HiDreamO1Pixel", "PixelDiTPixel"),
        ("PixelspaceConversionVAE",),
    ),
    "hunyuan_video": Space("HunyuanVideo", Shape(16, 3, 8), ("HunyuanVideo",), _VIDEO_KL),
    "hunyuan_video_15": Space("HunyuanVideo 1.5", Shape(32, 3, 16), ("HunyuanVideo15",), _VIDEO_KL),
    # 64 channels are 32 of two frames each, which 0.33.0 folds itself
    "hunyuan_refiner": Space("HunyuanImage refiner", Shape(None, 3, 16), ("HunyuanImage21Refiner",), _VIDEO_KL),
    "wan21": Space("Wan 2.1, Qwen-Image", Shape(16, 3, 8), ("Wan21",), _WAN),
    "wan22": Space("Wan 2.2 5B", Shape(48, 3, 16), ("Wan22",), _WAN),
    "cosmos": Space("Cosmos 1", Shape(16, 3, 8), ("Cosmos1CV8x8x8",), ("CausalContinuousVideoTokenizer",)),
    "mochi": Space("Mochi", Shape(12, 3, 8), ("Mochi",), ("VideoVAE",)),
    "ltxv": Space("LTX-Video", Shape(128, 3, 32), ("LTXV", "LTXAV"), ("VideoVAE", "CausalDiffusionVAE", "TAEHV")),
    "cogvideox": Space("CogVideoX", Shape(16, 3, 8), ("CogVideoX", "CogVideoX1_5"), ("AutoencoderKLCogVideoX",)),
    "seedvr2": Space("SeedVR2", Shape(16, 3, 8), ("SeedVR2",), ("VideoAutoencoderKLWrapper",)),
    "minimax": Space("MiniMax H3", Shape(24, 3, 16), ("MiniMaxH3Video", "MiniMaxH3AV"), ("MiniMaxH3VideoVAE", "TAEHV")),
    "ltx_audio": Space("LTX-2 (sound)", Shape(None, 2), (), ("AudioVAE",)),
    "minimax_audio": Space("MiniMax H3 (sound)", Shape(32, 2), (), ("MiniMaxH3AudioVAE",)),
    "stable_audio": Space("Stable Audio 1", Shape(64, 1), ("StableAudio1",), ("AudioOobleckVAE",)),
    "stable_audio_3": Space("Stable Audio 3", Shape(256, 1), ("StableAudio3",), ("SA3AudioVAE",)),
    "ace": Space("ACE-Step 1", Shape(8, 2), ("ACEAudio",), ("MusicDCAE",)),
    "ace_15": Space("ACE-Step 1.5", Shape(64, 1), ("ACEAudio15",), ("AudioOobleckVAE",)),
    "minimax_music": Space("MiniMax Music 3", Shape(128, 1), ("MiniMaxMusic3",), ("MiniMaxMusic3DAV",)),
    "hunyuan_3d": Space(
        "Hunyuan3D 2", Shape(64, 1), ("Hunyuan3Dv2", "Hunyuan3Dv2_1", "Hunyuan3Dv2mini"), ("ShapeVAE",)
    ),
}


def space_of_format(name: str) -> str | None:
    """The space that ComfyUI calls so; None where it is not known here.

    >>> space_of_format("Wan21")
    'wan21'
    """
    return next((key for key, space in SPACES.items() if name in space.formats), None)


def spaces_of_vae(network: str, shape: Shape) -> tuple[str, ...]:
    """The spaces that a VAE may make, by its network's class and the shape of its latents; none where it is not known.

    >>> spaces_of_vae("AutoencoderKL", Shape(16, 2, 8))
    ('sd3', 'flux')
    """
    own = [key for key, space in SPACES.items() if network in space.networks]
    return tuple(key for key in own if is_like(SPACES[key].shape, shape))


def spaces_of_shape(shape: Shape) -> Iterator[str]:
    """The spaces whose latents have such a shape."""
    return (key for key, space in SPACES.items() if is_like(space.shape, shape))


def is_like(one: Shape, other: Shape) -> bool:
    """Whether two shapes agree in all that is known of both."""
    pairs = ((one.channels, other.channels), (one.axes, other.axes), (one.px, other.px))
    return all(a == b or a is None or b is None for a, b in pairs)
