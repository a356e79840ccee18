"""A step of a CLIP's training beside open_clip's own, ViT-B/32 from scratch: seconds and memory; and a batch larger
than memory in parts.

    python benchmarks/learning/clip_step.py [--steps N] [--batch N] [--large N] [--threads N] [--only ours theirs parts]

Each training runs in a process of its own: open_clip (its model, loss, optimiser and tokens, as its train.py steps)
and ours with the same batch, and ours with the batch `--large` in parts of `--batch`. Pictures are noise of 224 px,
captions have some ten words. Told is, for a step, the least time that passed and that the processor worked, and the
most memory. open_clip always reads 77 tokens; ours reads as many as the longest caption of a part has.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]
WORDS = "a photo of one two three red green blue small large striped things on the left right".split()


def captions(count: int) -> list[str]:
    """Captions of ten words, all different."""
    generator = torch.Generator().manual_seed(1)
    rows = torch.randint(len(WORDS), (count, 9), generator=generator).tolist()
    return [" ".join([*(WORDS[word] for word in row), str(number)]) for number, row in enumerate(rows)]


def theirs(steps: int, batch: int, parts: int):
    """open_clip's step: forward, ClipLoss, backward, AdamW, clamp."""
    import open_clip

    torch.manual_seed(0)
    model = open_clip.create_model("ViT-B-32", pretrained=None)
    named = list(model.named_parameters())
    groups = [{"params": [one for _, one in named if one.ndim < 2], "weight_decay": 0.0}]
    groups.append({"params": [one for _, one in named if one.ndim >= 2], "weight_decay": 0.2})
    optimiser, loss_of = torch.optim.AdamW(groups, lr=5e-4, betas=(0.9, 0.98), eps=1e-6), open_clip.loss.ClipLoss()
    pictures, texts = torch.rand(batch, 3, 224, 224), open_clip.tokenize(captions(batch))
    for _ in range(steps):
        begun = time.monotonic(), time.process_time()
        optimiser.zero_grad()
        loss_of(*model(pictures, texts)).backward()
        optimiser.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, 4.605170185988092)
        yield time.monotonic() - begun[0], time.process_time() - begun[1]


def ours(steps: int, batch: int, parts: int):
    """Our step as `train_clip` makes it, pictures from memory, cut and scaled as they come."""
    sys.path.insert(0, str(ROOT / "headless"))
    import checkout

    checkout.bind()
    sys.path.pop(0)
    from clip_vae_lora.training.clip.data.examples import Example, Prepared
    from clip_vae_lora.training.clip.presets import SIZES, plan_of
    from clip_vae_lora.training.clip.run import ClipHooks, train_clip
    from clip_vae_lora.training.clip.towers import new_towers

    class Noise:
        def __getitem__(self, place: int) -> torch.Tensor:
            return kept[place]

    kept = (torch.rand(batch, 3, 224, 224) * 255).byte()
    examples = [Example(str(n), (text,), -1, n, n, n) for n, text in enumerate(captions(batch))]
    changes = {"steps": steps, "batch": batch, "at_once": parts, "held_out": 0.0, "average": 0.0}
    plan = plan_of("from-scratch-small", changes)
    towers = new_towers(SIZES["ViT-B-32"], 0, torch.device("cpu"), "float32")
    found, last = [], [time.monotonic(), time.process_time()]

    def on_step(*_: object) -> None:
        now = time.monotonic(), time.process_time()
        found.append((now[0] - last[0], now[1] - last[1]))
        last[:] = now

    train_clip(towers, Prepared(tuple(examples), Noise()), plan, hooks=ClipHooks(on_step, every=0))  # type: ignore[arg-type]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--large", type=int, default=512)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", nargs="+", choices=["theirs", "ours", "parts"], default=["theirs", "ours", "parts"])
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.one:
        batch = options.large if options.one == "parts" else options.batch
        found = list((theirs if options.one == "theirs" else ours)(options.steps, batch, options.batch))
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps([*map(min, zip(*found)), most]))
        return
    for name in options.only:
        steps = 1 if name == "parts" else options.steps
        command = [sys.executable, __file__, "--one", name, "--steps", str(steps), "--batch", str(options.batch)]
        command += ["--large", str(options.large), "--threads", str(options.threads)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        passed, worked, most = json.loads(done.stdout.splitlines()[-1])
        batch = options.large if name == "parts" else options.batch
        print(
            f"{name}, batch {batch}: {passed:.1f} s passed, processor {worked:.1f} s, at most {most:.0f} MB", flush=True
        )


if __name__ == "__main__":
    main()
