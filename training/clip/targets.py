"""Which numbers of a CLIP are trained: both encoders or one, all blocks or some, or a LoRA beside some layers."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

from torch import nn
from torch.nn import Parameter

from ...clip_core.networks.clip import CLIP
from ...clip_core.networks.resnet import ResNet
from ...lora.weights.trainable import is_layer
from .plan import BOTH, IMAGE, LAYERS, TEXT, ClipPlan

_TOWERS = {TEXT: ("text_model.", "text_projection."), IMAGE: ("vision_model.", "visual_projection.")}
SCALE, BIAS = "logit_scale", "logit_bias"


class ClipTargetError(ValueError):
    """Nothing is chosen, or what cannot be trained; the message is one sentence for the user."""


def trains(plan: ClipPlan, tower: str) -> bool:
    """Whether this encoder, TEXT or IMAGE, learns."""
    return plan.towers in (BOTH, tower)


def trained_parameters(model: CLIP, plan: ClipPlan) -> dict[str, Parameter]:
    """The parameters of the model itself that a plan without a LoRA trains, by name, in the model's order.

    Raises:
        ClipTargetError: nothing is chosen.
    """
    chosen = set(_chosen([name for name, _ in model.named_parameters()], model, plan))
    if not chosen:
        raise ClipTargetError(f"blocks is {plan.blocks!r}, which fits no weight of this CLIP: choose others")
    found = {name: one for name, one in model.named_parameters() if name in chosen}
    return found | scale_parameters(model, plan)


def scale_parameters(model: CLIP, plan: ClipPlan) -> dict[str, Parameter]:
    """The factor on cosines, and a SigLIP's bias, where they learn."""
    own = dict(model.named_parameters())
    return {name: own[name] for name in (SCALE, BIAS) if plan.train_scale and name in own}


def lora_layers(model: CLIP, plan: ClipPlan) -> list[str]:
    """The names of the layers that get a LoRA.

    Raises:
        ClipTargetError: there is none.
    """
    names = [
        name
        for name, part in model.named_modules()
        if is_layer(part) and ".encoder.layers." in name and name.rpartition(".")[2] in LAYERS[plan.layers]
    ]
    if not (chosen := _chosen(names, model, plan)):
        raise ClipTargetError(
            f"no layer of this CLIP is chosen for a LoRA (encoders: {plan.towers}, blocks: {plan.blocks or 'all'}): "
            "choose others"
        )
    return chosen


def rates(model: CLIP, names: Iterable[str], decay: float) -> dict[str, float]:
    """The factor on each parameter's learning rate: `decay` once for each block above it (its encoder's last norm and
    projection count as one), for those that are not 1.
    """
    found = {}
    for name in names:
        tower = next((tower for tower, starts in _TOWERS.items() if name.startswith(starts)), None)
        if tower is not None and decay != 1:
            found[name] = decay ** _above(name, _depth(model, tower))
    return {name: rate for name, rate in found.items() if rate != 1}


def _above(name: str, depth: int) -> int:
    """The number of blocks above a parameter: 0 for the last norm and the projection."""
    number = _block_of(name)
    if number is not None:
        return depth - number
    is_last = "encoder" not in name and "embedding" not in name and "pre_layrnorm" not in name
    return 0 if is_last else depth + 1


def _block_of(name: str) -> int | None:
    """The number of the block that a name lies in, from 0."""
    _, found, rest = name.partition(".encoder.layers.")
    return int(rest.partition(".")[0]) if found else None


def _depth(model: CLIP, tower: str) -> int:
    """How many blocks an encoder has."""
    network: nn.Module = model.text_model if tower == TEXT else model.vision_model
    return 1 + max((_block_of(f".{name}") or 0 for name, _ in network.named_parameters()), default=-1)


def _chosen(names: Iterable[str], model: CLIP, plan: ClipPlan) -> list[str]:
    """Those of the names that the plan's encoders and blocks choose."""
    starts = tuple(start for tower, some in _TOWERS.items() if trains(plan, tower) for start in some)
    own = [name for name in names if name.startswith(starts)]
    blocks = plan.blocks.strip()
    if not blocks:
        return own
    if blocks.isdecimal():
        if isinstance(model.vision_model, ResNet) and trains(plan, IMAGE):
            raise ClipTargetError(
                f"blocks is {blocks}, and this image encoder is a ResNet, whose blocks have no numbers: give names "
                "such as vision_model.layer4.*"
            )
        kept = int(blocks)
        depth = {tower: _depth(model, tower) for tower in _TOWERS}
        return [name for name in own if _above(name, depth[_tower_of(name)]) <= kept]
    patterns = [one.strip() for one in blocks.split(",") if one.strip()]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in own):
            example = next(iter(own), "none")
            raise ClipTargetError(f"blocks has {pattern!r}, which fits no name; a name is {example}: change it")
    return [name for name in own if any(fnmatchcase(name, pattern) for pattern in patterns)]


def _tower_of(name: str) -> str:
    return TEXT if name.startswith(_TOWERS[TEXT]) else IMAGE
