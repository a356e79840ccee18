"""LoRAs on plain networks: copies whose changed weights are their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from torch import Tensor, nn

from ....lora.models.match import key_of, part_of
from ....lora.models.places import Place
from ....lora.weights.fusing import Change
from ....lora.weights.measuring import Kept, Size, Stored
from ....lora.weights.patching import part_norms, part_sizes, with_patches
from ..shared.clip_vision import marked
from .clip import StandaloneClip, StandaloneClipModel


def _network(target: StandaloneClip | StandaloneClipModel) -> nn.Module:
    return target.towers if isinstance(target, StandaloneClip) else target.network


def weights(target: StandaloneClip | StandaloneClipModel) -> dict[str, tuple[int, ...]]:
    return {name: tuple(weight.shape) for name, weight in _network(target).state_dict().items()}


def sizes(target: StandaloneClip | StandaloneClipModel, places: Sequence[Place]) -> dict[Place, Size]:
    network = _network(target)
    state = network.state_dict()
    return part_sizes(network, places, lambda place: Stored(part_of(state[key_of(place)], place)))


def packed_by(target: StandaloneClip | StandaloneClipModel) -> str:
    return ""


def kept(target: StandaloneClip | StandaloneClipModel, changes: Mapping[Place, Sequence[Change]]) -> Kept | None:
    return None  # these networks have 16 bits a number at least


def norms(
    target: StandaloneClip | StandaloneClipModel, places: Sequence[Place], on_step: Callable[[int, int], None]
) -> dict[Place, float]:
    state = _network(target).state_dict()
    return part_norms(places, lambda key: state[key], on_step)


def base_weight(target: StandaloneClip | StandaloneClipModel, key: str, *, changed: bool = False) -> Tensor:
    network = _network(target)
    own = network if changed or isinstance(target, StandaloneClip) or target.unpatched is None else target.unpatched
    return own.state_dict()[key].detach()


def patched(
    target: StandaloneClip | StandaloneClipModel,
    changes: Mapping[Place, Sequence[Change]],
    *,
    match_comfyui: bool = False,
):
    network = with_patches(_network(target), changes, match_comfyui=match_comfyui)
    if isinstance(target, StandaloneClip):
        return replace(target, towers=network, identity=object())
    unpatched, marks = target.unpatched or target.network, marked(target.marks, changes)
    return replace(target, network=network, identity=object(), unpatched=unpatched, marks=marks)
