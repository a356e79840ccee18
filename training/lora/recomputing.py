"""Gradient checkpointing: what a block computes inside is not kept, but computed again for the backward pass.

The units are the blocks in a network's lists (transformer blocks, the layers of a U-Net's stages), never the network as
a whole, which would save nothing (Chen et al., arXiv 1604.06174, for the trade).
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

OFF, ON, AUTO = "off", "on", "auto"
WAYS = (AUTO, ON, OFF)  # auto: from when memory has run out


class Recomputing:
    """A switch: while `is_on`, the blocks of a network are computed again in the backward pass."""

    def __init__(self, is_on: bool):
        self.is_on = is_on

    def turn_on(self) -> bool:
        """Whether that was news."""
        was, self.is_on = self.is_on, True
        return not was

    @contextmanager
    def over(self, network: nn.Module) -> Iterator[None]:
        """Put the switch on a network's blocks, and take it away at the end."""
        units = [(unit, unit.__dict__.get("forward")) for unit in blocks_of(network)]  # another's, where one is there
        for unit, _ in units:
            unit.forward = self._switched(unit.forward)  # type: ignore[method-assign]
        try:
            yield
        finally:
            for unit, before in units:
                del unit.forward
                if before is not None:
                    unit.forward = before

    def _switched(self, forward):
        def run(*given, **named):
            if not self.is_on or not torch.is_grad_enabled():
                return forward(*given, **named)
            return checkpoint(_again(forward, given, named), *given, use_reentrant=False, **named)

        return run


def _again(forward, given: tuple, named: dict):
    """The function, which is told the second time what the tables among its arguments held the first time: hosts write
    into theirs where they are.
    """
    tables = {place: dict(value) for place, value in enumerate(given) if isinstance(value, dict)}
    tables_named = {name: dict(value) for name, value in named.items() if isinstance(value, dict)}
    is_first = [True]

    def run(*given_now, **named_now):
        if is_first:
            is_first.clear()
            return forward(*given_now, **named_now)
        given_then = [dict(tables[place]) if place in tables else one for place, one in enumerate(given_now)]
        return forward(*given_then, **{**named_now, **{name: dict(table) for name, table in tables_named.items()}})

    return run


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
