"""What text encoders give to diffusion models: a row for each kind of text that models read. No torch here.

Encoders of one row are exchangeable; those of two rows are not, even where their numbers have one width (T5 and UMT5).
Sources: ComfyUI's comfy/text_encoders, comfy/sd1_clip.py and comfy/sdxl_clip.py.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """A kind of text.

    title: the encoders. width: numbers a token; 0 where that is not told. reads: what a model must read to take it,
    the row's own name where it is empty. pooled: numbers of its pooled text, 0 without one. classes: what ComfyUI calls
    the encoders, without a trailing underscore; "module.Class" or "Class:encoder" where a class name is not enough.
    """

    title: str
    width: int
    classes: tuple[str, ...]
    pooled: int = 0
    reads: str = ""


_T5 = ("PixArtTEModel", "PixArtT5XXL", "MochiTEModel", "MochiT5XXL", "CogVideoXTEModel", "CogVideoXT5XXL", "T5XXLModel")

TEXTS = {
    "clip_l": Row("CLIP-L (SD 1)", 768, ("SD1ClipModel",), 768),
    "small": Row("this pack's small CLIP", 64, (), 64),
    "clip_h": Row("CLIP-H (SD 2)", 1024, ("SD2ClipModel",), 1024),
    "clip_lg": Row("CLIP-L and CLIP-G (SDXL)", 2048, ("SDXLClipModel",), 1280),
    "clip_g": Row("CLIP-G (SDXL refiner)", 1280, ("SDXLRefinerClipModel",), 1280),
    "cascade": Row("CLIP-G (Stable Cascade)", 1280, ("StableCascadeClipModel",), 1280),
    "sd3": Row("CLIP-L, CLIP-G and T5 (SD 3)", 4096, ("SD3ClipModel",), 2048),
    "flux": Row("CLIP-L and T5-XXL (Flux)", 4096, ("FluxClipModel",), 768, reads="t5"),
    "t5": Row("T5-XXL", 4096, _T5),
    "t5_old": Row("T5-XXL 1.0 (Cosmos)", 1024, ("CosmosTEModel", "CosmosT5XXL")),
    "umt5": Row("UMT5-XXL (Wan)", 4096, ("WanTEModel", "WanT5Model")),
    "pile_t5": Row("Pile-T5-XL (AuraFlow)", 2048, ("AuraT5Model",)),
    "t5_base": Row("T5-base (Stable Audio)", 768, ("SAT5Model",)),
    "t5gemma": Row("T5Gemma (Stable Audio 3)", 0, ("SAT5GemmaModel",)),
    "umt5_base": Row("UMT5-base (ACE-Step)", 768, ("AceT5Model",)),
    "ace_15": Row("Qwen3 (ACE-Step 1.5)", 0, ("ACE15TEModel",)),
    "hidream": Row("CLIP-L, CLIP-G, T5 and Llama (HiDream)", 4096, ("HiDreamTEModel",), 2048),
    "llama": Row("Llama 3 and CLIP-L (HunyuanVideo)", 4096, ("HunyuanVideoClipModel",), 768),
    "hydit": Row("BERT and mT5 (Hunyuan-DiT)", 1024, ("HyditModel",), 1024),
    "gemma2": Row("Gemma 2 2B (Lumina 2)", 2304, ("LuminaTEModel:gemma2_2b", "LuminaModel:gemma2_2b")),
    "gemma3": Row(
        "Gemma 3 4B (Lumina 2)", 2560, ("LuminaTEModel:gemma3_4b", "LuminaTEModel:gemma3_4b_vision"), reads="gemma3"
    ),
    "newbie": Row("Gemma 3 4B and Jina CLIP (NewBie)", 2560, ("NewBieTEModel",), 1024, reads="gemma3"),
    "pixeldit": Row("Gemma 2 2B (PixelDiT)", 0, ("PixelDiTGemma2TE", "PixelDiTTEModel")),
    "ltxav": Row("Gemma (LTX-2)", 0, ("LTXAVTEModel", "Gemma3_12BModel")),
    "qwen25_3b": Row("Qwen2.5-VL 3B (OmniGen 2)", 2048, ("Omnigen2TEModel", "Omnigen2Model")),
    "qwen25_7b": Row(
        "Qwen2.5-VL 7B (Qwen-Image)",
        3584,
        ("QwenImageTEModel", "HunyuanImageTEModel", "LongCatImageTEModel"),
    ),
    "kandinsky5": Row("Qwen2.5-VL 7B and CLIP-L (Kandinsky 5)", 3584, ("Kandinsky5TEModel",), 768, reads="qwen25_7b"),
    "qwen3_4b": Row("Qwen3 4B (Z-Image)", 2560, ("ZImageTEModel",)),
    "qwen3_06b": Row("Qwen3 0.6B (Anima)", 1024, ("AnimaTEModel",)),
    "qwen3_2b": Row("Qwen3 2B (Ovis-Image)", 2048, ("OvisTEModel",)),
    "mistral3": Row("Mistral 3 24B (Flux.2)", 15360, ("Flux2TEModel:mistral3_24b",)),
    "klein_4b": Row("Qwen3 4B (Flux.2 klein 4B)", 7680, ("Flux2TEModel:qwen3_4b",)),
    "klein_8b": Row("Qwen3 8B (Flux.2 klein 9B)", 12288, ("Flux2TEModel:qwen3_8b",)),
    "ministral3": Row("Ministral 3 3B (ERNIE-Image)", 3072, ("ErnieTEModel",)),
    "gpt_oss": Row("GPT-OSS 20B (Lens)", 0, ("LensTEModel",)),
    "krea2": Row("Qwen3-VL 4B (Krea 2)", 0, ("Krea2TEModel",)),
    "mage_flow": Row("Qwen3-VL 4B (Mage-Flow)", 0, ("MageFlowTEModel",)),
    "boogu": Row("Qwen3-VL 8B (Boogu)", 0, ("BooguTEModel",)),
    "joyimage": Row("Qwen3-VL 8B (JoyImage)", 0, ("JoyImageTEModel",)),
    "ideogram4": Row("Qwen3 8B (Ideogram 4)", 0, ("Ideogram4TEModel", "Ideogram4Qwen3VLTEModel")),
    "hidream_o1": Row("HiDream O1", 0, ("HiDreamO1TE",)),
    "minimax": Row("Qwen3-VL 32B (MiniMax H3)", 0, ("MiniMaxH3TEModel",)),
    "minimax_music": Row("MiniMax Music 3", 0, ("MiniMaxMusic3TEModel",)),
}

# The encoders that each kind is made of, as their files are told: a language model by its width alone.
PARTS: dict[str, tuple[str, ...]] = {
    "clip_l": ("clip_l",),
    "small": ("small",),
    "clip_h": ("clip_h",),
    "clip_lg": ("clip_l", "clip_g"),
    "clip_g": ("clip_g",),
    "cascade": ("clip_g",),
    "sd3": ("clip_l", "clip_g", "t5"),
    "flux": ("clip_l", "t5"),
    "hidream": ("clip_l", "clip_g", "t5", "llm_4096"),
    "llama": ("clip_l", "llm_4096"),
    "kandinsky5": ("clip_l", "llm_3584"),
    **{kind: (kind,) for kind in ("t5", "t5_old", "umt5", "pile_t5", "t5_base", "umt5_base")},
    "qwen3_06b": ("llm_1024",),
    **dict.fromkeys(("qwen25_3b", "qwen3_2b"), ("llm_2048",)),
    **dict.fromkeys(("gemma2", "pixeldit"), ("llm_2304",)),
    **dict.fromkeys(("qwen3_4b", "klein_4b", "gemma3", "krea2", "mage_flow"), ("llm_2560",)),
    "ministral3": ("llm_3072",),
    "qwen25_7b": ("llm_3584",),
    **dict.fromkeys(("klein_8b", "boogu", "joyimage", "ideogram4"), ("llm_4096",)),
    **dict.fromkeys(("mistral3", "minimax"), ("llm_5120",)),
}


def text_of_class(name: str, encoder: str = "") -> str | None:
    """The row of a text encoder, by its class and the name of the encoder inside; None where it is not known.

    >>> text_of_class("Flux2TEModel_", "qwen3_8b"), text_of_class("SDXLClipModel")
    ('klein_8b', 'clip_lg')
    """
    bare = name.rstrip("_")
    wanted = (f"{bare}:{encoder}", bare)
    return next((key for key, row in TEXTS.items() if any(one in row.classes for one in wanted)), None)


def read_as(kind: str) -> str:
    """What a model must read to take this kind of text."""
    return TEXTS[kind].reads or kind
