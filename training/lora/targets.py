"""Which layers of a diffusion model are trained: by kind, and by blocks as the LoRA stack names them."""

from torch import nn

from ...lora.models.blocks import select
from ...lora.weights.trainable import is_layer, is_linear, sides_of
from .trainee import LearningText

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
    """The layers inside the network's repeated blocks that are trained, by name; see `chosen_of_both`."""
    return chosen_of_both(network, None, kind, blocks, rank)[0]


def chosen_of_both(
    network: nn.Module, text: LearningText | None, kind: str, blocks: str, rank: int
) -> tuple[dict[str, nn.Module], dict[str, nn.Module]]:
    """The layers inside the repeated blocks of a network, and of the text encoder that learns beside it, that are
    trained: by name, in the networks' order.

    Args:
        kind: of TARGETS. What lies outside of every stack of blocks (the way in, the way out, the embedding of the
            noise level) is not trained: other programs do not expect it.
        blocks: selectors as in LoRA Stack; what has a strength of 0 is left out.

    Raises:
        TargetError: an unknown kind, or nothing is left of one of them.
        LoRAError: a selector that reaches nothing.
    """
    if kind not in TARGETS:
        raise TargetError(f"layers are chosen as {', '.join(TARGETS)}, not {kind!r}: choose one of those")
    own = {_key(name): (name, layer) for name, layer in _fitting(network, kind, rank).items()}
    of_text = {}
    if text is not None:
        fitting = _fitting(text.network, kind, rank).items()
        of_text = {_text_key(name): (name, one) for name, one in fitting if name.partition(".")[0] in text.encoders}
    if blocks.strip():
        strengths = select(blocks, [*own, *of_text]).strengths
        own, of_text = ({key: pair for key, pair in some.items() if strengths[key]} for some in (own, of_text))
    asked = f"{kind!r}" + (f" and {blocks!r}" if blocks.strip() else "")
    if not own:
        raise TargetError(f"no layer of this model is chosen by {asked}: choose more kinds or other blocks")
    if text is not None and not of_text:
        raise TargetError(
            f"no layer of this text encoder is chosen by {asked}: choose other blocks, or set text_encoder_rate to 0"
        )
    return dict(own.values()), dict(of_text.values())


def _fitting(network: nn.Module, kind: str, rank: int) -> dict[str, nn.Module]:
    """The layers of a kind in the network's stacks that are wide enough, by name."""
    fits = is_layer if kind == ALL else is_linear
    inside = _in_stacks(network)
    return {
        name: layer
        for name, layer in network.named_modules()
        if fits(layer)
        and any(name.startswith(stack) for stack in inside)
        and (kind != ATTENTION or any(part in name.lower() for part in _ATTENTION))
        and min(sides_of(layer)) >= max(_LEAST_WIDTH, 2 * rank if rank < _LEAST_WIDTH else _LEAST_WIDTH)
    }


def _in_stacks(network: nn.Module) -> list[str]:
    """The beginnings of the names of what lies in a list of blocks."""
    return [f"{name}." for name, module in network.named_modules() if isinstance(module, nn.ModuleList) and name]


def _key(name: str) -> str:
    return f"{PREFIX}{name}.weight"


def _text_key(name: str) -> str:
    return f"{name}.weight"
