"""All changes of one weight at once: thin factors side by side in one multiplication, the other kinds behind them."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .adapters import Adapter, LoRA, on_device
from .low_rank import stack


class Change(NamedTuple):
    adapter: Adapter
    strength: float


def apply_(weight: Tensor, changes: Sequence[Change], strength: float = 1.0, *, match_comfyui: bool = False) -> Tensor:
    """Writes the changes into a weight, each times its own strength and the common one.

    The plain LoRAs are added first, as one product in fp32 and, where the weight is fp32, without a second tensor of
    its size. The other kinds follow in their order, and those that depend on the weight see what came before. Another
    dtype is rounded once, at the end.

    [out, in, ...] -> the same tensor

    Raises:
        LoRAError: an adapter that does not fit.
    """
    total = weight if weight.dtype == torch.float32 else weight.float()
    plain = [change for change in changes if isinstance(change.adapter, LoRA)]
    with torch.no_grad():
        if plain:
            loras = [on_device(adapter, weight.device) for adapter, _ in plain]
            up, down = stack(loras, [own * strength for _, own in plain])
            if total.is_contiguous():
                total.view(len(total), -1).addmm_(up, down)
            else:
                total += (up @ down).view(total.shape)
        for adapter, own in changes:
            if not isinstance(adapter, LoRA):
                moved = on_device(adapter, weight.device)
                total += moved.delta(total, own * strength, match_comfyui=match_comfyui)
        return weight if total is weight else weight.copy_(total)
