"""VAE files by their names and shapes: every layout leads to the same network, and what is no VAE is told by name."""

import pytest
import torch

from clip_vae_lora.vae_core.checkpoint.find import LayoutError, find_vae
from clip_vae_lora.vae_core.config import VAEConfig
from clip_vae_lora.vae_core.networks.kl import AutoencoderKL

diffusers = pytest.importorskip("diffusers")

CONFIGS = [
    VAEConfig(32, (1,), 1, 4, True),
    VAEConfig(32, (1, 2), 1, 3, False),
    VAEConfig(64, (1, 1.5, 2), 2, 4, True),
    VAEConfig(32, (1, 2, 4, 4), 2, 16, False),
    VAEConfig(32, (1, 1, 1, 2, 2), 3, 8, True),
]
SMALL = CONFIGS[1]


def shapes_of(tensors):
    return {name: tuple(t.shape) for name, t in tensors.items()}


def ldm(config=SMALL, prefix="", **halves):
    """Tensors under latent-diffusion's names, each with other numbers."""
    torch.manual_seed(0)
    tensors = AutoencoderKL(config, **halves).state_dict()
    return {prefix + name: torch.randn_like(t) for name, t in tensors.items()}


def in_diffusers(config, old=False):
    """The names and shapes of a diffusers AutoencoderKL of this size, as its own code makes them."""
    levels = len(config.widths)
    with torch.device("meta"):
        model = diffusers.AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels,
            block_out_channels=config.widths,
            layers_per_block=config.blocks,
            latent_channels=config.latent,
            use_quant_conv=config.quant,
            use_post_quant_conv=config.quant,
        )
    shapes = shapes_of(model.state_dict())
    for new, before in (("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")) * old:
        shapes = {name.replace(f"attentions.0.{new}.", f"attentions.0.{before}."): s for name, s in shapes.items()}
    return shapes


@pytest.mark.parametrize("config", CONFIGS)
def test_a_network_built_named_detected_and_inferred_has_its_first_config(config):
    for layout, shapes in (
        ("ldm", shapes_of(AutoencoderKL(config, device="meta").state_dict())),
        ("diffusers", in_diffusers(config)),
        ("diffusers", in_diffusers(config, old=True)),
    ):
        source = find_vae(shapes)
        assert (source.config, source.kind, source.layout) == (config, "kl", layout)
        assert sorted(source.names) == sorted(shapes) and not source.ignored and not source.notes
        assert source.has_encoder and source.has_decoder


def test_the_decoder_may_have_another_width_than_the_encoder():
    config = VAEConfig(64, (1, 2), 1, 4, False, decoder_channels=32)
    assert find_vae(shapes_of(ldm(config))).config == config


@pytest.mark.parametrize("prefix", ["", "first_stage_model.", "vae.", "conditioner.embedders.1.encoder."])
def test_a_vae_is_found_under_a_checkpoints_prefix_and_nothing_else_is_read(prefix):
    tensors = ldm(prefix=prefix)
    source = find_vae(shapes_of({**tensors, "model.diffusion_model.input_blocks.0.0.weight": torch.zeros(1)}))
    assert source.prefix == prefix and sorted(source.names) == sorted(tensors)
    network = source.build()
    network.load_state_dict(source.translate(tensors), strict=True)
    name = "decoder.up.1.upsample.conv.weight"
    assert torch.equal(network.get_parameter(name), tensors[prefix + name])


def test_old_and_new_diffusers_names_lead_to_identical_tensors():
    config = CONFIGS[3]
    new, old = in_diffusers(config), in_diffusers(config, old=True)
    tensors = {name: torch.randn(shape) for name, shape in new.items()}
    renamed = dict(zip(old, tensors.values()))
    a, b = find_vae(new).translate(tensors), find_vae(old).translate(renamed)
    assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_attention_matrices_become_convolutions_in_any_layout():
    tensors = ldm()
    flat = {name: t[:, :, 0, 0] if t.ndim == 4 and ".mid.attn_1." in name else t for name, t in tensors.items()}
    source = find_vae(shapes_of(flat))
    assert source.config == SMALL
    assert all(torch.equal(t, tensors[name]) for name, t in source.translate(flat).items())


