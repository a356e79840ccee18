"""Five LoRAs on a UNet's weights: time and peak memory until they are merged, beside ComfyUI, PEFT and diffusers.

    COMFYUI_PATH=/path/to/ComfyUI python benchmarks/lora.py --model sd15 sdxl --dtype float16 float32 --rounds 3

Every run is a process of its own: it builds the weights of a published UNet and five LoRAs of rank 32 in fp16, merges
once to warm up and then once on the clock; rounds alternate between the contenders. Peak is resident memory above what
the process held before, the merged weights included; PEFT and diffusers overwrite the originals, the others keep them.
`--layers linear` are the transformers' layers (what a kohya LoRA changes), `all` has the residual blocks' too (LoCon).
`--part 4` takes every fourth layer of each size. "one strength" is the time after the strength of a LoRA of one block
(of middling size) has changed, all others being as before.
"""

import argparse
import ctypes
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

_spec = importlib.util.spec_from_file_location("_cvl_checkout", Path(__file__).parents[1] / "headless" / "checkout.py")
_checkout = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_checkout)
_checkout.bind()

from clip_vae_lora.benchmarks.lora_peers import CONTENDERS, MODELS  # noqa: E402


def one(options):
    """In a process of its own: merges twice, prints the seconds of the second time and the bytes of the peak."""
    merge, release = CONTENDERS[options.one](options)
    with torch.inference_mode():
        merge()
        release()
        ctypes.CDLL(None).malloc_trim(0)
        before = status("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")
        started = time.perf_counter()
        merge()
        seconds = time.perf_counter() - started
    print(json.dumps({"seconds": seconds, "peak": status("VmHWM") - before}))


def status(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def run(name, model, dtype, options):
    done = subprocess.run(
        [
            sys.executable,
            __file__,
            "--one",
            name,
            "--model",
            model,
            "--dtype",
            dtype,
            "--layers",
            options.layers,
            "--part",
            str(options.part),
            "--threads",
            str(options.threads),
        ],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        sys.exit(f"{name}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def compare(model, dtype, options):
    names = [name for name in options.only or CONTENDERS if "ComfyUI" not in name or os.environ.get("COMFYUI_PATH")]
    found = {name: [] for name in names}
    for _ in range(options.rounds):
        for name in names:
            found[name].append(run(name, model, dtype, options))
    times = {name: statistics.median(run["seconds"] for run in runs) for name, runs in found.items()}
    print(
        f"\n{model}, {dtype}, {options.layers} layers, 1 of {options.part} of each size, {options.threads} threads, "
        f"median of {options.rounds}\n| | seconds | times ComfyUI's speed | peak MB |\n|---|---|---|---|"
    )
    for name, runs in found.items():
        peak = statistics.median(run["peak"] for run in runs)
        ratio = f"{times['ComfyUI'] / times[name]:.2f}" if "ComfyUI" in times else ""
        print(f"| {name} | {times[name]:.2f} | {ratio} | {peak / 1e6:,.0f} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", nargs="+", default=["sd15", "sdxl"], choices=MODELS)
    parser.add_argument("--dtype", nargs="+", default=["float16"], choices=["float16", "bfloat16", "float32"])
    parser.add_argument("--layers", default="all", choices=["linear", "all"])
    parser.add_argument("--part", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--only", nargs="+", choices=CONTENDERS)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.set_grad_enabled(False)
    if options.one:
        options.dtype = [getattr(torch, options.dtype[0])]
        return one(options)
    for model in options.model:
        for dtype in options.dtype:
            compare(model, dtype, options)


if __name__ == "__main__":
    main()
