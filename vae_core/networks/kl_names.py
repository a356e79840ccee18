"""The names of AutoencoderKL's tensors, and the sizes that their shapes tell.

Ours are latent-diffusion's. Sources: CompVis/latent-diffusion; huggingface/diffusers (autoencoder_kl.py; its older
files have other attention names); black-forest-labs/flux2.
"""

import math
import re

from ..config import VAEConfig
from .kl import AutoencoderKL
from .source import LayoutError, Shapes, VAESource, check_tensors, count, dim, half_notes

_DIFFUSERS = (  # theirs: ours; # is a number. Levels of `up_blocks` are counted from the other end
    ("down_blocks.#.resnets.#.", "down.#.block.#."),
    ("down_blocks.#.downsamplers.0.", "down.#.downsample."),
    ("up_blocks.#.resnets.#.", "up.#.block.#."),
    ("up_blocks.#.upsamplers.0.", "up.#.upsample."),
    ("mid_block.resnets.0.", "mid.block_1."),
    ("mid_block.resnets.1.", "mid.block_2."),
    ("mid_block.attentions.0.", "mid.attn_1."),
    ("conv_shortcut.", "nin_shortcut."),
    ("conv_norm_out.", "norm_out."),
    ("group_norm.", "norm."),
    ("to_q.", "q."),
    ("to_k.", "k."),
    ("to_v.", "v."),
    ("to_out.0.", "proj_out."),
    ("query.", "q."),
    ("key.", "k."),
    ("value.", "v."),
    ("proj_attn.", "proj_out."),
)
_RULES = tuple(
    (re.compile(r"(?<![\w])" + re.escape(theirs).replace(r"\#", r"(\d{1,4})")), ours) for theirs, ours in _DIFFUSERS
)
_FOLDED = ("bn.running_mean", "bn.running_var", "bn.num_batches_tracked")  # FLUX.2
_INNER_QUANT = re.compile(r"^(?:encoder\.(?=quant_conv\.)|decoder\.(?=post_quant_conv\.))()")  # where its file has them
_ATTENTION_WEIGHT = re.compile(r"\.mid\.attn_1\.(q|k|v|proj_out)\.weight$")


def find_kl(inner: Shapes, family: str | None) -> VAESource | None:
    """An AutoencoderKL among names without a prefix; None where there is none. Its family makes no difference.

    Raises LayoutError where it is damaged or of an unknown kind.
    """
    if "encoder.down.0.block.0.norm1.weight" in inner or "decoder.up.0.block.0.norm1.weight" in inner:
        layout, ours = "ldm", {name: name for name in inner}
    elif (
        "encoder.down_blocks.0.resnets.0.norm1.weight" in inner or "decoder.up_blocks.0.resnets.0.norm1.weight" in inner
    ):
        levels = count(inner, "decoder.up_blocks.")
        layout, ours = "diffusers", {name: _from_diffusers(name, levels) for name in inner}
    else:
        return None
    ours = {old: _INNER_QUANT.sub(r"\1", new) for old, new in ours.items()}
    renames = {
        old: new
        for old, new in ours.items()
        if new.startswith(("encoder.", "decoder.", "quant_conv.", "post_quant_conv.", *_FOLDED))
    }
    found: dict[str, tuple[int, ...]] = {}
    matrices = []
    for old, new in renames.items():
        if new in found:
            raise LayoutError(
                f"the tensor {new!r} is in the file under two names, {old!r} the second: save it again with one"
            )
        found[new] = inner[old]
        if len(inner[old]) == 2 and _ATTENTION_WEIGHT.search(new):
            found[new] = (*inner[old], 1, 1)
            matrices.append(new)
    has_encoder, has_decoder = (any(new.startswith(half) for new in found) for half in ("encoder.", "decoder."))
    source = VAESource(
        AutoencoderKL,
        _infer(found, has_encoder, has_decoder),
        layout,
        renames,
        half_notes(has_encoder, has_decoder),
        has_encoder,
        has_decoder,
        matrices=tuple(matrices),
        defaults={_FOLDED[2]: 0} if _FOLDED[0] in found else {},
    )
    unused = ("quant_conv.",) * (not has_encoder) + ("post_quant_conv.",) * (not has_decoder)
    return check_tensors(source, found, inner, unused)


def _from_diffusers(name: str, levels: int) -> str:
    if not name.startswith(("encoder.", "decoder.")):
        return name
    for pattern, ours in _RULES:
        match = pattern.search(name)
        if match:
            numbers = [int(n) for n in match.groups()]
            if ours.startswith("up."):
                numbers[0] = levels - 1 - numbers[0]
            name = name[: match.start()] + ours.replace("#", "{}").format(*numbers) + name[match.end() :]
    return name


def _infer(found: Shapes, has_encoder: bool, has_decoder: bool) -> VAEConfig:
    """The config that the shapes of our names tell."""
    halves = {}  # channels, widths, blocks, latent, quant, image channels
    if has_encoder:
        widths = [dim(found, f"encoder.down.{i}.block.0.conv1.weight", 0) for i in range(count(found, "encoder.down."))]
        halves["encoder"] = (
            dim(found, "encoder.conv_in.weight", 0),
            widths,
            count(found, "encoder.down.0.block."),
            dim(found, "encoder.conv_out.weight", 0) // 2,
            "quant_conv.weight" in found,
            dim(found, "encoder.conv_in.weight", 1),
        )
    if has_decoder:
        widths = [dim(found, f"decoder.up.{i}.block.0.conv1.weight", 0) for i in range(count(found, "decoder.up."))]
        blocks = count(found, "decoder.up.0.block.") - 1
        halves["decoder"] = (
            dim(found, "decoder.conv_out.weight", 1),
            widths,
            blocks,
            dim(found, "decoder.conv_in.weight", 1),
            "post_quant_conv.weight" in found,
            dim(found, "decoder.conv_out.weight", 0),
        )
    channels, widths, blocks, latent, quant, image_channels = next(iter(halves.values()))
    # the decoder has no tensor at its base width: its first level tells it, in the encoder's multiple
    decoder_channels = halves["decoder"][1][0] * channels // widths[0] if has_encoder and has_decoder else channels
    patch = 1
    if _FOLDED[0] in found:
        patch = round(math.sqrt((found[_FOLDED[0]] or (0,))[0] / max(1, latent))) or 1
    try:
        return VAEConfig(
            channels,
            tuple(_ratio(w, channels) for w in widths),
            blocks,
            latent * patch**2,
            quant,
            None if decoder_channels == channels else decoder_channels,
            image_channels,
            patch,
        )
    except ValueError as error:
        raise LayoutError(f"this VAE is of an unknown kind: {error}") from error


def _ratio(width: int, channels: int) -> float:
    return width // channels if width % channels == 0 else width / channels
