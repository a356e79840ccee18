"""What every adapter can do, and the two simplest kinds: LoRA, and a difference that is stored whole.

LoRA is two thin factors (Hu et al. 2021, arXiv:2106.09685); for convolutions it is LoCon, with a middle tensor LoCon's
CP (Tucker) form (LyCORIS, arXiv:2309.14859).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor


class LoRAError(ValueError):
    """A LoRA that cannot be read, written, applied or injected; the message is one sentence for the user."""


class Adapter(Protocol):
    """The change of one tensor of a model."""

    @property
    def kind(self) -> str:
        """What reports call it."""

    @property
    def rank(self) -> int:
        """0 for what has none."""

    @property
    def needs_weight(self) -> bool:
        """Whether the change depends on the weight: `delta` wants the tensor then, and adapters do not commute."""

    @property
    def extent(self) -> tuple[int | None, int | None]:
        """(out, in) of the weight it was made for, as far as it can tell."""

    def misfit(self, shape: Sequence[int]) -> str | None:
        """Why it cannot change a weight of this shape, in words; None where it can."""

    def delta(self, weight: Tensor | Sequence[int], strength: float = 1.0, *, match_comfyui: bool = False) -> Tensor:
        """The change of this weight (or of a weight of this shape), in fp32 and computed in fp32.

        By default it is the change the trainer made, 0 at strength 0; `match_comfyui` repeats what ComfyUI 0.3.64
        makes of the file where that differs. [out, in, ...] or its shape -> [out, in, ...]

        Raises:
            LoRAError: another size than the adapter was made for, or a shape where the weight itself is needed.
        """


class ConfigFacts(NamedTuple):
    """What a PEFT configuration says of a module; the defaults are for a file without one.

    alpha_of: rank -> alpha. terms: of the Cayley-Neumann series of an OFT, None for the exact form. on_input: whether
    an (IA)^3 scales inputs. largest: no number of the file is larger, none is NaN; infinity where that is not known.
    """

    alpha_of: Callable[[int], float | None] = lambda rank: None
    terms: int | None = 5
    on_input: bool | None = None
    largest: float = math.inf


def fitting(adapter: Adapter, weight: Tensor | Sequence[int]) -> tuple[int, ...]:
    """The weight's shape, once it is known that the adapter fits it; LoRAError with the reason where not."""
    given = isinstance(weight, Tensor)
    shape = tuple(weight.shape if given else weight)
    if reason := adapter.misfit(shape):
        raise LoRAError(reason)
    if adapter.needs_weight and not given:
        raise LoRAError(f"the change that {adapter.kind} makes depends on the weight itself, only its shape was given")
    return shape


def on_device(adapter: Adapter, device: torch.device | str) -> Adapter:
    """The same adapter with its tensors on a device; itself where they are there already.

    Kinds without need of the weight compute where their own tensors are, the others where the weight is.
    """
    moved = {}
    for field in fields(adapter):
        value = getattr(adapter, field.name)
        if isinstance(value, Tensor):
            moved[field.name] = sent(value, device)
        elif is_dataclass(value):
            moved[field.name] = on_device(value, device)
    return adapter if all(moved[name] is getattr(adapter, name) for name in moved) else replace(adapter, **moved)


def sent(tensor: Tensor, device: torch.device | str) -> Tensor:
    """The same numbers on a device; itself where they are there.

    Ordinary memory goes to a CUDA card only while the CPU waits. So it is copied into pinned memory (of torch's
    allocator, which hands it out again once the card has read it), and the journey is queued: nobody waits.
    """
    device = torch.device(device)
    if tensor.device == device:
        return tensor
    if device.type != "cuda" or tensor.device.type != "cpu" or not torch.cuda.is_available():
        return tensor.to(device)
    try:
        pinned = tensor.pin_memory()
    except RuntimeError:  # the driver may refuse to pin more; the way is slower then, and the numbers are the same
        return tensor.to(device)
    return pinned.to(device, non_blocking=True)


