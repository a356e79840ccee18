"""What each of many processes that train a CLIP holds, moves and waits for: arithmetic, and how far runs are from it.

    python benchmarks/learning/clip_scale.py                    # the tables of headless/many_cards.md
    python benchmarks/learning/clip_scale.py --size ViT-L-14 --processes 512 --batch 65536
    python benchmarks/learning/clip_scale.py --measure          # a small CLIP with 1, 2 and 4 processes on this machine

The arithmetic is of our own code: what `training/clip/cached.py`, `training/distributed.py` and `training/state.py`
keep and send. Bytes are of float32 but where it says bf16. A product is a multiplication and an addition.
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NUMBER = 4  # bytes


@dataclass(frozen=True)
class Tower:
    """An encoder. tokens: of a row. has_class: the last block computes the first token alone."""

    width: int
    layers: int
    heads: int
    mlp: int
    tokens: int
    has_class: bool

    @property
    def products(self) -> int:
        """Of a row on its way forward through the blocks."""
        c, t = self.width, self.tokens
        row = 2 * c * c + 2 * c * self.mlp  # of a token, but for keys and values
        whole = (2 * c * c + row) * t + 2 * t * t * c
        last = 2 * c * c * t + row + 2 * t * c if self.has_class else whole
        return (self.layers - 1) * whole + last

    def kept(self, checkpointing: bool) -> int:
        """Numbers that a row leaves for the backward pass: with quick_gelu nine of the width and three of the
        perceptron's for each token, and of a text the shares of attention.
        """
        c, t = self.width, self.tokens
        each = 9 * c + 3 * self.mlp
        block = each * t + (0 if self.has_class else self.heads * t * t)
        if checkpointing:
            return self.layers * c * t + block
        last = 4 * c * t + each if self.has_class else block
        return (self.layers - 1) * block + last


@dataclass(frozen=True)
class Size:
    """A CLIP. vocab, context: of its texts; patch_px, image_px: of its pictures."""

    text: Tower
    vision: Tower
    vocab: int
    context: int
    patch_px: int
    image_px: int
    embed: int

    @property
    def weights(self) -> int:
        return sum(self.tensors)

    @property
    def tensors(self) -> list[int]:
        """The sizes of the tensors that count, the small ones of each block together."""
        text, vision = self.text, self.vision
        found = [self.vocab * text.width, self.context * text.width, 2 * text.width, text.width * self.embed]
        for tower in (text, vision):
            c = tower.width
            found += [c * c, c * c, c * c, c * c, c * tower.mlp, c * tower.mlp, 9 * c + tower.mlp] * tower.layers
        found += [3 * self.patch_px**2 * vision.width, vision.width * vision.tokens, vision.width]
        return [*found, 4 * vision.width, vision.width * self.embed, 1]

    @property
    def products(self) -> int:
        """Of a pair on its way forward."""
        patches = (self.vision.tokens - 1) * 3 * self.patch_px**2 * self.vision.width
        heads = (self.text.width + self.vision.width) * self.embed
        return self.text.products + self.vision.products + patches + heads


@dataclass(frozen=True)
class Training:
    """What is trained how. at_once: pictures that a process computes together."""

    size: Size
    batch: int
    processes: int
    at_once: int
    checkpointing: bool = False
    sharded: bool = False
    half: bool = False  # products in bf16, so that what they leave behind is, too

    @property
    def own(self) -> int:
        """The rows of a process."""
        return ceil(self.batch / self.processes)

    @property
    def parts(self) -> int:
        return ceil(self.own / self.at_once)

    @property
    def ways(self) -> int:
        """How often a row goes forward, a way back counted as two."""
        return 3 + (self.parts > 1) + self.checkpointing

    @property
    def products(self) -> int:
        """Of a process in a step, those of the loss included."""
        return self.ways * self.own * self.size.products + 6 * self.own * self.batch * self.size.embed

    @property
    def share(self) -> int:
        """The parameters whose memory a process keeps at most: from the largest on, each goes to who has least."""
        if not self.sharded:
            return self.size.weights
        parts = [0] * self.processes
        for one in sorted(self.size.tensors, reverse=True):
            parts[parts.index(min(parts))] += one
        return max(parts)


def holds(one: Training) -> dict[str, int]:
    """What a process holds at the fullest, bytes."""
    weights, features = NUMBER * one.size.weights, NUMBER * one.batch * one.size.embed
    kept = one.size.text.kept(one.checkpointing) + one.size.vision.kept(one.checkpointing)
    rows = min(one.own, one.at_once)
    return {
        "weights": weights,
        "gradients": weights,
        "AdamW's memory": 2 * NUMBER * one.share,
        "the weights as they began, for the sweep": weights,
        "activations of a part": rows * kept * (NUMBER // 2 if one.half else NUMBER),
        "features of all, their copies and gradients": 8 * features,
        "logits of its rows, both ways": 4 * NUMBER * one.own * one.batch,
        "the sum of gradients under way (main memory)": 2 * weights,
    }


def moves(one: Training) -> dict[str, int]:
    """What a process sends to the others in a step, bytes; it receives as much."""
    others = (one.processes - 1) / one.processes
    features, weights = NUMBER * one.batch * one.size.embed, NUMBER * one.size.weights
    return {
        "features, both sides": round(2 * others * features),
        "gradients of features": round(2 * others * features),
        "gradients of weights, summed in order": round(2 * others * weights),
        "weights that it moved, to all others": round(others * weights) if one.sharded else 0,
    }


@dataclass(frozen=True)
class Machine:
    """What a process has. products_per_s: that it really makes. picture_s: to open, cut and scale one. link: bytes a
    second that it sends, as gloo does through the CPU. adam_s: for a parameter.
    """

    products_per_s: float
    picture_s: float
    link: float
    adam_s: float


def waits(one: Training, machine: Machine) -> dict[str, float]:
    """What the seconds of a step go to, one behind the other, as our code does it."""
    return {
        "pictures": one.own * machine.picture_s * (2 if one.parts > 1 else 1),
        "products": one.products / machine.products_per_s,
        "messages": sum(moves(one).values()) / machine.link,
        "AdamW": one.share * machine.adam_s,
    }


VIT_B_32 = Size(Tower(512, 12, 8, 2048, 77, False), Tower(768, 12, 12, 3072, 50, True), 49408, 77, 32, 224, 512)
SMALL = Size(Tower(256, 6, 4, 1024, 77, False), Tower(256, 6, 4, 1024, 65, True), 49408, 77, 16, 128, 256)
MANY = Training(VIT_B_32, 32768, 256, 64, half=True)
CARD = Machine(5e13, 0.028, 5e8, 1e-11)  # see the page for where these are from
PAIRS = 400_000_000
PAIR = 1247  # bytes that a process keeps of each pair: its name, caption and ids, measured


def size_named(name: str) -> Size:
    """A published size, of texts as long as they may be."""
    from clip_vae_lora.training.clip.presets import SIZES

    text, vision = SIZES[name].text, SIZES[name].vision
    patches = (vision.image_px // vision.patch_px) ** 2
    return Size(
        Tower(text.width, text.layers, text.heads, text.mlp, text.context, False),
        Tower(vision.width, vision.layers, vision.heads, vision.mlp, 1 + patches, True),
        text.vocab,
        text.context,
        vision.patch_px,
        vision.image_px,
        text.embed,
    )


def in_words(count: float) -> str:
    """Bytes as MB or GB, of powers of ten."""
    return f"{count / 1e9:,.2f} GB" if count >= 1e9 else f"{count / 1e6:,.1f} MB"


def _rows(verb: str, found: Sequence[Mapping[str, float]], said: Callable[[float], str], total: str) -> list[str]:
    """A row for each thing, and one for all of them."""
    rows = [" | ".join([f"| {verb} {name}", *(said(some[name]) for some in found)]) + " |" for name in found[0]]
    return [*rows, " | ".join([f"| **{total}**", *(f"**{said(sum(some.values()))}**" for some in found)]) + " |"]


def tables(one: Training, machine: Machine, pairs: int) -> list[str]:
    """The lines of a page: what each process holds, sends and waits for, by default and with what saves memory."""
    both = (one, replace(one, at_once=one.own, checkpointing=True, sharded=True))
    lines = [
        f"{one.size.weights:,} weights; {one.own} pairs of a step for each of {one.processes} processes, in "
        f"{one.parts} parts; {ceil(pairs / one.batch):,} steps for {pairs:,} pairs",
        "",
        "| a process | by default | in one part, checkpointing, sharded |",
        "|---|---|---|",
        *_rows("holds", [holds(some) for some in both], in_words, "holds in all"),
        *_rows("sends", [moves(some) for some in both], in_words, "sends in all, for a step"),
        *_rows("waits for", [waits(some, machine) for some in both], lambda some: f"{some:.3f} s", "a step"),
    ]
    hours = [sum(waits(some, machine).values()) * ceil(pairs / one.batch) / 3600 for some in both]
    lines.append(f"| one pass over all pairs | {hours[0]:.1f} hours | {hours[1]:.1f} hours |")
    lines.append(
        f"\nThe list of all pairs, at {PAIR:,} bytes for each, would be {in_words(PAIR * pairs)} in every process."
    )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="ViT-B-32")
    parser.add_argument("--processes", type=int, default=MANY.processes)
    parser.add_argument("--batch", type=int, default=MANY.batch)
    parser.add_argument("--at-once", type=int, default=MANY.at_once)
    parser.add_argument("--pairs", type=int, default=PAIRS)
    parser.add_argument("--products", type=float, default=CARD.products_per_s, help="that a card makes in a second")
    parser.add_argument("--picture", type=float, default=CARD.picture_s, help="seconds to open, cut and scale one")
    parser.add_argument("--link", type=float, default=CARD.link, help="bytes that a process sends in a second")
    parser.add_argument("--measure", action="store_true", help="run a small CLIP here and put it beside the arithmetic")
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT / "headless"))
    import checkout

    checkout.bind()
    sys.path.pop(0)
    if options.measure:
        from clip_vae_lora.benchmarks.learning import clip_scale_measured

        print("\n".join(clip_scale_measured.table()))
        return
    machine = Machine(options.products, options.picture, options.link, CARD.adam_s)
    one = Training(size_named(options.size), options.batch, options.processes, options.at_once, half=True)
    print("\n".join(tables(one, machine, options.pairs)))
    print(json.dumps({"holds": holds(one), "sends": moves(one), "waits": waits(one, machine)}))


if __name__ == "__main__":
    main()
