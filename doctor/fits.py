"""What fits what: sentences about pairs of things, from their facts alone. No torch here.

Only what is sure is called a misfit: what is not known of a thing never speaks against it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import combinations

from .facts import CLIP, CONDITIONING, IMAGE, LATENT, LORA, MASK, MODEL, VAE, Facts, Finding, Shape, Text
from .models import MODELS, takes_loras_of
from .spaces import SPACES, is_like
from .texts import TEXTS, read_as

Rule = Callable[[Facts, Facts], Iterator[Finding]]
_AXES = {1: "sound", 2: "pictures", 3: "videos"}
_SAME_SIDES = 0.02  # two pictures whose sides differ in proportion by less are called alike


def judge(things: Sequence[Facts]) -> list[Finding]:
    """Find all that is wrong with things and between every two of them, misfits first.

    >>> from .facts import Shape
    >>> model = Facts(MODEL, "model", family="Flux", spaces=("flux",), shape=Shape(16, 2, 8))
    >>> vae = Facts(VAE, "vae", spaces=("sd1", "sdxl"), shape=Shape(4, 2, 8))
    >>> [finding.between for finding in judge([model, vae])]
    [('model', 'vae')]
    """
    found = [Finding((one.name,), sentence, True) for one in things for sentence in one.broken]
    for one, other in combinations(things, 2):
        found += fits(one, other)
    found += [Finding((one.name,), sentence) for one in things for sentence in one.notes]
    return sorted(found, key=lambda finding: not finding.misfit)


def fits(one: Facts, other: Facts) -> list[Finding]:
    """Say why two things do not go together; nothing where they do, or where there is no rule for such a pair."""
    if rule := RULES.get((one.kind, other.kind)):
        return list(rule(one, other))
    if rule := RULES.get((other.kind, one.kind)):
        return list(rule(other, one))
    return []


def is_checked(one: Facts, other: Facts) -> bool:
    """Whether there is a rule for such a pair."""
    return (one.kind, other.kind) in RULES or (other.kind, one.kind) in RULES


def words_of(shape: Shape) -> str:
    """The shape of latents in words: "16 channels for pictures, 8 px a cell"."""
    words = f"{shape.channels} channels" if shape.channels else "latents"
    words += f" for {_AXES[shape.axes]}" if shape.axes in _AXES else ""
    return f"{words}, {shape.px} px a cell" if shape.px and shape.axes != 1 else words


def titles_of(spaces: Sequence[str]) -> str:
    """The titles of several spaces of latents."""
    return " or ".join(SPACES[name].title for name in spaces)


def _of(model: Facts) -> str:
    return f"this model ({model.family})" if model.family else "this model"


def _no(one: Facts, other: Facts, sentence: str) -> Finding:
    return Finding((one.name, other.name), sentence, True)


def _model_vae(model: Facts, vae: Facts) -> Iterator[Finding]:
    known = bool(model.spaces and vae.spaces)
    if set(model.spaces) & set(vae.spaces) or (not known and is_like(model.shape, vae.shape)):
        return
    load = f"load the VAE of {titles_of(model.spaces[:1])}" if model.spaces else "load the VAE of this model"
    if known and is_like(model.shape, vae.shape):
        yield _no(
            model,
            vae,
            f"this VAE is one of {titles_of(vae.spaces)}, and {_of(model)} works on latents of "
            f"{titles_of(model.spaces[:1])}: of one shape, so nothing would stop, but the picture is spoilt; {load}",
        )
        return
    yield _no(
        model,
        vae,
        f"this VAE makes latents of {words_of(vae.shape)}, and {_of(model)} works on {words_of(model.shape)}: {load}",
    )


def _model_latent(model: Facts, latent: Facts) -> Iterator[Finding]:
    if any(is_like(SPACES[name].shape, latent.shape) for name in model.spaces[1:]):
        return  # the latent of its sound
    wanted, came = model.shape, latent.shape
    axes_differ = bool(wanted.axes and came.axes and wanted.axes != came.axes and (came.axes, wanted.axes) != (2, 3))
    channels_differ = bool(wanted.channels and came.channels and wanted.channels != came.channels)
    if axes_differ or (channels_differ and not latent.empty):
        yield _no(
            model,
            latent,
            f"this LATENT has {words_of(came)}, and {_of(model)} works on {words_of(wanted)}: make the latent with "
            "the VAE of this model, or an empty one for it",
        )


def _vae_latent(vae: Facts, latent: Facts) -> Iterator[Finding]:
    wanted, came = vae.shape, latent.shape
    if latent.empty or not came.channels:
        return  # for a sampler, which fits it to its model
    channels_differ = bool(wanted.channels and wanted.channels != came.channels)
    axes_differ = bool(wanted.axes and came.axes and wanted.axes != came.axes and (came.axes, wanted.axes) != (2, 3))
    if channels_differ or axes_differ:
        yield _no(
            vae,
            latent,
            f"this LATENT has {words_of(came)}, and this VAE decodes {words_of(wanted)}: load the VAE of the model "
            "that the latent came from",
        )


def _model_clip(model: Facts, clip: Facts) -> Iterator[Finding]:
    if model.family and not MODELS[model.family].texts:
        yield _no(model, clip, f"{_of(model)} reads no text: a text encoder has no use here")
        return
    reads, gives = model.text or Text(), clip.text or Text()
    if reads.kinds and gives.kinds:
        if not any(read_as(kind) in reads.kinds for kind in gives.kinds):
            yield _no(
                model,
                clip,
                f"this text encoder is {_names(gives.kinds)}, and {_of(model)} reads {_names(reads.kinds)}: load that "
                "text encoder, with the type of this model",
            )
        elif reads.needs_pooled and gives.pooled == 0:
            yield _no(
                model,
                clip,
                f"{_of(model)} needs a pooled text besides, which {_names(gives.kinds)} does not give: load both of "
                "its text encoders",
            )
    elif reads.width and gives.width and reads.width != gives.width:
        yield _no(
            model,
            clip,
            f"this text encoder gives {gives.width} numbers a token, and {_of(model)} reads {reads.width}: load the "
            "text encoder of this model",
        )


def _names(kinds: Sequence[str]) -> str:
    return " or ".join(TEXTS[kind].title for kind in kinds)


def _model_conditioning(model: Facts, conditioning: Facts) -> Iterator[Finding]:
    reads, came = model.text, conditioning.text
    if reads is None or came is None:
        return
    if reads.width and came.width and reads.width != came.width:
        encode = f"encode the prompt with {_names(reads.kinds)}" if reads.kinds else "use the model's own encoder"
        yield _no(
            model,
            conditioning,
            f"this CONDITIONING has {came.width} numbers a token, and {_of(model)} reads {reads.width}: it is of "
            f"another text encoder; {encode}",
        )
    elif reads.needs_pooled and came.pooled == 0:
        yield _no(
            model,
            conditioning,
            f"this CONDITIONING has no pooled text, which {_of(model)} needs: encode the prompt with the text encoder "
            "of this model",
        )
    elif reads.pooled and came.pooled and reads.pooled != came.pooled:
        yield _no(
            model,
            conditioning,
            f"the pooled text of this CONDITIONING has {came.pooled} numbers, and {_of(model)} reads {reads.pooled}: "
            "encode the prompt with the text encoder of this model",
        )
    yield from _references(model, conditioning)


def _references(model: Facts, conditioning: Facts) -> Iterator[Finding]:
    """The latents that a CONDITIONING carries for a model that edits pictures."""
    for channels in conditioning.details.get("reference_channels", ()):  # type: ignore[attr-defined]
        if model.shape.channels and channels != model.shape.channels:
            yield _no(
                model,
                conditioning,
                f"this CONDITIONING carries a reference latent of {channels} channels, and {_of(model)} works on "
                f"{model.shape.channels}: encode the reference with the VAE of this model",
            )


def _model_lora(model: Facts, lora: Facts) -> Iterator[Finding]:
    if model.family and lora.families and not takes_loras_of(model.family, lora.families):
        yield _no(
            model,
            lora,
            f"this LoRA was made for {' or '.join(lora.families)}, and the model is {model.family}: choose a LoRA for "
            f"{model.family}",
        )


def _vae_image(vae: Facts, image: Facts) -> Iterator[Finding]:
    if vae.shape.axes == 1:
        yield _no(vae, image, "this VAE is for sound or shapes, and takes no pictures: load the VAE of an image model")
        return
    sides = image.details.get("size_px")
    if isinstance(sides, list) and vae.shape.px and min(sides, default=vae.shape.px) < vae.shape.px:
        yield _no(
            vae,
            image,
            f"this picture is {sides[1]} x {sides[0]} px, and a cell of this VAE spans {vae.shape.px} px: scale the "
            "picture up",
        )


def _beside_mask(picture: Facts, mask: Facts) -> Iterator[Finding]:
    sides, own = picture.details.get("sides"), mask.details.get("sides")
    if mask.empty or not (isinstance(sides, list) and isinstance(own, list)) or not (all(sides) and all(own)):
        return
    proportion = sides[0] * own[1] / (sides[1] * own[0])
    if abs(proportion - 1) > _SAME_SIDES and abs(sides[0] * own[1] - sides[1] * own[0]) > max(*sides, *own):
        yield Finding(
            (picture.name, mask.name),
            f"the mask is {own[1]} x {own[0]}, of another shape than {sides[1]} x {sides[0]}: it will be stretched",
        )


RULES: dict[tuple[str, str], Rule] = {
    (MODEL, VAE): _model_vae,
    (MODEL, CLIP): _model_clip,
    (MODEL, LATENT): _model_latent,
    (MODEL, CONDITIONING): _model_conditioning,
    (MODEL, LORA): _model_lora,
    (VAE, LATENT): _vae_latent,
    (VAE, IMAGE): _vae_image,
    (IMAGE, MASK): _beside_mask,
    (LATENT, MASK): _beside_mask,
}
