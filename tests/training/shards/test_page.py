"""The page on many cards: its tables are those of the arithmetic, and the arithmetic is of the code that there is."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from clip_vae_lora.benchmarks.learning.clip_scale import (
    CARD,
    MANY,
    PAIRS,
    SMALL,
    VIT_B_32,
    Size,
    Training,
    moves,
    size_named,
    tables,
)
from clip_vae_lora.clip_core.networks.clip import CLIP
from clip_vae_lora.clip_core.networks.layers import UNFILLED
from clip_vae_lora.training.clip.presets import SIZES
from clip_vae_lora.training.clip.towers import Towers, called_by_layers
from clip_vae_lora.training.memory.recomputing import Recomputing

from ..clip.tiny_batch import towers

PAGE = Path(__file__).resolve().parents[3] / "headless" / "many_cards.md"


def test_every_line_of_the_tables_stands_on_the_page():
    page = PAGE.read_text(encoding="utf-8").splitlines()
    assert [line for line in "\n".join(tables(MANY, CARD, PAIRS)).splitlines() if line and line not in page] == []
    assert f"({SMALL.weights:,} weights" in PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["small", "ViT-B-32", "ViT-L-14", "ViT-bigG-14"])
def test_weights_are_counted_as_the_network_has_them(name):
    model = CLIP(SIZES[name], UNFILLED, device="meta")
    assert size_named(name).weights == sum(one.numel() for one in model.parameters())
    assert max(size_named(name).tensors) == max(one.numel() for one in model.parameters())


def test_the_sizes_of_the_page_are_the_published_ones():
    assert size_named("ViT-B-32") == VIT_B_32 and size_named("small") == SMALL


@pytest.mark.parametrize("checkpointing", [False, True])
def test_what_a_row_leaves_for_the_backward_pass_is_what_torch_keeps(checkpointing):
    both = Towers(CLIP(SIZES["small"]), towers().tokenizer)
    rows = both.rows([f"words that are as many as tokens of the page {n}" for n in range(4)])[0]
    kept: dict[int, int] = {}

    def pack(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    def numbers(side: str) -> float:
        kept.clear()
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            made = both.texts(rows) if side == "text" else both.images(torch.rand(4, 3, 128, 128))
        own = {one.data_ptr() for one in both.model.parameters()}
        del made
        return sum(size for place, size in kept.items() if place not in own) / 4 / len(rows)

    size: Size = replace(SMALL, text=replace(SMALL.text, tokens=max(map(len, rows))))
    recomputing = Recomputing(checkpointing)
    with recomputing.over(both.model), called_by_layers(both.model):
        seen = {side: numbers(side) for side in ("text", "vision")}
    if checkpointing:  # a block's own values come in the second pass
        for side in seen:
            tower = getattr(size, side)
            inputs = tower.layers * tower.width * tower.tokens
            pixels = 3 * size.image_px**2 if side == "vision" else 0
            assert inputs <= seen[side] - pixels <= 1.3 * inputs < tower.kept(True)  # and what lies outside of blocks
        return
    for side in seen:
        assert getattr(size, side).kept(False) == pytest.approx(seen[side], rel=0.1), seen


def test_what_is_sent_grows_to_two_gradients_and_no_further():
    weights = 4 * VIT_B_32.weights
    sent = [
        moves(Training(VIT_B_32, 4096, size, 64))["gradients of weights, summed in order"] for size in (1, 2, 4, 256)
    ]
    assert sent[0] == 0 and sent[1] == weights and sent == sorted(sent) and sent[-1] < 2 * weights
