"""What a file is that holds no CLIP: tell-tale names -> what to say. Facts: the layouts of the models named."""

import re
from collections.abc import Iterable

# Near relatives of CLIP: they have its names in part, and must not be taken for one. (pattern of a name, what it is)
_RELATIVES = (
    (r"(vision_model|text_model)\.head\.|(^|\.)logit_bias$|attn_pool\.latent", "SigLIP"),
    (r"(^|\.)visual\.blocks\.\d+\.(attn\.(q|v)_(bias|proj)|mlp\.(w[123]|ffn_ln))", "EVA-CLIP"),
    (r"(^|\.)image_encoder\.model\.(patch_embed|network|stages|conv_exp)", "MobileCLIP"),
    (r"(^|\.)visual\.trunk\.", "an open_clip model with a timm image encoder (EVA, ConvNeXt or the like)"),
    (r"(^|\.)text_decoder\.", "CoCa"),
    (r"positional_embedding_res$", "LongCLIP in its first layout, with two position tables"),
    (r"(^|\.)text\.transformer\.embeddings\.word_embeddings", "an open_clip model with XLM-R as its text encoder"),
)

_OTHERS = (
    (r"\.lora_(down|up|A|B)\.|\.lora_[AB]\b|:(up|down)$|\.(hada|lokr)_w1|\.oft_blocks", "a LoRA"),
    (r"(^|\.)encoder\.block\.0\.layer\.0\.SelfAttention|(^|\.)shared\.weight$", "a T5 text encoder"),
    (r"embeddings\.word_embeddings\.", "BERT or one of its family"),
    (r"(^|\.)model\.layers\.0\.self_attn|(^|\.)embed_tokens\.weight$", "a language model (Llama, Qwen or the like)"),
    (r"layer_scale[12]?\.lambda1$|(^|\.)ls[12]\.gamma$", "DINOv2"),
    (r"(^|\.)string_to_param|(^|\.)emb_params$|(^|\.)emp_params$", "a textual inversion embedding"),
    (
        r"(^|\.)input_blocks\.0\.|(^|\.)(double|joint|single|transformer)_blocks\.0\."
        r"|(^|\.)down_blocks\.0\.attentions\.0\.transformer|(^|\.)time_embed(ding)?\.",
        "a diffusion model (UNet or transformer) without text encoders",
    ),
    (r"(^|\.)(encoder|decoder)\.(down|up|mid|down_blocks|up_blocks|mid_block|conv_in)\b|(^|\.)quant_conv\.", "a VAE"),
    (r"^\d+\.(conv\.\d+\.)?weight$", "a tiny autoencoder (TAESD)"),
)

# Weights as packed or scaled numbers: the tensors that stand beside them -> how they are packed
_QUANTISED = (
    (r"\.quant_state\.bitsandbytes__|\.absmax$", "4-bit numbers of bitsandbytes"),
    (r"\.(qweight|qzeros|g_idx)$", "packed numbers of GPTQ or AWQ"),
    (r"\.weight\._(data|scale)$", "packed numbers of quanto"),
    (r"\.comfy_quant$", "packed numbers of ComfyUI's quantised files"),
    (r"\.scale_weight$|\.weight_scale(_inv|_2)?$|(^|\.)scaled_fp8$", "8-bit numbers with separate scales"),
)


def quantised(names: Iterable[str]) -> str | None:
    """How the weights among these names are packed, if they are in a way that is not read here; else None."""
    return _first(_QUANTISED, names)


def relative_of_clip(names: Iterable[str]) -> str | None:
    """The model near to CLIP that these names belong to, or None."""
    return _first(_RELATIVES, names)


def looks_like(names: Iterable[str]) -> str:
    """What a file with these names seems to be, for a sentence that begins "it looks like"."""
    names = list(names)
    if not names:
        return "an empty file"
    unknown = f"something unknown ({len(names)} tensors, the first: {min(names)})"
    return _first((*_RELATIVES, *_OTHERS), names) or unknown


def _first(table: Iterable[tuple[str, str]], names: Iterable[str]) -> str | None:
    names = list(names)
    return next((what for pattern, what in table if any(re.search(pattern, name) for name in names)), None)
