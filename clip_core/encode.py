"""The way in: a prompt through one text encoder, of any length, with its emphases, and a report of what became of
it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from . import prompt
from .chunks import Chunk, Encodes, FindEmbedding, Packed, pack
from .emphasis import STYLES
from .layers import activation_dtype
from .text import CLIPText, first_end
from .tokenizer import END


@dataclass(frozen=True)
class PromptEncoding:
    hidden: Tensor  # [1, 77 * chunks, C]
    pooled: Tensor  # [1, C], or [1, E] if projected
    packed: Packed  # the tokens, and the embeddings found and missing


def encode_prompt(
    text: str,
    model: CLIPText,
    tokenizer: Encodes,
    *,
    layer: int | None = None,
    final_norm: bool = True,
    projected: bool = False,
    pad: int = END,
    style: str = "comfy",
    find_embedding: FindEmbedding | None = None,
) -> PromptEncoding:
    """Encode a prompt as one encoder of a diffusion family reads it; see `families` for what each of them wants."""
    packed = pack(prompt.parse(text), tokenizer, pad, find_embedding, context=model.config.context)
    hidden, pooled = encode_chunks(
        model, packed.chunks, layer, final_norm, projected=projected, pad=pad, style=style
    )
    return PromptEncoding(hidden, pooled, packed)


def encode_chunks(
    model: CLIPText,
    chunks: Sequence[Chunk],
    layer: int | None = None,
    final_norm: bool = True,
    *,
    projected: bool = False,
    pad: int = END,
    style: str = "comfy",
) -> tuple[Tensor, Tensor]:
    """The hidden states of all chunks in a row, with their emphases, and the pooled vector of the first chunk, without.

    `layer` None is the last one and always normed; otherwise `final_norm` decides. `projected`: the pooled vector
    goes through the projection. `pad` is what the empty prompt is padded with. -> float32 [1, T * chunks, C], [1, C]
    or [1, E]

    Raises:
        ValueError: there are no chunks, a vector has another width than the encoder, or `projected` without a
        projection.
    """
    if not chunks:
        raise ValueError("there is nothing to encode; an empty prompt is one chunk of start, end and padding")
    normed = final_norm or layer is None

    def run(rows: Sequence[Chunk]):
        return model(*_embedded(model, rows), layer=layer, final_norm=normed)

    output = run(chunks)
    hidden = STYLES[style](output.hidden.float(), chunks, lambda rows: run(rows).hidden.float(), pad)
    pooled = output.require_projected() if projected else output.pooled
    return hidden.flatten(0, 1)[None], pooled[:1].float()


def _embedded(model: CLIPText, chunks: Sequence[Chunk]) -> tuple[Tensor, Tensor]:
    """Token embeddings with the learned vectors in their places, and where each chunk ends. -> [N, T, C], [N]"""
    device = model.text_model.embeddings.token_embedding.weight.device
    # 0 stands where a learned vector goes; it is no end token, which is all that matters here
    ids = torch.tensor([[t.id if isinstance(t.id, int) else 0 for t in chunk] for chunk in chunks], device=device)
    embeds = model.embed(ids).to(activation_dtype(model.text_model.final_layer_norm))
    for row, chunk in enumerate(chunks):
        for place, token in enumerate(chunk):
            if not isinstance(token.id, int):
                if token.id.numel() != embeds.shape[-1]:
                    raise ValueError(
                        f"a learned embedding has {token.id.numel()} numbers a vector and this text encoder works with "
                        f"{embeds.shape[-1]}; use one that was trained for it"
                    )
                embeds[row, place] = token.id.reshape(-1).to(embeds)
    return embeds, first_end(ids)
