"""What a token's emphasis does to its encoding: STYLES, from a name to a function.

A style takes the encodings of all chunks, the chunks, and `encode`, with which it can have further chunks encoded.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .chunks import Chunk, empty_chunk

Encode = Callable[[Sequence[Chunk]], Tensor]  # chunks -> hidden states [n, T, C]
Style = Callable[[Tensor, Sequence[Chunk], Encode, int], Tensor]


def comfy(hidden: Tensor, chunks: Sequence[Chunk], encode: Encode, pad: int) -> Tensor:
    """ComfyUI's: each token is moved from the empty prompt's encoding at its place, or towards it: z0 + w (z - z0).

    A token with emphasis 1 keeps its bits. [N, T, C] -> [N, T, C]
    """
    emphasis = torch.tensor([[token.emphasis for token in chunk] for chunk in chunks], dtype=torch.float64)
    if not emphasis.isfinite().all():
        raise ValueError("the prompt has an emphasis that is no finite number; write weights as in (word:1.2)")
    if (emphasis == 1).all():
        return hidden
    weight = emphasis.to(hidden)[..., None]                                     # [N, T, 1]
    empty = encode([empty_chunk(pad, len(chunks[0]))])                          # [1, T, C]
    return torch.where(weight == 1, hidden, (hidden - empty) * weight + empty)


STYLES: dict[str, Style] = {"comfy": comfy}
