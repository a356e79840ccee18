"""The Protocol of an adapter, and the simplest kind, LoRA.

LoRA is two thin factors (Hu et al. 2021, arXiv:2106.09685); for convolutions it is LoCon, with a middle tensor LoCon's
CP (Tucker) form (LyCORIS, arXiv:2309.14859).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field, dataclass, fields, replace
from typing import ClassVar, NamedTuple, Protocol, TypeGuard, TypeVar

import torch
from torch import Tensor


class LoRAError(ValueError):
    """A LoRA that cannot be read, written, applied or injected; the message is one sentence for the user."""


class Adapter(Protocol):
    """An adapter changes one tensor of a model. Every kind is a frozen dataclass with these members."""

    __dataclass_fields__: ClassVar[dict[str, Field]]  # every kind is a dataclass, which is how it is moved and copied

    @property
    def kind(self) -> str:
        """The name of the kind in reports."""

    @property
    def rank(self) -> int:
        """The rank of the factors; 0 for a kind without factors."""

    @property
    def alpha(self) -> float | None:
        """The trainer's alpha; None for a kind without one."""

    @property
    def needs_weight(self) -> bool:
        """Whether the change depends on the weight: `delta` wants the tensor then, and adapters do not commute."""

    @property
    def extent(self) -> tuple[int | None, int | None]:
        """The (out, in) of the weight that the adapter was made for; None for a number that its tensors do not tell."""

    def misfit(self, shape: Sequence[int]) -> str | None:
        """The reason why the adapter cannot change a weight of this shape, in words; None where it can."""

    def delta(self, weight: Tensor | Sequence[int], strength: float = 1.0, *, match_comfyui: bool = False) -> Tensor:
        """The change of this weight (or of a weight of this shape), in fp32 and computed in fp32.

        By default it is the change that the trainer made, 0 at strength 0; `match_comfyui` repeats what ComfyUI 0.3.64
        makes of the file where that differs. [out, in, ...] or its shape -> [out, in, ...]

        Raises:
            LoRAError: another size than the adapter was made for, or a shape where the weight itself is needed.
        """


A = TypeVar("A", bound=Adapter)


class ConfigFacts(NamedTuple):
    """The facts that a PEFT configuration adds about one module; the defaults are for a file without a configuration.

    alpha_of: rank -> alpha. terms: of the Cayley-Neumann series of an OFT, None for the exact form. on_input: whether
    an (IA)^3 scales inputs. largest: a bound on the numbers of the file, none of which is NaN; infinity where unknown.
    """

    alpha_of: Callable[[int], float | None] = lambda rank: None
    terms: int | None = 5
    on_input: bool | None = None
    largest: float = math.inf


def fitting_shape(adapter: Adapter, weight: Tensor | Sequence[int]) -> tuple[int, ...]:
    """The shape of a weight that the adapter fits. [out, in, ...] or its shape -> its shape

    Raises:
        LoRAError: the adapter does not fit.
    """
    shape = tuple(weight.shape if isinstance(weight, Tensor) else weight)
    if reason := adapter.misfit(shape):
        raise LoRAError(reason)
    return shape


def fitting_weight(adapter: Adapter, weight: Tensor | Sequence[int]) -> Tensor:
    """The weight in fp32, for kinds that need its values. [out, in, ...] -> [out, in, ...]

    Raises:
        LoRAError: the adapter does not fit, or only the shape was given.
    """
    fitting_shape(adapter, weight)
    if not isinstance(weight, Tensor):
        raise LoRAError(f"the change that {adapter.kind} makes depends on the weight itself, only its shape was given")
    return weight.float()


def is_adapter(value: object) -> TypeGuard[Adapter]:
    """Whether a field of an adapter holds another adapter, as DoRA's `inner` does."""
    return hasattr(value, "__dataclass_fields__") and hasattr(value, "delta")


def on_device(adapter: A, device: torch.device | str) -> A:
    """The same adapter with its tensors on a device; the adapter itself where they are on it already.

    `delta` runs on the adapter's own device, unless the kind needs the weight: then on the weight's device.
    """
    moved: dict[str, Tensor | Adapter] = {}
    for field in fields(adapter):
        value = getattr(adapter, field.name)
        if isinstance(value, Tensor):
            moved[field.name] = send(value, device)
        elif is_adapter(value):
            moved[field.name] = on_device(value, device)
    return adapter if all(moved[name] is getattr(adapter, name) for name in moved) else replace(adapter, **moved)


def send(tensor: Tensor, device: torch.device | str) -> Tensor:
    """The same numbers on a device; the tensor itself where it is on that device already.

    A copy from ordinary memory to a CUDA card makes the CPU wait. So the tensor is copied into pinned memory first (of
    torch's allocator, which reuses it once the card has read it), and the copy to the card is queued: nobody waits.
    """
    device = torch.device(device)
    if tensor.device == device:
        return tensor
    if device.type != "cuda" or tensor.device.type != "cpu" or not torch.cuda.is_available():
        return tensor.to(device)
    try:
        pinned = tensor.pin_memory()
    except RuntimeError:  # the driver may refuse to pin more; the copy is slower then, and the numbers are the same
        return tensor.to(device)
    return pinned.to(device, non_blocking=True)


def take_apart(adapter: Adapter) -> tuple:
    """(class, value of its first field, ...), with inner adapters taken apart too: plain tuples of tensors for a host.

    ComfyUI moves the tensors of plain tuples to another device, and does not look into dataclasses.
    """
    values = (getattr(adapter, field.name) for field in fields(adapter))
    return type(adapter), *(take_apart(value) if is_adapter(value) else value for value in values)


def put_together(parts: Sequence) -> Adapter:
    """The adapter whose parts `take_apart` returned, from the same tensors or copies of them on another device."""
    kind, *values = parts
    return kind(*(put_together(value) if isinstance(value, tuple | list) else value for value in values))


def shape_mismatch(own: Sequence[int], shape: Sequence[int]) -> str:
    """The sentence that names both shapes."""
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
        return None if fits else shape_mismatch(own, shape)

    def delta(self, weight: Tensor | Sequence[int], strength: float = 1.0, *, match_comfyui: bool = False) -> Tensor:
        """See Adapter; ComfyUI does the same. [out, in, ...] or its shape -> [out, in, ...]"""
        shape = fitting_shape(self, weight)
        up, down = self.up.float().flatten(1), self.down.float().flatten(1)  # [out, r], [r, in * kh * kw]
        if self.mid is None:
            change = up @ down
        else:
            change = torch.einsum("mn...,om,ni->oi...", self.mid.float(), up, down)
        return (change * (self.scale * strength)).reshape(shape)


def build_of_table(name: str, parts: Mapping[str, Tensor], facts: ConfigFacts) -> LoRA:
    """PEFT's LoRA of an embedding table, whose factors are stored transposed and swapped."""
    if parts["up"].ndim != 2 or parts["down"].ndim != 2:
        raise LoRAError("the factors of an embedding table are not matrices")
    return LoRA(parts["down"].mT, parts["up"].mT, 1.0)
