"""Files that people reported as not loading, a row each: the smallest part of the file, and where it belongs.

The models are a few modules of each family, with its marks. What needs a real ComfyUI (GGUF, NVFP4, int8, time on
large models) is in tests/host/lora.
"""

import pytest
import torch

from clip_vae_lora.lora.formats.read import read
from clip_vae_lora.lora.models.match import match
from clip_vae_lora.lora.models.places import Slice

W = 24
UNET = "diffusion_model."


def model(*wide, **sized):
    """The keys and shapes of modules: those named alone have [W, W], the others what is given in widths of rows."""
    shapes = {UNET + name + ".weight": (W, W) for name in wide}
    return shapes | {UNET + name + ".weight": (int(rows * W), W) for name, rows in sized.items()}


QWEN = model(
    "transformer_blocks.0.attn.to_q", "transformer_blocks.0.attn.add_q_proj", **{"transformer_blocks.0.img_mod.1": 6}
)
Z_IMAGE = model(
    "layers.0.attention.out", "cap_embedder.1", "noise_refiner.0.feed_forward.w1", "layers.0.feed_forward.w1",
    **{"layers.0.attention.qkv": 3, "layers.0.adaLN_modulation.0": 4},
)  # fmt: skip
FLUX2 = model(
    "double_blocks.0.img_attn.proj", "time_in.in_layer", **{
        "double_blocks.0.img_attn.qkv": 3, "single_blocks.0.linear1": 9, "single_blocks.0.linear2": 1,
        "double_blocks.0.img_mlp.0": 6, "double_blocks.0.txt_mlp.0": 6, "double_stream_modulation_img.lin": 6,
        "single_stream_modulation.lin": 3,
    },
)  # fmt: skip
HUNYUAN = model(
    "vector_in.in_layer", "txt_in.individual_token_refiner.blocks.0.mlp.0", **{
        "txt_in.individual_token_refiner.blocks.0.self_attn.qkv": 3, "double_blocks.0.img_attn.qkv": 3,
        "double_blocks.0.img_mod.lin": 6, "double_blocks.0.img_mlp.0": 4, "single_blocks.0.modulation.lin": 3,
    },
)  # fmt: skip
HIDREAM = model("double_stream_blocks.0.block.attn1.to_q_t", "double_stream_blocks.0.block.attn1.to_q")
ACE_15 = model("decoder.layers.0.self_attn.q_proj", "decoder.condition_embedder")
ACE_1 = model("lyric_embs", "transformer_blocks.0.cross_attn.add_q_proj", "transformer_blocks.0.attn.to_q")
AURA = model("double_layers.0.attn.w2q", "double_layers.0.attn.w1q", "single_layers.0.attn.w1q", **{"modF.1": 2})
LTX = model("patchify_proj", "transformer_blocks.0.attn1.to_q", "transformer_blocks.0.attn2.to_q")
KREA = model(
    *(f"blocks.0.attn.w{x}" for x in "qkv"), "blocks.0.mlp.gate", "txtfusion.projector",
    *(f"txtfusion.layerwise_blocks.0.attn.w{x}" for x in "qkv"),
)  # fmt: skip
ERNIE = model("layers.0.self_attention.to_q", "layers.0.mlp.linear_fc2")
FLUX = model(
    **{"double_blocks.0.img_attn.qkv": 3, "single_blocks.0.linear1": 7, "img_in": 1, "vector_in.in_layer": 1}
) | {UNET + "double_blocks.0.img_attn.norm.query_norm.weight": (8,)}
PIXART = model(
    "blocks.0.cross_attn.q_linear", "y_embedder.y_proj.fc1", "t_block.1",
    **{"blocks.0.attn.qkv": 3, "blocks.0.cross_attn.kv_linear": 2},
)  # fmt: skip
OMNIGEN = model("ref_image_refiner.0.attn.to_q", "layers.0.feed_forward.linear_1", "layers.0.attn.to_q")
KANDINSKY = model("visual_transformer_blocks.0.self_attention.to_query")
ANIMA_TEXT = {"qwen3_06b.transformer.model.layers.0.self_attn.q_proj.weight": (W, W)}
BERT = {
    "hydit_clip.transformer.bert.encoder.layer.0.attention.self.query.weight": (W, W),
    "mt5xl.transformer.encoder.block.0.layer.0.SelfAttention.q.weight": (W, W),
}


