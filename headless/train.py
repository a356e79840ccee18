"""Trains a LoRA or a VAE as a plan says: `python headless/train.py lora PLAN.toml`, `... vae PLAN.toml`
(training/command.py); the bundled weights anew: `... bundled`; draws the examples' pictures: `... pictures`.

    python headless/train.py bundled [--only clip vae lora diffusion] [--output models] [--resume]
                                     [--steps N] [--seed N] [--precision bfloat16|float32] [--threads N] [--every N]
                                     [--device auto|cpu|cuda|cuda:1|xpu|mps]

An interrupted training (Ctrl+C, a lost machine) goes on with --resume and ends in the same bits. Its state lies beside
the output, in OUTPUT/unfinished, until the file is written.
"""

import argparse
import runpy
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from tqdm import tqdm

if "clip_vae_lora" not in sys.modules:
    runpy.run_path(str(Path(__file__).with_name("checkout.py")))["bind"]()

from clip_vae_lora.files.errors import FileFormatError
from clip_vae_lora.files.images import write_png
from clip_vae_lora.training.bundled import KINDS, make, plan_of
from clip_vae_lora.training.device import NoSuchDevice, named_device
from clip_vae_lora.training.examples import STRIPED, example_pictures, striped_things
from clip_vae_lora.training.loop import Checkpoint, TrainingError
from clip_vae_lora.training.scenes.story import models_page

_ROOT = Path(__file__).resolve().parents[1]
_PRECISIONS = {"bfloat16": torch.bfloat16, "float32": torch.float32}


def main(arguments: list[str] | None = None, prog: str | None = None) -> int:
    """0 when all is written, 1 when a training could not start or go on, 130 when interrupted."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if arguments[:1] == ["clip"]:
        from clip_vae_lora.headless.training.clip_command import main as train_clip

        return train_clip(arguments[1:], prog=f"{prog or 'train.py'} clip")
    if arguments[:1] in (["lora"], ["vae"]):
        from clip_vae_lora.headless.training.command import main as train
        from clip_vae_lora.headless.training.plan import LORA, VAE

        what = arguments[0]
        return train(arguments[1:], prog=f"{prog or 'train.py'} {what}", kind=LORA if what == "lora" else VAE)
    options = _options(arguments, prog)
    torch.set_num_threads(options.threads)
    try:
        if options.what == "pictures":
            _draw_examples()
        else:
            _train_bundled(options)
    except (TrainingError, NoSuchDevice, FileFormatError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the same command with --resume goes on from here", file=sys.stderr)
        return 130
    return 0


def _options(arguments: list[str] | None, prog: str | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=prog, description="Train the bundled files from drawn pictures.")
    parser.add_argument("what", choices=["bundled", "pictures"], help="the weights, or the example workflows' pictures")
    parser.epilog = (
        "`train lora PLAN.toml` trains a LoRA, `train clip` a CLIP, `train vae` a VAE; their --help tells the rest."
    )
    parser.add_argument(
        "--only",
        nargs="+",
        choices=KINDS,
        default=list(KINDS),
        help="some of the files (LoRA: after the CLIP; diffusion: after CLIP and VAE)",
    )
    parser.add_argument("--output", type=Path, default=_ROOT / "models", help="folder")
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted training, if there is one")
    parser.add_argument("--steps", type=int, help="instead of the recipe's number")
    parser.add_argument("--seed", type=int, help="instead of the recipe's number")
    parser.add_argument(
        "--precision",
        choices=_PRECISIONS,
        default="bfloat16",
        help="of the matrix products; float32 is faster on processors without bfloat16 instructions",
    )
    parser.add_argument("--threads", type=int, default=1, help="the last bits depend on it, so one by default")
    parser.add_argument("--every", type=int, default=200, help="steps between two saved states")
    parser.add_argument("--device", default="auto", help="auto (the card, where there is one), cpu, cuda, xpu or mps")
    return parser.parse_args(arguments)


def _train_bundled(options: argparse.Namespace) -> None:
    device = named_device(options.device)
    for kind in KINDS:
        if kind in options.only:
            _train(kind, options, device)
    (options.output / "README.md").write_text(models_page(options.output), encoding="utf-8")


def _draw_examples() -> None:
    folder = _ROOT / "example_workflows" / "input"
    (folder / STRIPED).mkdir(parents=True, exist_ok=True)
    for name, image in example_pictures().items():
        write_png(folder / name, image, {})
        print(folder / name)
    for name, (image, caption) in striped_things().items():
        write_png(folder / STRIPED / f"{name}.png", image, {})
        (folder / STRIPED / f"{name}.txt").write_text(f"{caption}\n", encoding="utf-8")
        print(folder / STRIPED / f"{name}.png")


def _train(kind: str, options: argparse.Namespace, device: torch.device) -> None:
    changes = {name: value for name in ("steps", "seed") if (value := getattr(options, name)) is not None}
    plan = replace(plan_of(kind), **changes)
    state = options.output / "unfinished" / f"{kind}.safetensors"
    state.parent.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    made = make(
        kind,
        options.output,
        plan,
        _PRECISIONS[options.precision],
        device=device,
        on_step=_bar(kind),
        checkpoint=Checkpoint(state, options.every, options.resume),
    )
    for used in state.parent.glob(f"{kind}*.safetensors"):
        used.unlink()
    print(f"\n{made.path}: {made.path.stat().st_size:,} bytes, {time.monotonic() - start:.0f} s")
    for name, value in made.scores.items():
        print(f"  {name:60} {value}")


def _bar(kind: str) -> Callable[[int, int], None]:
    bar: list[tqdm] = []

    def on_step(done: int, total: int) -> None:
        if not bar:
            bar.append(tqdm(total=total, initial=done - 1, desc=kind, mininterval=2))
        bar[0].update()
        if done == total:
            bar[0].close()

    return on_step


if __name__ == "__main__":
    sys.exit(main())
