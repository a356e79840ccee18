"""Tiny stock VAEs for pictures, one row for each branch of `comfy.sd.VAE`."""

from .stock import Family

_KL = "encoder.down.2.downsample.conv.weight"


def _sizes(**changes):
    sizes = {
        "double_z": True, "z_channels": 4, "resolution": 256, "in_channels": 3, "out_ch": 3, "ch": 32,
        "ch_mult": [1, 2, 2, 2], "num_res_blocks": 1, "attn_resolutions": [], "dropout": 0.0,
    }  # fmt: skip
    return {**sizes, **changes}


def _kl(embed=4, decoder_ch=None, **changes):
    from comfy.ldm.models.autoencoder import AutoencoderKL

    sizes = _sizes(**changes)
    other = {} if decoder_ch is None else {"decoder_ddconfig": {**sizes, "ch": decoder_ch}}
    return AutoencoderKL(ddconfig=sizes, embed_dim=embed, **other)


def engine(encoder, decoder, sizes, decoder_sizes=None, regularizer="DiagonalGaussianRegularizer"):
    """The host's AutoencodingEngine of two of its classes, named below `comfy.ldm`."""
    from comfy.ldm.models.autoencoder import AutoencodingEngine

    return AutoencodingEngine(
        regularizer_config={"target": f"comfy.ldm.models.autoencoder.{regularizer}"},
        encoder_config={"target": f"comfy.ldm.{encoder}", "params": sizes},
        decoder_config={"target": f"comfy.ldm.{decoder}", "params": decoder_sizes or sizes},
    )


def _without_quant():
    parts = ("modules.diffusionmodules.model.Encoder", "modules.diffusionmodules.model.Decoder")
    return engine(*parts, _sizes(z_channels=16))


def _svd():
    parts = ("modules.diffusionmodules.model.Encoder", "modules.temporal_ae.VideoDecoder")
    return engine(*parts, _sizes(), {**_sizes(), "video_kernel_size": [3, 1, 1], "alpha": 0.0})


def _taesd(channels):
    from comfy.taesd.taesd import TAESD

    return TAESD(latent_channels=channels)


def _stage_a():
    from comfy.ldm.cascade.stage_a import StageA

    return StageA(bottleneck_blocks=1, c_hidden=32, codebook_size=64)


def _stage_c():
    from comfy.ldm.cascade.stage_c_coder import StageC_coder

    return StageC_coder()


HUNYUAN = {
    "block_out_channels": [32, 32, 64, 64, 128, 128], "in_channels": 3, "out_channels": 3, "num_res_blocks": 1,
    "ffactor_spatial": 32, "downsample_match_channel": True, "upsample_match_channel": True, "z_channels": 64,
}  # fmt: skip


def _hunyuan_image():
    return engine("hunyuan_video.vae.Encoder", "hunyuan_video.vae.Decoder", HUNYUAN)


def _refiner():
    sizes = {
        **HUNYUAN, "block_out_channels": [32, 64, 64, 64, 64], "ffactor_spatial": 16, "ffactor_temporal": 4,
        "refiner_vae": False, "z_channels": 32,
    }  # fmt: skip
    return engine("hunyuan_video.vae_refiner.Encoder", "hunyuan_video.vae_refiner.Decoder", sizes)


def _mage():
    from comfy.ldm.mage_flow.vae import MageVAE

    return MageVAE()


def _pixels():
    from comfy.pixel_space_convert import PixelspaceConversionVAE

    return PixelspaceConversionVAE()


def _decoder(channels, width=512):
    return {"decoder.conv_in.weight": (width, channels, 3, 3), _KL: (512, 512, 3, 3)}


_QUANT = {"post_quant_conv.weight": (4, 4, 1, 1)}
PICTURES = (
    Family("SD1", {**_decoder(4), **_QUANT}, _kl),
    Family("Flux.1", _decoder(16), _without_quant),
    Family("SD x4 upscaler", {"decoder.conv_in.weight": (512, 4, 3, 3), **_QUANT}, lambda: _kl(ch_mult=[1, 2, 2])),
    Family(
        "FLUX.2",
        {**_decoder(32), "bn.running_mean": (128,), "post_quant_conv.weight": (32, 32, 1, 1)},
        lambda: _kl(32, z_channels=32, batch_norm_latent=True),
    ),
    Family("wide decoder", {**_decoder(4, 1024), **_QUANT}, lambda: _kl(decoder_ch=64)),
    Family("SVD", {"decoder.mid.block_1.mix_factor": (1,)}, _svd),
    Family("TAESD", {"taesd_decoder.1.weight": (64, 4, 3, 3)}, lambda: _taesd(4)),
    Family("TAESD3", {"taesd_decoder.1.weight": (64, 16, 3, 3)}, lambda: _taesd(16)),
    Family("Cascade stage A", {"vquantizer.codebook.weight": (8192, 4)}, _stage_a),
    Family("Cascade stage C", {"encoder.backbone.1.0.block.0.1.num_batches_tracked": ()}, _stage_c),
    Family("Cascade effnet", {"backbone.1.0.block.0.1.num_batches_tracked": ()}, _stage_c, decodes=False),
    Family("Cascade previewer", {"blocks.11.num_batches_tracked": ()}, _stage_c, encodes=False),
    Family("HunyuanImage 2.1", {"decoder.conv_in.weight": (1024, 64, 3, 3)}, _hunyuan_image),
    Family("HunyuanImage refiner", {"decoder.conv_in.weight": (1024, 32, 3, 3, 3)}, _refiner, makes="videos", frames=2),
    Family("Mage", {"student.dconv_encoder.proj_out.weight": (256, 384, 1, 1)}, _mage),
    Family("pixel space", {"pixel_space_vae": ()}, _pixels),
)
