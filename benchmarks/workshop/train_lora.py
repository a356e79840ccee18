"""A step of Train LoRA beside ComfyUI's TrainLoraNode, in the same ComfyUI, on the same random model and latents.

    COMFYUI_PATH=... python benchmarks/workshop/train_lora.py [--steps N] [--side CELLS] [--batch N] [--times N]

Each side runs in a process of its own, by turns; told is the best time of the processor for a step (the difference of
a long and a short training, so that beginnings do not count) and the most memory of all trainings above that of the
process with the model in it. Both train rank 8 on all linear layers in fp32, as they are set by default and with the
other choice of checkpointing. What cannot train is told with its reason. Flux has four blocks of two streams and eight
of one (published: 19 and 38): what checkpointing saves is what the blocks need that are not computed at the moment.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MODELS = ("SD 1", "Flux")
FLUX_BLOCKS = 4, 8
SIDES = ("ours", "ours, checkpointing", "stock", "stock, no checkpointing")


def _memory(name: str) -> float:
    """VmRSS or VmHWM of this process, MB."""
    (line,) = [one for one in Path("/proc/self/status").read_text().splitlines() if one.startswith(name)]
    return int(line.split()[1]) / 1024


def _hosted():
    """ComfyUI and the pack in this process."""
    sys.path.insert(0, str(ROOT / "headless"))
    import checkout

    checkout.bind()
    sys.path.pop(0)
    sys.argv = [sys.argv[0], "--cpu"]
    sys.path.insert(0, os.environ["COMFYUI_PATH"])
    import comfy.options

    comfy.options.enable_args_parsing()
    import comfy.model_management


def _model(kind: str):
    from clip_vae_lora.tests.support import models
    from clip_vae_lora.tests.support.loras.small_flux import flux

    def made(disable_dynamic: bool = False):
        return models.sd15_model(context_dim=64) if kind == "SD 1" else flux(blocks=FLUX_BLOCKS)

    patcher = made()
    patcher.cached_patcher_init = (made, ())  # ComfyUI's trainer makes the model a second time
    return patcher, *((4, 64) if kind == "SD 1" else (16, 128))


def _ours(patcher, latents, conditionings, steps: int, batch: int, checkpointing: bool) -> None:
    from clip_vae_lora.nodes.host.comfyui import diffusion
    from clip_vae_lora.training.lora.course import Picture
    from clip_vae_lora.training.lora.plan import LoRAPlan
    from clip_vae_lora.training.lora.run import Hooks, train_lora
    from clip_vae_lora.training.memory.recomputing import AUTO, ON

    pictures = [Picture(str(n), latent[None], str(n)) for n, latent in enumerate(latents)]
    plan = LoRAPlan(steps=steps, rank=8, alpha=8, batch=batch, lr=1e-4, recompute=ON if checkpointing else AUTO)
    with diffusion.trainee(patcher) as ready:
        train_lora(ready, pictures, lambda text: conditionings[int(text)], plan, hooks=Hooks(every=0))


def _stock(patcher, latents, conditionings, steps: int, batch: int, checkpointing: bool) -> None:
    import torch
    from comfy_extras import nodes_train

    node = nodes_train.TrainLoraNode
    schema = node.define_schema()
    given = {one.id: [one.default] for one in schema.inputs if getattr(one, "default", None) is not None}
    given |= {
        "model": [patcher],
        "latents": [{"samples": latent[None]} for latent in latents],
        "positive": conditionings,
        "batch_size": [batch],
        "steps": [steps],
        "rank": [8],
        "training_dtype": ["fp32"],
        "lora_dtype": ["fp32"],
        "gradient_checkpointing": [checkpointing],
        "existing_lora": ["[None]"],
    }
    with torch.inference_mode():
        node.execute(**given)


def _measure(options: argparse.Namespace) -> None:
    _hosted()
    import torch

    torch.set_num_threads(options.threads)
    patcher, channels, width = _model(options.model)
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(8, channels, options.side, options.side, generator=generator)
    told = {"pooled_output": torch.zeros(1, 64)}
    if options.model != "SD 1":
        told["guidance"] = 3.5
    conditionings = [[[torch.randn(1, 77, width, generator=generator), told]] for _ in latents]

    def run(steps: int) -> float:
        begun = time.process_time()
        if options.run.startswith("ours"):
            _ours(patcher, latents, conditionings, steps, options.batch, options.run != "ours")
        else:
            _stock(patcher, latents, conditionings, steps, options.batch, options.run == "stock")
        return time.process_time() - begun

    before = _memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    run(2)  # what is made once
    short = run(2)
    each = (run(options.steps + 2) - short) / options.steps
    print(json.dumps({"seconds": each, "mb": _memory("VmHWM") - before}))


def _apart(options: argparse.Namespace, model: str, side: str) -> dict[str, float] | str:
    """What a side needs, or the last line of what it failed with."""
    numbers = [f"--{name}={getattr(options, name)}" for name in ("steps", "side", "batch", "threads")]
    command = [sys.executable, __file__, *numbers, "--model", model, "--run", side]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        return done.stderr.strip().splitlines()[-1][:300]
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--side", type=int, default=32, help="of a latent, in cells")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--times", type=int, default=2, help="processes for each side, by turns")
    parser.add_argument("--only", choices=MODELS, nargs="+", default=list(MODELS), help="these models")
    parser.add_argument("--model", help=argparse.SUPPRESS)
    parser.add_argument("--run", choices=SIDES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        return _measure(options)
    for model in options.only:
        found: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
        for side in SIDES * options.times:
            told = _apart(options, model, side)
            if isinstance(told, dict):
                found[side].append(told)
            else:
                print(f"{model}, {side}: does not train ({told})")
        best = {side: {key: min(one[key] for one in runs) for key in runs[0]} for side, runs in found.items() if runs}
        for side, one in best.items():
            ratio = one["seconds"] / best["ours"]["seconds"]
            share = best["ours"]["mb"] / max(one["mb"], 1e-9)
            print(f"{model}, {side}: {1000 * one['seconds']:.0f} ms of the processor a step", end=" ")
            print(f"({ratio:.2f} times ours), ", end="")
            print(f"{one['mb']:.0f} MB (ours has {share:.2f} of it)")


if __name__ == "__main__":
    main()
