"""THE place for VAE tensor names: what a file holds, the sizes its shapes tell, and its tensors under our names.

Works on names and shapes, so that a file's header is enough to decide; only then are the tensors in `names` read.
Ours are latent-diffusion's names for AutoencoderKL, ComfyUI's for the TAESD family. Sources: CompVis/latent-diffusion;
huggingface/diffusers (autoencoder_kl.py, autoencoder_tiny.py; its older files have other attention names);
madebyollin/taesd.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import replace

from ..config import VAEConfig
from .foreign import LayoutError, Shapes, other_autoencoder, other_file
from .source import ATTENTION_WEIGHT, VAESource, checked, count, dim, half_notes
from .tiny import families_to_name, family_in_name, find_tiny

__all__ = ["LayoutError", "VAESource", "families_to_name", "family_in_name", "find_vae", "join_pair"]

_PREFIXES = ("first_stage_model.", "vae.", "conditioner.embedders.1.encoder.", "")  # where checkpoints keep their VAE

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


def find_vae(shapes: Shapes, family: str | None = None) -> VAESource:
    """The VAE among a file's tensors, from their names and shapes.

    A TAESD's two published files, read together, are given as `join_pair(encoder, decoder)`. `family` (a name of
    `config.FAMILIES`) is needed for a TAESD only: those of SD1 and SDXL, and those of SD3 and Flux.1, look the same.
    Raises LayoutError saying what the tensors are when they are no VAE of these kinds.
    """
    for prefix in _PREFIXES:
        inner = {name[len(prefix) :]: tuple(shape) for name, shape in shapes.items() if name.startswith(prefix)}
        other = other_autoencoder(inner)
        if other:
            raise LayoutError(
                f"this is {other}; expected an AutoencoderKL (SD1, SD2, SDXL, SD3, Flux.1, FLUX.2) or a TAESD"
            )
        source = _find_kl(inner) or find_tiny(inner, family)
        if source:
            return replace(
                source,
                prefix=prefix,
                renames={prefix + old: new for old, new in source.renames.items()},
                ignored=tuple(prefix + name for name in source.ignored),
            )
    raise LayoutError(f"expected a VAE, but {other_file(shapes)}")


def join_pair(encoder: Mapping, decoder: Mapping) -> dict:
    """A TAESD's `NAME_encoder` and `NAME_decoder` files as one dict, of shapes or of tensors alike.

    The names are "encoder." or "decoder." and the file's own: `encoder.0.weight`, `decoder.1.weight`, ...
    """
    return {
        f"{half}.{name}": value
        for half, part in (("encoder", encoder), ("decoder", decoder))
        for name, value in part.items()
    }


def _find_kl(inner: Shapes) -> VAESource | None:
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
    for old, new in renames.items():
        if new in found:
            raise LayoutError(
                f"the tensor {new!r} is in the file under two names, {old!r} the second: save it again with one"
            )
        is_matrix = len(inner[old]) == 2 and ATTENTION_WEIGHT.search(new)
        found[new] = (*inner[old], 1, 1) if is_matrix else inner[old]
    if _FOLDED[0] in found:
        found.setdefault(_FOLDED[2], ())
    halves = [any(new.startswith(half) for new in found) for half in ("encoder.", "decoder.")]
    source = VAESource(_infer(found, *halves), "kl", layout, "", renames, half_notes(*halves), (), *halves)
    return checked(source, found, inner)


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
