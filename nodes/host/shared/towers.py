"""The text encoders of one family as one network, and the tokenizer that goes with it: what a host's CLIP object
holds; and the stand-ins with which any family, ComfyUI's SD1, SDXL, SD3 and Flux classes too, encodes our way.

The parameter names (`clip_l.transformer.text_model...`) are ComfyUI's: its LoRA loaders, CLIPSave and merging nodes
find them. The token lists ({"l": [[(id or vector, weight), ...77], ...]}) are ComfyUI's too, so each side's nodes
can encode the other's.

A family asks each of its encoders to encode its tokens, and joins their results its own way. We give a shallow copy of
it in which stand-ins answer for the CLIP encoders; T5 and the like answer for themselves. The family is not changed.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ....clip_core.checkpoint.find import TextSource
from ....clip_core.encoding.encode import Runner, encode_chunks
from ....clip_core.encoding.rows import RowCache
from ....clip_core.families import EncoderUse, Family
from ....clip_core.prompts import chunks, comfy
from ....clip_core.prompts.chunks import Packed, Token, empty_chunk
from ....clip_core.prompts.plan import Port
from ....clip_core.tokenizer import Tokenizer

DTYPES = {"auto": None, "fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
TokenLists = dict[str, list[list[tuple]]]
CACHE_BYTES = 128 << 20  # of encoded rows: 0.24 MB each for CLIP-L, 0.39 MB for bigG
ROWS = RowCache(CACHE_BYTES)


@dataclass(frozen=True)
class TextEncoders:
    """The CLIP encoders behind a CLIP object, and the names of those that the host reads by itself (T5, LLaMA)."""

    ports: tuple[Port, ...]
    others: tuple[str, ...] = ()


def as_dtype(name: str) -> torch.dtype | None:
    """The type a dtype widget means; None leaves the choice to the host."""
    return DTYPES[name]


def name_of_dtype(dtype: torch.dtype) -> str:
    """The name of a type in a dtype widget; "auto" for one that it does not offer."""
    return next((name for name, one in DTYPES.items() if one == dtype), "auto")


def load_as(network: nn.Module, state: Mapping[str, Tensor], dtype: torch.dtype | None, *, strict: bool = True):
    """Load a state dict into a network made in `dtype` (None: torch's own); every tensor ends in the type that the
    network has for it. Layers that load in their own way (ComfyUI's, which under Dynamic VRAM have no weight before:
    comfy/ops.py `_lazy_load_from_state_dict`) may keep the file's types, so what they get is cast before.

    -> what was missing and what was unexpected, as `load_state_dict`
    """
    dtype = dtype or torch.get_default_dtype()
    there = dict(network.named_modules())
    usual = nn.Module._load_from_state_dict

    def cast(name: str, tensor: Tensor) -> Tensor:
        layer = there.get(name.rpartition(".")[0])
        return tensor if layer is None or type(layer)._load_from_state_dict is usual else tensor.to(dtype)

    return network.load_state_dict({name: cast(name, tensor) for name, tensor in state.items()}, strict=strict)


class Tower(nn.Module):
    """One text encoder and how the family reads it."""

    def __init__(self, use: EncoderUse, source: TextSource, operations, device, dtype):
        super().__init__()
        self.use, self.layers = use, source.config.layers
        self.transformer = source.build(operations, device, dtype)
        config = source.config
        self.port = Port(use.encoder, use.key, config.width, use.pad, config.context, config.layers)
        self.reset()

    def reset(self) -> None:
        self.layer, self.projected = self.use.layer, self.use.projected
        self.execution_device = None

    def choose(self, options: Mapping[str, object]) -> None:
        """ComfyUI's `layer`, `projected_pooled` and, from 0.33, `execution_device`: where to compute, although the
        weights may lie elsewhere. A layer beyond the first block means the last one, as in its encoders.
        """
        self.projected = options.get("projected_pooled", self.projected)
        self.execution_device = options.get("execution_device", self.execution_device)
        layer = options.get("layer", self.layer)
        self.layer = None if layer is None or abs(layer) > self.layers else layer

    def run(self, device: torch.device | None = None) -> Runner:
        """A pass of this encoder, as the family and the options of the moment read it. `device` computes if the
        options name none; None: where the token table lies.
        """
        device = self.execution_device or device
        return Runner(self.transformer, self.layer, self.use.final_norm, self.projected, device)

    def encode_token_weights(
        self, pairs: Sequence[Sequence[tuple]], device: torch.device | None = None
    ) -> tuple[Tensor, Tensor]:
        """One list of (id or vector, weight, ...) for each chunk of 77 -> [1, 77 * chunks, C], [1, C or E]"""
        chunks = [[Token(pair[0], pair[1]) for pair in row] for row in pairs]
        empty = empty_chunk(self.use.pad, len(chunks[0])) if chunks else None
        encoding = encode_chunks(self.run(device), chunks, empty=empty)
        return encoding.hidden, encoding.pooled


class Towers(nn.Module):
    """The text encoders of one family, under the names ComfyUI gives them. `results_device` says, each time, where
    their results are wanted; None: where they are computed.
    """

    # ComfyUI >= 0.30: an ordinary patcher, which may still load in part. All layers here are ones that its streaming
    # patcher knows, but hooks (SetClipHooks) clone without streaming, and for a network that no loader of ComfyUI made
    # that clone raises "cached_patcher_init is not initialized" (comfy/model_patcher.py `clone`, 0.33.0).
    disable_offload = True

    def __init__(
        self,
        family: Family,
        sources: Sequence[TextSource],
        operations=nn,
        device=None,
        dtype=None,
        *,
        results_device: Callable[[], torch.device] | None = None,
    ):
        super().__init__()
        self.family, self._results_device = family, results_device
        self.dtypes, self._dtype = {dtype}, dtype
        for use, source in zip(family.uses, sources):
            setattr(self, use.encoder, Tower(use, source, operations, device, dtype))
        self.requires_grad_(False).eval()

    def towers(self) -> list[Tower]:
        return [getattr(self, use.encoder) for use in self.family.uses]

    def load_parts(self, states: Sequence[Mapping[str, Tensor]]) -> None:
        """One state dict for each use of the family, complete."""
        for tower, state in zip(self.towers(), states):
            load_as(tower.transformer, state, self._dtype)

    def load_sd(self, state: Mapping[str, Tensor]):
        """ComfyUI's way in, for one encoder's weights: the tower whose token table has their width takes them."""
        width = state["text_model.embeddings.token_embedding.weight"].shape[1]
        tower = next(t for t in self.towers() if t.transformer.config.width == width)
        return load_as(tower.transformer, state, self._dtype, strict=False)

    def set_clip_options(self, options: Mapping[str, object]) -> None:
        for tower in self.towers():
            tower.choose(options)

    def reset_clip_options(self) -> None:
        for tower in self.towers():
            tower.reset()

    def encode_token_weights(self, tokens: TokenLists) -> tuple[Tensor, Tensor]:
        """-> conditioning [1, T, C] and pooled [1, P], float32."""
        place = getattr(self, "device", None)  # a patcher of ComfyUI writes here where it brought the network
        encoded = [tower.encode_token_weights(tokens[tower.port.key], place) for tower in self.towers()]
        shortest = min(hidden.shape[1] for hidden, _ in encoded)  # SDXL: the longer encoding is cut, as ComfyUI does
        joined = torch.cat([hidden[:, :shortest] for hidden, _ in encoded], dim=-1)
        if self.family.width is not None:
            joined = F.pad(joined, (0, self.family.width - joined.shape[-1]))
        pooled = [vector for _, vector in encoded]
        joined, vector = joined.float(), (torch.cat(pooled, -1) if self.family.joined_pooled else pooled[-1]).float()
        if self._results_device is None:
            return joined, vector
        return joined.to(self._results_device()), vector.to(self._results_device())


class StandIn:
    """Answers a family in the place of one of its encoders; whatever else it is asked, the encoder answers."""

    def __init__(self, encoder: nn.Module, answer: Callable[[nn.Module], tuple[Tensor, Tensor]]):
        self._encoder, self._answer = encoder, answer

    def __getattr__(self, name: str):
        return getattr(self._encoder, name)

    def encode_token_weights(
        self, pairs: Sequence[Sequence[tuple]], device: torch.device | None = None
    ) -> tuple[Tensor, Tensor]:
        """The pairs are those of the chunks that `answer` knows, and so is the device."""
        return self._answer(self._encoder)


def with_stand_ins(
    family: nn.Module,
    ports: Sequence[Port],
    packed: Mapping[str, Packed],
    answer: Callable[[Port, nn.Module], tuple[Tensor, Tensor]],
) -> tuple[nn.Module, TokenLists]:
    """A shallow copy of a family for which `answer(port, encoder)` encodes when it asks the encoder of that port; and
    the tokens of these encoders in ComfyUI's form, for a family that counts them.
    """
    shadow = copy.copy(family)
    # an instance's own attributes are found before its modules of the same name
    shadow.__dict__.update({p.name: StandIn(getattr(family, p.name), partial(answer, p)) for p in ports})
    return shadow, {p.key: [[(t.id, t.emphasis) for t in chunk] for chunk in packed[p.key].chunks] for p in ports}


FindEmbedding = Callable[[str, str, int], Tensor | str]  # name, key of the encoder, width -> [n, width] or why not


class PromptTokenizer:
    """Prompts to token lists, in ComfyUI's dialect, for the encoders of one family."""

    def __init__(self, family: Family, sources: Sequence[TextSource], find_embedding: FindEmbedding):
        self._family, self._find = family, find_embedding
        self._sizes = [(source.config.width, source.config.context) for source in sources]
        self._tokenizer = Tokenizer("transformers")  # as ComfyUI's own text encoders

    def tokenize_with_weights(self, text: str, return_word_ids: bool = False, **_) -> TokenLists:
        """{"l": [[(id or vector, weight[, word]), ...], ...], ...}, chunks as long as each encoder's context; ComfyUI's
        options for other encoders are not read.
        """
        lists = {}
        for use, packed in self._packed(text):
            lists[use.key] = [
                [(t.id, t.emphasis, t.span) if return_word_ids else (t.id, t.emphasis) for t in chunk]
                for chunk in packed.chunks
            ]
        return lists

    def untokenize(self, pairs: Sequence[tuple]) -> list[tuple]:
        """Each (id or vector, ...) with its piece of text, as ComfyUI's tokenizers give it."""
        return [(pair, self._tokenizer.piece(pair[0]) if isinstance(pair[0], int) else "") for pair in pairs]

    def state_dict(self) -> dict:
        """Nothing of the tokenizer is saved with a model: its table is CLIP's own."""
        return {}

    def _packed(self, text: str) -> list[tuple[EncoderUse, chunks.Packed]]:
        spans = comfy.parse(text)
        found = []
        for use, (width, context) in zip(self._family.uses, self._sizes):
            find = partial(self._find, key=use.key, width=width)
            packed = chunks.pack(spans, self._tokenizer, use.pad, find, context)
            for name, why in packed.lost.items():  # a stock node asks, which has no report: ComfyUI logs it too
                logging.getLogger(__name__).warning("embedding %s not used by %s: %s", name, use.encoder, why)
            found.append((use, packed))
        return found
