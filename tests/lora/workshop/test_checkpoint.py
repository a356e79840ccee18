"""The names in checkpoints, against what transformers' and open_clip's own modules and ComfyUI's keys are."""

import pytest
import torch

from clip_vae_lora.lora.kinds.adapters import LoRAError
from clip_vae_lora.lora.models.published import PUBLISHED
from clip_vae_lora.lora.workshop.checkpoint import Spot, checkpoint_of


def sdxl_checkpoint():
    """The names of a published SDXL checkpoint for some keys of ComfyUI's."""
    block = "conditioner.embedders.1.model.transformer.resblocks.3."
    return {
        "model.diffusion_model.input_blocks.4.1.transformer_blocks.0.attn1.to_q.weight": (640, 640),
        "conditioner.embedders.0.transformer.text_model.encoder.layers.0.mlp.fc1.weight": (3072, 768),
        f"{block}attn.in_proj_weight": (3840, 1280),
        f"{block}attn.in_proj_bias": (3840,),
        f"{block}attn.out_proj.weight": (1280, 1280),
        f"{block}mlp.c_fc.weight": (5120, 1280),
        f"{block}mlp.c_proj.bias": (1280,),
        f"{block}ln_1.weight": (1280,),
        "conditioner.embedders.1.model.text_projection": (1280, 1280),
        "conditioner.embedders.1.model.ln_final.weight": (1280,),
        "conditioner.embedders.1.model.positional_embedding": (77, 1280),
        "first_stage_model.decoder.conv_in.weight": (512, 4, 3, 3),
    }


def test_the_keys_of_an_sdxl_checkpoint_are_those_of_comfyui_with_their_shapes():
    shapes = sdxl_checkpoint()
    keys, published = checkpoint_of(shapes).spots, PUBLISHED["SDXL"][1]()
    layer = "clip_g.transformer.text_model.encoder.layers.3."
    assert {key for key in keys if key.startswith(f"{layer}self_attn.")} == {
        f"{layer}self_attn.{name}.{end}"
        for name in ("q_proj", "k_proj", "v_proj", "out_proj")
        for end in ("weight", "bias")
        if (name, end) != ("out_proj", "bias")
    }
    for key, at in keys.items():
        if key in published:
            assert at.shape(shapes[at.name]) == tuple(published[key]), key
    assert len(keys) == len(set(keys) & set(published)) and not any("first_stage" in key for key in keys)


def test_fused_rows_and_transposed_weights_are_views_of_their_tensors():
    keys = checkpoint_of(sdxl_checkpoint()).spots
    layer = "clip_g.transformer.text_model.encoder.layers.3.self_attn."
    fused = torch.randn(3840, 1280)
    assert torch.equal(keys[f"{layer}v_proj.weight"].of(fused), fused[2560:])
    projection = torch.randn(1280, 1280)
    assert torch.equal(keys["clip_g.transformer.text_projection.weight"].of(projection), projection.T)


UNET, NORM = "diffusion_model.", "transformer.text_model.final_layer_norm.weight"
NAMES = {
    "model.diffusion_model.out.2.weight": f"{UNET}out.2.weight",
    "diffusion_model.joint_blocks.0.x_block.attn.qkv.weight": f"{UNET}joint_blocks.0.x_block.attn.qkv.weight",
    "double_blocks.0.img_attn.qkv.weight": f"{UNET}double_blocks.0.img_attn.qkv.weight",
    "transformer_blocks.0.attn.to_q.weight": f"{UNET}transformer_blocks.0.attn.to_q.weight",
    "cond_stage_model.transformer.text_model.final_layer_norm.weight": f"clip_l.{NORM}",
    "cond_stage_model.transformer.final_layer_norm.weight": f"clip_l.{NORM}",
    "cond_stage_model.model.ln_final.weight": f"clip_h.{NORM}",
    "conditioner.embedders.0.model.ln_final.weight": f"clip_g.{NORM}",
    "text_model.final_layer_norm.weight": f"clip_g.{NORM}",
    "text_encoders.t5xxl.transformer.shared.weight": "t5xxl.transformer.shared.weight",
    "encoder.block.0.layer.0.SelfAttention.q.weight": (
        "t5xxl.transformer.encoder.block.0.layer.0.SelfAttention.q.weight"
    ),
}


@pytest.mark.parametrize("name", NAMES)
def test_every_tools_name_leads_to_the_key(name):
    assert checkpoint_of({name: (1280,)}).spots == {NAMES[name]: Spot(name)}


@pytest.mark.parametrize(
    "names",
    [
        ("lora_unet_x.lora_down.weight", "lora_unet_x.lora_up.weight"),
        ("transformer.x.lora_A.weight", "transformer.x.lora_B.weight"),
        ("lora_unet_x.hada_w1_a", "lora_unet_x.hada_w1_b"),
        ("lora_unet_x.lokr_w1", "lora_unet_x.lokr_w2"),
    ],
)
def test_a_lora_in_the_place_of_a_model_is_refused(names):
    with pytest.raises(LoRAError, match="it is a LoRA and no model"):
        checkpoint_of(dict.fromkeys(names, (4, 4)))


def test_a_vae_in_the_place_of_a_model_is_refused():
    with pytest.raises(LoRAError, match="it has no diffusion model and no text encoder"):
        checkpoint_of({"decoder.conv_in.weight": (512, 4, 3, 3)})


def test_a_whole_clip_keeps_its_own_names():
    names = ("text_model.encoder.layers.0.mlp.fc1.weight", "vision_model.encoder.layers.0.mlp.fc1.weight")
    assert set(checkpoint_of(dict.fromkeys(names, (8, 8))).spots) == set(names)