def test_translate_leaves_the_callers_dict_and_dtypes_alone_and_takes_more_than_it_needs():
    tensors = {name: t.half() for name, t in ldm().items()}
    given = {**tensors, "loss.logvar": torch.zeros(())}
    translated = find_vae(shapes_of(given)).translate(given)
    assert given.keys() == {*tensors, "loss.logvar"}
    assert translated.keys() == tensors.keys() and {t.dtype for t in translated.values()} == {torch.float16}


def test_translate_names_what_was_not_given():
    tensors = ldm()
    source = find_vae(shapes_of(tensors))
    del tensors["decoder.norm_out.bias"]
    with pytest.raises(LayoutError, match="1 of the VAE's .* 'decoder.norm_out.bias'"):
        source.translate(tensors)


def test_a_training_checkpoints_leftovers_are_reported_as_ignored():
    source = find_vae({**shapes_of(ldm()), "loss.logvar": (), "model_ema.decay": ()})
    assert source.ignored == ("loss.logvar", "model_ema.decay")


@pytest.mark.parametrize("layout", ["ldm", "diffusers"])
@pytest.mark.parametrize("half, quant", [("encoder", "quant_conv."), ("decoder", "post_quant_conv.")])
def test_half_a_vae_is_accepted_and_says_what_it_lacks(layout, half, quant):
    config = CONFIGS[2]
    shapes = in_diffusers(config) if layout == "diffusers" else shapes_of(ldm(config))
    shapes = {name: s for name, s in shapes.items() if name.startswith((half + ".", quant))}
    source = find_vae(shapes)
    assert source.config == config
    assert (source.has_encoder, source.has_decoder) == (half == "encoder", half == "decoder")
    assert f"only {'an encoder' if half == 'encoder' else 'a decoder'}" in source.notes[0]
    network = source.build(device="meta")
    assert network.state_dict().keys() == source.translate({n: torch.zeros(1) for n in shapes}).keys()


def test_a_decoder_with_the_encoders_quant_convolution_ignores_that():
    shapes = {n: s for n, s in shapes_of(ldm(CONFIGS[0])).items() if not n.startswith("encoder.")}
    assert set(find_vae(shapes).ignored) == {"quant_conv.weight", "quant_conv.bias"}


def without(*names):
    return {name: s for name, s in shapes_of(ldm(CONFIGS[0])).items() if name not in names}


