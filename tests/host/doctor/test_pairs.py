"""The Doctor on ComfyUI's own models, text encoders and VAEs of every family: what fits is called so, what does not is
named. What is true is said by hand here, and by the host's own classes where they say it.
"""

import importlib
import json
from functools import cache

import pytest
import torch

from clip_vae_lora.tests.support.doctor import things
from clip_vae_lora.tests.support.matrix.families import FAMILIES

_SD, _FLUX, _WAN = {"SD", "TAESD"}, {"16 channels", "TAESD of 16"}, {"Wan 2.1", "TAEHV"}
VAES = {  # model -> the VAEs whose shapes are those of its own, with weights of its family
    **dict.fromkeys(("SD 1", "SD 2", "SDXL", "SDXL refiner", "SSD-1B", "SVD"), _SD),
    **dict.fromkeys(("AuraFlow", "PixArt Sigma", "PixArt Alpha", "Hunyuan-DiT"), _SD),
    **dict.fromkeys(("SD 3", "Flux.1", "LongCat-Image", "Chroma", "HiDream", "Lumina 2", "Z-Image"), _FLUX),
    **dict.fromkeys(("OmniGen 2", "Boogu"), _FLUX),
    **dict.fromkeys(("Flux.2", "Lens", "Mage-Flow", "Ideogram 4", "ERNIE-Image"), {"Flux.2"}),
    **dict.fromkeys(("Wan 2.1 T2V", "Wan 2.1 I2V", "Wan VACE", "Wan Camera", "Wan S2V", "Wan Animate"), _WAN),
    **dict.fromkeys(("Wan HuMo", "Qwen-Image", "Krea 2", "JoyImage", "Anima", "Cosmos-Predict2"), _WAN),
    **dict.fromkeys(("HunyuanVideo", "Kandinsky 5"), {"HunyuanVideo", "TAEHV"}),
    **dict.fromkeys(("Chroma Radiance", "PixelDiT"), {"pixels"}),
    **dict.fromkeys(("LTX-Video", "LTX-2"), {"LTX"}),
    "Stable Cascade C": {"Cascade C"},
    "Stable Cascade B": {"Cascade A"},
    "HunyuanVideo 1.5": {"HunyuanVideo 1.5"},
    "HunyuanImage 2.1": {"HunyuanImage"},
    "CogVideoX": {"CogVideoX"},
    **dict.fromkeys(("Mochi", "Cosmos", "SeedVR 2", "ACE-Step", "ACE-Step 1.5", "Stable Audio", "MiniMax H3"), set()),
    **dict.fromkeys(("Hunyuan3D 2", "Hunyuan3D 2.1"), set()),
}
_T5 = {"Flux", "T5", "Mochi's T5"}
_QWEN = {"Qwen-Image", "HunyuanImage", "LongCat-Image", "Kandinsky 5"}
CLIPS = {  # model -> the text encoders whose text it reads
    "SD 1": {"SD 1"},
    "SD 2": {"SD 2"},
    **dict.fromkeys(("SDXL", "SSD-1B"), {"SDXL"}),
    "SDXL refiner": {"SDXL refiner"},
    **dict.fromkeys(("Stable Cascade C", "Stable Cascade B"), {"Cascade", "SDXL refiner"}),
    "SD 3": {"SD 3"},
    "AuraFlow": {"AuraFlow"},
    **dict.fromkeys(("PixArt Sigma", "PixArt Alpha", "Chroma", "Chroma Radiance", "Mochi", "LTX-Video"), _T5),
    "CogVideoX": _T5,
    "Flux.1": {*_T5, "Ovis-Image"},  # tiny, so that its size does not tell which of the two it is
    "Flux.2": {"Flux.2", "klein 4B", "klein 9B"},  # likewise
    "Hunyuan-DiT": {"Hunyuan-DiT"},
    "HunyuanVideo": {"HunyuanVideo"},
    "HiDream": {"HiDream"},
    **dict.fromkeys(("Cosmos", "Cosmos-Predict2"), {"Cosmos"}),
    **dict.fromkeys(("Wan 2.1 T2V", "Wan 2.1 I2V", "Wan VACE", "Wan Camera", "Wan S2V", "Wan Animate"), {"Wan"}),
    "Wan HuMo": {"Wan"},
    "Lumina 2": {"Lumina 2"},
    "Z-Image": {"Z-Image"},
    "OmniGen 2": {"OmniGen 2"},
    **dict.fromkeys(("Qwen-Image", "LongCat-Image", "HunyuanImage 2.1", "HunyuanVideo 1.5"), _QWEN),
    "Kandinsky 5": {"Kandinsky 5"},
    "Stable Audio": {"Stable Audio"},
    "ACE-Step": {"ACE-Step"},
    "Anima": {"Anima"},
    "ERNIE-Image": {"ERNIE-Image"},
    "Krea 2": {"Krea 2"},
    **dict.fromkeys(("SVD", "Hunyuan3D 2", "Hunyuan3D 2.1", "SeedVR 2"), set()),
}
LEAST = 60  # pairs that do not fit, and pairs that do, on every host
made = {kind: cache(getattr(things, kind)) for kind in ("model", "clip", "vae")}