def rows(key, first, count):
    return Slice(f"{UNET}{key}.weight", (0, int(first * W), int(count * W)))


def whole(key):
    return f"{UNET}{key}.weight"


Q, K, V = (rows("layers.0.attention.qkv", n, 1) for n in range(3))
REPORTED = [  # the report's letter in the team's list, its model, the file's module, the places that it belongs to
    ("Q1", QWEN, "transformer_blocks.0.attn.to_q", [whole("transformer_blocks.0.attn.to_q")]),
    ("Q2", QWEN, "transformer_blocks.0.attn.to_q.default", [whole("transformer_blocks.0.attn.to_q")]),
    ("Q3", QWEN, "transformer.transformer_blocks.0.attn.to_q", [whole("transformer_blocks.0.attn.to_q")]),
    ("Z1", Z_IMAGE, "diffusion_model.layers.0.attention.to_k", [K]),
    ("Z1", Z_IMAGE, "diffusion_model.layers.0.attention.to_out.0", [whole("layers.0.attention.out")]),
    ("Z2", Z_IMAGE, "diffusion_model.layers.0.attention.to_q", [Q]),
    ("Z3", Z_IMAGE, "lora_unet_layers_0_attention_to_v", [V]),
    ("Z4", Z_IMAGE, "transformer.layers.0.attention.to_v", [V]),
    ("F1", FLUX2, "lycoris_single_transformer_blocks_0_attn_to_qkv_mlp_proj", [whole("single_blocks.0.linear1")]),
    ("F1", FLUX2, "lycoris_transformer_blocks_0_ff_context_linear_in", [whole("double_blocks.0.txt_mlp.0")]),
    ("F1", FLUX2, "lycoris_single_transformer_blocks_0_attn_to_out", [whole("single_blocks.0.linear2")]),
    ("F2", FLUX2, "double_stream_modulation_img.linear", [whole("double_stream_modulation_img.lin")]),
    ("F2", FLUX2, "lora_transformer_single_stream_modulation_linear", [whole("single_stream_modulation.lin")]),
    ("F3", FLUX2, "transformer.transformer_blocks.0.attn.to_q", [rows("double_blocks.0.img_attn.qkv", 0, 1)]),
    ("HV2", HUNYUAN, "transformer.double_blocks.0.img_attn_qkv", [whole("double_blocks.0.img_attn.qkv")]),
    ("HV2", HUNYUAN, "diffusion_model.double_blocks.0.img_mod.linear", [whole("double_blocks.0.img_mod.lin")]),
    ("HV2", HUNYUAN, "transformer.single_blocks.0.modulation.linear", [whole("single_blocks.0.modulation.lin")]),
    ("HV4", HUNYUAN, "lora_unet_double_blocks_0_img_attn_q", [rows("double_blocks.0.img_attn.qkv", 0, 1)]),
    ("HD1", HIDREAM, "transformer.double_stream_blocks.0.block.attn1.to_q",
     [whole("double_stream_blocks.0.block.attn1.to_q")]),
    ("A2", ACE_15, "base_model.model.layers.0.self_attn.q_proj", [whole("decoder.layers.0.self_attn.q_proj")]),
    ("A3", ACE_1, "transformer_blocks.0.attn.to_q", [whole("transformer_blocks.0.attn.to_q")]),
    ("AU1", AURA, "transformer.joint_transformer_blocks.0.attn.to_q", [whole("double_layers.0.attn.w2q")]),
    ("AU1", AURA, "transformer.joint_transformer_blocks.0.attn.add_q_proj", [whole("double_layers.0.attn.w1q")]),
    ("AU1", AURA, "transformer.single_transformer_blocks.0.attn.to_q", [whole("single_layers.0.attn.w1q")]),
    ("LT2", LTX, "transformer_blocks.0.attn1.to_q", [whole("transformer_blocks.0.attn1.to_q")]),
    ("K1", KREA, "lycoris_transformer_blocks_0_attn_to_q", [whole("blocks.0.attn.wq")]),
    ("K1", KREA, "lycoris_transformer_blocks_0_ff_gate", [whole("blocks.0.mlp.gate")]),
    ("K1", KREA, "lycoris_text_fusion_layerwise_blocks_0_attn_to_qkv",
     [whole(f"txtfusion.layerwise_blocks.0.attn.w{x}") for x in "qkv"]),
    ("K2", KREA, "diffusion_model.transformer_blocks.0.attn.to_k", [whole("blocks.0.attn.wk")]),
    ("E1", ERNIE, "transformer.layers.0.self_attention.to_q", [whole("layers.0.self_attention.to_q")]),
    ("X4", FLUX, "diffusion_model.single_blocks.0.linear1_qkv", [rows("single_blocks.0.linear1", 0, 3)]),
    ("P1", PIXART, "base_model.model.transformer_blocks.0.attn1.to_k", [rows("blocks.0.attn.qkv", 1, 1)]),
    ("P1", PIXART, "unet.base_model.model.transformer_blocks.0.attn2.to_v",
     [rows("blocks.0.cross_attn.kv_linear", 1, 1)]),
    ("O1", OMNIGEN, "layers.0.attn.to_q", [whole("layers.0.attn.to_q")]),
    ("KD", KANDINSKY, "transformer.visual_transformer_blocks.0.self_attention.to_query",
     [whole("visual_transformer_blocks.0.self_attention.to_query")]),
    ("AN2", ANIMA_TEXT, "lora_te_layers_0_self_attn_q_proj", list(ANIMA_TEXT)),
    ("AN2", ANIMA_TEXT, "lora_te1_layers_0_self_attn_q_proj", list(ANIMA_TEXT)),
    ("HT", BERT, "lora_te1_encoder_layer_0_attention_self_query", list(BERT)[:1]),
]  # fmt: skip


