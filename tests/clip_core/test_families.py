"""Which diffusion family a checkpoint's text encoders belong to, from names and shapes of the full sizes."""

import pytest
import torch

from clip_vae_lora.clip_core.checkpoint.find import LayoutError, family_of, find_text_encoders
from clip_vae_lora.clip_core.config import CLIP_G, CLIP_H, CLIP_L, TextConfig
from clip_vae_lora.clip_core.networks.layers import UNFILLED
from clip_vae_lora.clip_core.networks.text import CLIPText


def hf(prefix, config, projection=True):
    with torch.device("meta"):
        state = CLIPText(config, UNFILLED).state_dict()
    return {prefix + n: tuple(t.shape) for n, t in state.items() if projection or n != "text_projection.weight"}


def openai(prefix, config):
    w, m = config.width, config.mlp
    file = {
        "token_embedding.weight": (49408, w),
        "positional_embedding": (77, w),
        "ln_final.weight": (w,),
        "ln_final.bias": (w,),
        "text_projection": (w, config.embed),
        "logit_scale": (),
    }
    for number in range(config.layers):
        parts = {
            "ln_1.weight": (w,),
            "ln_1.bias": (w,),
            "ln_2.weight": (w,),
            "ln_2.bias": (w,),
            "attn.in_proj_weight": (3 * w, w),
            "attn.in_proj_bias": (3 * w,),
            "attn.out_proj.weight": (w, w),
            "attn.out_proj.bias": (w,),
            "mlp.c_fc.weight": (m, w),
            "mlp.c_fc.bias": (m,),
            "mlp.c_proj.weight": (w, m),
            "mlp.c_proj.bias": (w,),
        }
        file |= {f"transformer.resblocks.{number}.{name}": shape for name, shape in parts.items()}
    return {prefix + name: shape for name, shape in file.items()}


CHECKPOINTS = {
    "sd1": [hf("cond_stage_model.transformer.", CLIP_L, projection=False)],
    "sd1 alone": [hf("", CLIP_L)],
    "sd2": [openai("cond_stage_model.model.", CLIP_H)],
    "sd2 sgm": [openai("conditioner.embedders.0.model.", CLIP_H)],
    "sd2 diffusers": [hf("", TextConfig(1024, 23, 16, 4096, 1024, activation="gelu"), projection=False)],
    "sdxl": [
        hf("conditioner.embedders.0.transformer.", CLIP_L, projection=False),
        openai("conditioner.embedders.1.model.", CLIP_G),
    ],
    "sdxl saved": [hf("clip_l.transformer.", CLIP_L), hf("clip_g.transformer.", CLIP_G)],
    "sdxl_refiner": [openai("conditioner.embedders.0.model.", CLIP_G)],
    "sd3": [hf("text_encoders.clip_l.transformer.", CLIP_L), hf("text_encoders.clip_g.transformer.", CLIP_G)],
}


@pytest.mark.parametrize("name", list(CHECKPOINTS))
def test_the_family_is_told_by_encoders_and_prefixes(name):
    others = {"model.diffusion_model.input_blocks.0.0.weight": (320, 4, 3, 3)}
    sources = find_text_encoders({k: v for part in CHECKPOINTS[name] for k, v in part.items()} | others)
    assert family_of(sources) == name.split()[0]
    assert {source.config for source in sources} <= {CLIP_L, CLIP_H, CLIP_G}
    assert not any("activation" in note for source in sources for note in source.notes)


@pytest.mark.parametrize(
    ("file", "says"),
    [
        (hf("text_encoders.clip_l.transformer.", CLIP_L), "Flux"),
        (hf("text_encoder.clip_g.transformer.", CLIP_G), "Stable Cascade"),
        (hf("a.", CLIP_L) | hf("b.", CLIP_H), "no family has just the text encoders clip_h, clip_l"),
    ],
)
def test_a_family_that_is_not_known_is_named(file, says):
    with pytest.raises(LayoutError, match=says):
        family_of(find_text_encoders(file))
