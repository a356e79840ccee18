"""THE place for VAE tensor names: what a file holds, the sizes its shapes tell, and its tensors under our names.

Works on names and shapes, so that a file's header is enough to decide; only then are the tensors in `names` read.
Ours are latent-diffusion's names for AutoencoderKL, ComfyUI's for the TAESD family. Sources: CompVis/latent-diffusion;
huggingface/diffusers (autoencoder_kl.py, autoencoder_tiny.py; its older files have other attention names);
madebyollin/taesd.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import ModuleType

import torch
from torch import Tensor, nn

from .autoencoder import AutoencoderKL
from .config import FAMILIES, VAEConfig
from .layers import Device
from .refused import LayoutError, Shapes, other_autoencoder, other_file
from .tiny import TinyAutoencoder, TinyConfig

__all__ = ["LayoutError", "VAESource", "family_in_name", "find_vae", "join_pair"]

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
    ("to_q.", "q."), ("to_k.", "k."), ("to_v.", "v."), ("to_out.0.", "proj_out."),
    ("query.", "q."), ("key.", "k."), ("value.", "v."), ("proj_attn.", "proj_out."),
)
_RULES = tuple((re.compile(r"(?<![\w])" + re.escape(theirs).replace(r"\#", r"(\d{1,4})")), ours)
               for theirs, ours in _DIFFUSERS)
_ATTENTION_WEIGHT = re.compile(r"\.mid\.attn_1\.(q|k|v|proj_out)\.weight$")

_TINY_LAYOUTS = (  # layout, its encoder's prefix, its decoder's, how far its decoder's numbers are behind ours
    ("comfyui", "taesd_encoder.", "taesd_decoder.", 0),
    ("diffusers", "encoder.layers.", "decoder.layers.", 1),   # no number for the clamp
    ("pair", "encoder.", "decoder.", 0),
    ("taesd", "", "", 0),                                     # one of the two published files: only one half fits
)
_WIDEST = 1 << 16  # channels; wider ones are a damaged header
_PUBLISHED_TINY = {"taesd": "sd1", "taesdxl": "sdxl", "taesd3": "sd3", "taef1": "flux"}  # file name: family


@dataclass(frozen=True)
class VAESource:
    """A VAE found in a file: how big it is, where it lies, and how its tensors are called here."""

    config: VAEConfig | TinyConfig
    kind: str                    # "kl": AutoencoderKL; "tiny": TinyAutoencoder
    layout: str                  # "ldm", "diffusers"; tiny: "taesd", "pair", "comfyui", "diffusers"
    prefix: str                  # what stands before every name in the file
    renames: dict[str, str]      # the file's name: ours
    notes: tuple[str, ...]       # what a user should know
    ignored: tuple[str, ...]     # tensors under the prefix that are no part of the network
    has_encoder: bool
    has_decoder: bool

    @property
    def names(self) -> tuple[str, ...]:
        """The file's tensors to read."""
        return tuple(self.renames)

    def build(self, operations: ModuleType | type = nn, device: Device = None,
              dtype: torch.dtype | None = None) -> AutoencoderKL | TinyAutoencoder:
        """The network that `translate`'s result loads into, strictly; its weights are not set yet."""
        network = AutoencoderKL if self.kind == "kl" else TinyAutoencoder
        return network(self.config, operations, device, dtype, encoder=self.has_encoder, decoder=self.has_decoder)

    def translate(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The file's tensors (more than `names` may be given) under our names and in our shapes, dtypes unchanged.

        Raises LayoutError when one of `names` is missing.
        """
        missing = [name for name in self.renames if name not in tensors]
        if missing:
            raise LayoutError(f"{len(missing)} of the VAE's {len(self.renames)} tensors were not given, {missing[0]!r} "
                              "the first: read every name in `names`")
        ours = {new: _as_ours(new, tensors[old]) for old, new in self.renames.items()}
        if self.kind == "tiny":
            ours.setdefault("vae_scale", torch.tensor(self.config.scale))
            ours.setdefault("vae_shift", torch.tensor(self.config.shift))
        return ours


def find_vae(shapes: Shapes, family: str | None = None) -> VAESource:
    """The VAE among a file's tensors, from their names and shapes.

    A TAESD's two published files, read together, are given as `join_pair(encoder, decoder)`. `family` (a name of
    `config.FAMILIES`) is needed for a TAESD only: those of SD1 and SDXL, and those of SD3 and Flux.1, look the same.
    Raises LayoutError saying what the tensors are when they are no VAE of these kinds.
    """
    for prefix in _PREFIXES:
        inner = {name[len(prefix):]: tuple(shape) for name, shape in shapes.items() if name.startswith(prefix)}
        other = other_autoencoder(inner)
        if other:
            raise LayoutError(f"this is {other}; expected an AutoencoderKL (SD1, SD2, SDXL, SD3, Flux.1) or a TAESD")
        source = _find_kl(inner) or _find_tiny(inner, family)
        if source:
            return replace(source, prefix=prefix, renames={prefix + old: new for old, new in source.renames.items()},
                           ignored=tuple(prefix + name for name in source.ignored))
    raise LayoutError(f"expected a VAE, but {other_file(shapes)}")


def join_pair(encoder: Mapping, decoder: Mapping) -> dict:
    """A TAESD's `NAME_encoder` and `NAME_decoder` files as one dict, of shapes or of tensors alike.

    The names are "encoder." or "decoder." and the file's own: `encoder.0.weight`, `decoder.1.weight`, ...
    """
    return {f"{half}.{name}": value for half, part in (("encoder", encoder), ("decoder", decoder))
            for name, value in part.items()}


def family_in_name(file_name: str) -> str | None:
    """The family that a published TAESD file says in its name ("taesdxl_decoder.pth" -> "sdxl"), None if none.

    As ComfyUI's VAELoader: nothing in the tensors tells it.
    """
    return _PUBLISHED_TINY.get(re.split(r"[_.]", file_name, maxsplit=1)[0].lower())


def _as_ours(name: str, tensor: Tensor) -> Tensor:
    """Attention weights stored as matrices become 1x1 convolutions. [C, C] -> [C, C, 1, 1]"""
    return tensor[:, :, None, None] if tensor.ndim == 2 and _ATTENTION_WEIGHT.search(name) else tensor


# AutoencoderKL

def _find_kl(inner: Shapes) -> VAESource | None:
    if "encoder.down.0.block.0.norm1.weight" in inner or "decoder.up.0.block.0.norm1.weight" in inner:
        layout, ours = "ldm", {name: name for name in inner}
    elif ("encoder.down_blocks.0.resnets.0.norm1.weight" in inner
          or "decoder.up_blocks.0.resnets.0.norm1.weight" in inner):
        levels = _count(inner, "decoder.up_blocks.")
        layout, ours = "diffusers", {name: _from_diffusers(name, levels) for name in inner}
    else:
        return None
    renames = {old: new for old, new in ours.items()
               if new.startswith(("encoder.", "decoder.", "quant_conv.", "post_quant_conv."))}
    found: dict[str, tuple[int, ...]] = {}
    for old, new in renames.items():
        if new in found:
            raise LayoutError(f"the tensor {new!r} is in the file under two names, {old!r} the second: "
                              "save it again with one")
        is_matrix = len(inner[old]) == 2 and _ATTENTION_WEIGHT.search(new)
        found[new] = (*inner[old], 1, 1) if is_matrix else inner[old]
    halves = [any(new.startswith(half) for new in found) for half in ("encoder.", "decoder.")]
    source = VAESource(_infer(found, *halves), "kl", layout, "", renames, _half_notes(*halves), (), *halves)
    return _checked(source, found, inner)


def _from_diffusers(name: str, levels: int) -> str:
    if not name.startswith(("encoder.", "decoder.")):
        return name
    for pattern, ours in _RULES:
        match = pattern.search(name)
        if match:
            numbers = [int(n) for n in match.groups()]
            if ours.startswith("up."):
                numbers[0] = levels - 1 - numbers[0]
            name = name[:match.start()] + ours.replace("#", "{}").format(*numbers) + name[match.end():]
    return name


def _infer(found: Shapes, has_encoder: bool, has_decoder: bool) -> VAEConfig:
    """The config that the shapes of our names tell."""
    halves = {}  # channels, widths, blocks, latent, quant, image channels
    if has_encoder:
        widths = [_dim(found, f"encoder.down.{i}.block.0.conv1.weight", 0)
                  for i in range(_count(found, "encoder.down."))]
        halves["encoder"] = (_dim(found, "encoder.conv_in.weight", 0), widths, _count(found, "encoder.down.0.block."),
                             _dim(found, "encoder.conv_out.weight", 0) // 2, "quant_conv.weight" in found,
                             _dim(found, "encoder.conv_in.weight", 1))
    if has_decoder:
        widths = [_dim(found, f"decoder.up.{i}.block.0.conv1.weight", 0) for i in range(_count(found, "decoder.up."))]
        blocks = _count(found, "decoder.up.0.block.") - 1
        halves["decoder"] = (_dim(found, "decoder.conv_out.weight", 1), widths, blocks,
                             _dim(found, "decoder.conv_in.weight", 1), "post_quant_conv.weight" in found,
                             _dim(found, "decoder.conv_out.weight", 0))
    channels, widths, blocks, latent, quant, image_channels = next(iter(halves.values()))
    # the decoder has no tensor at its base width: its first level tells it, in the encoder's multiple
    decoder_channels = halves["decoder"][1][0] * channels // widths[0] if has_encoder and has_decoder else channels
    try:
        return VAEConfig(channels, tuple(_ratio(w, channels) for w in widths), blocks, latent, quant,
                         None if decoder_channels == channels else decoder_channels, image_channels)
    except ValueError as error:
        raise LayoutError(f"this VAE is of an unknown kind: {error}") from error


def _ratio(width: int, channels: int) -> float:
    return width // channels if width % channels == 0 else width / channels


def _count(names: Shapes, stem: str) -> int:
    """How many different numbers follow `stem` in the names."""
    return len({name[len(stem):].split(".", 1)[0] for name in names if name.startswith(stem)})


def _dim(found: Shapes, name: str, axis: int) -> int:
    if not _is_convolution(found, name):
        raise LayoutError(f"the VAE's convolution {name!r} is {list(found[name]) if name in found else 'missing'}: "
                          "the file is damaged or of an unknown kind")
    return found[name][axis]


def _is_convolution(shapes: Shapes, name: str) -> bool:
    """Whether the tensor is there, two-dimensional, and of a size that a network can have."""
    return len(shapes.get(name, ())) == 4 and all(0 < size <= _WIDEST for size in shapes[name])


def _half_notes(has_encoder: bool, has_decoder: bool) -> tuple[str, ...]:
    notes = {(True, False): "the file holds only an encoder: it cannot decode",
             (False, True): "the file holds only a decoder: it cannot encode"}
    return tuple(note for halves, note in notes.items() if halves == (has_encoder, has_decoder))


# The TAESD family

def _find_tiny(inner: Shapes, family: str | None) -> VAESource | None:
    for candidate in _TINY_LAYOUTS:
        layout, encoder, decoder, behind = candidate
        has_encoder = (inner.get(f"{encoder}0.weight", ())[1:] == (3, 3, 3)
                       and _is_convolution(inner, f"{encoder}14.weight"))
        has_decoder = (inner.get(f"{decoder}{19 - behind}.weight", ())[:1] == (3,)
                       and _is_convolution(inner, f"{decoder}{1 - behind}.weight"))
        if has_encoder or has_decoder:
            break
    else:
        return None
    renames, found = {}, {}
    for name in inner:
        new = _tiny_name(name, encoder if has_encoder else None, decoder if has_decoder else None, behind)
        if new:
            renames[name], found[new] = new, inner[name]
    latent = found["taesd_encoder.14.weight"][0] if has_encoder else found["taesd_decoder.1.weight"][1]
    pooled = any(".pool." in name for name in found)
    config, notes = _tiny_config(latent, pooled, family, "vae_scale" in found)
    source = VAESource(config, "tiny", layout, "", renames, notes + _half_notes(has_encoder, has_decoder), (),
                       has_encoder, has_decoder)
    return _checked(source, {"vae_scale": (), "vae_shift": (), **found}, inner)


def _tiny_name(name: str, encoder: str | None, decoder: str | None, behind: int) -> str | None:
    """Our name of a tiny autoencoder's tensor; None if it is no part of it."""
    if name in ("vae_scale", "vae_shift"):
        return name
    for stem, ours, shift in ((encoder, "taesd_encoder", 0), (decoder, "taesd_decoder", behind)):
        number, _, rest = name[len(stem or ""):].partition(".")
        if stem is not None and name.startswith(stem) and re.fullmatch(r"[0-9]{1,4}", number):
            return f"{ours}.{int(number) + shift}.{rest}"
    return None


