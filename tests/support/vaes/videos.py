"""Tiny stock VAEs for videos, one row for each branch of `comfy.sd.VAE`."""

import torch

from .pictures import HUNYUAN, engine
from .stock import Family


def _wan(channels=3):
    from comfy.ldm.wan.vae import WanVAE

    sizes = {"image_channels": channels, "conv_out_channels": channels} if channels != 3 else {}
    return WanVAE(dim=8, z_dim=16, temperal_downsample=[False, True, True], **sizes)


def _wan_2_2():
    from comfy.ldm.wan.vae2_2 import WanVAE

    return WanVAE(dim=8, dec_dim=16, z_dim=48, num_res_blocks=1, temperal_downsample=[False, True, True])


def _hunyuan():
    from comfy.ldm.models.autoencoder import AutoencoderKL

    sizes = {
        "double_z": True, "z_channels": 16, "resolution": 256, "in_channels": 3, "out_ch": 3, "ch": 32,
        "ch_mult": [1, 2, 2, 2], "num_res_blocks": 1, "attn_resolutions": [], "dropout": 0.0, "conv3d": True,
        "time_compress": 4,
    }  # fmt: skip
    return AutoencoderKL(ddconfig=sizes, embed_dim=16)


def _hunyuan_1_5():
    sizes = {
        **HUNYUAN, "block_out_channels": [32, 64, 64, 64, 64], "ffactor_spatial": 16, "ffactor_temporal": 4,
        "z_channels": 32,
    }  # fmt: skip
    parts = ("hunyuan_video.vae_refiner.Encoder", "hunyuan_video.vae_refiner.Decoder")
    return engine(*parts, sizes, regularizer="EmptyRegularizer")


def _ltx(version):
    from comfy.ldm.lightricks.vae.causal_video_autoencoder import VideoVAE

    with torch.device("meta"):
        network = VideoVAE(version)
    told = getattr(network, "get_default_config", None) or network.guess_config  # 0.3.64 calls it so
    config = dict(told(version))
    for name in ("blocks", "encoder_blocks", "decoder_blocks"):
        if name in config:
            config[name] = [[kind, _fewer(sizes)] for kind, sizes in config[name]]
    config["encoder_base_channels"] = config["decoder_base_channels"] = 16
    return VideoVAE(config=config)


def _fewer(sizes):
    """One layer of each block."""
    if isinstance(sizes, int):
        return 1
    return {**sizes, "num_layers": 1} if "num_layers" in sizes else sizes


def _ltx_diffusion():
    from comfy.ldm.lightricks.vae import na_diffusion_decoder as ltx

    encoder = dict(ltx.LTX_24_VAE_CONFIG["encoder"])
    encoder["blocks"] = [[kind, _fewer(sizes)] for kind, sizes in encoder["blocks"]]
    encoder["base_channels"] = 16
    decoder = {
        **ltx.LTX_24_VAE_CONFIG["decoder"], "head_dim": 16, "stage_channels": [128, 64, 32, 32, 16],
        "stage_depths": [1, 1, 1, 1, 1],
    }  # fmt: skip
    return ltx.CausalDiffusionVAE({**ltx.LTX_24_VAE_CONFIG, "encoder": encoder, "decoder": decoder})


def _mochi():
    from comfy.ldm.genmo.vae import model as mochi

    with torch.device("meta"):
        network = mochi.VideoVAE()
    network.encoder = mochi.Encoder(
        in_channels=15, base_channels=32, channel_multipliers=[1, 2, 3, 4], num_res_blocks=[1] * 5, latent_dim=12,
        temporal_reductions=[1, 2, 3], spatial_reductions=[2, 2, 2], prune_bottlenecks=[False] * 5,
        has_attentions=[False, True, True, True, True], affine=True, bias=True, input_is_conv_1x1=True,
        padding_mode="replicate",
    )  # fmt: skip
    network.decoder = mochi.Decoder(
        out_channels=3, base_channels=32, channel_multipliers=[1, 2, 3, 4], temporal_expansions=[1, 2, 3],
        spatial_expansions=[2, 2, 2], num_res_blocks=[1] * 5, latent_dim=12, has_attention=[False] * 5,
        padding_mode="replicate", output_norm=False, nonlinearity="silu", output_nonlinearity="silu", causal=True,
    )  # fmt: skip
    return network


def _cogvideo():
    from comfy.ldm.cogvideo.vae import AutoencoderKLCogVideoX

    return AutoencoderKLCogVideoX(block_out_channels=(32, 32, 64, 64), layers_per_block=1)


def _cosmos():
    from comfy.ldm.cosmos.vae import CausalContinuousVideoTokenizer

    return CausalContinuousVideoTokenizer(
        z_channels=16, latent_channels=16, z_factor=1, resolution=1024, in_channels=3, out_channels=3, channels=16,
        channels_mult=[2, 4, 4], num_res_blocks=1, attn_resolutions=[32], dropout=0.0, patch_size=4, num_groups=1,
        temporal_compression=8, spacial_compression=8,
    )  # fmt: skip


