"""What the tests of chunks and of splits share: a few learned embeddings, and packing in short."""

import torch

from clip_vae_lora.clip_core.prompts.chunks import pack
from clip_vae_lora.clip_core.prompts.comfy import CHUNK_END, parse
from clip_vae_lora.clip_core.tokenizer import Tokenizer

TOKENIZER = Tokenizer()
NO = "there is none"
VECTORS = {
    "x": torch.arange(6.0).view(2, 3),
    "flat": torch.ones(3),
    "nine": torch.ones(9, 3),
    "long": torch.ones(160, 3),
}


def find(name):
    return VECTORS.get(name, NO)


def ids(tokens):
    """Ids, with None for a learned vector."""
    return [token.id if isinstance(token.id, int) else None for token in tokens]


def used(text, split="hard", **options):
    """Tokens per chunk of a prompt in which / is a BREAK."""
    spans = [span for part in text.split("/") for span in (*parse(part), CHUNK_END)][:-1]
    return pack(spans, TOKENIZER, find_embedding=find, split=split, **options).used


def bare(names):
    """A `bare_name` for the embeddings of these names, the longest first."""
    known = sorted(((TOKENIZER.encode(name), name) for name in names), key=lambda entry: -len(entry[0]))

    def bare_name(ids):
        return next(((name, len(own)) for own, name in known if list(ids[: len(own)]) == own), None)

    return bare_name