def taken_apart(adapter: Adapter) -> tuple:
    """(class, value of its first field, ...), adapters inside it likewise: plain tuples, whose tensors a host moves."""
    values = (getattr(adapter, field.name) for field in fields(adapter))
    return type(adapter), *(taken_apart(value) if is_dataclass(value) else value for value in values)


def put_together(parts: Sequence) -> Adapter:
    """The adapter that `taken_apart` took apart, from the same tensors or copies of them elsewhere."""
    kind, *values = parts
    return kind(*(put_together(value) if isinstance(value, tuple | list) else value for value in values))


def unlike(own: Sequence[int], shape: Sequence[int]) -> str:
    return f"the adapter is for a weight of shape {list(own)}, the model's weight has shape {list(shape)}"


@dataclass(frozen=True, eq=False)
class LoRA:
    """The weight changes by (alpha / rank) * up @ down; with `mid`, down and up are joined through its kernel.

    up [out, r] or [out, r, 1, 1]; down [r, in] or [r, in / groups, kh, kw]; mid None or [r, r, kh, kw], down then
    [r, in] or [r, in, 1, 1]. `alpha` is finite; a file without alpha means alpha = rank. Any floating dtype.

    Raises:
        LoRAError: factors whose ranks differ, or an alpha that is not a number.
    """

    up: Tensor
    down: Tensor
    alpha: float
    mid: Tensor | None = None
    needs_weight: ClassVar[bool] = False

    def __post_init__(self) -> None:
        up, down, mid = self.up, self.down, self.mid
        if up.ndim < 2 or down.ndim < 2 or math.prod(up.shape[2:]) != 1 or not (up.numel() and down.numel()):
            raise LoRAError(
                f"up is {list(up.shape)} and down is {list(down.shape)}: expected [out, rank] and [rank, in]"
            )
        if mid is None and up.shape[1] != down.shape[0]:
            raise LoRAError(f"up is {list(up.shape)} and down is {list(down.shape)}: their ranks differ")
        if mid is not None and (mid.ndim < 3 or not mid.numel() or math.prod(down.shape[2:]) != 1):
            raise LoRAError(
                f"mid is {list(mid.shape)} and down is {list(down.shape)}: expected [rank, rank, kh, kw] and [rank, in]"
            )
        if mid is not None and mid.shape[:2] != (up.shape[1], down.shape[0]):
            raise LoRAError(
                f"mid is {list(mid.shape)} between up {list(up.shape)} and down {list(down.shape)}: their ranks differ"
            )
        if not math.isfinite(self.alpha):
            raise LoRAError(f"alpha is {self.alpha}: expected a finite number")

    @property
    def kind(self) -> str:
        return "LoRA" if self.mid is None and self.down.ndim == 2 else "LoCon"

    @property
    def extent(self) -> tuple[int, int]:
        return self.up.shape[0], self.down.shape[1]

    @property
    def rank(self) -> int:
        return self.down.shape[0]

    @property
    def scale(self) -> float:
        return self.alpha / self.rank

    def factors(self, strength: float = 1.0) -> tuple[Tensor, Tensor]:
        """up and down in fp32 whose product is the change at this strength; a middle tensor goes into down.

        -> [out, r], [r, in * kh * kw]
        """
        up, down = self.up.float().flatten(1), self.down.float().flatten(1)
        if self.mid is not None:
            down = torch.einsum("mn...,ni->mi...", self.mid.float(), down).flatten(1)
        return up * (self.scale * strength), down

    def misfit(self, shape: Sequence[int]) -> str | None:
        """Why this adapter cannot change a weight of this shape, in words; None where it can.

        A 1x1 convolution and a Linear are the same thing, and a flat down [r, in * kh * kw] fits a convolution.
        """
        shape, kernel = list(shape), (self.down if self.mid is None else self.mid).shape[2:]
        own = [self.up.shape[0], self.down.shape[1], *kernel]
        fits = len(shape) >= 2 and shape[0] == own[0] and math.prod(shape[1:]) == math.prod(own[1:])
        if fits and len(kernel) == len(shape) - 2:
            fits = shape == own
        elif fits and math.prod(kernel) != 1:
            fits = False  # a real kernel that would have to be guessed into another number of dimensions
        return None if fits else unlike(own, shape)

    def delta(self, weight: Tensor | Sequence[int], strength: float = 1.0, *, match_comfyui: bool = False) -> Tensor:
        """See Adapter; ComfyUI does the same. [out, in, ...] or its shape -> [out, in, ...]"""
        shape = fitting(self, weight)
        up, down = self.up.float().flatten(1), self.down.float().flatten(1)  # [out, r], [r, in * kh * kw]
        if self.mid is None:
            change = up @ down
        else:
            change = torch.einsum("mn...,om,ni->oi...", self.mid.float(), up, down)
        return (change * (self.scale * strength)).reshape(shape)


