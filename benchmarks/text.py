"""Prompts: how quickly they are tokenized, counted and encoded, beside the peers, as ratios of medians in one run.

    python benchmarks/text.py                                # tokenizer beside transformers' Rust one; the live count
    COMFYUI_PATH=... python benchmarks/text.py --encode      # CVL_TextEncode beside stock CLIPTextEncode, in ComfyUI

The machine may be shared and noisy: all contestants run in each round, in changing order, and medians are compared.
With one thread, which is the default, what is measured is the processor time of this process, else that of the clock.
"""

import argparse
import asyncio
import importlib.util
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

# one thread for the Rust tokenizer; read when it is imported
os.environ.update({"TOKENIZERS_PARALLELISM": "false", "RAYON_NUM_THREADS": "1"})

_spec = importlib.util.spec_from_file_location("_cvl_checkout", Path(__file__).parents[1] / "headless" / "checkout.py")
_checkout = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_checkout)
ROOT = _checkout.bind()

from clip_vae_lora.benchmarks.prompts import Prompts  # noqa: E402
from clip_vae_lora.clip_core.tokenizer import RULES, Tokenizer, vocabulary  # noqa: E402


def seconds_of(call: Callable[[], object], threads: int) -> float:
    clock = time.process_time if threads == 1 else time.perf_counter
    started = clock()
    call()
    return clock() - started


def medians(contestants: dict[str, Callable[[], object]], rounds: int, threads: int = 1) -> dict[str, float]:
    """The median seconds of each, all of them once a round, each round beginning with another."""
    seconds, names = {name: [] for name in contestants}, list(contestants)
    for turn in range(rounds):
        for place in range(len(names)):
            name = names[(place + turn) % len(names)]
            seconds[name].append(seconds_of(contestants[name], threads))
    return {name: statistics.median(values) for name, values in seconds.items()}


def verdict(what: str, value: float, target: float, unit: str = "x", *, most: bool = False) -> None:
    met = value <= target if most else value >= target
    sign = "<=" if most else ">="
    print(f"  {what}: {value:.2f} {unit} (target {sign} {target:g}: {'met' if met else 'MISSED'})")


def rust_tokenizer():
    from transformers import CLIPTokenizer

    known = vocabulary()
    return CLIPTokenizer(dict(known.ids), [(known.pieces[a], known.pieces[b]) for a, b in known.merges])


def tokenizers(count: int, rounds: int) -> None:
    """Ours beside transformers' on the same prompts, warm: on other prompts of the same vocabulary, and on these."""
    theirs, made = rust_tokenizer(), Prompts(1)
    others, prompts = made.many(count), made.many(count)
    expected = [ids[1:-1] for ids in theirs(prompts)["input_ids"]]
    lengths, foreign = list(map(len, expected)), sum(not prompt.isascii() for prompt in prompts)
    print(
        f"{count} prompts of {min(lengths)} to {max(lengths)} tokens, {statistics.mean(lengths):.0f} on average, "
        f"{foreign} of them not ASCII; {len({*' '.join(prompts).split()})} different pieces between blanks"
    )
    for rules in RULES:
        fresh = []
        for _ in range(rounds):  # each measures prompts of which it has seen none
            fresh.append(Tokenizer(rules))
            for prompt in others:
                fresh[-1].encode(prompt)
        warm = fresh[0]
        differ = sum(warm.encode(prompt) != ids for prompt, ids in zip(prompts, expected))
        fresh[0] = Tokenizer(rules)
        for prompt in others:
            fresh[0].encode(prompt)
        waiting = iter(fresh)
        seconds = medians(
            {
                "warm on other prompts": lambda: list(map(next(waiting).encode, prompts)),  # noqa: B023
                "warm on these prompts": lambda: list(map(warm.encode, prompts)),  # noqa: B023
                "one": lambda: [theirs(prompt)["input_ids"] for prompt in prompts],
                "batch": lambda: theirs(prompts)["input_ids"],
                "core": lambda: [found.ids for found in theirs.backend_tokenizer.encode_batch(prompts)],
            },
            rounds,
        )
        print(
            f"rules {rules!r}: {differ} prompts with other ids; transformers takes "
            f"{seconds['one'] / count * 1e6:.0f} us one a call, {seconds['batch'] / count * 1e6:.0f} us in a batch"
        )
        for state in ("warm on other prompts", "warm on these prompts"):
            print(f" ours {state}: {seconds[state] / count * 1e6:.1f} us a prompt")
            verdict("faster than one call a prompt", seconds["one"] / seconds[state], 5)
            verdict("faster than its batch call", seconds["batch"] / seconds[state], 2.5)
            print(f"  faster than the batch call of its Rust core alone: {seconds['core'] / seconds[state]:.2f} x")


