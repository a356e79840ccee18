"""The names of the TAESD family's tensors, and what tells its members apart."""

import re
from itertools import product

from ..config import FAMILIES
from .source import LayoutError, Shapes, VAESource, check_tensors, half_notes, is_convolution
from .tiny import TinyAutoencoder, TinyConfig

_TINY_LAYOUTS = (  # layout, its encoder's prefix, its decoder's, how far its decoder's numbers are behind ours
    ("comfyui", "taesd_encoder.", "taesd_decoder.", 0),
    ("diffusers", "encoder.layers.", "decoder.layers.", 1),  # no number for the clamp
    ("pair", "encoder.", "decoder.", 0),
    ("taesd", "", "", 0),  # one of the two published files: only one half fits
)
_ENDS = ((14, 19), (17, 29))  # the last layers of encoder and decoder; of taesana's


def family_in_name(file_name: str) -> str | None:
    """The family that a published TAESD file says in its name ("taesdxl_decoder.pth" -> "sdxl"), None if none.

    As ComfyUI's VAELoader: nothing in the tensors tells it.
    """
    first = re.split(r"[_.]", file_name, maxsplit=1)[0].lower()
    return next((name for name, family in FAMILIES.items() if family.tiny and family.tiny == first), None)


def families_to_name() -> dict[str, str]:
    """The families whose tiny autoencoder may look like another's, so that somebody has to name them -> what its files
    are called.
    """
    return {name: family.tiny for name, family in FAMILIES.items() if family.tiny and not family.tiny_is_deep}


def find_tiny(inner: Shapes, family: str | None) -> VAESource | None:
    """A tiny autoencoder among names without a prefix; None where there is none. Raises LayoutError as `find_vae`."""
    for candidate in product(_TINY_LAYOUTS, _ENDS):
        (layout, encoder, decoder, behind), (into_latent, into_pixels) = candidate
        has_encoder = inner.get(f"{encoder}0.weight", ())[1:] == (3, 3, 3) and is_convolution(
            inner, f"{encoder}{into_latent}.weight"
        )
        has_decoder = inner.get(f"{decoder}{into_pixels - behind}.weight", ())[:1] == (3,) and is_convolution(
            inner, f"{decoder}{1 - behind}.weight"
        )
        if has_encoder or has_decoder:
            break
    else:
        return None
    renames, found = {}, {}
    for name in inner:
        new = _tiny_name(name, encoder if has_encoder else None, decoder if has_decoder else None, behind)
        if new:
            renames[name], found[new] = new, inner[name]
    latent = found[f"taesd_encoder.{into_latent}.weight"][0] if has_encoder else found["taesd_decoder.1.weight"][1]
    pooled = any(".pool." in name for name in found)
    if into_latent == _ENDS[1][0]:
        config, notes = _deep_config(latent, "vae_scale" in found)
    else:
        config, notes = _tiny_config(latent, pooled, family, "vae_scale" in found)
    source = VAESource(
        TinyAutoencoder,
        config,
        layout,
        renames,
        notes + half_notes(has_encoder, has_decoder),
        has_encoder,
        has_decoder,
        defaults={"vae_scale": config.scale, "vae_shift": config.shift},
    )
    return check_tensors(source, found, inner)


def _tiny_name(name: str, encoder: str | None, decoder: str | None, behind: int) -> str | None:
    """Our name of a tiny autoencoder's tensor; None if it is no part of it."""
    if name in ("vae_scale", "vae_shift"):
        return name
    for stem, ours, shift in ((encoder, "taesd_encoder", 0), (decoder, "taesd_decoder", behind)):
        number, _, rest = name[len(stem or "") :].partition(".")
        if stem is not None and name.startswith(stem) and re.fullmatch(r"[0-9]{1,4}", number):
            return f"{ours}.{int(number) + shift}.{rest}"
    return None


def _tiny_config(latent: int, pooled: bool, family: str | None, has_scale: bool) -> tuple[TinyConfig, tuple[str, ...]]:
    if pooled:  # its stack's latent is the one Flux.2's diffusion model works on, before 2 x 2 cells are folded
        return TinyConfig(4 * latent, pooled=True, patch=2), ()
    if has_scale:
        return TinyConfig(latent), ("scale and shift are the file's own",)
    fitting = [name for name, published in FAMILIES.items() if published.tiny and published.latent == latent]
    if family is None and fitting:
        raise LayoutError(
            f"this is a tiny VAE with {latent} latent channels, and the tensors do not tell for which "
            f"model: name the family, {' or '.join(fitting)}"
        )
    if family is None:
        return TinyConfig(latent), (f"no published model has {latent} latent channels: latents are taken as raw",)
    if family not in fitting:
        raise LayoutError(
            f"this is a tiny VAE with {latent} latent channels, which the family {family!r} does not "
            f"have: expected {' or '.join(fitting) or 'no family'}"
        )
    return TinyConfig(latent, scale=FAMILIES[family].scale[0], shift=FAMILIES[family].shift[0]), ()


def _deep_config(latent: int, has_scale: bool) -> tuple[TinyConfig, tuple[str, ...]]:
    if has_scale:
        return TinyConfig(latent, deep=True), ("scale and shift are the file's own",)
    deep = [family for family in FAMILIES.values() if family.tiny_is_deep]
    own = next((family for family in deep if family.latent == latent), deep[0])
    return TinyConfig(latent, deep=True, scale=own.scale[0], shift=own.shift[0]), ()
