"""Trainings of a small CLIP by 1, 2 and 4 processes on this machine, beside what the arithmetic of clip_scale says.

Run by `clip_scale.py --measure`. The speed of products is taken from the run of one process, that of messages from
sending 32 MB to and fro; with these the others are predicted. Told is the median of the steps, without the first.
"""

import json
import os
import resource
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch
import torch.distributed as dist

ROOT = Path(__file__).resolve().parents[2]
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT / "headless"))
    import checkout

    checkout.bind()
    sys.path.pop(0)

from clip_vae_lora.benchmarks.learning.clip_scale import (  # noqa: E402
    SMALL,
    Machine,
    Training,
    holds,
    in_words,
    moves,
    waits,
)
from clip_vae_lora.benchmarks.learning.clip_step import captions  # noqa: E402

STEPS, BATCH, AT_ONCE = 5, 32, 8
RUNS = ((1, False), (2, False), (4, False), (4, True))  # processes, and whether the optimiser's memory is shared out
SENT = 32 << 20  # bytes
sent = [0.0]


def training(processes: int, sharded: bool) -> Training:
    """What is measured. Captions have ten words, so that texts are shorter than they may be."""
    text = replace(SMALL.text, tokens=14)
    return Training(replace(SMALL, text=text), BATCH, processes, AT_ONCE, sharded=sharded)


def count_messages() -> None:
    """Count the bytes that this process sends to others."""
    gather, exchange, broadcast = dist.all_gather, dist.all_to_all_single, dist.broadcast

    def counted_gather(found, own, *more, **named):
        sent[0] += own.nbytes * (len(found) - 1)
        return gather(found, own, *more, **named)

    def counted_exchange(heard, told, *more, **named):
        size = dist.get_world_size()
        sent[0] += told.nbytes * (size - 1) / size
        return exchange(heard, told, *more, **named)

    def counted_broadcast(tensor, *more, **named):
        size = dist.get_world_size()
        sent[0] += tensor.nbytes * (size - 1) / size  # of what all send, a process's share
        return broadcast(tensor, *more, **named)

    dist.all_gather, dist.all_to_all_single, dist.broadcast = counted_gather, counted_exchange, counted_broadcast


def seconds_a_byte() -> float:
    """Processor seconds for each byte that is sent and added up."""
    size = dist.get_world_size()
    if size == 1:
        return 0.0
    told = torch.ones(size, SENT // 4 // size)
    begun = time.process_time()
    for _ in range(4):
        heard = torch.empty_like(told)
        dist.all_to_all_single(heard, told)
        dist.all_gather(list(told), heard.sum(0))
    return (time.process_time() - begun) / (4 * 2 * SENT * (size - 1) / size)


def seconds_of(work, times: int = 20) -> float:
    """Processor seconds of a call."""
    work()
    begun = time.process_time()
    for _ in range(times):
        work()
    return (time.process_time() - begun) / times


def run(sharded: bool) -> dict[str, float] | None:
    """Train as one of the processes; what was measured, in the first."""
    from clip_vae_lora.training.clip.augment import Augmentation, augmented
    from clip_vae_lora.training.clip.data.examples import Example, Prepared
    from clip_vae_lora.training.clip.presets import SIZES, plan_of
    from clip_vae_lora.training.clip.run import ClipHooks, train_clip
    from clip_vae_lora.training.clip.towers import new_towers
    from clip_vae_lora.training.distributed import join_group

    torch.set_num_threads(1)
    kept = (torch.rand(BATCH, 3, 128, 128) * 255).byte()
    examples = tuple(Example(str(n), (text,), -1, n, n, n) for n, text in enumerate(captions(BATCH)))
    numbers = {"steps": STEPS, "batch": BATCH, "at_once": AT_ONCE, "held_out": 0.0, "average": 0.0}
    plan = plan_of("from-scratch-small", numbers | {"sharded": sharded, "checkpointing": "off"})
    towers = new_towers(SIZES["small"], 0, torch.device("cpu"), "float32")
    found: list[tuple[float, ...]] = []
    with join_group(torch.device("cpu")) as group:
        count_messages()
        each = seconds_a_byte()
        before = _resident()
        last = [time.monotonic(), time.process_time(), sent[0]]

        def on_step(*_: object) -> None:
            now = [time.monotonic(), time.process_time(), sent[0]]
            found.append(tuple(a - b for a, b in zip(now, last)))
            last[:] = now

        prepared = Prepared(examples, kept)  # type: ignore[arg-type]
        train_clip(towers, prepared, plan, hooks=ClipHooks(on_step if group.first else lambda *_: None, every=0))
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        if not group.first:
            return None
    numbers_of_one = torch.rand(8)
    weight = torch.nn.Parameter(torch.zeros(2_000_000))
    weight.grad = torch.ones(2_000_000)
    optimiser = torch.optim.AdamW([weight])
    how = Augmentation(crop=0.6)
    passed, worked, bytes_sent = (median(column) for column in zip(*found[1:]))
    return {
        "passed": passed,
        "worked": worked,
        "sent": bytes_sent,
        "held": most - before,
        "a byte": each,
        "a picture": seconds_of(lambda: augmented(kept[0], 128, "bicubic", numbers_of_one, how)),
        "a parameter": seconds_of(optimiser.step, 5) / 2_000_000,
    }


def _resident() -> int:
    """Bytes of this process in memory now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def launched(processes: int, sharded: bool) -> dict[str, float]:
    """What torchrun's processes measured."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    more = ["sharded"] if sharded else []
    done = subprocess.run(
        [*command, __file__, *more],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    return json.loads(done.stdout.splitlines()[-1])


def table() -> list[str]:
    """The lines of the page: predicted beside measured."""
    lines = ["| processes | sent in a step | processor seconds of each | held above the start |", "|---|---|---|---|"]
    products_per_s = 0.0
    for processes, sharded in RUNS:
        one, seen = training(processes, sharded), launched(processes, sharded)
        link = 1 / seen["a byte"] if processes > 1 else 1.0
        machine = Machine(products_per_s or 1.0, seen["a picture"], link, seen["a parameter"])
        if not products_per_s:
            rest = sum(seconds for name, seconds in waits(one, machine).items() if name != "products")
            products_per_s = one.products / (seen["worked"] - rest)
            machine = replace(machine, products_per_s=products_per_s)
        held = holds(one)
        if processes == 1:
            held["the sum of gradients under way (main memory)"] = 0
        predicted = sum(waits(one, machine).values()), sum(held.values()) - held["weights"]
        sending = sum(moves(one).values())
        lines.append(
            f"| {processes}{', sharded' if sharded else ''} | {in_words(sending)}, seen {in_words(seen['sent'])} | "
            f"{predicted[0]:.2f}, seen {seen['worked']:.2f} ({seen['passed']:.2f} passed) | "
            f"{in_words(predicted[1])}, seen {in_words(seen['held'])} |"
        )
        print(lines[-1], json.dumps(seen), flush=True)
    lines.append(f"\n{products_per_s / 1e9:.1f} thousand million products a second, from the first line")
    return lines


if __name__ == "__main__":
    answer = run("sharded" in sys.argv)
    if answer is not None:
        print(json.dumps(answer))