def live_count(rounds: int) -> None:
    """A prompt of 2,000 characters read and cut into chunks, another sign typed each time."""
    from clip_vae_lora.clip_core.prompts.chunks import pack
    from clip_vae_lora.clip_core.prompts.dialects import DIALECTS, read

    text, tokenizer = Prompts(2).characters(2000), Tokenizer("transformers")
    for dialect in DIALECTS:
        typed = iter(range(len(text) - rounds - 20, len(text)))

        def count(dialect=dialect, typed=typed):
            reading = read(text[: next(typed)], dialect)
            return [pack(part.spans, tokenizer).used for part in reading.parts]

        used = [count() for _ in range(20)][-1]
        seconds = medians({"count": count}, rounds)["count"]
        what = f"live count, 2000 characters, {dialect}, {sum(map(len, used))} chunks"
        verdict(what, seconds * 1e3, 5, "ms", most=True)


class Passes:
    """Counts what goes through a text encoder's first block, ours or the stock one: their names are the same."""

    def __init__(self, clip, threads: int):
        self.passes, self.rows, self.threads = 0, 0, threads
        block = clip.cond_stage_model.clip_l.transformer.text_model.encoder.layers[0]
        block.register_forward_pre_hook(self._see)

    def _see(self, _block, inputs: Sequence) -> None:
        self.passes, self.rows = self.passes + 1, self.rows + len(inputs[0])

    def of(self, call: Callable[[], object]) -> str:
        before, seconds = (self.passes, self.rows), seconds_of(call, self.threads)
        return f"{self.passes - before[0]} passes, {self.rows - before[1]} rows, {seconds * 1e3:.1f} ms"


def start_comfyui(base: Path) -> dict[str, type]:
    """A real ComfyUI in this process, as tests/host has it; its node classes and ours by id."""
    for folder in ("models/text_encoders", "models/embeddings", "custom_nodes"):
        (base / folder).mkdir(parents=True)
    before = sys.argv
    sys.argv = ["main.py", "--cpu", "--base-directory", str(base), "--disable-api-nodes"]
    sys.path.insert(0, os.environ["COMFYUI_PATH"])
    import comfy.options

    comfy.options.enable_args_parsing()
    import utils.extra_config  # noqa: F401  before `nodes`, which puts comfy/ on sys.path, where another `utils` lies

    import nodes

    sys.argv = before
    if not asyncio.run(nodes.load_custom_node(str(ROOT))):
        raise SystemExit("ComfyUI could not import the pack")
    return nodes.NODE_CLASS_MAPPINGS


def load_both(nodes: dict[str, type], dtype: str) -> tuple:
    """The stock CLIP and ours of the same file, with weights of this type on both sides."""
    from comfy.cli_args import args

    args.fp32_text_enc = dtype == "fp32"
    (stock,) = nodes["CLIPLoader"]().load_clip("l.safetensors", "stable_diffusion")
    return stock, nodes["CVL_LoadTextEncoder"]().load("l.safetensors", dtype=dtype)["result"][0]


