"""Facts about what travels along the wires: LATENT, CONDITIONING, IMAGE and MASK, whoever made them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from ...doctor.facts import CONDITIONING, IMAGE, LATENT, MASK, OTHER, Facts, Shape, Text
from ...doctor.fits import words_of
from ..host import host

if TYPE_CHECKING:
    from ..host.interface import Tensor

_MOST_KEYS, _MOST_ENTRIES = 40, 200


def facts(kind: str, name: str, value: object) -> Facts:
    """Tell what a value on a wire is; `kind` is the wire's type, "*" for any, and the value may be of another one."""
    if (found := host.facts_of(name, value)) is not None:
        return found
    reader = _READERS.get(kind) or _READERS.get(_kind_of(value))
    if reader is None or not _is_readable(reader, value):
        came = type(value).__name__
        wrong = f"a {kind} was expected, but a {came} came; connect another output"
        return Facts(OTHER, name, came, broken=() if kind in ("*", "MODEL", "CLIP", "VAE") else (wrong,))
    return reader(name, value)


def _kind_of(value: object) -> str:
    if isinstance(value, Mapping) and "samples" in value:
        return LATENT
    if _is_conditioning(value):
        return CONDITIONING
    shape = getattr(value, "shape", None)
    if shape is None or not hasattr(value, "isfinite"):
        return ""
    return IMAGE if len(shape) == 4 and shape[-1] in (1, 3, 4) else MASK if len(shape) in (2, 3) else ""


def _is_readable(reader: Callable[[str, object], Facts], value: object) -> bool:
    if reader is _latent:
        samples = value.get("samples") if isinstance(value, Mapping) else None
        return _is_plain(samples) or (getattr(samples, "is_nested", False) and not hasattr(samples, "isfinite"))
    if reader is _conditioning:
        return _is_conditioning(value)
    return _is_plain(value)


def _is_plain(value: object) -> bool:
    """Whether this is a tensor whose numbers can be looked at: not sparse, nested or on the device meta."""
    if not hasattr(value, "isfinite") or getattr(value, "is_nested", False):
        return False
    return str(value.layout) == "torch.strided" and value.device.type != "meta"


def _is_conditioning(value: object) -> bool:
    return isinstance(value, list | tuple) and all(
        isinstance(entry, list | tuple) and len(entry) == 2 and isinstance(entry[1], Mapping) for entry in value
    )


def _latent(name: str, latent: Mapping) -> Facts:
    samples = latent["samples"]
    if getattr(samples, "is_nested", False):
        return Facts(LATENT, name, "several latents in one (pictures and sound)", details={"nested": True})
    shape = list(samples.shape)
    details: dict[str, object] = {"shape": shape}
    if len(shape) not in (3, 4, 5) or 0 in shape:
        problem = f"a LATENT of shape [batch, channels, ...] was expected, but this one is {shape}; connect a sampler"
        return Facts(LATENT, name, str(shape), details=details, broken=(problem,))
    own = Shape(shape[1], len(shape) - 2)
    if len(shape) > 3:
        details["sides"] = shape[-2:]
    if len(shape) == 5:
        details["frames"] = shape[2]
    if hasattr(mask := latent.get("noise_mask"), "shape"):
        details["noise_mask"] = list(mask.shape)
    sound = _all_finite([samples])
    empty = sound and not _has_any(samples)
    title = f"{words_of(own)}, {'empty' if empty else 'filled'}"
    return _tensor(LATENT, name, title, samples, sound, shape=own, empty=empty, details=details)


def _conditioning(name: str, conditioning: list) -> Facts:
    if not conditioning:
        return Facts(CONDITIONING, name, "nothing", broken=("this CONDITIONING is empty; connect a text encoder",))
    tensors = [entry[0] for entry in conditioning if _is_plain(entry[0]) and entry[0].ndim]
    options = [entry[1] for entry in conditioning]
    keys = sorted({str(key) for entry in options for key in entry})[:_MOST_KEYS]
    details: dict[str, object] = {"entries": len(conditioning), "keys": keys}
    details["reference_channels"] = sorted(
        {latent.shape[1] for entry in options for latent in entry.get("reference_latents") or () if latent.ndim > 3}
    )
    if not tensors:
        return Facts(CONDITIONING, name, "no text", text=Text(pooled=_pooled(options)), details=details)
    widths = sorted({tensor.shape[-1] for tensor in tensors})
    details |= {"tokens": [tensor.shape[1] for tensor in tensors if tensor.ndim > 2], "widths": widths}
    broken = ()
    if len(widths) > 1:
        broken = (f"parts of this CONDITIONING are of different text encoders ({widths} numbers a token): use one",)
    tokens = tensors[0].shape[1] if tensors[0].ndim > 2 else 1
    pooled, extra = _pooled(options), [key for key in keys if key != "pooled_output"]
    more = (f"pooled text of {pooled}" if pooled else "", f"with {' '.join(extra)}" if extra else "")
    title = ", ".join([f"{tokens} tokens of {widths[0]} numbers", *filter(None, more)])
    text = Text(width=widths[0] if len(widths) == 1 else None, pooled=pooled)
    sound = _all_finite(tensors[:_MOST_ENTRIES])
    made = _tensor(CONDITIONING, name, title, tensors[0], sound, text=text, details=details, broken=broken)
    return made


