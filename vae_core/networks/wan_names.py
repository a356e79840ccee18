"""The names of the tensors of Wan's VAE, and the sizes that their shapes tell.

Ours are Wan's. Sources: Wan-Video/Wan2.1 and Wan2.2; huggingface/diffusers (autoencoder_kl_wan.py, and
autoencoder_kl_qwenimage.py, which has the same names).
"""

import re

from .source import LayoutError, Shapes, VAESource, check_tensors, count, half_notes
from .wan import AutoencoderWan
from .wan_config import WanConfig

_BLOCK = {  # theirs: ours
    "norm1": "residual.0",
    "conv1": "residual.2",
    "norm2": "residual.3",
    "conv2": "residual.6",
    "conv_shortcut": "shortcut",
}
_ENDS = {
    "conv_in": "conv1",
    "norm_out": "head.0",
    "conv_out": "head.2",
    "mid_block.resnets.0": "middle.0",
    "mid_block.attentions.0": "middle.1",
    "mid_block.resnets.1": "middle.2",
}
_OUTSIDE = {"quant_conv": "conv1", "post_quant_conv": "conv2"}
_OWN = ("encoder.middle.0.residual.0.gamma", "decoder.middle.0.residual.0.gamma")
_THEIRS = ("encoder.mid_block.attentions.0.to_qkv.weight", "decoder.mid_block.attentions.0.to_qkv.weight")
_NUMBER = r"(\d{1,4})"
_FLAT = re.compile(rf"^down_blocks\.{_NUMBER}\.(?!resnets|downsampler)(.+)$")  # Wan 2.1's encoder
_DEEP = re.compile(rf"^(?:down|up)_blocks\.{_NUMBER}\.(?:resnets\.{_NUMBER}|(?:down|up)sampler(?:s\.0)?)\.(.+)$")


def find_wan(inner: Shapes, family: str | None) -> VAESource | None:
    """Wan's VAE among names without a prefix; None where there is none. Its family makes no difference.

    Raises LayoutError where it is damaged or of an unknown kind.
    """
    if not is_wan(inner):
        return None
    if any(mark in inner for mark in _OWN):
        layout, renames = "wan", {name: name for name in inner}
    else:
        layout, renames = "diffusers", {name: _from_diffusers(name, inner) for name in inner}
    renames = {old: new for old, new in renames.items() if new.startswith(("encoder.", "decoder.", "conv1.", "conv2."))}
    found = {new: inner[old] for old, new in renames.items()}
    has_encoder, has_decoder = (any(new.startswith(half) for new in found) for half in ("encoder.", "decoder."))
    notes = half_notes(has_encoder, has_decoder)
    config = _infer(found, has_encoder, has_decoder)
    source = VAESource(AutoencoderWan, config, layout, renames, notes, has_encoder, has_decoder)
    unused = ("conv1.",) * (not has_encoder) + ("conv2.",) * (not has_decoder)
    return check_tensors(source, found, inner, unused)


def is_wan(inner: Shapes) -> bool:
    """Whether these tensors, under Wan's names or those of diffusers, are its VAE."""
    if any(mark in inner for mark in _OWN):
        return True
    convolutions = [inner.get(f"{half}.conv_in.weight", ()) for half in ("encoder", "decoder")]
    return any(mark in inner for mark in _THEIRS) and any(len(shape) == 5 for shape in convolutions)


def _from_diffusers(name: str, inner: Shapes) -> str:
    """Our name of a tensor that diffusers calls so; the same name where it is no part of the network."""
    half, _, rest = name.partition(".")
    if half in _OUTSIDE:
        return f"{_OUTSIDE[half]}.{rest}"
    if half not in ("encoder", "decoder"):
        return name
    ours = "downsamples" if half == "encoder" else "upsamples"
    flat, deep = _FLAT.match(rest), _DEEP.match(rest)
    if flat:
        return f"{half}.{ours}.{flat[1]}.{_in_block(flat[2])}"
    if deep:
        theirs = "down_blocks" if half == "encoder" else "up_blocks"
        blocks = count(inner, f"{half}.{theirs}.{deep[1]}.resnets.")
        place = blocks if deep[2] is None else int(deep[2])
        if f"{half}.{theirs}.0.{theirs[:-7]}sampler.resample.1.weight" in inner:  # Wan 2.2
            return f"{half}.{ours}.{deep[1]}.{ours}.{place}.{_in_block(deep[3])}"
        return f"{half}.{ours}.{int(deep[1]) * (blocks + 1) + place}.{_in_block(deep[3])}"
    for theirs, mine in _ENDS.items():
        if rest.startswith(f"{theirs}."):
            return f"{half}.{mine}.{_in_block(rest[len(theirs) + 1 :])}"
    return name


def _in_block(rest: str) -> str:
    part, _, last = rest.partition(".")
    return f"{_BLOCK.get(part, part)}.{last}" if last else rest


def _infer(found: Shapes, has_encoder: bool, has_decoder: bool) -> WanConfig:
    """The config that the shapes of our names tell; what one half does not tell is as the other says."""
    residual = any(re.match(r"(?:encoder\.down|decoder\.up)samples\.0\.(?:down|up)samples\.", name) for name in found)
    patch = 2 if residual else 1
    levels = {}
    if has_encoder:
        levels["encoder"] = _levels(found, "encoder.downsamples", "downsamples" if residual else None)
    if has_decoder:
        widths, temporal, blocks = _levels(found, "decoder.upsamples", "upsamples" if residual else None)
        levels["decoder"] = (widths[::-1], temporal[::-1], blocks - 1)
    known = levels.get("encoder") or levels["decoder"]
    encoder, decoder = levels.get("encoder", known), levels.get("decoder", known)
    cells = _side(found, "encoder.conv1.weight", 1) if has_encoder else _side(found, "decoder.head.2.weight", 0)
    return WanConfig(
        channels=_side(found, "encoder.conv1.weight", 0) if has_encoder else known[0][0],
        widths=encoder[0],
        decoder_widths=decoder[0],
        blocks=known[2],
        latent=_side(found, "decoder.conv1.weight", 1)
        if has_decoder
        else _side(found, "encoder.head.2.weight", 0) // 2,
        temporal=known[1],
        image_channels=cells // patch**2,
        residual=residual,
        patch=patch,
    )


def _levels(found: Shapes, stem: str, inner: str | None) -> tuple[tuple[int, ...], tuple[bool, ...], int]:
    """The widths of a half's levels, whether each change of size is one of time too, and the blocks of a level."""
    if inner is None:
        layers = [f"{stem}.{number}" for number in range(count(found, f"{stem}."))]
    else:
        levels = [f"{stem}.{number}.{inner}" for number in range(count(found, f"{stem}."))]
        layers = [f"{level}.{number}" for level in levels for number in range(count(found, f"{level}."))]
    widths, temporal, blocks = [0], list[bool](), 0
    for layer in layers:
        if f"{layer}.resample.1.weight" in found:
            temporal.append(f"{layer}.time_conv.weight" in found)
            widths.append(0)
        else:
            widths[-1] = _side(found, f"{layer}.residual.6.weight", 0)
            blocks += len(widths) == 1
    return tuple(widths), tuple(temporal), blocks


def _side(found: Shapes, name: str, axis: int) -> int:
    """One side of a 3-D convolution's weight. Raises LayoutError where there is none."""
    shape = found.get(name, ())
    if len(shape) != 5 or not all(0 < size <= 1 << 16 for size in shape):
        raise LayoutError(
            f"the VAE's convolution {name!r} is {list(shape) if name in found else 'missing'}: "
            "the file is damaged or of an unknown kind"
        )
    return shape[axis]
