"""Parts of a model in words: "text encoder, layer 3, attention query" for a key or a module's name in any dialect.

Reports show these words, because a name such as lora_te_text_model_encoder_layers_3_self_attn_q_proj tells a user
little. No torch here.
"""

import re

_OWNERS = (  # the first pattern that a name begins with, underscores for dots
    (r"(lora_)?te3_|t5xxl_|text_encoder_3_", "third text encoder"),
    (r"(lora_)?te2_|clip_g_|text_encoder_2_", "second text encoder"),
    (
        r"lora_te1?_|te1_|clip_[lh]_|text_encoder_|text_model_|text_encoder:|lora_prior_te_|text_projection",
        "text encoder",
    ),
    (r"lora_vision_|vision_model_|visual_|image_encoder_", "image encoder"),
    (
        r"lora_unet_|unet_|unet:|oft_unet_|diffusion_model_|transformer_|lora_transformer_|lora_prior_unet_|"
        r"((input|output|middle|down|up|mid|double|single|joint|\w*transformer|\w*_stream)_blocks?_)|blocks_|layers_|"
        r"(double|single)_layers_|(noise|context|ref_image)_refiner_|decoder_layers_",
        "diffusion model",
    ),
)
_QUALIFIED = ("input", "output", "down", "up", "double", "single", "joint", "transformer", "stream", "refiner")
_PLAIN = "".join(f"(?<!{word}_)" for word in _QUALIFIED)
_BLOCKS = (  # all patterns that a name has; {0} is the number in it
    (r"input_blocks_(\d+)", "block IN{0:02}"),
    (r"output_blocks_(\d+)", "block OUT{0:02}"),
    (r"middle_block|mid_block", "middle block"),
    (r"down_blocks_(\d+)", "down block {0}"),
    (r"up_blocks_(\d+)", "up block {0}"),
    (r"double_blocks_(\d+)", "double block {0}"),
    (r"single_(?:transformer_)?blocks_(\d+)", "single block {0}"),
    (r"joint_(?:transformer_)?blocks_(\d+)", "joint block {0}"),
    (r"double_(?:stream_blocks|layers)_(\d+)", "double block {0}"),
    (r"single_(?:stream_blocks|layers)_(\d+)", "single block {0}"),
    (r"visual_transformer_blocks_(\d+)", "visual block {0}"),
    (r"text_transformer_blocks_(\d+)", "text block {0}"),
    (r"(?:token_refiner_)?refiner_blocks_(\d+)|individual_token_refiner_blocks_(\d+)", "refiner {0}"),
    (r"noise_refiner_(\d+)", "noise refiner {0}"),
    (r"context_refiner_(\d+)", "context refiner {0}"),
    (r"ref_image_refiner_(\d+)", "reference refiner {0}"),
    (rf"{_PLAIN}blocks_(\d+)", "block {0}"),
    (r"attentions_(\d+)", "attention {0}"),
    (r"resnets_(\d+)", "residual block {0}"),
    (r"(?<!single_)(?<!joint_)(?<!visual_)(?<!text_)transformer_blocks_(\d+)", "transformer {0}"),
    (r"final_layer", "final layer"),
    (r"time_embed(?:ding)?(?=_)|time_in|t_embedder", "time embedding"),
    (r"(?<!double_)(?<!single_)layers_(\d+)|resblocks_(\d+)|encoder_block_(\d+)", "layer {0}"),
)
_LAYERS = (  # the first pattern that a name has
    (r"attn2_", "cross-attention"),
    (r"attn1_", "self-attention"),
    (r"self_attn|selfattention|attn", "attention"),
    (r"mlp|ff_|densereludense", "MLP"),
)
_TAILS = (  # the first pattern that a name ends with
    (r"to_q|q_proj|add_q|selfattention_q|query_norm(_scale)?|norm(_added)?_q", "query"),
    (r"to_k|k_proj|add_k|selfattention_k|key_norm(_scale)?|norm(_added)?_k", "key"),
    (r"to_v|v_proj|add_v|selfattention_v", "value"),
    (r"qkv", "query, key and value"),
    (r"to_out(_0)?|out_proj|to_add_out|attn_proj|selfattention_o", "output"),
    (r"fc1|mlp_0|net_0_proj|wi_?\d?", "first layer"),
    (r"fc2|mlp_2|net_2|wo", "second layer"),
    (r"proj_in", "input projection"),
    (r"proj_out", "output projection"),
    (r"conv1|in_layers_2", "first convolution"),
    (r"conv2|out_layers_3", "second convolution"),
    (r"time_emb_proj|emb_layers_1", "time projection"),
    (r"skip_connection|conv_shortcut", "skip connection"),
    (r"linear1", "first layer"),
    (r"linear2", "second layer"),
    (r"(\w*_)?(mod|modulation)_lin|adaln_modulation_1|norm1(_context)?_linear", "modulation"),
    (r"text_projection|visual_projection", "projection"),
)
_NUMBERED = re.compile(r"(?:unet|text_encoder):(\d{1,5})")
_NAME = re.compile(r"[\w:]+(?:[._]\w+){2,}|(?:unet|text_encoder):\d+")
_LONGEST = 300


def describe_part(name: str) -> str:
    """The part of a model that a key or a module's name means, in words; the name itself where they are unknown.

    >>> describe_part("lora_te_text_model_encoder_layers_3_self_attn_q_proj")
    'text encoder, layer 3, attention query'
    >>> describe_part("diffusion_model.input_blocks.7.1.transformer_blocks.0.attn2.to_k.weight")
    'diffusion model, block IN07, transformer 0, cross-attention key'
    """
    flat = re.sub(r"^(lycoris_|base_model_model_)", "", name[:_LONGEST].replace(".", "_"))
    owner = next((words for pattern, words in _OWNERS if re.match(pattern, flat)), "")
    if numbered := _NUMBERED.match(name):
        return f"{owner}, layer {numbered[1]} in cloneofsimo's count"
    blocks = [_fill(words, found) for pattern, words in _BLOCKS if (found := re.search(rf"(?:^|_)(?:{pattern})", flat))]
    stem, is_bias = re.sub(r"_(weight|bias|scale)$", "", flat).lower(), flat.endswith("_bias")
    layer = next((words for pattern, words in _LAYERS if re.search(rf"(?:^|_)(?:{pattern})", stem)), "")
    tail = next((words for pattern, words in _TAILS if re.search(rf"(?:^|_)(?:{pattern})(_proj)?$", stem)), "")
    if not (owner or blocks) or not (blocks or layer or tail):
        return name
    inside = f"{layer} {tail}".strip()
    return ", ".join([owner or "network", *blocks, *([inside] if inside else []), *(["bias"] if is_bias else [])])


def describe_parts(text: str, *, keep_names: bool = False) -> str:
    """A sentence in which the names of modules are replaced by words; `keep_names` leaves each name in brackets behind.

    >>> describe_parts("lora_te_text_model_encoder_layers_0_mlp_fc1: it has no lora_up")
    'text encoder, layer 0, MLP first layer: it has no lora_up'
    """

    def replaced(found: re.Match[str]) -> str:
        words = describe_part(found[0])
        return f"{words} ({found[0]})" if keep_names and words != found[0] else words

    return _NAME.sub(replaced, text)


def _fill(words: str, found: re.Match[str]) -> str:
    number = next((group for group in found.groups() if group), None)
    return words if number is None else words.format(int(number[:6]))