def encoders(rounds: int, threads: int) -> None:
    """CVL_TextEncode beside CLIPTextEncode: a weighted prompt never seen before, one chunk of a full-size CLIP-L."""
    import torch

    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        nodes = start_comfyui(Path(folder))
        from clip_vae_lora.tests.support import models

        models.text_encoder(Path(folder, "models", "text_encoders", "l.safetensors"), "clip_l", seed=1)
        print(f"CLIP-L on the CPU, {torch.get_num_threads()} thread(s), ComfyUI in {os.environ['COMFYUI_PATH']}")
        for dtype in ("fp16", "fp32"):
            stock, ours = load_both(nodes, dtype)
            fresh_prompts(nodes, dtype, (stock, ours), rounds, threads)
            for name, clip in (("the stock CLIP", stock), ("our CLIP", ours)):
                again(nodes, f"{dtype} weights, {name}", clip, threads)


def fresh_prompts(nodes: dict[str, type], dtype: str, clips: tuple, rounds: int, threads: int) -> None:
    """Each contestant gets the same prompts; nobody has met one before, so only the empty prompt can be remembered."""
    (stock, ours), made = clips, Prompts(4)
    prompts = [made.weighted() for _ in range(rounds + 1)]
    theirs, mine = nodes["CLIPTextEncode"]().encode, nodes["CVL_TextEncode"]().encode
    for clip in clips:  # the first prompt warms up, and the empty prompt is met
        reference, got = theirs(stock, prompts[0])[0][0][0], mine(clip, prompts[0])["result"][0][0][0]
        print(f"{dtype} weights: largest difference from the stock node {(reference - got).abs().max():.1e}")
    turns = [iter(prompts[1:]) for _ in range(4)]
    seconds = medians(
        {
            "stock": lambda: theirs(stock, next(turns[0])),
            "CVL_TextEncode, stock CLIP": lambda: mine(stock, next(turns[1])),
            "CVL_TextEncode, our CLIP": lambda: mine(ours, next(turns[2])),
            "CLIPTextEncode, our CLIP": lambda: theirs(ours, next(turns[3])),
        },
        rounds,
        threads,
    )
    print(f"{dtype} weights: CLIPTextEncode with the stock CLIP takes {seconds['stock'] * 1e3:.0f} ms")
    for name in list(seconds)[1:3]:
        verdict(f"{name} faster than that", seconds["stock"] / seconds[name], 1.7)
    print(f"  CLIPTextEncode, our CLIP: {seconds['stock'] / seconds['CLIPTextEncode, our CLIP']:.2f} x")


def again(nodes: dict[str, type], title: str, clip, threads: int) -> None:
    """What a prompt costs the first time, again, with only its weights changed, and after another one."""
    seen, encode, made = Passes(clip, threads), nodes["CVL_TextEncode"]().encode, Prompts(5)
    first, other = made.weighted(), made.weighted()
    changed = first.replace(":1.3)", ":1.1)").replace(":0.7)", ":0.9)")
    for what, text in (
        ("a prompt", first),
        ("again", first),
        ("only weights changed", changed),
        ("another", other),
        ("the first again", first),
    ):
        print(f"  {title}: {what}: {seen.of(lambda: encode(clip, text))}")  # noqa: B023


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--encode", action="store_true", help="measure CVL_TextEncode in the ComfyUI of COMFYUI_PATH")
    parser.add_argument("--prompts", type=int, default=3000, help="prompts to tokenize")
    parser.add_argument("--rounds", type=int, default=9, help="rounds a median is taken of")
    parser.add_argument("--threads", type=int, default=1, help="threads of the encoders")
    given = parser.parse_args()
    if given.encode:
        if not os.environ.get("COMFYUI_PATH"):
            raise SystemExit("--encode needs a real ComfyUI: set COMFYUI_PATH to its folder")
        encoders(given.rounds, given.threads)
    else:
        tokenizers(given.prompts, given.rounds)
        live_count(given.rounds)


if __name__ == "__main__":
    main()