@dataclass(frozen=True, eq=False)
class Difference:
    """The tensor changes by `value`: LyCORIS' full (`diff`, `diff_b`) and norm (`w_norm`, `b_norm`), PEFT's lora_bias.

    value: the shape of the weight or bias. There is no alpha.
    """

    value: Tensor
    kind: str = "full difference"
    rank: ClassVar[int] = 0
    needs_weight: ClassVar[bool] = False

    @property
    def extent(self) -> tuple[int | None, int | None]:
        return extent_of(self.value.shape)

    def misfit(self, shape: Sequence[int]) -> str | None:
        return None if same_layer(self.value.shape, shape) else unlike(self.value.shape, shape)

    def delta(self, weight: Tensor | Sequence[int], strength: float = 1.0, *, match_comfyui: bool = False) -> Tensor:
        """See Adapter; ComfyUI does the same."""
        return self.value.float().reshape(fitting(self, weight)) * strength


@dataclass(frozen=True, eq=False)
class Replacement:
    """The tensor becomes `value`, and at strength t lies t of the way to it: PEFT's modules_to_save, BFL's norm scales.

    ComfyUI replaces it at any strength.
    """

    value: Tensor
    kind: ClassVar[str] = "replacement"
    rank: ClassVar[int] = 0
    needs_weight: ClassVar[bool] = True

    @property
    def extent(self) -> tuple[int | None, int | None]:
        return extent_of(self.value.shape)

    def misfit(self, shape: Sequence[int]) -> str | None:
        return None if same_layer(self.value.shape, shape) else unlike(self.value.shape, shape)

    def delta(self, weight: Tensor | Sequence[int], strength: float = 1.0, *, match_comfyui: bool = False) -> Tensor:
        """See Adapter."""
        shape = fitting(self, weight)
        value = self.value.float().to(weight.device).reshape(shape)
        return (value - weight.float()) * (1.0 if match_comfyui else strength)


def extent_of(shape: Sequence[int]) -> tuple[int | None, int | None]:
    return (*shape[:2], None, None)[:2] if len(shape) > 1 else (shape[0] if shape else None, None)


def same_layer(own: Sequence[int], shape: Sequence[int]) -> bool:
    """Equal shapes, a 1x1 convolution and a Linear being the same thing."""
    own, shape = list(own), list(shape)
    return own == shape or (
        len(own) > 1 < len(shape) and own[:2] == shape[:2] and math.prod(own[2:]) == 1 and math.prod(shape[2:]) == 1
    )


def build_of_table(name: str, parts: Mapping[str, Tensor], facts: ConfigFacts) -> LoRA:
    """PEFT's LoRA of an embedding table, whose factors lie the other way round."""
    if parts["up"].ndim != 2 or parts["down"].ndim != 2:
        raise LoRAError("the factors of an embedding table are not matrices")
    return LoRA(parts["down"].mT, parts["up"].mT, 1.0)


def build_norm_difference(name: str, parts: Mapping[str, Tensor], facts: ConfigFacts) -> Difference:
    return Difference(parts["value"], "norm difference")


def marks_of_replacement(name: str, adapter: Replacement) -> dict[str, Tensor]:
    if name.endswith(".bias"):
        raise LoRAError(f"{name} replaces a bias, which kohya files cannot say")
    return {}
