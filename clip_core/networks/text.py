"""The text encoder of CLIP: token embeddings -> hidden states, the pooled state, and its projection into the shared
space.

Tensor names are those of Hugging Face's CLIPTextModelWithProjection. Source: Radford et al. 2021 (arXiv 2103.00020),
openai/CLIP clip/model.py. The layer that each diffusion model reads is in `families.py`.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..config import NORM_EPS, TextConfig
from .layers import Device, Dtype, Operations, Stack, activation_dtype, look_up

END = 49407  # the end token; the text is pooled there


@dataclass(frozen=True)
class TextOutput:
    hidden: Tensor  # [N, T, C], of the layer asked for
    pooled: Tensor  # [N, C], the last layer at the end token, always with the final norm
    projected: Tensor | None  # [N, E], pooled, in the space shared with images; None without a projection

    def require_projected(self) -> Tensor:
        """`projected`, [N, E].

        Raises:
            ValueError: the weights came without a projection.
        """
        if self.projected is None:
            raise ValueError(
                "the projected text embedding was asked for, but this text encoder came without a text_projection "
                "(the CLIP-L in SD1, SDXL, SD3 and Flux files has none); load one that has it, or use the pooled state"
            )
        return self.projected


class TextEmbeddings(nn.Module):
    """The tables of tokens and of positions."""

    def __init__(
        self,
        config: TextConfig,
        operations: Operations,
        device: Device,
        dtype: Dtype,
    ):
        super().__init__()
        self.token_embedding = operations.Embedding(config.vocab, config.width, device=device, dtype=dtype)
        self.position_embedding = operations.Embedding(config.context, config.width, device=device, dtype=dtype)

    def forward(self, embeds: Tensor) -> Tensor:
        """Add positions to token embeddings. [N, T, C] -> [N, T, C]"""
        positions = torch.arange(embeds.shape[1], device=embeds.device)
        return embeds + look_up(self.position_embedding, positions, embeds.dtype)


class TextTransformer(nn.Module):
    """The text encoder without its projection (`text_model` in HF's names)."""

    def __init__(
        self,
        config: TextConfig,
        operations: Operations = nn,
        device: Device = None,
        dtype: Dtype = None,
    ):
        super().__init__()
        self.config = config
        self.embeddings = TextEmbeddings(config, operations, device, dtype)
        self.encoder = Stack(
            *(config.layers, config.width, config.heads, config.mlp, config.activation),
            causal=True,
            operations=operations,
            device=device,
            dtype=dtype,
        )
        self.final_layer_norm = operations.LayerNorm(config.width, eps=NORM_EPS, device=device, dtype=dtype)

    def forward(
        self,
        embeds: Tensor,
        end: Tensor,
        layer: int | None = None,
        final_norm: bool = True,
        *,
        seen: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Hidden states and pooled state; for `layer`, `final_norm` and `seen` see `CLIPText.forward`.

        [N, T, C], [N], [N, T] bool -> [N, T, C], [N, C]
        """
        if embeds.shape[1] > self.config.context:
            raise ValueError(
                f"a text of {embeds.shape[1]} tokens was given, but this encoder has {self.config.context} places; "
                "split it into chunks first"
            )
        last, hidden = self.encoder(self.embeddings(embeds), layer, seen)
        rows = torch.arange(len(last), device=last.device)
        pooled = self.final_layer_norm(last[rows, end])
        return (self.final_layer_norm(hidden) if final_norm else hidden), pooled


def text_output(
    transformer: TextTransformer,
    projection: nn.Module | None,
    embeds: Tensor,
    end: Tensor,
    *,
    layer: int | None = None,
    final_norm: bool = True,
    seen: Tensor | None = None,
) -> TextOutput:
    """One pass through a text encoder and its projection. `projection` None: the output has no projected embedding."""
    hidden, pooled = transformer(embeds, end, layer, final_norm, seen=seen)
    return TextOutput(hidden, pooled, None if projection is None else projection(pooled))


def first_end(ids: Tensor) -> Tensor:
    """The position of each row's first end token; the last position of a row without one.

    openai/CLIP pools at the largest id, which is the same: 49407 is the largest there is. HF's `eos_token_id: 2`
    configs mean the same too.

    [N, T] -> [N]
    """
    found = ids == END  # [N, T]
    return torch.where(found.any(1), found.int().argmax(1), ids.shape[1] - 1)


def _mask_of_seen(unseen: Sequence[Collection[int]], embeds: Tensor) -> Tensor | None:
    """The mask of the tokens that attention goes to; None if it goes to all. -> [N, T] bool"""
    if not any(unseen):
        return None
    seen = torch.tensor([[position not in hidden for position in range(embeds.shape[1])] for hidden in unseen])
    return seen.to(embeds.device)


class CLIPText(nn.Module):
    """The text encoder with its projection. `has_projection` False: the projection's weights are a placeholder, and
    outputs have no projected embedding.
    """

    def __init__(
        self,
        config: TextConfig,
        operations: Operations = nn,
        device: Device = None,
        dtype: Dtype = None,
        *,
        has_projection: bool = True,
    ):
        super().__init__()
        self.config, self.has_projection = config, has_projection
        self.text_model = TextTransformer(config, operations, device, dtype)
        self.text_projection = operations.Linear(config.width, config.embed, bias=False, device=device, dtype=dtype)

    def embed(self, ids: Tensor) -> Tensor:
        """Look up token embeddings, without positions, in the activations' type and on the device of `ids`.

        [N, T] -> [N, T, C]
        """
        text = self.text_model
        return look_up(text.embeddings.token_embedding, ids, activation_dtype(text.final_layer_norm))

    def forward(
        self,
        embeds: Tensor,
        end: Tensor,
        layer: int | None = None,
        final_norm: bool = True,
        *,
        seen: Tensor | None = None,
    ) -> TextOutput:
        """Encode token embeddings: those of `embed`, with learned embeddings among them. All arithmetic is of their
        type.

        `end` is the position of the token to pool, see `first_end`. `layer` chooses `hidden` as HF's `hidden_states`
        are counted: 0 before the first block, -2 after the last but one, None or -1 after the last. `final_norm` puts
        the final norm on it, whatever the layer. `seen` False masks a token: no query attends to it. The first token
        has to be seen, as it attends to itself alone.

        [N, T, C], [N], [N, T] bool -> TextOutput
        """
        projection = self.text_projection if self.has_projection else None
        return text_output(self.text_model, projection, embeds, end, layer=layer, final_norm=final_norm, seen=seen)

    def encode_rows(
        self,
        rows: Sequence[Sequence[int | Tensor]],
        unseen: Sequence[Collection[int]] = (),
        *,
        layer: int | None = None,
        final_norm: bool = True,
        device: Device = None,
    ) -> TextOutput:
        """Encode rows of T tokens, each an id or a learned vector [C].

        `unseen` holds, for each row, the positions that attention does not go to. `device` computes; None: the token
        table's. `layer`, `final_norm`: as in `forward`.

        Raises:
            ValueError: a learned vector is of another width than the encoder's.
        """
        embeds, end = self._embed_rows(rows, device)
        return self(embeds, end, layer=layer, final_norm=final_norm, seen=_mask_of_seen(unseen, embeds))

    def _embed_rows(self, rows: Sequence[Sequence[int | Tensor]], device: Device) -> tuple[Tensor, Tensor]:
        """Embeddings of rows, learned vectors among them, and the position of each row's end token, both on `device`.

        Tokens are looked up on their table's own device, and their rows alone are moved: 0.2 MB for a row of 77 tokens
        in place of CLIP-L's table of 76 MB.

        -> [N, T, C], [N]
        """
        table_device = self.text_model.embeddings.token_embedding.weight.device
        device = table_device if device is None else device
        # 0 is the placeholder of a learned vector; any id but the end token's would do
        ids = torch.tensor([[token if isinstance(token, int) else 0 for token in row] for row in rows])
        embeds = self.embed(ids.to(table_device))
        learned = [
            (number, position, token.reshape(-1))
            for number, row in enumerate(rows)
            for position, token in enumerate(row)
            if not isinstance(token, int)
        ]
        for _, _, vector in learned:
            if vector.numel() != embeds.shape[-1]:
                raise ValueError(
                    f"a learned embedding has {vector.numel()} numbers a vector and this text encoder works with "
                    f"{embeds.shape[-1]}; use one that was trained for it"
                )
        if learned:
            numbers, positions, vectors = zip(*learned)
            together = torch.stack([vector.to(vectors[0].device, embeds.dtype) for vector in vectors])
            embeds[list(numbers), list(positions)] = together.to(embeds.device)
        return embeds.to(device), first_end(ids).to(device)
