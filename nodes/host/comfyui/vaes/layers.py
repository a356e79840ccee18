"""Networks of ComfyUI whose weights are not where their modules say: streamed to the card layer by layer (Dynamic VRAM
of 0.33), or loaded in part (low VRAM).

Such weights must not be copied out of the modules, or moved by hand: only the host's own layer knows how to bring
them, with their patches, when it runs. So our network is given the very layers of the host's.
"""

from __future__ import annotations

from functools import lru_cache

import comfy.ops
from comfy.ldm.models.autoencoder import AutoencodingEngine
from comfy.ldm.wan import vae as wan
from comfy.ldm.wan import vae2_2 as wan2_2
from comfy.model_patcher import ModelPatcher
from comfy.taesd.taesd import TAESD
from torch import Tensor, nn

from .....vae_core.checkpoint.find import LayoutError, VAESource, find_vae
from .....vae_core.networks.wan_layers import ChannelNorm
from .....vae_core.tiling.network import VAENetwork

Stock = AutoencodingEngine | TAESD | wan.WanVAE | wan2_2.WanVAE
_HOST_LAYERS = {
    nn.Conv2d: comfy.ops.disable_weight_init.Conv2d,
    nn.Conv3d: comfy.ops.disable_weight_init.Conv3d,
    nn.GroupNorm: comfy.ops.disable_weight_init.GroupNorm,
}
_GEOMETRY = {  # what a layer computes, beside its weights
    nn.Conv2d: "in_channels out_channels kernel_size stride padding dilation groups padding_mode".split(),
    nn.Conv3d: "in_channels out_channels kernel_size stride dilation groups".split(),  # its padding is a forward's
    nn.GroupNorm: "num_groups num_channels eps".split(),
}


def streams(patcher: ModelPatcher) -> bool:
    """Whether this patcher streams weights to the card (Dynamic VRAM, from 0.33 on)."""
    is_dynamic = getattr(patcher, "is_dynamic", None)
    return is_dynamic is not None and is_dynamic()


def network_over(stock: Stock) -> VAENetwork | None:
    """Our network over the layers of a stock VAE, which its patcher has loaded: nothing is copied, and each weight is
    brought, patched and cast by the host's layer it belongs to. Takes pixels and latents of any float type. None for a
    VAE that our networks do not describe.
    """
    state = stock.state_dict()
    try:
        source = find_vae({name: tuple(tensor.shape) for name, tensor in state.items()})
    except LayoutError:
        return None
    ours = source.build(operations=comfy.ops.manual_cast, device="meta").eval()
    theirs = {new: old for old, new in source.renames.items()}
    for name, layer in list(ours.named_modules()):
        if isinstance(layer, ChannelNorm):
            # the host itself casts its one parameter at use
            same = stock.get_submodule(theirs[f"{name}.gamma"].rpartition(".")[0])
            object.__setattr__(layer, "__dict__", same.__dict__)
        if not isinstance(layer, tuple(_HOST_LAYERS)):
            continue
        same = _same_layer(stock.get_submodule(theirs[f"{name}.weight"].rpartition(".")[0]), layer)
        if same is None:
            return None
        parent, _, leaf = name.rpartition(".")
        ours.get_submodule(parent).register_module(leaf, same)
    _take_buffers(ours, state, source)
    return ours


def _same_layer(theirs: nn.Module, mine: nn.Module) -> nn.Module | None:
    """Our kind of layer over all that the host's layer has now or will have (one `__dict__`: weights, patches, its
    place in the streamed memory, hooks), or None where the two do not compute the same.
    """
    kind = next(kind for kind in _HOST_LAYERS if isinstance(mine, kind))
    if not isinstance(theirs, _HOST_LAYERS[kind]):
        return None
    if any(getattr(theirs, name) != getattr(mine, name) for name in _GEOMETRY[kind]):
        return None
    same = object.__new__(_casting(type(mine)))
    object.__setattr__(same, "__dict__", theirs.__dict__)
    return same


@lru_cache(maxsize=16)
def _casting(kind: type[nn.Module]) -> type[nn.Module]:
    """The layer as it works while its weights are cast at use, whatever the host has set for the stock VAE's own way,
    which is to keep the weights in the type of its input.
    """

    class CastingLayer(kind):
        def forward(self, x: Tensor) -> Tensor:
            return self.forward_comfy_cast_weights(x)

    return CastingLayer


def _take_buffers(ours: VAENetwork, state: dict[str, Tensor], source: VAESource) -> None:
    """The few numbers that belong to no layer (FLUX.2's statistics, a TAESD's scale and shift), as they are now."""
    values = source.translate(state)
    for name, _ in list(ours.named_buffers()):
        owner, _, leaf = name.rpartition(".")
        ours.get_submodule(owner).register_buffer(leaf, values[name].detach())
