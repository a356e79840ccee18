"""The text encoders of one family as one network, and the tokenizer that goes with it: what a host's CLIP object holds.

The parameter names (`clip_l.transformer.text_model...`) are ComfyUI's: its LoRA loaders, CLIPSave and merging nodes
find them. The token lists ({"l": [[(id or vector, weight), ...77], ...]}) are ComfyUI's too, so each side's nodes
can encode the other's.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...clip_core import chunks, prompt
from ...clip_core.checkpoint import TextSource
from ...clip_core.chunks import Token
from ...clip_core.encode import encode_chunks, runner
from ...clip_core.families import Family, Use
from ...clip_core.rows import Run
from ...clip_core.tokenizer import Tokenizer
from .prompt_encoding import Port

DTYPES = {"auto": None, "fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
TokenLists = dict[str, list[list[tuple]]]


def as_dtype(name: str) -> torch.dtype | None:
    """The type a dtype widget means; None leaves the choice to the host."""
    return DTYPES[name]


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

    def __init__(self, use: Use, source: TextSource, operations, device, dtype):
        super().__init__()
        self.use, self.layers = use, source.config.layers
        self.transformer = source.build(operations, device, dtype)
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

    @property
    def port(self) -> Port:
        config = self.transformer.config
        return Port(self.use.encoder, self.use.key, config.width, self.use.pad, config.context, config.layers)

    def run(self, device: torch.device | None = None) -> Run:
        """A pass of this encoder, as the family and the options of the moment read it. `device` computes if the
        options name none; None: where the token table lies.
        """
        device = self.execution_device or device
        return runner(self.transformer, self.layer, self.use.final_norm, projected=self.projected, device=device)

    def encode_token_weights(
        self, pairs: Sequence[Sequence[tuple]], device: torch.device | None = None
    ) -> tuple[Tensor, Tensor]:
        """One list of (id or vector, weight, ...) for each chunk of 77 -> [1, 77 * chunks, C], [1, C or E]"""
        chunks = [[Token(pair[0], pair[1]) for pair in row] for row in pairs]
        encoding = encode_chunks(self.run(device), chunks, pad=self.use.pad)
        return encoding.hidden, encoding.pooled


class Towers(nn.Module):
    """The text encoders of one family, under the names ComfyUI gives them."""

    # ComfyUI >= 0.30: an ordinary patcher, which may still load in part. All layers here are ones that its streaming
    # patcher knows, but hooks (SetClipHooks) clone without streaming, and for a network that no loader of ComfyUI made
    # that clone raises "cached_patcher_init is not initialized" (comfy/model_patcher.py `clone`, 0.33.0).
    disable_offload = True

    def __init__(self, family: Family, sources: Sequence[TextSource], operations=nn, device=None, dtype=None):
        super().__init__()
        self.family = family
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
        encoded = [tower.encode_token_weights(tokens[tower.use.key], place) for tower in self.towers()]
        shortest = min(hidden.shape[1] for hidden, _ in encoded)  # SDXL: the longer encoding is cut, as ComfyUI does
        joined = torch.cat([hidden[:, :shortest] for hidden, _ in encoded], dim=-1)
        if self.family.width is not None:
            joined = F.pad(joined, (0, self.family.width - joined.shape[-1]))
        pooled = [vector for _, vector in encoded]
        return joined.float(), (torch.cat(pooled, -1) if self.family.joined_pooled else pooled[-1]).float()


FindEmbedding = Callable[[str, str, int], Tensor | str]  # name, key of the encoder, width -> [n, width] or why not


class PromptTokenizer:
    """Prompts to token lists, in ComfyUI's dialect, for the encoders of one family."""

    def __init__(self, family: Family, sources: Sequence[TextSource], find_embedding: FindEmbedding):
        self._family, self._widths, self._find = family, [source.config.width for source in sources], find_embedding
        self._tokenizer = Tokenizer("transformers")  # as ComfyUI's own text encoders

    def tokenize_with_weights(self, text: str, return_word_ids: bool = False, **_) -> TokenLists:
        """{"l": [[(id or vector, weight[, word]), ...77], ...], ...}; ComfyUI's options for other encoders are not
        read.
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

    def _packed(self, text: str) -> list[tuple[Use, chunks.Packed]]:
        spans = prompt.parse(text)
        found = []
        for use, width in zip(self._family.uses, self._widths):
            packed = chunks.pack(spans, self._tokenizer, use.pad, partial(self._find, key=use.key, width=width))
            for name, why in packed.lost.items():  # a stock node asks, which has no report: ComfyUI logs it too
                logging.getLogger(__name__).warning("embedding %s not used by %s: %s", name, use.encoder, why)
            found.append((use, packed))
        return found
