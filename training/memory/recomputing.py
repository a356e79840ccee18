"""Gradient checkpointing: what a block computes inside is not kept, but computed again for the backward pass.

The units are the blocks in a network's lists (transformer blocks, the layers of a U-Net's stages), never the network as
a whole, which would save nothing (Chen et al., arXiv 1604.06174, for the trade).

Networks of hosts write into what they were given (`x += ...`), which saves memory in sampling and spoils what a
backward pass needs. Torch sees that and says so; from then on a step keeps what is written over, and a block is given
copies, so that what is computed the second time is what was computed the first time.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import chain

import torch
from torch import nn
from torch.autograd.graph import allow_mutation_on_saved_tensors

from ..state import Relief
from .computed_twice import computed_twice, tensors_in

OFF, ON, AUTO = "off", "on", "auto"
WAYS = (AUTO, ON, OFF)  # auto: from when memory has run out
_WRITTEN_OVER = ("modified by an inplace operation", "modified inplace")  # how torch says it


class Recomputing:
    """Two switches of a training: while `is_on`, the blocks of a network are computed again in the backward pass; while
    `keeps_overwritten`, what they write over is kept for it. model: who helps with the steps of this model. products:
    what blocks are called in the first time, to be opened for the second, such as another precision.
    """

    def __init__(
        self,
        is_on: bool,
        may_turn_on: bool = False,
        model: Relief | None = None,
        products: Callable[[], AbstractContextManager] = nullcontext,
    ):
        self.is_on, self.may_turn_on, self.keeps_overwritten = is_on, may_turn_on, False
        self._model, self._products = model, products

    def relieve(self, error: RuntimeError) -> bool:
        """Whether a step that ended in this error can go well now: memory ran out, or something was written over."""
        if isinstance(error, torch.cuda.OutOfMemoryError):  # any card's, under its older name
            was, self.is_on = self.is_on, self.is_on or self.may_turn_on
            return self.is_on and not was
        if not any(mark in str(error) for mark in _WRITTEN_OVER):
            return self._model is not None and self._model.relieve(error)
        was, self.keeps_overwritten = self.keeps_overwritten, True
        return not was

    @contextmanager
    def around_step(self) -> Iterator[None]:
        """What a step is made in, its backward pass too."""
        with self._of_the_model(), allow_mutation_on_saved_tensors() if self.keeps_overwritten else nullcontext():
            yield

    def _of_the_model(self) -> AbstractContextManager:
        return self._model.around_step() if self._model else nullcontext()

    @contextmanager
    def over(self, network: nn.Module) -> Iterator[None]:
        """Put the switches on a network's blocks, and take them away at the end."""
        units = [(unit, unit.__dict__.get("forward")) for unit in blocks_of(network)]  # another's, where one is there
        for unit, _ in units:
            unit.forward = self._switched(unit)  # type: ignore[method-assign]
        try:
            yield
        finally:
            for unit, before in units:
                del unit.forward
                if before is not None:
                    unit.forward = before

    @contextmanager
    def _again(self) -> Iterator[None]:
        """What the second call of a block is made in."""
        with self._of_the_model(), self._products():
            yield

    def _switched(self, unit: nn.Module) -> Callable:
        forward = unit.forward

        def run(*given, **named):
            is_needed = self.is_on and torch.is_grad_enabled() and _takes_gradients(unit, [*given, *named.values()])
            if not is_needed:
                return forward(*given, **named)
            return computed_twice(forward, given, named, copies=self.keeps_overwritten, around=self._again)

        return run


def _takes_gradients(unit: nn.Module, arguments: list) -> bool:
    """Whether something learns in a block or before it; of others nothing is kept anyway."""
    return any(one.requires_grad for one in chain(unit.parameters(), tensors_in(arguments)))


def blocks_of(network: nn.Module) -> list[nn.Module]:
    """The outermost modules in a network's lists; of a sequence, which hosts walk through themselves, its members."""
    found: list[nn.Module] = []

    def look(module: nn.Module, is_listed: bool) -> None:
        is_list = isinstance(module, nn.ModuleList | nn.Sequential)
        if is_listed and not is_list and any(True for _ in module.parameters()):
            found.append(module)
            return
        for child in module.children():
            look(child, isinstance(module, nn.ModuleList) or is_listed and is_list)

    look(network, False)
    return found