def _pooled(options: list[Mapping]) -> int | None:
    """The width of the pooled text; 0 where an entry has none, None where the model makes it of pictures."""
    widths = set()
    for entry in options:
        pooled = entry.get("pooled_output")
        if pooled is None and entry.get("unclip_conditioning"):
            return None
        widths.add(pooled.shape[-1] if getattr(pooled, "ndim", 0) else 0)
    return min(widths, default=0)


def _all_finite(tensors: list[Tensor]) -> bool:
    """Whether all numbers are sound; waits for the card once."""
    sound = _computed(tensors[0]).isfinite().all()
    for tensor in tensors[1:]:
        sound = sound & _computed(tensor).isfinite().all().to(sound.device)
    return bool(sound)


def _has_any(tensor: Tensor) -> bool:
    """Whether any number of a tensor is not 0."""
    return bool(_computed(tensor).any())


def _computed(tensor: Tensor) -> Tensor:
    """A tensor in a type that can be computed with, which numbers of 8 bits and less are not."""
    return tensor.float() if "float8" in str(tensor.dtype) or "float4" in str(tensor.dtype) else tensor


def _image(name: str, image: Tensor) -> Facts:
    shape = list(image.shape)
    details: dict[str, object] = {"shape": shape}
    if len(shape) != 4 or 0 in shape or shape[-1] not in (1, 3, 4):
        problem = f"an IMAGE of shape [batch, height, width, 3] was expected, but this one is {shape}; connect pictures"
        return Facts(IMAGE, name, str(shape), details=details, broken=(problem,))
    details |= {"sides": shape[1:3], "size_px": shape[1:3], "channels": shape[3], "pictures": shape[0]}
    title = f"{shape[0]} pictures of {shape[2]} x {shape[1]} px" if shape[0] != 1 else f"{shape[2]} x {shape[1]} px"
    title += {1: ", grey", 3: "", 4: ", transparent"}[shape[3]]
    sound = _all_finite([image])
    real = sound and not image.is_complex()
    low, high = (float(_computed(image).min()), float(_computed(image).max())) if real else (0.0, 1.0)
    notes = ()
    if low < -0.01 or high > 1.01:
        notes = (f"its values lie between {low:.3g} and {high:.3g}, and those of pictures between 0 and 1",)
    return _tensor(IMAGE, name, title, image, sound, details=details, notes=notes)


def _mask(name: str, mask: Tensor) -> Facts:
    shape = list(mask.shape)
    sides = shape[-2:]
    if len(shape) not in (2, 3, 4) or 0 in shape:
        problem = f"a MASK of shape [batch, height, width] was expected, but this one is {shape}; connect a mask"
        return Facts(MASK, name, str(shape), details={"shape": shape}, broken=(problem,))
    sound = _all_finite([mask])
    empty = sound and not _has_any(mask)
    title = f"{sides[1]} x {sides[0]}, {'empty' if empty else 'drawn'}"
    return _tensor(MASK, name, title, mask, sound, empty=empty, details={"shape": shape, "sides": sides})


def _overflowed(kind: str) -> str:
    return (
        f"this {kind} has NaN (not a number) or infinite values: what made it overflowed; run that in higher precision"
    )


def _tensor(kind: str, name: str, title: str, tensor: Tensor, sound: bool, **more) -> Facts:
    """The facts of a wire, with the type and the device of its tensor."""
    broken = (*more.pop("broken", ()), *(() if sound else (_overflowed(kind),)))
    numbers = str(tensor.dtype).removeprefix("torch.")
    size = f"{tensor.numel():,}"
    return Facts(kind, name, title, size=size, numbers=numbers, place=str(tensor.device), broken=broken, **more)


_READERS = {LATENT: _latent, CONDITIONING: _conditioning, IMAGE: _image, MASK: _mask}