def _tiny_config(latent: int, pooled: bool, family: str | None, has_scale: bool) -> tuple[TinyConfig, tuple[str, ...]]:
    if pooled:  # its stack's latent is the one Flux.2's diffusion model works on, before 2 x 2 cells are folded
        return TinyConfig(4 * latent, pooled=True, patch=2), ()
    if has_scale:
        return TinyConfig(latent), ("scale and shift are the file's own",)
    fitting = [name for name in _PUBLISHED_TINY.values() if FAMILIES[name].latent == latent]
    if family is None and fitting:
        raise LayoutError(f"this is a tiny VAE with {latent} latent channels, and the tensors do not tell for which "
                          f"model: name the family, {' or '.join(fitting)}")
    if family is None:
        return TinyConfig(latent), (f"no published model has {latent} latent channels: latents are taken as raw",)
    if family not in fitting:
        raise LayoutError(f"this is a tiny VAE with {latent} latent channels, which the family {family!r} does not "
                          f"have: expected {' or '.join(fitting) or 'no family'}")
    return TinyConfig(latent, scale=FAMILIES[family].scale[0], shift=FAMILIES[family].shift[0]), ()


# Both

def _checked(source: VAESource, found: Shapes, inner: Shapes) -> VAESource:
    """`source` with only the tensors its network has, the others ignored or, where they would change it, refused."""
    expected = {name: tuple(t.shape) for name, t in source.build(device="meta").state_dict().items()}
    missing = [name for name in expected if name not in found]
    if missing:
        raise LayoutError(f"this VAE lacks {len(missing)} of its {len(expected)} tensors, {missing[0]!r} the first: "
                          "the file is incomplete or of an unknown kind")
    for name, shape in expected.items():
        if found[name] != shape:
            raise LayoutError(f"the VAE's tensor {name!r} is {list(found[name])} where {list(shape)} was expected: "
                              "the file is damaged or of an unknown kind")
    spare = ("quant_conv.",) * (not source.has_encoder) + ("post_quant_conv.",) * (not source.has_decoder)
    surplus = [name for name in found if name not in expected and not name.startswith(spare)]
    if surplus:
        raise LayoutError(f"this VAE has {len(surplus)} tensors that an AutoencoderKL or TAESD does not, "
                          f"{surplus[0]!r} the first: it is of another kind")
    renames = {old: new for old, new in source.renames.items() if new in expected}
    return replace(source, renames=renames, ignored=tuple(name for name in inner if name not in renames))
