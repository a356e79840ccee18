"""Models, text encoders and VAEs of a real ComfyUI on `meta`: its own classes in their published sizes, no numbers."""

from types import SimpleNamespace

import torch

from ..matrix import models
from ..matrix.families import FAMILIES

CPU = torch.device("cpu")
_PLAIN = {"encoder.down.2.downsample.conv.weight": (512, 512, 3, 3)}
_WAN_22 = {
    "decoder.middle.0.residual.0.gamma": (1024, 1, 1, 1),
    "decoder.upsamples.0.upsamples.0.residual.2.weight": (1024, 1024, 3, 3, 3),
}
VAES = {  # name -> keys by which the host tells its kind of VAE, with their shapes
    "SD": {"decoder.conv_in.weight": (512, 4, 3, 3), "post_quant_conv.weight": (4, 4, 1, 1), **_PLAIN},
    "SD x4": {"decoder.conv_in.weight": (512, 4, 3, 3), "post_quant_conv.weight": (4, 4, 1, 1)},
    "16 channels": {"decoder.conv_in.weight": (512, 16, 3, 3), **_PLAIN},
    "Flux.2": {
        "decoder.conv_in.weight": (512, 32, 3, 3),
        "post_quant_conv.weight": (32, 32, 1, 1),
        "bn.running_mean": (128,),
        **_PLAIN,
    },
    "HunyuanImage": {"decoder.conv_in.weight": (1024, 64, 3, 3)},
    "TAESD": {"taesd_decoder.1.weight": (64, 4, 3, 3)},
    "TAESD of 16": {"taesd_decoder.1.weight": (64, 16, 3, 3)},
    "Cascade A": {"vquantizer.codebook.weight": (8192, 4)},
    "Cascade C": {"encoder.backbone.1.0.block.0.1.num_batches_tracked": ()},
    "LTX": {"decoder.up_blocks.0.res_blocks.0.conv1.conv.weight": (512, 512, 3, 3, 3)},
    "HunyuanVideo": {"decoder.conv_in.conv.weight": (512, 16, 3, 3, 3), "post_quant_conv.weight": (16, 16, 1, 1, 1)},
    "HunyuanVideo 1.5": {"decoder.conv_in.conv.weight": (1024, 32, 3, 3, 3)},
    "Wan 2.1": {
        "decoder.middle.0.residual.0.gamma": (384, 1, 1, 1),
        "decoder.head.0.gamma": (96, 1, 1, 1),
        "encoder.conv1.weight": (96, 3, 3, 3, 3),
        "decoder.head.2.weight": (3, 96, 3, 3, 3),
    },
    "Wan 2.2": _WAN_22,
    "pixels": {"pixel_space_vae": ()},
    "TAEHV": {"decoder.22.bias": (3,), "decoder.1.weight": (256, 16, 3, 3)},
    "CogVideoX": {
        "decoder.conv_in.conv.weight": (512, 16, 3, 3, 3),
        "decoder.mid_block.resnets.0.norm1.norm_layer.weight": (512,),
        "encoder.conv_out.conv.weight": (32, 512, 3, 3, 3),
        "post_quant_conv.weight": (16, 16, 1, 1, 1),
    },
}


def vae(name: str):
    """A stock VAE object; None where this host does not build that kind, or another under the same keys."""
    import comfy.sd

    keys = {key: torch.empty(shape, device="meta") for key, shape in VAES[name].items()}
    try:
        with torch.device("meta"):
            found = comfy.sd.VAE(sd=keys)
    except (RuntimeError, KeyError):
        return None
    network = found.first_stage_model
    if network is None or (name == "CogVideoX") != (type(network).__name__ == "AutoencoderKLCogVideoX"):
        return None
    wrong = {"Flux.2": 128, "HunyuanVideo 1.5": 32}.get(name, found.latent_channels) != found.latent_channels
    return None if wrong else found  # 0.3.64 knows neither, and makes another VAE of the same keys


def model(name: str):
    """A MODEL of a family of tests/data/lora_families.json; None where this host has no such class."""
    return models.model(next(family for family in FAMILIES if family.name == name))


def _target(kind: str):
    import comfy.supported_models

    found = getattr(comfy.supported_models, kind)
    return found(dict(found.unet_config)).clip_target({}).clip


CLIPS = {  # name -> what makes the class of the encoder
    "SD 1": lambda: _target("SD15"),
    "SD 2": lambda: _target("SD20"),
    "SDXL": lambda: _target("SDXL"),
    "SDXL refiner": lambda: _target("SDXLRefiner"),
    "Cascade": lambda: _target("Stable_Cascade_C"),
    "SD 3": lambda: _encoders("sd3_clip").sd3_clip(),
    "Flux": lambda: _target("Flux"),
    "T5": lambda: _target("PixArtSigma"),
    "Mochi's T5": lambda: _target("GenmoMochi"),
    "Cosmos": lambda: _target("CosmosT2V"),
    "Wan": lambda: _target("WAN21_T2V"),
    "AuraFlow": lambda: _target("AuraFlow"),
    "Hunyuan-DiT": lambda: _target("HunyuanDiT"),
    "Lumina 2": lambda: _target("Lumina2"),
    "Z-Image": lambda: _target("ZImage"),
    "OmniGen 2": lambda: _target("Omnigen2"),
    "Qwen-Image": lambda: _target("QwenImage"),
    "HunyuanImage": lambda: _target("HunyuanImage21"),
    "HunyuanVideo": lambda: _target("HunyuanVideo"),
    "HiDream": lambda: _encoders("hidream").hidream_clip(),
    "Stable Audio": lambda: _target("StableAudio"),
    "ACE-Step": lambda: _target("ACEStep"),
    "Flux.2": lambda: _encoders("flux").flux2_te(),
    "klein 4B": lambda: _encoders("flux").klein_te(),
    "klein 9B": lambda: _encoders("flux").klein_te(model_type="qwen3_8b"),
    "Kandinsky 5": lambda: _target("Kandinsky5"),
    "Anima": lambda: _target("Anima"),
    "ERNIE-Image": lambda: _target("ErnieImage"),
    "LongCat-Image": lambda: _target("LongCatImage"),
    "Ovis-Image": lambda: _encoders("ovis").te(),
    "Krea 2": lambda: _target("Krea2"),
}


def _encoders(module: str):
    import importlib

    return importlib.import_module(f"comfy.text_encoders.{module}")


def clip(name: str):
    """A stock CLIP object; None where this host has no such encoder."""
    try:
        return clip_of(CLIPS[name]())
    except (AttributeError, ModuleNotFoundError):
        return None


def clip_of(kind):
    """A stock CLIP object around an encoder's class."""
    import comfy.model_patcher
    import comfy.sd

    with torch.device("meta"):
        network = kind(device="meta", dtype=torch.float16, model_options={})
    found = comfy.sd.CLIP(no_init=True)
    found.cond_stage_model, found.tokenizer = network, SimpleNamespace()
    found.patcher = comfy.model_patcher.ModelPatcher(network, CPU, CPU)
    return found
