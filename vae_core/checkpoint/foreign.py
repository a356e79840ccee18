"""What a file is when it is not one of our VAEs, told from its tensor names and shapes alone.

The tell-tale names of other autoencoders are those that ComfyUI's comfy/sd.py looks for.
"""

import re

from ..networks.source import Shapes
from ..networks.wan_names import is_wan

_OTHER_AUTOENCODERS = (  # what it is, and the tensors that only it has
    ("the video decoder of Stable Video Diffusion", ("decoder.mid.block_1.mix_factor", "decoder.time_conv_out.weight")),
    ("a VQ autoencoder (its latent is a codebook, not a normal distribution)", ("quantize.embedding.weight",)),
    ("stage A of Stable Cascade", ("vquantizer.codebook.weight",)),
    (
        "the stage C encoder or previewer of Stable Cascade",
        (
            "backbone.1.0.block.0.1.num_batches_tracked",
            "encoder.backbone.1.0.block.0.1.num_batches_tracked",
            "blocks.11.num_batches_tracked",
            "previewer.blocks.11.num_batches_tracked",
        ),
    ),
    (
        "an audio autoencoder (Stable Audio)",
        ("decoder.layers.1.layers.0.beta", "decoder.layers.3.transformers.0.pre_norm.alpha"),
    ),
    ("an audio autoencoder (ACE-Step)", ("vocoder.backbone.channel_layers.0.0.bias",)),
    ("an audio autoencoder (MMAudio)", ("vocoder.activation_post.downsample.lowpass.filter",)),
    (
        "an audio autoencoder (LTX)",
        ("vocoder.resblocks.0.convs1.0.weight", "vocoder.vocoder.resblocks.0.convs1.0.weight"),
    ),
    (
        "the Mochi video VAE",
        (
            "blocks.2.blocks.3.stack.5.weight",
            "decoder.blocks.2.blocks.3.stack.5.weight",
            "layers.4.layers.1.attn_block.attn.qkv.weight",
            "encoder.layers.4.layers.1.attn_block.attn.qkv.weight",
        ),
    ),
    ("the LTX-Video VAE", ("decoder.up_blocks.0.res_blocks.0.conv1.conv.weight", "decoder.conv_in_x_t.weight")),
    ("the Cosmos video VAE", ("decoder.unpatcher3d.wavelets", "encoder.patcher3d.wavelets")),
    ("a HunyuanVideo or CogVideoX video VAE", ("decoder.conv_in.conv.weight", "encoder.conv_in.conv.weight")),
    ("the SeedVR2 video VAE", ("decoder.up_blocks.2.upsamplers.0.upscale_conv.weight",)),
    (
        "a deep-compression autoencoder (DC-AE, Sana)",
        (
            "decoder.stages.1.op_list.0.main.conv.conv.bias",
            "encoder.project_in.conv.bias",
            "encoder.down_blocks.0.0.conv1.weight",
            "decoder.up_blocks.0.1.conv1.weight",
        ),
    ),
    ("the Hunyuan3D shape VAE", ("geo_decoder.cross_attn_decoder.ln_1.bias",)),
    ("ComfyUI's marker for models that work on pixels: there is no VAE to load", ("pixel_space_vae",)),
    ("a tiny video autoencoder (TAEHV)", ("decoder.22.bias", "22.bias")),
)

_OTHER_FILES = (  # what it is, a pattern in a tensor's name, what to do
    (
        "a LoRA or one of its relatives",
        r"lora_(up|down|A|B)\b|lora\.(up|down)\b|:(up|down)\b|hada_w|lokr_w|oft_blocks",
        "load it with the LoRA loader",
    ),
    (
        "a T5 text encoder",
        r"^(text_encoders\.t5\w*\.transformer\.)?(encoder\.block|shared)\.",
        "load it as a text encoder",
    ),
    ("a ControlNet", r"^control_model\.|controlnet_cond_embedding|^controlnet_", "load it with the ControlNet loader"),
    (
        "a diffusion model without a VAE",
        r"^(model\.)?diffusion_model\.|^input_blocks\.|^(down|up)_blocks\.|^(double|single)_blocks\.|^joint_blocks\."
        r"|^transformer_blocks\.|^single_transformer_blocks\.",
        "load the VAE from its own file or from a full checkpoint",
    ),
    (
        "a CLIP model or text encoder",
        r"(^|\.)(text_model|vision_model|visual|token_embedding|text_projection|position_embedding|self_attn|resblocks)\b",
        "load it with the CLIP loader",
    ),
    ("a learned embedding (textual inversion)", r"^(emb_params|string_to_param|<.*>|clip_[lg])$", "use it in a prompt"),
)


def other_autoencoder(shapes: Shapes) -> str | None:
    """The name of the autoencoder that these tensors (prefix removed) are, or None if no other one is known in them."""
    for title, tell_tales in _OTHER_AUTOENCODERS:
        if any(name in shapes for name in tell_tales):
            return title
    if is_wan(shapes):
        return None
    into_decoder = shapes.get("decoder.conv_in.weight", ())
    if into_decoder[1:2] == (64,) and "decoder.up.5.block.0.norm1.weight" in shapes:
        return "the HunyuanImage 2.1 VAE"
    halves = [(name, shape) for name, shape in shapes.items() if name.startswith(("encoder.", "decoder."))]
    if any(len(shape) == 5 for _, shape in halves):
        return "a video VAE (its convolutions are three-dimensional)"
    if any(len(shape) == 3 and "conv" in name for name, shape in halves):
        return "an audio autoencoder (its convolutions are one-dimensional)"
    return None


def _half_alone(shapes: Shapes) -> str | None:
    """ "decoder" or "encoder" where the tensors are that half of an AutoencoderKL, under names without it."""
    if "conv_in.weight" not in shapes or not (
        {"mid.block_1.norm1.weight", "mid_block.resnets.0.norm1.weight"} & {*shapes}
    ):
        return None
    if any(name.startswith(("time_", "class_embedding", "add_embedding")) or ".time_emb" in name for name in shapes):
        return None  # a diffusion model
    up, down = (
        any(name.startswith(stems) for name in shapes) for stems in (("up_blocks.", "up."), ("down_blocks.", "down."))
    )
    return None if up == down else "decoder" if up else "encoder"


def other_file(shapes: Shapes) -> str:
    """What the tensors look like when there is no autoencoder among them, and what to do: the end of a sentence."""
    if not shapes:
        return "it holds no tensors"
    half = _half_alone(shapes)
    if half is not None:
        return (
            f"this is the {half} of a VAE alone, under names that do not say so: take the file of the whole VAE, or "
            f"one whose names begin with {half}."
        )
    for title, pattern, advice in _OTHER_FILES:
        if any(re.search(pattern, name) for name in shapes):
            return f"this looks like {title}: {advice}"
    return f"its {len(shapes)} tensors are of no known layout (the first is {next(iter(shapes))!r})"
