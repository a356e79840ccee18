"""Stock CLIP objects of every family that has a CLIP in it, with few layers and seeded random weights."""

from types import SimpleNamespace

import torch

LAYERS = {"num_hidden_layers": 3, "intermediate_size": 64}
T5 = {"num_layers": 1, "d_ff": 64, "num_heads": 1, "d_kv": 16}
OPTIONS = {
    "clip_l_model_config": LAYERS,
    "clip_g_model_config": LAYERS,
    "clip_h_model_config": LAYERS,
    "t5xxl_model_config": T5,
}


def stock_clip(family: str, state: dict | None = None):
    """sd1, sd2, sdxl, sd3, flux, or t5 alone (SD3's with nothing else in it). `state`: loaded instead of random weights
    (under Dynamic VRAM there are none to fill before).
    """
    import comfy.sd
    import comfy.text_encoders.flux as flux
    import comfy.text_encoders.sd2_clip as sd2
    import comfy.text_encoders.sd3_clip as sd3
    import folder_paths
    from comfy import sd1_clip, sdxl_clip

    network, tokenizer = {
        "sd1": (sd1_clip.SD1ClipModel, sd1_clip.SD1Tokenizer),
        "sd2": (sd2.SD2ClipModel, sd2.SD2Tokenizer),
        "sdxl": (sdxl_clip.SDXLClipModel, sdxl_clip.SDXLTokenizer),
        "sd3": (sd3.sd3_clip(clip_l=True, clip_g=True, t5=True, dtype_t5=torch.float32), sd3.SD3Tokenizer),
        "flux": (flux.flux_clip(dtype_t5=torch.float32), flux.FluxTokenizer),
        "t5": (sd3.sd3_clip(clip_l=False, clip_g=False, t5=True, dtype_t5=torch.float32), sd3.SD3Tokenizer),
    }[family]
    clip = comfy.sd.CLIP(
        SimpleNamespace(params={}, clip=network, tokenizer=tokenizer),
        embedding_directory=folder_paths.get_folder_paths("embeddings"),
        model_options={"dtype": torch.float32, **OPTIONS},
    )
    if state is not None:
        clip.load_sd(state)
        return clip
    generator = torch.Generator().manual_seed(7)
    for name, parameter in clip.cond_stage_model.named_parameters():
        if parameter.ndim == 0:
            continue
        small = torch.randn(parameter.shape, generator=generator) * 0.02
        parameter.data = small + (parameter.ndim == 1 and name.endswith("weight"))
    return clip
