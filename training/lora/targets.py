"""Which layers of a diffusion model are trained: by kind, and by blocks as the LoRA stack names them."""

from collections.abc import Iterable

from torch import nn

from ...lora.models.blocks import select
from ...lora.weights.trainable import is_layer, is_linear, sides_of

ATTENTION, LINEAR, ALL = "attention", "linear", "linear and convolution"
TARGETS = (LINEAR, ATTENTION, ALL)
PREFIX = "diffusion_model."  # of the network's tensors in a host's MODEL
_ATTENTION = ("attn", "attention", "to_q", "to_k", "to_v", "to_out", "qkv")
KINDS = {"LoRA": "LoRA", "LoCon": "LoRA", "DoRA": "DoRA", "LoKr": "LoKr"}  # of adapters -> their name in `lora`
_LEAST_WIDTH = 8  # of a layer: a rank has to be less


def targets_of(kind: str, targets: str) -> str:
    """Which layers a kind of adapter stands beside: a LoCon is a LoRA on convolutions, too."""
    return ALL if kind == "LoCon" and targets == LINEAR else targets


class TargetError(ValueError):
    """No layer is chosen; the message is one sentence for the user."""


def chosen_layers(network: nn.Module, kind: str, blocks: str, rank: int) -> dict[str, nn.Module]:
    """The layers inside the network's repeated blocks that are trained, by name, in the network's order.

    Args:
        kind: of TARGETS. What lies outside of every stack of blocks (the way in, the way out, the embedding of the
            noise level) is not trained: other programs do not expect it.
        blocks: selectors as in LoRA Stack; what has a strength of 0 is left out.

    Raises:
        TargetError: an unknown kind, or nothing is left.
        LoRAError: a selector that reaches nothing.
    """
    if kind not in TARGETS:
        raise TargetError(f"layers are chosen as {', '.join(TARGETS)}, not {kind!r}: choose one of those")
    fits = is_layer if kind == ALL else is_linear
    inside = _in_stacks(network)
    found: dict[str, nn.Module] = {
        name: layer
        for name, layer in network.named_modules()
        if fits(layer)
        and any(name.startswith(stack) for stack in inside)
        and (kind != ATTENTION or any(part in name.lower() for part in _ATTENTION))
        and min(sides_of(layer)) >= max(_LEAST_WIDTH, 2 * rank if rank < _LEAST_WIDTH else _LEAST_WIDTH)
    }
    if blocks.strip():
        strengths = select(blocks, _keys(found)).strengths
        found = {name: layer for name, layer in found.items() if strengths[_key(name)]}
    if not found:
        raise TargetError(
            f"no layer of this model is chosen by {kind!r}"
            + (f" and {blocks!r}" if blocks.strip() else "")
            + ": choose more kinds or other blocks"
        )
    return found


def _in_stacks(network: nn.Module) -> list[str]:
    """The beginnings of the names of what lies in a list of blocks."""
    return [f"{name}." for name, module in network.named_modules() if isinstance(module, nn.ModuleList) and name]


def _key(name: str) -> str:
    return f"{PREFIX}{name}.weight"


def _keys(names: Iterable[str]) -> list[str]:
    return [_key(name) for name in names]