def shape_of(places, shapes):
    counts = [place.rows[2] if isinstance(place, Slice) else shapes[place][0] for place in places]
    return sum(counts), W


@pytest.mark.parametrize("report, shapes, name, places", REPORTED, ids=[f"{row[0]} {row[2]}" for row in REPORTED])
@pytest.mark.parametrize("kind", ["down/up", "LoKr"])
def test_a_reported_module_goes_where_it_belongs(kind, report, shapes, name, places):
    out, inner = shape_of(places, shapes)
    if kind == "LoKr":
        parts = {"lokr_w1": torch.ones(2, 2), "lokr_w2": torch.ones(out // 2, inner // 2)}
    elif name.endswith(".default"):
        name = name.removesuffix(".default")
        parts = {"lora_A.default.weight": torch.ones(2, inner), "lora_B.default.weight": torch.ones(out, 2)}
    else:
        parts = {"lora_down.weight": torch.ones(2, inner), "lora_up.weight": torch.ones(out, 2)}
    found = match(read({f"{name}.{suffix}": value for suffix, value in parts.items()}), shapes)
    assert list(found.found) == places and not found.homeless and not found.misfit


def test_x2_a_norms_scale_is_its_weight_where_the_model_has_no_scale():
    found = match(read({"double_blocks.0.img_attn.norm.query_norm.scale": torch.ones(8)}), FLUX)
    assert list(found.found) == [UNET + "double_blocks.0.img_attn.norm.query_norm.weight"]
