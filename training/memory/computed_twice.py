"""A function whose inner values are not kept: the backward pass calls it a second time.

It is torch.utils.checkpoint with one difference: a function may write into what it was given and into what it has
computed, as hosts' networks do to save memory. Torch's own either refuses that or, in the second call, does not see it
and gives wrong gradients.
"""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import get_device_states, set_device_states

from ..state import TrainingError


def computed_twice(
    forward: Callable,
    given: Sequence,
    named: Mapping,
    *,
    copies: bool = False,
    around: Callable[[], AbstractContextManager] = nullcontext,
):
    """Call a function now, and once more in the backward pass, with the same random numbers.

    Args:
        given, named: its arguments; tensors may lie in lists, in tuples and in objects. The second call is told what
            tables among them held before the first, for hosts write into theirs.
        copies: give it copies of its tensors, which it may write into, as its caller may into its results. Without
            them, torch refuses the backward pass of a function that did.
        around: what the second call is made in, for what is open round a backward pass does not reach into it.

    Raises:
        TrainingError: the function hands a tensor on in a table, which no gradient would reach.
    """
    arguments = [*given, *named.values()]
    tables = {place: dict(value) for place, value in enumerate(arguments) if isinstance(value, dict)}
    outline: list = []  # of what came out: only of the first call, the second's would keep what it computed

    def call(now: Sequence[Tensor], is_first: bool) -> tuple:
        own = iter([one.clone() if copies and one.is_floating_point() else one for one in now])
        told = [_rebuilt(value, lambda _: next(own)) for value in arguments]
        if not is_first:
            told = [dict(tables[place]) if place in tables else value for place, value in enumerate(told)]
        made = forward(*told[: len(given)], **dict(zip(named, told[len(given) :])))
        if is_first:
            _refuse_handed_on(arguments, tables)
            outline.append(made)
        return tuple(one.clone() if copies and one._is_view() else one for one in tensors_in(made))

    # without one that needs a gradient, torch would take the result for a constant, whatever is learned inside
    anchor = torch.zeros((), device="cpu", dtype=torch.float32, requires_grad=True)
    results = iter(_Twice.apply(call, around, anchor, *tensors_in(arguments)))
    return _rebuilt(outline.pop(), lambda _: next(results))


class _Twice(torch.autograd.Function):
    """See `computed_twice`. The function's parameters get their gradients in the second call."""

    @staticmethod
    def forward(
        ctx, call: Callable[[Sequence[Tensor], bool], tuple], around, anchor: Tensor, *tensors: Tensor
    ) -> tuple:
        ctx.call, ctx.around = call, around
        ctx.random = torch.get_rng_state(), *get_device_states(*tensors)
        before = [one._version for one in tensors]
        made = call(tensors, True)
        if before != [one._version for one in tensors]:  # torch looks at what is saved only from here on
            raise RuntimeError("what a block was given has been modified by an inplace operation of its own")
        ctx.save_for_backward(*tensors)
        ctx.mark_non_differentiable(*[one for one in made if not one.is_floating_point()])
        return made

    @staticmethod
    def backward(ctx, *gradients: Tensor | None) -> tuple:
        tensors = [one.detach().requires_grad_(one.requires_grad) for one in ctx.saved_tensors]
        with torch.enable_grad(), _drawing_again(*ctx.random), ctx.around():
            made = ctx.call(tensors, False)
        pairs = [(one, own) for one, own in zip(made, gradients) if one.requires_grad and own is not None]
        if pairs:
            torch.autograd.backward([one for one, _ in pairs], [own for _, own in pairs])
        return (None, None, None, *[one.grad for one in tensors])


@contextmanager
def _drawing_again(state: Tensor, devices: list[int], states: list[Tensor]) -> Iterator[None]:
    """Put the common random numbers where they were, and at the end where they are."""
    kind = states[0].device.type if states else "cuda"
    with torch.random.fork_rng(devices, device_type=kind):
        torch.set_rng_state(state)
        set_device_states(devices, states, device_type=kind)
        yield


def _refuse_handed_on(arguments: Sequence, before: Mapping[int, dict]) -> None:
    for place, table in before.items():
        for name, value in arguments[place].items():
            if isinstance(value, Tensor) and value.is_floating_point() and table.get(name) is not value:
                raise TrainingError(
                    f"the blocks of this model hand {name!r} on beside their results, which no gradient would reach: "
                    "set checkpointing to off"
                )


def tensors_in(value: object) -> list[Tensor]:
    """The tensors of a value, in lists, in tuples and in objects; those of tables are left out."""
    found: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    _rebuilt(value, keep)
    return found


def _rebuilt(value: object, put: Callable[[Tensor], Tensor]):
    """The value with `put` of each tensor in its place; tables and what holds no tensor are themselves."""
    if isinstance(value, Tensor):
        return put(value)
    if isinstance(value, list):
        return [_rebuilt(one, put) for one in value]
    if isinstance(value, tuple):
        made = [_rebuilt(one, put) for one in value]
        return type(value)(*made) if hasattr(value, "_fields") else tuple(made)
    names = [] if isinstance(value, dict | nn.Module | type) else _names_of_tensors(value)
    if not names:
        return value
    another: object = copy.copy(value)
    for name in names:
        object.__setattr__(another, name, put(getattr(value, name)))
    return another


def _names_of_tensors(value: object) -> list[str]:
    """The names of an object's tensors, whether it keeps them in a table or in slots."""
    slots = [name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ()) if hasattr(value, name)]
    names = [*getattr(value, "__dict__", {}), *slots]
    return [name for name in dict.fromkeys(names) if isinstance(getattr(value, name), Tensor)]
