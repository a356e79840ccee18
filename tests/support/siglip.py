"""Tiny random SigLIPs of transformers and of open_clip, and vocabularies for them."""

import json
from pathlib import Path

import torch

from .clip_networks import randomise_

WORDS = "a photo of the cat dog red blue circle square on and with two big small bird house tree".split()


def hugging_face(width: int = 64, *, patch_px: int = 16, image_px: int = 64, vocab: int = 256, heads: int = 1, seed=0):
    """A SiglipModel of transformers, with weights that all show in its output."""
    from transformers import SiglipConfig, SiglipModel

    sizes = {"hidden_size": width, "intermediate_size": 2 * width, "num_hidden_layers": 2, "num_attention_heads": heads}
    text = {**sizes, "vocab_size": vocab, "max_position_embeddings": 64, "projection_size": width}
    vision = {**sizes, "patch_size": patch_px, "image_size": image_px}
    model = randomise_(SiglipModel(SiglipConfig(text_config=text, vision_config=vision)), seed)
    with torch.no_grad():
        model.logit_scale.fill_(2.0)
        model.logit_bias.fill_(-3.0)
    return model


def open_clip_state(width: int = 64, *, patch_px: int = 16, image_px: int = 64, vocab: int = 256, seed: int = 0):
    """The two halves as open_clip has them, the image half timm's, both with GELU's approximation that SigLIP was
    trained with.
    """
    from functools import partial

    from open_clip.transformer import TextTransformer
    from timm.models.vision_transformer import VisionTransformer

    gelu = partial(torch.nn.GELU, approximate="tanh")
    text = TextTransformer(
        *(64, vocab, width, 1, 2, 2.0),
        output_dim=width, no_causal_mask=True, pool_type="last", proj_bias=True, act_layer=gelu,
        norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
    )  # fmt: skip
    image = VisionTransformer(
        image_px, patch_px, num_classes=0, global_pool="map", embed_dim=width, depth=2, num_heads=1, mlp_ratio=2.0,
        class_token=False, act_layer=gelu,
    )  # fmt: skip
    return randomise_(text, seed), randomise_(image, seed + 1)


def sentence_pieces(folder: Path) -> Path:
    """A vocabulary of SentencePiece, trained on a few words, with the end token 1 and pieces for unknown letters."""
    import sentencepiece

    corpus = [" ".join(WORDS[place:] + WORDS[:place]) for place in range(len(WORDS))]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus), model_prefix=str(folder / "spiece"), vocab_size=60, model_type="unigram",
        pad_id=-1, eos_id=1, unk_id=2, bos_id=-1, unk_surface="", hard_vocab_limit=False, control_symbols=["<pad>"],
        minloglevel=2,
    )  # fmt: skip
    return folder / "spiece.model"


def gemma_json(folder: Path) -> Path:
    """A tokenizer.json of byte pairs, made as SigLIP 2's is: blanks are pieces, unknown letters are bytes."""
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    letters = sorted({"▁", *"".join(WORDS)})
    merges = [["▁", "a"], ["c", "a"], ["ca", "t"], ["▁", "d"], ["▁d", "o"], ["▁do", "g"], ["o", "f"]]
    tokens = [*special, *(f"<0x{byte:02X}>" for byte in range(256)), *letters, *("".join(pair) for pair in merges)]
    model = {
        "type": "BPE",
        "vocab": {token: place for place, token in enumerate(dict.fromkeys(tokens))},
        "merges": merges,
        "unk_token": "<unk>",
        "fuse_unk": True,
        "byte_fallback": True,
    }
    split = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    whole = {
        "version": "1.0", "padding": None,
        "truncation": {"max_length": 3, "strategy": "LongestFirst", "stride": 0, "direction": "Right"},
        "added_tokens": [], "normalizer": replace, "pre_tokenizer": split, "post_processor": None,
        "decoder": None, "model": model,
    }  # fmt: skip
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(whole), encoding="utf-8")
    return path
