"""The decoder of the bundled VAE, taught on three photographs and judged by others that it never saw.

    python benchmarks/workshop/train_decoder.py [--pictures FOLDER] [--steps N] [--lr RATE] [--crop PX] [--batch N]
        [--part PX]

The photographs are those of scikit-learn (china, flower), the pack's own (grace_hopper) and those of FOLDER, if one is
given (the benchmark was made with four of scikit-image's: astronaut, chelsea, coffee, rocket). The first three learn,
in the order of their names, the others judge; `--part` judges by a square out of the middle of each, which is quicker.
Told are PSNR, SSIM and the finest details of each before and after, and the sums of the latents.
"""

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "headless"))
import checkout  # noqa: E402

checkout.bind()
sys.path.pop(0)

from clip_vae_lora.files.pictures import read_rgb  # noqa: E402
from clip_vae_lora.files.tensors import open_tensors  # noqa: E402
from clip_vae_lora.training.recipes.vae import CONFIG  # noqa: E402
from clip_vae_lora.training.record.digest import digest_of  # noqa: E402
from clip_vae_lora.training.vae import run  # noqa: E402
from clip_vae_lora.training.vae.losses import Weights  # noqa: E402
from clip_vae_lora.training.vae.pictures import Picture  # noqa: E402
from clip_vae_lora.training.vae.plan import VAEPlan  # noqa: E402
from clip_vae_lora.training.vae.trainee import VAETrainee  # noqa: E402
from clip_vae_lora.vae_core.networks.kl import AutoencoderKL  # noqa: E402
from clip_vae_lora.vae_core.tiling.room import Room  # noqa: E402

LEARN = 3


@dataclass(frozen=True)
class Photographs:
    """Those that learn and those that judge."""

    learn: list[Picture]
    judge: list[Picture]


def photographs(folder: Path | None, part_px: int) -> Photographs:
    """All photographs there are, in the order of their names."""
    from sklearn.datasets import load_sample_images

    files = [Path(name) for name in load_sample_images().filenames]
    files += [ROOT / "example_workflows" / "input" / "grace_hopper.jpg"]
    files += sorted(folder.glob("*.*g")) if folder else []
    files.sort(key=lambda path: path.name)
    learn = [file for file in files if file.stem in ("china", "coffee", "flower")] or files[:LEARN]
    return Photographs(
        [_picture(file, 0) for file in learn], [_picture(file, part_px) for file in files if file not in learn]
    )


def _picture(path: Path, part_px: int) -> Picture:
    pixels = read_rgb(path)
    if part_px:
        top, left = ((length - min(part_px, length)) // 2 for length in pixels.shape[:2])
        pixels = pixels[top : top + part_px, left : left + part_px].contiguous()
    return Picture(path.name, (pixels.shape[0], pixels.shape[1]), lambda: pixels, digest_of([pixels]))


def main() -> None:
    """Train, and print what whole pictures say."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--pictures", type=Path)
    for name, value in (("steps", 300), ("crop", 96), ("batch", 2), ("part", 0)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--lr", type=float, default=1.5e-4)
    given = parser.parse_args()
    torch.set_num_threads(1)
    with open_tensors(ROOT / "models" / "tiny_vae.safetensors") as file:
        state = file.read(file.shapes)
    cpu = torch.device("cpu")
    trainee = VAETrainee(lambda **more: AutoencoderKL(CONFIG, **more), state, lambda: Room(cpu, cpu, None))
    some, begun = photographs(given.pictures, given.part), time.monotonic()
    weights = Weights(absolute=0.5, squared=4.0, scales=0.25, edges=0.25)
    plan = VAEPlan(
        steps=given.steps,
        lr=given.lr,
        batch=given.batch,
        crop_px=given.crop,
        average=0.95,
        warm_up=40,
        weights=weights,
    )
    with patch.object(run, "split", lambda *_: (some.judge, some.learn)):
        made = run.train_vae(trainee, [*some.learn, *some.judge], plan, hooks=run.Hooks(every=0))
    gains = []
    for name, before in made.before.qualities.items():
        after = made.after.qualities[name]
        gains.append(after.psnr_db - before.psnr_db)
        print(
            f"{name:20} PSNR {before.psnr_db:.2f} -> {after.psnr_db:.2f} dB  SSIM {before.ssim:.3f} -> {after.ssim:.3f}"
            f"  details {before.details:.3f} -> {after.details:.3f}"
        )
    print(f"mean gain {sum(gains) / len(gains):+.2f} dB in {time.monotonic() - begun:.0f} s")
    print(f"latents {made.before.latents[:16]} -> {made.after.latents[:16]}, encoder kept: {made.stored.same_encoder}")


if __name__ == "__main__":
    main()