@pytest.mark.parametrize(
    "shapes, sentence",
    [
        (without("decoder.mid.block_1.norm1.weight"), "lacks 1 of its .* tensors, 'decoder.mid.block_1.norm1.weight'"),
        (without("decoder.conv_in.weight"), "'decoder.conv_in.weight' is missing"),
        (without("post_quant_conv.weight", "post_quant_conv.bias"), "lacks 2 of its"),
        (without("quant_conv.weight", "quant_conv.bias"), "does not, 'post_quant_conv.weight' the first"),
        ({**without(), "encoder.conv_in.bias": (7,)}, r"'encoder.conv_in.bias' is \[7\] where \[32\] was expected"),
        ({**without(), "encoder.down.0.attn.0.norm.weight": (32,)}, "'encoder.down.0.attn.0.norm.weight' the first"),
        ({**without(), "encoder.conv_in.weight": (48, 3, 3, 3)}, "multiple of 32"),
        ({**in_diffusers(SMALL), "encoder.mid_block.attentions.0.query.weight": (64, 64)}, "under two names"),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_damaged_and_unknown_vaes_are_refused_in_a_sentence(shapes, sentence):
    with pytest.raises(LayoutError, match=sentence):
        find_vae(shapes)


def test_no_damage_to_a_single_tensors_shape_or_name_goes_unnoticed():
    shapes = shapes_of(ldm(VAEConfig(32, (1, 2), 1, 4, True)))
    for name, shape in shapes.items():
        for damaged in ((), (0,) * len(shape), (7,), tuple(10**9 for _ in shape)):
            with pytest.raises(LayoutError):
                find_vae({**shapes, name: damaged})
        rest = {other: s for other, s in shapes.items() if other != name}
        with pytest.raises(LayoutError):
            find_vae({**rest, name + "x": shape})


@pytest.mark.parametrize(
    "stray",
    [
        "decoder.up.9",
        "encoder.down.0.block.999999999.norm1.weight",
        "decoder.up_blocks.²",
        "encoder.down." + "9" * 5000 + ".block.0.conv1.weight",
    ],
)
def test_hostile_numbers_in_names_are_refused_at_once(stray):
    encoder = {n: s for n, s in shapes_of(ldm()).items() if n.startswith("encoder.")}
    for shapes in (shapes_of(ldm()), encoder, in_diffusers(SMALL)):
        with pytest.raises(LayoutError):
            find_vae({**shapes, stray: (32, 32, 3, 3)})


OTHERS = {  # a tell-tale tensor: what it must be called
    "decoder.mid.block_1.mix_factor": "Stable Video Diffusion",
    "decoder.time_conv_out.weight": "Stable Video Diffusion",
    "quantize.embedding.weight": "VQ autoencoder",
    "vquantizer.codebook.weight": "stage A of Stable Cascade",
    "backbone.1.0.block.0.1.num_batches_tracked": "stage C",
    "blocks.11.num_batches_tracked": "stage C",
    "decoder.layers.1.layers.0.beta": "Stable Audio",
    "vocoder.backbone.channel_layers.0.0.bias": "ACE-Step",
    "vocoder.activation_post.downsample.lowpass.filter": "MMAudio",
    "decoder.blocks.2.blocks.3.stack.5.weight": "Mochi",
    "decoder.up_blocks.0.res_blocks.0.conv1.conv.weight": "LTX-Video",
    "decoder.unpatcher3d.wavelets": "Cosmos",
    "decoder.conv_in.conv.weight": "HunyuanVideo or CogVideoX",
    "decoder.stages.1.op_list.0.main.conv.conv.bias": "DC-AE",
    "encoder.project_in.conv.bias": "DC-AE",
    "geo_decoder.cross_attn_decoder.ln_1.bias": "Hunyuan3D",
    "pixel_space_vae": "pixels",
    "decoder.22.bias": "TAEHV",
}


@pytest.mark.parametrize("prefix", ["", "first_stage_model."])
@pytest.mark.parametrize("tell_tale", OTHERS)
def test_another_autoencoder_is_refused_by_name_even_inside_a_full_set_of_our_names(tell_tale, prefix):
    with pytest.raises(LayoutError, match=OTHERS[tell_tale]):
        find_vae({**shapes_of(ldm(prefix=prefix)), prefix + tell_tale: (1,)})


@pytest.mark.parametrize(
    "shapes, name",
    [
        ({"decoder.conv_in.weight": (512, 32, 3, 3, 3)}, "video VAE"),
        ({"encoder.conv_in.weight": (64, 2, 7)}, "audio autoencoder"),
        ({"decoder.conv_in.weight": (1024, 64, 3, 3), "decoder.up.5.block.0.norm1.weight": (128,)}, "HunyuanImage 2.1"),
    ],
)
def test_another_autoencoder_is_told_by_its_shapes(shapes, name):
    with pytest.raises(LayoutError, match=name):
        find_vae(shapes)


@pytest.mark.parametrize(
    "names, sentence",
    [
        ((), "it holds no tensors"),
        (("lora_unet_down_blocks_0.lora_down.weight", "lora_unet_down_blocks_0.lora_up.weight"), "looks like a LoRA"),
        (("unet.down_blocks.0.attn1.to_q.lora_A.weight",), "looks like a LoRA"),
        (("unet:0:up", "unet:0:down"), "looks like a LoRA"),
        (
            ("model.diffusion_model.input_blocks.0.0.weight",),
            "a diffusion model without a VAE: load the VAE from its own",
        ),
        (("double_blocks.0.img_attn.qkv.weight",), "a diffusion model without a VAE"),
        (("down_blocks.0.attentions.0.proj_in.weight", "conv_in.weight"), "a diffusion model without a VAE"),
        (("text_model.encoder.layers.0.self_attn.q_proj.weight",), "CLIP model or text encoder: load it with the CLIP"),
        (("encoder.layers.0.self_attn.q_proj.weight",), "CLIP model or text encoder"),
        (("visual.conv1.weight", "transformer.resblocks.0.attn.in_proj_weight"), "CLIP model or text encoder"),
        (("shared.weight", "encoder.block.0.layer.0.SelfAttention.q.weight"), "T5 text encoder"),
        (("control_model.input_blocks.0.0.weight",), "ControlNet"),
        (("emb_params",), "textual inversion"),
        (("fc.weight", "fc.bias"), "its 2 tensors are of no known layout .the first is 'fc.weight'"),
    ],
)
def test_a_file_of_another_sort_is_told_by_what_it_looks_like(names, sentence):
    with pytest.raises(LayoutError, match=f"expected a VAE, but .*{sentence}"):
        find_vae(dict.fromkeys(names, (8, 8)))