@pytest.fixture(scope="module")
def examine(comfyui):
    """-> the pairs that the Doctor names as misfits"""
    node = importlib.import_module(f"{comfyui.ours.__name__}.nodes.doctor.node")

    def found(**inputs) -> set[tuple[str, ...]]:
        with torch.inference_mode():
            report = json.loads(node.Doctor().examine(**inputs)["result"][0])
        assert not report["unknown"], report["things"]
        return {tuple(one["between"]) for one in report["misfits"]}

    return found


@pytest.mark.parametrize(("kind", "truth"), [("vae", VAES), ("clip", CLIPS)])
def test_every_pair_that_does_not_fit_is_named_and_none_that_fits(kind, truth, examine):
    named, silent, wrong = 0, 0, []
    others = {name: made[kind](name) for name in getattr(things, f"{kind.upper()}S")}
    for family, fitting in truth.items():
        if (model := made["model"](family)) is None:
            continue
        for name, other in others.items():
            if other is None:
                continue
            is_named = bool(examine(model=model, **{kind: other}))
            if is_named == (name in fitting):
                wrong.append(f"{family} with the {kind} {name}: {'named' if is_named else 'not named'}")
            named, silent = named + is_named, silent + (not is_named)
    assert not wrong
    assert named >= LEAST and silent >= 20


def test_the_hosts_own_text_encoder_of_each_model_fits_it(examine):
    """The class that the host would make from a checkpoint of the model is the truth here."""
    import comfy.supported_models
    from comfy.model_patcher import ModelPatcher

    checked = 0
    for name, kind in vars(comfy.supported_models).items():
        own = getattr(kind, "clip_target", None) if isinstance(kind, type) else None
        if own is None or name in ("BASE", "SAM3", "SAM31", "LTXAV"):  # the last two: encoders of masks, a placeholder
            continue
        try:
            target = kind(dict(kind.unet_config)).clip_target({})
        except (KeyError, UnboundLocalError):  # it asks a checkpoint which of several it is
            continue
        if target is None:
            continue
        network = torch.nn.Module()
        network.model_config, network.latent_format = kind(dict(kind.unet_config)), kind.latent_format()
        clip = things.clip_of(target.clip)
        assert not examine(model=ModelPatcher(network, things.CPU, things.CPU), clip=clip), name
        checked += 1
    assert checked >= 40


def test_a_filled_latent_fits_the_models_of_its_channels_and_axes(examine):
    """The host's own latent format says how many there are; a picture is a video of one frame to it."""
    named = silent = 0
    for family in FAMILIES:
        if (model := made["model"](family.name)) is None or family.name not in VAES or family.name == "MiniMax H3":
            continue  # the last one's format counts the channels of its sound
        own = model.get_model_object("latent_format")
        for channels in (3, 4, 8, 12, 16, 32, 48, 64, 128):
            for axes in (1, 2, 3):
                latent = {"samples": torch.ones(1, channels, *[4] * axes)}
                fits = (
                    channels == own.latent_channels
                    and axes in ({own.latent_dimensions}, {2, 3})[own.latent_dimensions == 3]
                )
                if family.name == "LTX-2" and axes == 2:
                    continue  # it may be that of its sound
                assert bool(examine(model=model, latent=latent)) != fits, (family.name, channels, axes)
                named, silent = named + (not fits), silent + fits
                empty = {"samples": torch.zeros(1, channels, *[4] * axes)}
                right_axes = axes in ({own.latent_dimensions}, {2, 3})[own.latent_dimensions == 3]
                assert bool(examine(model=model, latent=empty)) != right_axes, (family.name, channels, axes)
    assert named >= LEAST and silent >= 30


def test_a_filled_latent_fits_the_vaes_of_its_channels(examine):
    for name in things.VAES:
        if (vae := made["vae"](name)) is None:
            continue
        for channels in (3, 4, 16, 48, 128):
            latent = {"samples": torch.ones(1, channels, 4, 4)}
            assert bool(examine(vae=vae, latent=latent)) == (channels != vae.latent_channels), (name, channels)


def test_conditioning_fits_the_model_whose_text_is_as_wide(examine):
    named = silent = 0
    for family in ("SD 1", "SD 2", "SDXL", "SDXL refiner", "SD 3", "Flux.1", "Chroma", "Qwen-Image", "Wan 2.1 T2V"):
        model = made["model"](family)
        own = json.loads(_text(examine, model))
        for width in (24, 40, 768, 1024, 1280, 2048, 2304, 3584, 4096):
            pooled = {"pooled_output": torch.ones(1, own["pooled"] or 1280)}
            conditioning = [[torch.ones(1, 77, width), pooled]]
            assert bool(examine(model=model, positive=conditioning)) == (width != own["width"]), (family, width)
            assert bool(examine(model=model, negative=conditioning)) == (width != own["width"]), (family, width)
            named, silent = named + (width != own["width"]), silent + (width == own["width"])
    assert named >= LEAST and silent >= 9


def _text(examine, model) -> str:
    """What this model's own config says that it reads: the width of its text, and of its pooled text."""
    sizes = model.model.model_config.unet_config
    embedder = sizes.get("context_embedder_config", {}).get("params", {})
    names = ("context_dim", "context_in_dim", "joint_attention_dim", "text_dim")
    width = embedder.get("in_features") or next(sizes[name] for name in names if sizes.get(name))
    pooled = sizes.get("vec_in_dim") or (sizes.get("adm_in_channels") if embedder else None)
    return json.dumps({"width": width, "pooled": pooled})