def _seedvr():
    from comfy.ldm.seedvr import vae as seedvr

    with torch.device("meta"):
        network = seedvr.VideoAutoencoderKLWrapper()
    shared = {"block_out_channels": (32, 32, 64, 64), "layers_per_block": 1, "norm_num_groups": 32}
    way = {"inflation_mode": "pad", "time_receptive_field": "full"}
    latent = seedvr.SEEDVR2_LATENT_CHANNELS
    network.encoder = seedvr.Encoder3D(3, latent, ("DownEncoderBlock3D",) * 4, **shared, temporal_down_num=2, **way)
    network.decoder = seedvr.Decoder3D(latent, 3, ("UpDecoderBlock3D",) * 4, **shared, temporal_up_num=2, **way)
    network.set_memory_limit(seedvr.BYTEDANCE_VAE_CONV_MEM_GIB, seedvr.BYTEDANCE_VAE_NORM_MEM_GIB)
    return network


def _minimax():
    from comfy.ldm.minimax import vae as minimax

    network = minimax.MiniMaxH3VideoVAE(ch=32, ch_mult=(1, 1, 1, 1, 1, 1), num_res_blocks=1)
    network.decoder = minimax.ViT3DDecoder(patch_size=16, patch_size_t=4, num_layers=1, heads=2, dim_head=64)
    return network


def _taehv(channels, latent_format=None):
    import comfy.latent_formats
    from comfy.taesd.taehv import TAEHV

    return TAEHV(channels, latent_format=latent_format and getattr(comfy.latent_formats, latent_format))


def _tae_marks(channels, outputs):
    return {"decoder.1.weight": (256, channels, 3, 3), "decoder.22.bias": (outputs,)}


def _wan_marks(channels):
    return {
        "decoder.middle.0.residual.0.gamma": (384, 1, 1, 1), "decoder.head.0.gamma": (96, 1, 1, 1),
        "encoder.conv1.weight": (96, channels, 3, 3, 3), "decoder.head.2.weight": (channels, 96, 3, 3, 3),
    }  # fmt: skip


_CAUSAL = "decoder.conv_in.conv.weight"
_LTX = "decoder.up_blocks.0.res_blocks.0.conv1.conv.weight"
VIDEOS = tuple(
    Family(*row, makes="videos", **more)
    for *row, more in (
        ("Wan 2.1", _wan_marks(3), _wan, {}),
        ("Wan 2.1 with alpha", _wan_marks(4), lambda: _wan(4), {"image_channels": 4}),
        (
            "Wan 2.2",
            {
                "decoder.middle.0.residual.0.gamma": (1024, 1, 1, 1),
                "decoder.upsamples.0.upsamples.0.residual.2.weight": (1024, 1024, 3, 3, 3),
            },
            _wan_2_2,
            {},
        ),
        ("HunyuanVideo", {_CAUSAL: (512, 16, 3, 3, 3), "post_quant_conv.weight": (16, 16, 1, 1, 1)}, _hunyuan, {}),
        ("HunyuanVideo 1.5", {_CAUSAL: (1024, 32, 3, 3, 3)}, _hunyuan_1_5, {}),
        ("LTX-Video", {_LTX: (512, 512, 3, 3, 3)}, lambda: _ltx(0), {"frames": 9}),
        ("LTX-Video 0.9.5", {_LTX: (1024, 1024, 3, 3, 3)}, lambda: _ltx(1), {"frames": 9}),
        (
            "LTX-Video 0.9.7",
            {_LTX: (1024, 1024, 3, 3, 3), "encoder.down_blocks.1.conv.conv.bias": (64,)},
            lambda: _ltx(2),
            {"frames": 9},
        ),
        (
            "LTX 2.4",
            {"decoder.conv_in_x_t.weight": (256, 48), "decoder.conv_in.weight": (2048, 128)},
            _ltx_diffusion,
            {"frames": 9},
        ),
        ("Mochi", {"decoder.blocks.2.blocks.3.stack.5.weight": (512, 512, 3, 3, 3)}, _mochi, {"frames": 7}),
        (
            "CogVideoX",
            {
                _CAUSAL: (512, 16, 3, 3, 3),
                "decoder.mid_block.resnets.0.norm1.norm_layer.weight": (512,),
                "encoder.conv_out.conv.weight": (32, 512, 3, 3, 3),
            },
            _cogvideo,
            {},
        ),
        ("Cosmos", {"decoder.unpatcher3d.wavelets": (2,)}, _cosmos, {"frames": 9, "weightless": False}),
        ("SeedVR2", {"decoder.up_blocks.2.upsamplers.0.upscale_conv.weight": (1024, 256, 1, 1, 1)}, _seedvr, {}),
        (
            "MiniMax H3",
            {
                "decoder.transformer_blocks.0.scale1": (2048,),
                "encoder.down.5.block.0.conv1.weight": (1024, 512, 3, 3, 3),
            },
            _minimax,
            {"frames": 22},
        ),
        ("taeh3", _tae_marks(24, 12), lambda: _taehv(24), {"frames": 22}),
        ("taew2_2", _tae_marks(48, 12), lambda: _taehv(48), {}),
        ("taeltx2", _tae_marks(128, 48), lambda: _taehv(128), {"frames": 9}),
        ("lighttaehv1.5", _tae_marks(32, 12), lambda: _taehv(32, "HunyuanVideo15"), {}),
        ("lighttaew2_1", _tae_marks(16, 3), lambda: _taehv(16), {}),
    )
)
