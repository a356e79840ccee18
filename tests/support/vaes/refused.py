"""Stock VAEs for sound and for 3-D shapes, which the nodes for pictures refuse by name: known by these tensors."""

from .stock import Family

_VOCODER = "vocoder.resblocks.0.convs1.0.weight"
_LTX = {
    "config": {
        "audio_vae": {
            "model": {
                "params": {
                    "ddconfig": {
                        "double_z": True, "mel_bins": 64, "z_channels": 8, "resolution": 256, "in_channels": 2,
                        "out_ch": 2, "ch": 32, "ch_mult": [1, 2, 4], "num_res_blocks": 1, "attn_resolutions": [],
                        "dropout": 0.0, "norm_type": "pixel", "causality_axis": "height",
                    },
                },
            },
        },
        "vocoder": {"output_sample_rate": 24000},
    },
}  # fmt: skip
SOUND = tuple(
    Family(name, marks, makes="sound", **more)
    for name, marks, more in (
        ("MiniMax Music3", {"dec_in_proj.weight": (1024, 64, 1), "decoder.model.0.weight_g": (1,)}, {}),
        ("Stable Audio", {"decoder.layers.1.layers.0.beta": (2048,)}, {}),
        (
            "ACE-Step 1.5",
            {"decoder.layers.1.layers.0.beta": (2048,), "decoder.layers.2.layers.1.weight_v": (1, 1, 12)},
            {},
        ),
        ("ACE-Step", {"vocoder.backbone.channel_layers.0.0.bias": (128,)}, {"weightless": False}),
        ("MMAudio", {"vocoder.activation_post.downsample.lowpass.filter": (1, 1, 12)}, {}),
        ("LTX Audio", {_VOCODER: (512, 512, 3)}, {"metadata": _LTX}),
        ("Stable Audio 3", {"decoder.layers.3.transformers.0.pre_norm.alpha": (1,)}, {}),
        ("MiniMax H3 Audio", {"pre_block.attn.zero_k_bias": (2048,)}, {}),
    )
)
SHAPES = tuple(
    Family(name, marks, makes="3-D shapes")
    for name, marks in (
        ("Hunyuan3D", {"geo_decoder.cross_attn_decoder.ln_1.bias": (1024,)}),
        ("Trellis 2 shapes", {"shape_dec.blocks.1.16.to_subdiv.weight": (8, 512)}),
        ("Trellis 2 textures", {"txt_dec.blocks.3.4.conv2.weight": (64, 3, 3, 3, 64)}),
        ("TripoSplat", {"gs.base_offset_scale": (1,), "octree.out_proj.weight": (8, 1024)}),
    )
)
