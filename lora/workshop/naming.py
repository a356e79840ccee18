"""The workshop's result under the names of a dialect: what the model's names tell, and what keeps its file's own."""

from collections.abc import Mapping

import torch

from ..formats.dialects import DIALECTS, STORED
from ..kinds.adapters import Adapter, LoRA, LoRAError
from ..kinds.whole import Difference
from ..models.conversion import rename
from ..models.places import Place
from .gathering import Gathered
from .outcome import adapter_of
from .thin import dense_thin


def named(
    gathered: Gathered, adapters: Mapping[Place, Adapter], dialect: str
) -> tuple[dict[str, Adapter], dict[Place, str]]:
    """Give the adapters a dialect's names. Returns module -> adapter, and place -> why it has no name there.

    A full difference becomes a LoRA of the weight's own rank where the dialect holds LoRA alone.

    Raises:
        LoRAError: the dialect is unknown, or has a name for none of them.
    """
    if dialect not in DIALECTS:
        raise LoRAError(f"the dialect is {dialect!r}: expected one of {', '.join(DIALECTS)}")
    holdable, unnamed = {}, {}
    for place, adapter in adapters.items():
        held = adapter if DIALECTS[dialect].alpha == STORED else _as_lora(adapter)
        if held is None:
            unnamed[place] = f"a change of a bias or norm, which {dialect} files cannot hold"
        else:
            holdable[place] = held
    of_model = {place: adapter for place, adapter in holdable.items() if place not in gathered.own}
    found: dict[str, Adapter] = {}
    if gathered.layout is not None and of_model:
        renamed = rename(of_model, gathered.layout.shapes, dialect)
        found |= renamed.named
        unnamed |= renamed.unnamed
    for place in gathered.own & holdable.keys():
        part = gathered.layers[place][0]
        if _speaks(gathered.sources[part.source].file.dialect, dialect) and part.module not in found:
            found[part.module] = holdable[place]
        else:
            unnamed[place] = f"no model is known that has {part.module}, so its name in {dialect} files is unknown"
    if not found:
        place, why = next(iter(unnamed.items()))
        raise LoRAError(f"none of the {len(adapters)} changes has a name in {dialect} files: {place}: {why}")
    return found, unnamed


def _speaks(own: str, dialect: str) -> bool:
    """Whether a name of a file of one dialect means the same in another one."""
    kohya = ("kohya", "lycoris", "onetrainer", "unknown")
    return own == dialect or (own in kohya and dialect in kohya)


def _as_lora(adapter: Adapter) -> Adapter | None:
    """The adapter, or the LoRA of the same change of a whole weight; None for the change of a vector."""
    if not isinstance(adapter, Difference):
        return adapter
    if adapter.value.ndim < 2:
        return None
    lora = adapter_of(dense_thin(adapter.value.float(), adapter.value.shape), torch.float32)
    return _cast(lora, adapter.value.dtype) if isinstance(lora, LoRA) else lora


def _cast(lora: LoRA, dtype: torch.dtype) -> LoRA:
    return LoRA(lora.up.to(dtype), lora.down.to(dtype), lora.alpha)
