"""The families of diffusion models: the latents they work on and the text they read. No torch here.

The names of families are those of `lora/families` where those have one. Sources: ComfyUI's comfy/supported_models.py
for latents and encoders, comfy/model_base.py for the pooled text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .texts import TEXTS


@dataclass(frozen=True)
class Row:
    """A family of models.

    hosts: what ComfyUI calls its models. space: the row of `spaces.SPACES` that it works on. texts: rows of
    `texts.TEXTS` that it reads; none where it reads no text. width: where the model's own config says how wide the text
    is. pooled: the same for its pooled text, of which `pooled_less` numbers are sizes. needs_pooled: it stops without.
    beside: spaces that it works on at the same time, such as that of its sound.
    """

    hosts: tuple[str, ...]
    space: str
    texts: tuple[str, ...]
    width: str = ""
    pooled: str = ""
    pooled_less: int = 0
    needs_pooled: bool = False
    beside: tuple[str, ...] = ()


_CONTEXT = "context_dim"
_SDXL = ("SDXL", "SSD1B", "Segmind_Vega", "KOALA_700M", "KOALA_1B", "SDXL_instructpix2pix")
_SVD = ("SVD_img2vid", "SV3D_u", "SV3D_p")
_WAN = (
    *("WAN21_T2V", "WAN21_CausalAR_T2V", "WAN21_I2V", "WAN21_FunControl2V", "WAN21_Camera", "WAN22_Camera"),
    *("WAN21_Vace", "WAN21_HuMo", "WAN22_S2V", "WAN22_Animate", "WAN_Animate2", "WAN21_FlowRVS", "WAN21_SCAIL"),
    *("WAN21_SCAIL2", "WAN22_WanDancer"),
)
_SIZES_OF_SDXL, _SIZES_OF_REFINER = 6 * 256, 5 * 256

MODELS = {
    "SD 1": Row(("SD15", "SD15_instructpix2pix"), "sd1", ("clip_l",), _CONTEXT),
    "SD 2": Row(("SD20", "SD21UnclipL", "SD21UnclipH", "LotusD"), "sd1", ("clip_h",), _CONTEXT),
    "SD x4 upscaler": Row(("SD_X4Upscaler",), "sd_x4", ("clip_h",), _CONTEXT),
    "SDXL": Row(_SDXL, "sdxl", ("clip_lg",), _CONTEXT, "adm_in_channels", _SIZES_OF_SDXL, True),
    "SDXL refiner": Row(("SDXLRefiner",), "sdxl", ("clip_g",), _CONTEXT, "adm_in_channels", _SIZES_OF_REFINER, True),
    "SVD": Row(_SVD, "sd1", ()),
    "Zero123": Row(("Stable_Zero123",), "sd1", ()),
    "Stable Cascade C": Row(("Stable_Cascade_C",), "cascade_c", ("cascade", "clip_g"), "c_clip_text", "", 0, True),
    "Stable Cascade B": Row(("Stable_Cascade_B",), "cascade_b", ("cascade", "clip_g"), "", "", 0, True),
    "SD 3": Row(("SD3",), "sd3", ("sd3",), "context_embedder_config.params.in_features", "adm_in_channels", 0, True),
    "AuraFlow": Row(("AuraFlow",), "sdxl", ("pile_t5",), "cond_seq_dim"),
    "PixArt Alpha": Row(("PixArtAlpha",), "sd1", ("t5",), "caption_channels"),
    "PixArt": Row(("PixArtSigma",), "sdxl", ("t5",), "caption_channels"),
    "Hunyuan-DiT": Row(("HunyuanDiT", "HunyuanDiT1"), "sdxl", ("hydit",), "text_states_dim"),
    "Flux": Row(("Flux", "FluxInpaint", "FluxSchnell"), "flux", ("t5", "qwen3_2b"), "context_in_dim", "vec_in_dim"),
    "LongCat-Image": Row(("LongCatImage",), "flux", ("qwen25_7b",), "context_in_dim"),
    "Chroma": Row(("Chroma",), "flux", ("t5",), "context_in_dim"),
    "Chroma Radiance": Row(("ChromaRadiance",), "pixel", ("t5",), "context_in_dim"),
    "Flux.2": Row(("Flux2",), "flux2", ("mistral3", "klein_4b", "klein_8b"), "context_in_dim"),
    "Lens": Row(("Lens",), "flux2", ("gpt_oss",)),
    "Ideogram 4": Row(("Ideogram4",), "flux2", ("ideogram4",)),
    "Mage-Flow": Row(("MageFlow",), "flux2", ("mage_flow",)),
    "ERNIE-Image": Row(("ErnieImage",), "flux2", ("ministral3",), "text_in_dim"),
    "HiDream": Row(("HiDream",), "flux", ("hidream",), "", "text_emb_dim", 0, True),
    "HiDream O1": Row(("HiDreamO1",), "pixel", ("hidream_o1",)),
    "PixelDiT": Row(("PixelDiTT2I", "PiD"), "pixel", ("pixeldit",)),
    "Lumina 2": Row(("Lumina2",), "flux", ("gemma2", "gemma3"), "cap_feat_dim"),
    "Z-Image": Row(("ZImage",), "flux", ("qwen3_4b",), "cap_feat_dim"),
    "Z-Image Pixel": Row(("ZImagePixelSpace",), "pixel", ("qwen3_4b",), "cap_feat_dim"),
    "OmniGen 2": Row(("Omnigen2",), "flux", ("qwen25_3b",), "text_feat_dim"),
    "Boogu": Row(("Boogu",), "flux", ("boogu",)),
    "Krea 2": Row(("Krea2",), "wan21", ("krea2",)),
    "Qwen-Image": Row(("QwenImage",), "wan21", ("qwen25_7b",), "joint_attention_dim"),
    "JoyImage": Row(("JoyImage",), "wan21", ("joyimage",)),
    "Kandinsky 5": Row(("Kandinsky5",), "hunyuan_video", ("qwen25_7b",), "", "", 0, True),
    "Kandinsky 5 Image": Row(("Kandinsky5Image",), "flux", ("qwen25_7b",), "", "", 0, True),
    "HunyuanImage": Row(("HunyuanImage21",), "hunyuan_image", ("qwen25_7b",), "context_in_dim"),
    "HunyuanImage refiner": Row(("HunyuanImage21Refiner",), "hunyuan_refiner", ("qwen25_7b", "llama")),
    "HunyuanVideo": Row(
        ("HunyuanVideo", "HunyuanVideoI2V", "HunyuanVideoSkyreelsI2V"),
        "hunyuan_video",
        ("llama",),
        "context_in_dim",
        "vec_in_dim",
        0,
        True,
    ),
    "HunyuanVideo 1.5": Row(
        ("HunyuanVideo15", "HunyuanVideo15_SR_Distilled"), "hunyuan_video_15", ("qwen25_7b",), "context_in_dim"
    ),
    "Wan": Row(_WAN, "wan21", ("umt5",), "text_dim"),
    "Wan 2.2 5B": Row(("WAN22_T2V",), "wan22", ("umt5",), "text_dim"),
    "Mochi": Row(("GenmoMochi",), "mochi", ("t5",), "t5_feat_dim"),
    "LTX-Video": Row(("LTXV",), "ltxv", ("t5",), "caption_channels"),
    "LTX-2": Row(("LTXAV",), "ltxv", ("ltxav",), beside=("ltx_audio",)),
    "Cosmos": Row(("CosmosT2V", "CosmosI2V"), "cosmos", ("t5_old",), "crossattn_emb_channels"),
    "Cosmos-Predict2": Row(("CosmosT2IPredict2", "CosmosI2VPredict2"), "wan21", ("t5_old",), "crossattn_emb_channels"),
    "Anima": Row(("Anima",), "wan21", ("qwen3_06b",)),
    "CogVideoX": Row(("CogVideoX_T2V", "CogVideoX_I2V", "CogVideoX_Inpaint"), "cogvideox", ("t5",), "text_embed_dim"),
    "SeedVR2": Row(("SeedVR2",), "seedvr2", ()),
    "MiniMax H3": Row(("MiniMaxH3",), "minimax", ("minimax",), beside=("minimax_audio",)),
    "Stable Audio": Row(("StableAudio",), "stable_audio", ("t5_base",)),
    "Stable Audio 3": Row(("StableAudio3",), "stable_audio_3", ("t5gemma",)),
    "ACE-Step 1": Row(("ACEStep",), "ace", ("umt5_base",)),
    "ACE-Step 1.5": Row(("ACEStep15",), "ace_15", ("ace_15",)),
    "MiniMax Music 3": Row(("MiniMaxMusic3",), "minimax_music", ("minimax_music",)),
    "Small": Row(("SmallConfig",), "small", ("small",), _CONTEXT),
    "Hunyuan3D 2": Row(("Hunyuan3Dv2", "Hunyuan3Dv2_1", "Hunyuan3Dv2mini"), "hunyuan_3d", ()),
}
LORA_KIN = (  # families that take LoRAs of one name, by the names in `lora/families`
    frozenset({"PixArt", "PixArt Alpha"}),
    frozenset({"Wan", "Wan 2.2 5B"}),
    frozenset({"Chroma", "Chroma Radiance", "Flux", "LongCat-Image"}),
    frozenset({"Z-Image", "Z-Image Pixel", "Lumina 2"}),
    frozenset({"Kandinsky 5", "Kandinsky 5 Image"}),
    frozenset({"HunyuanImage", "HunyuanImage refiner"}),
    frozenset({"Cosmos", "Cosmos-Predict2", "Anima"}),
    frozenset({"LTX-Video", "LTX-2"}),
    frozenset({"SD 2", "SVD", "SD x4 upscaler"}),
    frozenset({"SD 1", "Zero123"}),
)


def family_of_host(name: str) -> str | None:
    """The family of ComfyUI's class of a model; None where it is not known here.

    >>> family_of_host("WAN21_I2V")
    'Wan'
    """
    return next((family for family, row in MODELS.items() if name in row.hosts), None)


def texts_of(family: str, width: int | None) -> tuple[str, ...]:
    """The kinds of text that a model reads: of a family that has several, those of the model's own width.

    >>> texts_of("Flux.2", 7680), texts_of("Flux.2", None)
    (('klein_4b',), ('mistral3', 'klein_4b', 'klein_8b'))
    """
    kinds: Sequence[str] = MODELS[family].texts
    own = tuple(kind for kind in kinds if width and TEXTS[kind].width == width)
    return own or tuple(kinds)


def takes_loras_of(family: str, others: Sequence[str]) -> bool:
    """Whether a model of a family may take a LoRA that was made for one of these."""
    return family in others or any(family in kin and other in kin for kin in LORA_KIN for other in others)
