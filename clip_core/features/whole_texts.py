"""Texts for a SigLIP, whose encoder sees every place of its context: rows of ids, and their features.

Source of the preparation: google-research/big_vision, `pp_lib/ops_text.py` (`lower`, `tokenize` with the end token kept
behind what is cut), and transformers' SiglipTokenizer, whose first version drops punctuation.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..device import budget_bytes, sent
from ..networks.layers import look_up
from ..networks.siglip import SigLIP
from ..siglip_config import END_OF_TEXT, SigLIPConfig
from .padded_texts import TOKENS_AT_ONCE, token_bytes

_ON_A_CPU = 32  # texts in one pass
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)

Pieces = Callable[[str], list[int]]  # a text -> the ids of its pieces, without special tokens


def prepared(text: str, version: int) -> str:
    """A text as SigLIP was trained on them. 1: no capitals, no punctuation, single blanks; 2: no capitals.

    >>> prepared("A Cat,  on a MAT!", 1)
    'a cat on a mat'
    """
    lowered = text.lower()
    return " ".join(lowered.translate(_NO_PUNCTUATION).split()) if version == 1 else lowered


@dataclass(frozen=True)
class WholeTexts:
    """The tokenizer of a SigLIP: `pieces` of a vocabulary that lies beside the model, or raises ValueError that says
    why there is none. file: the vocabulary, where one was read.
    """

    pieces: Pieces
    file: Path | None = None

    def rows(self, config: SigLIPConfig, texts: Sequence[str]) -> tuple[list[tuple[int, ...]], tuple[int, ...]]:
        """The ids of each text, the end token behind it, padded to the context; and the number of tokens cut from each.

        Raises:
            ValueError: there is no vocabulary, or it has more tokens than the model's.
        """
        rows, cut, context, vocab = [], [], config.text.context, config.text.vocab
        for text in texts:
            ids = self.pieces(prepared(text, config.version))
            if ids and max(ids) >= vocab:
                raise ValueError(
                    f"the tokenizer beside this model gives token {max(ids)}, and the model knows {vocab}: it belongs "
                    "to another model; put the model's own tokenizer.json there"
                )
            kept = ids[: context - 1]
            rows.append((*kept, END_OF_TEXT, *[config.pad] * (context - 1 - len(kept))))
            cut.append(len(ids) - len(kept))
        return rows, tuple(cut)


def whole_text_features(
    model: SigLIP,
    rows: Sequence[tuple[int, ...]],
    devices: tuple[torch.device, torch.device],
    dtype: torch.dtype,
    free_bytes: int | None,
    on_step: Callable[[int], None],
) -> Tensor:
    """Encode rows of whole contexts. All ids are sent at once, and all features come back at once; `on_step(rows
    queued)` is called between passes, and may raise to stop. `devices`: the one that computes and the token table's.

    -> float32 [rows, E] on the CPU, of any length
    """
    device, table_device = devices
    context, width = model.text_model.embeddings.position_embedding.weight.shape
    tokens = min(TOKENS_AT_ONCE, budget_bytes(device, free_bytes) // token_bytes(width, dtype))
    at_once = _ON_A_CPU if device.type == "cpu" else max(1, tokens // context)
    on_cpu = torch.tensor(rows, dtype=torch.int64, device="cpu")
    ids = sent(on_cpu, table_device)
    found, done = [], 0
    for some in ids.split(at_once):
        embeds = look_up(model.text_model.embeddings.token_embedding, some, dtype).to(device)
        found.append(model.text_half(embeds).require_projected())
        done += len(some)
        on_step(done)
    return torch.cat(found).float().cpu()
