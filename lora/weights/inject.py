"""Trainable adapters inside any torch module: injected by name, ejected without a trace.

The layer keeps its weight and its name: a forward hook adds what the adapter says to the layer's output. So code that
looks at `layer.weight.dtype` keeps working, and ejecting the adapter removes a hook.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn
from torch.nn import Parameter
from torch.utils.hooks import RemovableHandle

from ..kinds.adapters import Adapter, LoRAError
from .trainable import TRAINABLE, Layer, Trainable, is_layer

CHILD = "low_rank"  # the name of the adapter inside its layer
_RECORD = "_lora_injection"  # the attribute of the module that holds its state before inject, for eject


@dataclass(frozen=True)
class Injection:
    """The result of `inject`: the layers' names, and how many values are trained and how many the module had before."""

    names: tuple[str, ...]
    trained: int
    total: int


@dataclass(frozen=True)
class _Record:
    """The module's state before inject; names are those of named_modules(), named_parameters(), named_buffers()."""

    layers: tuple[nn.Module, ...]
    hooks: tuple[RemovableHandle, ...]
    requires_grad: dict[str, bool]
    training: dict[str, bool]
    buffers: dict[str, Tensor]


def _add(layer: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
    low_rank = getattr(layer, CHILD)
    return output if low_rank.is_silent else output + low_rank(layer, args[0]).to(output.dtype)


def inject(
    module: nn.Module,
    patterns: str | Sequence[str],
    rank: int,
    alpha: float | None = None,
    *,
    dropout: float = 0.0,
    exclude: str | Sequence[str] = (),
    generator: torch.Generator | None = None,
    kind: str = "LoRA",
) -> Injection:
    """Put a trainable adapter beside every Linear and Conv2d (and subclasses) whose name fits; freeze all the rest.

    `patterns` and `exclude` are shell patterns (fnmatch, case matters) on the dotted names of `named_modules()`;
    `*` also spans dots: "*.mlp.fc?" or "vision_model.*". `alpha` None means alpha = rank, that is scale 1. `dropout`
    0 <= p < 1 is on the adapter's input. `generator` (CPU) makes the start reproducible. `kind` is one of `TRAINABLE`.
    Until training moves it, the module computes exactly what it did (a DoRA: to rounding). While injected,
    `module.parameters()` also has the adapters' parameters.

    Raises:
        LoRAError: a pattern that fits no layer, a layer that is never called (inside nn.MultiheadAttention), a second
            injection, numbers out of range, or weights that autograd cannot use (made under inference_mode).
    """
    alpha = float(rank if alpha is None else alpha)
    _check(module, rank, alpha, dropout)
    if kind not in TRAINABLE:
        raise LoRAError(f"the kind is {kind!r}: expected one of {', '.join(TRAINABLE)}")
    layers = _find(module, _as_list(patterns), _as_list(exclude))
    frozen = dict(module.named_parameters())
    total = sum(p.numel() for p in frozen.values())
    kept = {name: p.requires_grad for name, p in frozen.items()}
    training = {name: m.training for name, m in module.named_modules()}
    buffers = {name: b.detach().clone() for name, b in module.named_buffers()}
    make = TRAINABLE[kind]
    made = [make(layer, rank, alpha, dropout, generator).train(layer.training) for layer in layers.values()]
    for parameter in frozen.values():
        parameter.requires_grad_(False)
    for layer, low_rank in zip(layers.values(), made):
        layer.add_module(CHILD, low_rank)
    hooks = tuple(layer.register_forward_hook(_add) for layer in layers.values())
    setattr(module, _RECORD, _Record(tuple(layers.values()), hooks, kept, training, buffers))
    return Injection(tuple(layers), sum(p.numel() for p in parameters(module)), total)


def is_injected(module: nn.Module) -> bool:
    """Whether there are adapters that learn inside the module."""
    return any(isinstance(part, Trainable) for part in module.modules())


def parameters(module: nn.Module) -> list[nn.Parameter]:
    """The adapters' parameters, which an optimizer trains; empty where nothing is injected."""
    return [p for low_rank in _adapters(module).values() for p in low_rank.parameters()]


@contextmanager
def silenced(module: nn.Module) -> Iterator[None]:
    """Let the module compute what it does without its adapters, for as long as this is open."""
    found = list(_adapters(module).values())
    for low_rank in found:
        low_rank.is_silent = True
    try:
        yield
    finally:
        for low_rank in found:
            low_rank.is_silent = False


def set_training(module: nn.Module, training: bool) -> None:
    """Turn the adapters' dropout on or off, whatever mode the module is in."""
    for low_rank in _adapters(module).values():
        low_rank.train(training)


@contextmanager
def resting(module: nn.Module) -> Iterator[None]:
    """Have a module that learns as it is used: without its adapters' dropout and without gradients."""
    set_training(module, False)
    try:
        with torch.no_grad():
            yield
    finally:
        set_training(module, True)


def learned(module: nn.Module, names: Iterable[str]) -> dict[str, Parameter]:
    """The parameters of the adapters beside these layers, as "layer.part"."""
    return {
        f"{name}.{part}": one
        for name in names
        for part, one in getattr(module.get_submodule(name), CHILD).named_parameters()
    }


def collect(module: nn.Module) -> dict[str, Adapter]:
    """Copies of the adapters under their layers' names; further training does not change the copies."""
    return {name: trained.adapter() for name, trained in _adapters(module).items()}


def load(module: nn.Module, adapters: Mapping[str, Adapter]) -> None:
    """Load collected adapters into an injected module, to continue a training; the opposite of `collect`.

    Raises:
        LoRAError: other layers, another kind, rank or alpha than were injected; nothing is changed then.
    """
    own = _adapters(module)
    if odd := sorted(own.keys() ^ adapters.keys()):
        raise LoRAError(
            f"{len(odd)} layers are only in the module or only in the adapters, the first is {odd[0]}: "
            "inject with the same patterns as before"
        )
    for name, trained in own.items():
        if why := trained.misfit(adapters[name]):
            raise LoRAError(f"{name} {why}")
    for name, trained in own.items():
        trained.load_(adapters[name])


def eject(module: nn.Module) -> None:
    """Eject the adapters: modules, requires_grad, train/eval mode and buffers are as before inject, bit for bit.

    A module without adapters is left alone, so ejecting twice is fine. Call `collect` before.

    Raises:
        LoRAError: the adapters in it were injected through another (an outer or inner) module.
    """
    record = module.__dict__.get(_RECORD)
    if record is None:
        if inside := _adapters(module):
            raise LoRAError(
                f"the adapter of {next(iter(inside))} was injected through another module than this one: eject that one"
            )
        return
    for layer, hook in zip(record.layers, record.hooks):
        hook.remove()
        delattr(layer, CHILD)
    delattr(module, _RECORD)
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(record.requires_grad.get(name, parameter.requires_grad))
    for name, part in module.named_modules():
        part.training = record.training.get(name, part.training)
    with torch.no_grad():
        for name, buffer in module.named_buffers():
            if name in record.buffers:
                buffer.copy_(record.buffers[name])


def _adapters(module: nn.Module) -> dict[str, Trainable]:
    return {name.rpartition(".")[0]: part for name, part in module.named_modules() if isinstance(part, Trainable)}


def _as_list(patterns: str | Sequence[str]) -> list[str]:
    return [patterns] if isinstance(patterns, str) else list(patterns)


def _check(module: nn.Module, rank: int, alpha: float, dropout: float) -> None:
    if rank < 1 or not math.isfinite(alpha) or not 0.0 <= dropout < 1.0:
        raise LoRAError(
            f"rank is {rank}, alpha {alpha}, dropout {dropout}: expected rank >= 1, a finite alpha and 0 <= dropout < 1"
        )
    if inside := _adapters(module):
        raise LoRAError(f"{next(iter(inside))} has an adapter already: eject before injecting again")
    if torch.is_inference_mode_enabled() or any(p.is_inference() for p in module.parameters()):
        raise LoRAError(
            "the module or this call lives under torch.inference_mode, where nothing can be trained: "
            "copy the weights inside `with torch.inference_mode(False)` and inject there"
        )


def _find(module: nn.Module, patterns: list[str], exclude: list[str]) -> dict[str, Layer]:
    """The layers to wrap, in the module's order."""
    modules = {name: part for name, part in module.named_modules() if name}
    layers = {name: part for name, part in modules.items() if is_layer(part)}
    if not patterns:
        raise LoRAError('no name pattern was given: name the layers to train, "*" for all')
    found: dict[str, Layer] = {}
    for pattern in patterns:
        fits = [name for name in layers if fnmatchcase(name, pattern)]
        if not fits:
            raise LoRAError(_nothing(pattern, modules, layers))
        found.update((name, layers[name]) for name in fits if not any(fnmatchcase(name, e) for e in exclude))
    if not found:
        raise LoRAError(f"everything that fits {patterns} is excluded by {exclude}: nothing is left to train")
    for name in found:
        if isinstance(modules.get(name.rpartition(".")[0], module), nn.MultiheadAttention):
            raise LoRAError(
                f"{name} belongs to an nn.MultiheadAttention, which uses its weight without calling it, so "
                "an adapter there would do nothing: exclude it"
            )
    return {name: layer for name, layer in layers.items() if name in found}


def _nothing(pattern: str, modules: Mapping[str, nn.Module], layers: Mapping[str, nn.Module]) -> str:
    """The sentence for a pattern that fits no layer, with the nearest names."""
    others = [name for name in modules if fnmatchcase(name, pattern)]
    if others:
        kind = type(modules[others[0]]).__name__
        return f"{pattern!r} fits {others[0]}, which is {kind} and not a Linear or Conv2d: try {others[0] + '.*'!r}"
    near = get_close_matches(pattern, layers, n=3, cutoff=0.0)
    return f"{pattern!r} fits no layer of this module: the nearest names are {', '.join(near) or 'none at all'}"
